"""Minibatches pinned: which rows, in which order, how many steps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_het import keys
from fedjax_het.federation import Data
from fedjax_het.local import fold, plan
from fedjax_het.permutation import permute, scramble

positions = jax.jit(
    jax.vmap(lambda plan, data, seed, step: plan.positions(data, seed, step), (None, None, None, 0))
)
SEED = jnp.array([7, 8], jnp.uint32)


def client(size, capacity=None, offset=0):
    """A client whose row r has x = [r] and y = r."""
    capacity = max(size, 1) if capacity is None else capacity
    rows = jnp.arange(100, dtype=jnp.float32)
    return Data(
        x=rows[:, None],
        y=rows,
        index=jnp.arange(100, dtype=jnp.int32),
        offset=jnp.int32(offset),
        size=jnp.int32(size),
        arguments=(),
        functions=(),
        capacity=capacity,
        scale=None,
        differentiable=False,
    )


def batches(work, data, steps, seed=SEED):
    """The positions that count, a list of arrays, one a step."""
    place, counts = positions(work, data, seed, jnp.arange(steps, dtype=jnp.int32))
    return [np.asarray(p)[np.asarray(c)] for p, c in zip(place, counts)]


@pytest.mark.parametrize("size", [1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("shuffle", [True, False])
def test_each_row_once_an_epoch_and_the_short_last_batch_is_kept(size, shuffle):
    work = plan(batch_size=4, epochs=3, shuffle=shuffle)
    data = client(size, capacity=12)
    per_epoch = -(-size // 4)
    assert int(work.steps(data)) == 3 * per_epoch
    assert int(work.batches(data)) == per_epoch
    seen = batches(work, data, 3 * per_epoch)
    for epoch in range(3):
        these = seen[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert [len(rows) for rows in these] == [4] * (per_epoch - 1) + [size - 4 * (per_epoch - 1)]
        np.testing.assert_array_equal(np.sort(np.concatenate(these)), np.arange(size))


def test_fresh_order_every_epoch_and_for_every_seed():
    work, data = plan(batch_size=20, epochs=4), client(20)
    orders = [tuple(rows) for rows in batches(work, data, 4)]
    others = [tuple(rows) for rows in batches(work, data, 4, jnp.array([7, 9], jnp.uint32))]
    assert len({*orders, *others}) == 8


def test_stored_order_without_shuffling():
    work, data = plan(batch_size=3, epochs=2, shuffle=False), client(7)
    expected = [[0, 1, 2], [3, 4, 5], [6]] * 2
    assert [rows.tolist() for rows in batches(work, data, 6)] == expected


@pytest.mark.parametrize("size", [5, 11])
def test_batches_do_not_depend_on_the_capacity_or_on_the_place_in_storage(size):
    work = plan(batch_size=4, epochs=2)
    tight = batches(work, client(size), 6)
    wide = batches(work, client(size, capacity=64, offset=9), 6)
    for a, b in zip(tight, wide):
        np.testing.assert_array_equal(a, b)


def test_more_epochs_begin_with_the_same_batches():
    data = client(11)
    few, many = (batches(plan(batch_size=4, epochs=e), data, 3 * e) for e in (2, 5))
    for a, b in zip(few, many):
        np.testing.assert_array_equal(a, b)


def test_steps_go_on_into_the_next_epoch():
    data = client(7)
    by_steps, by_epochs = plan(batch_size=3, steps=5), plan(batch_size=3, epochs=2)
    assert int(by_steps.steps(data)) == 5
    for a, b in zip(batches(by_steps, data, 5), batches(by_epochs, data, 5)):
        np.testing.assert_array_equal(a, b)


def test_full_batches_hold_every_row_once():
    work = plan(batch_size=None, epochs=3)
    data = client(7, capacity=10)
    assert int(work.steps(data)) == 3
    for rows in batches(work, data, 3):
        np.testing.assert_array_equal(np.sort(rows), np.arange(7))


def test_fillers_are_the_clients_own_rows():
    place, counts = positions(plan(batch_size=8), client(3, capacity=8), SEED, jnp.arange(1, dtype=jnp.int32))
    np.testing.assert_array_equal(counts[0], [True] * 3 + [False] * 5)
    assert np.asarray(place).min() >= 0 and np.asarray(place).max() < 3


def test_the_documented_derivation_of_the_order():
    data, key = client(7), jax.random.key(3)
    taken = []

    def step(carry, batch, key, j):
        return carry.at[j].set(jnp.where(batch.weight > 0, batch.position, -1))

    work = plan(batch_size=3, epochs=2)
    seen, steps = jax.jit(lambda key: fold(step, jnp.zeros((6, 3), jnp.int32), key, data, work))(key)
    assert int(steps) == 6
    seed = keys.seed(keys.stream(key, "order"))
    for got, expected in zip(np.asarray(seen), batches(work, data, 6, seed)):
        np.testing.assert_array_equal(got[got >= 0], expected)
        taken.append(expected)
    np.testing.assert_array_equal(np.sort(np.concatenate(taken[:3])), np.arange(7))


count = jax.jit(
    lambda work, data, share: fold(lambda c, *_: c + 1, jnp.int32(0), jax.random.key(0), data, work, work=share)
)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, 0), (0.04, 0), (0.06, 1), (0.25, 2), (0.34, 3), (0.5, 5), (0.96, 10), (1.0, 10)],
)
def test_work_is_rounded_to_the_nearest_step(share, expected):
    data = client(7, capacity=20)
    for most in (None, 10):
        work = dataclasses.replace(plan(batch_size=4, epochs=5), most=most)
        taken, steps = count(work, data, share)
        assert int(taken) == int(steps) == expected


@pytest.mark.parametrize(
    "work", [plan(batch_size=4, epochs=5), plan(batch_size=None), plan(batch_size=4, steps=6)]
)
def test_an_empty_client_takes_no_step(work):
    data = client(0, capacity=20)
    assert int(work.steps(data)) == 0
    for most in (None, 6):
        taken, steps = count(dataclasses.replace(work, most=most), data, 1.0)
        assert int(taken) == int(steps) == 0


def test_numbers_of_the_plan_compile_nothing():
    data = client(7, capacity=20)
    first = count(plan(batch_size=4, epochs=2), data, 1.0)
    before = count._cache_size()
    second = count(plan(batch_size=4, epochs=3), data, 1.0)
    assert count._cache_size() == before
    assert (int(first[0]), int(second[0])) == (4, 6)


def test_each_step_has_a_key_of_its_own_whatever_the_number_of_steps():
    def step(carry, batch, key, j):
        return carry.at[j].set(jax.random.key_data(key))

    drawn = jax.jit(
        lambda work: fold(step, jnp.zeros((8, 2), jnp.uint32), jax.random.key(0), client(7), work)[0]
    )
    few, many = np.asarray(drawn(plan(batch_size=4, epochs=2))), np.asarray(drawn(plan(batch_size=4, epochs=4)))
    np.testing.assert_array_equal(few[:4], many[:4])
    assert len(np.unique(many, axis=0)) == 8


def test_the_order_of_an_epoch_is_the_permutation_of_its_seed():
    places, _ = positions(plan(batch_size=9), client(9), SEED, jnp.arange(3, dtype=jnp.int32))
    for epoch, place in enumerate(places):
        expected = permute(jnp.arange(9, dtype=jnp.int32), jnp.int32(9), scramble(SEED + jnp.uint32(epoch)))
        np.testing.assert_array_equal(place, expected)

"""Phases: schedules, states of the same clients merged into one federation, and refusals."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from heterogeneity.temporal.timed import SPLITS, add, cut, dealt, moved, rows_of, scaled, seen
from hypothesis import given, settings
from hypothesis import strategies as st

import fedjax_het as fh
from fedjax_het.phases import Switch, over_time, phases, season, switch
from fedjax_het.transforms import transformed


def at(schedule, rounds):
    return [int(phase) for phase in jax.vmap(schedule)(jnp.arange(rounds, dtype=jnp.int32))]


@settings(max_examples=25, derandomize=True, deadline=None)
@given(rounds=st.lists(st.integers(0, 30), max_size=6))
def test_a_switch_counts_the_phases_that_have_begun(rounds):
    rounds = sorted(rounds)
    assert at(switch(rounds), 32) == [sum(begin <= r for begin in rounds) for r in range(32)]


@settings(max_examples=25, derandomize=True, deadline=None)
@given(length=st.integers(1, 7), count=st.integers(1, 5), once=st.integers(0, 4))
def test_a_season_comes_again(length, count, once):
    told = at(season(length, count, once=once), 60)
    order = [*range(once), *(once + i % count for i in range(60))]
    assert told == [order[r // length] for r in range(60)]


def test_phases_are_int32_scalars():
    for schedule in (switch([3]), switch([]), season(2, 3)):
        phase = jax.jit(schedule)(jnp.asarray(4, jnp.int32))
        assert phase.shape == () and phase.dtype == jnp.int32


def test_rows_and_sight_of_every_phase_are_those_of_its_state():
    first = cut()
    states = [moved(first), scaled(dealt(moved(first))), moved(dealt(first, 9), 2.0), first]
    held = phases(states, switch([2, 4, 6]))
    assert held.spec.phases == 4
    for t, state in enumerate(states):
        for split in SPLITS:
            for k, (mine, theirs) in enumerate(zip(rows_of(held, split, t), rows_of(state, split))):
                np.testing.assert_array_equal(mine, theirs)
                for a, b in zip(seen(held, split, t, k), seen(state, split, 0, k)):
                    np.testing.assert_array_equal(a, b)
    for r, phase in enumerate((0, 0, 1, 1, 2, 2, 3, 3)):
        assert int(held.phase(jnp.asarray(r, jnp.int32))) == phase


def test_which_gives_each_client_its_own_state():
    first = cut()
    states = [first, scaled(dealt(first)), moved(first)]
    which = np.random.default_rng(0).integers(0, 3, (5, first.num_clients))
    held = phases(states, season(1, 5), which=which)
    assert held.spec.phases == 5
    for t, row in enumerate(which):
        for split in ("train", "test"):
            for k, s in enumerate(row):
                np.testing.assert_array_equal(rows_of(held, split, t)[k], rows_of(states[s], split)[k])
                for a, b in zip(seen(held, split, t, k), seen(states[s], split, 0, k)):
                    np.testing.assert_array_equal(a, b)


def test_shared_rows_are_stored_once():
    first = cut()
    other = dealt(first)
    held = phases([first, moved(first), other, scaled(other), first], season(1, 5))
    assert held.train.index.shape[0] == 2 * first.train.index.shape[0]
    same = phases([first, moved(first)], switch([1]))
    assert all(same.rows(split) is first.rows(split) for split in SPLITS)
    assert same.x is first.x


def test_the_capacity_is_that_of_the_largest_client_in_any_phase():
    first = cut((10, 5))
    rows = first.train
    other = dataclasses.replace(
        first, train=fh.Rows(rows.index, jnp.zeros_like(rows.offset), jnp.asarray([[1, 9]], jnp.int32))
    )
    assert first.spec.capacity[0] == 6
    assert phases([first, other], switch([1])).spec.capacity == (9, *first.spec.capacity[1:])


def test_transforms_are_merged():
    first = moved(cut())
    one = phases([first, moved(cut(), 2.0)], switch([1]))
    assert [each.function for each in one.transforms] == [add]
    assert one.transforms[0].arguments.shape == (2, 5)
    kept = phases([first, scaled(first)], switch([1]))
    assert len(kept.transforms) == 2
    assert kept.transforms[0].arguments.shape == (1, 5)
    assert kept.transforms[1].arguments["inner"].shape == (1, 5)


def test_a_transform_that_is_switched_off_is_the_identity_even_where_it_is_nan():
    first = cut()
    broken = transformed(first, fh.Transform(jnp.full((1, 5), jnp.nan), add))
    held = phases([first, broken], switch([1]))
    for k in range(5):
        x, y = seen(held, "train", 0, k)
        rows = rows_of(first, "train")[k]
        np.testing.assert_array_equal(x, np.asarray(first.x)[rows])
        np.testing.assert_array_equal(y, np.asarray(first.y)[rows])
        assert np.all(np.isnan(seen(held, "train", 1, k)[0]))


def test_truth_is_told_by_state():
    first = moved(cut())
    again = moved(first, 4.0)
    copied = dataclasses.replace(again, truth={**again.truth, "marker": jnp.asarray(np.arange(5))})
    held = phases([first, first, copied, scaled(first)], season(1, 4))
    assert sorted(held.truth) == ["marker", "moved", "state 2/moved/2", "state 3/scaled"]
    np.testing.assert_array_equal(held.truth["state 2/moved/2"], 4 * np.arange(1, 6))


def test_a_plain_function_is_a_schedule_that_travels():
    held = phases([cut(), dealt(cut())], lambda round_: round_ // 3)
    told = jax.jit(lambda federation, r: federation.phase(r))(held, jnp.asarray(4, jnp.int32))
    assert int(told) == 1


def test_numbers_of_a_schedule_are_leaves():
    one, two = (jax.tree.structure(switch([n])) for n in (3, 8))
    assert one == two and jax.tree.leaves(switch([3, 8]))[0].dtype == jnp.int32
    assert len(jax.tree.leaves(season(2, 3))) == 3


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (partial(switch, [4, 2]), ValueError, r"at must list rounds in ascending order, got \[4, 2\]: sort"),
        (partial(switch, [-1]), ValueError, "at must be >= 0, got -1: rounds begin at 0"),
        (partial(switch, [2.0]), TypeError, "at must be a whole number, got 2.0: rounds begin at 0"),
        (partial(switch, 5), TypeError, "at must be a sequence of whole numbers, got 5"),
        (partial(switch, [2**31]), ValueError, "at must be <= 2147483647"),
        (partial(season, 0, 2), ValueError, "length must be >= 1, got 0: it is the rounds of a phase"),
        (partial(season, 1, 0), ValueError, "phases must be >= 1, got 0: it is how many there are"),
        (partial(season, 1, 1, once=-1), ValueError, "once must be >= 0, got -1"),
    ],
)
def test_schedules_refuse(make, error, message):
    with pytest.raises(error, match=message):
        make()


def _other_pool():
    other = cut()
    return dataclasses.replace(other, x=other.x + 1)


@pytest.mark.parametrize(
    ("states", "schedule", "options", "error", "message"),
    [
        (list, season(1, 1), {}, ValueError, "states must list at least one federation, got none"),
        (cut, season(1, 1), {}, TypeError, "states must be a list of federations, got Federation: pass one"),
        (lambda: [1], season(1, 1), {}, TypeError, r"states\[0\] must be a Federation, got int"),
        (
            lambda: [cut(), phases([cut(), cut()], switch([1]))],
            season(1, 2),
            {},
            ValueError,
            r"states\[1\] must have one phase for this, got 2: apply what changes over time last",
        ),
        (
            lambda: [cut(), cut((20, 22))],
            season(1, 2),
            {},
            ValueError,
            r"states\[1\] must have the 5 clients of states\[0\], got 2: keep them all",
        ),
        (
            lambda: [cut(), _other_pool()],
            season(1, 2),
            {},
            ValueError,
            r"states\[1\] must have the pool of states\[0\], got another one, 'blobs' of 42 rows: make both",
        ),
        (lambda: [cut()], 3, {}, TypeError, "schedule must be a function of the round, got 3: pass switch"),
        (lambda: [cut()], None, {}, TypeError, "schedule must be a function of the round, got None"),
        (lambda: [cut()], switch([1]), {}, ValueError, "schedule must be of 1 phases, got one of 2"),
        (lambda: [cut()] * 3, season(1, 2, once=2), {}, ValueError, "of 3 phases, got one of 4: make it"),
        (
            lambda: [cut()] * 2,
            lambda r: jnp.stack([r, r]),
            {},
            ValueError,
            r"one whole number, got shapes \[\(2",
        ),
        (lambda: [cut()], season(1, 1), {"which": [0.5]}, TypeError, r"which must hold whole numbers, got \["),
        (
            lambda: [cut()],
            season(1, 1),
            {"which": [[0]]},
            ValueError,
            r"which must have shape \[T, 5\], got \(1",
        ),
        (
            lambda: [cut()],
            season(1, 1),
            {"which": [[0, 1, 0, 0, 0]]},
            ValueError,
            r"which must hold states 0..0, got 0..1: number them from 0",
        ),
    ],
)
def test_phases_refuse(states, schedule, options, error, message):
    with pytest.raises(error, match=message):
        phases(states(), schedule, **options)


def test_over_time_keeps_what_it_is_not_given():
    first = moved(cut())
    rows = fh.Rows(first.train.index, jnp.zeros((2, 5), jnp.int32), jnp.ones((2, 5), jnp.int32))
    held = over_time(first, Switch(jnp.asarray([4], jnp.int32)), 2, rows={"train": rows}, truth={})
    assert held.transforms is first.transforms and held.test is first.test and held.truth == {}
    assert held.spec.phases == 2 and held.spec.capacity == (1, *first.spec.capacity[1:])

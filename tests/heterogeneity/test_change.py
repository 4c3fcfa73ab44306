"""Changes from phase to phase: by hand, against chance, and against NumPy."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from counting import compile_count
from hypothesis import given, settings
from hypothesis import strategies as st

import fedjax_het as fh
from fedjax_het.heterogeneity.change import change, divided
from fedjax_het.heterogeneity.counts import held_rows
from fedjax_het.phases import phases, switch


def over_time(source, *lists, test=0.0):
    """A federation whose clients hold lists[t] in phase t."""
    states = [fh.from_index_lists(source, None, parts, test=test) for parts in lists]
    return phases(states, switch(range(1, len(lists))))


def drawn(rows=400, classes=4, features=3, seed=0, task="classification"):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)) * [1, 5, 0.2][:features] + 3
    y = rng.integers(0, classes, rows) if task == "classification" else rng.normal(size=rows)
    return fh.pool(x, y, task=task, **({"num_classes": classes} if task == "classification" else {}))


def moved(x, y, shift, row):
    """Features moved by `shift`."""
    return x + shift[None], y


def test_by_hand():
    source = fh.pool(np.array([[0.0], [2.0], [0.0], [2.0], [4.0]]), [0, 0, 1, 1, 1])
    found = change(over_time(source, [[0, 1], [2]], [[1, 3, 4], []]), later=1)
    assert (found.earlier, found.later) == (0, 1)
    assert found.new_rows == pytest.approx(2 / 3) and found.size_ratio == 1
    assert found.labels == pytest.approx(2 / 3), "of client 0 alone: the other has no rows later"
    deviation = np.std([0, 2, 0, 2, 2, 4])
    assert found.features == pytest.approx((8 / 3 - 1) / deviation, rel=1e-5)


def test_nothing_changes():
    source = drawn()
    lists = [list(range(100)), list(range(100, 400))]
    found = change(over_time(source, lists, lists), later=1)
    assert found.new_rows == 0 and found.size_ratio == 1 and found.labels == 0
    assert (found.features, found.features_chance) == (pytest.approx(0, abs=1e-6), 0)
    assert found.labels_chance.high == 0, "rows of both phases are not shuffled"


@pytest.mark.parametrize("shared", [0, 60])
def test_a_random_change_lies_in_its_band(shared):
    """The level was fixed before the first run: 99.9 %, for four federations."""
    source = drawn(2000)
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(2000).reshape(10, 200)
        first, second = order[:, :100], order[:, 100 - shared : 160 - shared // 2]
        found = change(over_time(source, list(first), list(second)), later=1, draws=1999, level=0.999)
        assert found.labels_chance.holds(found.labels)
        assert found.labels_chance.coverage == pytest.approx(0.999)
        assert found.features == pytest.approx(found.features_chance, rel=0.5)


def test_shared_rows_narrow_the_band():
    source = drawn(400)
    first = [np.arange(200)]
    apart, close = (change(over_time(source, first, [np.arange(b, 200 + b)]), later=1) for b in (200, 20))
    assert close.new_rows == pytest.approx(0.1) and apart.new_rows == 1
    assert close.labels_chance.mean < 0.5 * apart.labels_chance.mean
    assert close.features_chance < 0.5 * apart.features_chance


def test_a_change_of_labels_is_seen():
    source = fh.pool(np.ones((80, 1)), np.repeat([0, 1], 40))
    found = change(over_time(source, [np.arange(40)], [np.arange(20, 60)]), later=1)
    assert found.labels == pytest.approx(0.5) and found.labels > found.labels_chance.high
    assert (found.features, found.features_chance) == (0, 0), "a constant feature is left out"


def test_transforms_are_seen():
    federation = fh.from_index_lists(drawn(), None, [np.arange(200), np.arange(200, 400)], test=0.0)
    shift = jnp.asarray([[[0.0] * 3, [0.0] * 3], [[0.0] * 3, [2.0] * 3]])
    federation = dataclasses.replace(
        federation,
        transforms=(fh.Transform(shift, moved),),
        spec=dataclasses.replace(federation.spec, phases=2),
    )
    found = change(federation, later=1)
    x = np.asarray(federation.x, float)
    both = np.concatenate([x, x[:200], x[200:] + 2])
    expected = np.sqrt(np.mean((2 / both.std(0)) ** 2) / 2)
    assert found.features == pytest.approx(expected, rel=1e-4)
    assert found.new_rows == 0 and found.labels == 0 and found.features_chance == 0


def test_features_against_numpy_and_a_shuffle():
    """The exact expectation under the shuffle against the mean of 4,000 shuffles."""
    source = drawn(120, features=2)
    first = [np.arange(20), np.arange(40, 70), np.array([], int)]
    second = [np.arange(12, 34), np.arange(70, 75), np.arange(100, 120)]
    federation = over_time(source, first, second)
    found = change(federation, later=1)
    x = np.asarray(source.x, float)
    both = np.concatenate([x[held_rows(federation, phase=phase)[1]] for phase in (0, 1)])
    z = (x - both.mean(0)) / both.std(0)
    weight = np.array([42, 35, 0]) / 77

    def square(earlier, later):
        return sum(
            weight[k] * np.mean((z[a].mean(0) - z[b].mean(0)) ** 2)
            for k, (a, b) in enumerate(zip(earlier, later))
            if weight[k]
        )

    assert found.features == pytest.approx(np.sqrt(square(first, second)), rel=1e-4)
    rng, values = np.random.default_rng(0), []
    for _ in range(4000):
        earlier, later = [], []
        for a, b in zip(first, second):
            common = np.intersect1d(a, b)
            mixed = rng.permutation(np.setxor1d(a, b))
            many = len(a) - len(common)
            earlier.append(np.concatenate([mixed[:many], common]))
            later.append(np.concatenate([mixed[many:], common]))
        values.append(square(earlier, later))
    error = np.std(values) / np.sqrt(len(values))
    assert abs(found.features_chance**2 - np.mean(values)) < 4 * error


@settings(max_examples=25, derandomize=True, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=1, max_size=4), st.integers(0, 99)
)
def test_a_division_takes_what_there_is(table, seed):
    counts, rng = np.array(table), np.random.default_rng(seed)
    take = rng.integers(0, counts.sum(1) + 1)
    found = divided(rng, counts, take)
    assert found.min() >= 0 and np.all(found <= counts)
    np.testing.assert_array_equal(found.sum(1), take)


def test_all_pairs_of_phases_are_one_program():
    source = drawn(100, task="regression")
    lists = [[np.arange(t, 20 + 3 * t), np.arange(50, 60 + t)] for t in range(4)]
    federation = over_time(source, *lists)
    change(federation, later=1)
    with compile_count() as count:
        found = [change(federation, later=later) for later in (2, 3)]
    assert count.value == 0
    assert all(entry.labels is None and entry.features > 0 for entry in found)


def test_tokens_and_empty_phases():
    tokens = fh.pool(np.zeros((6, 4), int), np.ones((6, 4), int), task="tokens", num_classes=3)
    found = change(over_time(tokens, [[0, 1], [2]], [[1, 3], [4, 5]]), later=1)
    assert (found.labels, found.features, found.features_chance) == (None, None, None)
    assert found.new_rows == 0.75 and found.size_ratio == pytest.approx(4 / 3)
    source = drawn(20)
    found = change(over_time(source, [[0, 1], []], [[], [2, 3]]), later=1)
    assert found.new_rows == 1 and np.isnan(found.labels) and np.isnan(found.features)
    assert found.labels_chance is None
    none = change(over_time(source, [[0, 1]], [[2, 3]]), later=1, split="test")
    assert np.isnan(none.new_rows) and np.isnan(none.size_ratio) and np.isnan(none.labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"later": 0}, "later must be >= 1, got 0: phase 0 has none before it"),
        ({"later": 2}, "phase must be < 2, got 2"),
        ({"later": 1, "split": "all"}, "split must be one of"),
        ({"later": 1, "draws": 0}, "draws must be >= 1"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        change(over_time(drawn(8), [[0, 1]], [[2]]), **arguments)

"""Rotating classes: each phase holds the rows of its window of classes, and every row has its turn."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest
from heterogeneity.temporal.timed import SPLITS, cut, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

import fedjax_het as fh
from fedjax_het.heterogeneity import temporal


def labelled(classes, rows=60, clients=4, seed=0):
    rng = np.random.default_rng(seed)
    pool = fh.pool(rng.normal(size=(rows, 2)), rng.integers(0, classes, rows), num_classes=classes)
    parts = np.split(rng.permutation(rows), np.sort(rng.integers(0, rows, clients - 1)))
    return fh.from_index_lists(pool, None, parts, test=0.2, valid=0.1, seed=seed)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(data=st.data())
def test_windows(data):
    classes = data.draw(st.integers(1, 8), "classes")
    window, step = data.draw(st.integers(1, classes), "window"), data.draw(st.integers(1, 10), "step")
    offset, seed = data.draw(st.sampled_from(["same", "random"])), data.draw(st.integers(0, 99), "seed")
    length = data.draw(st.integers(1, 3), "length")
    before = labelled(classes, seed=seed)
    held = temporal.rotating_classes(before, window=window, length=length, step=step, offset=offset, seed=seed)
    count = classes // math.gcd(classes, step)
    begins = np.asarray(held.truth["begins"])
    assert held.spec.phases == count
    assert (begins.min() >= 0 and begins.max() < classes) if offset == "random" else not begins.any()
    labels = np.asarray(before.y)
    for split in SPLITS:
        own, met = rows_of(before, split), [set() for _ in begins]
        for t in range(count):
            for k, rows in enumerate(rows_of(held, split, t)):
                inside = [(begins[k] + t * step + j) % classes for j in range(window)]
                assert sorted(rows) == sorted(own[k][np.isin(labels[own[k]], inside)])
                met[k] |= set(rows.tolist())
        if math.gcd(classes, step) <= window:
            assert all(met[k] == set(rows.tolist()) for k, rows in enumerate(own))
    for r in range(3 * count * length):
        assert int(held.phase(jnp.asarray(r, jnp.int32))) == r // length % count


def test_storage_is_the_rows_and_those_of_the_first_classes_again():
    before = labelled(5)
    rows = np.concatenate(rows_of(before, "train"))
    for window in (1, 2, 5):
        held = temporal.rotating_classes(before, window=window, length=1)
        again = (np.asarray(before.y)[rows] < window - 1).sum()
        assert held.train.index.shape[0] == len(rows) + again
        assert held.train.offset.shape == (5, 4)


def test_a_window_of_all_classes_changes_nothing_but_the_order():
    before = cut()
    held = temporal.rotating_classes(before, window=3, length=1, offset="random", seed=2)
    for split in SPLITS:
        for t in range(3):
            for a, b in zip(rows_of(held, split, t), rows_of(before, split)):
                assert sorted(a) == sorted(b)


def test_renaming_the_classes_in_a_circle_only_shifts_the_phases():
    one = labelled(5)
    turned = dataclasses.replace(one, y=(one.y + 2) % 5)
    a, b = (temporal.rotating_classes(each, window=2, length=1) for each in (one, turned))
    for t in range(5):
        for mine, theirs in zip(rows_of(a, "train", t), rows_of(b, "train", (t + 2) % 5)):
            assert sorted(mine) == sorted(theirs)


def test_seeds():
    before = cut((4,) * 60)
    one, two, other = (
        np.asarray(
            temporal.rotating_classes(before, window=1, length=1, offset="random", seed=s).truth["begins"]
        )
        for s in (0, 0, 1)
    )
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert set(one.tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window": 4}, ValueError, "window must be <= 3, got 4: the pool has no more classes"),
        ({"window": 0}, ValueError, "window must be >= 1, got 0: it is how many classes a client holds"),
        ({"step": 0}, ValueError, "step must be >= 1, got 0: it is by how many classes the window moves"),
        ({"length": 1.0}, TypeError, "length must be a whole number, got 1.0"),
        ({"offset": "own"}, ValueError, "offset must be one of the names below, got 'own': same, random"),
    ],
)
def test_refusals(options, error, message):
    with pytest.raises(error, match=message):
        temporal.rotating_classes(cut(), **{"window": 2, "length": 1, **options})


def test_refuses_rows_without_labels():
    pool = fh.pool(np.zeros((6, 1)), np.arange(6.0), task="regression")
    with pytest.raises(ValueError, match="pool must hold one label a row for this, got task 'regression'"):
        temporal.rotating_classes(fh.from_index_lists(pool, None, [[0, 1, 2], [3, 4, 5]]), window=1, length=1)

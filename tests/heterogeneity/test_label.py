"""Dirichlet label skew: ends for any parameters, keeps its promises, and skews as alpha says."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_het.heterogeneity import label
from fedjax_het.pool import pool

SPLITS = ("train", "valid", "test")


def labelled(labels, classes=None):
    labels = np.asarray(labels)
    return pool(np.arange(len(labels), dtype=float)[:, None], labels, num_classes=classes)


def held(federation):
    """The rows of each client, over all splits."""
    rows = [[] for _ in range(federation.num_clients)]
    for split in SPLITS:
        index, offset, size = (np.asarray(leaf) for leaf in jax.tree.leaves(federation.rows(split)))
        for k, (start, count) in enumerate(zip(offset[0], size[0])):
            rows[k].extend(index[start : start + count].tolist())
    return rows


@settings(max_examples=60, derandomize=True, deadline=None)
@given(data=st.data())
def test_ends_and_keeps_its_promises(data):
    rows = data.draw(st.integers(1, 120), "rows")
    classes = data.draw(st.integers(1, 7), "classes")
    clients = data.draw(st.integers(1, 40), "clients")
    least = data.draw(st.integers(0, rows // clients), "least")
    alpha = 10.0 ** data.draw(st.integers(-3, 6), "exponent")
    balanced = data.draw(st.booleans(), "balanced")
    seed = data.draw(st.integers(0, 99), "seed")
    labels = np.random.default_rng(seed).integers(0, classes, rows)
    federation = label.dirichlet(
        labelled(labels, classes), clients=clients, alpha=alpha, seed=seed, min_size=least, balanced=balanced
    )
    mine = held(federation)
    assert sorted(row for part in mine for row in part) == list(range(rows))
    sizes = np.array([len(part) for part in mine])
    assert sizes.min() >= least and (np.ptp(sizes) <= 1 or not balanced)
    count = np.stack(
        [np.bincount(labels[part], minlength=classes) for part in (np.array(p, int) for p in mine)]
    )
    np.testing.assert_allclose(federation.truth["held"], count / np.maximum(sizes, 1)[:, None], rtol=1e-6)
    drawn = np.asarray(federation.truth["drawn"])
    assert np.all(drawn >= 0)
    present = np.bincount(labels, minlength=classes) > 0
    np.testing.assert_allclose(drawn.sum(0), present, rtol=1e-4)


def test_counts_are_the_draw_rounded():
    federation = label.dirichlet(labelled(np.arange(5000) % 5), clients=8, alpha=0.5, min_size=0, seed=3)
    count = np.stack([np.bincount(np.array(part, int) % 5, minlength=5) for part in held(federation)])
    assert np.abs(count - np.asarray(federation.truth["drawn"]) * 1000).max() < 1


def test_alpha_says_how_much_skew():
    source = labelled(np.arange(4000) % 10)
    largest = [
        np.asarray(label.dirichlet(source, clients=20, alpha=alpha, seed=0, min_size=5).truth["held"]).max(1)
        for alpha in (1e-3, 0.1, 1.0, 100.0, 1e6)
    ]
    means = [values.mean() for values in largest]
    assert means == sorted(means, reverse=True)
    assert means[0] > 0.95 and 0.3 < means[1] < 0.8 and means[-1] < 0.11


def test_shares_have_the_moments_of_a_dirichlet():
    drawn = np.asarray(
        label.dirichlet(labelled(np.arange(400)), clients=4, alpha=0.5, min_size=0, seed=1).truth["drawn"]
    )
    np.testing.assert_allclose(drawn.mean(1), 0.25, atol=0.05)
    np.testing.assert_allclose(drawn.var(1), 0.25 * 0.75 / (4 * 0.5 + 1), atol=0.015)


def test_seeds():
    source = labelled(np.arange(300) % 4)
    one, two, other = (label.dirichlet(source, clients=9, alpha=0.3, seed=seed) for seed in (1, 1, 2))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two)):
        np.testing.assert_array_equal(a, b)
    assert held(one) != held(other)


@pytest.mark.parametrize("least", [0, 8])
def test_renaming_the_classes_renames_the_result(least):
    labels = np.random.default_rng(0).integers(0, 5, 200)
    names = np.array([3, 0, 4, 1, 2])
    one, two = (
        label.dirichlet(labelled(y, 6), clients=20, alpha=0.2, seed=4, min_size=least)
        for y in (labels, names[labels])
    )
    for split in SPLITS:
        for a, b in zip(jax.tree.leaves(one.rows(split)), jax.tree.leaves(two.rows(split))):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.asarray(one.truth["held"])[:, :5], np.asarray(two.truth["held"])[:, names])


def test_a_minimum_takes_from_the_largest_only():
    source = labelled(np.arange(3000) % 10)
    free, least = (label.dirichlet(source, clients=30, alpha=0.05, seed=0, min_size=n) for n in (0, 20))
    before, after = (np.array([len(part) for part in held(f)]) for f in (free, least))
    assert before.min() < 20
    np.testing.assert_array_equal(after[before < 20], 20)
    level = after[after < before].min()
    assert np.all(before[after < before] > level) and np.all(after <= max(level + 1, 20))
    between = (before >= 20) & (before <= level)
    mix = [np.asarray(f.truth["held"]) for f in (free, least)]
    np.testing.assert_array_equal(mix[0][between], mix[1][between])
    givers = after < before
    assert np.abs(mix[0] - mix[1])[givers].max() < 1 / level
    assert mix[1][before < 20].max(1).mean() > 0.5


def test_test_rows_are_stratified():
    federation = label.dirichlet(labelled(np.arange(2000) % 4), clients=5, alpha=0.5, seed=0, min_size=20)
    index, offset, size = (np.asarray(leaf) for leaf in jax.tree.leaves(federation.test))
    for k, part in enumerate(held(federation)):
        assert abs(size[0, k] - 0.2 * len(part)) <= 0.5
        own = np.bincount(index[offset[0, k] : offset[0, k] + size[0, k]] % 4, minlength=4)
        exact = np.bincount(np.array(part) % 4, minlength=4) * size[0, k] / len(part)
        assert np.abs(own - exact).max() < 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"alpha": 0}, ValueError, "alpha must be > 0, got 0"),
        ({"alpha": -1.0}, ValueError, "alpha must be > 0, got -1.0"),
        ({"alpha": float("nan")}, ValueError, "alpha must be finite, got nan"),
        ({"alpha": "1"}, TypeError, "alpha must be a number, got '1': small values"),
        ({"alpha": [1.0, 2.0]}, TypeError, "alpha must be one number, got \\[1.0, 2.0\\]: small values"),
        ({"clients": 0}, ValueError, "clients must be >= 1, got 0: say how many"),
        ({"clients": 21}, ValueError, "clients must be <= 20, got 21: .* min_size=0"),
        ({"min_size": 5}, ValueError, "min_size must be <= 4, got 5: 5 clients share 20 rows"),
        ({"min_size": -1}, ValueError, "min_size must be >= 0, got -1: 0 allows empty"),
        ({"test": 0.8, "valid": 0.3}, ValueError, "valid \\+ test must be < 1"),
        ({"seed": -3}, ValueError, "seed must be >= 0, got -3"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        label.dirichlet(labelled(np.arange(20) % 2), **{"clients": 5, "alpha": 1.0, **arguments})


def test_a_pool_without_labels_is_refused():
    targets = pool(np.zeros((5, 1)), np.zeros(5), task="regression")
    with pytest.raises(ValueError, match="pool must hold one label a row"):
        label.dirichlet(targets, clients=2, alpha=1.0)


def test_more_clients_than_rows_with_empty_ones():
    federation = label.dirichlet(labelled(np.arange(10) % 2), clients=50, alpha=1.0, min_size=0)
    assert sum(map(len, held(federation))) == 10 and federation.num_clients == 50

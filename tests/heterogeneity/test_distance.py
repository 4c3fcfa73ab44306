"""Distances of label distributions: by hand, their inequalities, names of classes, and real federations."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedjax_het as fh
from fedjax_het.heterogeneity.counts import label_counts
from fedjax_het.heterogeneity.distance import (
    effective_classes,
    hellinger,
    jensen_shannon,
    total_variation,
    wasserstein,
    zhao_emd,
)
from fedjax_het.heterogeneity.measures import by_client

DISTANCES = (total_variation, zhao_emd, hellinger, jensen_shannon, wasserstein)
NOMINAL = DISTANCES[:4]


@st.composite
def pairs(draw):
    """P [N, K] and q [K], many of whose shares are 0."""
    classes = draw(st.integers(1, 6))
    rows = st.lists(st.integers(0, 9), min_size=classes, max_size=classes).filter(any)
    counts = np.array(draw(st.lists(rows, min_size=2, max_size=5)), float)
    shares = counts / counts.sum(1, keepdims=True)
    return shares[1:], shares[0]


def test_by_hand():
    P, q = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]), np.array([0.5, 0.25, 0.25])
    np.testing.assert_allclose(total_variation(P, q), [0.25, 0.75])
    np.testing.assert_allclose(zhao_emd(P, q), [0.5, 1.5])
    np.testing.assert_allclose(wasserstein(P, q), [0.25, 1.25])
    square = [((0.5**0.5 - 0.5) ** 2 + 0.25) / 2, (0.5 + 0.25 + 0.25) / 2]
    np.testing.assert_allclose(hellinger(P, q), np.sqrt(square))
    first = (0.5 * np.log2(0.5 / 0.375) + 0.25 * np.log2(0.25 / 0.375) + 0.25) / 2
    second = (np.log2(1 / 0.625) + 0.75 + 0.25 * np.log2(0.25 / 0.625)) / 2
    np.testing.assert_allclose(jensen_shannon(P, q), [first, second])
    np.testing.assert_allclose(effective_classes([[0.25] * 4, [1, 0, 0, 0], [0.5, 0.5, 0, 0]]), [4, 1, 2])


def test_the_farthest_apart():
    P, q = [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]
    assert [float(distance(P, q)) for distance in DISTANCES] == [1, 2, 1, 1, 2]


@settings(max_examples=25, derandomize=True, deadline=None)
@given(pairs())
def test_ranges_symmetry_and_inequalities(pair):
    P, q = pair
    classes = len(q)
    tv, emd, h, js, w = (distance(P, q) for distance in DISTANCES)
    for distance, most in zip(DISTANCES, (1, 2, 1, 1, classes - 1)):
        found = distance(P, q)
        assert found.shape == (len(P),) and np.all((found >= 0) & (found <= most + 1e-12))
        np.testing.assert_allclose(found, distance(q, P), atol=1e-12)
        np.testing.assert_allclose(distance(q, q), 0, atol=1e-12)
    slack = 1e-12
    assert np.all(h**2 <= tv + slack) and np.all(tv <= h * np.sqrt(2 - h**2) + slack)
    assert np.all(tv**2 / (2 * np.log(2)) <= js + slack) and np.all(js <= tv + slack)
    assert np.all(tv <= w + slack) and np.array_equal(emd, 2 * tv)
    diverse = effective_classes(P)
    assert np.all((diverse >= 1 - slack) & (diverse <= (P > 0).sum(1) + 1e-9))


@settings(max_examples=25, derandomize=True, deadline=None)
@given(pairs(), st.integers(0, 99))
def test_renaming_classes_changes_nothing(pair, seed):
    P, q = pair
    order = np.random.default_rng(seed).permutation(len(q))
    for distance in NOMINAL:
        np.testing.assert_allclose(distance(P[:, order], q[order]), distance(P, q), atol=1e-12)
    np.testing.assert_allclose(effective_classes(P[:, order]), effective_classes(P))


def test_only_wasserstein_knows_an_order():
    near, far, q = [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]
    assert wasserstein(near, q) == 1 and wasserstein(far, q) == 2
    assert all(distance(near, q) == distance(far, q) for distance in NOMINAL)


def test_a_client_without_rows_is_no_number():
    P = np.array([[np.nan, np.nan], [1.0, 0.0]])
    for distance in DISTANCES:
        assert np.isnan(distance(P, [0.5, 0.5])).tolist() == [True, False]


@functools.cache
def clothes():
    return fh.datasets.fashion_mnist()


def of_classes(held):
    """Ten clients of Fashion-MNIST; client k holds an equal part of each of the classes held[k]."""
    labels = clothes().labels
    rows = [np.flatnonzero(labels == label) for label in range(10)]
    owners = [[k for k, classes in enumerate(held) if label in classes] for label in range(10)]
    parts = [
        np.concatenate(
            [np.array_split(rows[c], len(owners[c]))[owners[c].index(k)] for c in classes],
        )
        for k, classes in enumerate(held)
    ]
    return fh.from_index_lists(clothes(), None, parts, test=0.2)


@pytest.mark.parametrize(
    ("held", "emd"),
    [
        ([[k] for k in range(10)], 1.8),
        ([[k, (k + 1) % 10] for k in range(10)], 1.6),
        ([list(range(10))] * 10, 0.0),
    ],
    ids=["one class", "two classes", "all"],
)
def test_fashion_mnist_has_the_published_distances(held, emd):
    federation = of_classes(held)
    np.testing.assert_allclose(by_client(label_counts(federation), zhao_emd), emd, atol=1e-9)
    assert fh.heterogeneity.MEASURES["emd"](federation) == pytest.approx(emd)
    assert fh.heterogeneity.MEASURES["effective_classes"](federation) == pytest.approx(len(held[0]))


@pytest.mark.parametrize(("per_client", "emd"), [(1, 1.8), (2, 1.6), (10, 0.0)])
def test_the_pathological_split_has_them_too(per_client, emd):
    federation = fh.heterogeneity.label.classes(clothes(), clients=10, per_client=per_client)
    np.testing.assert_allclose(by_client(label_counts(federation), zhao_emd), emd, atol=1e-9)


@pytest.mark.parametrize(
    ("P", "q", "error", "message"),
    [
        ([3, 1], [0.5, 0.5], ValueError, r"P must hold shares >= 0 that add up to 1 .*: divide counts"),
        ([0.5, 0.5], [-0.5, 1.5], ValueError, "q must hold shares >= 0"),
        ([0.5, 0.5], [0.2, 0.3, 0.5], ValueError, "q must have as many classes as P"),
        (1.0, [1.0], ValueError, "P must have one share a class"),
        (["a"], [1.0], TypeError, "P must hold numbers"),
    ],
)
def test_refusals(P, q, error, message):
    for distance in DISTANCES:
        with pytest.raises(error, match=message):
            distance(P, q)

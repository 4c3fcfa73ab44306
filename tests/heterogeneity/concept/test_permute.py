"""Permuted labels by cluster."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taking import taken

import fedjax_het as fh
from fedjax_het.heterogeneity.concept import permute


def federation_of(classes, clients=6, names=None):
    rng = np.random.default_rng(0)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, 4 * clients)])
    y = y if names is None else np.asarray(names)[y]
    parts = np.array_split(np.arange(len(y)), clients)
    return fh.from_index_lists(np.zeros((len(y), 1)), y, parts, num_classes=classes, test=0.0)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(classes=st.sampled_from([3, 5, 8]), clusters=st.integers(1, 6), seed=st.integers(0, 9), data=st.data())
def test_each_cluster_has_a_permutation_of_its_own(classes, clusters, seed, data):
    moved = data.draw(st.sampled_from([None, *range(3, classes + 1)]))
    clusters = min(clusters, 3 if moved == 3 == classes else 6)
    federation = federation_of(classes)
    changed = permute(federation, clusters=clusters, moved=moved, seed=seed)
    table, cluster = np.asarray(changed.truth["permutation"]), np.asarray(changed.truth["cluster"])
    assert table.shape == (clusters, classes) and table.dtype == np.int32
    assert table[0].tolist() == list(range(classes))
    assert np.all(np.sort(table, axis=1) == np.arange(classes))
    assert len(np.unique(table, axis=0)) == clusters
    if moved is not None:
        assert np.all((table[1:] != np.arange(classes)).sum(1) == moved)
    for client in range(6):
        before, after = taken(federation, client)[1], taken(changed, client)[1]
        assert after.dtype == np.int32
        np.testing.assert_array_equal(after, table[cluster[client]][before])


def test_all_permutations_there_are():
    table = np.asarray(permute(federation_of(3), clusters=6).truth["permutation"])
    assert len(np.unique(table, axis=0)) == math.factorial(3)
    # of four classes, those that move exactly two are the 6 transpositions
    table = np.asarray(permute(federation_of(4, clients=7), clusters=7, moved=2).truth["permutation"])
    assert len(np.unique(table, axis=0)) == 7
    # and those that move all four are 9
    table = np.asarray(permute(federation_of(4, clients=10), clusters=10, moved=4).truth["permutation"])
    assert len(np.unique(table, axis=0)) == 10


def test_permutations_are_equally_likely():
    federation, counts = federation_of(3, clients=2), {}
    for seed in range(500):
        table = tuple(np.asarray(permute(federation, clusters=2, seed=seed).truth["permutation"])[1].tolist())
        counts[table] = counts.get(table, 0) + 1
    assert len(counts) == 5
    assert all(abs(count - 100) < 4 * np.sqrt(500 * 0.2 * 0.8) for count in counts.values())


def test_nothing_moves_with_one_cluster_or_none_moved():
    federation = federation_of(5)
    for changed in (permute(federation, clusters=1), permute(federation, clusters=4, moved=0)):
        for client in range(6):
            np.testing.assert_array_equal(taken(changed, client)[1], taken(federation, client)[1])


def test_renaming_the_labels_renames_the_result():
    names = np.array([3, 0, 4, 1, 2])
    plain, renamed = (permute(federation_of(5, names=n), clusters=4, seed=2) for n in (None, names))
    for client in range(6):
        np.testing.assert_array_equal(names[taken(plain, client)[1]], taken(renamed, client)[1])


@pytest.mark.parametrize(
    ("classes", "arguments", "error", "message"),
    [
        (3, {"clusters": 7}, ValueError, "clusters must be <= 6, got 7: a cluster has one client"),
        (2, {"clusters": 3}, ValueError, "clusters must be <= 2, got 3: 2 classes have no more permutations"),
        (3, {"clusters": 4, "moved": 3}, ValueError, "clusters must be <= 3, got 4: .* that move 3 of them"),
        (
            3,
            {"clusters": 2, "moved": 1},
            ValueError,
            r"moved must be 0 or 2..3, got 1: .* no permutation moves just",
        ),
        (3, {"clusters": 2, "moved": 4}, ValueError, r"moved must be 0 or 2..3, got 4"),
        (3, {"clusters": 2, "moved": 2.0}, TypeError, "moved must be a whole number, got 2.0"),
        (3, {"clusters": None}, TypeError, "clusters must be a whole number, got None: say how many share"),
    ],
)
def test_refusals(classes, arguments, error, message):
    with pytest.raises(error, match=message):
        permute(federation_of(classes), **arguments)


def test_refuses_what_has_no_labels():
    federation = fh.from_index_lists(np.zeros((4, 1)), np.zeros(4), [[0, 1], [2, 3]], task="regression")
    with pytest.raises(ValueError, match="pool must hold one label a row for this, got task 'regression'"):
        permute(federation, clusters=2)

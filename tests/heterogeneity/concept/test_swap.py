"""Labels swapped in pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taking import taken

import fedjax_het as fh
from fedjax_het.heterogeneity.concept import swap


def federation_of(classes, clients=6, names=None):
    rng = np.random.default_rng(0)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, 4 * clients)])
    y = y if names is None else np.asarray(names)[y]
    parts = np.array_split(np.arange(len(y)), clients)
    return fh.from_index_lists(np.zeros((len(y), 1)), y, parts, num_classes=classes, test=0.0)


def swapped(table):
    """How many classes of each row change."""
    return (table != np.arange(table.shape[1])).sum(1)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(classes=st.sampled_from([2, 5, 8]), rate=st.floats(0, 1), more=st.floats(0, 1), seed=st.integers(0, 9))
def test_swaps_disjoint_pairs_and_more_at_a_higher_rate(classes, rate, more, seed):
    federation = federation_of(classes)
    changed = swap(federation, rate=rate, seed=seed)
    table = np.asarray(changed.truth["permutation"])
    assert table.shape == (6, classes) and table.dtype == np.int32
    np.testing.assert_array_equal(np.take_along_axis(table, table, axis=1), np.tile(np.arange(classes), (6, 1)))
    for client in range(6):
        before, after = taken(federation, client)[1], taken(changed, client)[1]
        np.testing.assert_array_equal(after, table[client][before])
    higher = np.asarray(swap(federation, rate=rate + more * (1 - rate), seed=seed).truth["permutation"])
    kept = table != np.arange(classes)
    np.testing.assert_array_equal(higher[kept], table[kept])


def test_rates():
    federation = federation_of(10, clients=200)
    some = np.asarray(swap(federation, rate=0.3).truth["permutation"])
    assert abs(swapped(some).sum() / 2 - 300) < 4 * np.sqrt(1000 * 0.3 * 0.7)
    every = np.asarray(swap(federation, rate=1).truth["permutation"])
    assert np.all(swapped(every) == 10)
    # 200 draws out of 945 ways to pair ten classes: 180 different ones are expected
    assert len(np.unique(every, axis=0)) > 160
    assert np.all(swapped(np.asarray(swap(federation_of(5), rate=1).truth["permutation"])) == 4)


def test_every_partner_is_equally_likely():
    table = np.asarray(swap(federation_of(5, clients=1000), rate=1).truth["permutation"])
    for label in range(5):
        counts = np.bincount(table[:, label], minlength=5)
        # each of the four others, or alone, in one case of five
        assert np.all(np.abs(counts - 200) < 4 * np.sqrt(1000 * 0.2 * 0.8))


def test_clusters_swap_alike():
    truth = swap(federation_of(8), rate=0.5, clusters=2).truth
    cluster, table = np.asarray(truth["cluster"]), np.asarray(truth["permutation"])
    for k in range(2):
        assert np.all(table[cluster == k] == table[cluster == k][0])
    assert len(np.unique(table, axis=0)) == 2


def test_renaming_the_labels_renames_the_result():
    names = np.array([3, 0, 4, 1, 2])
    plain, renamed = (swap(federation_of(5, names=n), rate=0.7, seed=2) for n in (None, names))
    for client in range(6):
        np.testing.assert_array_equal(names[taken(plain, client)[1]], taken(renamed, client)[1])


@pytest.mark.parametrize(
    ("rate", "error", "message"),
    [
        (1.5, ValueError, "rate must be <= 1, got 1.5: it is the share of pairs"),
        (-0.5, ValueError, "rate must be >= 0, got -0.5: it is the share of pairs"),
        ("half", TypeError, "rate must be a number, got 'half'"),
    ],
)
def test_refusals(rate, error, message):
    with pytest.raises(error, match=message):
        swap(federation_of(3), rate=rate)


def test_refuses_what_is_no_federation():
    with pytest.raises(TypeError, match="federation must be a Federation, got Pool: deal a pool out first"):
        swap(federation_of(3).pool, rate=0.5)

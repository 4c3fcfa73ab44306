"""Measures of a federation: by hand, weights, names of classes, empty clients, and the dial of a split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedjax_het as fh
from fedjax_het.heterogeneity.distance import total_variation
from fedjax_het.heterogeneity.label import dirichlet
from fedjax_het.heterogeneity.measures import LABEL_MEASURES, MEASURES, SIZE_MEASURES, by_client, skew

TABLES = st.integers(1, 5).flatmap(
    lambda classes: st.lists(
        st.lists(st.integers(0, 9), min_size=classes, max_size=classes), min_size=1, max_size=6
    )
)


def test_by_hand():
    counts = [[30, 0], [0, 0], [5, 5]]
    q = np.array([35, 5]) / 40
    apart = [1 - q[0], q[0] - 0.5]
    each = by_client(counts, total_variation)
    np.testing.assert_allclose(each, [apart[0], np.nan, apart[1]])
    assert skew(counts, total_variation) == pytest.approx((30 * apart[0] + 10 * apart[1]) / 40)
    assert skew(counts, total_variation, weighted=False) == pytest.approx(sum(apart) / 2)


def test_clients_are_measured_in_blocks():
    counts = np.random.default_rng(0).integers(0, 4, (10_000, 3))
    size, q = counts.sum(1), counts.sum(0) / counts.sum()
    held = size > 0
    expected = total_variation(counts[held] / size[held, None], q)
    each = by_client(counts, total_variation)
    np.testing.assert_allclose(each[held], expected)
    assert np.isnan(each[~held]).all() and (~held).any()


@settings(max_examples=25, derandomize=True, deadline=None)
@given(TABLES, st.integers(0, 99))
def test_names_of_classes_and_order_of_clients_do_not_matter(table, seed):
    counts, rng = np.array(table), np.random.default_rng(seed)
    renamed = counts[:, rng.permutation(counts.shape[1])]
    moved = counts[rng.permutation(len(counts))]
    for name, distance in LABEL_MEASURES.items():
        value = skew(counts, distance)
        assert skew(moved, distance) == pytest.approx(value, abs=1e-12, nan_ok=True)
        if name != "wasserstein":
            assert skew(renamed, distance) == pytest.approx(value, abs=1e-12, nan_ok=True)
        assert np.isnan(value) == (not counts.any())


@settings(max_examples=25, derandomize=True, deadline=None)
@given(TABLES.filter(lambda table: np.any(table)))
def test_ranges(table):
    counts = np.array(table)
    value = {name: skew(counts, distance) for name, distance in LABEL_MEASURES.items()}
    most = {"tv": 1, "hellinger": 1, "js": 1, "emd": 2, "wasserstein": counts.shape[1] - 1}
    assert all(-1e-12 <= value[name] <= high + 1e-12 for name, high in most.items())
    assert 1 - 1e-9 <= value["effective_classes"] <= counts.shape[1] + 1e-9
    if len(counts) == 1:
        assert all(value[name] == pytest.approx(0, abs=1e-12) for name in most)


def test_all_follow_the_dial_of_a_dirichlet_split():
    source, found = fh.datasets.digits(), []
    for alpha in (0.05, 0.3, 2.0, 20.0, 1e6):
        seeds = [dirichlet(source, clients=20, alpha=alpha, seed=seed, test=0.0) for seed in range(4)]
        found.append({name: np.mean([measure(one) for one in seeds]) for name, measure in MEASURES.items()})
    falling = {"effective_classes", "effective_clients"}
    for name in MEASURES:
        values = np.array([entry[name] for entry in found])
        steps = np.diff(values) if name in falling else -np.diff(values)
        assert (steps > 0).all(), (name, values)


def test_splits_and_phases_are_arguments():
    federation = fh.from_clients([(np.ones((6, 1)), [0, 0, 0, 1, 1, 1]), (np.ones((2, 1)), [0, 1])], test=0.5)
    assert {name: measure(federation, "test", 0) for name, measure in MEASURES.items()} == pytest.approx(
        {name: measure(federation, split="test", phase=0) for name, measure in MEASURES.items()}, nan_ok=True
    )
    assert MEASURES["effective_clients"](federation, "test") == pytest.approx(16 / 10)
    with pytest.raises(ValueError, match="phase must be < 1"):
        MEASURES["tv"](federation, phase=1)


def test_rows_without_labels_have_sizes_only():
    regression = fh.from_clients([(np.ones((4, 1)), np.ones(4))] * 2, task="regression", test=0.0)
    assert {name: MEASURES[name](regression) for name in SIZE_MEASURES} == {
        "gini": 0,
        "cv": 0,
        "effective_clients": 2,
    }
    for name in LABEL_MEASURES:
        with pytest.raises(ValueError, match="one label a row"):
            MEASURES[name](regression)


def test_equal_measures_are_equal():
    assert MEASURES["tv"] == MEASURES["tv"] and MEASURES["tv"] != MEASURES["js"]
    assert set(MEASURES) == set(LABEL_MEASURES) | set(SIZE_MEASURES)


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ([[1, -1]], ValueError, r"counts must be \[N, K\] and >= 0"),
        ([1, 2], ValueError, r"counts must be \[N, K\] and >= 0"),
        ([["a"]], TypeError, "counts must hold numbers"),
    ],
)
def test_refusals(counts, error, message):
    with pytest.raises(error, match=message):
        skew(counts, total_variation)

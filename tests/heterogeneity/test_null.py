"""The null distribution: exact tables, exact coverage, and IID federations inside their bands.

Levels were fixed before the first run: a band of 99.9 % for single federations, and for coverage four standard
deviations of a binomial count.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedjax_het as fh
from fedjax_het.heterogeneity.counts import label_counts
from fedjax_het.heterogeneity.distance import total_variation
from fedjax_het.heterogeneity.iid import iid
from fedjax_het.heterogeneity.label import dirichlet
from fedjax_het.heterogeneity.measures import LABEL_MEASURES, skew
from fedjax_het.heterogeneity.null import band, cut, dealt, iid_bands, is_cut, replicated
from fedjax_het.split import generator

SPLITS = ("train", "valid", "test")
TV = {"tv": total_variation}
MARGINS = st.tuples(
    st.lists(st.integers(0, 12), min_size=1, max_size=6), st.integers(1, 4), st.integers(0, 10**6)
).filter(lambda drawn: any(drawn[0]))


def margins(drawn):
    """(sizes [N], pooled [K], a generator) with equal sums."""
    sizes, classes, seed = drawn
    rng = np.random.default_rng(seed)
    return np.array(sizes), np.bincount(rng.integers(0, classes, sum(sizes)), minlength=classes), rng


def parts_of(federation):
    return np.stack([label_counts(federation, split=split) for split in SPLITS])


@settings(max_examples=25, derandomize=True, deadline=None)
@given(MARGINS)
def test_a_deal_has_the_margins(drawn):
    sizes, pooled, rng = margins(drawn)
    table = dealt(rng, pooled, sizes)
    assert table.min() >= 0
    np.testing.assert_array_equal(table.sum(0), pooled)
    np.testing.assert_array_equal(table.sum(1), sizes)


def test_a_deal_has_the_moments_of_a_shuffle():
    """E = n_k q_i; cov of two counts by the formula of the multivariate hypergeometric distribution."""
    sizes, pooled, many = np.array([3, 10, 0, 7]), np.array([6, 1, 13]), 20_000
    rng = np.random.default_rng(0)
    tables = np.stack([dealt(rng, pooled, sizes) for _ in range(many)]).astype(float)
    total, q = 20, pooled / 20
    expected = sizes[:, None] * q
    variance = (sizes * (total - sizes) / (total - 1))[:, None] * (q * (1 - q))
    np.testing.assert_allclose(tables.mean(0), expected, atol=4 * np.sqrt(variance.max() / many))
    np.testing.assert_allclose(tables.var(0), variance, rtol=0.06)
    between = np.cov(tables[:, 0, 0], tables[:, 1, 2])[0, 1]
    assert between == pytest.approx(3 * 10 / 19 * q[0] * q[2], rel=0.2)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(MARGINS, st.floats(0, 0.45), st.floats(0, 0.45))
def test_a_cut_is_that_of_a_federation(drawn, test, valid):
    sizes, pooled, rng = margins(drawn)
    y = rng.permutation(np.repeat(np.arange(len(pooled)), pooled))
    lists = np.split(np.arange(len(y)), np.cumsum(sizes)[:-1])
    source = fh.pool(np.ones((len(y), 1)), y, num_classes=len(pooled))
    federation = fh.from_index_lists(source, None, lists, test=test, valid=valid)
    parts = parts_of(federation)
    own = parts.sum(2)
    assert is_cut(parts) == bool(own[1:].any())
    redone = np.stack(cut(rng, parts.sum(0), own))
    np.testing.assert_array_equal(redone.sum(2), own)
    np.testing.assert_array_equal(redone.sum(0), parts.sum(0))
    assert redone.min() >= 0 and np.abs(redone - parts).max() <= 2  # ties are broken otherwise


def test_random_parts_are_no_cut():
    rng = np.random.default_rng(0)
    assert not is_cut(np.stack([rng.multinomial(n, [0.25] * 4, 5) for n in (60, 20, 20)]))


def test_the_band_by_hand():
    values = np.arange(1.0, 200.0)
    narrow, wide = band(values[::-1], 0.9), band(values, 0.99)
    assert (narrow.low, narrow.high, narrow.mean, narrow.draws) == (10, 190, 100, 199)
    assert narrow.coverage == pytest.approx(0.9) and wide.coverage == pytest.approx(0.99)
    assert (wide.low, wide.high) == (1, 199) and wide.holds(1) and not wide.holds(0.9)
    few = band(values[:100], 0.99)
    assert few.coverage == pytest.approx(1 - 2 / 101), "no more can be had from 100 draws"
    assert band(values[:1], 0.99).coverage == 0


@pytest.mark.parametrize("test", [0.0, 0.3], ids=["whole", "cut"])
def test_coverage_is_exact(test):
    """A band of 19 draws covers 90 %: of 200 IID federations, 180 give or take 4 sd of 4.2."""
    y = np.random.default_rng(0).choice(5, 240, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    source = fh.pool(np.ones((240, 1)), y, num_classes=5)
    inside = 0
    for seed in range(200):
        federation = iid(source, clients=12, sizes=[5, 35] * 6, seed=seed, test=test)
        parts = parts_of(federation) if test else None
        counts = label_counts(federation)
        found = iid_bands(counts, measures=TV, parts=parts, draws=19, level=0.9, seed=seed + 1000)["tv"]
        inside += found.holds(skew(counts, total_variation))
    assert abs(inside - 180) <= 17


@pytest.mark.parametrize(("seed", "which"), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2)])
def test_iid_federations_lie_in_their_bands(seed, which):
    federation = iid(fh.datasets.digits(), clients=20, seed=seed, test=0.3, valid=0.2)
    parts = parts_of(federation)
    assert is_cut(parts)
    bands = iid_bands(parts[which], parts=parts, which=which, draws=1999, level=0.999, seed=seed)
    for name, distance in LABEL_MEASURES.items():
        assert bands[name].coverage == pytest.approx(0.999)
        assert bands[name].holds(skew(parts[which], distance)), (name, bands[name])


@pytest.mark.parametrize(
    ("clients", "rows", "test", "valid", "which"),
    [
        (60, 1800, 0.5, 0.1, 0),
        (60, 1800, 0.5, 0.0, 2),
        (1000, 60_000, 0.25, 0.0, 0),
        (300, 18_000, 0.5, 0.1, 0),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_small_shares_are_rounded_as_they_are_cut(clients, rows, test, valid, which, seed):
    """Where shares of a label are mostly fractions, how ties are broken decides what is held out."""
    y = np.random.default_rng(seed).permutation(rows) % 10
    federation = iid(fh.pool(np.ones((rows, 1)), y), clients=clients, seed=seed, test=test, valid=valid)
    parts = parts_of(federation)
    bands = iid_bands(parts[which], parts=parts, which=which, draws=999, level=0.998, seed=seed)
    for name, distance in LABEL_MEASURES.items():
        assert bands[name].holds(skew(parts[which], distance)), (name, bands[name])


def test_a_cut_by_label_is_evener_than_a_deal_of_as_many_rows():
    federation = iid(fh.datasets.digits(), clients=20, test=0.4)
    parts = parts_of(federation)
    as_cut = iid_bands(parts[0], measures=TV, parts=parts)["tv"].mean
    as_dealt = iid_bands(parts[0], measures=TV)["tv"].mean
    assert as_cut / as_dealt == pytest.approx(np.sqrt(0.6), rel=0.05)


def test_equal_shares_are_evener_than_chance():
    """A Dirichlet split of huge alpha gives all clients the same labels, which a random deal does not."""
    for seed in range(3):
        federation = dirichlet(fh.datasets.digits(), clients=20, alpha=1e8, seed=seed, test=0.0)
        counts = label_counts(federation)
        bands = iid_bands(counts, draws=199)
        for name, distance in LABEL_MEASURES.items():
            value = skew(counts, distance)
            even = value > bands[name].high if name == "effective_classes" else value < bands[name].low
            assert even, name


def test_the_mean_is_near_its_asymptote():
    """E TV of independent clients is about sum_i sqrt(q_i (1 - q_i) / (2 pi n))."""
    q, clients, size = np.array([0.5, 0.3, 0.2]), 200, 500
    counts = np.round(np.outer(np.full(clients, size), q)).astype(int)
    found = iid_bands(counts, measures=TV)["tv"]
    assert found.mean == pytest.approx(np.sqrt(q * (1 - q) / (2 * np.pi * size)).sum(), rel=0.02)


@settings(max_examples=10, derandomize=True, deadline=None)
@given(MARGINS, st.integers(0, 99))
def test_the_same_seed_gives_the_same_band(drawn, seed):
    sizes, pooled, rng = margins(drawn)
    counts = dealt(rng, pooled, sizes)
    one, two = (iid_bands(counts, draws=9, seed=seed) for _ in range(2))
    assert one == two
    values = replicated(lambda rng: skew(dealt(rng, pooled, sizes), total_variation), 9, seed, "iid split")
    assert one["tv"].mean == pytest.approx(values.mean())


def test_renaming_classes_renames_the_deal():
    pooled, sizes = np.array([7, 30, 4, 12]), np.array([20, 0, 30, 3])
    order = [2, 0, 3, 1]
    table = dealt(generator(0, "deal"), pooled, sizes)
    np.testing.assert_array_equal(dealt(generator(0, "deal"), pooled[order], sizes), table[:, order])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"draws": 0}, ValueError, "draws must be >= 1, got 0: 100 give a band of 98 %"),
        ({"draws": 1.5}, TypeError, "draws must be a whole number"),
        ({"level": 1.0}, ValueError, "level must be < 1"),
        ({"seed": -1}, ValueError, "seed must be >= 0"),
        ({"counts": [[0, 0]]}, ValueError, "counts must add up to 1..999999999 rows, got 0"),
        ({"counts": [[10**9, 0]]}, ValueError, "counts must add up to .* got 1000000000: take fewer"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        iid_bands(**{"counts": [[3, 4], [1, 0]]} | arguments)

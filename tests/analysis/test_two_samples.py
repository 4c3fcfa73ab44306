"""Linear MMD and the classifier test: against plain loops, on known distances, and under the null."""

import numpy as np
import pytest

from fedjax_het.analysis.mmd import linear_mmd
from fedjax_het.analysis.told_apart import told_apart


def dealt(seed, sizes, width, shift=0.0, strata=1):
    """(z, owner, stratum): client k is shifted by k * shift in every direction."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    stratum = rng.integers(0, strata, len(owner))
    z = rng.normal(size=(len(owner), width)) + shift * owner[:, None] + 5.0 * stratum[:, None]
    return z, owner, stratum


def by_pairs(z, owner):
    """sum_k p_k |mu_k - mu|^2 by unbiased estimates of each inner product, over the pooled variance."""
    parts = [z[owner == k] for k in np.unique(owner)]
    p = np.array([len(part) for part in parts]) / len(z)
    inner = np.array([[a.mean(0) @ b.mean(0) for b in parts] for a in parts])
    for k, part in enumerate(parts):
        gram = part @ part.T
        inner[k, k] = (gram.sum() - np.trace(gram)) / (len(part) * (len(part) - 1))
    squares = sum(((part - part.mean(0)) ** 2).sum() for part in parts)
    between = [inner[k, k] - 2 * p @ inner[k] + p @ inner @ p for k in range(len(parts))]
    return np.array(between) / (squares / (len(z) - len(parts))), p


def test_mmd_by_pairs_of_rows():
    z, owner, stratum = dealt(0, [2, 9, 30, 4], 3, shift=0.3)
    found = linear_mmd(z, owner, stratum, clients=4, draws=19, rng=np.random.default_rng(0))
    client, p = by_pairs(z, owner)
    assert found.value == pytest.approx(p @ client)
    np.testing.assert_allclose(found.client, client)


def test_mmd_within_strata_is_a_mean_over_strata():
    z, owner, stratum = dealt(1, [20, 9, 30, 14], 2, shift=0.3, strata=3)
    found = linear_mmd(z, owner, stratum, clients=4, draws=19, rng=np.random.default_rng(0))
    between, squares, free = 0.0, 0.0, 0
    for s in range(3):
        rows, whose = z[stratum == s], owner[stratum == s]
        relative, p = by_pairs(rows, whose)
        inside = sum(((rows[whose == k] - rows[whose == k].mean(0)) ** 2).sum() for k in np.unique(whose))
        many = len(rows) - len(np.unique(whose))
        between += len(rows) / len(z) * (p @ relative) * inside / many
        squares, free = squares + inside, free + many
    assert found.value == pytest.approx(between / (squares / free))


def test_mmd_of_a_known_distance():
    """Two clients of unit variance in 4 dimensions, means 0.5 either side: 4 * 0.25 / 4."""
    z, owner, stratum = dealt(2, [20_000, 20_000], 4, shift=1.0)
    found = linear_mmd(z, owner, stratum, clients=2, draws=1, rng=np.random.default_rng(0))
    assert found.value == pytest.approx(0.25, abs=0.01)
    scaled = linear_mmd(70 * z - 3, owner, stratum, clients=2, draws=1, rng=np.random.default_rng(0))
    assert scaled.value == pytest.approx(found.value)


def test_mmd_is_unbiased():
    """Its numerator is 0 on average over many small samples, of clients of any sizes and variances."""
    values, sizes = [], [2, 3, 8]
    for seed in range(1000):
        z, owner, stratum = dealt(seed, sizes, 2)
        z = z * np.array([1.0, 3.0, 0.5])[owner][:, None]
        found = linear_mmd(z, owner, stratum, clients=3, draws=1, rng=np.random.default_rng(0))
        inside = sum(((z[owner == k] - z[owner == k].mean(0)) ** 2).sum() for k in range(3))
        values.append(found.value * inside / (sum(sizes) - 3))
    assert abs(np.mean(values)) < 3.5 * np.std(values) / np.sqrt(1000) < 0.15


@pytest.mark.parametrize(
    ("test", "strata", "sets"),
    [(linear_mmd, 1, 300), (linear_mmd, 3, 300), (told_apart, 1, 60), (told_apart, 3, 20)],
)
def test_p_values_are_honest(test, strata, sets):
    """Under the null p <= 0.1 happens in one of ten, give or take 3.5 standard errors (ties make it rarer)."""
    found = []
    for seed in range(sets):
        z, owner, stratum = dealt(seed, [12, 20, 7, 15], 3, strata=strata)
        result = test(z, owner, stratum, clients=4, draws=19, rng=np.random.default_rng(seed))
        found.append((result[0] if isinstance(result, tuple) else result).p)
    rare = np.mean(np.array(found) <= 0.1 + 1e-9)
    error = np.sqrt(0.09 / sets)
    assert rare < 0.1 + 3.5 * error
    if test is linear_mmd:
        assert rare > 0.1 - 3.5 * error


def test_all_told_apart():
    z, owner, stratum = dealt(0, [30, 10, 20], 2, shift=20.0)
    found, confusion = told_apart(z, owner, stratum, clients=3, draws=199, rng=np.random.default_rng(0))
    assert found.value == 1 and found.above
    np.testing.assert_array_equal(confusion, np.eye(3))
    np.testing.assert_array_equal(found.client, 1)


def test_spread_alone_is_told_apart_by_the_classifier_only():
    rng = np.random.default_rng(3)
    owner = np.repeat([0, 1], 200)
    z = rng.normal(size=(400, 3)) * (1 + 2 * owner)[:, None]
    none = np.zeros(400, int)
    assert told_apart(z, owner, none, clients=2, draws=199, rng=rng)[0].above
    assert not linear_mmd(z, owner, none, clients=2, draws=199, rng=rng).above


def test_strata_hide_what_they_explain():
    """Clients that hold two strata in other shares differ in all, and not within strata."""
    rng = np.random.default_rng(4)
    owner = np.repeat([0, 1, 2], 100)
    stratum = (rng.random(300) < np.array([0.1, 0.5, 0.9])[owner]).astype(int)
    z = rng.normal(size=(300, 2)) + 4.0 * stratum[:, None]
    options = {"clients": 3, "draws": 199}
    none = np.zeros(300, int)
    for rows, above in ((none, True), (stratum, False)):
        assert linear_mmd(z, owner, rows, rng=np.random.default_rng(0), **options).above == above
        assert told_apart(z, owner, rows, rng=np.random.default_rng(0), **options)[0].above == above


def test_nothing_to_compare():
    z, owner, _ = dealt(0, [5, 5], 2)
    for test in (linear_mmd, told_apart):
        assert test(z, owner, owner, clients=2, draws=9, rng=np.random.default_rng(0)) is None


def test_clients_that_take_no_part_are_nan():
    z, owner, stratum = dealt(0, [6, 1, 6], 2)
    mean = linear_mmd(z, owner, stratum, clients=3, draws=9, rng=np.random.default_rng(0))
    apart, confusion = told_apart(z, owner, stratum, clients=3, draws=9, rng=np.random.default_rng(0))
    for found in (mean.client, apart.client, confusion[:, 0]):
        np.testing.assert_array_equal(np.isnan(found), [False, True, False])

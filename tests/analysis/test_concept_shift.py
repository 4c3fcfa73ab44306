"""Concept shift: models exchanged between clients, on digits and on a regression."""

import json

import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.analysis import concept_shift
from fedjax_het.analysis.transfer import PRIOR
from fedjax_het.heterogeneity.concept import oppose, permute, swap
from fedjax_het.heterogeneity.feature import rotate
from fedjax_het.heterogeneity.iid import iid
from fedjax_het.heterogeneity.label import dirichlet

POOL = fh.datasets.digits()


def alike(seed=0, clients=12, of=POOL):
    return iid(of, clients=clients, seed=seed, test=0.0)


def holding(turn, *labels):
    """Every fourth row of these labels."""
    rows = np.flatnonzero(np.isin(POOL.y, labels))
    return rows[rows % 4 == turn]


def straight(rows=1800):
    """A regression of six features with little noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 6))
    y = x @ np.array([1.0, -1, 2, 0.5, 0, 1]) + 0.3 * rng.normal(size=rows)
    return fh.pool(x, y, task="regression")


@pytest.mark.parametrize("of", [POOL, straight()], ids=["labels", "regression"])
def test_clients_that_are_alike_lie_inside_their_bands(of):
    """8 numbers at a level of 98 %, fixed beforehand: at most 2 outside happens in 99.9 of 100 cases."""
    found = [concept_shift(alike(seed, of=of), draws=99, seed=seed) for seed in range(4)]
    numbers = [number for result in found for number in (result.gap, result.disagreement)]
    assert all(number.level == pytest.approx(0.98) for number in numbers)
    assert sum(not number.inside for number in numbers) <= 2
    assert abs(np.mean([result.gap.value for result in found])) < 0.03
    assert sum(result.comparable for result in found) >= 3


def test_swaps_are_seen_and_grow():
    found = [concept_shift(swap(alike(), rate=rate), draws=39) for rate in (0.0, 0.25, 0.5, 1.0)]
    for name in ("gap", "disagreement"):
        numbers = [getattr(result, name) for result in found]
        assert [number.above for number in numbers] == [False, True, True, True]
        assert (np.diff([number.value for number in numbers]) > 0.05).all()
    assert all(result.comparable for result in found)
    assert "P(y | x) differs" in found[-1].reading and "No concept shift" in found[0].reading
    own = [np.diagonal(result.score).mean() for result in found]
    np.testing.assert_allclose(own, own[0], atol=1e-12, err_msg="a client's own names for labels are as good")


def test_clusters_show_in_the_matrix():
    federation = permute(alike(clients=8), clusters=2)
    cluster = np.asarray(federation.truth["cluster"])
    found = concept_shift(federation, draws=9)
    assert found.client.tolist() == list(range(8))
    same = (cluster[:, None] == cluster) & ~np.eye(8, dtype=bool)
    assert found.score[same].min() > 0.6 > 0.4 > found.score[cluster[:, None] != cluster].max()


def test_label_skew_alone_is_no_concept_shift():
    """4 numbers, each above its band in one of 100 cases: at most one of them."""
    skewed = [dirichlet(POOL, clients=12, alpha=alpha, min_size=20, seed=1) for alpha in (0.1, 0.5)]
    found = [concept_shift(federation, draws=99, seed=1) for federation in skewed]
    assert sum(number.above for result in found for number in (result.gap, result.disagreement)) <= 1
    assert not any(result.comparable for result in found)
    assert 0.2 < found[0].compared < 0.8 < found[1].compared


def test_concept_shift_is_seen_under_label_skew():
    skewed = dirichlet(POOL, clients=12, alpha=0.3, min_size=20)
    found = concept_shift(swap(skewed, rate=1.0), draws=39)
    assert found.gap.above and found.disagreement.above and not found.comparable


def test_feature_shift_is_not_taken_for_a_concept():
    found = concept_shift(rotate(alike(of=fh.datasets.digits(flat=False)), spread=60), draws=39)
    assert found.gap.above and not found.comparable
    assert found.reading.endswith("concept shift, feature shift or both.")


def test_noise_in_everybodys_labels_is_no_concept_shift():
    labels, rng = np.asarray(POOL.y), np.random.default_rng(0)
    noisy = np.where(rng.random(1797) < 0.4, rng.integers(0, 10, 1797), labels)
    found = concept_shift(alike(of=fh.pool(POOL.x, noisy, num_classes=10)), draws=39)
    assert np.diagonal(found.score).mean() < 0.7 and not found.seen


def test_opposed_regressions_by_their_closed_form():
    """y = w'x in camp 0, (1 - 2r) w'x in camp 1; b the factors, s what a ridge leaves of w. By i's model
    j loses ((b_j - s b_i)^2 - (b_j - s b_j)^2) |w|^2, and the two disagree by s^2 (b_i - b_j)^2 |w|^2.
    """
    camps = np.array([0, 1] * 6)
    federation = alike(of=straight())
    signal, noise, left = 7.25, 0.09, 75 / (75 + PRIOR)
    calm = concept_shift(oppose(federation, rate=0.0, camps=camps.tolist()), draws=199)
    assert not calm.seen and calm.comparable
    for rate in (0.25, 0.5, 1.0):
        found = concept_shift(oppose(federation, rate=rate, camps=camps.tolist()), draws=39)
        assert found.gap.above and found.disagreement.above and found.comparable
        factor = np.where(camps == 0, 1.0, 1 - 2 * rate)
        unit = signal / ((signal + noise) * (factor**2).mean())
        gap = (factor - left * factor[:, None]) ** 2 - (factor - left * factor) ** 2
        apart = left**2 * np.subtract.outer(factor, factor) ** 2
        assert found.gap.value == pytest.approx(unit * gap.sum() / (12 * 11), rel=0.1)
        assert found.disagreement.value == pytest.approx(unit * apart.sum() / (12 * 11), rel=0.1)


def test_targets_of_several_numbers():
    source = straight()
    y = np.stack([np.asarray(source.y), np.asarray(source.x)[:, 0], np.full(1800, 3.0)], axis=1)
    found = concept_shift(alike(of=fh.pool(source.x, y, task="regression")), draws=19)
    assert np.diagonal(found.score).min() > 0.9 and found.compared == 1


def test_who_stands_out_loses_most():
    federation = alike(of=straight())
    found = concept_shift(oppose(federation, rate=1.0, camps=[0] * 7 + [1] + [0] * 4), draws=9)
    assert np.argmax(found.gap.client) == np.argmax(found.disagreement.client) == 7
    np.testing.assert_allclose(found.gap.client.mean(), found.gap.value)


def test_renaming_the_labels_changes_nothing():
    names = np.random.default_rng(0).permutation(10)
    renamed = fh.pool(POOL.x, names[np.asarray(POOL.y)], num_classes=10)
    parts = np.array_split(np.random.default_rng(1).permutation(1797)[:900], 6)
    one, other = (
        concept_shift(fh.from_index_lists(pool, None, parts, test=0.0), draws=9) for pool in (POOL, renamed)
    )
    np.testing.assert_allclose(one.score, other.score)
    for a, b in ((one.gap, other.gap), (one.disagreement, other.disagreement)):
        np.testing.assert_allclose([a.value, a.low, a.high], [b.value, b.low, b.high], atol=1e-12)


def test_seeds():
    one, same, other = (concept_shift(alike(), clients=5, draws=9, seed=seed) for seed in (3, 3, 4))
    assert one.as_dict() == same.as_dict()
    assert one.as_dict() != other.as_dict()


def test_it_can_be_kept_and_read():
    parts = [holding(turn, *labels) for turn, labels in enumerate([(0, 1), (0, 1), (1, 2, 3), (2, 3)])]
    found = concept_shift(fh.from_index_lists(POOL, None, parts), draws=19)
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert told["score"][0][3] is None and told["score"][0][1] > 0.9
    assert told["compared"] == pytest.approx(4 / 12) and told["gap"]["p"] == found.gap.p
    text = str(found)
    assert "33 % of their pairs compared" in text and text.endswith(found.reading)
    alone = [holding(turn, *labels) for turn, labels in enumerate([(0, 1), (0, 1), (2, 3)])]
    nobody = concept_shift(fh.from_index_lists(POOL, None, alone), draws=9)
    np.testing.assert_array_equal(np.isnan(nobody.gap.client), [False, False, True])
    assert np.isfinite(nobody.gap.value)


def test_refusals():
    apart = [np.flatnonzero(np.asarray(POOL.y) == label) for label in range(3)]
    with pytest.raises(
        ValueError, match=r"two clients that share two labels, got none among clients \[0, 1, 2\]"
    ):
        concept_shift(fh.from_index_lists(POOL, None, apart))
    with pytest.raises(ValueError, match="two clients with 20 rows of 'train' or more, got 0 of 120"):
        concept_shift(alike(clients=120))
    tokens = np.random.default_rng(0).integers(0, 5, (100, 4))
    sequences = fh.pool(tokens, tokens, task="tokens", num_classes=5)
    with pytest.raises(ValueError, match=r"one label a row or be a regression, .* targets of shape \(4,\)"):
        concept_shift(alike(clients=2, of=sequences))
    constant = fh.pool(np.asarray(POOL.x), np.full(1797, 0.1), task="regression")
    with pytest.raises(ValueError, match="targets that vary"):
        concept_shift(alike(of=constant))
    with pytest.raises(ValueError, match="draws must be >= 1, got 0"):
        concept_shift(alike(), draws=0)

"""Feature shift on digits: what differs is seen, what does not is not, and more of it counts more."""

import json

import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.analysis import feature_shift
from fedjax_het.heterogeneity.concept import swap
from fedjax_het.heterogeneity.feature import noise, rotate
from fedjax_het.heterogeneity.iid import iid
from fedjax_het.heterogeneity.label import dirichlet
from fedjax_het.phases import phases, switch

NUMBERS = ("classifier", "classifier_given", "mmd", "mmd_given")
POOL = fh.datasets.digits(flat=False)


def alike(seed=0):
    """No test rows, since a cut that is stratified makes clients a little more alike than chance."""
    return iid(POOL, clients=10, seed=seed, test=0.0)


def test_clients_that_are_alike_lie_inside_their_bands():
    """12 numbers at a level of 99 %, fixed beforehand: at most 2 outside happens in 99.9 of 100 cases."""
    found = [feature_shift(alike(seed), seed=seed) for seed in range(3)]
    numbers = [getattr(result, name) for result in found for name in NUMBERS]
    assert all(number.level == pytest.approx(0.99) for number in numbers)
    assert sum(not number.inside for number in numbers) <= 2
    assert sum(number.above for number in numbers) <= 1


def test_label_skew_is_in_the_marginal_alone():
    """4 numbers given the label, each above its band in one of 200 cases: at most one of them."""
    found = [
        feature_shift(dirichlet(POOL, clients=10, alpha=0.1, min_size=20, seed=s), seed=s) for s in range(2)
    ]
    assert all(result.classifier.above and result.mmd.above for result in found)
    assert (
        sum(getattr(result, name).above for result in found for name in ("classifier_given", "mmd_given")) <= 1
    )
    assert all(0.9 < result.compared < 1 for result in found)
    assert "label skew" in found[0].reading


def test_rotation_is_in_both_and_grows():
    found = [feature_shift(rotate(alike(), spread=spread), draws=39) for spread in (0, 15, 45, 90)]
    for name in NUMBERS:
        numbers = [getattr(result, name) for result in found]
        assert [number.above for number in numbers] == [False, True, True, True]
        assert (np.diff([number.value for number in numbers]) > 0).all()
    assert [result.marginal for result in found] == [False, True, True, True]
    assert [result.given_label for result in found] == [False, True, True, True]


def test_clients_that_stand_out_have_the_largest_numbers():
    angles = np.zeros(10)
    angles[[2, 7]] = 90.0, -60.0
    found = feature_shift(rotate(alike(), angles=angles.tolist()), draws=9)
    for name in NUMBERS:
        assert set(np.argsort(getattr(found, name).client)[-2:]) == {2, 7}
    assert found.confusion[2, 2] > 0.8 and found.confusion[0, 0] < 0.5
    np.testing.assert_allclose(found.confusion.sum(1), 1)


def test_exchanged_labels_leave_the_marginal_alone():
    before, after = (feature_shift(f, draws=39) for f in (alike(), swap(alike(), rate=1.0)))
    assert after.classifier.value == before.classifier.value and after.mmd.value == before.mmd.value
    assert after.classifier_given.above and after.mmd_given.above
    assert "concept shift" in after.reading


def test_noise_is_told_apart_although_the_means_agree():
    found = feature_shift(noise(alike(), most=0.4))
    assert found.classifier.above and not found.mmd.above


def test_renaming_the_labels_changes_nothing():
    names = np.random.default_rng(0).permutation(10)
    renamed = fh.pool(POOL.x, names[np.asarray(POOL.y)], num_classes=10)
    parts = np.array_split(np.random.default_rng(1).permutation(1797)[:600], 6)
    one, other = (
        feature_shift(fh.from_index_lists(pool, None, parts, test=0.0), draws=19) for pool in (POOL, renamed)
    )
    for name in NUMBERS:
        a, b = getattr(one, name), getattr(other, name)
        np.testing.assert_allclose([a.value, a.low, a.high], [b.value, b.low, b.high], atol=1e-9)


def test_seeds():
    one, same, other = (feature_shift(alike(), clients=6, rows=40, draws=19, seed=seed) for seed in (3, 3, 4))
    assert one.as_dict() == same.as_dict()
    assert one.as_dict() != other.as_dict()


def test_every_split_and_phase():
    plain = iid(POOL, clients=10)
    turned = rotate(plain, spread=90)
    changing = phases([plain, turned], switch([10]))
    assert [feature_shift(changing, phase=t, draws=39).marginal for t in (0, 1)] == [False, True]
    assert feature_shift(turned, split="test").rows.max() <= 36


def test_it_can_be_kept_and_read():
    found = feature_shift(alike(), clients=5, rows=30, draws=19)
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert told["client"] == found.client.tolist() and len(told["confusion"]) == 5
    assert told["mmd_given"]["value"] == found.mmd_given.value and told["reading"] == found.reading
    text = str(found)
    assert "5 clients, 30 to 30 rows" in text and text.endswith(found.reading) and len(text.split("\n")) == 6


def test_regression_has_no_labels():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)) + np.repeat(np.arange(4), 100)[:, None]
    pool = fh.pool(x, x[:, 0], task="regression")
    found = feature_shift(fh.from_index_lists(pool, None, np.split(np.arange(400), 4)))
    assert found.marginal and found.given_label is None and found.compared is None
    assert found.as_dict()["mmd_given"] is None and "cannot be told" in str(found)


def test_one_label_each_cannot_be_told_given_the_label():
    parts = [np.flatnonzero(np.asarray(POOL.y) == label) for label in range(10)]
    found = feature_shift(fh.from_index_lists(POOL, None, parts))
    assert found.marginal and found.given_label is None and found.compared == 0


def test_clients_without_rows_are_left_out():
    parts = [np.arange(60), [], np.arange(60, 65), np.arange(100, 160)]
    found = feature_shift(fh.from_index_lists(POOL, None, parts, test=0.0), draws=19)
    assert found.client.tolist() == [0, 3] and found.rows.tolist() == [60, 60]
    with pytest.raises(ValueError, match=r"two clients with 10 rows of 'train' or more, got 1 of 3"):
        feature_shift(fh.from_index_lists(POOL, None, parts[:3], test=0.0))


def test_draws_are_needed():
    with pytest.raises(ValueError, match="draws must be >= 1, got 0"):
        feature_shift(alike(), draws=0)

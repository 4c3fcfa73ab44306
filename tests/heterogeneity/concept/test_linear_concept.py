"""Linear concepts: the rule of each cluster, how far they are apart, and their noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from taking import pictures, rows_of, taken

import fedjax_het as fh
from fedjax_het.heterogeneity.concept import linear


def federation_of(
    task="classification", shape=(6,), clients=4, rows=40, targets=(), integers=False, names=None
):
    rng = np.random.default_rng(0)
    x = pictures(rng, rows * clients, shape, integers=integers)
    y = (
        np.arange(rows * clients) % 5
        if task == "classification"
        else rng.normal(size=(rows * clients, *targets))
    )
    y = y if names is None else np.asarray(names)[y]
    parts = np.split(np.arange(rows * clients), clients)
    return fh.from_index_lists(x, y, parts, task=task, test=0.0)


def scores(federation, client):
    """kernel' x + bias of a client's rows, [n, K]."""
    cluster = int(federation.truth["cluster"][client])
    kernel, bias = (np.asarray(federation.truth[name], float)[cluster] for name in ("kernel", "bias"))
    x = taken(federation, client)[0].astype(float)
    return x.reshape(len(x), -1) @ kernel + bias


@settings(max_examples=25, derandomize=True, deadline=None)
@given(
    difference=st.floats(0, 1),
    clusters=st.integers(1, 4),
    shape=st.sampled_from([(6,), (3, 2)]),
    seed=st.integers(0, 9),
)
def test_labels_are_the_largest_score(difference, clusters, shape, seed):
    federation = federation_of(shape=shape, integers=shape == (3, 2))
    changed = linear(federation, clusters=clusters, difference=difference, seed=seed)
    assert changed.truth["kernel"].shape == (clusters, 6, 5) and changed.truth["bias"].shape == (clusters, 5)
    for client in range(4):
        score, label = scores(changed, client), taken(changed, client)[1]
        assert label.dtype == np.int32
        best = np.sort(score, axis=1)
        clear = best[:, -1] - best[:, -2] > 1e-4
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(label[clear], score.argmax(1)[clear])


@pytest.mark.parametrize("targets", [(), (2,)], ids=str)
def test_targets_are_the_scores(targets):
    changed = linear(federation_of("regression", targets=targets), clusters=2, difference=0.5)
    for client in range(4):
        score, target = scores(changed, client), taken(changed, client)[1]
        np.testing.assert_allclose(target, score.reshape(-1, *targets), rtol=1e-4, atol=1e-5)


def test_how_far_the_rules_are_apart():
    federation = federation_of(shape=(200,), clients=3, rows=20)
    for difference in (0.0, 0.3, 1.0):
        changed = linear(federation, clusters=3, difference=difference)
        kernel = np.asarray(changed.truth["kernel"], float).reshape(3, -1)
        wanted = np.cos(difference * np.pi / 2) ** 2
        measured = np.corrcoef(kernel)[np.triu_indices(3, 1)]
        assert np.all(np.abs(measured - wanted) < 4 / np.sqrt(1000) + 1e-6)
        if difference == 0:
            assert np.all(kernel == kernel[0])


def test_scores_are_centred_and_of_one_scale():
    federation = federation_of("regression", shape=(400,), clients=20, rows=40)
    changed = linear(federation, clusters=20, difference=1)
    target = np.concatenate([taken(changed, client)[1] for client in range(20)]).astype(float)
    assert abs(target.mean()) < 4 / np.sqrt(target.size)
    assert abs(target.std() - 1) < 0.15
    label = np.concatenate(
        [taken(linear(federation_of(rows=500), clusters=4, difference=1), client)[1] for client in range(4)]
    )
    assert np.bincount(label, minlength=5).max() < 0.45 * len(label)


def test_noise_belongs_to_the_client_and_the_row():
    federation = federation_of("regression", rows=1000, clients=2)
    changed = linear(federation, clusters=1, difference=0, noise=0.5)
    added = np.stack([taken(changed, client)[1] - scores(changed, client)[:, 0] for client in range(2)])
    assert stats.kstest(added.ravel() / 0.5, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(added)[0, 1]) < 4 / np.sqrt(1000)
    source = federation_of("regression", clients=1).pool
    whole, cut = (
        linear(fh.from_index_lists(source, None, [np.arange(40)], test=test), clusters=1, difference=0, noise=1)
        for test in (0.0, 0.5)
    )
    np.testing.assert_array_equal(taken(cut, 0, "test")[1], taken(whole, 0)[1][rows_of(cut, 0, "test")])


def test_follows_what_the_client_sees():
    federation = federation_of("regression", shape=(4, 4))
    turned = fh.heterogeneity.feature.rotate(federation, angles=[0, 90, 180, 270])
    changed = linear(turned, clusters=1, difference=0)
    for client in range(4):
        np.testing.assert_allclose(
            taken(changed, client)[1], scores(changed, client)[:, 0], rtol=1e-4, atol=1e-5
        )


def test_renaming_the_labels_renames_the_result():
    names = np.array([3, 0, 4, 1, 2])
    plain, renamed = (linear(federation_of(names=n), clusters=4, difference=0.7) for n in (None, names))
    for client in range(4):
        np.testing.assert_array_equal(names[taken(plain, client)[1]], taken(renamed, client)[1])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"clusters": 2, "difference": 1.5}, ValueError, "difference must be <= 1, got 1.5: 1 is unrelated"),
        ({"clusters": 2, "difference": -1}, ValueError, "difference must be >= 0, got -1: 0 is one concept"),
        ({"clusters": 2, "difference": 1, "noise": -1}, ValueError, "noise must be >= 0, got -1"),
        ({"clusters": 5, "difference": 1}, ValueError, "clusters must be <= 4, got 5"),
        ({"clusters": None, "difference": 1}, TypeError, "clusters must be a whole number, got None"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        linear(federation_of(), **arguments)


def test_refuses_features_that_say_nothing():
    federation = fh.from_index_lists(np.ones((4, 3)), [0, 1, 0, 1], [[0, 1], [2, 3]], test=0.0)
    with pytest.raises(ValueError, match="must hold features that vary, got 4 times the same row"):
        linear(federation, clusters=2, difference=1)

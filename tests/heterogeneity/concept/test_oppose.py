"""Opposed targets: which rows, whose, and what a shared model can still reach."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taking import rows_of, taken

import fedjax_het as fh
from fedjax_het.heterogeneity.concept import oppose


def federation_of(task="classification", classes=4, clients=4, rows=50, shared=False):
    rng = np.random.default_rng(0)
    parts = [np.arange(rows)] * clients if shared else np.split(np.arange(rows * clients), clients)
    y = (
        rng.integers(0, classes, rows * clients)
        if task == "classification"
        else rng.normal(size=rows * clients)
    )
    facts = {"num_classes": classes} if task == "classification" else {}
    x = np.zeros((rows * clients, 1))
    return fh.from_index_lists(x, y, parts, replacement=shared, task=task, test=0.0, **facts)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(classes=st.sampled_from([2, 5, 10]), rate=st.floats(0, 1), more=st.floats(0, 1), seed=st.integers(0, 9))
def test_camp_one_turns_a_share_of_its_labels(classes, rate, more, seed):
    federation = federation_of(classes=classes)
    changed = oppose(federation, rate=rate, seed=seed)
    further = oppose(federation, rate=rate + more * (1 - rate), seed=seed)
    camp = np.asarray(changed.truth["cluster"])
    assert sorted(camp.tolist()) == [0, 0, 1, 1]
    np.testing.assert_array_equal(changed.truth["opposition"], np.float32(rate) * camp.astype(np.float32))
    for client in range(4):
        before, after, later = (taken(f, client)[1] for f in (federation, changed, further))
        turned = after != before
        np.testing.assert_array_equal(after[turned], classes - 1 - before[turned])
        np.testing.assert_array_equal(later[turned], after[turned])
        assert camp[client] or not turned.any()


def test_the_share_and_both_ends():
    federation = federation_of(clients=2, rows=2000)
    for rate in (0.0, 0.3, 1.0):
        changed = oppose(federation, rate=rate, camps=[0, 1])
        share = np.mean(taken(changed, 1)[1] != taken(federation, 1)[1])
        assert abs(share - rate) <= 4 * np.sqrt(rate * (1 - rate) / 2000)


def test_the_camp_is_of_one_mind_about_a_row():
    changed = oppose(federation_of(clients=3, shared=True), rate=0.5, camps=[1, 0, 1])
    seen = [taken(changed, client)[1] for client in range(3)]
    np.testing.assert_array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[0], seen[1])


@settings(max_examples=25, derandomize=True, deadline=None)
@given(rate=st.floats(0, 1), seed=st.integers(0, 9))
def test_regression_targets_shrink_and_turn(rate, seed):
    federation = federation_of("regression")
    changed = oppose(federation, rate=rate, seed=seed)
    camp = np.asarray(changed.truth["cluster"])
    for client in range(4):
        before, after = taken(federation, client)[1], taken(changed, client)[1]
        np.testing.assert_allclose(after, (1 - 2 * rate * camp[client]) * before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("camps", [[0, 1], [0, 0, 0, 1], [0, 1, 1, 1]], ids=str)
def test_what_one_model_can_reach(rate, camps):
    """The closed forms, by looking every answer up that one model may give."""
    clients, rows = len(camps), 2000
    share = np.mean(camps)
    federation = federation_of(classes=2, clients=clients, rows=rows)
    changed = oppose(federation, rate=rate, camps=camps)
    before, after = (np.concatenate([taken(f, k)[1] for k in range(clients)]) for f in (federation, changed))
    # the best answer for either label
    right = [max(np.bincount(after[before == label], minlength=2)) for label in range(2)]
    wanted = max(1 - share * rate, share * rate)
    assert abs(sum(right) / len(before) - wanted) <= 4 * np.sqrt(wanted * (1 - wanted) / len(before)) + 1e-12

    federation = federation_of("regression", clients=clients, rows=rows, shared=True)
    changed = oppose(federation, rate=rate, camps=camps)
    own = taken(federation, 0)[1].astype(float)
    seen = np.stack([taken(changed, k)[1] for k in range(clients)]).astype(float)
    np.testing.assert_allclose(seen.mean(0), (1 - 2 * share * rate) * own, atol=1e-6)
    error = np.mean((seen - seen.mean(0)) ** 2)
    np.testing.assert_allclose(
        error, 4 * rate**2 * share * (1 - share) * np.mean(own**2), rtol=1e-5, atol=1e-12
    )


def test_the_same_rows_are_turned_in_every_split():
    source = federation_of(classes=2, clients=1).pool
    whole, cut = (
        oppose(fh.from_index_lists(source, None, [np.arange(50)], test=test), rate=0.5, camps=[1])
        for test in (0.0, 0.4)
    )
    np.testing.assert_array_equal(taken(cut, 0, "test")[1], taken(whole, 0)[1][rows_of(cut, 0, "test")])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rate": 1.5}, ValueError, "rate must be <= 1, got 1.5: 0 is agreement"),
        ({"rate": -1}, ValueError, "rate must be >= 0, got -1: 0 is agreement"),
        ({"rate": None}, TypeError, "rate must be a number, got None"),
        ({"rate": 1, "camps": [0, 1, 2, 0]}, ValueError, "camps must be 0 or 1, got 2: there are two"),
        (
            {"rate": 1, "camps": [0, 1]},
            ValueError,
            "camps must name the cluster of each of the 4 clients, got 2",
        ),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        oppose(federation_of(), **arguments)


def test_refuses_what_has_no_opposite():
    x = np.zeros((4, 5), np.int32)
    tokens = fh.from_index_lists(x, x, [[0, 1], [2, 3]], task="tokens", test=0.0)
    with pytest.raises(ValueError, match="must hold one label a row or float targets, got task 'tokens'"):
        oppose(tokens, rate=1)
    with pytest.raises(ValueError, match="federation must have at least 2 clients, got 1"):
        oppose(federation_of(clients=1), rate=1)

"""Forgetting, backward transfer and adaptation lag: by hand, by their definitions, and from a run."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.metrics import temporal
from fedjax_het.phases import season, switch

SEASONS = temporal.visits(season(3, 2), 12)  # A A A B B B A A A B B B
AT = np.arange(13)
# one client: learns A, loses it, regains it; B likewise, but better the second time
CURVE = [0.1, 0.5, 0.7, 0.8, 0.2, 0.4, 0.6, 0.5, 0.7, 0.9, 0.5, 0.65, 0.75]
VALUES = np.array(CURVE)[:, None]


def test_visits_are_stretches_of_one_phase():
    np.testing.assert_array_equal(SEASONS.phase, [0, 1, 0, 1])
    np.testing.assert_array_equal(SEASONS.begin, [0, 3, 6, 9])
    np.testing.assert_array_equal(SEASONS.end, [3, 6, 9, 12])
    assert SEASONS.phases == 2
    cut = temporal.visits(switch([4, 4, 9]), 7)
    np.testing.assert_array_equal(cut.phase, [0, 2])
    np.testing.assert_array_equal(cut.end, [4, 7])
    listed = temporal.visits([0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 5, 5], 12)
    np.testing.assert_array_equal(listed.begin, SEASONS.begin)
    still = temporal.visits(lambda round_: jnp.zeros((), jnp.int32), 5)
    np.testing.assert_array_equal(still.phase, [0])


def test_phases_past_the_last_repeat_it():
    told = temporal.visits(jax.tree_util.Partial(lambda round_: round_ // 2), 8, phases=2)
    np.testing.assert_array_equal(told.phase, [0, 1])
    np.testing.assert_array_equal(told.end, [2, 8])


def test_what_a_run_tells_of_the_matrix():
    nan = np.nan
    matrix = temporal.scores(VALUES, AT, SEASONS)[..., 0]
    np.testing.assert_allclose(matrix, [[0.8, 0.2], [0.5, 0.6], [0.9, 0.5], [nan, 0.75]])
    rare = temporal.scores(VALUES[[0, 4, 8]], [0, 4, 8], SEASONS)[..., 0]
    np.testing.assert_allclose(rare, [[nan, 0.2], [0.7, 0.2], [0.7, nan], [nan, nan]])


def test_forgetting_shows_where_a_phase_comes_again():
    nan = np.nan
    lost = temporal.forgetting(temporal.scores(VALUES, AT, SEASONS), SEASONS)[..., 0]
    np.testing.assert_allclose(lost, [[nan, nan], [0.8 - 0.5, nan], [nan, 0.6 - 0.5], [nan, nan]])
    moved = temporal.backward_transfer(temporal.scores(VALUES, AT, SEASONS), SEASONS)[..., 0]
    np.testing.assert_allclose(moved, [[nan, nan], [0.5 - 0.8, nan], [nan, 0.5 - 0.6], [nan, nan]])


def papers_forgetting(a):
    """F of Chaudhry et al. after the last of T tasks: mean over j of max over l < T of a[l, j] - a[T, j]."""
    last = len(a) - 1
    return sum(max(a[l][j] for l in range(last)) - a[last][j] for j in range(last)) / last


def papers_transfer(a):
    """BWT of Lopez-Paz and Ranzato: mean over i < T of R[T, i] - R[i, i]."""
    last = len(a) - 1
    return sum(a[last][i] - a[i][i] for i in range(last)) / last


@pytest.mark.parametrize("low_is_good", [False, True])
def test_in_a_sequence_of_tasks_both_are_the_papers(low_is_good):
    told = temporal.visits(switch([2, 4, 6]), 8)
    matrix = np.random.default_rng(0).random((4, 4, 3))
    sign = -1 if low_is_good else 1
    lost = temporal.forgetting(sign * matrix, told, low_is_good=low_is_good)
    moved = temporal.backward_transfer(sign * matrix, told, low_is_good=low_is_good)
    assert np.isnan(lost[:, 3]).all() and np.isnan(moved[-1, 3]).all(), "the last task cannot be forgotten"
    for k in range(3):
        np.testing.assert_allclose(lost[-1, :3, k].mean(), papers_forgetting(matrix[..., k]))
        np.testing.assert_allclose(moved[-1, :3, k].mean(), papers_transfer(matrix[..., k]))


def test_the_best_earlier_score_counts_not_the_last():
    """Transfer compares with when a phase was learned, forgetting with the best that was ever known of it."""
    told = temporal.visits([0, 1, 2], 3)
    matrix = np.array([[0.5, 0.1, 0.1], [0.9, 0.6, 0.1], [0.4, 0.6, 0.8]])[..., None]
    np.testing.assert_allclose(temporal.forgetting(matrix, told)[2, 0, 0], 0.5)
    np.testing.assert_allclose(temporal.backward_transfer(matrix, told)[2, 0, 0], -0.1)
    np.testing.assert_allclose(temporal.backward_transfer(matrix, told)[1, 0, 0], 0.4)


def test_transfer_is_measured_from_the_latest_visit():
    told = temporal.visits([0, 1, 0, 1], 4)
    matrix = np.array([[0.5, 0.1], [0.3, 0.6], [0.9, 0.4], [0.8, 0.7]])[..., None]
    nan = np.nan
    np.testing.assert_allclose(
        temporal.backward_transfer(matrix, told)[..., 0], [[nan, nan], [-0.2, nan], [nan, -0.2], [-0.1, nan]]
    )


def test_lag_by_hand():
    lag = functools.partial(temporal.adaptation_lag, VALUES, AT, SEASONS)
    # from 0.8 into B at 0.2: never; from 0.6 into A at 0.5: 0.595 at the second; from 0.9 into B at 0.5: never
    np.testing.assert_allclose(lag()[:, 0], [np.nan, np.inf, 2, np.inf])
    # half way: 0.5 after three rounds, 0.55 after two, 0.7 after three
    np.testing.assert_allclose(lag(share=0.5)[:, 0], [np.nan, 3, 2, 3])
    # towards the visit's own end, the untrained start included
    np.testing.assert_allclose(lag(reference="end")[:, 0], [3, 3, 3, 3])
    np.testing.assert_allclose(lag(reference="end", share=0.45)[:, 0], [1, 2, 2, 2])


def test_a_change_that_costs_nothing_has_no_lag():
    told = temporal.visits([0, 0, 1, 1], 4)
    curve = np.array([[0.1], [0.4], [0.5], [0.5], [0.3]])
    np.testing.assert_array_equal(temporal.adaptation_lag(curve, np.arange(5), told)[:, 0], [np.nan, 0])


def test_a_share_of_all_is_reached_exactly():
    told = temporal.visits([0, 1, 1], 3)
    curve = np.array([[0.1 + 0.2], [1e-9], [0.1 + 0.2]])
    assert temporal.adaptation_lag(curve, [1, 2, 3], told, share=1.0)[1, 0] == 2


def test_the_unit_of_a_metric_does_not_matter():
    """A loss in other units, falling: the same lags, the same signs, forgetting scaled."""
    turned = 5 - 3 * VALUES
    for share in (0.3, 0.5, 0.95):
        np.testing.assert_array_equal(
            temporal.adaptation_lag(turned, AT, SEASONS, share=share, low_is_good=True),
            temporal.adaptation_lag(VALUES, AT, SEASONS, share=share),
        )
    for measure in (temporal.forgetting, temporal.backward_transfer):
        np.testing.assert_allclose(
            measure(temporal.scores(turned, AT, SEASONS), SEASONS, low_is_good=True),
            3 * measure(temporal.scores(VALUES, AT, SEASONS), SEASONS),
        )


def test_a_model_that_broke_is_not_called_adapted():
    told = temporal.visits([0, 1, 1, 0], 4)
    loss = np.array([[1.0], [np.inf], [2.0], [np.inf]])
    lag = temporal.adaptation_lag(loss, [1, 2, 3, 4], told, low_is_good=True)
    np.testing.assert_array_equal(lag[:, 0], [np.nan, np.inf, np.inf])
    lost = temporal.forgetting(temporal.scores(loss, [1, 2, 3, 4], told), told, low_is_good=True)
    assert lost[1, 0, 0] == np.inf


def test_leading_axes_and_clients_without_rows():
    rng = np.random.default_rng(0)
    values = rng.random((2, 13, 5))
    values[..., 3] = np.nan
    for measure in (temporal.scores, temporal.adaptation_lag):
        both = measure(values, AT, SEASONS)
        assert np.isnan(both[..., 3]).all()
        for seed, client in np.ndindex(2, 5):
            np.testing.assert_array_equal(
                both[seed, ..., client], measure(values[seed, :, [client]].T, AT, SEASONS)[..., 0]
            )


def test_by_phase_is_the_mean_of_what_is_known():
    values = np.stack([np.array(CURVE), 0.5 * np.array(CURVE), np.full(13, np.nan)], axis=1)
    told = temporal.by_phase(values, AT, SEASONS)
    np.testing.assert_allclose(told["forgetting"], [0.75 * 0.3, 0.75 * 0.1])
    np.testing.assert_allclose(told["backward transfer"], [-0.75 * 0.3, -0.75 * 0.1])
    np.testing.assert_allclose(told["adaptation lag"], [2, np.inf])
    np.testing.assert_allclose(told["recovered"], [1, 0])
    half = temporal.by_phase(np.stack([values, values]), AT, SEASONS, share=0.5)
    np.testing.assert_allclose(half["adaptation lag"], [[2, 3], [2, 3]])
    nobody = temporal.by_phase(np.full((13, 2), np.nan), AT, SEASONS)
    assert all(np.isnan(each).all() and each.shape == (2,) for each in nobody.values())


def test_medians_are_numpys():
    rng = np.random.default_rng(1)
    values = rng.random((13, 6))
    lag = temporal.adaptation_lag(values, AT, SEASONS, share=0.2)
    told = temporal.by_phase(values, AT, SEASONS, share=0.2)["adaptation lag"]
    np.testing.assert_allclose(told, [np.median(lag[2]), np.median(lag[[1, 3]])])


def test_a_phase_never_left_is_never_forgotten():
    told = temporal.visits(np.zeros(12, int), 12)
    summary = temporal.by_phase(VALUES, AT, told)
    assert all(np.isnan(each).all() for each in summary.values())


def relabelled_seasons():
    """Clients whose two labels change names every four rounds, and back."""
    x = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    lists = np.split(np.arange(120), 4)
    source = fh.from_index_lists(fh.pool(x, y, num_classes=2), None, lists, test=0.2)  # pyright: ignore
    change = functools.partial(fh.heterogeneity.concept.permute, clusters=[1] * 4, moved=2)
    return fh.heterogeneity.temporal.recurring(source, changes=[change], length=4)


def test_a_run_on_seasons_forgets_and_the_exact_matrix_agrees():
    """The run's own scores, and the same states scored in both phases: what both know is the same number."""
    source = relabelled_seasons()
    problem = fh.models.softmax(source.pool)
    algorithm = fh.algorithms.fedavg(problem, fh.local.sgd(0.5, epochs=2, batch_size=None))
    key = jax.random.key(0)
    told = temporal.visits(source.phase, 12, phases=source.spec.phases)
    in_phase = [dataclasses.replace(source, schedule=switch([first])) for first in (99, 0)]
    evaluate, values, at, exact = jax.jit(fh.evaluate), [], [], []
    state, history = fh.simulate(algorithm, source, key=key, rounds=4, every=1)
    for _ in told.phase:
        values.append(history["shared/accuracy"])
        at.append(history["evaluated_at"])
        exact.append([evaluate(algorithm, state, each).shared["accuracy"] for each in in_phase])
        state, history = fh.simulate(algorithm, source, state=state, rounds=4, every=1)
    at, first = np.unique(np.concatenate(at), return_index=True)
    seen, matrix = temporal.scores(np.concatenate(values)[first], at, told), np.asarray(exact)
    for visit, phase in enumerate(told.phase):
        np.testing.assert_array_equal(seen[visit, phase], matrix[visit, phase])
    lost, truly = temporal.forgetting(seen, told), temporal.forgetting(matrix, told)
    assert np.nanmean(truly[1, 0]) > 0.5, "labels were exchanged: all was forgotten"
    assert np.nanmean(lost[1, 0]) <= np.nanmean(truly[1, 0]), "after a round back there less seems forgotten"


def test_bad_input_is_named():
    with pytest.raises(TypeError, match="schedule must give whole numbers"):
        temporal.visits("seasons", 3)
    with pytest.raises(ValueError, match="schedule must give the phase of 3 rounds"):
        temporal.visits([0, 1], 3)
    with pytest.raises(ValueError, match="phases >= 0"):
        temporal.visits([0, -1, 0], 3)
    with pytest.raises(ValueError, match="rounds must be >= 1"):
        temporal.visits([0], 0)
    with pytest.raises(ValueError, match="with the E of at"):
        temporal.scores(VALUES, AT[:-1], SEASONS)
    with pytest.raises(ValueError, match="at must be ascending"):
        temporal.scores(VALUES, AT[::-1], SEASONS)
    with pytest.raises(ValueError, match=r"at must lie in 0\.\.12"):
        temporal.scores(VALUES, AT + 1, SEASONS)
    with pytest.raises(ValueError, match="matrix must have shape"):
        temporal.forgetting(VALUES, SEASONS)
    with pytest.raises(ValueError, match="share must be"):
        temporal.adaptation_lag(VALUES, AT, SEASONS, share=1.5)
    with pytest.raises(ValueError, match="reference must be one of"):
        temporal.adaptation_lag(VALUES, AT, SEASONS, reference="begin")

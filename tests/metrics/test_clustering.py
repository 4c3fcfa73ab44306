"""Clusters and mixtures: against scikit-learn, by hand, by trying every permutation, and their bounds."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix

from fedjax_het.metrics import clustering

TRUTH = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])

pairs = st.integers(1, 40).flatmap(
    lambda many: st.tuples(
        *[st.lists(st.integers(0, 5), min_size=many, max_size=many).map(np.array) for _ in range(2)]
    )
)
seeds = st.integers(0, 2**31 - 1)


@given(both=pairs)
def test_against_scikit_learn(both):
    found, truth = both
    table = contingency_matrix(truth, found).T
    np.testing.assert_array_equal(clustering.contingency(found, truth), table)
    np.testing.assert_allclose(clustering.purity(found, truth), table.max(1).sum() / len(truth))
    expected = adjusted_rand_score(truth, found)
    np.testing.assert_allclose(clustering.adjusted_rand(found, truth), expected, atol=1e-12)


@given(both=pairs, seed=seeds)
def test_numbers_of_clusters_and_the_order_of_clients_do_not_matter(both, seed):
    found, truth = both
    rng = np.random.default_rng(seed)
    renamed, order = rng.permutation(50)[:6] * 3, rng.permutation(len(found))
    for measure in (clustering.purity, clustering.adjusted_rand, clustering.coverage):
        np.testing.assert_allclose(
            measure(renamed[found][order], rng.permutation(6)[truth][order]), measure(found, truth), rtol=1e-12
        )


@given(both=pairs)
def test_bounds(both):
    found, truth = both
    assert len(np.unique(found)) and 0 < clustering.coverage(found, truth) <= 1
    largest = np.bincount(truth).max() / len(truth)
    assert largest - 1e-12 <= clustering.purity(found, truth) <= 1
    assert clustering.adjusted_rand(found, truth) <= 1
    for measure in (clustering.purity, clustering.adjusted_rand, clustering.coverage):
        assert measure(truth, truth) == 1


def test_all_clients_in_one_cluster_is_what_chance_finds():
    """A rule that opens no second cluster puts everybody in cluster 0: pure to a third, and no agreement."""
    everyone = np.zeros(9, int)
    np.testing.assert_allclose(clustering.purity(everyone, TRUTH), 1 / 3)
    assert clustering.adjusted_rand(everyone, TRUTH) == 0
    np.testing.assert_allclose(clustering.coverage(everyone, TRUTH), 1 / 3)


def test_clusters_of_one_client_are_pure_but_agree_with_nothing():
    assert clustering.purity(np.arange(9), TRUTH) == 1
    assert clustering.adjusted_rand(np.arange(9), TRUTH) == 0
    assert clustering.coverage(np.arange(9), TRUTH) == 1


def test_two_latent_clusters_in_one_are_not_covered_although_every_cluster_is_near_one():
    """Two of three models went to the same latent cluster: both are pure, one latent cluster has none."""
    found = np.array([0, 0, 1, 2, 2, 2, 2, 2, 2])
    np.testing.assert_allclose(clustering.purity(found, TRUTH), 6 / 9)
    np.testing.assert_allclose(clustering.coverage(found, TRUTH), 2 / 3)


def test_a_tie_stands_for_what_covers_most():
    # cluster 0 is half latent 0, half latent 1; cluster 1 is latent 0 alone, so that cluster 0 stands for 1
    found, truth = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0, 0])
    assert clustering.coverage(found, truth) == 1
    assert clustering.coverage(found[:4], truth[:4]) == 0.5, "one cluster does not stand for two"


@pytest.mark.parametrize("measure", [clustering.purity, clustering.adjusted_rand, clustering.coverage])
def test_leading_axes_are_each_by_itself_and_nobody_is_nan(measure):
    rng = np.random.default_rng(0)
    found = rng.integers(-1, 4, (2, 5, 9))
    held = rng.random((2, 5, 9)) < 0.7
    held[1, 3] = False
    several = measure(found, TRUTH, held)
    assert several.shape == (2, 5) and np.isnan(several[1, 3])
    for place in np.ndindex(2, 5):
        counts = held[place] & (found[place] >= 0)
        if counts.any():
            np.testing.assert_allclose(several[place], measure(found[place][counts], TRUTH[counts]))
    assert np.isnan(measure(np.full(9, -1), TRUTH)), "no client has chosen yet"


def test_clients_in_no_cluster_do_not_count():
    found = np.array([5, 5, 5, 7, 7, -1, -1, -1, -1])
    assert clustering.adjusted_rand(found, TRUTH) == 1
    np.testing.assert_array_equal(clustering.contingency(found, TRUTH), [[3, 0], [0, 2]])


def by_trying(pi, star):
    """The least mean |pi - pi*|_1 over all permutations."""
    most = max(pi.shape[1], star.shape[1])
    pi, star = (np.pad(x, ((0, 0), (0, most - x.shape[1]))) for x in (pi, star))
    return min(np.abs(pi[:, list(p)] - star).sum(1).mean() for p in itertools.permutations(range(most)))


@given(seed=seeds, mine=st.integers(1, 5), theirs=st.integers(1, 5))
def test_the_best_permutation_of_components_is_found(seed, mine, theirs):
    rng = np.random.default_rng(seed)
    pi, star = (rng.dirichlet(np.full(m, 0.5), 7) for m in (mine, theirs))
    distance = clustering.mixture_distance(pi, star)
    np.testing.assert_allclose(distance.mean(), by_trying(pi, star), atol=1e-12)
    assert distance.max() <= 2 + 1e-12


def test_renamed_components_are_the_same_mixture():
    star = np.random.default_rng(0).dirichlet(np.ones(4), 30)
    order = np.array([2, 0, 3, 1])
    pi = star[:, order]
    place = clustering.match_components(pi, star)
    np.testing.assert_array_equal(order[place], np.arange(4))
    np.testing.assert_allclose(clustering.mixture_distance(pi, star), 0)
    assert np.abs(pi - star).sum(1).mean() > 0.5, "without matching they look far apart"


def test_a_component_that_is_missing_costs_its_weight():
    star = np.array([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2]])
    np.testing.assert_allclose(clustering.mixture_distance(star[:, :2], star), 0.2)
    assert clustering.match_components(star[:, :2], star)[2] == 2, "none stands for it"


def test_one_permutation_serves_all_clients():
    """Matching client by client would call mixtures equal that are not: [0.9, 0.1] against [0.1, 0.9]."""
    pi, star = np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([[0.9, 0.1], [0.1, 0.9]])
    np.testing.assert_allclose(clustering.mixture_distance(pi, star).sum(), 1.6)


def test_who_does_not_count_has_no_distance_and_no_say():
    star = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    pi = np.array([[0.0, 1.0], [1.0, 0.0], [np.nan, np.nan]])
    distance = clustering.mixture_distance(pi, star, np.array([True, True, False]))
    np.testing.assert_array_equal(distance, [0, 0, np.nan])


def test_models_near_one_truth_leave_the_other_uncovered():
    """The error of the paper is small although both models found the same cluster."""
    truth = np.array([[0.0, 0.0], [10.0, 0.0]])
    same, apart = np.array([[0.0, 0.3], [0.4, 0.0]]), np.array([[0.0, 0.3], [10.4, 0.0]])
    np.testing.assert_allclose(clustering.centre_error(same, truth), 0.35)
    np.testing.assert_allclose(clustering.centre_error(apart, truth), 0.35)
    assert clustering.centre_coverage(same, truth) == 0.5
    assert clustering.centre_coverage(apart, truth) == 1


def test_bad_input_is_named():
    with pytest.raises(TypeError, match="assigned must hold whole numbers"):
        clustering.purity(np.zeros(3), np.zeros(3, int))
    with pytest.raises(ValueError, match="truth must have one entry a client"):
        clustering.adjusted_rand(np.zeros(3, int), np.zeros(4, int))
    with pytest.raises(ValueError, match=r"assigned must have shape \[\.\.\., N\]"):
        clustering.coverage(np.int64(3), np.zeros(1, int))
    with pytest.raises(ValueError, match="truth must have 3 rows"):
        clustering.mixture_distance(np.ones((3, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"weights must have shape \[N, M\]"):
        clustering.match_components(np.ones(3), np.ones((3, 2)))
    with pytest.raises(ValueError, match="must be finite"):
        clustering.mixture_distance(np.full((3, 2), np.nan), np.ones((3, 2)))
    with pytest.raises(ValueError, match="held must have shape"):
        clustering.mixture_distance(np.ones((3, 2)), np.ones((3, 2)), [True])
    with pytest.raises(TypeError, match="weights must hold numbers"):
        clustering.mixture_distance([["a"]], np.ones((1, 1)))
    with pytest.raises(ValueError, match="flatten each model"):
        clustering.centre_error(np.ones((2, 3, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="truth must have d = 3 parameters"):
        clustering.centre_coverage(np.ones((2, 3)), np.ones((2, 2)))

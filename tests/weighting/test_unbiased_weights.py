"""Unbiased weights: expectations over every cohort there is, not over some that were drawn."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weighting.weighed import call, cohort_of, weigh

import fedjax_het as fh
from fedjax_het.engine.rounds import draw
from fedjax_het.weighting import per_draw, proportional, unbiased, uniform

ROWS = np.array([7, 0, 1, 20, 4, 12])
"""Six clients, one of them empty."""

N = len(ROWS)
SHARE = ROWS / ROWS.sum()


@pytest.fixture(autouse=True)
def double(x64):
    """Expectations are compared to 1e-12."""


def of_slots(weighting, ids, *, spare=0, multiplicity=None):
    """omega by client, [N], of a cohort with some slots that hold nobody."""
    ids = list(ids)
    slots = ids + [N] * spare
    rows = np.append(ROWS, 99)[slots]
    times = None if multiplicity is None else list(multiplicity) + [1] * spare
    got = weigh(weighting, rows, ids=slots, population=N, rows=ROWS.sum(), multiplicity=times)
    assert (got[len(ids) :] == 0).all()
    whole = np.zeros(N)
    np.add.at(whole, ids, got[: len(ids)])
    return whole


def cohorts(size):
    return list(itertools.combinations(range(N), size))


@pytest.mark.parametrize("size", [1, 2, 4, 6])
@pytest.mark.parametrize("spare", [0, 2])
def test_scheme_two_has_the_step_of_all_clients_as_its_mean(size, spare):
    mean = np.mean([of_slots(unbiased(), ids, spare=spare) for ids in cohorts(size)], axis=0)
    np.testing.assert_allclose(mean, SHARE, atol=1e-12)


def test_ratios_and_counts_of_those_present_are_biased():
    """What scheme II is not: n_k over the cohort's rows, or m without the empty client."""
    ratio = np.mean([of_slots(proportional(), ids) for ids in cohorts(2)], axis=0)
    assert np.abs(ratio - SHARE).max() > 0.01
    present = [N / max((ROWS[list(ids)] > 0).sum(), 1) * SHARE * np.isin(range(N), ids) for ids in cohorts(2)]
    assert np.abs(np.mean(present, axis=0) - SHARE).max() > 0.01


def test_scheme_two_with_everybody_is_proportional():
    np.testing.assert_allclose(of_slots(unbiased(), range(N)), SHARE, atol=1e-15)


def test_the_number_of_clients_is_not_a_constant():
    """With N fixed to 100, as in public code, six of six clients would take a step 100/6 as long."""
    assert of_slots(unbiased(), range(N)).sum() == pytest.approx(1)


@pytest.mark.parametrize("chance", [0.3, 1.0, [0.1, 0.9, 0.5, 0.2, 1.0, 0.6]])
@pytest.mark.parametrize("weights", [None, [0.1, 0.2, 0.3, 0.4, 0.0, 0.0]])
def test_cohorts_of_coins_have_the_step_of_all_clients_as_their_mean(chance, weights):
    mean = np.zeros(N)
    probability = np.broadcast_to(chance, N)
    for heads in itertools.product([False, True], repeat=N):
        likely = np.prod(np.where(heads, probability, 1 - probability))
        ids = np.flatnonzero(heads)
        if likely > 0:
            mean += likely * of_slots(unbiased(probability=chance, weights=weights), ids, spare=N - len(ids))
    expected = SHARE if weights is None else np.where(ROWS > 0, weights, 0)
    np.testing.assert_allclose(mean, expected, atol=1e-12)


def test_one_probability_of_m_out_of_n_is_scheme_two():
    for ids in cohorts(2):
        np.testing.assert_allclose(
            of_slots(unbiased(probability=2 / N), ids), of_slots(unbiased(), ids), atol=1e-12
        )


def drawn(size):
    """(probability, ids, multiplicities) of every outcome of `size` draws with probabilities SHARE."""
    for ids in itertools.combinations_with_replacement(np.flatnonzero(ROWS), size):
        who, times = np.unique(ids, return_counts=True)
        ways = math.factorial(size) / np.prod([math.factorial(t) for t in times])
        yield ways * np.prod(SHARE[who] ** times), who, times


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("draws", [False, True])
def test_scheme_one_has_the_step_of_all_clients_as_its_mean(size, draws):
    weighting = per_draw(draws=size) if draws else per_draw()
    outcomes = [
        (p, of_slots(weighting, who, multiplicity=times, spare=size - len(who)))
        for p, who, times in drawn(size)
    ]
    assert sum(p for p, _ in outcomes) == pytest.approx(1)
    np.testing.assert_allclose(sum(p * omega for p, omega in outcomes), SHARE, atol=1e-12)


def test_drawing_by_size_without_replacement_and_averaging_is_biased():
    """Two in turn, by size among those left, then a plain mean: neither scheme, and not unbiased."""
    mean = np.zeros(N)
    for i, j in itertools.permutations(np.flatnonzero(ROWS), 2):
        likely = SHARE[i] * SHARE[j] / (1 - SHARE[i])
        mean += likely * of_slots(uniform(), sorted((i, j)))
    assert np.abs(mean - SHARE).max() > 0.05


def test_scheme_one_knows_nothing_of_sizes_and_is_uniform_when_everybody_is_there():
    times = (2, 1, 1)
    got = of_slots(per_draw(), (0, 3, 5), multiplicity=times)
    np.testing.assert_allclose(got, [0.5, 0, 0, 0.25, 0, 0.25], atol=1e-15)
    np.testing.assert_allclose(got, of_slots(uniform(), (0, 3, 5), multiplicity=times), atol=1e-15)


def test_draws_of_absent_clients_are_draws():
    """The empty client 1 was drawn: what it misses is missing, where `uniform` lets the others stand for it."""
    np.testing.assert_allclose(
        of_slots(per_draw(), (0, 1, 3), multiplicity=(1, 2, 1), spare=2), [0.25, 0, 0, 0.25, 0, 0]
    )
    np.testing.assert_allclose(
        of_slots(uniform(), (0, 1, 3), multiplicity=(1, 2, 1), spare=2), [0.5, 0, 0, 0.5, 0, 0]
    )
    np.testing.assert_allclose(of_slots(per_draw(draws=5), (0, 3), spare=3), [0.2, 0, 0, 0.2, 0, 0])


def test_clients_without_work_were_drawn():
    sizes, cohort = cohort_of(ROWS[:3], population=N, rows=ROWS.sum(), present=(False, False, True))
    np.testing.assert_allclose(unbiased()(sizes, cohort), [0, 0, N / 3 * SHARE[2]])


@pytest.mark.parametrize("weighting", [unbiased, per_draw, lambda: unbiased(probability=0.5)])
def test_a_cohort_of_nobody_weighs_nothing(weighting):
    assert (of_slots(weighting(), (), spare=3) == 0).all()


def test_nothing_of_an_absent_slot_is_read():
    for weighting in (unbiased(), unbiased(probability=0.5), per_draw()):
        seen = [
            weigh(weighting, (7, junk), present=(True, False), population=6, rows=50) for junk in (1, np.nan)
        ]
        np.testing.assert_array_equal(*seen)


def test_the_engine_hands_over_what_the_expectation_needs():
    """N, n and m of the weights come from the round: over all pairs of clients the mean is p."""
    rows = np.random.default_rng(0).permutation(ROWS.sum())
    pool = fh.pool(rows[:, None].astype(float), rows % 2, num_classes=2)
    federation = fh.from_index_lists(pool, None, np.split(rows, np.cumsum(ROWS)[:-1]), test=0.0)
    algorithm = fh.algorithms.fedavg(fh.models.softmax(pool), fh.local.sgd(0.1, batch_size=None))
    sampler = fh.sampling.scripted(cohorts(2))
    round_fn = fh.make_round(sampler, fh.executors.vmapped(), weighting=unbiased())
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    whole = np.zeros(N)
    one = jax.jit(lambda t: draw(round_fn, algorithm, dataclasses.replace(state, round=t), federation)[0])
    for t in range(len(cohorts(2))):
        cohort = one(jnp.asarray(t, jnp.int32))
        np.add.at(whole, np.asarray(cohort.id), np.asarray(cohort.weight) / len(cohorts(2)))
    np.testing.assert_allclose(whole, SHARE, atol=1e-12)


def test_numbers_are_leaves():
    of_slots(unbiased(probability=0.5), (0, 2))
    of_slots(per_draw(draws=3), (0, 2))
    before = call._cache_size()
    of_slots(unbiased(probability=0.25), (0, 2))
    of_slots(per_draw(draws=4), (0, 2))
    assert call._cache_size() == before
    sizes, cohort = cohort_of(ROWS)
    many = jax.vmap(lambda p: unbiased(probability=p)(sizes, cohort))(jnp.asarray([0.5, 1.0]))
    np.testing.assert_allclose(many, [2 * SHARE, SHARE], atol=1e-12)
    gradient = jax.jacobian(lambda p: unbiased(probability=p)(sizes, cohort))(jnp.full(N, 0.5))
    np.testing.assert_allclose(gradient, np.diag(-SHARE / 0.25), atol=1e-12)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: unbiased(probability=0),
            ValueError,
            "probability must be > 0, got 0: a client that is never drawn",
        ),
        (lambda: unbiased(probability=[0.5, 1.5]), ValueError, "probability must be <= 1"),
        (lambda: unbiased(probability=[[0.5]]), ValueError, r"probability must be one number or one a client"),
        (lambda: unbiased(probability="half"), TypeError, "probability must be a number"),
        (
            lambda: unbiased(weights=[-0.5, 1.5]),
            ValueError,
            "weights must be >= 0, got .* they are probabilities",
        ),
        (
            lambda: unbiased(weights=[1, 2, 3]),
            ValueError,
            "weights must be probabilities that sum to 1, .* sum 6: divide",
        ),
        (lambda: unbiased(weights=[0.5, 0.4]), ValueError, "with sum 0.9: divide them by their sum"),
        (
            lambda: unbiased(weights=1.0),
            ValueError,
            "weights must be probabilities that sum to 1, one a client",
        ),
        (lambda: unbiased(weights="p"), TypeError, "weights must be a number"),
        (lambda: per_draw(draws=0), ValueError, "draws must be >= 1, got 0: None counts them"),
        (lambda: per_draw(draws="3"), TypeError, "draws must be a number"),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("options", [{"probability": [0.5, 0.5]}, {"weights": [0.5, 0.5]}])
def test_lists_for_another_number_of_clients_are_refused(options):
    (name,) = options
    with pytest.raises(
        ValueError, match=rf"{name} must be one number for each of the 6 clients, got shape \(2,\)"
    ):
        of_slots(unbiased(**options), (0, 2))

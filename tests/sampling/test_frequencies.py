"""How often samplers draw whom, against every outcome enumerated."""

import itertools

import jax
import numpy as np
import pytest
from drawing import LEVEL, MANY, compiled, counts, expect_law, many
from laws import as_counts, at_most, by_coins, one_by_one, thinned, with_replacement, without_replacement
from scipy import stats

from fedjax_het import sampling
from fedjax_het.engine.sampling.race import coins

SIZES = (4, 0, 3, 8, 1)
SHARES = np.array(SIZES) / sum(SIZES)
OWN = np.array([0.05, 0.3, 0.0, 0.4, 0.25])
CHANCES = np.array([0.1, 0.9, 0.5, 0.3, 0.7])
FIVE = [1 / 5] * 5

CASES = {
    "uniform": (lambda: sampling.uniform(3), lambda: without_replacement(5, 3)),
    "uniform, repeats": (lambda: sampling.uniform(3, replacement=True), lambda: with_replacement(FIVE, 3)),
    "scheme I": (lambda: sampling.proportional(3), lambda: with_replacement(SHARES, 3)),
    "given": (lambda: sampling.given(3, OWN), lambda: with_replacement(OWN, 3)),
    "proportional, no repeats": (
        lambda: sampling.proportional(2, replacement=False),
        lambda: one_by_one(SHARES, 2),
    ),
    "given, no repeats": (lambda: sampling.given(3, OWN, replacement=False), lambda: one_by_one(OWN, 3)),
    "bernoulli": (lambda: sampling.bernoulli(0.4, slots=5), lambda: by_coins([0.4] * 5)),
    "bernoulli by client": (lambda: sampling.bernoulli(CHANCES, slots=5), lambda: by_coins(CHANCES)),
    "bernoulli, too few slots": (
        lambda: sampling.bernoulli(CHANCES, slots=3),
        lambda: at_most(by_coins(CHANCES), 3),
    ),
    "intermittent": (lambda: sampling.intermittent(2, CHANCES), lambda: at_most(by_coins(CHANCES), 2)),
    "more data first": (
        lambda: sampling.by_size(2),
        lambda: at_most(by_coins(np.array(SIZES) / 8), 2),
    ),
    "less data first": (
        lambda: sampling.by_size(2, exponent=-1.0),
        lambda: at_most(by_coins([1 / 4, 0, 1 / 3, 1 / 8, 1]), 2),
    ),
    "markov at first": (
        lambda: sampling.markov(2, leave=0.3, join=CHANCES),
        lambda: at_most(by_coins(CHANCES / (CHANCES + 0.3)), 2),
    ),
    "dropout": (
        lambda: sampling.dropout(sampling.uniform(3), 0.3),
        lambda: thinned(without_replacement(5, 3), 0.3),
    ),
    "dropout twice": (
        lambda: sampling.dropout(sampling.dropout(sampling.uniform(3), 0.3), 0.4),
        lambda: thinned(thinned(without_replacement(5, 3), 0.3), 0.4),
    ),
    "candidates": (lambda: sampling.power_of_choice(2, candidates=2), lambda: one_by_one(SHARES, 2)),
}


@pytest.mark.parametrize("name", CASES)
def test_draws_follow_the_law(name):
    sampler, law = CASES[name]
    expect_law(counts(many(sampler(), sizes=SIZES), 5), law())


@pytest.mark.parametrize("groups", [None, 2])
def test_shuffled_groups_are_uniform(groups):
    drawn = counts(many(sampling.cyclic(2, groups=groups), sizes=(1, 1, 1, 1)), 4)
    expect_law(drawn, without_replacement(4, 2))


def test_stragglers_are_a_uniform_subset_and_stop_at_any_epoch():
    inner, epochs = sampling.everyone(), 6
    drawn = many(sampling.stragglers(inner, 0.4, epochs=epochs), sizes=SIZES)
    late = drawn.work < 1
    expect_law(late.astype(int), without_replacement(5, 2))
    done = np.round(drawn.work[late] * epochs).astype(int)
    np.testing.assert_allclose(drawn.work[late] * epochs, done, atol=1e-5)
    expect_law(done[:, None], {(epoch,): 1 / (epochs - 1) for epoch in range(1, epochs)})


def test_the_worst_of_the_candidates():
    losses = np.array([0.5, 9.0, 0.3, 0.1, 0.2])  # the empty client 1 reported a loss once, and is no candidate
    law = {}
    for asked, chance in one_by_one(SHARES, 3).items():
        ids = sorted(np.flatnonzero(asked), key=lambda k: -losses[k])[:2]
        key = as_counts(ids, 5)
        law[key] = law.get(key, 0) + chance
    drawn = many(sampling.power_of_choice(2, candidates=3), sizes=SIZES, loss=losses.astype(np.float32))
    expect_law(counts(drawn, 5), law)


def test_each_draw_of_scheme_one_is_independent():
    """Inclusion, too: a client is in the cohort with 1 - (1 - p)^m."""
    times = counts(many(sampling.proportional(4), sizes=SIZES, seed=1), 5)
    chance = 1 - (1 - SHARES) ** 4
    found = (times > 0).sum(axis=0)
    for k in range(5):
        assert stats.binomtest(int(found[k]), MANY, chance[k]).pvalue > 1e-5
    np.testing.assert_array_equal(times[:, 1], 0)


def test_small_probabilities_survive_single_precision():
    """Twenty thousand clients, the last three times as likely as the first: nothing is lost in their sum."""
    clients = 20_000
    shares = np.linspace(0.5, 1.5, clients) / clients
    drawn = many(sampling.given(500, shares), sizes=(1,) * clients, draws=200)
    ids = np.repeat(drawn.id.ravel(), drawn.multiplicity.ravel().astype(int))
    assert len(ids) == 100_000
    ends = np.cumsum(shares)
    assert stats.kstest((ends - shares / 2)[ids], "uniform").pvalue > LEVEL
    times = np.bincount(ids, minlength=clients)
    assert stats.chisquare(times, shares * len(ids)).pvalue > LEVEL


def test_the_first_of_many_do_not_tie():
    """Random numbers of 23 bits tie at the front of a large race, and ties go to the lower client number."""
    clients = 300_000
    values = np.sort(np.asarray(coins(jax.random.key(0), clients)))
    assert (np.diff(values[:3000]) > 0).mean() > 0.999
    assert stats.kstest(values, "uniform").pvalue > LEVEL and 0 < values[0] < values[-1] < 1


def test_bernoulli_counts_whom_it_could_not_seat():
    few, enough = (
        compiled(sampling.bernoulli(0.5, slots=slots), jax.random.key(0), sizes=(1,) * 6, rounds=200)
        for slots in (3, 6)
    )
    came, seated = (int((np.asarray(draws.id) < 6).sum()) for draws, _ in (enough, few))
    assert int(few[1]) == came - seated > 0
    assert int(enough[1]) == 0


@pytest.mark.parametrize("clients", [1, 5, 100, 10_000])
@pytest.mark.parametrize("chance", [0.0, 1e-3, 0.1, 0.5, 1.0])
def test_recommended_slots_are_practically_never_too_few(clients, chance):
    slots = sampling.slots_for(chance, clients)
    assert 1 <= slots <= clients
    assert stats.binom.sf(slots, clients, chance) < 1e-8
    if clients == 10_000 and 0 < chance < 1:
        assert slots < clients * chance * 2 + 20  # and not far too many


def test_laws_are_laws():
    for _, law in CASES.values():
        assert abs(sum(law().values()) - 1) < 1e-12
    assert one_by_one([0.5, 0.3, 0.2], 2)[(1, 1, 0)] == pytest.approx(0.5 * 0.6 + 0.3 * 5 / 7)
    assert list(itertools.islice(with_replacement([0.5, 0.5], 2).values(), 3)) == [0.25, 0.5, 0.25]

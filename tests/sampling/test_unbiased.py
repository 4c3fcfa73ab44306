"""Sampling with its weights: the mean over every cohort that can be drawn, against full participation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from laws import by_coins, one_by_one, with_replacement, without_replacement

import fedjax_het as fh
from fedjax_het import sampling, weighting
from fedjax_het.engine.rounds import draw

SIZES = (4, 0, 3, 8, 1)
SHARES = np.array(SIZES) / sum(SIZES)
CHANCES = np.array([0.2, 0.9, 0.5, 0.3, 0.7])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Told:
    """The draw that it is told."""

    drawn: sampling.Draw

    def init(self, num_clients):
        return ()

    def draw(self, state, key, round_, sizes, last_loss):
        return self.drawn, state


def outcome(times):
    """A cohort in which client k was drawn times[k] times, in as many slots as there are clients."""
    ids = np.flatnonzero(times)
    spare = len(times) - len(ids)
    filled = np.concatenate([ids, np.full(spare, len(times))])
    often = np.concatenate([np.asarray(times, float)[ids], np.zeros(spare)])
    return sampling.Draw(
        jnp.asarray(filled, jnp.int32), jnp.asarray(often), jnp.ones((len(times),), jnp.result_type(float))
    )


@pytest.fixture
def lab(x64):
    """(algorithm, federation) in double precision."""
    rng = np.random.default_rng(0)
    pool = fh.pool(rng.normal(size=(16, 3)), rng.integers(0, 3, 16), num_classes=3)
    parts = np.split(rng.permutation(16), np.cumsum(SIZES)[:-1])
    federation = fh.from_index_lists(pool, None, parts, test=0.0)
    return fh.algorithms.fedavg(fh.models.softmax(pool), fh.local.sgd(0.3, batch_size=2, epochs=2)), federation


def in_rounds(lab, law, weights, of):
    """`of` (round, algorithm, state, federation) for every outcome of a law, [outcomes, ...]."""

    def one(drawn):
        round_fn = fh.make_round(Told(drawn), fh.executors.looped(), weighting=weights)
        state = fh.initial_state(lab[0], lab[1], key=jax.random.key(0), round_fn=round_fn)
        return of(round_fn, lab[0], state, lab[1])

    draws = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[outcome(times) for times in law])
    return np.asarray(jax.jit(jax.vmap(one))(draws))


def step(round_fn, algorithm, state, federation):
    """What a round does to the model, flat."""
    after, _ = round_fn(algorithm, state, federation)
    moved = jax.tree.map(jnp.subtract, after.server.params, state.server.params)
    return ravel_pytree(moved)[0]


def omega(round_fn, algorithm, state, federation):
    """The weight of each of the N clients, 0 for one not in the cohort."""
    cohort, _ = draw(round_fn, algorithm, state, federation)
    return jnp.zeros((len(SIZES),)).at[cohort.id].add(cohort.weight, mode="drop")


def mean(law, values):
    return np.array(list(law.values())) @ values


UNBIASED = {
    "scheme I": (lambda: with_replacement(SHARES, 3), lambda: weighting.per_draw()),
    "scheme I, normalised": (lambda: with_replacement(SHARES, 3), lambda: weighting.uniform()),
    "scheme II": (lambda: without_replacement(5, 2), lambda: weighting.unbiased()),
    "scheme II, repeats": (lambda: with_replacement([1 / 5] * 5, 2), lambda: weighting.unbiased()),
    "bernoulli": (lambda: by_coins([0.4] * 5), lambda: weighting.unbiased(probability=0.4)),
    "bernoulli by client": (lambda: by_coins(CHANCES), lambda: weighting.unbiased(probability=CHANCES)),
}


@pytest.mark.parametrize("name", UNBIASED)
def test_the_mean_weight_is_the_share(lab, name):
    law, weights = UNBIASED[name]
    weights = mean(law(), in_rounds(lab, law(), weights(), omega))
    np.testing.assert_allclose(weights, SHARES, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["scheme I", "scheme II"])
def test_the_mean_step_is_that_of_full_participation(lab, name):
    law, weights = UNBIASED[name]
    full = in_rounds(lab, [(1,) * 5], weighting.proportional(), step)[0]
    steps = in_rounds(lab, law(), weights(), step)
    assert np.abs(full).max() > 0.1 and np.abs(steps - full).max() > 0.1
    np.testing.assert_allclose(mean(law(), steps), full, rtol=0, atol=1e-12)


BIASED = {
    "a ratio of sums (R)": (lambda: without_replacement(5, 2), lambda: weighting.proportional()),
    "a ratio of sums, coins": (lambda: by_coins([0.4] * 5), lambda: weighting.proportional()),
    "by size without replacement, averaged": (lambda: one_by_one(SHARES, 2), lambda: weighting.uniform()),
    "by size, and weighted by size again": (
        lambda: with_replacement(SHARES, 3),
        lambda: weighting.proportional(),
    ),
    "unequal coins, taken for equal": (
        lambda: by_coins(CHANCES),
        lambda: weighting.unbiased(probability=CHANCES.mean()),
    ),
}


@pytest.mark.parametrize("name", BIASED)
def test_pairs_that_are_biased(lab, name):
    law, weights = BIASED[name]
    weights = mean(law(), in_rounds(lab, law(), weights(), omega))
    assert np.abs(weights - SHARES).max() > 0.01

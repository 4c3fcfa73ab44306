"""The keyed permutation: a bijection, uniform, and the same in both precisions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het import keys
from fedjax_het.permutation import permute, scramble

pytestmark = pytest.mark.smoke

whole = jax.jit(
    lambda size, seed, most: permute(jnp.arange(most, dtype=jnp.int32), size, seed), static_argnums=2
)
many = jax.jit(
    jax.vmap(lambda seed, size, most: permute(jnp.arange(most, dtype=jnp.int32), size, seed), (0, None, None)),
    static_argnums=2,
)


def seeds(count, first=0):
    return jax.vmap(keys.seed)(jax.random.split(jax.random.key(first), count))


def quantile(freedom):
    """The 99.9 % quantile of chi-square, by Wilson and Hilferty."""
    return freedom * (1 - 2 / (9 * freedom) + 3.0902 * (2 / (9 * freedom)) ** 0.5) ** 3


def chi_square(counts):
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum())


def test_bijection_of_many_sizes():
    for number, size in enumerate([*range(1, 40), 63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 1000, 4096]):
        seed = jnp.array([number, 7 * number + 1], jnp.uint32)
        place = np.asarray(whole(jnp.int32(size), seed, 4096))[:size]
        np.testing.assert_array_equal(np.sort(place), np.arange(size))


def test_bijection_of_a_large_size():
    size = 2**31 - 1
    near = jnp.concatenate([jnp.arange(2000), size - 1 - jnp.arange(2000)]).astype(jnp.int32)
    place = np.asarray(jax.jit(permute)(near, jnp.int32(size), jnp.array([1, 2], jnp.uint32)))
    assert place.min() >= 0 and place.max() < size
    assert len(np.unique(place)) == 4000
    assert abs(place.mean() / size - 0.5) < 0.05


def test_size_zero_is_harmless():
    assert int(whole(jnp.int32(0), jnp.array([1, 2], jnp.uint32), 1)[0]) == 0


@pytest.mark.parametrize("size", [4, 5])
def test_every_permutation_is_equally_likely(size):
    draws = 20000
    order = {p: i for i, p in enumerate(itertools.permutations(range(size)))}
    drawn = np.asarray(many(seeds(draws), jnp.int32(size), size))
    counts = np.bincount([order[tuple(row)] for row in drawn.tolist()], minlength=len(order))
    assert chi_square(counts) < quantile(len(order) - 1)


def test_every_place_is_equally_likely():
    size, draws = 50, 10000
    drawn = np.asarray(many(seeds(draws, 1), jnp.int32(size), size))
    table = np.array([np.bincount(drawn[:, i], minlength=size) for i in range(size)])
    assert chi_square(table) < quantile((size - 1) ** 2)
    for i in range(size):
        assert chi_square(table[i]) < 1.3 * quantile(size - 1), "the worst of 50"


def test_seeds_one_apart_are_unrelated():
    """Epochs and rounds use neighbouring words: fixed points of one order after the other are as by chance."""
    base = jnp.stack([jnp.arange(4000, dtype=jnp.uint32), jnp.full(4000, 9, jnp.uint32)], axis=1)
    for change in ([1, 0], [0, 1]):
        one = np.asarray(many(base, jnp.int32(10), 10))
        other = np.asarray(many(base + jnp.array([change], jnp.uint32), jnp.int32(10), 10))
        agree = float((one == other).mean())
        assert abs(agree - 0.1) < 5 * (0.1 * 0.9 / 40000) ** 0.5


def test_every_cohort_is_equally_likely():
    sampler, draws = fh.sampling.uniform(2), 20000
    sizes, losses = jnp.ones(5, jnp.int32), jnp.zeros(5)

    @jax.jit
    @jax.vmap
    def cohort(key):
        return sampler.draw((), key, jnp.int32(0), sizes, losses)[0].id

    drawn = np.asarray(cohort(jax.random.split(jax.random.key(6), draws)))
    assert (drawn[:, 0] < drawn[:, 1]).all()
    pairs = {pair: i for i, pair in enumerate(itertools.combinations(range(5), 2))}
    counts = np.bincount([pairs[tuple(row)] for row in drawn.tolist()], minlength=10)
    assert chi_square(counts) < quantile(9)


def test_cohorts_of_successive_rounds_are_uniform_too():
    sampler, run = fh.sampling.uniform(2), jax.random.key(3)
    sizes, losses = jnp.ones(5, jnp.int32), jnp.zeros(5)

    @jax.jit
    @jax.vmap
    def cohort(round_):
        key = keys.stream(keys.round_(run, round_), "cohort")
        return sampler.draw((), key, round_, sizes, losses)[0].id

    drawn = np.asarray(cohort(jnp.arange(20000, dtype=jnp.int32)))
    counts = np.bincount(drawn[:, 0] * 5 + drawn[:, 1], minlength=25)
    assert chi_square(counts[counts > 0]) < quantile(9) and (counts > 0).sum() == 10
    repeats = float((drawn[1:] == drawn[:-1]).all(axis=1).mean())
    assert abs(repeats - 0.1) < 0.01


def test_the_same_in_both_precisions():
    seed = np.array([3, 4], np.uint32)
    narrow = np.asarray(whole(jnp.int32(77), jnp.asarray(seed), 77))
    with jax.enable_x64(True):
        wide = whole(jnp.int32(77), jnp.asarray(seed), 77)
        assert wide.dtype == jnp.int32
        np.testing.assert_array_equal(wide, narrow)
        np.testing.assert_array_equal(whole(jnp.int64(77), jnp.asarray(seed), 77), narrow)
        assert scramble(jnp.uint32(5)).dtype == jnp.uint32


def test_scramble_is_invertible():
    words = np.concatenate([np.arange(2**16), 2**32 - 1 - np.arange(2**16)]).astype(np.uint32)
    assert len(np.unique(np.asarray(jax.jit(scramble)(jnp.asarray(words))))) == len(words)


def test_a_prefix_does_not_depend_on_how_much_is_asked_for():
    seed = jnp.array([5, 6], jnp.uint32)
    np.testing.assert_array_equal(whole(jnp.int32(50), seed, 50)[:7], whole(jnp.int32(50), seed, 7))

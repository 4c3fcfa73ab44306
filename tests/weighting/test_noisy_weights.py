"""Noise drawn once for each client; its distribution, its bias, and what it spends."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.weightings import geometric, laplace
from weighting.weighed import call, cohort_of, weigh

from fedjax_het.weighting import buckets, capped, noisy, privacy, proportional

MANY = 40_000

both = pytest.mark.parametrize("mechanism", ["laplace", "geometric"])
_revealed = jax.jit(lambda weighting, sizes, cohort: weighting.revealed(sizes, cohort))


def revealed(weighting, sizes, **options):
    return np.asarray(_revealed(weighting, *cohort_of(sizes, **options)), np.float64)


@both
def test_a_client_has_one_draw_whatever_the_round_the_slot_and_the_cohort(mechanism):
    weighting = noisy(0.1, mechanism=mechanism, seed=4)
    rows = np.array([30, 40, 50, 60, 70])
    everyone = revealed(weighting, rows)
    assert (np.abs(everyone - rows) > 0.5).sum() >= 3
    np.testing.assert_array_equal(revealed(weighting, rows, round_=17), everyone)
    order = np.array([3, 0, 4])
    some = revealed(weighting, rows[order], ids=order, population=5, round_=3)
    np.testing.assert_array_equal(some, everyone[order])
    assert not np.array_equal(revealed(noisy(0.1, mechanism=mechanism, seed=5), rows), everyone)


@both
def test_averaging_over_rounds_finds_nothing(mechanism):
    """The mean of a thousand rounds is the one noisy size; with fresh noise it would be the size."""
    sizes, cohort = cohort_of([500.0])
    weighting = noisy(0.05, mechanism=mechanism, seed=1)

    def at(round_):
        return weighting.revealed(sizes, dataclasses.replace(cohort, round=round_))

    seen = np.asarray(jax.vmap(at)(jnp.arange(1000, dtype=jnp.int32)))
    assert np.ptp(seen) == 0 and abs(seen.mean() - 500) > 1


@both
def test_the_noise_belongs_to_the_client_and_not_to_its_size(mechanism):
    rows = np.full(6, 100)
    noise = revealed(noisy(0.1, mechanism=mechanism), rows) - rows
    np.testing.assert_allclose(
        revealed(noisy(0.1, mechanism=mechanism), rows + 11) - rows - 11, noise, atol=1e-4
    )
    assert len(np.unique(noise)) == 6


def test_phases_have_draws_of_their_own_and_one_that_comes_back_has_its_own():
    """Without a schedule the difference of two phases' sizes shows exactly; with one it does not."""
    before, after = np.full(4, 200), np.array([210, 200, 190, 260])
    alone = noisy(0.1, mechanism="geometric")
    np.testing.assert_array_equal(revealed(alone, after, round_=5) - revealed(alone, before), after - before)
    phases = noisy(0.1, mechanism="geometric", schedule=jax.tree_util.Partial(lambda round_: (round_ // 5) % 2))
    first, second = revealed(phases, before), revealed(phases, after, round_=5)
    assert (second - first != after - before).all()
    np.testing.assert_array_equal(first, revealed(alone, before))
    np.testing.assert_array_equal(revealed(phases, before, round_=12), first)
    np.testing.assert_array_equal(revealed(phases, after, round_=9), second)


@pytest.mark.parametrize(("epsilon", "sensitivity"), [(1.0, 1.0), (0.2, 3.0)])
def test_geometric_noise_has_its_distribution(epsilon, sensitivity):
    weighting = noisy(epsilon, sensitivity=sensitivity, mechanism="geometric", seed=7)
    noise = revealed(weighting, np.full(MANY, 1e4)) - 1e4
    assert (noise == np.round(noise)).all()
    most = 12
    got = np.array([(noise == z).mean() for z in range(-most, most + 1)])
    expected = geometric(np.exp(-epsilon / sensitivity), most)
    np.testing.assert_allclose(got, expected, atol=4 * np.sqrt(expected.max() / MANY))


def test_laplace_noise_has_its_distribution():
    noise = revealed(noisy(0.5, sensitivity=2.0, seed=7), np.full(MANY, 1e4)) - 1e4
    edges = np.linspace(-20, 20, 41)
    fine = np.linspace(-20, 20, 4001)
    density = laplace(4.0, fine)
    expected = [
        np.trapezoid(density[(fine >= a - 1e-9) & (fine <= b + 1e-9)], dx=0.01)
        for a, b in itertools.pairwise(edges)
    ]
    got = np.histogram(noise, edges)[0] / MANY
    np.testing.assert_allclose(got, expected, atol=4 * np.sqrt(max(expected) / MANY))


@both
def test_one_row_more_or_less_changes_no_probability_by_more_than_epsilon(mechanism):
    """The definition, on what is revealed of 20 and of 21 rows: the clamp is part of it."""
    epsilon, (n, m) = 0.4, (20, 21)
    weighting = noisy(epsilon, mechanism=mechanism, seed=2, least=18)
    one, other = (revealed(weighting, np.full(MANY, size)) for size in (n, m))
    edges = np.array([-np.inf, 18.5, 19.5, 20.5, 21.5, 23.5, 26.5, np.inf])
    counts = [np.histogram(seen, np.clip(edges, -1e9, 1e9))[0] for seen in (one, other)]
    assert min(map(min, counts)) > 500
    assert np.abs(np.log(counts[0] / counts[1])).max() <= epsilon + 0.12
    assert (
        np.abs(np.log(counts[0] / counts[1])).max() > 0.6 * epsilon
    )  # and the noise is no larger than it must be


@both
@pytest.mark.parametrize(("n", "least"), [(1, 1), (5, 1), (40, 1), (2, 6), (7, 2.5), (3, 3.5)])
def test_the_bias_of_the_clamp_is_as_stated(mechanism, n, least):
    epsilon, sensitivity = 0.3, 1.5
    weighting = noisy(epsilon, sensitivity=sensitivity, mechanism=mechanism, least=least, seed=3)
    stated = privacy(weighting, n)
    scale = sensitivity / epsilon
    if mechanism == "laplace":  # an integral, with the kinks on the grid
        z = np.linspace(-60 * scale, 60 * scale, 1_200_001)
        mean = np.trapezoid(np.maximum(least, n + z) * laplace(scale, z), z)
        assert stated.spread == pytest.approx(np.sqrt(2) * scale)
    else:
        most = 400
        z = np.arange(-most, most + 1)
        chance = geometric(np.exp(-1 / scale), most)
        mean = (np.maximum(least, n + z) * chance).sum()
        assert stated.spread == pytest.approx(np.sqrt((z**2 * chance).sum()))
    assert float(stated.bias) == pytest.approx(mean - n, rel=1e-5, abs=1e-6)
    seen = revealed(weighting, np.full(MANY, n)) - n
    assert seen.mean() == pytest.approx(float(stated.bias), abs=4 * stated.spread / np.sqrt(MANY))


def test_what_is_spent():
    weighting = noisy(0.5, sensitivity=10)
    one, four = privacy(weighting, [1, 1000]), privacy(weighting, [1, 1000], releases=4)
    assert (one.epsilon, one.epsilon_per_row, one.sensitivity) == (0.5, pytest.approx(0.05), 10)
    assert (four.epsilon, four.epsilon_per_row, four.releases) == (2.0, pytest.approx(0.2), 4)
    np.testing.assert_array_equal(one.bias, four.bias)
    assert one.bias[0] == pytest.approx(10.0) and one.bias[1] < 1e-15  # b/2 at the clamp, nothing far from it


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: privacy(proportional(), [1]), TypeError, "weighting must be made by fh.weighting.noisy"),
        (lambda: privacy(capped(0.5, base=noisy(1.0)), [1]), TypeError, "pass the base of a capped one"),
        (lambda: privacy(noisy(1.0), [-1]), ValueError, "sizes must be >= 0"),
        (lambda: privacy(noisy(1.0), [1], releases=0), ValueError, "releases must be >= 1"),
        (lambda: noisy(0), ValueError, "epsilon must be > 0, got 0: small values hide more"),
        (lambda: noisy(-1), ValueError, "epsilon must be > 0"),
        (lambda: noisy(np.inf), ValueError, "epsilon must be finite"),
        (lambda: noisy("1"), TypeError, "epsilon must be a number"),
        (lambda: noisy(1.0, sensitivity=0), ValueError, "sensitivity must be > 0"),
        (lambda: noisy(1.0, least=0), ValueError, "least must be > 0"),
        (
            lambda: noisy(1.0, mechanism="gaussian"),
            ValueError,
            "mechanism must be one of .* laplace, geometric",
        ),
        (lambda: noisy(1.0, seed=1.5), TypeError, "seed must be a whole number"),
        (lambda: noisy(1.0, seed=-1), ValueError, "seed must be >= 0"),
        (lambda: noisy(1.0, schedule=3), TypeError, "schedule must be a function of the round, got int"),
        (lambda: noisy(1.0, base=3), TypeError, "base must be a weighting"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


@both
def test_weights_are_those_of_the_noisy_sizes(mechanism):
    rows = np.array([30, 0, 7, 1, 500])
    weighting = noisy(0.2, mechanism=mechanism, seed=9)
    told = np.where(rows > 0, revealed(weighting, rows), 0)
    assert told[rows > 0].min() >= 1
    np.testing.assert_allclose(weigh(weighting, rows), told / told.sum(), rtol=1e-5)
    over = noisy(0.2, mechanism=mechanism, seed=9, base=buckets())
    np.testing.assert_array_equal(weigh(over, rows), weigh(buckets(), told))


def test_next_to_no_noise_is_proportional():
    rows = np.array([30, 4, 7, 1, 500])
    np.testing.assert_allclose(weigh(noisy(1e6), rows), rows / rows.sum(), rtol=1e-5)
    np.testing.assert_array_equal(weigh(noisy(100.0, mechanism="geometric"), rows), weigh(proportional(), rows))


def test_numbers_are_leaves():
    rows = (30, 4, 7)
    weigh(noisy(1.0), rows)
    before = call._cache_size()
    for weighting in (noisy(0.5), noisy(1.0, sensitivity=4), noisy(1.0, seed=8), noisy(1.0, least=5)):
        weigh(weighting, rows)
    assert call._cache_size() == before
    sizes, cohort = cohort_of(rows)
    over = jax.vmap(lambda epsilon, seed: noisy(epsilon, seed=seed)(sizes, cohort))
    got = over(jnp.asarray([0.1, 2.0]), jnp.asarray([0, 3], jnp.int32))
    for weights, (epsilon, seed) in zip(got, ((0.1, 0), (2.0, 3))):
        np.testing.assert_allclose(weights, weigh(noisy(epsilon, seed=seed), rows), rtol=1e-5)


def test_the_noise_is_none_of_the_runs_own_draws():
    """A run and a weighting of the same seed share no stream: cohorts do not tell the noise."""
    key = noisy(1.0, seed=0).key
    own = jax.random.key(0)
    assert not np.array_equal(jax.random.key_data(key), jax.random.key_data(own))

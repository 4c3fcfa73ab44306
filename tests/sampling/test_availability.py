"""Who is available when: days, chains, and what clients hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import SIZES, N, compiled, in_numpy
from scipy import stats

import fedjax_het as fh
from fedjax_het import heterogeneity, sampling


def on(sampler, *, rounds=24, seed=0, sizes=SIZES):
    """Who was available in each round, bool [rounds, N]: everybody is drawn who is."""
    ids = in_numpy(compiled(sampler, jax.random.key(seed), rounds=rounds, sizes=sizes)[0]).id
    clients = len(sizes)
    out = np.zeros((rounds, clients + 1), bool)
    out[np.arange(rounds)[:, None], ids] = True
    return out[:, :clients]


def test_a_day_as_told():
    phase = np.array([0, 1, 2, 3, 4, 5, 6, 7, 13, 2])
    here = on(sampling.periodic(N, period=8, on_for=0.4, phase=phase))
    t = np.arange(24)[:, None]
    np.testing.assert_array_equal(here, (t + phase) % 8 < 3)  # 3.2 of 8 rounds
    together = on(sampling.periodic(N, period=8, on_for=0.25, phase=1))
    np.testing.assert_array_equal(together, np.repeat((t + 1) % 8 < 2, N, axis=1))


@pytest.mark.parametrize("on_for", [1 / 3, 0.5, 2 / 3, 1.0])
def test_every_client_has_its_day(on_for):
    here = on(sampling.periodic(N, period=12, on_for=on_for), rounds=36)
    np.testing.assert_array_equal(here[:12], here[12:24])
    np.testing.assert_array_equal(here[:12], here[24:])
    np.testing.assert_array_equal(here[:12].sum(axis=0), round(12 * on_for))
    arrivals = (here & ~np.roll(here, 1, axis=0))[:12].sum(axis=0)
    np.testing.assert_array_equal(arrivals, 0 if on_for == 1 else 1)  # one stretch a day


def test_phases_are_uniform_and_belong_to_the_run():
    sampler = sampling.periodic(2000, period=5, on_for=0.2)
    here = on(sampler, rounds=5, sizes=(1,) * 2000)
    assert stats.chisquare(here.sum(axis=1)).pvalue > 1e-4
    assert not np.array_equal(here, on(sampler, rounds=5, seed=1, sizes=(1,) * 2000))


def test_chains_are_stationary_from_the_start_and_move_as_told():
    clients = 4000
    leave, join = np.repeat([0.3, 0.05], clients // 2), np.repeat([0.1, 0.2], clients // 2)
    here = on(sampling.markov(clients, leave=leave, join=join), rounds=30, sizes=(1,) * clients)
    for side, (gone, back) in enumerate(((0.3, 0.1), (0.05, 0.2))):
        part = here[:, side * clients // 2 : (side + 1) * clients // 2]
        share = back / (back + gone)
        for t in (0, 1, 29):
            assert stats.binomtest(int(part[t].sum()), clients // 2, share).pvalue > 1e-4
        before, after = part[:-1].ravel(), part[1:].ravel()
        assert stats.binomtest(int((before & ~after).sum()), int(before.sum()), gone).pvalue > 1e-4
        assert stats.binomtest(int((~before & after).sum()), int((~before).sum()), back).pvalue > 1e-4


def test_chains_at_their_limits():
    leave, join = np.array([0.0, 1.0, 1.0]), np.array([1.0, 0.0, 1.0])
    here = on(sampling.markov(3, leave=leave, join=join), rounds=10, sizes=(1, 1, 1))
    assert here[:, 0].all() and not here[:, 1].any()
    np.testing.assert_array_equal(here[1:, 2], ~here[:-1, 2])  # who always leaves and always joins alternates


def test_sure_things():
    chance = np.array([0.0, 1.0, 0.0, 1.0])
    here = on(sampling.intermittent(4, chance), rounds=50, sizes=(1,) * 4)
    np.testing.assert_array_equal(here, np.tile(chance > 0, (50, 1)))
    assert on(sampling.bernoulli(1.0, slots=N)).all()
    assert not on(sampling.bernoulli(0.0, slots=1)).any()
    assert not on(sampling.dropout(sampling.everyone(), 1.0)).any()


def test_too_few_available_leave_slots_absent():
    draws = in_numpy(compiled(sampling.intermittent(6, 0.3), jax.random.key(0), rounds=60)[0])
    there = (draws.id < N).sum(axis=1)
    assert there.min() < 3 and there.max() <= 6 and draws.id.shape[1] == 6


@pytest.mark.parametrize("exponent", [1.0, 0.5, 0.0, -1.0, -3.0])
def test_chances_by_size(exponent):
    sampler = sampling.by_size(3, exponent=exponent)
    sizes = np.array([4, 0, 3, 8, 1, 700, 8])
    rows = np.where(sizes > 0, sizes, 1).astype(float) ** exponent * (sizes > 0)
    chances = sampler.pattern.chances(jnp.asarray(sizes, jnp.int32))
    np.testing.assert_allclose(chances, rows / rows.max(), rtol=1e-5)
    assert chances[1] == 0 and float(chances.max()) == 1


def test_sizes_are_those_of_the_round():
    """Nothing is fixed when the run starts: who holds data now is available now."""
    sampler, loss = sampling.by_size(2), jnp.zeros((2,))
    for sizes, who in (((100, 0), [0, 2]), ((0, 100), [1, 2])):
        drawn, _ = sampler.draw((), jax.random.key(0), jnp.int32(1), jnp.asarray(sizes, jnp.int32), loss)
        np.testing.assert_array_equal(drawn.id, who)


@pytest.fixture(scope="module")
def labelled():
    y = np.array([0, 0, 1, 2, 3, 3, 2, 1, 0, 3])
    pool = fh.pool(np.eye(10, 3), y, num_classes=4)
    return fh.from_index_lists(pool, None, [[0, 1, 2], [3, 4], [], [5, 9], [6, 7, 8]], test=0.0)


def test_chances_by_label(labelled):
    lowest = sampling.label_chances(labelled, 0.9)
    np.testing.assert_allclose(lowest, [0.1, 0.1 + 0.9 * 2 / 3, 0.0, 1.0, 0.1])
    kinds = sampling.label_chances(labelled, 0.5, rule="kinds")
    np.testing.assert_allclose(kinds, [0.75, 0.75, 0.0, 0.625, 0.875])
    np.testing.assert_allclose(sampling.label_chances(labelled, 0.0), [1, 1, 0, 1, 1])


def test_chances_by_label_see_labels_as_training_does(labelled):
    turned = heterogeneity.concept.swap(labelled, rate=1.0)
    names = np.asarray(turned.truth["permutation"])
    assert not np.array_equal(names[0], np.arange(4))
    held = [[0, 0, 1], [2, 3], [], [3, 3], [2, 1, 0]]
    expected = [0.1 + 0.9 * min(names[k][y] for y in own) / 3 if own else 0 for k, own in enumerate(held)]
    np.testing.assert_allclose(sampling.label_chances(turned, 0.9), expected)

"""Three rounds of FedAvg under each weighting against loops: five of nine clients a round, an empty one among
them, short last batches, in double and in single precision."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import methods
from reference.models import Softmax
from reference.setting import COHORTS, RATE, SIZES, Setting, server_start, softmax_start, three_rounds
from reference.weightings import averaged, bucket, capped
from weighting.weighed import cohort_of

import fedjax_het as fh
from fedjax_het import weighting as w
from fedjax_het.engine.rounds import draw
from fedjax_het.phases import phases, switch

ROWS = np.array(SIZES, float)


@pytest.fixture(scope="module")
def settings():
    made = {}
    for x64 in (True, False):
        with jax.enable_x64(x64):
            made[x64] = Setting(x64)
    return made


def scaled(values):
    values = np.asarray(values, float)
    return values / values.sum()


def by_bucket(rows):
    return [2.0 ** (bucket(int(n), 2) + 0.5) if n else 0 for n in rows]


def told(weighting):
    """What each of the nine clients tells, all asked at once in round 0."""
    sizes, cohort = cohort_of(ROWS)
    return np.where(ROWS > 0, np.asarray(weighting.revealed(sizes, cohort), float), 0)


def noise():
    return w.noisy(0.3, seed=6)


CASES = {
    "capped": (lambda: w.capped(0.3), lambda ids: capped(scaled(ROWS[ids]), 0.3)),
    "clipped counts": (lambda: w.clip_counts(6), lambda ids: scaled(np.minimum(ROWS[ids], 6))),
    "buckets": (w.buckets, lambda ids: scaled(by_bucket(ROWS[ids]))),
    "noisy": (noise, lambda ids: scaled(told(noise())[ids])),
    "capped, over noisy": (
        lambda: w.capped(0.3, base=noise()),
        lambda ids: capped(scaled(told(noise())[ids]), 0.3),
    ),
    "scheme II": (w.unbiased, lambda ids: 9 / 5 * ROWS[ids] / ROWS.sum()),
    "coins": (lambda: w.unbiased(probability=0.5), lambda ids: ROWS[ids] / ROWS.sum() / 0.5),
    "scheme I": (w.per_draw, lambda ids: (ROWS[ids] > 0) / 5),
}
"""name -> (weighting, ids of a cohort -> its weights by definition)."""


@pytest.mark.parametrize("x64", [True, False], ids=["x64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_three_rounds(settings, name, x64):
    make, weights_of = CASES[name]
    setting, start = settings[x64], softmax_start()
    with jax.enable_x64(x64):
        algorithm = fh.algorithms.fedavg(setting.problem, setting.solver())
        algorithm = dataclasses.replace(algorithm, weighting=make())
        state, logs = three_rounds(algorithm, setting.federation, setting.key, server_start(start))
        weights = [weights_of(np.array(ids)) for ids in COHORTS]
        got = state.server.params["head"]
        assert bool(logs["sound"].all())

    def local(server, steps):
        rows = [np.arange(1)]  # a client alone, with any rows, is its own mean
        return methods.fedavg(Softmax(), server, setting.x, setting.y, rows, [[steps]], [[0]], rate=RATE)

    expected = averaged(
        Softmax(), start, setting.x, setting.y, setting.held, setting.batches, COHORTS, weights, local=local
    )
    setting.same(got, expected)


def test_the_weightings_are_not_one(settings):
    """The cases above differ by more than their tolerance."""
    weights = [np.concatenate([of(np.array(ids)) for ids in COHORTS]) for _, of in CASES.values()]
    gaps = [np.abs(a - b).max() for i, a in enumerate(weights) for b in weights[:i]]
    assert min(gaps) > 0.005


def test_noisy_sizes_of_a_federation_with_phases():
    """Each phase is told with a draw of its own: the change of a size is not the change of what is told."""
    rows = np.arange(90)
    pool = fh.pool(rows[:, None].astype(float), rows % 2, num_classes=2)
    states = [
        fh.from_index_lists(pool, None, np.split(rows, cuts), test=0.0)
        for cuts in ([30, 60], [40, 80], [30, 60])
    ]
    federation = phases(states, switch([2, 4]))
    algorithm = fh.algorithms.fedavg(fh.models.softmax(pool), fh.local.sgd(0.1, batch_size=None))

    def seen(weighting):
        round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped(), weighting=weighting)
        state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
        at = jax.jit(
            jax.vmap(
                lambda t: draw(round_fn, algorithm, dataclasses.replace(state, round=t), federation)[0].weight
            )
        )
        return np.asarray(at(jnp.arange(6, dtype=jnp.int32)))

    aware = seen(w.noisy(0.2, schedule=federation.schedule))
    once = seen(w.noisy(0.2))
    for weights in (aware, once):
        np.testing.assert_array_equal(weights[0], weights[1])
        assert not np.allclose(weights[1], weights[2])
    np.testing.assert_array_equal(once[0], once[4])  # the same sizes and the same draw: the same weights
    assert not np.allclose(aware[0], aware[4])  # a release of its own

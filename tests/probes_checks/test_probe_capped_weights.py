"""Water-filling: the cap holds on the cohort, after normalising."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes.blobs import cut, pool_of
from probes.capped_weights import capped
from probes.running import begin

import fedjax_het as fh
from fedjax_het.algorithm import Cohort
from fedjax_het.engine.rounds import draw

_call = jax.jit(lambda weighting, sizes, cohort: weighting(sizes, cohort))


def _weights(cap, sizes, present=None, multiplicity=None):
    sizes = jnp.asarray(sizes, jnp.result_type(float))
    count = sizes.shape[0]
    ones, zero = jnp.ones((count,), sizes.dtype), jnp.zeros((), jnp.int32)
    present = sizes > 0 if present is None else jnp.asarray(present)
    times = ones if multiplicity is None else jnp.asarray(multiplicity, sizes.dtype)
    ids = jnp.arange(count, dtype=jnp.int32)
    cohort = Cohort(ids, present, 0 * ones, times, ones, zero, jnp.sum(sizes), count)
    return np.asarray(_call(capped(cap), sizes, cohort))


@pytest.mark.parametrize(
    ("sizes", "cap", "expected"),
    [
        ((100, 1, 1), 0.5, (0.5, 0.25, 0.25)),
        ((1000, 10, 10, 5), 0.4, (0.4, 0.24, 0.24, 0.12)),
        ((50, 40, 5, 5), 0.45, (0.45, 0.44, 0.055, 0.055)),
        ((5, 1, 9), 1 / 3, (1 / 3, 1 / 3, 1 / 3)),
        ((5, 1, 9), 0.6, (5 / 15, 1 / 15, 9 / 15)),
        ((0, 100, 1, 1, 0), 0.5, (0, 0.5, 0.25, 0.25, 0)),
        ((0, 100, 1), 0.1, (0, 0.5, 0.5)),
        ((0, 0), 0.5, (0, 0)),
        ((7,), 0.5, (1,)),
    ],
)
def test_examples(sizes, cap, expected):
    np.testing.assert_allclose(_weights(cap, sizes), expected, atol=1e-6)


def test_properties():
    rng = np.random.default_rng(0)
    for _ in range(50):
        sizes = np.ceil(rng.lognormal(2, 2, 9)) * (rng.random(9) < 0.8)
        if not sizes.any():
            continue
        cap = rng.uniform(0.12, 0.9)
        weight = _weights(cap, sizes)
        assert weight.sum() == pytest.approx(1, abs=1e-5)
        assert weight.max() <= max(cap, 1 / (sizes > 0).sum()) + 1e-6
        assert np.all(np.diff(weight[np.argsort(sizes, kind="stable")]) >= -1e-7)
        np.testing.assert_allclose(_weights(cap, weight), weight, atol=1e-5)  # idempotent


def test_a_client_drawn_twice_shares_one_cap():
    np.testing.assert_allclose(_weights(0.5, (4, 1, 1), multiplicity=(2, 1, 1)), (0.5, 0.25, 0.25), atol=1e-6)


def _start():
    federation = cut((200, 20, 18, 15, 12, 9))
    solver = fh.local.sgd(0.1, batch_size=None)
    return federation, fh.algorithms.fedavg(fh.models.softmax(pool_of(federation)), solver)


def test_the_cap_holds_in_every_cohort():
    federation, algorithm = _start()
    round_fn = fh.make_round(fh.sampling.uniform(3), fh.executors.looped(), weighting=capped(0.4))
    cohort_of = jax.jit(lambda state: draw(round_fn, algorithm, state, federation)[0])
    for seed in range(8):
        cohort = cohort_of(begin(round_fn, algorithm, federation, seed=seed))
        assert float(cohort.weight.max()) <= 0.4 + 1e-6
        assert float(cohort.mass) == pytest.approx(1, abs=1e-6)
        if 0 in np.asarray(cohort.id):
            assert float(cohort.weight[0]) == pytest.approx(0.4, abs=1e-6)


def test_a_clustered_round_with_a_cap_and_a_measure_is_one_program_under_scan():
    federation, _ = _start()
    solver = fh.local.sgd(0.1, batch_size=None)
    algorithm = fh.algorithms.ifca(fh.models.softmax(pool_of(federation)), solver, clusters=2)
    measures = {"dissimilarity": fh.analysis.gradient_dissimilarity()}
    round_fn = fh.make_round(fh.sampling.uniform(3), fh.executors.looped(), measures, weighting=capped(0.4))
    state = begin(round_fn, algorithm, federation)
    block = jax.jit(fh.make_block(round_fn, 3))
    assert "callback" not in str(block.trace(algorithm, state, federation).jaxpr)
    state, logs = block(algorithm, state, federation)
    assert int(state.round) == 3 and bool(logs["sound"].all())
    assert np.isfinite(np.asarray(logs["measures"]["dissimilarity"]["G2"])).all()


def test_the_cap_is_a_leaf_of_the_round():
    make = partial(fh.make_round, fh.sampling.uniform(3), fh.executors.looped())
    a, b = (make(weighting=capped(cap)) for cap in (0.4, 0.5))
    assert jax.tree.structure(a) == jax.tree.structure(b) and len(jax.tree.leaves(a)) == 1

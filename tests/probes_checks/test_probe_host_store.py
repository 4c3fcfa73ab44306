"""Client states in host memory give the same run, bit for bit."""

from functools import partial

import jax
import numpy as np
import pytest
from probes.blobs import SIZES, cut, pool_of
from probes.host_store import host_round, to_host
from probes.running import begin, one_round

import fedjax_het as fh


@pytest.mark.parametrize(
    ("sampler", "executor"),
    [
        (partial(fh.sampling.uniform, 3), fh.executors.looped()),
        (partial(fh.sampling.bernoulli, 0.4, slots=4), fh.executors.chunked(2)),
    ],
    ids=["uniform", "absent slots"],
)
def test_equals_the_round_on_the_device(sampler, executor):
    federation = cut((*SIZES[:-1], 0))
    algorithm = fh.algorithms.scaffold(
        fh.models.softmax(pool_of(federation)), fh.local.sgd(0.1, batch_size=5, epochs=2)
    )
    measures = {"G2": fh.analysis.gradient_dissimilarity()}
    round_fn = fh.make_round(sampler(), executor, measures)
    here = begin(round_fn, algorithm, federation)
    there, store = to_host(here)
    for _ in range(5):
        here, log = one_round(round_fn, algorithm, here, federation)
        there, other = host_round(round_fn, algorithm, there, store, federation)
        for a, b in zip(jax.tree.leaves(log), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(a, b)
    split, clients = to_host(here)
    assert jax.tree.structure(split) == jax.tree.structure(there)
    assert np.array_equal(jax.random.key_data(here.key), jax.random.key_data(there.key))
    for a, b in zip(
        jax.tree.leaves((split.server, split.seen, split.measures, clients)),
        jax.tree.leaves((there.server, there.seen, there.measures, store)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype

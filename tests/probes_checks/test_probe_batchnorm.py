"""BatchNorm statistics: averaged over the cohort, or kept by their clients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import batchnorm
from probes.blobs import cut
from probes.running import begin, one_client, one_round

import fedjax_het as fh
from fedjax_het.engine.rounds import draw

SOLVER = fh.local.sgd(0.1, batch_size=5)


def _run(make_problem):
    federation = cut()
    algorithm = fh.algorithms.fedavg(make_problem(federation), SOLVER)
    round_fn = fh.make_round(fh.sampling.fixed([0, 2, 3]), fh.executors.looped())
    state = begin(round_fn, algorithm, federation)
    return federation, algorithm, round_fn, state, one_round(round_fn, algorithm, state, federation)[0]


def test_averaged_statistics_are_the_weighted_mean():
    federation, algorithm, round_fn, state, after = _run(batchnorm.averaged)
    cohort, _ = draw(round_fn, algorithm, state, federation)
    ends = [one_client(round_fn, algorithm, state, federation, int(k)).local.buffers for k in cohort.id]
    weight = np.asarray(cohort.weight)
    mean = jax.tree.map(lambda *leaves: sum(w * np.asarray(leaf) for w, leaf in zip(weight, leaves)), *ends)
    for expected, got, old in zip(*map(jax.tree.leaves, (mean, after.server.buffers, state.server.buffers))):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
        assert not np.allclose(got, old)
    assert jax.tree.leaves(after.clients) == []
    assert algorithm.consensus(after.server) is not None


@pytest.mark.parametrize("name", ["fedavg", "scaffold", "fedper", "ifca"])
def test_a_cohort_that_weighs_nothing_leaves_the_statistics(name):
    """Client 5 has all the weight and is not drawn."""
    federation = cut()
    algorithm = fh.algorithms.make(name, batchnorm.averaged(federation), SOLVER)
    weighting = fh.weighting.given([0.0] * (federation.num_clients - 1) + [1.0])
    round_fn = fh.make_round(fh.sampling.fixed([0, 2]), fh.executors.looped(), weighting=weighting)
    state = begin(round_fn, algorithm, federation)
    after, _ = one_round(round_fn, algorithm, state, federation)
    for new, old in zip(jax.tree.leaves(after.server.buffers), jax.tree.leaves(state.server.buffers)):
        np.testing.assert_array_equal(new, old)


def test_local_statistics_stay_with_their_clients():
    federation, algorithm, round_fn, state, after = _run(batchnorm.local)
    assert jax.tree.leaves(after.server.buffers) == []
    assert algorithm.consensus(after.server) is None
    report = one_client(round_fn, algorithm, state, federation, 2)
    for old, new, own in zip(*map(jax.tree.leaves, (state.clients, after.clients, report.state))):
        assert new.shape == old.shape and new.shape[0] == federation.num_clients
        for client in range(federation.num_clients):
            assert np.array_equal(new[client], old[client]) == (client not in (0, 2, 3))
        np.testing.assert_allclose(new[2], own, rtol=1e-6)
        assert not np.allclose(new[0], new[3])


@pytest.mark.parametrize("make_problem", [batchnorm.averaged, batchnorm.local])
def test_statistics_of_a_lone_client_agree(make_problem):
    """With one client in the cohort the policies differ in who keeps the arrays, not in the arrays."""
    federation = cut()
    algorithm = fh.algorithms.fedavg(make_problem(federation), SOLVER)
    round_fn = fh.make_round(fh.sampling.fixed([3]), fh.executors.looped())
    state = begin(round_fn, algorithm, federation)
    report = one_client(round_fn, algorithm, state, federation, 3)
    after, _ = one_round(round_fn, algorithm, state, federation)
    slots = dataclasses.replace(after, clients=jax.tree.map(lambda leaf: leaf[3], after.clients))
    model = algorithm.problem.model(after.server.params, after.server.buffers, slots.clients)
    for got, expected in zip(jax.tree.leaves(model), jax.tree.leaves(report.local)):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
        assert got.dtype == jnp.result_type(float)


@pytest.mark.parametrize("batch_size", [None, 64])
def test_a_larger_client_elsewhere_changes_nothing(batch_size):
    """Fillers do not enter batch statistics, so the federation's capacity does not matter."""
    federation, solver = cut(), fh.local.sgd(0.1, batch_size=batch_size, epochs=2)
    algorithm = fh.algorithms.fedavg(batchnorm.averaged(federation), solver)
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.looped())
    capacity = tuple(most + 5 for most in federation.spec.capacity)
    spec = dataclasses.replace(federation.spec, capacity=capacity)
    servers = []
    for given in (federation, dataclasses.replace(federation, spec=spec)):
        state = begin(round_fn, algorithm, given)
        servers.append(one_round(round_fn, algorithm, state, given)[0].server)
    for a, b in zip(*map(jax.tree.leaves, servers)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

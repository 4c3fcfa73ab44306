"""An upload hook bounds every client's part of the sum; its noise is the client's own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes.blobs import cut, pool_of
from probes.clipping_hook import clipped
from probes.running import begin, one_round

import fedjax_het as fh
from fedjax_het import tree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sum:
    """FedAvg whose server keeps the sum it was sent."""

    inner: object

    problem = property(lambda self: self.inner.problem)
    weighting = property(lambda self: self.inner.weighting)

    def init(self, key, federation):
        server, clients = self.inner.init(key, federation)
        total = {"delta": server.params, "buffers": server.buffers, "weight": jnp.zeros(())}
        return (server, tree.zeros_like(total)), clients

    def client_update(self, server, client):
        return self.inner.client_update(server[0], client)

    def server_update(self, server, total, each, cohort, key):
        return self.inner.server_update(server[0], total, each, cohort, key), total


def _sum(sampler, hook, executor=None, learning_rate=0.5):
    federation = cut()
    problem = fh.models.softmax(pool_of(federation))
    algorithm = Sum(fh.algorithms.fedavg(problem, fh.local.sgd(learning_rate, batch_size=5)))
    round_fn = fh.make_round(
        sampler, executor or fh.executors.looped(), hook=hook, weighting=fh.weighting.uniform()
    )
    state = begin(round_fn, algorithm, federation)
    return one_round(round_fn, algorithm, state, federation)[0].server[1]


def _norm(total):
    return float(jnp.sqrt(tree.sum_of_squares(total)))


@pytest.mark.parametrize("client", range(3))
def test_one_client_is_bounded(client):
    alone = fh.sampling.fixed([client])
    free, held = _sum(alone, None), _sum(alone, clipped(0.25))
    assert _norm(free) > 0.25
    assert _norm(held) == pytest.approx(0.25, rel=1e-5)
    for a, b in zip(jax.tree.leaves(free), jax.tree.leaves(held)):
        np.testing.assert_allclose(b, np.asarray(a) * (0.25 / _norm(free)), rtol=1e-4, atol=1e-7)


def test_a_bound_that_nobody_reaches_changes_nothing():
    everyone = fh.sampling.everyone()
    for a, b in zip(jax.tree.leaves(_sum(everyone, None)), jax.tree.leaves(_sum(everyone, clipped(100.0)))):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_every_client_is_clipped_alone():
    """All six reach the bound here, so the norm of their sum lies below six times the bound, above one."""
    total = _sum(fh.sampling.everyone(), clipped(0.05), fh.executors.chunked(4))
    assert 0.05 < _norm(total) <= 6 * 0.05 + 1e-6


def test_noise_is_keyed_by_client_and_scales_with_the_bound():
    """The noise of two clients in one sum is theirs, whatever their slots; an absent slot adds none."""

    def noise(ids, bound=1e-6, executor=None):
        hook = clipped(bound, noise=1e6)
        return np.asarray(_sum(fh.sampling.fixed(ids), hook, executor)["delta"]["head"]["kernel"])

    one, three = noise([1]), noise([3])
    np.testing.assert_allclose(noise([1, 3]), one + three, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        noise([1, 3], executor=fh.executors.chunked(2)), one + three, rtol=1e-4, atol=1e-4
    )
    assert not np.allclose(one, three) and 0.4 < one.std() < 1.8

"""Gradients with respect to the weights of the clients, through rounds."""

import jax
import jax.numpy as jnp
import numpy as np
from probes.blobs import flipped, pool_of
from probes.running import begin

import fedjax_het as fh
from fedjax_het.problem import full_loss


def test_gradient_of_a_validation_loss_equals_finite_differences():
    with jax.enable_x64(True):
        federation = flipped()
        solver = fh.local.scanned(fh.local.sgd(0.2, batch_size=8), most=3)
        algorithm = fh.algorithms.fedavg(fh.models.softmax(pool_of(federation)), solver)

        def outcome(weights):
            round_fn = fh.make_round(
                fh.sampling.uniform(4),
                fh.executors.vmapped(),
                weighting=fh.weighting.given(weights),
                differentiable=True,
            )
            state = begin(round_fn, algorithm, federation)
            state, _ = fh.make_block(round_fn, 3)(algorithm, state, federation)
            located = federation.locate("valid", jnp.zeros((), jnp.int32), jnp.asarray(0))
            data = federation.data("valid", located, differentiable=True)
            return full_loss(algorithm.problem, algorithm.consensus(state.server), data)

        weights = jnp.arange(1.0, 7.0)
        value = jax.jit(outcome)
        gradient = np.asarray(jax.jit(jax.grad(outcome))(weights))
        step = 1e-5
        for k in range(6):
            shift = step * jnp.eye(6)[k]
            slope = float(value(weights + shift) - value(weights - shift)) / (2 * step)
            np.testing.assert_allclose(gradient[k], slope, rtol=1e-5, atol=1e-9)
        assert abs(np.dot(gradient, weights)) < 1e-12  # only their ratios count
        assert gradient[:3].min() < 0 < gradient[3:].max()  # client 0 wants the clients of its own concept

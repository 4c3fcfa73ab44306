"""The dense product: values and every derivative that must work equal those of the plain product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_het.models.dense import NARROW, product


def _loss(multiply):
    return lambda x, k: jnp.sum(jnp.tanh(multiply(x, k)) ** 2)


@pytest.mark.parametrize("outputs", [1, 3, NARROW, NARROW + 1])
def test_every_derivative_equals_that_of_the_plain_product(outputs):
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 4)
        x, k, v = (
            jax.random.normal(key, shape) for key, shape in zip(keys, ((7, 5), (5, outputs), (5, outputs)))
        )
        ours, plain = _loss(product), _loss(jnp.matmul)
        ks = jnp.stack([k, 2 * k, -k])

        def derivatives(f):
            gradient = jax.grad(f, argnums=(0, 1))
            hvp = jax.jvp(lambda k: jax.grad(f, argnums=1)(x, k), (k,), (v,))[1]
            reverse = jax.grad(lambda k: jnp.sum(jax.grad(f, argnums=1)(x, k) * v))(k)

            def step(k, _):
                return k - 0.1 * jax.grad(f, argnums=1)(x, k), None

            through = jax.grad(lambda k: f(x, jax.lax.scan(step, k, None, length=3)[0]))(k)
            return (
                f(x, k),
                gradient(x, k),
                jax.vmap(gradient, in_axes=(None, 0))(x, ks),
                jax.jvp(lambda k: f(x, k), (k,), (v,)),
                hvp,
                reverse,
                jax.hessian(lambda k: f(x, k))(k),
                through,
            )

        for a, b in zip(jax.tree.leaves(derivatives(ours)), jax.tree.leaves(derivatives(plain))):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)

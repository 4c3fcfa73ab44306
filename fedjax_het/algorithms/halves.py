"""How noisy a client's gradient is, from two halves of its rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.federation import Batch, Data
from fedjax_het.permutation import permute
from fedjax_het.problem import Model, Problem
from fedjax_het.typing import Array, Key, Params

__all__ = ["relative_noise"]


def relative_noise(problem: Problem, model: Model, data: Data, key: Key) -> Array:
    """An estimate of gamma_k = |grad r_k - grad R| / |grad R|.

    r_k is the mean loss of the client's rows and R its expectation. With g and h the gradients on two random
    halves of the rows, (g - h) / 2 has the expected square of the numerator and <g, h> that of the denominator:
    gamma_k = |g - h| / (2 sqrt(<g, h>)), and 1 where that is larger or <g, h> is not positive, since a gradient
    that is all noise says nothing.

    Args:
        problem: what is learned.
        model: where; without dropout and batch statistics.
        data: one client's rows.
        key: consumed; of the halves.

    Returns:
        In [0, 1], scalar; 0 for a client of fewer than two rows, which cannot tell.
    """
    order = keys.seed(key)
    many = jnp.stack([(data.size + 1) // 2, data.size // 2])

    def add(total: tuple[Params, Params], batch: Batch) -> tuple[Params, Params]:
        def losses(params: Params) -> Array:
            return problem.losses(problem.apply(params, model.buffers, batch.x)[0], batch.y)

        values, pull = jax.vjp(losses, model.params)
        half = permute(batch.position, data.size, order) % 2
        grads = []
        for number, before in enumerate(total):
            share = 1 / jnp.maximum(many[number], 1).astype(values.dtype)
            kept = jnp.where((batch.weight > 0) & (half == number), share, 0)
            grads.append(tree.add(before, pull(kept)[0]))
        return grads[0], grads[1]

    ridge = tree.zeros_like(model.params) if problem.l2 is None else tree.scale(problem.l2, model.params)
    first, second = data.fold_full(add, (ridge, ridge))
    agreement = tree.dot(first, second)
    apart = jnp.sqrt(tree.sum_of_squares(tree.subtract(first, second))) / 2
    sound = agreement > 0
    gamma = jnp.where(sound, apart / jnp.sqrt(jnp.where(sound, agreement, 1)), 1)
    return jnp.where(data.size < 2, 0, jnp.minimum(gamma, 1))

"""A problem whose model is a mixture of M models of another problem."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import tree
from fedjax_het.check import require
from fedjax_het.models.losses import cross_entropy, squared
from fedjax_het.problem import Model, Problem
from fedjax_het.typing import Array, Bound, Key, Params, PyTree

__all__ = ["FLOOR", "Mix", "SPREAD", "log_weights", "mixture", "mixed_means", "mixed_probabilities"]

FLOOR = 1e-12
"""Least weight of a component where its logarithm is taken."""

SPREAD = 0.1
"""Standard deviation of what sets components apart whose problem starts everywhere alike."""

Mix = Callable[[Array, PyTree], PyTree]
"""(log weights [M], outputs of the components [M, B, ...]) -> output [B, ...]; pure, hashable."""


def log_weights(weights: Array) -> Array:
    """log pi [M], of at least `FLOOR`."""
    return jnp.log(jnp.maximum(weights, FLOOR))


def mixed_probabilities(logs: Array, outs: Array) -> Array:
    """log sum_m pi_m softmax(out_m) [B, ..., K]: logits whose softmax is the mixture."""
    each = jax.nn.log_softmax(outs.astype(logs.dtype), axis=-1)
    mixed = jax.nn.logsumexp(each + logs.reshape(-1, *[1] * (outs.ndim - 1)), axis=0)
    return mixed.astype(outs.dtype)


def mixed_means(logs: Array, outs: Array) -> Array:
    """sum_m pi_m out_m [B, ...]: the mean of a mixture of Gaussians."""
    return jnp.tensordot(jnp.exp(logs).astype(outs.dtype), outs, 1)


def _init(inner: Callable[[Key], Model], count: int, key: Key) -> Model:
    first = inner(key)

    def other(j: Array) -> Model:
        own = jax.random.fold_in(key, j)
        fresh = inner(own)
        leaves, structure = jax.tree.flatten(fresh.params)
        draws = [
            SPREAD * jax.random.normal(jax.random.fold_in(own, i), leaf.shape, jnp.result_type(float))
            for i, leaf in enumerate(leaves)
        ]
        moved = jax.tree.unflatten(
            structure, [leaf + draw.astype(leaf.dtype) for leaf, draw in zip(leaves, draws)]
        )
        alike = jnp.asarray(True)
        for leaf, before in zip(leaves, jax.tree.leaves(first.params)):
            alike = alike & jnp.all(leaf == before)
        return Model(tree.where(alike, moved, fresh.params), fresh.buffers)

    others = jax.vmap(other)(jnp.arange(1, count, dtype=jnp.int32))
    models = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, others)
    weights = jnp.full((count,), 1 / count, jnp.result_type(float))
    return Model({"components": models.params, "weights": weights}, models.buffers)


def _apply(
    inner: Callable[..., tuple[PyTree, PyTree]],
    mix: Mix,
    params: Params,
    buffers: PyTree,
    x: Array,
    key: Key | None = None,
    train: bool = False,
    **rows: Any,
) -> tuple[PyTree, PyTree]:
    def one(component: Params, own: PyTree) -> tuple[PyTree, PyTree]:
        return inner(component, own, x, key, train=train, **rows)

    outs, buffers = jax.vmap(one)(params["components"], buffers)
    return mix(log_weights(params["weights"]), outs), buffers


def mixture(problem: Problem, components: int, mix: Mix | None = None) -> Problem:
    """The problem of a mixture: params {"components": [M, ...], "weights": pi [M]}, buffers [M, ...].

    Component 1 starts as the problem does, the others as it does under other keys. Where it starts everywhere
    alike (a convex problem at zero), they gain normal noise of standard deviation `SPREAD`, since equal
    components stay equal.

    Args:
        problem: what each component is.
        components: M.
        mix: how outputs are mixed; None for probabilities of classes, means of targets.

    Raises:
        ValueError: the problem's loss is of neither kind and no `mix` is given.
    """
    if mix is None:
        kinds: dict[Any, Mix] = {cross_entropy: mixed_probabilities, squared: mixed_means}
        require(
            problem.losses in kinds,
            f"mix must be given for {problem.facts.name!r}, whose loss is neither cross-entropy nor squared, "
            "got None: pass a function of (log weights [M], outputs [M, B, ...])",
        )
        mix = kinds[problem.losses]
    facts = dataclasses.replace(
        problem.facts,
        name=f"mixture of {components} of {problem.facts.name}",
        linear=False,
        convex=False,
        head=(),
    )
    init, apply = Bound(_init, (problem.init, components)), Bound(_apply, (problem.apply, mix))
    return dataclasses.replace(problem, init=init, apply=apply, facts=facts, l2=None)

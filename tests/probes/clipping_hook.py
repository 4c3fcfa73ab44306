"""An upload hook: the norm of what a client sends is bounded, and keyed noise is added."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import tree
from fedjax_het.check import number
from fedjax_het.typing import Array, Key, PyTree

__all__ = ["clipped"]


def _clip(bound: Array, noise: Array, key: Key, total: PyTree) -> PyTree:
    norm = jnp.sqrt(tree.sum_of_squares(total))
    total = tree.scale(jnp.minimum(1, bound / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny)), total)
    leaves, structure = jax.tree.flatten(total)
    draws = [
        jax.random.normal(jax.random.fold_in(key, i), leaf.shape, leaf.dtype) for i, leaf in enumerate(leaves)
    ]
    return tree.add(total, tree.scale(noise * bound, jax.tree.unflatten(structure, draws)))


def clipped(bound: Any, *, noise: Any = 0.0) -> Any:
    """total <- total min(1, C / |total|) + sigma C normal, over all leaves together.

    Delta and weight shrink by one factor, so a client that is clipped counts for less in a mean.

    Args:
        bound: C > 0, a leaf.
        noise: sigma >= 0, a leaf.
    """
    return jax.tree_util.Partial(_clip, number("bound", bound, above=0), number("noise", noise, least=0))

"""Arithmetic on pytrees, work along the client axis, and the exact partition of a tree by its leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.typing import Array, PyTree

__all__ = [
    "Absent",
    "add",
    "all_finite",
    "combine",
    "divide",
    "dot",
    "num_bytes",
    "partition",
    "put",
    "scale",
    "stack",
    "stays_sound",
    "subtract",
    "sum_of_squares",
    "take",
    "where",
    "zeros_like",
]


def add(a: PyTree, b: PyTree) -> PyTree:
    """a + b, leaf by leaf."""
    return jax.tree.map(jnp.add, a, b)


def subtract(a: PyTree, b: PyTree) -> PyTree:
    """a - b, leaf by leaf."""
    return jax.tree.map(jnp.subtract, a, b)


def scale(factor: Any, tree: PyTree) -> PyTree:
    """factor * tree; a scalar array is cast to each leaf's type."""
    return jax.tree.map(lambda leaf: jnp.asarray(factor, leaf.dtype) * leaf, tree)


def divide(tree: PyTree, by: Array) -> PyTree:
    """tree / by, and 0 where `by` is 0 (an average over nobody)."""
    safe = jnp.where(by == 0, 1, by)
    return jax.tree.map(lambda leaf: jnp.where(by == 0, 0, leaf / safe.astype(leaf.dtype)), tree)


def dot(a: PyTree, b: PyTree) -> Array:
    """The inner product over all leaves, a scalar."""
    real = jnp.result_type(float)
    products = jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum((x * y).astype(real)), a, b))
    return sum(products, jnp.zeros((), real))


def sum_of_squares(tree: PyTree) -> Array:
    """The squared Euclidean norm over all leaves, a scalar."""
    return dot(tree, tree)


def zeros_like(tree: PyTree) -> PyTree:
    """Zeros of the same shapes and types; leaves may be `jax.ShapeDtypeStruct`."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)


def where(condition: Array, yes: PyTree, no: PyTree) -> PyTree:
    """`yes` where the scalar `condition` holds, else `no`; typed keys are leaves too."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def all_finite(tree: PyTree) -> Array:
    """Whether every floating leaf is finite, a bool scalar."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    finite = jnp.asarray(True)
    for leaf in leaves:
        finite = finite & jnp.all(jnp.isfinite(leaf))
    return finite


def stays_sound(new: PyTree, old: PyTree) -> Array:
    """Whether no floating leaf of a state holds NaN, or an infinity that was not there before; bool scalar.

    Infinity is a legal "nothing yet" in a state (the best loss so far): it may stay or go, but not come.
    """
    sound = jnp.asarray(True)
    for after, before in zip(jax.tree.leaves(new), jax.tree.leaves(old)):
        if jnp.issubdtype(after.dtype, jnp.floating):
            held = jnp.isinf(before) & jnp.isinf(after)
            sound = sound & jnp.all(jnp.isfinite(after) | held)
    return sound


def take(tree: PyTree, rows: Array) -> PyTree:
    """Rows of the leading axis; a number past the end takes the last row."""
    return jax.tree.map(lambda leaf: leaf.at[rows].get(mode="clip"), tree)


def put(tree: PyTree, rows: Array, values: PyTree) -> PyTree:
    """`tree` with `values` at these rows of the leading axis; numbers past the end are dropped."""
    return jax.tree.map(lambda leaf, value: leaf.at[rows].set(value, mode="drop"), tree, values)


def stack(tree: PyTree, count: int) -> PyTree:
    """`count` copies of the tree along a new leading axis."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *jnp.shape(leaf))), tree)


def num_bytes(tree: PyTree) -> int:
    """Bytes of all leaves; leaves may be `jax.ShapeDtypeStruct`."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


class Absent:
    """Stands where a leaf was taken out by `partition`: an empty subtree, so arithmetic passes it by."""

    def __repr__(self) -> str:
        """The name alone."""
        return "Absent"

    def __eq__(self, other: object) -> bool:
        """All of them are equal."""
        return isinstance(other, Absent)

    def __hash__(self) -> int:
        """All of them are equal."""
        return hash(Absent)


jax.tree_util.register_pytree_node(Absent, lambda _: ((), None), lambda *_: Absent())


def partition(tree: PyTree, chosen: Callable[[str], bool]) -> tuple[PyTree, PyTree]:
    """Split a tree in two by its leaves' paths; `combine` puts it together again.

    Args:
        tree: any pytree.
        chosen: path -> whether the leaf goes to the first part; a path reads "dense_0/kernel".

    Returns:
        (first, second): the tree twice, with `Absent` where a leaf went to the other part.
    """
    flat, structure = jax.tree_util.tree_flatten_with_path(tree)
    picks = [chosen(jax.tree_util.keystr(path, simple=True, separator="/")) for path, _ in flat]
    first = [leaf if pick else Absent() for (_, leaf), pick in zip(flat, picks)]
    second = [Absent() if pick else leaf for (_, leaf), pick in zip(flat, picks)]
    return jax.tree.unflatten(structure, first), jax.tree.unflatten(structure, second)


def combine(first: PyTree, second: PyTree) -> PyTree:
    """The tree whose leaves come from whichever part holds them; the inverse of `partition`."""
    return jax.tree.map(
        lambda a, b: b if isinstance(a, Absent) else a,
        first,
        second,
        is_leaf=lambda node: isinstance(node, Absent),
    )

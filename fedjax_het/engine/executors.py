"""Executors: map a function over rows, and sum.

An executor is called as `executor(fn, shared, rows, cost)`, with fn(shared, row) -> (total, each), and returns
(sum of the totals, every `each` stacked). It knows nothing of federated learning. What all rows see comes in
as `shared`, since closures over arrays break under `shard_map`. Executors nest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, PartitionSpec

from fedjax_het import tree
from fedjax_het.check import positive_int
from fedjax_het.typing import Array, PyTree

__all__ = ["Auto", "Chunked", "Executor", "Looped", "Sharded", "Vmapped", "auto", "chunked", "looped"]
__all__ += ["sharded", "vmapped"]

MapFn = Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]


class Executor(Protocol):
    """Map-and-sum; a hashable record without arrays."""

    def __call__(
        self, fn: MapFn, shared: PyTree, rows: PyTree, cost: Array | None = None
    ) -> tuple[PyTree, PyTree]:
        """(total summed over rows, each [rows, ...]).

        Args:
            fn: (shared, row) -> (total, each).
            shared: what every row sees.
            rows: a tree whose leaves share a leading axis.
            cost: expected work of each row [rows], to group rows of like work; None for no grouping.
        """
        ...


def _count(rows: PyTree) -> int:
    return jax.tree.leaves(rows)[0].shape[0]


def _masked(fn: MapFn) -> MapFn:
    """`fn` on (row, keep): a row that fills up a group adds nothing."""

    def kept(shared: PyTree, row: PyTree) -> tuple[PyTree, PyTree]:
        inner, keep = row
        total, each = fn(shared, inner)
        return tree.where(keep, total, tree.zeros_like(total)), each

    return kept


def _order(cost: Array | None, count: int) -> Array:
    """Row numbers by falling cost."""
    if cost is None:
        return jnp.arange(count, dtype=jnp.int32)
    return jnp.argsort(-cost, stable=True).astype(jnp.int32)


def _groups(order: Array, groups: int, size: int) -> tuple[Array, Array]:
    """(row numbers [groups, size], whether each is a row of its own); fillers repeat the last row."""
    count = order.shape[0]
    slots = jnp.arange(groups * size, dtype=jnp.int32)
    picked = order[jnp.minimum(slots, count - 1)]
    return picked.reshape(groups, size), (slots < count).reshape(groups, size)


def _restore(each: PyTree, order: Array) -> PyTree:
    """Undo the order: `each` comes in as grouped, leading axis at least that of `order`."""
    place = jnp.zeros_like(order).at[order].set(jnp.arange(order.shape[0], dtype=order.dtype))
    return tree.take(each, place)


@dataclasses.dataclass(frozen=True)
class Vmapped:
    """All rows at once."""

    def __call__(
        self, fn: MapFn, shared: PyTree, rows: PyTree, cost: Array | None = None
    ) -> tuple[PyTree, PyTree]:
        """See `Executor`."""
        totals, each = jax.vmap(fn, in_axes=(None, 0))(shared, rows)
        return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0).astype(leaf.dtype), totals), each


@dataclasses.dataclass(frozen=True)
class Looped:
    """One row after the other, without a batch dimension of size one; the sum never holds two totals."""

    def __call__(
        self, fn: MapFn, shared: PyTree, rows: PyTree, cost: Array | None = None
    ) -> tuple[PyTree, PyTree]:
        """See `Executor`."""
        first = jax.tree.map(lambda leaf: leaf[0], rows)
        shapes, _ = jax.eval_shape(fn, shared, first)

        def visit(sum_: PyTree, row: PyTree) -> tuple[PyTree, PyTree]:
            total, each = fn(shared, row)
            return tree.add(sum_, total), each

        return jax.lax.scan(visit, tree.zeros_like(shapes), rows)


@dataclasses.dataclass(frozen=True)
class Chunked:
    """Groups of `size` rows of like cost, one group after the other, each by `inner`."""

    size: int
    inner: Any

    def __call__(
        self, fn: MapFn, shared: PyTree, rows: PyTree, cost: Array | None = None
    ) -> tuple[PyTree, PyTree]:
        """See `Executor`."""
        count = _count(rows)
        size = min(self.size, count)
        order = _order(cost, count)
        picked, keep = _groups(order, -(-count // size), size)
        whole = count % size == 0

        def visit(shared: PyTree, group: PyTree) -> tuple[PyTree, PyTree]:
            numbers, keeps = group
            members = tree.take(rows, numbers)
            if whole:
                return self.inner(fn, shared, members)
            return self.inner(_masked(fn), shared, (members, keeps))

        total, each = Looped()(visit, shared, (picked, keep))
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), each)
        return total, _restore(flat, order)


@dataclasses.dataclass(frozen=True)
class Sharded:
    """Rows dealt to the devices of a mesh axis in turn by falling cost, on each device by `inner`."""

    mesh: Mesh
    inner: Any

    def __call__(
        self, fn: MapFn, shared: PyTree, rows: PyTree, cost: Array | None = None
    ) -> tuple[PyTree, PyTree]:
        """See `Executor`."""
        axis = self.mesh.axis_names[0]
        devices = self.mesh.shape[axis]
        count = _count(rows)
        order = _order(cost, count)
        per = -(-count // devices)
        picked, keep = _groups(order, per, devices)
        picked, keep = picked.T.reshape(-1), keep.T.reshape(-1)
        members = tree.take(rows, picked)
        costs = None if cost is None else jnp.where(keep, cost[picked], 0)
        spread = PartitionSpec(axis)

        def local(shared: PyTree, members: PyTree, keeps: Array, costs: Array | None) -> tuple[Any, Any]:
            total, each = self.inner(_masked(fn), shared, (members, keeps), costs)
            return jax.tree.map(lambda leaf: jax.lax.psum(leaf, axis), total), each

        total, each = jax.shard_map(
            local,
            mesh=self.mesh,
            in_specs=(PartitionSpec(), spread, spread, spread),
            out_specs=(PartitionSpec(), spread),
            check_vma=False,
        )(shared, members, keep, costs)
        # device-major back to dealing order, then to the order of the rows
        dealt = jax.tree.map(
            lambda leaf: (
                leaf.reshape(devices, per, *leaf.shape[1:]).swapaxes(0, 1).reshape(-1, *leaf.shape[1:])
            ),
            each,
        )
        return total, _restore(dealt, order)


SMALL = 64 * 1024
"""Bytes of what one client returns below which groups beat single clients on a CPU."""

GROUP = 10
"""Clients of one group on a CPU."""

DEVICE_BYTES = 2**30
"""Bytes of what one group returns on an accelerator, at most."""


@dataclasses.dataclass(frozen=True)
class Auto:
    """An executor chosen from static shapes and the backend, so the choice is the same inside jit and vmap.

    On a CPU: one client at a time when what it returns is larger than a cache (`SMALL`), else groups of
    `GROUP` clients of like work. On an accelerator: the whole cohort, or groups that fill `DEVICE_BYTES`.
    """

    def choose(self, fn: MapFn, shared: PyTree, rows: PyTree) -> Executor:
        """The executor that will run these rows."""
        count = _count(rows)
        out = jax.eval_shape(fn, shared, jax.tree.map(lambda leaf: leaf[0], rows))
        size = max(1, tree.num_bytes(out))
        if jax.default_backend() == "cpu":
            return Looped() if size > SMALL else chunked(GROUP)
        most = max(1, DEVICE_BYTES // size)
        return Vmapped() if most >= count else chunked(int(most))

    def __call__(
        self, fn: MapFn, shared: PyTree, rows: PyTree, cost: Array | None = None
    ) -> tuple[PyTree, PyTree]:
        """See `Executor`."""
        return self.choose(fn, shared, rows)(fn, shared, rows, cost)


def vmapped() -> Vmapped:
    """All clients at once: a GPU or TPU, or a small cohort."""
    return Vmapped()


def looped() -> Looped:
    """One client after the other: large models on a CPU, and replays."""
    return Looped()


def chunked(size: int, inner: Executor | None = None) -> Chunked:
    """Groups of `size` clients of like work, each by `inner` (default `vmapped()`).

    Raises:
        TypeError, ValueError: `size` is not a whole number of at least 1.
    """
    size = positive_int("size", size, remedy="looped() takes one client at a time")
    return Chunked(size, Vmapped() if inner is None else inner)


def sharded(mesh: Mesh | None = None, inner: Executor | None = None) -> Sharded:
    """Clients spread over devices, on each by `inner` (default `auto()`).

    Args:
        mesh: its first axis takes the clients; default: all devices, axis "clients". Build meshes with
            `AxisType.Auto`.
        inner: what each device does with its share.

    Raises:
        TypeError: not a mesh.
    """
    if not (mesh is None or isinstance(mesh, Mesh)):
        raise TypeError(
            f"mesh must be a jax.sharding.Mesh, got {type(mesh).__name__}: pass jax.make_mesh((4,), "
            "('clients',), "
            "axis_types=(AxisType.Auto,)), or nothing for all devices"
        )
    if mesh is None:
        mesh = jax.make_mesh((len(jax.devices()),), ("clients",), axis_types=(AxisType.Auto,))
    return Sharded(mesh, Auto() if inner is None else inner)


def auto() -> Auto:
    """Choose from the upload's size and the backend."""
    return Auto()

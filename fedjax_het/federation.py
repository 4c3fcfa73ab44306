"""Federation: who holds which rows. Ragged storage outside, one dense client inside.

Rows are stored flat with offsets, since natural federations pad 4 to 20 times when stacked to their largest
client. A client function sees `Data`, one client, and asks it for batches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_het.pool import Pool, PoolSpec
from fedjax_het.typing import Array, PyTree, static

__all__ = ["Batch", "Data", "Federation", "FederationSpec", "Rows", "Transform", "cycle", "pool_rows"]

CHUNK = 256
"""Rows of one step of a full pass over a client."""


class Batch(NamedTuple):
    """Rows of one client.

    Attributes:
        x: features [B, ...].
        y: targets [B, ...].
        weight: 1 for a row that counts, 0 for a filler, float [B].
        position: which row of the client each one is, int32 [B].
    """

    x: Array
    y: Array
    weight: Array
    position: Array


def pool_rows(x: Array, y: Array, scale: float | None, row: Array) -> tuple[Array, Array]:
    """Rows of the pool by number, integer features cast to floats times `scale` unless that is None."""
    x, y = x.at[row].get(mode="clip"), y.at[row].get(mode="clip")
    if scale is not None:
        dtype = jnp.result_type(float)
        x = x.astype(dtype) * jnp.asarray(scale, dtype)
    return x, y


def cycle(place: Array, size: Array) -> Array:
    """place mod max(size, 1) for 0 <= place < 2**22, int32.

    By a float division, exact in that range: the integer remainder has no vector instruction and costs more
    than a small model's step.
    """
    size = jnp.maximum(size, 1)
    half = jnp.asarray(0.5, jnp.float32)
    turns = jnp.floor((place.astype(jnp.float32) + half) / size.astype(jnp.float32))
    return place - size * turns.astype(jnp.int32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """Which rows of the pool each client holds, phase by phase.

    Attributes:
        index: row numbers of the pool, flat, int32 [R].
        offset: where a client begins in `index`, int32 [T, N].
        size: how many rows follow, int32 [T, N].
        seen: the phase whose transforms the rows of phase t are seen through, int32 [T]; None for t itself.
    """

    index: Array
    offset: Array
    size: Array
    seen: Array | None = None

    def of(self, phase: Array, client: Array) -> tuple[Array, Array]:
        """(offset, size) of these clients in `phase`; phases past the last repeat it."""
        phase = jnp.minimum(phase, self.offset.shape[0] - 1)
        return self.offset.at[phase, client].get(mode="clip"), self.size.at[phase, client].get(mode="clip")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Transform:
    """What a client's context does to its rows, applied whenever they are taken.

    Attributes:
        arguments: arrays [T, N, ...], one entry a client (T = 1 if it never changes).
        function: (x [B, ...], y [B, ...], arguments of the client, row numbers of the pool int32 [B]) ->
            (x, y); static. It keeps shapes and dtypes. The row numbers are for draws that belong to a row,
            which must come out the same whenever it is taken.
    """

    arguments: PyTree
    function: Callable[[Array, Array, PyTree, Array], tuple[Array, Array]] = static()

    def of(self, phase: Array, client: Array) -> PyTree:
        """The arguments of these clients in `phase`."""
        return jax.tree.map(
            lambda leaf: leaf.at[jnp.minimum(phase, leaf.shape[0] - 1), client].get(mode="clip"),
            self.arguments,
        )


@dataclasses.dataclass(frozen=True)
class FederationSpec:
    """Static facts of a federation: they fix shapes.

    Attributes:
        pool: what the rows are.
        num_clients: N.
        phases: T.
        capacity: the most rows that one client holds in a phase, for (train, valid, test).
    """

    pool: PoolSpec
    num_clients: int
    phases: int
    capacity: tuple[int, int, int]


SPLITS = ("train", "valid", "test")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Data:
    """One client's rows, opaque: take batches from it, or fold over all of it.

    Attributes:
        x: features of the whole pool [M, ...].
        y: targets of the whole pool [M, ...].
        index: row numbers of the whole federation, int32 [R].
        offset: where this client begins in `index`, int32 scalar.
        size: how many rows it holds, int32 scalar.
        arguments: this client's arguments of each transform.
        functions: the transforms' functions; static.
        capacity: the most rows that any client holds; static.
        scale: see `PoolSpec`; static.
        differentiable: whether passes over the rows are static loops, which reverse mode can follow, rather
            than loops that end with the client's own rows; static.
    """

    x: Array
    y: Array
    index: Array
    offset: Array
    size: Array
    arguments: tuple[PyTree, ...]
    functions: tuple[Callable[..., tuple[Array, Array]], ...] = static()
    capacity: int = static()
    scale: float | None = static()
    differentiable: bool = static()

    def take(self, position: Array) -> Batch:
        """The rows at `position`, int32 [B]; positions past the end are fillers of weight 0.

        Fillers go round the client's own rows, so that a model which looks at the whole batch (BatchNorm in
        training) sees each row about equally often.
        """
        counts = position < self.size
        inside = jnp.where(counts, position, cycle(position - self.size, self.size))
        row = self.index.at[self.offset + inside].get(mode="clip")
        x, y = pool_rows(self.x, self.y, self.scale, row)
        for function, arguments in zip(self.functions, self.arguments):
            x, y = function(x, y, arguments, row)
        return Batch(x, y, counts.astype(jnp.result_type(float)), position)

    @property
    def chunk(self) -> int:
        """Rows of one step of a full pass."""
        return max(1, min(CHUNK, self.capacity))

    @property
    def chunks(self) -> int:
        """Steps of a full pass over the largest client."""
        return max(1, -(-self.capacity // self.chunk))

    def fold_full(self, step: Callable[[Any, Batch], Any], initial: Any, *, chunk: int = CHUNK) -> Any:
        """Fold `step` over all rows in order, `chunk` rows at a time; an empty client returns `initial`.

        Args:
            step: (carry, Batch of `chunk` rows) -> carry; fillers have weight 0.
            initial: the first carry.
            chunk: rows of one step.
        """
        rows = max(1, min(chunk, self.capacity))
        most = max(1, -(-self.capacity // rows))
        count = (self.size + rows - 1) // rows

        def visit(i: Array, carry: Any) -> Any:
            return step(carry, self.take(i * rows + jnp.arange(rows, dtype=jnp.int32)))

        if most == 1:  # straight-line code: nothing to loop over
            new = visit(jnp.zeros((), jnp.int32), initial)
            return jax.tree.map(lambda a, b: jnp.where(self.size > 0, a, b), new, initial)

        if not self.differentiable:
            return jax.lax.fori_loop(0, count, visit, initial)

        def maybe(carry: Any, i: Array) -> tuple[Any, None]:
            new = visit(i, carry)
            return jax.tree.map(lambda a, b: jnp.where(i < count, a, b), new, carry), None

        return jax.lax.scan(maybe, initial, jnp.arange(most, dtype=jnp.int32))[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Federation:
    """A pool of examples and the clients that hold them.

    Attributes:
        x: features of the pool [M, ...].
        y: targets of the pool [M, ...].
        train: rows for local work.
        valid: rows for early stopping and for choosing hyperparameters.
        test: rows that only evaluation reads.
        transforms: per-client changes of x or y, applied in order on take.
        schedule: round (int32 scalar) -> phase (int32 scalar), a pytree callable such as
            `jax.tree_util.Partial`; None keeps phase 0.
        truth: what was done to make it (latent cluster, proportions, ...), name -> array.
        spec: static facts.
    """

    x: Array
    y: Array
    train: Rows
    valid: Rows
    test: Rows
    transforms: tuple[Transform, ...]
    schedule: Any
    truth: dict[str, Array]
    spec: FederationSpec = static()

    @property
    def num_clients(self) -> int:
        """N."""
        return self.spec.num_clients

    @property
    def pool(self) -> Pool:
        """The pool of all examples."""
        return Pool(self.x, self.y, self.spec.pool)

    def phase(self, round_: Array) -> Array:
        """The phase of a round, int32 scalar."""
        return jnp.zeros((), jnp.int32) if self.schedule is None else self.schedule(round_).astype(jnp.int32)

    def rows(self, split: str) -> Rows:
        """The rows of "train", "valid" or "test"."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[split]

    def locate(self, split: str, phase: Array, client: Array) -> tuple[Array, Array, tuple[PyTree, ...]]:
        """All that tells these clients apart: (offset, size, transform arguments), leading axes of `client`.

        Small arrays: this is what travels to a client, while the pool stays where it is.
        """
        rows = self.rows(split)
        offset, size = rows.of(phase, client)
        seen = phase if rows.seen is None else rows.seen.at[phase].get(mode="clip")
        return offset, size, tuple(transform.of(seen, client) for transform in self.transforms)

    def data(
        self,
        split: str,
        located: tuple[Array, Array, tuple[PyTree, ...]],
        *,
        differentiable: bool = False,
    ) -> Data:
        """One client's Data from its entry of `locate`."""
        offset, size, arguments = located
        return Data(
            x=self.x,
            y=self.y,
            index=self.rows(split).index,
            offset=offset,
            size=size,
            arguments=arguments,
            functions=tuple(transform.function for transform in self.transforms),
            capacity=self.spec.capacity[SPLITS.index(split)],
            scale=self.spec.pool.scale,
            differentiable=differentiable,
        )

"""Lanes: runs that differ in numbers and keys, as one program, and how well each ends on validation rows."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het import tree
from fedjax_het.check import require
from fedjax_het.engine import evaluate, initial_state
from fedjax_het.engine.state import Seen
from fedjax_het.federation import Federation
from fedjax_het.metrics import row_means
from fedjax_het.typing import Array, Bound, Metrics, PyTree

__all__ = ["Layout", "losses", "stacked"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How an algorithm is put together from the leaves that all candidates share and those they do not.

    Attributes:
        structure: of the algorithm.
        varies: which leaves differ between candidates.
        count: of the candidates.
    """

    structure: Any
    varies: tuple[bool, ...]
    count: int

    def algorithm(self, fixed: Sequence[Array], varied: Sequence[Array]) -> Any:
        """The algorithm with these leaves."""
        same, other = iter(fixed), iter(varied)
        return jax.tree.unflatten(self.structure, [next(other if each else same) for each in self.varies])


def stacked(algorithms: Sequence[Any], label: str) -> tuple[Layout, list[Array], list[Array]]:
    """(layout, leaves that are the same for all, the others stacked [S, ...]).

    Only what differs gets a batch axis: a stacked number of steps would run every loop to its longest lane.

    Raises:
        ValueError: algorithms that are not one program.
    """
    structures = [jax.tree.structure(algorithm) for algorithm in algorithms]
    require(
        all(structure == structures[0] for structure in structures),
        f"Entry.grid must name numbers that are leaves, got one of {label!r} that changes the compiled "
        "program: leave it out of the table of algorithms",
    )
    leaves = list(zip(*map(jax.tree.leaves, algorithms)))
    varies = tuple(any(not np.array_equal(row[0], other) for other in row[1:]) for row in leaves)
    fixed = [jnp.asarray(row[0]) for row, each in zip(leaves, varies) if not each]
    varied = [jnp.stack(row) for row, each in zip(leaves, varies) if each]
    return Layout(structures[0], varies, len(algorithms)), fixed, varied


@functools.partial(jax.jit, static_argnames=("layout",))
def losses(
    layout: Layout,
    fixed: list[Array],
    varied: list[Array],
    lanes: Array,
    round_fn: Any,
    federation: Federation,
    judges: Federation,
    rounds: Array,
) -> Array:
    """Run every candidate under every key, and judge what each client then holds; one program.

    Args:
        layout: of the algorithms, S candidates.
        fixed: their common leaves.
        varied: their other leaves, [S, ...].
        lanes: keys of the runs, [K].
        round_fn: the round.
        federation: whom to train.
        judges: whose validation rows count: `federation`, or the federation that it was pooled from.
        rounds: int32 scalar.

    Returns:
        The mean over clients with validation rows of the loss of each client's own model on them, [S, K]; inf
        where it, or any round, was not finite.
    """

    def one(varied: list[Array], key: Array) -> Array:
        return _loss(layout.algorithm(fixed, varied), key, round_fn, federation, judges, rounds)

    # keys outside: cohorts and batches are then drawn once for all candidates
    candidates = jax.vmap(one, in_axes=(0, None), axis_size=layout.count)
    return jax.vmap(candidates, in_axes=(None, 0), out_axes=1)(varied, lanes)


def _loss(
    algorithm: Any, key: Array, round_fn: Any, federation: Federation, judges: Federation, rounds: Array
) -> Array:
    """One run and its validation loss, scalar."""

    def step(_: Array, carry: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
        state, sound = carry
        state, log = round_fn(algorithm, state, federation)
        return state, sound & log["sound"]

    state = initial_state(algorithm, federation, key=key, round_fn=round_fn)
    state, sound = jax.lax.fori_loop(0, rounds, step, (state, jnp.ones((), bool)))
    many = judges.num_clients
    if federation.num_clients != many:  # each client is given what the one who holds all rows has
        seen = Seen(*(jnp.broadcast_to(leaf[:1], (many,)) for leaf in (state.seen.loss, state.seen.round)))
        clients = tree.stack(tree.take(state.clients, jnp.zeros((), jnp.int32)), many)
        state = dataclasses.replace(state, clients=clients, seen=seen)
    metrics = (row_means(Bound(_row_losses, (algorithm.problem.losses,))),)
    scores = evaluate(algorithm, state, judges, executor=round_fn.executor, split="valid", metrics=metrics)
    held = scores.rows > 0
    total = jnp.sum(jnp.where(held, scores.personal["loss"], 0))
    mean = total / jnp.sum(held).astype(total.dtype)
    return jnp.where(sound & jnp.isfinite(mean), mean, jnp.inf)


def _row_losses(losses: Any, out: PyTree, y: Array) -> Metrics:
    return {"loss": losses(out, y)}

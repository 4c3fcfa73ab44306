"""Minibatches of one client: how many, in which order, and the published loop over them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys
from fedjax_het.check import positive_int, require, whole
from fedjax_het.federation import Batch, Data, cycle
from fedjax_het.permutation import permute, scramble
from fedjax_het.typing import Array, Key, static

__all__ = ["Plan", "fold", "plan"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Plan:
    """How much local work, in which batches.

    Attributes:
        amount: epochs or steps, int32 scalar: a leaf, so sweeps over E compile once.
        unit: "epochs" or "steps"; static.
        batch_size: B, or None for all rows at once; static.
        shuffle: a fresh permutation every epoch, else the stored order; static.
        most: None for a loop that ends with the client's own steps; a number for a static loop of that many
            steps (those beyond the client's own change nothing), which reverse mode can follow; static.
    """

    amount: Array
    unit: str = static()
    batch_size: int | None = static()
    shuffle: bool = static()
    most: int | None = static()

    def rows(self, data: Data) -> int:
        """Rows of one batch array: B, or the capacity where that is smaller."""
        capacity = max(1, data.capacity)
        return capacity if self.batch_size is None else min(self.batch_size, capacity)

    def batches(self, data: Data) -> Array:
        """Batches of one epoch, the short last one included; at least 1, int32 scalar."""
        rows = self.rows(data)
        return jnp.maximum((data.size + rows - 1) // rows, 1)

    def steps(self, data: Data) -> Array:
        """Steps of a client that does all of its work; 0 for an empty client, int32 scalar."""
        full = self.amount * self.batches(data) if self.unit == "epochs" else self.amount
        return jnp.where(data.size > 0, full, 0).astype(jnp.int32)

    def positions(self, data: Data, seed: Array, step: Array) -> tuple[Array, Array]:
        """(position int32 [B], counts bool [B]) of the batch of local step `step`.

        Each epoch visits every row once. A short last batch is filled up with the client's own rows, which
        do not count in the loss.
        """
        rows, batches = self.rows(data), self.batches(data)
        epoch, batch = step // batches, step % batches
        place = batch * rows + jnp.arange(rows, dtype=jnp.int32)
        counts = place < data.size
        place = jnp.where(counts, place, cycle(place - data.size, data.size))
        if self.shuffle:
            place = permute(place, data.size, scramble(seed + epoch.astype(jnp.uint32)))
        return place, counts


def plan(
    *,
    batch_size: int | None,
    epochs: Any = None,
    steps: Any = None,
    shuffle: bool = True,
) -> Plan:
    """How much local work: give `epochs` or `steps`, not both (default: one epoch).

    Args:
        batch_size: B, or None for full batches.
        epochs: passes over the client's rows.
        steps: local steps, whatever the client's size; a new epoch begins when the rows run out.
        shuffle: a fresh permutation every epoch, keyed by (run, round, client, epoch).

    Raises:
        TypeError: a number that is not whole.
        ValueError: batch size, epochs or steps below 1; both epochs and steps.
    """
    if batch_size is not None:
        batch_size = positive_int("batch_size", batch_size, remedy="use None for full batches")
    require(
        epochs is None or steps is None,
        f"epochs and steps must not both be given, got epochs={epochs!r}, steps={steps!r}: choose one",
    )
    unit, amount = ("steps", steps) if steps is not None else ("epochs", 1 if epochs is None else epochs)
    amount = whole(unit, amount, remedy="local work is at least one pass or one step")
    return Plan(amount, unit, batch_size, shuffle, None)


def fold(
    step: Callable[[Any, Batch, Key, Array], Any],
    carry: Any,
    key: Key,
    data: Data,
    plan: Plan,
    *,
    work: Any = 1.0,
    stop: Callable[[Any], Array] | None = None,
) -> tuple[Any, Array]:
    """Fold `step` over a client's minibatches; the loop under every solver, published for methods of their own.

    Args:
        step: (carry, batch, key of this step, local step int32) -> carry.
        carry: any pytree.
        key: consumed; the order of rows and every step's key derive from it.
        data: one client.
        plan: how much, in which batches.
        work: the fraction of the plan that this client does, in [0, 1]; steps are rounded to the nearest.
        stop: carry -> bool scalar, asked after every epoch but the last; True ends the client's work there.
            Derivatives pass it by. None never asks, and is the plain loop.

    Returns:
        (carry, steps taken int32 scalar). No step is taken that is not part of the plan: an empty client
        returns its carry as it was.
    """
    order, draws = keys.seed(keys.stream(key, "order")), keys.stream(key, "step")
    full = plan.steps(data)
    real = jnp.result_type(float)
    steps = jnp.round(jnp.asarray(work, real) * full.astype(real)).astype(jnp.int32)

    def visit(j: Array, carry: Any) -> Any:
        position, counts = plan.positions(data, order, j)
        batch = data.take(position)
        batch = batch._replace(weight=jnp.where(counts, batch.weight, 0))
        return step(carry, batch, jax.random.fold_in(draws, j), j)

    if stop is not None:
        return _until(stop, visit, carry, steps, plan.batches(data), plan.most)
    if plan.most is None:
        return jax.lax.fori_loop(0, steps, visit, carry), steps

    def maybe(carry: Any, j: Array) -> tuple[Any, None]:
        # a branch and not a select, which would fuse into the step and round it another way
        return jax.lax.cond(j < steps, lambda: visit(j, carry), lambda: carry), None

    return jax.lax.scan(maybe, carry, jnp.arange(plan.most, dtype=jnp.int32))[0], steps


def _until(
    stop: Callable[[Any], Array],
    visit: Callable[[Array, Any], Any],
    carry: Any,
    steps: Array,
    batches: Array,
    most: int | None,
) -> tuple[Any, Array]:
    """`fold` with a question between epochs of `batches` steps."""
    false, zero = jnp.zeros((), bool), jnp.zeros((), jnp.int32)

    def ask(carry: Any, after: Array) -> Array:
        # nothing hangs on the answer after the last step, and a loop within `stop` needs no derivative
        held = jax.lax.stop_gradient(carry)
        between = (after % batches == 0) & (after < steps)
        return jax.lax.cond(between, lambda: stop(held), lambda: false)

    def epoch(state: tuple[Array, Array, Any]) -> tuple[Array, Array, Any]:
        j, _, carry = state
        end = jnp.minimum(j + batches, steps)
        carry = jax.lax.fori_loop(j, end, visit, carry)
        return end, ask(carry, end), carry

    def maybe(state: tuple[Array, Array, Any], j: Array) -> tuple[tuple[Array, Array, Any], None]:
        def go() -> tuple[Array, Array, Any]:
            new = visit(j, state[2])
            return j + 1, ask(new, j + 1), new

        return jax.lax.cond((j < steps) & ~state[1], go, lambda: state), None

    start = (zero, false, carry)
    if most is None:
        taken, _, carry = jax.lax.while_loop(lambda state: (state[0] < steps) & ~state[1], epoch, start)
        return carry, taken
    (taken, done, carry), _ = jax.lax.scan(maybe, start, jnp.arange(most, dtype=jnp.int32))
    # a static loop too short for the plan reports the plan, so that its caller can tell
    return carry, jnp.where(done, taken, steps)

"""Local work in a method's own steps, where a solver and an objective cannot say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.algorithm import Client
from fedjax_het.federation import Batch, Data
from fedjax_het.local import Clock, Solver, fold
from fedjax_het.problem import Aux, Model, Objective, full_gradient
from fedjax_het.typing import Array, Key, Params

__all__ = ["local_loop", "slope"]


def slope(f: Objective, model: Model, batch: Batch, key: Key, data: Data, solver: Solver) -> tuple[Params, Aux]:
    """The gradient that a local step of `solver` takes: on its batch, or on all rows where batches are full.

    Args:
        f: what to differentiate, in the params.
        model: where.
        batch: the step's rows.
        key: consumed by the objective.
        data: all of the client's rows.
        solver: its batch size decides.
    """
    if solver.plan.batch_size is None:
        return full_gradient(f, model, data, key)
    (_, aux), grads = jax.value_and_grad(f, has_aux=True)(model.params, model.buffers, batch, key)
    return grads, aux


def local_loop(
    step: Callable[[Any, Batch, Key, Clock], tuple[Any, Array]], carry: Any, client: Client, solver: Solver
) -> tuple[Any, dict[str, Array]]:
    """A client's planned steps, on the batches and at the clock that `solver.solve` would give it.

    Args:
        step: (carry, batch, key of this step, clock) -> (carry, the loss that it saw).
        carry: any pytree; returned as it is where no step is planned.
        client: whose key, rows and work.
        solver: its plan.

    Returns:
        (carry, {"loss": mean over the steps, 0 without one, "steps": steps taken}).
    """
    full, real = solver.plan.steps(client.data), jnp.result_type(float)

    def visit(state: tuple[Any, Array], batch: Batch, key: Key, j: Array) -> tuple[Any, Array]:
        inner, total = state
        inner, loss = step(inner, batch, key, Clock(client.round * full + j, client.round, j))
        return inner, total + loss.astype(real)

    start = (carry, jnp.zeros((), real))
    (carry, total), steps = fold(visit, start, client.key, client.data, solver.plan, work=client.work)
    loss = total / jnp.maximum(steps, 1).astype(real)
    if solver.plan.most is not None:  # a plan longer than its static loop must not pass unseen
        loss = jnp.where(steps <= solver.plan.most, loss, jnp.nan)
    return carry, {"loss": loss, "steps": steps}

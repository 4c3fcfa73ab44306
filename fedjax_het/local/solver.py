"""Solver: minimise an objective on one client's rows, from a start, for a planned number of steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.check import positive_int
from fedjax_het.federation import Batch, Data
from fedjax_het.local.batching import Plan, fold, plan
from fedjax_het.local.optimizers import Gradient, Optax, gradient, optimizer
from fedjax_het.local.schedules import Clock
from fedjax_het.problem import Model, Objective, full_gradient
from fedjax_het.typing import Array, Key, Params, PyTree, static

__all__ = ["Probe", "Solution", "Solver", "from_optax", "scanned", "sgd", "traced"]

Probe = Callable[[Params, Params, Params], PyTree]
"""(params before the step, start, gradient) -> tree of arrays, recorded at each local step."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Solution:
    """What local work produced.

    Attributes:
        params: where it ended.
        buffers: the model's buffers there.
        steps: steps taken, int32 scalar.
        step_sum: sum of the step sizes eta_j, scalar.
        accumulated: ||a||_1 of FedNova in units of the first step size (Wang et al. 2020): the total weight of
            the gradients in the displacement; nan for an adaptive rule.
        loss: mean over the steps of the batch's plain data loss, 0 if no step was taken; scalar.
        bad_step: the first step whose loss was NaN or infinite, -1 if none; int32 scalar.
        trace: what the solver's probe saw, leading axis `room`, zeros after the last step; () without a probe.
    """

    params: Params
    buffers: PyTree
    steps: Array
    step_sum: Array
    accumulated: Array
    loss: Array
    bad_step: Array
    trace: PyTree

    @property
    def model(self) -> Model:
        """params and buffers together."""
        return Model(self.params, self.buffers)

    @property
    def info(self) -> dict[str, Array]:
        """The diagnostics that every algorithm reports."""
        return {"loss": self.loss, "steps": self.steps, "bad_step": self.bad_step}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Solver:
    """A step rule and a plan.

    Attributes:
        rule: how a gradient becomes a step; its state starts anew every round.
        plan: how many steps, on which batches.
        probe: what to record at each step, or None; static.
        room: steps recorded; static.
    """

    rule: Gradient | Optax
    plan: Plan
    probe: Probe | None = static()
    room: int = static()

    @property
    def kind(self) -> str:
        """ "sgd", "momentum" or "adaptive": SCAFFOLD II needs the first, FedNova one of the first two."""
        return self.rule.kind

    def solve(
        self,
        key: Key,
        objective: Objective,
        start: Model,
        data: Data,
        *,
        round_: Any = 0,
        work: Any = 1.0,
        decay: Any = 0.0,
    ) -> Solution:
        """Minimise `objective` over `data` from `start`.

        Args:
            key: consumed.
            objective: what to minimise.
            start: where to begin.
            data: one client's rows.
            round_: the round's number, for schedules.
            work: fraction of the plan to do.
            decay: mu of a proximal term in the objective; enters `accumulated` only:
                v <- rho v + 1, s <- (1 - eta_j mu) s + (eta_j / eta_0) v, ||a||_1 = s.

        Returns:
            Solution; for an empty client the start, 0 steps.
        """
        full = self.plan.steps(data)
        value_and_grad = jax.value_and_grad(objective, has_aux=True)
        real = jnp.result_type(float)
        round_ = jnp.asarray(round_, jnp.int32)
        rho = self.rule.momentum if isinstance(self.rule, Gradient) else None

        def clock(j: Array) -> Clock:
            return Clock(round_ * full + j, round_, j)

        first = self.rule.rate(clock(jnp.zeros((), jnp.int32)))

        def step(carry: Any, batch: Batch, key: Key, j: Array) -> Any:
            params, buffers, opt, (sums, bad, trace) = carry
            step_sum, velocity, account, loss_sum = sums
            if self.plan.batch_size is None:
                grads, aux = full_gradient(objective, Model(params, buffers), data, key)
            else:
                (_, aux), grads = value_and_grad(params, buffers, batch, key)
            if self.probe is not None:
                seen = self.probe(params, start.params, grads)
                trace = jax.tree.map(lambda t, s: t.at[j].set(s, mode="drop"), trace, seen)
            now = clock(j)
            eta = self.rule.rate(now)
            params, opt = self.rule.step(params, grads, opt, now)
            velocity = jnp.ones((), real) if rho is None else rho * velocity + 1
            account = (1 - eta * decay) * account + eta / first * velocity
            bad = jnp.where((bad < 0) & ~jnp.isfinite(aux.loss), j, bad)
            sums = (step_sum + eta, velocity, account, loss_sum + aux.loss.astype(real))
            return params, aux.buffers, opt, (sums, bad, trace)

        zero = jnp.zeros((), real)
        trace: PyTree = ()
        if self.probe is not None:
            shapes = jax.eval_shape(self.probe, start.params, start.params, start.params)
            trace = jax.tree.map(lambda leaf: jnp.zeros((self.room, *leaf.shape), leaf.dtype), shapes)
        account = ((zero, zero, zero, zero), jnp.full((), -1, jnp.int32), trace)
        carry = (start.params, start.buffers, self.rule.init(start.params), account)
        carry, steps = fold(step, carry, key, data, self.plan, work=work)
        params, buffers, _, ((step_sum, _, accumulated, loss_sum), bad, trace) = carry
        if isinstance(self.rule, Optax):
            accumulated = jnp.full((), jnp.nan, real)
        loss = loss_sum / jnp.maximum(steps, 1).astype(real)
        if self.plan.most is not None:  # a plan longer than its static loop must not pass unseen
            loss = jnp.where(steps <= self.plan.most, loss, jnp.nan)
        return Solution(params, buffers, steps, step_sum, accumulated, loss, bad, trace)


def sgd(
    learning_rate: Any,
    *,
    batch_size: int | None,
    epochs: Any = None,
    steps: Any = None,
    momentum: Any = None,
    shuffle: bool = True,
) -> Solver:
    """Minibatch SGD: y <- y - eta g(y), with optional momentum that restarts every round.

    Args:
        learning_rate: eta > 0; a number (leaf), a `Schedule`, or a function of the global step.
        batch_size: B, or None for full batches; the short last batch of an epoch is kept.
        epochs: passes over the client's rows (default 1).
        steps: local steps instead of epochs.
        momentum: rho in [0, 1), or None.
        shuffle: a fresh permutation of the rows every epoch.

    Raises:
        TypeError, ValueError: a number of the wrong kind or range; both epochs and steps.
    """
    work = plan(batch_size=batch_size, epochs=epochs, steps=steps, shuffle=shuffle)
    return Solver(gradient(learning_rate, momentum), work, None, 0)


def from_optax(
    factory: Any,
    *,
    batch_size: int | None,
    epochs: Any = None,
    steps: Any = None,
    shuffle: bool = True,
    **arguments: Any,
) -> Solver:
    """Local work by any optax transformation: `from_optax(optax.adam, learning_rate=1e-3, batch_size=20)`.

    Args:
        factory: see `optimizers.optimizer`.
        batch_size: as in `sgd`.
        epochs: as in `sgd`.
        steps: as in `sgd`.
        shuffle: as in `sgd`.
        arguments: the factory's; floats and schedules are leaves.

    Raises:
        TypeError, ValueError: as in `sgd` and `optimizer`.
    """
    work = plan(batch_size=batch_size, epochs=epochs, steps=steps, shuffle=shuffle)
    return Solver(optimizer(factory, **arguments), work, None, 0)


def scanned(solver: Solver, most: int) -> Solver:
    """The same solver as a static loop of `most` steps, bit for bit, which reverse mode can differentiate.

    Args:
        solver: any.
        most: at least the steps of the client with the most work. A client with more reports a loss of NaN,
            which stops the run by name.

    Raises:
        TypeError, ValueError: `most` is not a whole number of at least 1.
    """
    return dataclasses.replace(solver, plan=dataclasses.replace(solver.plan, most=positive_int("most", most)))


def traced(solver: Solver, probe: Probe, room: int) -> Solver:
    """The same solver, recording `probe` at each of its first `room` local steps.

    Raises:
        TypeError, ValueError: `room` is not a whole number of at least 1.
    """
    return dataclasses.replace(solver, probe=probe, room=positive_int("room", room))

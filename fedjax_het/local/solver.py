"""Solver: minimise an objective on one client's rows, from a start, for a planned number of steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.federation import Batch, Data
from fedjax_het.local.batching import Plan, fold, plan
from fedjax_het.local.optimizers import Gradient, Optax, gradient, optimizer
from fedjax_het.local.schedules import Clock, Schedule
from fedjax_het.problem import Model, Objective, full_gradient
from fedjax_het.typing import Array, Key, Params, PyTree, static

__all__ = ["Probe", "Solution", "Solver", "from_optax", "sgd"]

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
        reach: the total weight of the gradients in the displacement: start - params = reach g wherever the
            objective, without the proximal term that `solve` was told of, has a constant gradient g; scalar,
            nan for an adaptive rule.
        accumulated: ||a||_1 of FedNova (Wang et al. 2020): `reach` in units of the first step size, of 1 if
            that is 0; scalar.
        loss: mean over the steps of the batch's plain data loss, 0 if no step was taken; scalar.
        trace: what the solver's probe saw, leading axis `room`, zeros after the last step; () without a probe.
    """

    params: Params
    buffers: PyTree
    steps: Array
    step_sum: Array
    reach: Array
    accumulated: Array
    loss: Array
    trace: PyTree

    @property
    def model(self) -> Model:
        """params and buffers together."""
        return Model(self.params, self.buffers)

    @property
    def info(self) -> dict[str, Array]:
        """The diagnostics that every algorithm reports."""
        return {"loss": self.loss, "steps": self.steps}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Solver:
    """A step rule and a plan.

    Attributes:
        rule: how a gradient becomes a step; its state starts anew every round.
        plan: how many steps, on which batches.
        probe: what to record at each step, or None; static.
        room: steps recorded; static.
        gamma: see `inexact`; scalar, or None to do all that is planned.
    """

    rule: Gradient | Optax
    plan: Plan
    probe: Probe | None = static()
    room: int = static()
    gamma: Array | None = None

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
        pull: Any = None,
        held: Any = None,
    ) -> Solution:
        """Minimise `objective` over `data` from `start`.

        Args:
            key: consumed.
            objective: what to minimise.
            start: where to begin.
            data: one client's rows.
            round_: the round's number, for schedules.
            work: fraction of the plan to do.
            pull: mu of a term mu/2 |y - start|^2 that is to be added outside the rule, so that momentum does
                not gather it: y <- y - eta (v + mu (y - start)). None for none; SGD rules only.
            held: mu of such a term that `objective` holds already, so that it goes through the rule. It
                changes `reach` and `accumulated` only, see `account`.

        Returns:
            Solution; for an empty client the start, 0 steps.

        Raises:
            ValueError: `pull` with a rule that is not SGD.
        """
        if pull is not None and self.kind == "adaptive":
            raise ValueError(
                "pull must be None with an adaptive rule, got a number: put the term into the objective"
            )
        full = self.plan.steps(data)
        value_and_grad = jax.value_and_grad(objective, has_aux=True)
        real = jnp.result_type(float)
        round_ = jnp.asarray(round_, jnp.int32)

        def clock(j: Array) -> Clock:
            return Clock(round_ * full + j, round_, j)

        def back(params: Params, share: Any) -> Params:
            return tree.scale(share, tree.subtract(params, start.params))

        def step(carry: Any, batch: Batch, key: Key, j: Array) -> Any:
            params, buffers, opt, loss, trace = carry
            if self.plan.batch_size is None:
                grads, aux = full_gradient(objective, Model(params, buffers), data, key)
            else:
                (_, aux), grads = value_and_grad(params, buffers, batch, key)
            if self.probe is not None:
                seen = self.probe(params, start.params, grads)
                trace = jax.tree.map(lambda t, s: t.at[j].set(s, mode="drop"), trace, seen)
            after, opt = self.rule.step(params, grads, opt, clock(j))
            if pull is not None:
                after = tree.subtract(after, back(params, self.rule.rate(clock(j)) * pull))
            return after, aux.buffers, opt, loss + aux.loss.astype(real), trace

        def slope(params: Params, buffers: PyTree) -> Array:
            draw = jax.random.clone(keys.stream(key, "inexact"))  # the same draws wherever it is asked
            grads, _ = full_gradient(objective, Model(params, buffers), data, draw)
            if pull is not None:
                grads = tree.add(grads, back(params, pull))
            return tree.sum_of_squares(grads)

        asked: dict[str, Any] = {}
        if self.gamma is not None:
            limit = self.gamma**2 * slope(start.params, start.buffers)
            asked["stop"] = lambda carry: slope(carry[0], carry[1]) <= limit
        trace: PyTree = ()
        if self.probe is not None:
            shapes = jax.eval_shape(self.probe, start.params, start.params, start.params)
            trace = jax.tree.map(lambda leaf: jnp.zeros((self.room, *leaf.shape), leaf.dtype), shapes)
        carry = (start.params, start.buffers, self.rule.init(start.params), jnp.zeros((), real), trace)
        carry, steps = fold(step, carry, key, data, self.plan, work=work, **asked)
        params, buffers, _, loss, trace = carry
        loss = loss / jnp.maximum(steps, 1).astype(real)
        if self.plan.most is not None:  # a plan longer than its static loop must not pass unseen
            loss = jnp.where(steps <= self.plan.most, loss, jnp.nan)
        return Solution(params, buffers, steps, *self.account(steps, clock, pull, held), loss, trace)

    def account(
        self, steps: Array, clock: Callable[[Array], Clock], pull: Any, held: Any
    ) -> tuple[Array, Array, Array]:
        """(sum of eta_j, reach, ||a||_1) of `steps` steps. Unused, it costs nothing.

        The steps of a unit gradient with momentum rho, a term mu outside the rule and a term m inside it:

            v <- rho v + 1 - m eta_0 s;  s <- (1 - eta_j mu) s + (eta_j / eta_0) v;  ||a||_1 = s

        and reach = eta_0 s. If eta_0 = 0, the unit is 1.
        """
        real = jnp.result_type(float)
        nan = jnp.full((), jnp.nan, real)
        momentum = self.rule.momentum if isinstance(self.rule, Gradient) else None
        constant = isinstance(self.rule, Gradient) and not isinstance(self.rule.learning_rate, Schedule)
        first = self.rule.rate(clock(jnp.zeros((), jnp.int32)))
        if constant and momentum is None and pull is None and held is None:
            count = steps.astype(real)
            return count * first, count * first, count
        unit = jnp.where(first == 0, 1, first).astype(real)
        rho = jnp.zeros((), real) if momentum is None else momentum
        outside = jnp.asarray(0.0 if pull is None else pull, real)
        inside = jnp.asarray(0.0 if held is None else held, real)

        def visit(j: Array, sums: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            total, velocity, account = sums
            eta = self.rule.rate(clock(j)).astype(real)
            velocity = rho * velocity + 1 - inside * unit * account
            return total + eta, velocity, (1 - eta * outside) * account + eta / unit * velocity

        zero = jnp.zeros((), real)
        if self.plan.most is None:
            total, _, account = jax.lax.fori_loop(0, steps, visit, (zero, zero, zero))
        else:

            def maybe(sums: Any, j: Array) -> tuple[Any, None]:
                return jax.tree.map(lambda a, b: jnp.where(j < steps, a, b), visit(j, sums), sums), None

            counter = jnp.arange(self.plan.most, dtype=jnp.int32)
            total, _, account = jax.lax.scan(maybe, (zero, zero, zero), counter)[0]
        return (total, unit * account, account) if isinstance(self.rule, Gradient) else (total, nan, nan)


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

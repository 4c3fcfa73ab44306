"""q-FedSGD: q-FFL by one gradient a client and round."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.algorithm import Client
from fedjax_het.algorithms.qfedavg import QFedAvg, fair_method
from fedjax_het.local import Solution, Solver
from fedjax_het.problem import Model, Problem, objective
from fedjax_het.typing import Array, Params

__all__ = ["batch_gradient", "qfedsgd"]


def _gradient(params: Params, start: Params, grads: Params) -> Params:
    return grads


def batch_gradient(problem: Problem, solver: Solver, start: Model, client: Client) -> tuple[Params, Solution]:
    """(g_k, the local step it makes): the gradient of F_k on the first batch that the solver would take.

    Args:
        problem: what to learn.
        solver: its batch size says what the batch is; how many epochs or steps it plans does not matter.
        start: where.
        client: whose rows; without any, the gradient and the loss are 0. A straggler does its one batch:
            there is no smaller part of it to do.

    Returns:
        The gradient, like params, and the Solution of the one step; its loss is that of the batch at `start`.
    """
    plan = solver.plan
    most = None if plan.most is None else 1
    plan = dataclasses.replace(plan, amount=jnp.ones((), jnp.int32), unit="steps", most=most)
    once = dataclasses.replace(solver, plan=plan, probe=_gradient, room=1, gamma=None)
    solution = once.solve(client.key, objective(problem), start, client.data, round_=client.round)
    return jax.tree.map(lambda leaf: leaf[0], solution.trace), solution


def _one_batch(
    problem: Problem, solver: Solver, smooth: Array, start: Model, client: Client
) -> tuple[Params, Array, Solution]:
    """g_k and F_k on the same batch at w."""
    grads, solution = batch_gradient(problem, solver, start, client)
    return grads, solution.loss, solution


def qfedsgd(
    problem: Problem, solver: Solver, *, q: Any = 1.0, lipschitz: Any = None, weights: str = "uniform"
) -> QFedAvg:
    """q-FedSGD: g_k = grad F_k(w);  h_k = q F_k^(q-1) |g_k|^2 + L F_k^q;  w <- w - sum F_k^q g_k / sum h_k.

    One batch a client and round, with F_k and its gradient on the same rows: batch_size=None takes all of
    them. q = 0 is a gradient step of 1/L on the uniform mean of the F_k. See `qfedavg` for losses far apart.

    Args:
        problem: what to learn.
        solver: its batch size, and by its first rate L; a round is one step whatever it plans.
        q: >= 0, a leaf.
        lipschitz: L > 0, a leaf; None for 1 / the solver's rate at the first step of the run. An optax solver
            needs it.
        weights: as in `qfedavg`.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: q negative, L not positive, an optax solver without L, unknown weights.

    Reference:
        Li, Sanjabi, Beirami, Smith, ICLR 2020, Algorithm 1.

    Departures:
        The listing takes F_k and its gradient over all local rows, and so does the authors' stored code; with
        a batch size both are those of one batch.
    """
    return fair_method(problem, solver, q, lipschitz, weights, _one_batch)

"""pFedMe: federated averaging of Moreau envelopes; personal models are their inner solutions."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.fedavg import Server, average_step
from fedjax_het.algorithms.local_loop import local_loop, slope
from fedjax_het.algorithms.parts import WEIGHTS, check_parts
from fedjax_het.algorithms.qfedavg import first_rate
from fedjax_het.algorithms.step_limit import lipschitz_of
from fedjax_het.check import known, number, positive_int, require, short
from fedjax_het.federation import Batch, Federation
from fedjax_het.local import Clock, Optax, Solver, optimizer
from fedjax_het.local.optimizers import rate
from fedjax_het.problem import Model, Problem, objective, prox
from fedjax_het.typing import Array, Key, PyTree, static

__all__ = ["Envelope", "PFedMe", "pfedme"]

USUAL = 15.0
"""lambda of the paper's experiments on MNIST."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Envelope:
    """Where a client's local rounds ended.

    Attributes:
        centre: w_k, and the buffers there.
        personal: the last inner solution theta_k, with the same buffers.
        info: "loss", the mean over local rounds of the data loss where the inner steps began, and "steps", how
            many local rounds there were.
    """

    centre: Model
    personal: Model
    info: dict[str, Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PFedMe:
    """See `pfedme`.

    Attributes:
        problem: what to learn.
        solver: the local rounds, a step rule and a plan.
        server: the server's step.
        weighting: the default weighting.
        lam: lambda, scalar.
        personal_learning_rate: alpha_p, scalar.
        inner_steps: K; static.
        carry_over: whether theta goes on where the last local round left it; static.
    """

    problem: Problem
    solver: Solver
    server: Optax
    weighting: Any
    lam: Array
    personal_learning_rate: Array
    inner_steps: int = static()
    carry_over: bool = static()

    def init(self, key: Key, federation: Federation) -> tuple[Server, PyTree]:
        """FedAvg's start: theta is computed where it is asked for."""
        model = self.problem.fresh(keys.stream(key, "params"))
        server = Server(model.params, self.problem.shared(model.buffers), self.server.init(model.params))
        return server, tree.stack(self.problem.own(model.buffers), federation.num_clients)

    def local_rounds(self, server: Server, client: Client) -> Envelope:
        """w_k <- w_k - eta lambda (w_k - theta), where theta is K steps towards the proximal point of w_k."""
        start = self.problem.model(server.params, server.buffers, client.state)
        plain, rule = objective(self.problem), self.solver.rule
        count = jnp.arange(self.inner_steps, dtype=jnp.int32)

        def local_round(carry: Any, batch: Batch, key: Key, clock: Clock) -> Any:
            centre, theta, buffers, opt = carry
            f = prox(plain, centre, self.lam)

            def inner(now: Model, i: Array) -> tuple[Model, Array]:
                grads, aux = slope(f, now, batch, jax.random.fold_in(key, i), client.data, self.solver)
                down = tree.scale(self.personal_learning_rate, grads)
                return Model(tree.subtract(now.params, down), aux.buffers), aux.loss

            first = theta if self.carry_over else centre
            (theta, buffers), losses = jax.lax.scan(inner, Model(first, buffers), count)
            pull = tree.scale(self.lam, tree.subtract(centre, theta))  # the gradient of the envelope
            centre, opt = rule.step(centre, pull, opt, clock)
            return (centre, theta, buffers, opt), losses[0]

        carry = (start.params, start.params, start.buffers, rule.init(start.params))
        (centre, theta, buffers, _), info = local_loop(local_round, carry, client, self.solver)
        return Envelope(Model(centre, buffers), Model(theta, buffers), info)

    def client_update(self, server: Server, client: Client) -> Report:
        """Local rounds from w; upload omega_k (w_k - w) and omega_k."""
        done = self.local_rounds(server, client)
        total = {
            "delta": tree.scale(client.weight, tree.subtract(done.centre.params, server.params)),
            "buffers": tree.scale(client.weight, self.problem.shared(done.centre.buffers)),
            "weight": client.weight,
        }
        own = self.problem.own(done.centre.buffers)
        return Report(own, total, info=done.info, local=done.centre)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """w <- (1 - beta) w + beta * mean of w_k."""
        return average_step(self.server, server, total, cohort)

    def personalise(self, server: Server, client: Client) -> Model:
        """theta_k of local rounds from w on the client's training rows; w itself for an empty client."""
        return self.local_rounds(server, client).personal

    predict = one_model.predict
    consensus = one_model.consensus
    join = one_model.join

    def traffic(self, server: Server) -> Traffic:
        """d down, d up."""
        size = tree.num_bytes((server.params, server.buffers))
        return Traffic(size, size)


def _stable(eta: Any, lam: Any, alpha: Any, lipschitz: Any) -> None:
    """Raise `ValueError` for known numbers with which local rounds or inner steps do not settle."""
    if any(isinstance(value, Tracer) for value in (eta, lam, alpha, lipschitz)):
        return
    lam, alpha = np.asarray(lam, np.float64), np.asarray(alpha, np.float64)
    if eta is not None and np.any(np.asarray(eta, np.float64) * lam >= 1):
        fastest, largest = np.max(np.asarray(eta, np.float64)), np.max(lam)
        raise ValueError(
            f"lam must be < 1 / eta = {1 / fastest:.4g} for this solver, got {largest:.4g}: local rounds would "
            f"pass their inner solutions; take a smaller lam, or a learning_rate < {1 / largest:.4g}"
        )
    steep = lam + (0.0 if lipschitz is None else np.asarray(lipschitz, np.float64))
    known_as = "lam" if lipschitz is None else "(lam + lipschitz)"
    require(
        not np.any(alpha * steep >= 2),
        f"personal_learning_rate must be < 2 / {known_as} = {2 / np.max(steep):.4g}, got {np.max(alpha):.4g}: "
        f"inner steps would diverge; take {1 / np.max(steep):.4g} or less",
    )


def pfedme(
    problem: Problem,
    solver: Solver,
    *,
    lam: Any = None,
    personal_learning_rate: Any = None,
    inner_steps: int = 5,
    server_learning_rate: Any = 1.0,
    carry_over: bool = False,
    weights: str = "proportional",
    lipschitz: Any = None,
) -> PFedMe:
    """pFedMe: minimise sum_k p_k E_k(w), E_k(w) = min_theta F_k(theta) + lambda/2 |theta - w|^2.

    A local round draws one minibatch; on it, K times from theta = w_k,
    theta <- theta - alpha_p (grad F_k(theta) + lambda (theta - w_k)); then
    w_k <- w_k - eta lambda (w_k - theta), a step along the gradient of the Moreau envelope E_k. R local rounds
    from w_k = w; then, at the server, w <- (1 - beta) w + beta sum_k omega_k w_k.

    The personal model is the last theta, computed anew for whoever is evaluated, from w and the client's
    training rows: an evaluation is a round of local work for everyone, and unseen clients are served as members
    are. w is the centre that personal models are held to, not a start for fine-tuning. lambda -> infinity makes
    personal models global, lambda -> 0 makes them local and w stop.

    With K = 1, theta started at w_k and beta = 1 it is FedAvg of rate eta lambda alpha_p. With inner problems
    solved exactly it is FedAvg of rate eta on the envelopes, whose limit is their minimum, not that of F.

    Args:
        problem: what to learn.
        solver: the local rounds: eta is its learning rate, R its steps (or epochs), and its batch size that of
            a local round. Its momentum, if any, gathers envelope gradients.
        lam: lambda > 0, with eta lambda < 1, a leaf. None for 15, the paper's on MNIST (20 and 30 on
            Synthetic), or 1 / (2 eta) if that is less.
        personal_learning_rate: alpha_p > 0, with alpha_p (lambda + L) < 2, a leaf. None for 1 / (lambda + L),
            with lambda for an L that is not given.
        inner_steps: K; static.
        server_learning_rate: beta > 0, above 1 as well, a leaf; or a schedule over rounds.
        carry_over: whether theta begins where the local round before left it (in the first one at w).
        weights: "proportional" or "uniform".
        lipschitz: L > 0 of every F_k, if known: only for the check and the default of alpha_p.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a number out of its range, eta lambda >= 1 or alpha_p (lambda + L) >= 2 (L = 0 if not
            given; the message says what to use), a solver that stops early, unknown weights.

    Reference:
        Dinh, Tran, Nguyen, NeurIPS 2020, Algorithm 1.

    Departures:
        The paper lets all clients work and averages a cohort; here the cohort works, which gives the same w. It
        averages uniformly; weights are n_k over the cohort here, as in the authors' code. That code starts
        theta at w once a round and carries it over (`carry_over`), adds a weight decay of 0.001 to inner steps,
        reads rows in their stored order, and scores as the personal model a copy of w_k that it has put in
        theta's place; none of the last three is here.
    """
    check_parts(problem, solver)
    if solver.gamma is not None:
        raise ValueError(
            "solver must do all that it plans, got one that stops early: take it as it was before "
            "fh.local.inexact; inner_steps says how exact inner solutions are"
        )
    known("weights", weights, WEIGHTS)
    if not isinstance(carry_over, bool):
        raise TypeError(f"carry_over must be True or False, got {short(carry_over)}: False starts at w_k")
    # the argument of an optax transformation is no length of a step along the gradient
    eta = None if solver.kind == "adaptive" else first_rate(solver)
    lipschitz = lipschitz_of(lipschitz)
    if lam is None:
        lam = USUAL if eta is None else jnp.minimum(USUAL, 1 / (2 * eta))
    lam = number("lam", lam, above=0, remedy="15 is the paper's; towards 0 everyone is alone")
    if personal_learning_rate is None:
        personal_learning_rate = 1 / (lam + (lam if lipschitz is None else lipschitz))
    alpha = number("personal_learning_rate", personal_learning_rate, above=0, remedy="1 / (2 lam), say")
    _stable(eta, lam, alpha, lipschitz)
    steps = positive_int("inner_steps", inner_steps, remedy="5 is the paper's")
    beta = rate("server_learning_rate", server_learning_rate)
    server = optimizer(optax.sgd, learning_rate=beta)
    return PFedMe(problem, solver, server, WEIGHTS[weights](), lam, alpha, steps, carry_over)

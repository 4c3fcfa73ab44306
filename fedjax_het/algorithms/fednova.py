"""FedNova: updates divided by how much work they hold, so that who works more does not count more."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.fedavg import Server, average_step
from fedjax_het.algorithms.parts import averaging, check_parts
from fedjax_het.check import known, number
from fedjax_het.federation import Federation
from fedjax_het.local import Optax, Solver, restarted
from fedjax_het.problem import Objective, Problem, objective, prox
from fedjax_het.typing import Array, Key, PyTree, static
from fedjax_het.weighting import proportional

__all__ = ["FedNova", "fednova"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FedNova:
    """See `fednova`."""

    problem: Problem
    solver: Solver
    server: Optax
    weighting: Any
    mu: Array | None
    prox: str = static()
    effective_steps: str = static()

    def objective(self, problem: Problem, server: Server, client: Client) -> Objective:
        """h_k: F_k, and the proximal term if there is one."""
        plain = objective(problem)
        return plain if self.mu is None else prox(plain, server.params, self.mu)

    def init(self, key: Key, federation: Federation) -> tuple[Server, PyTree]:
        """A fresh model; clients keep nothing but buffers that they own."""
        model = self.problem.fresh(keys.stream(key, "params"))
        server = Server(model.params, self.problem.shared(model.buffers), self.server.init(model.params))
        return server, tree.stack(self.problem.own(model.buffers), federation.num_clients)

    def client_update(self, server: Server, client: Client) -> Report:
        """Local work from w; upload omega_k Delta_k / (eta |a_k|), omega_k and the part in tau_eff."""
        start = self.problem.model(server.params, server.buffers, client.state)
        if self.prox == "inside":
            f, terms = self.objective(self.problem, server, client), {"held": self.mu}
        else:
            f, terms = objective(self.problem), {"pull": self.mu}
        solution = self.solver.solve(
            client.key, f, start, client.data, round_=client.round, work=client.work, **terms
        )
        weight = jnp.where(solution.steps > 0, client.weight, 0)
        direction = tree.divide(tree.subtract(solution.params, server.params), solution.reach)
        effective = solution.reach if self.effective_steps == "norm" else solution.step_sum
        total = {
            "delta": tree.scale(weight, direction),
            "buffers": tree.scale(weight, self.problem.shared(solution.buffers)),
            "weight": weight,
            "effective": weight * effective,
        }
        info = solution.info | {"accumulated": solution.accumulated}
        return Report(self.problem.own(solution.buffers), total, info=info, local=solution.model)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """w <- w + server step on tau_eff times the mean direction; nothing if nobody took a step."""
        effective = tree.divide(total["effective"], total["weight"])
        stretched = {**total, "delta": tree.scale(effective, total["delta"])}
        moved = average_step(self.server, server, stretched, cohort)
        return tree.where(total["weight"] > 0, moved, server)

    personalise = one_model.personalise
    predict = one_model.predict
    consensus = one_model.consensus
    join = one_model.join

    def traffic(self, server: Server) -> Traffic:
        """d down; d and one number up."""
        size = tree.num_bytes((server.params, server.buffers))
        return Traffic(size, size + jnp.result_type(float).itemsize)


def fednova(
    problem: Problem,
    solver: Solver,
    *,
    mu: Any = None,
    prox: str = "outside",
    effective_steps: str = "norm",
    clock: str = "round",
    server: Optax | None = None,
) -> FedNova:
    """FedNova: w <- w + tau_eff sum_k omega_k Delta_k / |a_k|_1,  tau_eff = sum_k omega_k |a_k|_1.

    Delta_k = y_k - w = -eta sum_j a_kj g_kj after tau_k local steps; a_k says how much each gradient counts:

        plain SGD    |a|_1 = tau
        momentum     |a|_1 = (tau - rho (1 - rho^tau) / (1 - rho)) / (1 - rho)
        prox         |a|_1 = (1 - (1 - eta mu)^tau) / (eta mu)

    and `Solver.account` has the recursion for all of them together, a rate schedule included. Every client
    then counts by omega_k alone and not by its steps: the limit is the right one as eta goes to 0, while a
    bias of order eta remains. With equal |a_k| it is FedAvg, or FedProx. Clients that took no step are left
    out of both sums.

    Args:
        problem: what to learn.
        solver: local work by SGD, with or without momentum.
        mu: of the proximal term mu/2 |y - w|^2, >= 0, a leaf; None for none.
        prox: with momentum, "outside" its buffer: y <- y - eta (v + mu (y - w)), v <- rho v + g; or "inside":
            v <- rho v + g + mu (y - w), as FedProx has it here.
        effective_steps: "norm" as above; "steps": tau_eff = sum_k omega_k tau_k, so that a small |a_k| is made
            up for.
        clock: where a rate schedule over steps begins: with every "round", or, as it does for other methods,
            with the "run". Schedules over rounds are as they are.
        server: the server's optimiser, fed minus the mean update (`fh.local.optimizer(optax.sgd,
            learning_rate=1.0, momentum=0.9)` is the paper's server momentum); default: w + update.

    Raises:
        ValueError: an adaptive solver, whose steps are no fixed combination of gradients; unknown options.
        TypeError, ValueError: mu is not a number, or negative.

    Reference:
        Wang, Liu, Liang, Joshi, Poor, NeurIPS 2020, section 4; |a_k|_1 of section 3.

    Departures:
        The authors' code counts momentum with prox wrongly (it multiplies the sum with (1 - eta mu) after
        adding the new velocity, then adds 1 more), takes "steps" whenever mu > 0, and puts the proximal term
        into the momentum buffer by adding it in place. Here |a_k| is that of the steps taken, whatever they
        are. With a schedule, |a_k| is in units of the round's first rate; with clock "run", clients of
        unequal size have unequal first rates, and each is divided by its own; "steps" is then the sum of the
        rates over the first. |a|_1 is the plain sum of the weights, which is the norm while none is negative,
        that is, while eta and mu are small enough for the local steps not to overshoot.
    """
    check_parts(problem, solver)
    if solver.kind == "adaptive":
        raise ValueError(
            "solver must be plain or momentum SGD for fednova, got an adaptive one, whose steps are no fixed "
            "combination of gradients: use fh.local.sgd, with momentum if you like, or fedavg"
        )
    known("prox", prox, ("outside", "inside"))
    known("effective_steps", effective_steps, ("norm", "steps"))
    known("clock", clock, ("round", "run"))
    if mu is not None:
        mu = number("mu", mu, least=0, remedy="None or 0 is no proximal term")
    solver = restarted(solver) if clock == "round" else solver
    return FedNova(problem, solver, averaging(server), proportional(), mu, prox, effective_steps)

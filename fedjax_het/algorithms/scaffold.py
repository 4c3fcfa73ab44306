"""SCAFFOLD: control variates that cancel the drift of local work."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms.parts import averaged, check_parts
from fedjax_het.check import known, number
from fedjax_het.federation import Federation
from fedjax_het.local import Solver
from fedjax_het.problem import Model, Problem, full_gradient, objective, tilt
from fedjax_het.typing import Array, Key, Params, PyTree, static
from fedjax_het.weighting import uniform

__all__ = ["Control", "Scaffold", "Server", "scaffold"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """The global model and the global control variate.

    Attributes:
        params: x.
        buffers: the global buffers, or () where clients own theirs.
        control: c, like params; the mean of all N clients' c_i.
    """

    params: Params
    buffers: PyTree
    control: Params


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Control:
    """What a client keeps.

    Attributes:
        control: c_i, like params: its estimate of its own gradient.
        buffers: its own buffers, or ().
    """

    control: Params
    buffers: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scaffold:
    """See `scaffold`."""

    problem: Problem
    solver: Solver
    server_learning_rate: Array
    weighting: Any
    option: str = static()

    def init(self, key: Key, federation: Federation) -> tuple[Server, Control]:
        """A fresh model; every control variate zero."""
        model = self.problem.fresh(keys.stream(key, "params"))
        zero = tree.zeros_like(model.params)
        server = Server(model.params, self.problem.shared(model.buffers), zero)
        own = Control(zero, self.problem.own(model.buffers))
        return server, tree.stack(own, federation.num_clients)

    def client_update(self, server: Server, client: Client) -> Report:
        """Local work on F_i(y) + <c - c_i, y>, then a new c_i."""
        start = self.problem.model(server.params, server.buffers, client.state.buffers)
        plain = objective(self.problem)
        f = tilt(plain, tree.subtract(server.control, client.state.control))
        solution = self.solver.solve(client.key, f, start, client.data, round_=client.round, work=client.work)
        delta = tree.subtract(solution.params, server.params)
        if self.option == "I":
            control, _ = full_gradient(plain, start, client.data, keys.stream(client.key, "control"))
        else:
            moved = tree.divide(delta, -solution.step_sum)
            control = tree.add(tree.subtract(client.state.control, server.control), moved)
        # a client that took no step learned nothing of its gradient
        control = tree.where(solution.steps > 0, control, client.state.control)
        total = {
            "delta": tree.scale(client.weight, delta),
            "buffers": tree.scale(client.weight, self.problem.shared(solution.buffers)),
            "weight": client.weight,
            "shift": tree.subtract(control, client.state.control),
        }
        state = Control(control, self.problem.own(solution.buffers))
        return Report(state, total, info=solution.info, local=solution.model)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """x <- x + eta_g * mean delta;  c <- c + sum of shifts / N, N counting every registered client."""
        mean = tree.divide(total["delta"], total["weight"])
        step = self.server_learning_rate * cohort.mass
        population = jnp.asarray(cohort.population, jnp.result_type(float))
        return Server(
            tree.add(server.params, tree.scale(step, mean)),
            averaged(total["buffers"], total["weight"], server.buffers),
            tree.add(server.control, tree.divide(total["shift"], population)),
        )

    def personalise(self, server: Server, client: Client) -> Model:
        """The global model; buffers are the client's own where it owns them."""
        return self.problem.model(server.params, server.buffers, client.state.buffers)

    def predict(self, model: Model, x: Array) -> PyTree:
        """The model's outputs."""
        return self.problem.apply(model.params, model.buffers, x)[0]

    def consensus(self, server: Server) -> Model | None:
        """The global model; None if clients own its buffers."""
        if self.problem.facts.buffers == "local":
            return None
        return Model(server.params, server.buffers)

    def join(self, server: Server, client: Client) -> Control:
        """A zero control variate."""
        own = self.problem.own(self.problem.fresh(client.key).buffers)
        return Control(tree.zeros_like(server.params), own)

    def traffic(self, server: Server) -> Traffic:
        """2d down, 2d up."""
        size = tree.num_bytes((server.params, server.control, server.buffers))
        return Traffic(size, size)


def scaffold(
    problem: Problem, solver: Solver, *, option: str = "II", server_learning_rate: Any = 1.0
) -> Scaffold:
    """SCAFFOLD: y <- y - eta (g_i(y) - c_i + c);  x <- x + eta_g mean(y_i - x);  c <- c + sum(c_i+ - c_i)/N.

    c_i+ is, by option: I, the full gradient at x (one more pass over the client's rows); II,
    c_i - c + (x - y_i) / sum_j eta_j over the client's own steps. The mean over the cohort is uniform. The
    invariant c = mean of all N c_i holds after every round.

    Args:
        problem: what to learn.
        solver: local work; option II needs plain SGD.
        option: "I" or "II" (the paper's experiments).
        server_learning_rate: eta_g > 0, on x only; a leaf.

    Raises:
        ValueError: unknown option; option II with momentum or an adaptive solver.
        TypeError, ValueError: a server rate that is not a positive number.

    Reference:
        Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, ICML 2020, Algorithm 1, equations (3)-(5).

    Departures:
        With a rate schedule, K eta of option II is the sum of the steps' rates. Clients with fewer steps use
        their own number of steps.
    """
    check_parts(problem, solver)
    known("option", option, ("I", "II"))
    if option == "II" and solver.kind != "sgd":
        raise ValueError(
            f"option must be 'I' for a solver that is not plain SGD, got 'II' with a {solver.kind} solver: the "
            "displacement is not the sum of the gradients"
        )
    rate = number(
        "server_learning_rate", server_learning_rate, above=0, remedy="1 adds the mean update as it is"
    )
    return Scaffold(problem, solver, rate, uniform(), option)

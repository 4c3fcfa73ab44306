"""SCAFFOLD: control variates that cancel the drift of local work."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.parts import WEIGHTS, averaged, check_parts
from fedjax_het.check import known, number
from fedjax_het.federation import Federation
from fedjax_het.local import Solver
from fedjax_het.problem import Model, Problem, full_gradient, objective, tilt
from fedjax_het.typing import Array, Key, Params, PyTree, static

__all__ = ["Control", "Scaffold", "Server", "scaffold"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """The global model and the global control variate.

    Attributes:
        params: x.
        buffers: the global buffers, or () where clients own theirs.
        control: c, like params; the mean of all N clients' c_i, plain or weighted by their rows.
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
    weights: str = static()
    start: str = static()

    def init(self, key: Key, federation: Federation) -> tuple[Server, Control]:
        """A fresh model; control variates zero, or the clients' gradients there."""
        model = self.problem.fresh(keys.stream(key, "params"))
        shared, count = tree.zeros_like(model.params), federation.num_clients
        own = tree.stack(shared, count)
        if self.start == "gradients":
            own, sizes = _gradients(self.problem, federation, model, keys.stream(key, "control"))
            share = self.share(sizes)
            shared = jax.tree.map(lambda c: jnp.average(c, axis=0, weights=share.astype(c.dtype)), own)
        buffers = tree.stack(self.problem.own(model.buffers), count)
        return Server(model.params, self.problem.shared(model.buffers), shared), Control(own, buffers)

    def share(self, size: Array) -> Array:
        """A client's part in c, before it is divided by everyone's: n_i or 1; float, shaped like `size`."""
        rows = size.astype(jnp.result_type(float))
        return rows if self.weights == "proportional" else jnp.ones_like(rows)

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
        # a client that took no step, or only steps of length 0, learned nothing of its gradient
        learned = solution.steps > 0 if self.option == "I" else solution.step_sum > 0
        control = tree.where(learned, control, client.state.control)
        total = {
            "delta": tree.scale(client.weight, delta),
            "buffers": tree.scale(client.weight, self.problem.shared(solution.buffers)),
            "weight": client.weight,
            "shift": tree.scale(self.share(client.data.size), tree.subtract(control, client.state.control)),
        }
        state = Control(control, self.problem.own(solution.buffers))
        return Report(state, total, info=solution.info, local=solution.model)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """x <- x + eta_g * mean delta;  c <- c + sum of shifts / everyone's part, who is absent included."""
        mean = tree.divide(total["delta"], total["weight"])
        step = self.server_learning_rate * cohort.mass
        everyone = jnp.asarray(cohort.population, jnp.result_type(float))
        if self.weights == "proportional":
            everyone = cohort.rows
        return Server(
            tree.add(server.params, tree.scale(step, mean)),
            averaged(total["buffers"], total["weight"], server.buffers),
            tree.add(server.control, tree.divide(total["shift"], everyone)),
        )

    def personalise(self, server: Server, client: Client) -> Model:
        """The global model; buffers are the client's own where it owns them."""
        return self.problem.model(server.params, server.buffers, client.state.buffers)

    def join(self, server: Server, client: Client) -> Control:
        """A control variate that starts as the members' did: zero, or the gradient at the model of today."""
        own = self.problem.own(self.problem.fresh(client.key).buffers)
        if self.start == "zero":
            return Control(tree.zeros_like(server.params), own)
        model = self.problem.model(server.params, server.buffers, own)
        key = keys.stream(client.key, "control")
        return Control(full_gradient(objective(self.problem), model, client.data, key)[0], own)

    predict = one_model.predict
    consensus = one_model.consensus

    def traffic(self, server: Server) -> Traffic:
        """2d down, 2d up."""
        size = tree.num_bytes((server.params, server.control, server.buffers))
        return Traffic(size, size)


@jax.jit
def _gradients(problem: Problem, federation: Federation, model: Model, key: Key) -> tuple[Params, Array]:
    """(grad f_i of every client at the model [N, ...], rows of each [N]), one client after the other."""
    f, ids = objective(problem), jnp.arange(federation.num_clients, dtype=jnp.int32)
    located = federation.locate("train", federation.phase(jnp.zeros((), jnp.int32)), ids)

    def one(row: Any) -> Params:
        data = federation.data("train", row[1])
        return full_gradient(f, model, data, keys.client(key, row[0]))[0]

    return jax.lax.map(one, (ids, located)), located[1]


def scaffold(
    problem: Problem,
    solver: Solver,
    *,
    option: str = "II",
    weights: str = "uniform",
    start: str = "zero",
    server_learning_rate: Any = 1.0,
) -> Scaffold:
    """SCAFFOLD: y <- y - eta (g_i(y) - c_i + c);  x <- x + eta_g mean(y_i - x);  c <- c + sum p_i (c_i+ - c_i).

    c_i+ is, by option: I, the full gradient at x (one more pass over the client's rows, in minibatch runs
    too); II, c_i - c + (x - y_i) / sum_j eta_j over the client's own steps. A client that took no step keeps
    c_i.

    With uniform weights the mean is over |S| and p_i = 1/N, N counting every registered client, and the method
    finds the minimum of the plain mean of the f_i. With proportional ones the mean is by n_i / sum_S n and
    p_i = n_i / n, and it finds the minimum of sum_i p_i f_i. Either way c = sum_i p_i c_i after every round,
    whoever took part. (If the federation's sizes change with its phases, c keeps the p_i of the rounds in
    which each c_i moved.) A run's own `weighting` changes the mean in x and nothing else.

    Started at zero, the first round is that of FedAvg. Started at the gradients, it is corrected already: with
    full batches on quadratics, how far apart the clients' minima are changes nothing, only how unlike their
    curvatures are. Before round 0 every client then passes once over its rows, one after the other, and sends
    d numbers, which `traffic` does not count; newcomers do the same.

    Control variates are as old as a client's last round. With few clients a round, or long local work on
    unlike curvatures, they can make matters worse than FedAvg, up to divergence.

    Args:
        problem: what to learn.
        solver: local work; option II needs plain SGD, with any schedule and any rule for stopping early.
        option: "I" or "II" (the paper's experiments).
        weights: "uniform" (the paper's) or "proportional" to the clients' rows.
        start: "zero" (c_i = 0) or "gradients" (c_i = grad f_i(x_0), c their mean).
        server_learning_rate: eta_g > 0, on x only; a leaf.

    Raises:
        ValueError: unknown option, weights or start; option II with momentum or an adaptive solver.
        TypeError, ValueError: a server rate that is not a positive number.

    Reference:
        Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, ICML 2020, Algorithm 1, equations (3)-(5). The listing
        takes the first c and c_i as inputs; both starts are instances.

    Departures:
        With a rate schedule, K eta of option II is the sum of the steps' rates. Clients with fewer steps use
        their own number of steps. The weighted variant is not in the paper.
    """
    check_parts(problem, solver)
    known("option", option, ("I", "II"))
    known("weights", weights, WEIGHTS)
    known("start", start, ("zero", "gradients"))
    if option == "II" and solver.kind != "sgd":
        raise ValueError(
            f"option must be 'I' for a solver that is not plain SGD, got 'II' with kind {solver.kind!r}, "
            "whose displacement is not the sum of the gradients: pass option='I', or fh.local.sgd without "
            "momentum"
        )
    rate = number(
        "server_learning_rate", server_learning_rate, above=0, remedy="1 adds the mean update as it is"
    )
    return Scaffold(problem, solver, rate, WEIGHTS[weights](), option, weights, start)

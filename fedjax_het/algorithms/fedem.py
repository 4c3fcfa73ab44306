"""FedEM: M shared models, which every client mixes in proportions of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.fedavg import Server, average_step
from fedjax_het.algorithms.mixture import Mix, log_weights, mixture
from fedjax_het.algorithms.parts import averaging, check_parts
from fedjax_het.check import number, positive_int, require
from fedjax_het.federation import Batch, Data, Federation
from fedjax_het.local import Optax, Solver
from fedjax_het.problem import Aux, Model, Objective, Problem, batch_mean
from fedjax_het.typing import Array, Key, Params, PyTree, static
from fedjax_het.weighting import proportional

__all__ = ["FedEm", "Mixed", "fedem"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mixed:
    """What a client keeps.

    Attributes:
        weights: pi_t, float [M], sums to 1.
        buffers: its own buffers [M, ...], or ().
    """

    weights: Array
    buffers: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FedEm:
    """See `fedem`.

    Attributes:
        problem: the mixture, what clients are served.
        component: what each of its models is.
        solver: local work on every component.
        server: the server's optimiser, on all components.
        weighting: the default weighting.
        variance: of the noise that a squared loss stands for, scalar.
        components: M; static.
        iterations: E and pi-steps of a newcomer; static.
    """

    problem: Problem
    component: Problem
    solver: Solver
    server: Optax
    weighting: Any
    variance: Array
    components: int = static()
    iterations: int = static()

    def init(self, key: Key, federation: Federation) -> tuple[Server, Mixed]:
        """M models from M keys, the first one every other method's start; pi is uniform."""
        key = keys.stream(key, "params")
        model, first = self.problem.fresh(key), self.component.fresh(jax.random.clone(key))
        # by the program that the others start with, to its last bit
        params = jax.tree.map(lambda all_, one: all_.at[0].set(one), model.params["components"], first.params)
        server = Server(params, self.problem.shared(model.buffers), self.server.init(params))
        own = Mixed(model.params["weights"], self.problem.own(model.buffers))
        return server, tree.stack(own, federation.num_clients)

    def losses(self, params: Params, buffers: PyTree, data: Data) -> Array:
        """The loss of every component on every row, float [n, M]; 0 where there is no row."""
        real = jnp.result_type(float)

        def one(component: Params, own: PyTree, batch: Batch) -> Array:
            out, _ = self.component.apply(component, own, batch.x)
            return self.component.losses(out, batch.y).astype(real)

        def step(table: Array, batch: Batch) -> Array:
            rows = jax.vmap(one, in_axes=(0, 0, None))(params, buffers, batch).T
            rows = jnp.where(batch.weight[:, None] > 0, rows, 0)
            return table.at[batch.position].set(rows, mode="drop")

        return data.fold_full(step, jnp.zeros((data.capacity, self.components), real))

    def expect(self, losses: Array, weights: Array, size: Array) -> tuple[Array, Array]:
        """E-step and the mean of it: q [n, M] of the rows, and the next pi [M]; pi stays without rows."""
        q = jax.nn.softmax(log_weights(weights)[None, :] - losses / self.variance, axis=-1)
        rows = jnp.arange(q.shape[0], dtype=jnp.int32)[:, None] < size
        mean = jnp.sum(jnp.where(rows, q, 0), axis=0) / jnp.maximum(size, 1).astype(q.dtype)
        return q, jnp.where(size > 0, mean, weights)

    def client_update(self, server: Server, client: Client) -> Report:
        """q and pi at the received models, then local work on sum_i q_im loss_i for every component."""
        start = self.problem.model(server.params, server.buffers, client.state.buffers)
        losses = self.losses(start.params, start.buffers, client.data)
        q, weights = self.expect(losses, client.state.weights, client.data.size)

        def work(params: Params, buffers: PyTree, shares: Array) -> Any:
            return self.solver.solve(
                client.key,
                _shared_out(self.component, shares),
                Model(params, buffers),
                client.data,
                round_=client.round,
                work=client.work,
            )

        solution = jax.vmap(work)(start.params, start.buffers, q.T)
        total = {
            "delta": tree.scale(client.weight, tree.subtract(solution.params, server.params)),
            "buffers": tree.scale(client.weight, self.problem.shared(solution.buffers)),
            "weight": client.weight,
        }
        local = Model({"components": solution.params, "weights": weights}, solution.buffers)
        info = {"loss": jnp.sum(solution.loss), "steps": solution.steps[0]}
        return Report(Mixed(weights, self.problem.own(solution.buffers)), total, info=info, local=local)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """Every component gains the weighted mean of its updates: by rows held, not by sum_i q_im."""
        return average_step(self.server, server, total, cohort)

    def personalise(self, server: Server, client: Client) -> Model:
        """The components as they are now, in the client's proportions."""
        params = {"components": server.params, "weights": client.state.weights}
        return self.problem.model(params, server.buffers, client.state.buffers)

    def consensus(self, server: Server) -> None:
        """There is no one global model: proportions are the clients'."""
        return

    def join(self, server: Server, client: Client) -> Mixed:
        """Proportions of a newcomer by EM on its training rows, the components held."""
        fresh = self.problem.fresh(client.key)
        own = self.problem.own(fresh.buffers)
        start = self.problem.model(server.params, server.buffers, own)
        losses = self.losses(start.params, start.buffers, client.data)

        def again(_: int, weights: Array) -> Array:
            return self.expect(losses, weights, client.data.size)[1]

        return Mixed(jax.lax.fori_loop(0, self.iterations, again, fresh.params["weights"]), own)

    predict = one_model.predict

    def traffic(self, server: Server) -> Traffic:
        """All components, down and up."""
        size = tree.num_bytes((server.params, server.buffers))
        return Traffic(size, size)


def _shared_out(problem: Problem, shares: Array) -> Objective:
    """sum_i q_i loss_i over the batch's rows, not renormalised by sum_i q_i, and the ridge term."""

    def expected(params: Params, buffers: PyTree, batch: Batch, key: Key) -> tuple[Array, Aux]:
        rows = {"weight": batch.weight} if problem.facts.masked else {}
        out, buffers = problem.apply(params, buffers, batch.x, key, train=True, **rows)
        losses = problem.losses(out, batch.y)
        q = shares.at[batch.position].get(mode="clip").astype(losses.dtype)
        loss = batch_mean(q * losses, batch.weight)
        if problem.l2 is not None:
            loss = loss + problem.ridge(params)
        return loss, Aux(buffers, loss)

    return expected


def fedem(
    problem: Problem,
    solver: Solver,
    *,
    components: int = 3,
    variance: Any = 1.0,
    iterations: int = 100,
    mix: Mix | None = None,
    server: Optax | None = None,
) -> FedEm:
    """FedEM: client t's rows come from sum_m pi_tm p_m, where p_m(y | x) is proportional to exp(-loss_m).

    E: q_im ~ pi_tm exp(-loss(h_m(x_i), y_i)).  pi_tm <- mean_i q_im.
    M: theta_mt <- local work from theta_m on 1/|batch| sum_i q_im loss_i.
    Server: theta_m <- theta_m + sum_t omega_t (theta_mt - theta_m), omega_t by rows over the cohort.

    Clients predict with sum_m pi_tm p_m(y | x): probabilities are mixed, not logits. A newcomer finds its pi by
    EM on its training rows with the components held. M = 1 is FedAvg.

    Args:
        problem: what each component is; its loss must be a negative log-likelihood up to a constant.
        solver: local work, the same batches for all components.
        components: M; static.
        variance: sigma^2 > 0 of the noise where the loss is 1/2 |out - y|^2: the E-step takes loss / sigma^2.
            Leave it at 1 for other losses.
        iterations: EM steps of a newcomer; static.
        mix: (log pi [M], outputs [M, B, ...]) -> output; None for class probabilities (as logits) or means.
        server: the server's optimiser; default: theta_m + mean update.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: the loss is no log-likelihood, or one that cannot be mixed without `mix`; a number out of
            range.

    Reference:
        Marfoq, Neglia, Bellet, Kameni, Vidal, NeurIPS 2021, Algorithm 1, and what they say of
        clients unseen in training.

    Departures:
        The mean is over the cohort; the authors' code averages everybody, absent clients with the models that
        they were sent. Their optimisers keep momentum between rounds, here local work starts anew, and all
        components see the same batches. pi is at least 1e-12 in logarithms. Components that would start alike
        (convex problems at zero) are set apart by noise of standard deviation 0.1.
    """
    check_parts(problem, solver)
    require(
        problem.facts.log_likelihood,
        f"problem must have a negative log-likelihood as its loss for fedem, got {problem.facts.name!r}: set "
        "Facts(log_likelihood=True) if it is one up to a constant",
    )
    components = positive_int("components", components, remedy="1 is FedAvg")
    if not (mix is None or callable(mix)):
        raise TypeError(f"mix must be a function of (log weights, outputs), got {type(mix).__name__}")
    return FedEm(
        mixture(problem, components, mix),
        problem,
        solver,
        averaging(server),
        proportional(),
        number("variance", variance, above=0, remedy="1 for a negative log-likelihood as it is"),
        components,
        positive_int("iterations", iterations),
    )

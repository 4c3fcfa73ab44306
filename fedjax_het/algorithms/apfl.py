"""APFL: every client mixes the global model with one of its own, and may learn how much of each."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.fedavg import Server, average_step
from fedjax_het.algorithms.local_loop import local_loop, slope
from fedjax_het.algorithms.parts import averaging, check_parts
from fedjax_het.check import known, number, require
from fedjax_het.federation import Batch, Federation
from fedjax_het.local import Clock, Gradient, Optax, Solver
from fedjax_het.problem import Model, Problem, objective
from fedjax_het.typing import Array, Key, Params, PyTree, static
from fedjax_het.weighting import uniform

__all__ = ["Apfl", "Mixture", "apfl"]

MIXED_WITH = ("own", "global")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mixture:
    """What a client keeps.

    Attributes:
        params: v_k, its own part.
        last: w_k as its last local work left it, where that is mixed with; else ().
        alpha: its share of its own part, in [0, 1], scalar.
        buffers: the buffers of the mixture.
        own: those of w_k where clients own them, or ().
    """

    params: Params
    last: PyTree
    alpha: Array
    buffers: PyTree
    own: PyTree


def mix(alpha: Array, own: Params, other: Params) -> Params:
    """alpha own + (1 - alpha) other."""
    return tree.add(tree.scale(alpha, own), tree.scale(1 - alpha, other))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Apfl:
    """See `apfl`.

    Attributes:
        problem: what to learn.
        solver: local work, on both models.
        server: the server's optimiser.
        weighting: the default weighting.
        alpha: where every client's share begins, scalar.
        adaptive: whether it moves; static.
        mixed_with: which global model is served in the mixture; static.
    """

    problem: Problem
    solver: Solver
    server: Optax
    weighting: Any
    alpha: Array
    adaptive: bool = static()
    mixed_with: str = static()

    def fresh(self, params: Params, buffers: PyTree, own: PyTree) -> Mixture:
        """A client that has not trained: v_k = w_k = w."""
        last = params if self.mixed_with == "own" else ()
        return Mixture(params, last, jnp.asarray(self.alpha), buffers, own)

    def init(self, key: Key, federation: Federation) -> tuple[Server, Mixture]:
        """One fresh model, which is also everybody's own part."""
        model = self.problem.fresh(keys.stream(key, "params"))
        server = Server(model.params, self.problem.shared(model.buffers), self.server.init(model.params))
        client = self.fresh(model.params, model.buffers, self.problem.own(model.buffers))
        return server, tree.stack(client, federation.num_clients)

    def client_update(self, server: Server, client: Client) -> Report:
        """Steps of w_k and of v_k on the same batches; only w_k is uploaded."""
        state, rule, f = client.state, self.solver.rule, objective(self.problem)

        def gradient(model: Model, batch: Batch, key: Key) -> Any:
            return slope(f, model, batch, key, client.data, self.solver)

        def step(carry: Any, batch: Batch, key: Key, clock: Clock) -> Any:
            (shared, opt), (own, velocity), alpha, buffers = carry
            grads, aux = gradient(shared, batch, key)
            mixture = Model(mix(alpha, own, shared.params), buffers)
            pull, mixed = gradient(mixture, batch, keys.stream(key, "mixture"))
            # by the chain rule, the mixture's gradient in v_k is alpha times its own
            after, velocity = rule.step(own, tree.scale(alpha, pull), velocity, clock)
            if self.adaptive:
                fall = rule.rate(clock) * tree.dot(tree.subtract(own, shared.params), pull)
                alpha = jnp.where(clock.local == 0, jnp.clip(alpha - fall, 0, 1), alpha)
            params, opt = rule.step(shared.params, grads, opt, clock)
            return ((Model(params, aux.buffers), opt), (after, velocity), alpha, mixed.buffers), aux.loss

        start = self.problem.model(server.params, server.buffers, state.own)
        carry = (
            (start, rule.init(start.params)),
            (state.params, rule.init(state.params)),
            state.alpha,
            state.buffers,
        )
        ((shared, _), (own, _), alpha, buffers), info = local_loop(step, carry, client, self.solver)
        total = {
            "delta": tree.scale(client.weight, tree.subtract(shared.params, server.params)),
            "buffers": tree.scale(client.weight, self.problem.shared(shared.buffers)),
            "weight": client.weight,
        }
        last = shared.params if self.mixed_with == "own" else ()
        new = Mixture(own, last, alpha, buffers, self.problem.own(shared.buffers))
        return Report(new, total, info={**info, "alpha": alpha}, local=shared)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """FedAvg's step on the w_k."""
        return average_step(self.server, server, total, cohort)

    def personalise(self, server: Server, client: Client) -> Model:
        """alpha_k v_k + (1 - alpha_k) w_k, or w in place of w_k."""
        state = client.state
        other = state.last if self.mixed_with == "own" else server.params
        return Model(mix(state.alpha, state.params, other), state.buffers)

    def join(self, server: Server, client: Client) -> Mixture:
        """v_k = w: a newcomer uses the global model until it trains."""
        fresh = self.problem.fresh(client.key).buffers
        model = self.problem.model(server.params, server.buffers, fresh)
        return self.fresh(model.params, model.buffers, self.problem.own(fresh))

    predict = one_model.predict
    consensus = one_model.consensus

    def traffic(self, server: Server) -> Traffic:
        """d down, d up: v_k and alpha_k stay."""
        size = tree.num_bytes((server.params, server.buffers))
        return Traffic(size, size)


def apfl(
    problem: Problem,
    solver: Solver,
    *,
    alpha: Any = 0.5,
    adaptive: bool = False,
    mixed_with: Literal["own", "global"] = "own",
    server: Optax | None = None,
) -> Apfl:
    """APFL: a client uses m_k = alpha_k v_k + (1 - alpha_k) w_k, of its own model v_k and the global one.

    A local step, on one batch, with both gradients at the point before it:

        w_k <- w_k - eta grad F_k(w_k)
        v_k <- v_k - eta alpha_k grad F_k(m_k)

    w_k starts at the server's w every round, v_k where it was left; w <- w + mean (w_k - w). That is FedAvg,
    operation for operation: nothing of v_k or alpha_k enters it or leaves the client, and its bits are FedAvg's
    wherever the compiler fuses the two programs alike. With alpha = 0, m_k is w_k; with alpha = 1 it is local
    training.

    Where alpha is adaptive, the first step of each of a client's rounds also moves its share,
    alpha_k <- clip(alpha_k - eta <v_k - w_k, grad F_k(m_k)>, 0, 1), and its v_k steps with the share before.
    At a client that has never trained v_k = w_k in the run's first round, so that its share does not move then.

    Args:
        problem: what to learn.
        solver: local work on w_k and on v_k. Momentum is kept for each by itself; an adaptive rule scales the
            factor alpha_k of v_k's gradient away.
        alpha: in [0, 1], a leaf; where every alpha_k begins.
        adaptive: whether alpha_k moves.
        mixed_with: "own" mixes v_k with the w_k of the client's last round (d more at each client; before its
            first round, the first model), "global" with the newest w.
        server: the server's optimiser; default: w + mean update.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: alpha outside [0, 1], an unknown `mixed_with`; adaptive with a solver that has no rate.

    Reference:
        Deng, Kamani, Mahdavi, arXiv 2003.13461, 2020, Algorithm 1, and its rule for an adaptive alpha.

    Departures:
        No projection onto a bounded set. In the authors' code m_k mixes the outputs of the two models, which is
        the same for linear ones only; v_k's gradient sees the w_k that has already stepped; and alpha_k is
        pulled to zero by 0.02 alpha_k, besides. Their alpha_k moves once a round, too.
    """
    check_parts(problem, solver)
    known("mixed_with", mixed_with, MIXED_WITH)
    if not isinstance(adaptive, bool):
        raise TypeError(f"adaptive must be true or false, got {adaptive!r}: alpha is where it begins")
    require(
        not adaptive or isinstance(solver.rule, Gradient) or "learning_rate" in solver.rule.numbers,
        "solver must have a learning rate for an adaptive alpha, got an optax transformation without one: pass "
        "the function and its learning_rate to fh.local.from_optax",
    )
    share = number("alpha", alpha, least=0, most=1, remedy="0 is FedAvg, 1 is local training")
    return Apfl(problem, solver, averaging(server), uniform(), share, adaptive, mixed_with)

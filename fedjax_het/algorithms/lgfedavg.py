"""LG-FedAvg: each client has its own representation, under a common head; and the ensemble of all of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het import tree
from fedjax_het.algorithm import Client
from fedjax_het.algorithms.partial import Partial, partial
from fedjax_het.algorithms.parts import WEIGHTS, check_parts
from fedjax_het.check import known, require
from fedjax_het.local import Optax, Solver
from fedjax_het.models import selectors
from fedjax_het.models.selectors import Selector
from fedjax_het.problem import Model, Problem
from fedjax_het.typing import Array, PyTree, static

__all__ = ["Ensemble", "ensemble", "lgfedavg"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Many models that answer together; for evaluation alone, see `ensemble`.

    Attributes:
        problem: what they learned.
        vote: whether they vote; static.
    """

    problem: Problem
    vote: bool = static()

    def consensus(self, server: Model) -> Model:
        """All models, stacked along a leading axis."""
        return server

    def personalise(self, server: Model, client: Client) -> Model:
        """All models: everybody is served alike."""
        return server

    def predict(self, model: Model, x: Array) -> PyTree:
        """The mean of the models' outputs, or how many of them have each class for their largest logit."""
        out = jax.vmap(lambda params, buffers: self.problem.apply(params, buffers, x)[0])(*model)
        if self.vote:
            real = jnp.result_type(float)
            return jnp.sum(jax.nn.one_hot(jnp.argmax(out, axis=-1), out.shape[-1], dtype=real), axis=0)
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), out)


def ensemble(algorithm: Partial, state: Any, *, vote: bool = False) -> tuple[Ensemble, Any]:
    """What LG-FedAvg serves a newcomer with, of whom nothing is known: all trained clients' models together.

    `fh.evaluate(*fh.algorithms.ensemble(algorithm, state), newcomers)` scores it, without a label of theirs.
    To be called after the run: it collects the personal leaves of the clients, which the server never sees.

    Args:
        algorithm: a `Partial` method, such as `lgfedavg(...)`; what was run.
        state: where the run stands, with concrete numbers: only clients that took part are asked.
        vote: False for the mean of the outputs (for classes: of the logits), True for a majority of votes,
            whose counts stand in place of logits; then accuracies mean something and losses do not.

    Returns:
        (ensemble, state): for `evaluate`. The state's server is the stacked models; no client keeps anything.

    Raises:
        ValueError: no client took part yet; or a vote where outputs are not logits.

    Reference:
        Liang, Liu, Ziyin, Allen, Auerbach, Brent, Salakhutdinov, Morency, arXiv 2001.01523, 2020, on new
        devices; both rules are in the authors' code, the mean there is of what the network puts out too.
    """
    trained = np.flatnonzero(np.asarray(state.seen.round) >= 0)
    require(trained.size > 0, "state must be of a run in which clients took part, got none: train it first")
    require(
        not vote or algorithm.problem.facts.log_likelihood,
        f"vote must be False for {algorithm.problem.facts.name!r}, got True: its outputs are not classes'",
    )
    members = tree.take(state.clients, jnp.asarray(trained, jnp.int32))
    models = jax.vmap(algorithm.combined, in_axes=(None, 0))(state.server, members)
    seen = dataclasses.replace(state.seen, round=jnp.full_like(state.seen.round, -1))
    asked = dataclasses.replace(state, server=models, clients=(), seen=seen)
    return Ensemble(algorithm.problem, vote), asked


def lgfedavg(
    problem: Problem,
    solver: Solver,
    *,
    personal: Selector | None = None,
    weights: str = "proportional",
    server: Optax | None = None,
    start: Model | None = None,
) -> Partial:
    """LG-FedAvg: (u, v_k) <- joint local work on F_k;  u <- u + sum_k omega_k (u_k - u), u the head.

    The reverse of FedPer: v_k, the representation, stays at its client, and only the small head travels. Local
    representations drift apart under a head that is new to them, so the method wants a warm start: run
    `fedavg` on the same problem first and pass `start=algorithm.consensus(state.server)`.

    A newcomer that can train fits the first representation to its rows for as long as a member works in a
    round, the head held. One that cannot is served by `ensemble`, the paper's way.

    Args:
        problem: what to learn.
        solver: local work.
        personal: path -> whether the leaf is personal; default: all but the head.
        weights: "proportional" (the paper's n_k) or "uniform" (the authors' code).
        server: the server's optimiser; default: u + mean update.
        start: the model that all clients and the server begin with, a leaf; None for a fresh one.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: the selector takes no leaf or every leaf; the problem does not say which its head is;
            unknown weights; a start with other leaves than the problem's model.

    Reference:
        Liang, Liu, Ziyin, Allen, Auerbach, Brent, Salakhutdinov, Morency, "Think locally, act globally:
        federated learning with local and global representations", arXiv 2001.01523, 2020, Algorithm 1.

    Departures:
        The paper's auxiliary and adversarial losses on the representation are left out. The authors' code
        begins with a checkpoint of FedAvg whatever is asked, and keeps for each client the best model by its
        test accuracy; here a start is the caller's, and the last model counts.
    """
    check_parts(problem, solver)
    known("weights", weights, WEIGHTS)
    personal = selectors.body(problem) if personal is None else personal
    algorithm = partial(problem, solver, personal=personal, newcomer=solver, server=server, start=start)
    return dataclasses.replace(algorithm, weighting=WEIGHTS[weights]())

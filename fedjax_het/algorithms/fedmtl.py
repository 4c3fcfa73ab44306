"""FedMTL, hard parameter sharing: a common trunk, and one head for each client or for each task."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.fedavg import Server as Trunk
from fedjax_het.algorithms.fedavg import average_step
from fedjax_het.algorithms.newcomers import statistics
from fedjax_het.algorithms.partial import Partial, partial
from fedjax_het.algorithms.parts import check_parts
from fedjax_het.check import require, short
from fedjax_het.federation import Federation
from fedjax_het.local import Optax, Solver
from fedjax_het.models import selectors
from fedjax_het.models.selectors import Selector
from fedjax_het.problem import Model, Problem, full_loss
from fedjax_het.typing import Array, Key, Params, PyTree, static

__all__ = ["FedMTL", "Server", "Tasked", "fedmtl"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """The trunk and the heads.

    Attributes:
        trunk: the shared leaves, their buffers and the server's optimiser.
        heads: the other leaves, stacked [K, ...], `Absent` where the trunk is.
    """

    trunk: Trunk
    heads: Params


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tasked:
    """What a client keeps.

    Attributes:
        task: the number of its task, int32 scalar.
        buffers: its own buffers, or ().
    """

    task: Array
    buffers: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FedMTL:
    """One head for each task; see `fedmtl`.

    Attributes:
        inner: the split of the leaves and the local work.
        tasks: the task of each client, int32 [N].
        count: K; static.
    """

    inner: Partial
    tasks: Array
    count: int = static()

    @property
    def problem(self) -> Problem:
        """What is learned."""
        return self.inner.problem

    @property
    def weighting(self) -> Any:
        """The default weighting."""
        return self.inner.weighting

    def init(self, key: Key, federation: Federation) -> tuple[Server, Tasked]:
        """One model, split: all tasks begin with the same head."""
        clients = federation.num_clients
        require(
            self.tasks.shape == (clients,),
            f"tasks must be one number for each of the {clients} clients, got shape {self.tasks.shape}: list "
            "the task of every client",
        )
        first = self.inner.beginning(keys.stream(key, "params"))
        head, trunk = tree.partition(first.params, self.inner.personal)
        shared = Trunk(trunk, self.problem.shared(first.buffers), self.inner.server.init(trunk))
        buffers = tree.stack(self.problem.own(first.buffers), clients)
        return Server(shared, tree.stack(head, self.count)), Tasked(self.tasks, buffers)

    def combined(self, server: Server, state: Tasked) -> Model:
        """The trunk under the head of the client's task."""
        params = tree.combine(tree.take(server.heads, state.task), server.trunk.params)
        return self.problem.model(params, server.trunk.buffers, state.buffers)

    def client_update(self, server: Server, client: Client) -> Report:
        """Local work on trunk and head; the head's update is in its task's place, zeros elsewhere."""
        start = self.combined(server, client.state)
        model, info = self.inner.local(client, start)
        head, trunk = tree.partition(tree.subtract(model.params, start.params), self.inner.personal)
        share = jax.nn.one_hot(client.state.task, self.count, dtype=client.weight.dtype) * client.weight

        def place(leaf: Array) -> Array:
            return share.reshape(-1, *[1] * leaf.ndim).astype(leaf.dtype) * leaf[None]

        total = {
            "delta": tree.scale(client.weight, trunk),
            "heads": jax.tree.map(place, head),
            "buffers": tree.scale(client.weight, self.problem.shared(model.buffers)),
            "weight": client.weight,
            "shares": share,
        }
        state = Tasked(client.state.task, self.problem.own(model.buffers))
        return Report(state, total, info=info, local=model)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """The trunk gains the cohort's mean update, a head that of its task's members there."""
        trunk = average_step(self.inner.server, server.trunk, total, cohort)
        return Server(trunk, tree.add(server.heads, jax.vmap(tree.divide)(total["heads"], total["shares"])))

    def personalise(self, server: Server, client: Client) -> Model:
        """The trunk under the head of the client's task."""
        return self.combined(server, client.state)

    def consensus(self, server: Server) -> None:
        """There is no one global model."""
        return

    def join(self, server: Server, client: Client) -> Tasked:
        """The task whose head fits the newcomer's training rows best; the first one without rows."""
        buffers = self.problem.own(self.inner.beginning(keys.stream(client.key, "params")).buffers)

        def fitted(task: Array) -> tuple[Tasked, Array]:
            state = Tasked(task, buffers)
            model = self.combined(server, state)
            if self.problem.facts.buffers == "local":
                model = Model(model.params, statistics(self.problem, model, client.data))
                state = Tasked(task, model.buffers)
            return state, full_loss(self.problem, model, client.data)

        states, losses = jax.vmap(fitted)(jnp.arange(self.count, dtype=jnp.int32))
        return tree.take(states, jnp.argmin(losses))

    predict = one_model.predict

    def traffic(self, server: Server) -> Traffic:
        """The trunk and one head, down and up; a client's task is known to both sides."""
        size = tree.num_bytes((server.trunk.params, server.trunk.buffers))
        size += tree.num_bytes(server.heads) // self.count
        return Traffic(size, size)


def fedmtl(
    problem: Problem,
    solver: Solver,
    *,
    personal: Selector | None = None,
    tasks: Sequence[int] | Array | None = None,
    own: Solver | None = None,
    server: Optax | None = None,
) -> Partial | FedMTL:
    """Hard parameter sharing: minimise sum_k p_k F_k(u, v_{t(k)}) over a trunk u and one head v_t a task.

    u <- u + sum_k omega_k (u_k - u);  v_t <- v_t + sum_{k of t} omega_k (v_k - v_t) / sum_{k of t} omega_k

    Sums are over the cohort: nobody who is absent counts, and the head of a task without a member there stays.
    Without `tasks` each client is a task of its own, its head never leaves it, and the method is FedPer.

    Heads of tasks are at the server, since clients share them: their updates are uploaded. A newcomer takes
    the head that fits its training rows best; without tasks it trains a fresh one, as in FedPer.

    Args:
        problem: what to learn.
        solver: local work on trunk and head, or on the trunk if `own` is given.
        personal: path -> whether the leaf is of a head; default: the problem's head.
        tasks: the task of each client, whole numbers from 0, [N]; None for one task a client. How many there
            are is static, who has which is not.
        own: local work on the head alone, done first (alternating); None trains both jointly.
        server: the server's optimiser, on the trunk; default: u + mean update.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: the selector takes no leaf or every leaf; the problem does not say which its head is; tasks
            that are not whole numbers from 0 or, when a run begins, not one a client.

    Reference:
        Caruana, "Multitask learning", Machine Learning 28, 1997, section 2 (a shared hidden layer, one output
        a task); with federated averaging of what is shared, as FedPer (Arivazhagan et al. 2019).

    Departures:
        All heads have one shape.
    """
    check_parts(problem, solver)
    personal = selectors.head(problem) if personal is None else personal
    newcomer = (solver if own is None else own) if tasks is None else None
    inner = partial(problem, solver, personal=personal, own=own, newcomer=newcomer, server=server)
    if tasks is None:
        return inner
    listed = np.asarray(tasks)
    require(
        listed.ndim == 1 and listed.size > 0 and listed.dtype.kind in "iu" and bool((listed >= 0).all()),
        f"tasks must be whole numbers >= 0, got {short(tasks)}: list one for each client, counting from 0",
    )
    return FedMTL(inner, jnp.asarray(listed, jnp.int32), int(listed.max()) + 1)

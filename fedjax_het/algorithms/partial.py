"""Partial personalisation: some leaves of the model are shared, the rest never leave their client.

One record is all of these methods. They differ in which leaves are personal, and in what is done to the
personal leaves alone, the shared ones held: `own` before the shared leaves are trained, `final` before a model
is used, `newcomer` before a client that was never trained on is served.

| method | personal | own | final | newcomer |
|---|---|---|---|---|
| FedPer, FedMTL with a head a client | head | none: joint | none | as in a round |
| LG-FedAvg | body | none: joint | none | as in a round |
| FedRep | head | 10 epochs | 10 epochs | none: `final` does it |
| FedBN | normalisation | none: joint | none | none: statistics only |
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.fedavg import Server, average_step
from fedjax_het.algorithms.newcomers import statistics
from fedjax_het.algorithms.parts import averaging, check_parts
from fedjax_het.check import require, short
from fedjax_het.federation import Federation
from fedjax_het.local import Optax, Solution, Solver
from fedjax_het.models import selectors
from fedjax_het.models.selectors import Selector
from fedjax_het.problem import Model, Problem, fix, objective
from fedjax_het.typing import Array, Key, Params, PyTree, static
from fedjax_het.weighting import proportional

__all__ = ["Partial", "Personal", "check_start", "partial"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Personal:
    """What a client keeps.

    Attributes:
        params: its personal leaves, `Absent` elsewhere.
        buffers: its own buffers, or ().
    """

    params: Params
    buffers: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Partial:
    """See `partial`. With every leaf personal it is local training, with none it is FedAvg.

    Attributes:
        problem: what to learn.
        solver: local work on all leaves, or on the shared ones if `own` is given.
        server: the server's optimiser, on the shared leaves.
        weighting: the default weighting.
        personal: path -> whether the leaf is personal; static.
        own: local work on the personal leaves, done first; None trains all leaves jointly.
        final: work on the personal leaves before a model is used, which nobody keeps; None uses what is kept.
        newcomer: work of an unseen client on its personal leaves; None takes them as they begin.
        start: the model that everybody begins with, newcomers too; None for a fresh one.
    """

    problem: Problem
    solver: Solver
    server: Optax
    weighting: Any
    personal: Selector = static()
    own: Solver | None = None
    final: Solver | None = None
    newcomer: Solver | None = None
    start: Model | None = None

    def beginning(self, key: Key) -> Model:
        """The model before any training."""
        return self.problem.fresh(key) if self.start is None else self.start

    def init(self, key: Key, federation: Federation) -> tuple[Server, Personal]:
        """One model, split: all clients begin with the same personal leaves."""
        model = self.beginning(keys.stream(key, "params"))
        personal, shared = tree.partition(model.params, self.personal)
        server = Server(shared, self.problem.shared(model.buffers), self.server.init(shared))
        own = Personal(personal, self.problem.own(model.buffers))
        return server, tree.stack(own, federation.num_clients)

    def combined(self, server: Server, state: Personal) -> Model:
        """Shared leaves from the server, personal ones from the client."""
        return self.problem.model(tree.combine(state.params, server.params), server.buffers, state.buffers)

    def kept(self, model: Model) -> Personal:
        """What stays at the client of a model."""
        return Personal(tree.partition(model.params, self.personal)[0], self.problem.own(model.buffers))

    def alone(self, solver: Solver, key: Key, start: Model, client: Client) -> Solution:
        """Work on the personal leaves, the shared ones held: no step, momentum or ridge moves them."""
        personal, shared = tree.partition(start.params, self.personal)
        done = solver.solve(
            key,
            fix(objective(self.problem), shared),
            Model(personal, start.buffers),
            client.data,
            round_=client.round,
            work=client.work,
        )
        return dataclasses.replace(done, params=tree.combine(done.params, shared))

    def local(self, client: Client, start: Model) -> tuple[Model, dict[str, Array]]:
        """(model, diagnostics) of a client's round: all leaves jointly, or the personal ones first."""
        f, (personal, shared) = objective(self.problem), tree.partition(start.params, self.personal)
        options: dict[str, Any] = {"round_": client.round, "work": client.work}
        if self.own is None or not jax.tree.leaves(personal):
            done = self.solver.solve(client.key, f, start, client.data, **options)
            return done.model, done.info
        first = self.alone(self.own, keys.stream(client.key, "own"), start, client)
        personal, begin = self.kept(first.model).params, Model(shared, first.buffers)
        then = self.solver.solve(client.key, fix(f, personal), begin, client.data, **options)
        steps, real = first.steps + then.steps, then.loss.dtype
        losses = first.loss * first.steps.astype(real) + then.loss * then.steps.astype(real)
        info = {"loss": losses / jnp.maximum(steps, 1).astype(real), "steps": steps}
        return Model(tree.combine(personal, then.params), then.buffers), info

    def client_update(self, server: Server, client: Client) -> Report:
        """Local work from (u, v_k); only the shared leaves are uploaded."""
        model, info = self.local(client, self.combined(server, client.state))
        _, shared = tree.partition(model.params, self.personal)
        total = {
            "delta": tree.scale(client.weight, tree.subtract(shared, server.params)),
            "buffers": tree.scale(client.weight, self.problem.shared(model.buffers)),
            "weight": client.weight,
        }
        return Report(self.kept(model), total, info=info, local=model)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """The shared leaves gain the weighted mean of their updates."""
        return average_step(self.server, server, total, cohort)

    def personalise(self, server: Server, client: Client) -> Model:
        """(u, v_k), after `final` work on v_k where there is some."""
        model = self.combined(server, client.state)
        if self.final is None:
            return model
        return self.alone(self.final, keys.stream(client.key, "final"), model, client).model

    def consensus(self, server: Server) -> None:
        """There is no global model: the server lacks the personal leaves."""
        return

    def join(self, server: Server, client: Client) -> Personal:
        """The first personal leaves, then `newcomer` work on them; its own buffers are its rows' statistics."""
        first = self.beginning(keys.stream(client.key, "params"))
        model = self.combined(server, self.kept(first))
        if self.problem.facts.buffers == "local":
            model = Model(model.params, statistics(self.problem, model, client.data))
        if self.newcomer is not None:
            model = self.alone(self.newcomer, keys.stream(client.key, "newcomer"), model, client).model
        return self.kept(model)

    predict = one_model.predict

    def traffic(self, server: Server) -> Traffic:
        """The shared leaves, down and up."""
        size = tree.num_bytes((server.params, server.buffers))
        return Traffic(size, size)


def check_start(problem: Problem, start: Any) -> Model | None:
    """`start` in the shapes and types of the problem's model; None for None.

    Raises:
        TypeError: not a Model.
        ValueError: leaves of other paths or shapes; the message names one.
    """
    if start is None:
        return None
    remedy = "pass fedavg.consensus(state.server) of a run of fedavg on the same problem"
    if not isinstance(start, Model):
        raise TypeError(f"start must be a Model, got {short(start)}: {remedy}")
    wanted = jax.eval_shape(problem.init, jax.random.key(0))
    shapes, given = ({path: jnp.shape(leaf) for path, leaf in selectors.leaves(m)} for m in (wanted, start))
    for path in sorted(set(shapes) | set(given)):
        expected, got = shapes.get(path, "no such leaf"), given.get(path, "no such leaf")
        require(expected == got, f"start must have {path} of shape {expected}, got {got}: {remedy}")
    return jax.tree.map(lambda leaf, like: jnp.asarray(leaf, like.dtype), start, wanted)


def check_work(name: str, solver: Any) -> None:
    """Raise `TypeError` unless it is None or a Solver."""
    if not (solver is None or isinstance(solver, Solver)):
        raise TypeError(
            f"{name} must be a Solver or None, got {short(solver)}: make one with fh.local.sgd or "
            "fh.local.from_optax"
        )


def partial(
    problem: Problem,
    solver: Solver,
    *,
    personal: Selector,
    shared: Selector | None = None,
    own: Solver | None = None,
    final: Solver | None = None,
    newcomer: Solver | None = None,
    server: Optax | None = None,
    start: Model | None = None,
) -> Partial:
    """Partial personalisation: the leaves u are shared, the leaves v_k are client k's alone.

    FedSim, without `own`:  (u_k, v_k) <- local work on F_k(u, v) from (u, v_k)
    FedAlt, with `own`:     v_k <- own work on F_k(u, .) from v_k;  u_k <- local work on F_k(., v_k) from u
    Both:                   u <- u + server step on sum_k omega_k (u_k - u);  v_k stays

    Held leaves leave the solver altogether: momentum, ridge terms and weight decay do not move them. Each
    pass has a solver state, a schedule and an order of rows of its own; a straggler does the same fraction of
    each. All clients begin with the same v.

    Args:
        problem: what to learn.
        solver: local work on all leaves, or on the shared ones if `own` is given.
        personal: path -> whether the leaf is personal, such as `fh.models.selectors.head(problem)`. Function
            objects are static; selectors compare by value.
        shared: the same for the shared leaves; None for all others. If given, each leaf must have one owner.
        own: local work on the personal leaves, None to train jointly.
        final: see `Partial`.
        newcomer: see `Partial`.
        server: the server's optimiser; default: u + mean update.
        start: the model to begin with, a leaf; None for a fresh one.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: personal takes no leaf or every leaf, a leaf has two owners or none, or start has other
            leaves than the problem; the message lists them.

    Reference:
        Pillutla, Malik, Mohamed, Rabbat, Sanjabi, Xiao, "Federated learning with partial model
        personalization", ICML 2022: FedSim and FedAlt.

    Departures:
        Weights are n_k over the cohort, as in the authors' code (by batches there). That code also clips
        gradients and decays rates over a round; here both are the solver's.
    """
    check_parts(problem, solver)
    selectors.check_selector("personal", personal)
    if shared is not None:
        selectors.check_selector("shared", shared)
    for name, work in (("own", own), ("final", final), ("newcomer", newcomer)):
        check_work(name, work)
    selectors.split(problem, personal)
    if shared is not None:
        params = jax.eval_shape(problem.init, jax.random.key(0)).params
        selectors.owners(params, personal=personal, shared=shared)
    start = check_start(problem, start)
    return Partial(problem, solver, averaging(server), proportional(), personal, own, final, newcomer, start)

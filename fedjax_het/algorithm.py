"""Algorithm, Client, Cohort, Report: the central contract.

A federated algorithm answers three questions: which objective does a client minimise, from which start, and
what does it upload. An upload is split into what is summed over the cohort (`Report.total`) and what is kept
one per client (`Report.each`). Everything else is the engine's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from fedjax_het.federation import Data, Federation
from fedjax_het.problem import Problem
from fedjax_het.typing import Array, Key, PyTree, static

__all__ = ["Algorithm", "Client", "Cohort", "Report", "Traffic", "Upload", "Weighting"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Client:
    """Everything about one client in one round.

    Attributes:
        id: its number, int32 scalar.
        key: its key of this round; consumed.
        round: the round's number, int32 scalar.
        work: the fraction of its local work that it will do (stragglers, MOCHA's theta), float scalar.
        weight: its omega in this cohort, float scalar.
        state: what it kept from its last round, or ().
        data: its training rows.
        valid: its validation rows.
    """

    id: Array
    key: Key
    round: Array
    work: Array
    weight: Array
    state: PyTree
    data: Data
    valid: Data


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cohort:
    """The clients of one round, ids ascending, in C slots of which some may be absent.

    Attributes:
        id: client numbers, int32 [C]; an absent slot holds N.
        present: bool [C]. Empty clients and clients with no work are absent. In `server_update`, so are
            clients left out because they reported NaN or infinity.
        weight: omega, float [C]; 0 where absent.
        multiplicity: how often the client was drawn (sampling with replacement), float [C].
        work: fraction of local work, float [C].
        round: the round's number, int32 scalar.
        rows: training rows of the whole federation in this phase, float scalar.
        population: N; static, so that a body compiled apart from gather and scatter computes the same bits.
    """

    id: Array
    present: Array
    weight: Array
    multiplicity: Array
    work: Array
    round: Array
    rows: Array
    population: int = static()

    @property
    def mass(self) -> Array:
        """The sum of the weights drawn: 1 for schemes that normalise, (N/m) sum p_k for scheme II; scalar."""
        return self.weight.sum()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Report:
    """What one client's round produced.

    Attributes:
        state: kept at the client, same structure as `Client.state`.
        total: summed over the cohort: all that secure aggregation would reveal.
        each: one per client, for server steps that must tell clients apart.
        info: diagnostics, name -> scalar; "loss" is what samplers see as the client's last loss.
        local: the model that local work ended at, for measures only; never uploaded.
    """

    state: PyTree
    total: PyTree
    each: PyTree = ()
    info: dict[str, Array] = dataclasses.field(default_factory=dict)
    local: PyTree = ()


class Upload(NamedTuple):
    """What a client sends, as a round's hook sees it.

    Attributes:
        total: `Report.total`, already multiplied by the client's weight where the algorithm does so.
        each: `Report.each`.
    """

    total: PyTree
    each: PyTree


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that one client moves in one round, as the paper counts them.

    Attributes:
        down: server to client.
        up: client to server.
    """

    down: int
    up: int


Weighting = Callable[[Array, Cohort], Array]
"""(sizes float [C], cohort without weights) -> omega float [C]; a pytree callable, 0 where absent."""


class Algorithm(Protocol):
    """What the engine asks of an algorithm: a frozen dataclass registered as a pytree, numbers as leaves.

    `client_update` sees one client and never N, C, padding or devices. `server`, `state` and `model` are the
    algorithm's own pytrees.
    """

    @property
    def problem(self) -> Problem:
        """What is learned."""
        ...

    @property
    def weighting(self) -> Any:
        """The default `Weighting`."""
        ...

    def init(self, key: Key, federation: Federation) -> tuple[PyTree, PyTree]:
        """(server, clients): the server's state, and the clients' with leading axis N, or ()."""
        ...

    def client_update(self, server: PyTree, client: Client) -> Report:
        """One client's local work."""
        ...

    def server_update(self, server: PyTree, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> PyTree:
        """The server's step; not called when nobody is present."""
        ...

    def personalise(self, server: PyTree, client: Client) -> PyTree:
        """The model that this client would use; it may train on `client.data`."""
        ...

    def predict(self, model: PyTree, x: Array) -> PyTree:
        """Outputs for features [B, ...], in the form that `problem.losses` takes."""
        ...

    def consensus(self, server: PyTree) -> PyTree | None:
        """The one global model, where there is one."""
        ...

    def join(self, server: PyTree, client: Client) -> PyTree:
        """The state of a client never trained on (its `state` is ()).

        Raises:
            ValueError: the method cannot serve unseen clients; the message says why.
        """
        ...

    def traffic(self, server: PyTree) -> Traffic:
        """What one client's round costs; arrays may be `jax.ShapeDtypeStruct`."""
        ...

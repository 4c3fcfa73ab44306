"""What a method answers that wraps another, put into its record: `init = wrapped.init`.

The record holds the other method as `inner`, and states are the inner method's. A wrapper writes down only
what it does in another way.
"""

from __future__ import annotations

from typing import Any, Protocol

from fedjax_het.algorithm import Algorithm, Client, Cohort, Report, Traffic
from fedjax_het.federation import Federation
from fedjax_het.problem import Problem
from fedjax_het.typing import Array, Key, PyTree

__all__ = [
    "client_update",
    "consensus",
    "init",
    "join",
    "personalise",
    "predict",
    "problem",
    "server_update",
    "traffic",
    "weighting",
]


class _Wrapper(Protocol):
    @property
    def inner(self) -> Algorithm: ...


def _problem(self: _Wrapper) -> Problem:
    """What is learned."""
    return self.inner.problem


def _weighting(self: _Wrapper) -> Any:
    """The default weighting."""
    return self.inner.weighting


problem, weighting = property(_problem), property(_weighting)


def init(self: _Wrapper, key: Key, federation: Federation) -> tuple[PyTree, PyTree]:
    """The inner method's states."""
    return self.inner.init(key, federation)


def client_update(self: _Wrapper, server: PyTree, client: Client) -> Report:
    """The inner method's local work."""
    return self.inner.client_update(server, client)


def server_update(
    self: _Wrapper, server: PyTree, total: PyTree, each: PyTree, cohort: Cohort, key: Key
) -> PyTree:
    """The inner method's step."""
    return self.inner.server_update(server, total, each, cohort, key)


def personalise(self: _Wrapper, server: PyTree, client: Client) -> PyTree:
    """The inner method's model for this client."""
    return self.inner.personalise(server, client)


def predict(self: _Wrapper, model: PyTree, x: Array) -> PyTree:
    """The model's outputs."""
    return self.inner.predict(model, x)


def consensus(self: _Wrapper, server: PyTree) -> PyTree | None:
    """The inner method's global model, where there is one."""
    return self.inner.consensus(server)


def join(self: _Wrapper, server: PyTree, client: Client) -> PyTree:
    """The inner method's state of a newcomer."""
    return self.inner.join(server, client)


def traffic(self: _Wrapper, server: PyTree) -> Traffic:
    """The inner method's bytes."""
    return self.inner.traffic(server)

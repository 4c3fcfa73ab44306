"""What a method answers that learns one global model, put into its record: `predict = one_model.predict`.

The server state has `params` and `buffers`; clients keep nothing but buffers that they own. A record whose
states are others writes the methods in question itself.
"""

from __future__ import annotations

from typing import Any, Protocol

from fedjax_het.algorithm import Client
from fedjax_het.problem import Model, Problem
from fedjax_het.typing import Array, PyTree

__all__ = ["consensus", "join", "personalise", "predict"]


class _Method(Protocol):
    @property
    def problem(self) -> Problem: ...


def personalise(self: _Method, server: Any, client: Client) -> Model:
    """The global model; buffers are the client's own where it owns them."""
    return self.problem.model(server.params, server.buffers, client.state)


def predict(self: _Method, model: Model, x: Array) -> PyTree:
    """The model's outputs."""
    return self.problem.apply(model.params, model.buffers, x)[0]


def consensus(self: _Method, server: Any) -> Model | None:
    """The global model; None if clients own its buffers, since it cannot predict without them."""
    if self.problem.facts.buffers == "local":
        return None
    return Model(server.params, server.buffers)


def join(self: _Method, server: Any, client: Client) -> PyTree:
    """Nothing to set up; buffers that clients own start as a fresh model's."""
    return self.problem.own(self.problem.fresh(client.key).buffers)

"""Where a measure looks: the model at which it asks each client."""

from __future__ import annotations

from typing import Any

from fedjax_het.algorithm import Client
from fedjax_het.check import known
from fedjax_het.problem import Model
from fedjax_het.typing import PyTree

__all__ = ["PLACES", "looked_at", "placed"]

PLACES = ("server", "personal")
"""server: the one global model, or each client's own where there is none; personal: always the client's own."""


def placed(at: Any) -> tuple[str, Model | None]:
    """(place, model) of a measure's argument `at`: one of `PLACES`, or "given" and the Model.

    Raises:
        TypeError: neither a name nor a Model.
        ValueError: a name that is none of `PLACES`.
    """
    if isinstance(at, Model):
        return "given", at
    if not isinstance(at, str):
        raise TypeError(
            f"at must be a name or a Model, got {type(at).__name__}: {', '.join(map(repr, PLACES))}, or "
            "Model(params, buffers)"
        )
    return known("at", at, PLACES), None


def looked_at(place: str, model: Model | None, algorithm: Any, server: PyTree, client: Client) -> Model:
    """The model at which this client is asked.

    Args:
        place: see `placed`; static.
        model: see `placed`.
        algorithm: the algorithm at work.
        server: the server's state.
        client: whom to ask.
    """
    if model is not None:
        return model
    shared = algorithm.consensus(server) if place == "server" else None
    return algorithm.personalise(server, client) if shared is None else shared

"""Slots: the clients that an executor maps over, as rows; and the dense view of one of them."""

from __future__ import annotations

from typing import NamedTuple

from fedjax_het import keys
from fedjax_het.algorithm import Client
from fedjax_het.federation import Federation
from fedjax_het.typing import Array, Key, PyTree

__all__ = ["Slots", "make_client"]


class Slots(NamedTuple):
    """The cohort's clients as rows for an executor; every leaf has leading axis C.

    Attributes:
        id: int32.
        present: bool.
        weight: float.
        work: float.
        state: the clients' states.
        train: offset, size and transform arguments of their training rows.
        valid: the same of their validation rows.
    """

    id: Array
    present: Array
    weight: Array
    work: Array
    state: PyTree
    train: PyTree
    valid: PyTree


def make_client(
    federation: Federation, slot: Slots, key: Key, round_: Array, *, differentiable: bool = False
) -> Client:
    """The dense view of one slot; `key` is the round's."""
    return Client(
        id=slot.id,
        key=keys.client(keys.stream(key, "client"), slot.id),
        round=round_,
        work=slot.work,
        weight=slot.weight,
        state=slot.state,
        data=federation.data("train", slot.train, differentiable=differentiable),
        valid=federation.data("valid", slot.valid, differentiable=differentiable),
    )

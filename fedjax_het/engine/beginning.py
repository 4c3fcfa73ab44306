"""What measures tell the clients of a round beside their carry: made from one client of the cohort."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from fedjax_het import tree
from fedjax_het.algorithm import Client
from fedjax_het.engine.slots import Slots
from fedjax_het.typing import PyTree

__all__ = ["begun"]


def begun(
    measures: dict[str, Any],
    carries: dict[str, PyTree],
    algorithm: Any,
    server: PyTree,
    slots: Slots,
    make: Callable[[Slots], Client],
) -> dict[str, PyTree]:
    """Each measure's carry, passed through its `begin` if it has one; see `Measure`.

    Args:
        measures: by name.
        carries: by name.
        algorithm: the algorithm at work.
        server: the server's state that clients receive.
        slots: the cohort, leading axis C.
        make: the dense view of one slot.
    """
    told = dict(carries)
    for name, measure in measures.items():
        begin = getattr(measure, "begin", None)
        if begin is not None:
            told[name] = begin(carries[name], algorithm, server, make(_heaviest(slots)))
    return told


def _heaviest(slots: Slots) -> Slots:
    """The slot of most weight and rows: no mean over the cohort is far from what it says, in their spread."""
    rows = slots.train[1].astype(slots.weight.dtype)
    return tree.take(slots, jnp.argmax(jnp.where(slots.present, slots.weight * rows, -1)))

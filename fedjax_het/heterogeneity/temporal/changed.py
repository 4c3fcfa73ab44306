"""The state that clients change to."""

from __future__ import annotations

from typing import Any

from fedjax_het.check import short
from fedjax_het.federation import Federation
from fedjax_het.phases import of_one_phase, same_clients

__all__ = ["changed"]


def changed(name: str, change: Any, federation: Federation) -> Federation:
    """`change(federation)`: the same clients over the same pool.

    Args:
        name: the argument's name, for messages.
        change: Federation -> Federation, such as a shift with its options fixed.
        federation: of one phase.

    Raises:
        TypeError: `change` is no function, or returns something else than a Federation.
        ValueError: it returns other clients, another pool, or a federation that has phases.
    """
    if not callable(change):
        raise TypeError(
            f"{name} must be a function of a federation, got {short(change)}: fix a shift's options by "
            "functools.partial(shift, ...)"
        )
    state = change(federation)
    what = f"what {name} returns"
    if not isinstance(state, Federation):
        raise TypeError(
            f"{what} must be a Federation, got {type(state).__name__}: return the one given, changed"
        )
    same_clients(what, of_one_phase(what, state), "the federation it was given", federation)
    return state

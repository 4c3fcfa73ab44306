"""How often XLA compiled something."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

__all__ = ["Count", "compile_count"]

EVENT = "/jax/core/compile/backend_compile_duration"


CONVERSIONS = frozenset(
    f"jit({name})" for name in ("stage", "convert_element_type", "broadcast_in_dim", "_threefry_seed")
)
"""How JAX names what it compiles to turn a number into an array and a seed into a key, unless it has before."""


class Count:
    """The compilations so far.

    Attributes:
        names: what was compiled.
    """

    def __init__(self) -> None:
        self.names: list[str] = []

    @property
    def value(self) -> int:
        """How many."""
        return len(self.names)

    @property
    def programs(self) -> list[str]:
        """What was compiled beside conversions of numbers to arrays."""
        return [name for name in self.names if name not in CONVERSIONS]

    def __call__(self, event: str, duration: float, **details: Any) -> None:
        """Hear of an event."""
        if event == EVENT:
            self.names.append(str(details.get("fun_name")))


@contextlib.contextmanager
def compile_count() -> Iterator[Count]:
    """Count compilations inside the block; programs found in jit's own cache do not count."""
    count = Count()
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        yield count
    finally:
        jax.monitoring.unregister_event_duration_listener(count)

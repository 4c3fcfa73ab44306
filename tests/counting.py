"""How often XLA compiled something."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

__all__ = ["Count", "compile_count"]

EVENT = "/jax/core/compile/backend_compile_duration"


class Count:
    """The number of compilations so far, in `value`."""

    def __init__(self) -> None:
        self.value = 0

    def __call__(self, event: str, duration: float, **details: Any) -> None:
        """Hear of an event."""
        self.value += event == EVENT


@contextlib.contextmanager
def compile_count() -> Iterator[Count]:
    """Count compilations inside the block; programs found in jit's own cache do not count."""
    count = Count()
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        yield count
    finally:
        jax.monitoring.unregister_event_duration_listener(count)

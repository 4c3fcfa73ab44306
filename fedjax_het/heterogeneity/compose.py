"""Several kinds of heterogeneity, one after the other."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

from fedjax_het.check import require, short
from fedjax_het.federation import Federation
from fedjax_het.pool import Pool

__all__ = ["Steps", "compose"]


@dataclasses.dataclass(frozen=True)
class Steps:
    """A function of a Pool or a Federation: `steps` in their order.

    Attributes:
        steps: functions that return a Federation.
    """

    steps: tuple[Callable[[Any], Federation], ...]

    def __call__(self, source: Pool | Federation) -> Federation:
        """What the last step returns.

        Args:
            source: what the first step takes: a Pool for a partitioner, a Federation for a shift.

        Raises:
            TypeError: neither of the two, a step that does not take it or returns something else.
            ValueError: a step that refuses a value. Both name the step.
        """
        if not isinstance(source, (Pool, Federation)):
            raise TypeError(
                f"source must be a Pool or a Federation, got {type(source).__name__}: build one with "
                "fh.pool(x, y)"
            )
        held: Any = source
        for number, step in enumerate(self.steps, 1):
            who = f"step {number} ({_name(step)})"
            try:
                held = step(held)
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"{who}: {error}") from error
            except Exception as error:
                error.add_note(f"raised by {who}")
                raise
            if not isinstance(held, Federation):
                raise TypeError(f"{who} must return a Federation, got {type(held).__name__}: return one")
        return held


def compose(*steps: Callable[[Any], Federation]) -> Steps:
    """A partitioner and shifts, or shifts alone, as one function.

    `compose(a, b)(source)` is b(a(source)). Steps have their options fixed, as by `functools.partial`:

        make = compose(
            partial(label.dirichlet, clients=100, alpha=0.1, seed=1),
            partial(feature.rotate, spread=45, seed=1),
            partial(temporal.sudden, change=partial(concept.swap, rate=1.0), round=50),
        )
        federation = make(pool)

    Each draws from a stream with a name of its own, so steps of the same seed are independent, and a shift that
    comes twice draws anew. What changes over time comes last. The result is a function like its steps: it may
    be a step itself, or the `change` of a temporal one.

    Args:
        steps: functions of one argument, a Pool or a Federation, that return a Federation.

    Raises:
        TypeError: a step that is no function, or that wants more than one argument.
        ValueError: no steps.
    """
    require(len(steps) > 0, "steps must list at least one, got none: pass a partitioner or a shift")
    for number, step in enumerate(steps, 1):
        if not callable(step):
            raise TypeError(
                f"step {number} must be a function, got {short(step)}: fix its options by "
                "functools.partial(function, ...)"
            )
        _takes_one(number, step)
    return Steps(tuple(steps))


def _takes_one(number: int, step: Callable[[Any], Any]) -> None:
    """Raise unless `step` can be called with one argument."""
    try:
        signature = inspect.signature(step)
    except ValueError:  # some built-in functions do not tell
        return
    try:
        signature.bind(None)
    except TypeError as error:
        name = _name(step)
        raise TypeError(
            f"step {number} ({name}) must be a function of what it changes alone, got one with {error}: fix "
            f"its options by functools.partial({name}, ...)"
        ) from None


def _name(step: Any) -> str:
    """What a message calls a step."""
    if isinstance(step, functools.partial):
        return _name(step.func)
    return "compose" if isinstance(step, Steps) else getattr(step, "__name__", type(step).__name__)

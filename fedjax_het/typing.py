"""Type aliases, and the letters that stand for shapes in every docstring.

| letter | meaning |
|---|---|
| N | registered clients |
| C | slots of a cohort (the clients of one round, absent slots included) |
| M | rows of the pool |
| R | row numbers held by a federation |
| T | phases of a federation whose data change over time |
| B | rows of a batch |
| n | capacity: the most rows that one client holds |
| K | clusters, components or classes |
| d | parameters, flattened |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

__all__ = ["Array", "ArrayLike", "Bound", "Key", "Metrics", "Params", "PyTree", "static"]

Array = jax.Array
ArrayLike = jax.typing.ArrayLike
Key = jax.Array
"""A typed key made by `jax.random.key`; a key argument is consumed."""

PyTree = Any
Params = Any
Metrics = dict[str, Array]


def static(**options: Any) -> Any:
    """A dataclass field that is part of the tree's structure: it fixes a shape or a Python branch.

    Its value must be hashable, since two records with unequal static fields are two compiled programs.
    """
    return dataclasses.field(metadata={"static": True}, **options)


@dataclasses.dataclass(frozen=True)
class Bound:
    """A function with its leading arguments fixed, equal to another one that fixes equal arguments.

    Closures compare by identity, so a model built twice from the same sizes would compile twice. Records
    hold `Bound` functions where a closure would be usual.
    """

    function: Callable[..., Any]
    fixed: tuple[Any, ...]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function, called with the fixed arguments first."""
        return self.function(*self.fixed, *args, **kwargs)

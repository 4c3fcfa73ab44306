"""Column: one column of a table, and how it becomes numbers.

| column | as a feature | as the label |
|---|---|---|
| booleans | 0 and 1 | two classes |
| whole numbers | as they are | one class a value |
| floats | as they are | regression |
| text, pandas' categories | one 0/1 column a value (one-hot), values in order | one class a value |

The values of pandas' categories are those declared, in their order, whether or not they occur; other values are
those that occur, sorted. Nothing is standardised.
"""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any

import numpy as np

from fedjax_het.check import known, require

__all__ = ["MOST", "Column", "as_array", "as_features", "as_target", "missing", "read_column"]

MOST = 100
"""Different values of a column up to which each one may become a feature or a class unasked."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A column without missing values.

    Attributes:
        name: of the column.
        values: [M], of kind "b", "i", "u" or "f" and finite if there are no levels.
        levels: the values of text or categories in order; None for a numeric column.
    """

    name: str
    values: np.ndarray
    levels: list[Any] | None

    @property
    def codes(self) -> np.ndarray:
        """The position of each value among the levels, int [M]."""
        place = {level: code for code, level in enumerate(self.levels or ())}
        return np.array([place[value] for value in self.values.tolist()], np.int64)


def as_array(held: Any) -> np.ndarray:
    """A column as an array [M]; a list keeps its objects, of which NumPy would make one type, such as text."""
    return np.asarray(held) if hasattr(held, "__array__") else np.fromiter(held, object, len(held))


def missing(values: np.ndarray) -> np.ndarray:
    """Which values are NaN, None, or pandas' NA or NaT, bool [M]."""
    if values.dtype.kind in "fc":
        return np.isnan(values)
    if values.dtype.kind in "mM":
        return np.isnat(values)
    if values.dtype.kind != "O":
        return np.zeros(len(values), bool)
    # NA has no truth value, and pandas is not to be imported for its sake
    empty = ("NoneType", "NAType", "NaTType")
    return np.array([type(value).__name__ in empty or bool(value != value) for value in values], bool)


def read_column(name: str, held: Any) -> Column:
    """A column of a data frame, its kind found out.

    Args:
        name: of the column.
        held: M values, none missing: a pandas or polars series, an array, a list.

    Raises:
        TypeError: values that are neither numbers, booleans nor text, or several of these.
        ValueError: infinite values.
    """
    values = as_array(held)
    declared = getattr(getattr(held, "cat", None), "categories", None)
    if declared is not None:
        return Column(name, values, np.asarray(declared).tolist())
    kinds = {values.dtype.kind}
    if values.dtype.kind == "O":  # what nullable columns and lists become
        kinds = {_kind(value) for value in values}
        if len(kinds) == 1 and kinds <= set("bn"):
            values = np.array(values.tolist())
    if kinds <= set("UT"):
        return Column(name, values, sorted(set(values.tolist())))
    if len(kinds) > 1 or values.dtype.kind not in "biuf":
        met = {type(v).__name__ for v in values} if values.dtype.kind == "O" else {str(values.dtype)}
        raise TypeError(
            f"column {name!r} must hold numbers, booleans or text, got {' and '.join(sorted(met))}: turn it "
            "into numbers, or leave it out through features="
        )
    endless = ~np.isfinite(values)
    require(
        not endless.any(),
        f"column {name!r} must be finite, got {int(endless.sum())} infinite values, the first in row "
        f"{int(np.argmax(endless))}: drop these rows or bound them",
    )
    return Column(name, values, None)


def _kind(value: Any) -> str:
    """ "b" for a boolean, "n" for another number, "U" for text, "O" for the rest."""
    if isinstance(value, (bool, np.bool_)):
        return "b"
    if isinstance(value, numbers.Real):
        return "n"
    return "U" if isinstance(value, str) else "O"


def as_features(column: Column) -> tuple[np.ndarray, list[str]]:
    """(float [M, columns of x], the name of each).

    Raises:
        ValueError: text of too many different values.
    """
    if column.levels is None:
        return column.values.astype(np.float64)[:, None], [column.name]
    require(
        len(column.levels) <= MOST,
        f"column {column.name!r} must have at most {MOST} different values to become one 0/1 column each, got "
        f"{len(column.levels)}: leave it out through features=, group rare values, or number them yourself",
    )
    hot = column.codes[:, None] == np.arange(len(column.levels))
    return hot.astype(np.float64), [f"{column.name}={level}" for level in column.levels]


def as_target(column: Column, task: str | None) -> tuple[np.ndarray, tuple[Any, ...], str]:
    """(y [M], the value of each class, the task); no classes for regression.

    Args:
        column: the label.
        task: "classification" or "regression", or None to find it out.

    Raises:
        TypeError: text for regression.
        ValueError: an unknown task, numbers that do not tell it.
    """
    name, values, levels = column.name, column.values, column.levels
    if task is None:
        task = "classification" if levels is not None else _task(name, values)
    known("task", task, ("classification", "regression"))
    if task == "classification":
        if levels is not None:
            return column.codes, tuple(levels), task
        found, codes = np.unique(values, return_inverse=True)
        return codes.astype(np.int64), tuple(found.tolist()), task
    if levels is not None:
        raise TypeError(
            f"label must hold numbers for task 'regression', got text or categories in {name!r}: turn it into "
            "numbers, or pass task='classification'"
        )
    return values.astype(np.float64), (), task


def _task(name: str, values: np.ndarray) -> str:
    """The task that a numeric label stands for: floats that are all whole may be classes with a hole once."""
    real = values.dtype.kind == "f"
    many = len(np.unique(values))
    unclear = bool((values == np.round(values)).all()) and many <= MOST if real else many > MOST
    require(
        not unclear,
        f"task must be given for the label {name!r}, got None for {many} different whole numbers of type "
        f"{values.dtype}: pass task='classification' or task='regression'",
    )
    return "regression" if real else "classification"

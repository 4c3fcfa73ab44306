"""A federation from a table with one row an example and a column that says whose it is.

The table is a pandas or polars data frame, or a dict of columns: it is only asked for its columns by name, so
none of these packages is needed. `columns` says how a column becomes numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedjax_het.check import known, require, short
from fedjax_het.columns import as_array, as_features, as_target, missing, read_column
from fedjax_het.construct import from_groups
from fedjax_het.federation import Federation

__all__ = ["Names", "from_frame"]


@dataclasses.dataclass(frozen=True)
class Names:
    """What the numbers of a federation stand for: client k, column j of x and label c, by position.

    Attributes:
        clients: N values of the client column.
        features: names of the columns of x; "city=Oslo" is 1 where city is Oslo; () where x has no named
            columns.
        labels: the values of the label column, one a class; () for regression, and where classes have no
            names.
    """

    clients: tuple[Any, ...]
    features: tuple[str, ...]
    labels: tuple[Any, ...]

    def client(self, value: Any) -> int:
        """The number of the client that has this value in the client column.

        Raises:
            ValueError: nobody has it.
        """
        if value in self.clients:
            return self.clients.index(value)
        alike = [each for each in self.clients if str(each) == str(value)]
        hint = f"did you mean {alike[0]!r}? " if alike else ""
        raise ValueError(
            f"value must be one of the {len(self.clients)} clients, got {short(value)}: {hint}"
            f"see names.clients, the first is {short(self.clients[0])}"
        )


def from_frame(
    frame: Any,
    *,
    client: str,
    label: str,
    features: Sequence[str] | None = None,
    task: str | None = None,
    test: float = 0.2,
    valid: float = 0.0,
    seed: int = 0,
    name: str = "frame",
) -> tuple[Federation, Names]:
    """A federation with one client for each value of a column of a data frame (school, hospital, plane ...).

    `federation, names = from_frame(schools, client="school", label="passed")`, and `names.client("Park Road")`
    is the number of that school. Text and categories become one 0/1 column a value (one-hot), see `columns`.
    Missing values are refused, since what to do about them depends on the data.

    Args:
        frame: a pandas or polars data frame, or a dict of columns; column names are strings.
        client: the column that says whose row it is: numbers, text or dates.
        label: the column to predict.
        features: the columns to predict from; default all others.
        task: "classification" or "regression"; default by the label's type: floats are regression, all else
            classification. It must be given for more than 100 whole numbers, and for floats that are all
            whole.
        test: fraction of each client's rows held out for testing, stratified by label.
        valid: fraction for validation.
        seed: of the cut.
        name: for tables and messages.

    Returns:
        (federation, names). Client k holds the rows of `names.clients[k]`; x float [M, d] and y int32 or float
        [M] are in the order of the frame's rows.

    Raises:
        TypeError: no data frame, a column of dates or other objects.
        ValueError: an unknown column, missing or infinite values (named), text of more than 100 values as a
            feature, a label that does not tell the task, and see `from_groups`.
    """
    columns = _names(frame)
    known("client", client, columns)
    known("label", label, columns)
    require(client != label, f"label must be another column than client, got {label!r}: pass what to predict")
    if features is None:
        features = [column for column in columns if column not in (client, label)]
    if isinstance(features, str):
        raise TypeError(f"features must be a list of columns, got {features!r}: pass [{features!r}]")
    features = list(features)
    require(len(features) > 0, "features must list at least one column, got none: pass what to predict from")
    for feature in features:
        known("features", feature, columns)
    wrong = sorted({feature for feature in features if feature == label or features.count(feature) > 1})
    require(
        not wrong,
        f"features must list each column once and not the label, got {', '.join(map(repr, wrong))}: drop it",
    )
    _complete({column: as_array(frame[column]) for column in dict.fromkeys([client, label, *features])})
    tables, words = zip(*(as_features(read_column(column, frame[column])) for column in features))
    y, labels, task = as_target(read_column(label, frame[label]), task)
    clients, code = _clients(client, as_array(frame[client]))
    federation = from_groups(
        np.concatenate(tables, axis=1),
        y,
        code,
        test=test,
        valid=valid,
        seed=seed,
        task=task,
        num_classes=len(labels) if task == "classification" else None,
        name=name,
    )
    return federation, Names(clients, tuple(word for each in words for word in each), labels)


def _names(frame: Any) -> list[str]:
    """The names of the columns."""
    named = list(frame) if isinstance(frame, Mapping) else getattr(frame, "columns", None)
    if named is None:
        raise TypeError(
            f"frame must be a pandas or polars data frame or a dict of columns, got {type(frame).__name__}: "
            "for arrays use fh.from_groups(x, y, group)"
        )
    columns = list(named)
    wrong = [column for column in columns if not isinstance(column, str)]
    if wrong:
        raise TypeError(
            f"frame must have strings for column names, got {short(wrong[0])}: rename it, as by "
            "frame.rename(columns=str)"
        )
    return columns


def _complete(held: dict[str, np.ndarray]) -> None:
    """Raise unless the columns are equally long and every value is there."""
    for name, values in held.items():
        require(
            values.ndim == 1,
            f"column {name!r} must be one column, got shape {values.shape}: give each column a name of its own",
        )
    rows = sorted({len(values) for values in held.values()})
    require(
        len(rows) == 1 and rows[0] > 0,
        f"frame must have rows, equally many in each column, got {rows}: pass whole columns",
    )
    gone = {name: missing(values) for name, values in held.items()}
    gone = {name: holes for name, holes in gone.items() if holes.any()}
    listed = [f"{holes.sum()} in {name!r} (first in row {holes.argmax()})" for name, holes in gone.items()]
    require(
        not gone,
        f"frame must have no missing values in the columns used, got {', '.join(listed)}: drop these rows, "
        f"as by frame.dropna(subset={list(gone)}), or fill them in",
    )


def _clients(name: str, values: np.ndarray) -> tuple[tuple[Any, ...], np.ndarray]:
    """(the values in sorted order, the number of each row's client)."""
    try:
        found, code = np.unique(values, return_inverse=True)
    except TypeError as error:
        raise TypeError(
            f"client column {name!r} must hold values that can be sorted, got {error}: make them one type, "
            "as by astype(str)"
        ) from None
    # numpy's dates stay numpy's: as Python values they may be bare counts since 1970
    return tuple(found if values.dtype.kind in "mM" else found.tolist()), code

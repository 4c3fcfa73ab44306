"""Table: the rows behind a federation with natural clients, and the names behind its numbers.

A federation holds numbers only. Every natural data set here therefore has two functions: `flights()` gives the
federation, and `flights_table()` with the same options the table that it is built on. Client k of the
federation is `numpy.unique(table.group)[k]`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedjax_het.check import positive_int, require
from fedjax_het.construct import from_groups
from fedjax_het.federation import Federation
from fedjax_het.frames import Names
from fedjax_het.transforms import recorded

__all__ = ["Table"]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows and whose they are, before a federation is made of them.

    Attributes:
        name: of the data set.
        by: what a client is, such as "plane".
        task: see `pool`.
        x: features, float32 [M, d]; token numbers int32 [M, length] for text.
        y: labels int32 [M]; token numbers int32 [M, length] for text.
        group: the name of each row's client, [M].
        parents: what the clients themselves belong to (a school to its authority), name -> [M] values.
        features: names of the columns of x; () for text.
        labels: what each class stands for.
    """

    name: str
    by: str
    task: str
    x: np.ndarray
    y: np.ndarray
    group: np.ndarray
    parents: Mapping[str, np.ndarray]
    features: tuple[str, ...]
    labels: tuple[Any, ...]

    @property
    def names(self) -> Names:
        """What the numbers of the federation stand for: clients, features, labels."""
        return Names(tuple(np.unique(self.group).tolist()), self.features, self.labels)

    def at_least(self, least: int) -> Table:
        """The table without the clients that hold fewer than `least` rows.

        Raises:
            TypeError: `least` is not a whole number.
            ValueError: it is below 1, or no client holds as many rows; the message names the largest.
        """
        least = positive_int("least", least, remedy="it is the fewest rows that a client may hold")
        found, client, size = np.unique(self.group, return_inverse=True, return_counts=True)
        largest = int(size.argmax())
        require(
            least <= size[largest],
            f"least must be <= {size[largest]}, the rows of the largest {self.by} {str(found[largest])!r}, got "
            f"{least}: lower it",
        )
        if least <= size.min():
            return self
        kept = size[client] >= least
        return dataclasses.replace(
            self,
            x=self.x[kept],
            y=self.y[kept],
            group=self.group[kept],
            parents={name: values[kept] for name, values in self.parents.items()},
        )

    def federation(self, *, test: float = 0.2, valid: float = 0.0, seed: int = 0) -> Federation:
        """One client for each value of `group`, in sorted order.

        Args:
            test: fraction of each client's rows held out for testing, stratified by label.
            valid: fraction for validation.
            seed: of the cut.

        Returns:
            The federation. truth: for each of `parents` the number of each client's parent, int32 [N], among
            `numpy.unique(parents[name])`; that of most of its rows if a client has several.

        Raises:
            TypeError: see `from_groups`.
            ValueError: see `from_groups`.
        """
        federation = from_groups(
            self.x,
            self.y,
            self.group,
            test=test,
            valid=valid,
            seed=seed,
            task=self.task,
            num_classes=len(self.labels),
            name=self.name,
        )
        client = np.unique(self.group, return_inverse=True)[1]
        parents = {name: _usual(client, values) for name, values in self.parents.items()}
        return dataclasses.replace(federation, truth=recorded(federation.truth, **parents))


def _usual(client: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The number of the value that most rows of each client have, the first of equals, int32 [N]."""
    found, code = np.unique(values, return_inverse=True)
    counts = np.bincount(client * len(found) + code, minlength=(client.max() + 1) * len(found))
    return counts.reshape(-1, len(found)).argmax(1).astype(np.int32)

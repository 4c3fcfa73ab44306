"""describe: who holds what, how far from each other, and what chance alone would show."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedjax_het.federation import SPLITS, Federation
from fedjax_het.heterogeneity.change import Change, change
from fedjax_het.heterogeneity.counts import label_counts, labelled, pool_counts, sizes_of
from fedjax_het.heterogeneity.measures import LABEL_MEASURES, SIZE_MEASURES, by_client, skew
from fedjax_het.heterogeneity.null import Band, iid_bands, is_cut
from fedjax_het.heterogeneity.sizes import unique_sizes
from fedjax_het.heterogeneity.table import table

__all__ = ["Description", "Reading", "describe"]


@dataclasses.dataclass(frozen=True)
class Reading:
    """A measure and what chance makes of it.

    Attributes:
        value: of the federation; NaN if nobody holds a row.
        chance: its distribution over IID splits of the same sizes; None for a measure of sizes.
    """

    value: float
    chance: Band | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Description:
    """What a federation holds. `str()` is a table, `as_dict()` is JSON.

    Attributes:
        name: of the pool.
        task: of the pool.
        clients: N.
        phases: T.
        classes: K, None without labels.
        features: shape of a row of x.
        split: which rows are described.
        phase: of which phase.
        rows: rows held in this phase, by split.
        sizes: rows of each client, int64 [N].
        counts: rows by client and class, int64 [N, K], after transforms; None without one label a row.
        cut: whether clients cut their rows by label, which the null distribution then repeats.
        measures: readings by name, see `measures.MEASURES`, and "unique"; of labels only where there are any.
        each: measures of labels by client, float [N], NaN for a client without rows.
        changes: from each phase to the next.
        truth: names of what was done to make the federation.
        notices: what to look at, in words.
    """

    name: str
    task: str
    clients: int
    phases: int
    classes: int | None
    features: tuple[int, ...]
    split: str
    phase: int
    rows: dict[str, int]
    sizes: np.ndarray
    counts: np.ndarray | None
    cut: bool
    measures: Mapping[str, Reading]
    each: Mapping[str, np.ndarray]
    changes: tuple[Change, ...]
    truth: tuple[str, ...]
    notices: tuple[str, ...]

    def as_dict(self, *, each: bool = False) -> dict[str, Any]:
        """All of it as JSON; what is not a number is None.

        Args:
            each: whether to list every client too, under "each": its size, its counts, its measures.
        """
        told: dict[str, Any] = {
            field: getattr(self, field) for field in ("name", "task", "clients", "phases", "classes")
        }
        told |= {"features": self.features, "split": self.split, "phase": self.phase, "rows": self.rows}
        told["sizes"] = {
            "least": int(self.sizes.min()),
            "median": float(np.median(self.sizes)),
            "most": int(self.sizes.max()),
            "Gini": self.measures["gini"].value,
            "empty": int((self.sizes == 0).sum()),
        }
        if self.counts is not None and self.sizes.any():
            many = (self.counts[self.sizes > 0] > 0).sum(1)
            told["labels"] = {
                "rows": self.counts.sum(0).tolist(),
                "least": int(many.min()),
                "median": float(np.median(many)),
                "most": int(many.max()),
                "effective": self.measures["effective_classes"].value,
            }
        told["cut by label"] = self.cut
        told["measures"] = {name: dataclasses.asdict(reading) for name, reading in self.measures.items()}
        told["changes"] = [dataclasses.asdict(entry) for entry in self.changes]
        told |= {"truth": self.truth, "notices": self.notices}
        if each:
            lists = {
                "size": self.sizes,
                **({} if self.counts is None else {"counts": self.counts}),
                **self.each,
            }
            told["each"] = {name: values.tolist() for name, values in lists.items()}
        return _json(told)

    def __str__(self) -> str:
        return table(self)


def describe(
    federation: Federation, *, split: str = "train", phase: int = 0, draws: int = 100, seed: int = 0
) -> Description:
    """What a federation holds and how heterogeneous it is, without a model.

    Measures of labels are means over clients weighted by their rows (see `measures`), beside what IID splits of
    the same sizes show (see `null`). Labels and features are those that clients see, after transforms. Nearly
    all the time goes into `draws`, which share the cores: with 100 of them and ten classes, 10,000 clients take
    about two seconds of one core, 100,000 clients about eighteen.

    Args:
        federation: any.
        split: "train", "valid" or "test".
        phase: of a federation that changes over time; all changes are described in any case.
        draws: IID splits that are drawn; 199 give a band of 99 %, 100 one of 98 %.
        seed: of the draws.

    Raises:
        TypeError: no federation, numbers that are not whole.
        ValueError: no such split or phase, no draws.
    """
    size = sizes_of(federation, split=split, phase=phase)
    spec, pool = federation.spec, federation.spec.pool
    counts, cut, measures, each = None, False, {}, {}
    if labelled(federation):
        counts = label_counts(federation, split=split, phase=phase)
        cut = is_cut(np.stack([pool_counts(federation, split=part, phase=phase) for part in SPLITS]))
        parts = None
        if cut:
            parts = np.stack([label_counts(federation, split=part, phase=phase) for part in SPLITS])
        bands: dict[str, Band] = {}
        if size.any():
            bands = iid_bands(counts, parts=parts, which=SPLITS.index(split), draws=draws, seed=seed)
        for name, distance in LABEL_MEASURES.items():
            measures[name] = Reading(skew(counts, distance), bands.get(name))
            each[name] = by_client(counts, distance)
    measures |= {name: Reading(measure(size)) for name, measure in SIZE_MEASURES.items()}
    measures["unique"] = Reading(unique_sizes(size))
    changes = tuple(
        change(federation, later=later, split=split, draws=draws, seed=seed) for later in range(1, spec.phases)
    )
    return Description(
        name=pool.name,
        task=pool.task,
        clients=spec.num_clients,
        phases=spec.phases,
        classes=pool.num_classes,
        features=pool.feature_shape,
        split=split,
        phase=phase,
        rows={part: int(sizes_of(federation, split=part, phase=phase).sum()) for part in SPLITS},
        sizes=size,
        counts=counts,
        cut=cut,
        measures=measures,
        each=each,
        changes=changes,
        truth=tuple(sorted(federation.truth)),
        notices=tuple(_notices(federation, split, phase, size, counts)),
    )


def _notices(
    federation: Federation, split: str, phase: int, size: np.ndarray, counts: np.ndarray | None
) -> list[str]:
    told, clients = [], len(size)
    unique = round(unique_sizes(size) * clients)
    if unique and clients > 1:
        told.append(
            f"{unique} of {clients} clients have a number of {split} rows that nobody else has: weights by "
            "exact sizes tell the server who is who; see fh.weighting"
        )
    empty = int((size == 0).sum())
    if empty:
        told.append(f"{empty} of {clients} clients hold no {split} rows")
    if split != "test":
        untested = int(((size > 0) & (sizes_of(federation, split="test", phase=phase) == 0)).sum())
        if untested:
            told.append(
                f"{untested} of {clients} clients hold {split} rows but no test rows, and are never scored"
            )
    if counts is not None:
        absent = np.flatnonzero(counts.sum(0) == 0)
        if len(absent):
            listed = ", ".join(map(str, absent[:10])) + (", ..." if len(absent) > 10 else "")
            told.append(f"{len(absent)} of {counts.shape[1]} classes are in nobody's {split} rows: {listed}")
    return told


def _json(value: Any) -> Any:
    """`value` with lists for tuples and None for what is no number."""
    if isinstance(value, Mapping):
        return {key: _json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""describe: who holds what, in numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.federation import SPLITS, Federation
from fedjax_het.metrics.fairness import gini

__all__ = ["describe"]


def describe(federation: Federation, *, phase: int = 0) -> dict[str, Any]:
    """What a federation holds, as JSON.

    Args:
        federation: any.
        phase: of its rows.

    Returns:
        "name", "task", "clients", "phases", "classes" (None without labels); "rows" by split; of the training
        rows "sizes" (least, median, most, Gini, clients without any) and, where a row has one label,
        "labels": rows of each class and the classes that a client holds (least, median, most, and effective: 2
        to the entropy of its labels, in bits, averaged over clients).
    """
    spec = federation.spec
    size = np.asarray(federation.train.size)[phase]
    held = size > 0
    about: dict[str, Any] = {
        "name": spec.pool.name,
        "task": spec.pool.task,
        "clients": spec.num_clients,
        "phases": spec.phases,
        "classes": spec.pool.num_classes,
        "features": list(spec.pool.feature_shape),
        "rows": {split: _rows(federation, split, phase) for split in SPLITS},
        "sizes": {
            "least": int(size.min()),
            "median": float(np.median(size)),
            "most": int(size.max()),
            "Gini": float(gini(size.astype(float), np.ones_like(held))),
            "empty": int((~held).sum()),
        },
        "truth": sorted(federation.truth),
    }
    if spec.pool.num_classes is not None and spec.pool.target_shape == () and held.any():
        about["labels"] = _labels(federation, phase, spec.pool.num_classes)
    return about


def _rows(federation: Federation, split: str, phase: int) -> int:
    size = np.asarray(federation.rows(split).size)
    return int(size[min(phase, len(size) - 1)].sum())


def _labels(federation: Federation, phase: int, classes: int) -> dict[str, Any]:
    """Labels as the pool has them; a transform of the labels is not applied."""
    rows = federation.train
    offset, size = np.asarray(rows.offset)[phase], np.asarray(rows.size)[phase]
    owner = np.repeat(np.arange(len(size)), size)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(size) - size, size) + np.repeat(offset, size)
    label = np.asarray(federation.y)[np.asarray(rows.index)[place]]
    counts = np.bincount(owner * classes + label, minlength=len(size) * classes).reshape(len(size), classes)
    counts = counts[size > 0]
    share = counts / counts.sum(axis=1, keepdims=True)
    entropy = -np.sum(share * np.log2(share, out=np.zeros_like(share), where=share > 0), axis=1)
    many = (counts > 0).sum(axis=1)
    return {
        "rows": counts.sum(axis=0).tolist(),
        "least": int(many.min()),
        "median": float(np.median(many)),
        "most": int(many.max()),
        "effective": float(np.mean(2**entropy)),
    }

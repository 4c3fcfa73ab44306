"""Pool: examples, and what they are."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.check import known, require
from fedjax_het.typing import Array, static

__all__ = ["TASKS", "Pool", "PoolSpec", "pool"]

TASKS = ("classification", "regression", "tokens")
"""classification: y holds labels 0..K-1; regression: y holds floats; tokens: x and y hold token numbers."""


@dataclasses.dataclass(frozen=True)
class PoolSpec:
    """What the rows of a pool are; static and hashable.

    Attributes:
        name: for tables and messages.
        task: one of `TASKS`.
        feature_shape: shape of one row of x.
        target_shape: shape of one row of y; () for a label.
        num_classes: K of a classification or token task, else None.
        scale: factor applied when integer features are cast to floats on take (1/255 for uint8 images);
            None leaves x as it is.
    """

    name: str
    task: str
    feature_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    num_classes: int | None
    scale: float | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pool:
    """All examples, no matter whose.

    Attributes:
        x: features [M, ...]; integer features stay integers (uint8 images cost a quarter) and are cast a
            batch at a time.
        y: targets [M, ...]; int32 labels, or floats.
        spec: what they are.
    """

    x: Array
    y: Array
    spec: PoolSpec = static()

    @property
    def num_rows(self) -> int:
        """M."""
        return self.x.shape[0]

    @property
    def labels(self) -> np.ndarray:
        """The labels on the host, int [M], for partitioners.

        Raises:
            ValueError: the task has no labels.
        """
        require(
            self.spec.num_classes is not None and self.spec.target_shape == (),
            f"pool must hold one label a row for this, got task {self.spec.task!r} of {self.spec.name!r}: "
            "partition it by sizes or by groups instead",
        )
        return np.asarray(self.y)


def _features(x: Any, task: str) -> np.ndarray:
    x = np.asarray(x)
    require(x.ndim >= 1, "x must have one row an example, got a scalar: pass an array [rows, ...]")
    if x.dtype.kind in "biu":
        return x
    if x.dtype.kind != "f":
        raise TypeError(f"x must hold numbers, got dtype {x.dtype}: encode the features as numbers first")
    require(task != "tokens", f"x must hold whole numbers for task 'tokens', got dtype {x.dtype}: cast it")
    bad = ~np.isfinite(x)
    if bad.any():
        row = int(np.argwhere(bad)[0][0])
        raise ValueError(
            f"x must be finite, got {int(bad.sum())} NaN or infinite values, the first in row {row}: "
            "drop or impute these rows"
        )
    return x


def _targets(y: Any, task: str, num_classes: int | None) -> tuple[np.ndarray, int | None]:
    y = np.asarray(y)
    if task == "regression":
        if y.dtype.kind not in "biuf":
            raise TypeError(f"y must hold numbers, got dtype {y.dtype}: encode the targets as numbers first")
        y = y.astype(np.float64)
        require(bool(np.isfinite(y).all()), "y must be finite, got NaN or infinite targets: drop these rows")
        return y, None
    if y.dtype.kind not in "iu":
        raise TypeError(
            f"y must hold integer labels for task {task!r}, got dtype {y.dtype}: "
            "use y.astype(int), or task='regression' if these are targets"
        )
    low, high = (int(y.min()), int(y.max())) if y.size else (0, 0)
    classes = high + 1 if num_classes is None else num_classes
    require(
        low >= 0 and high < classes,
        f"y must hold labels in 0..{classes - 1}, got {low}..{high}: "
        "renumber the labels, or pass the right num_classes",
    )
    return y.astype(np.int32), classes


def pool(
    x: Any,
    y: Any,
    *,
    task: str = "classification",
    num_classes: int | None = None,
    name: str = "pool",
    scale: float | None = None,
) -> Pool:
    """Check two arrays and make a Pool of them.

    Args:
        x: features [M, ...], floats or integers.
        y: targets [M, ...]; integer labels unless `task` is "regression".
        task: one of `TASKS`.
        num_classes: K; the largest label plus one if not given.
        name: for tables and messages.
        scale: factor for integer features when a batch is cast to floats; the default is 1/255 for uint8,
            1 for other integers, and no cast for tokens.

    Raises:
        TypeError: labels that are floats, features that are not numbers.
        ValueError: lengths differ, no rows, labels out of range, NaN or infinite values.
    """
    known("task", task, TASKS)
    x = _features(x, task)
    y, num_classes = _targets(y, task, num_classes)
    require(
        y.ndim >= 1 and len(x) == len(y),
        f"x and y must have one row an example each, got {len(x)} rows of x and "
        f"{len(y) if y.ndim else 0} of y: align them",
    )
    require(len(x) > 0, "x must have rows, got none: a pool cannot be empty")
    if x.dtype.kind == "f":
        x, scale = x.astype(jnp.result_type(float)), None
    elif task == "tokens":
        x, scale = x.astype(np.int32), None
    elif scale is None:
        scale = 1 / 255 if x.dtype == np.uint8 else 1.0
    if task == "regression":
        y = y.astype(jnp.result_type(float))
    spec = PoolSpec(name, task, x.shape[1:], y.shape[1:], num_classes, scale)
    return Pool(jnp.asarray(x), jnp.asarray(y), spec)

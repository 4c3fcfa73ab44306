"""Pool: examples, and what they are."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.buffers import taken
from fedjax_het.check import known, positive_int, require, scalar, short
from fedjax_het.typing import Array, static

__all__ = ["TASKS", "Pool", "PoolSpec", "expect_pool", "pool"]

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


def expect_pool(name: str, value: Any) -> Pool:
    """`value`, which must be a Pool.

    Raises:
        TypeError: it is none; the message says where to get one.
    """
    if isinstance(value, Pool):
        return value
    kind = type(value).__name__
    holds = isinstance(getattr(value, "pool", None), Pool)
    remedy = f"pass {kind.lower()}.pool" if holds else "build one with pool(x, y)"
    raise TypeError(f"{name} must be a Pool, got {kind}: {remedy}")


def _floats(name: str, values: np.ndarray) -> np.ndarray:
    """`values` in the default float type, all finite."""
    dtype = jnp.result_type(float)
    with np.errstate(over="ignore"):
        cast = values.astype(dtype)
    bad = ~np.isfinite(cast)
    if not bad.any():
        return cast
    row, many = int(np.argwhere(bad)[0][0]) if cast.ndim else 0, int(bad.sum())
    if bool(np.isfinite(values[bad]).all()):
        raise ValueError(
            f"{name} must be finite as {dtype}, got {many} values that are too large, the first in row {row}: "
            "rescale them"
        )
    raise ValueError(
        f"{name} must be finite, got {many} NaN or infinite values, the first in row {row}: "
        "drop or impute these rows"
    )


def _fits(name: str, what: str, values: np.ndarray, dtype: Any, remedy: str) -> np.ndarray:
    """Whole numbers in another integer type, which must hold every one of them."""
    if values.size and values.dtype.kind != "b":
        limits = np.iinfo(dtype)
        low, high = int(values.min()), int(values.max())
        require(
            low >= limits.min and high <= limits.max,
            f"{name} must hold {what} that {np.dtype(dtype)} can hold, got {low}..{high}: {remedy}",
        )
    return values.astype(dtype)


def _features(x: Any, task: str) -> np.ndarray:
    x = np.asarray(x)
    require(x.ndim >= 1, "x must have one row an example, got a scalar: pass an array [rows, ...]")
    if x.dtype.kind not in "biuf":
        raise TypeError(f"x must hold numbers, got dtype {x.dtype}: encode the features as numbers first")
    if task == "tokens":
        require(
            x.dtype.kind != "f", f"x must hold whole numbers for task 'tokens', got dtype {x.dtype}: cast it"
        )
        return _fits("x", "token numbers", x, np.int32, "renumber the tokens 0..K-1")
    if x.dtype.kind == "f":
        return _floats("x", x)
    kept = jax.dtypes.canonicalize_dtype(x.dtype)
    return x if x.dtype == kept else _fits("x", "integers", x, kept, "pass x.astype(float)")


def _one_hot(y: np.ndarray) -> bool:
    if y.ndim != 2 or y.shape[1] < 2 or not len(y) or y.dtype.kind not in "biuf":
        return False
    return bool((((y == 0) | (y == 1)).all()) and ((y == 1).sum(1) == 1).all())


def _targets(y: Any, task: str) -> np.ndarray:
    y = np.asarray(y)
    if task == "regression":
        if y.dtype.kind not in "biuf":
            raise TypeError(f"y must hold numbers, got dtype {y.dtype}: encode the targets as numbers first")
        return _floats("y", y)
    require(
        task != "classification" or not _one_hot(y),
        f"y must hold one label a row, got one-hot rows of shape {y.shape}: pass y.argmax(1)",
    )
    if y.dtype.kind not in "iu":
        raise TypeError(
            f"y must hold integer labels for task {task!r}, got dtype {y.dtype}: "
            "use y.astype(int), or task='regression' if these are targets"
        )
    return _fits("y", "labels", y, np.int32, "renumber the labels 0..K-1")


def _classes(held: dict[str, np.ndarray], num_classes: int | None) -> int:
    """K, which every label and token must be below."""
    ends = {name: (int(a.min()), int(a.max())) for name, a in held.items() if a.size}
    remedy = "it is how many labels there are, None to take the largest plus one"
    if num_classes is None:
        classes = max((high for _, high in ends.values()), default=0) + 1
    else:
        classes = positive_int("num_classes", num_classes, remedy=remedy)
    for name, (low, high) in ends.items():
        what = "tokens" if name == "x" else "labels"
        require(low >= 0, f"{name} must hold {what} >= 0, got {low}: renumber the {what} 0..K-1")
        require(
            high < classes,
            f"{name} must hold {what} in 0..{classes - 1}, got {low}..{high}: "
            f"renumber the {what}, or pass the right num_classes",
        )
    return classes


def _scale(scale: Any, x: np.ndarray, task: str) -> float | None:
    remedy = "it is the factor applied to integer features, such as 1/255"
    factor = None if scale is None else scalar("scale", scale, above=0, remedy=remedy)
    if task != "tokens" and x.dtype.kind != "f":
        return (1 / 255 if x.dtype == np.uint8 else 1.0) if factor is None else factor
    what, instead = ("tokens", "drop it") if task == "tokens" else ("float x", "scale the features yourself")
    require(factor is None, f"scale must be None for {what}, got {factor}: {instead}")
    return None


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
        y: targets [M, ...]; integer labels, not one-hot rows, unless `task` is "regression".
        task: one of `TASKS`.
        num_classes: K; the largest label (or token, of x too) plus one if not given.
        name: for tables and messages.
        scale: factor for integer features when a batch is cast to floats; the default is 1/255 for uint8,
            1 for other integers, and no cast for tokens.

    Raises:
        TypeError: labels that are floats, features that are not numbers, a `num_classes` or `scale` that is
            no number.
        ValueError: lengths differ, no rows, labels or tokens out of range, one-hot labels, values that are
            not finite in the default float type, a `num_classes` for regression, a `scale` for features that
            are not integers.
    """
    known("task", task, TASKS)
    if task == "regression":
        require(
            num_classes is None,
            f"num_classes must be None for task 'regression', got {short(num_classes)}: drop it, or pass "
            "task='classification'",
        )
    x, y = _features(x, task), _targets(y, task)
    require(
        y.ndim >= 1 and len(x) == len(y),
        f"x and y must have one row an example each, got {len(x)} rows of x and "
        f"{len(y) if y.ndim else 0} of y: align them",
    )
    require(len(x) > 0, "x must have rows, got none: a pool cannot be empty")
    if task != "regression":
        num_classes = _classes({"y": y, "x": x} if task == "tokens" else {"y": y}, num_classes)
    spec = PoolSpec(name, task, x.shape[1:], y.shape[1:], num_classes, _scale(scale, x, task))
    return Pool(taken(x), taken(y), spec)

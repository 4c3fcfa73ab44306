"""Task covariances Sigma [N, N], of trace 1: how MOCHA's tasks are related.

The penalty is lambda/2 tr(W Sigma^-1 W'), the columns of W being the tasks: tasks whose covariance is large are
held together. Priors that are stated as a precision L (a graph's Laplacian) have no Sigma of their own, since L
is singular: here Sigma is (L + ridge I)^-1 over its trace.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from fedjax_het.check import positive_int, require, scalar, short
from fedjax_het.typing import Array

__all__ = ["clustered", "covariance", "independent", "laplacian", "learned", "mean_regularised", "safety"]

RIDGE = "it is the tasks' own ridge, relative to the strength of their ties"


def independent(tasks: int) -> Array:
    """I / N: no task knows of another, each has the ridge lambda N / 2 |w_t|^2.

    Raises:
        TypeError, ValueError: tasks is not a whole number of at least 1.
    """
    tasks = positive_int("tasks", tasks)
    return jnp.eye(tasks, dtype=jnp.result_type(float)) / tasks


def mean_regularised(tasks: int, *, ridge: Any) -> Array:
    """Sigma of the precision I - 11'/N + ridge I: every task is drawn to the mean of all.

    Args:
        tasks: N.
        ridge: > 0.

    Raises:
        TypeError, ValueError: a number of the wrong kind or range.

    Reference:
        Evgeniou, Pontil, KDD 2004; Smith et al., NeurIPS 2017, appendix on multi-task formulations.
    """
    return clustered([0] * positive_int("tasks", tasks), ridge=ridge)


def clustered(labels: Any, *, ridge: Any) -> Array:
    """Sigma of the precision L + ridge I, where w' L w is the sum of squares around the clusters' means.

    Args:
        labels: the cluster of each task, whole numbers [N].
        ridge: > 0.

    Raises:
        TypeError, ValueError: labels are not one whole number a task, or ridge is not a number > 0.

    Reference:
        Jacob, Bach, Vert, NeurIPS 2008, with the clusters known beforehand.
    """
    given = np.asarray(labels)
    require(
        given.ndim == 1 and given.size > 0 and given.dtype.kind in "iu",
        f"labels must be one whole number a task, got {short(labels)}: pass such as [0, 0, 1]",
    )
    same = (given[:, None] == given[None, :]).astype(np.float64)
    return _inverse(np.eye(len(given)) - same / same.sum(axis=1, keepdims=True), ridge)


def laplacian(adjacency: Any, *, ridge: Any) -> Array:
    """Sigma of the precision L + ridge I with w' L w = 1/2 sum_st a_st (w_s - w_t)^2.

    Args:
        adjacency: ties between tasks, symmetric, >= 0, float [N, N]; the diagonal is not used.
        ridge: > 0.

    Raises:
        TypeError, ValueError: adjacency is no such matrix, or ridge is not a number > 0.

    Reference:
        Smith et al., NeurIPS 2017, appendix on multi-task formulations.
    """
    ties = _square("adjacency", adjacency)
    require(bool(np.all(ties >= 0)), f"adjacency must be >= 0, got {ties.min()}: it says how strong a tie is")
    ties = ties - np.diag(np.diag(ties))
    return _inverse(np.diag(ties.sum(axis=1)) - ties, ridge)


def covariance(prior: Any) -> Array:
    """A covariance of one's own, checked and divided by its trace.

    Raises:
        TypeError: not an array of numbers.
        ValueError: not symmetric and positive definite.
    """
    matrix = _square("prior", prior)
    least = float(np.linalg.eigvalsh(matrix).min())
    require(
        least > 0,
        f"prior must be positive definite, got a least eigenvalue of {least:.3g}: add a multiple of I",
    )
    return jnp.asarray(matrix / np.trace(matrix), jnp.result_type(float))


def learned(models: Array, floor: Array) -> Array:
    """argmin over Sigma >= 0, tr Sigma = 1 of tr(W Sigma^-1 W'): (W'W)^(1/2) over its trace.

    From the singular values of W, not from W'W, whose zero eigenvalues are noise with roots a thousand times as
    large in single precision.

    Args:
        models: one task a row (W' in the paper), float [N, d].
        floor: least eigenvalue of W'W, an absolute number > 0; scalar.

    Returns:
        Sigma [N, N]; I / N where all models are zero.

    Reference:
        Zhang, Yeung, UAI 2010, the closed form of the covariance's step; Smith et al., NeurIPS 2017.
    """
    tasks = models.shape[0]
    left, values, _ = jnp.linalg.svd(models, full_matrices=False)
    least = jnp.sqrt(floor)
    above = jnp.maximum(values - least, 0)
    root = least * jnp.eye(tasks, dtype=models.dtype) + (left * above[None, :]) @ left.T
    return root / jnp.trace(root)


def safety(relation: Array) -> Array:
    """rho = max_t sum_s |Sigma_ts| / Sigma_tt over all tasks, scalar: sigma' at which dual steps may be added.

    Reference:
        Smith et al., NeurIPS 2017, the bound on sigma' in the appendix; `rho` of the authors' `run_mocha`.
    """
    return jnp.max(jnp.sum(jnp.abs(relation), axis=1) / jnp.diagonal(relation))


def _inverse(precision: np.ndarray, ridge: Any) -> Array:
    ridge = scalar("ridge", ridge, above=0, remedy=RIDGE)
    return covariance(np.linalg.inv(precision + ridge * np.eye(len(precision))))


def _square(name: str, value: Any) -> np.ndarray:
    try:
        matrix = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a matrix of numbers, got {short(value)}") from None
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] and matrix.size > 0
    require(
        square and bool(np.all(np.isfinite(matrix))) and bool(np.allclose(matrix, matrix.T, rtol=1e-5)),
        f"{name} must be a finite symmetric matrix [N, N], got {short(value)}: one row and column a client",
    )
    return (matrix + matrix.T) / 2

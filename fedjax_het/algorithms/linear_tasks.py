"""What the multi-task methods ask of a problem: that it is linear and convex; for a dual, what its rows are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from fedjax_het import tree
from fedjax_het.algorithms.dual import LOSSES
from fedjax_het.check import known, require, short
from fedjax_het.federation import Federation
from fedjax_het.models.losses import cross_entropy, squared
from fedjax_het.problem import Problem
from fedjax_het.typing import Array, Params

__all__ = ["check_convex", "dual_loss", "dual_shape", "flattened", "outputs"]


def check_convex(name: str, problem: Problem) -> None:
    """Raise `ValueError` unless the method called `name` can learn the problem."""
    facts = problem.facts
    require(
        facts.linear and facts.convex,
        f"problem must be linear and convex for {name}, got {facts.name!r} (linear={facts.linear}, "
        f"convex={facts.convex}): use fh.models.linear or fh.models.softmax, or fh.algorithms.ditto for others",
    )
    require(
        facts.buffers == "none",
        f"problem must have no buffers for {name}, got {facts.name!r} whose buffers are {facts.buffers!r}: "
        "a linear model needs none",
    )


def dual_loss(problem: Problem, loss: Any) -> str:
    """The key of `LOSSES` that `loss` names; None stands for the problem's own loss.

    Raises:
        TypeError: neither a name nor None.
        ValueError: no such loss; a problem with an l2 term, or whose own loss has no known conjugate.
    """
    require(
        problem.l2 is None,
        f"problem must have no l2 term for mocha, got one in {problem.facts.name!r}: strength is its penalty",
    )
    names = ", ".join(LOSSES)
    if loss is None:
        own: dict[Any, str] = {squared: "squared", cross_entropy: "softmax"}
        require(
            problem.losses in own,
            f"loss must be named for {problem.facts.name!r}, whose own loss has no known conjugate, got None: "
            f"pass one of {names}",
        )
        return own[problem.losses]
    if not isinstance(loss, str):
        raise TypeError(f"loss must be a name or None, got {short(loss)}: pass one of {names}")
    return known("loss", loss, LOSSES)


def flattened(problem: Problem) -> tuple[Array, Callable[[Array], Params]]:
    """(zero params as a vector [d], vector -> params)."""
    shapes = jax.eval_shape(problem.init, jax.random.key(0)).params
    return ravel_pytree(tree.zeros_like(shapes))


def outputs(problem: Problem, flat: Array, x: Array) -> Array:
    """Outputs [B, K] of the params `flat` [d]."""
    out, _ = problem.apply(flattened(problem)[1](flat), (), x)
    return out.reshape(x.shape[0], math.prod(out.shape[1:]))


def dual_shape(problem: Problem, loss: str, federation: Federation) -> tuple[int, int]:
    """(K, d), if dual variables can be kept for the rows of this federation.

    Raises:
        ValueError: rows that change over time, or targets that the loss does not take.
    """
    spec, rule = federation.spec, LOSSES[loss]
    require(
        spec.phases == 1,
        f"federation must have one phase for mocha, got {spec.phases}: a dual variable belongs to its row",
    )
    flat, _ = flattened(problem)
    x = jax.ShapeDtypeStruct((1, *spec.pool.feature_shape), jnp.result_type(float))
    width = jax.eval_shape(lambda flat, x: outputs(problem, flat, x), flat, x).shape[1]
    if rule.signs:
        require(
            width == 1 and spec.pool.num_classes is None,
            f"loss {loss!r} must have one number a row, -1 or 1, got task {spec.pool.task!r} with {width} "
            "outputs: use a regression pool, or leave loss out for the problem's own",
        )
        known_rows = not isinstance(federation.y, Tracer)
        require(
            not known_rows or bool(jnp.all(jnp.abs(federation.y) == 1)),
            f"targets must be -1 or 1 for loss {loss!r}, got others in {spec.pool.name!r}: recode them",
        )
    require(
        not rule.labels or spec.pool.target_shape == (),
        f"targets must be one label a row for mocha, got shape {spec.pool.target_shape}: use a row for each",
    )
    return width, flat.shape[0]

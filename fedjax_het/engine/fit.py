"""Whether the parts of a run fit together, asked before anything is compiled."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax

from fedjax_het.check import require
from fedjax_het.federation import Federation
from fedjax_het.models.losses import cross_entropy, squared
from fedjax_het.problem import Problem

__all__ = ["check_algorithm", "check_callable", "check_federation", "check_fit", "check_record"]

ROWS = 3
"""Rows of the batch whose shapes are followed through the model."""


def check_federation(federation: Any) -> None:
    """Raise `TypeError` unless it is a Federation."""
    if not isinstance(federation, Federation):
        raise TypeError(
            f"federation must be a Federation, got {type(federation).__name__}: make one with fh.from_clients, "
            "fh.from_groups or fh.heterogeneity"
        )


def check_algorithm(algorithm: Any) -> None:
    """Raise `TypeError` unless it has a problem and what a round calls."""
    needed = ("init", "client_update", "server_update")
    missing = [name for name in needed if not callable(getattr(algorithm, name, None))]
    if missing or not isinstance(getattr(algorithm, "problem", None), Problem):
        raise TypeError(
            f"algorithm must have a problem and the methods of fedjax_het.algorithm.Algorithm, got "
            f"{type(algorithm).__name__}: make one with fh.algorithms, such as "
            "fh.algorithms.make(name, problem, solver)"
        )


def check_record(name: str, value: Any, methods: tuple[str, ...], example: str) -> None:
    """Raise `TypeError` unless `value` is an object with these methods: not a factory that was not called."""
    whole = all(callable(getattr(value, method, None)) for method in methods)
    if not whole or isinstance(value, type) or inspect.isfunction(value) or isinstance(value, str):
        got = value.__name__ if inspect.isfunction(value) else type(value).__name__
        raise TypeError(f"{name} must be a record made by a call, got {got}: pass one such as {example}")


def check_callable(name: str, value: Any, arguments: tuple[str, ...], example: str) -> None:
    """Raise `TypeError` unless `value` can be called with that many positional arguments."""
    words = f"{name} must be a function of ({', '.join(arguments)})"
    if not callable(value):
        raise TypeError(f"{words}, got {type(value).__name__}: pass one such as {example}")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        got = f"{getattr(value, '__name__', type(value).__name__)}{signature}"
        raise TypeError(f"{words}, got {got}: pass one such as {example}") from None


def _shapes(call: Callable[..., Any], *arguments: Any) -> Any:
    return jax.eval_shape(lambda *given: call(*given), *arguments)


def check_fit(problem: Problem, federation: Federation) -> None:
    """Follow the shapes of a batch of the federation through the model and the loss.

    Raises:
        TypeError: it is not a Federation.
        ValueError: the model cannot take the federation's features, or its output does not fit the targets.
    """
    check_federation(federation)
    spec = federation.spec.pool
    remedy = "build the problem from federation.pool"
    x_type = federation.x.dtype if spec.scale is None else jax.numpy.result_type(float)
    x = jax.ShapeDtypeStruct((ROWS, *spec.feature_shape), x_type)
    y = jax.ShapeDtypeStruct((ROWS, *spec.target_shape), federation.y.dtype)
    model = jax.eval_shape(problem.init, jax.random.key(0))
    try:
        out, _ = _shapes(problem.apply, model.params, model.buffers, x)
    except Exception as error:
        raise ValueError(
            f"federation must have the features that the model {problem.facts.name!r} was built "
            "for, got rows of "
            f"shape {spec.feature_shape} in {spec.name!r}: {remedy}"
        ) from error
    if problem.losses is cross_entropy:
        fits = spec.num_classes is not None and out.shape[:-1] == (ROWS, *spec.target_shape)
        require(
            fits and out.shape[-1] >= (spec.num_classes or 0),
            f"federation must have labels for the model's output {list(out.shape[1:])}, got task {spec.task!r} "
            f"with {spec.num_classes} classes and targets of shape {spec.target_shape} in "
            f"{spec.name!r}: {remedy}",
        )
    elif problem.losses is squared:
        require(
            spec.task == "regression" and out.shape == (ROWS, *spec.target_shape),
            f"federation must have targets like the model's output {list(out.shape[1:])}, got task "
            f"{spec.task!r} "
            f"with targets of shape {spec.target_shape} in {spec.name!r}: {remedy}",
        )
    else:
        try:
            losses = _shapes(problem.losses, out, y)
        except Exception as error:
            raise ValueError(
                f"federation must have targets that the loss of {problem.facts.name!r} takes, got shape "
                f"{spec.target_shape} of {federation.y.dtype} in {spec.name!r}: {remedy}"
            ) from error
        require(
            losses.shape == (ROWS,),
            f"losses of {problem.facts.name!r} must be one number a row, got shape {list(losses.shape)} for "
            f"{ROWS} rows: sum or average over the other axes",
        )

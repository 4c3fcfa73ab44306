"""What the adaptors of Flax modules share: switches of a call, types, and checks at building time.

`linen.from_linen` and `nnx.from_nnx` turn a module into init and apply; `finish` makes the Problem.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.check import known, number, require
from fedjax_het.models.linear import RIDGE
from fedjax_het.models.losses import check_output, defaults
from fedjax_het.models.selectors import leaf_paths, named, under
from fedjax_het.pool import Pool, PoolSpec
from fedjax_het.problem import Facts, Model, Problem
from fedjax_het.typing import Array, Bound, Key, Metrics, PyTree

__all__ = ["BUFFERS", "NORMS", "default_floats", "example", "finish", "flags", "like", "modes"]

BUFFERS = ("refused", "averaged", "local")
"""Who owns what a module keeps beside its parameters: nobody, the server, or each client."""

NORMS = ("BatchNorm", "LayerNorm", "GroupNorm", "RMSNorm", "InstanceNorm")
"""Flax's normalisation layers, which both of its interfaces call so."""

FLAGS = ("train", "training", "deterministic", "use_running_average")
ROWS = 2


def flags(call: Callable[..., Any]) -> tuple[str, ...]:
    """Which of `FLAGS` a module's call takes."""
    return tuple(name for name in FLAGS if name in inspect.signature(call).parameters)


def modes(flags: tuple[str, ...], train: bool, random: bool) -> dict[str, bool]:
    """The values of these switches.

    Args:
        flags: names among `FLAGS`.
        train: whether statistics come from the batch.
        random: whether dropout acts.
    """
    values = {
        "train": train,
        "training": train,
        "deterministic": not random,
        "use_running_average": not train,
    }
    return {name: values[name] for name in flags}


def example(spec: PoolSpec) -> Array:
    """Zeros of the shape and type of a batch of `ROWS` rows, [B, ...]."""
    dtype = jnp.int32 if spec.task == "tokens" else jnp.result_type(float)
    return jnp.zeros((ROWS, *spec.feature_shape), dtype)


def default_floats(values: PyTree) -> PyTree:
    """float32 leaves in the default float type: Flax makes float32 under x64 too, bfloat16 is on purpose."""
    dtype = jnp.result_type(float)
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.dtype == jnp.float32 else leaf, values)


def like(old: PyTree, new: PyTree) -> PyTree:
    """`new` in the types of `old`, so that a round keeps every type."""
    return jax.tree.map(lambda a, b: b.astype(a.dtype), old, new)


def _mean_loss(losses: Callable[..., Array], out: PyTree, y: Array) -> Metrics:
    return {"loss": losses(out, y)}


def _present(
    name: str, parts: Sequence[str], holds: Callable[[tuple[str, ...], str], bool], paths: list[str]
) -> tuple[str, ...]:
    """Parts of paths, each of which selects some leaf."""
    parts = (parts,) if isinstance(parts, str) else tuple(parts)
    for part in parts:
        require(
            any(holds((part,), path) for path in paths),
            f"{name} must name parts of the module, got {part!r}: the leaves are {', '.join(paths)}",
        )
    return parts


def finish(
    name: str,
    init: Callable[[Key], Model],
    apply: Callable[..., tuple[PyTree, PyTree]],
    pool: Pool,
    *,
    collections: list[str],
    found_norms: list[str],
    buffers: str,
    head: Sequence[str],
    norm: Sequence[str] | None,
    losses: Callable[..., Array] | None,
    metrics: Callable[..., Metrics] | None,
    l2: Any,
    log_likelihood: bool | None,
    masked: bool = False,
) -> Problem:
    """The Problem of an adapted module, after the checks that both kinds share.

    Args:
        name: the module's, for tables and messages.
        init: key -> Model.
        apply: (params, buffers, x, key=None, train=False) -> (out, buffers).
        pool: what it learns.
        collections: names of what the module keeps beside its parameters.
        found_norms: paths of the normalisation layers found by their type.
        buffers: as in `from_linen`, like all that follow.
        head: path prefixes of the head's leaves.
        norm: path prefixes or names of normalisation layers, None for those found.
        losses: (out, y) -> float [B], or None.
        metrics: (out, y) -> {name: float [B]}, or None.
        l2: coefficient of the ridge term, or None.
        log_likelihood: whether the loss is a negative log-likelihood, or None.
        masked: whether `apply` takes weight= and keeps fillers out of batch statistics.

    Raises:
        TypeError: l2 is not a number.
        ValueError: as `from_linen` says.
    """
    known("buffers", buffers, BUFFERS)
    require(
        not collections or buffers != "refused",
        f"buffers must be 'averaged' or 'local' for a module with {', '.join(collections)}, got 'refused': "
        "'averaged' shares these arrays like parameters, 'local' leaves each client its own (FedBN)",
    )
    model = jax.eval_shape(init, jax.random.key(0))
    out, _ = jax.eval_shape(apply, *model, example(pool.spec))
    if losses is None:
        check_output(out, pool.spec, ROWS)
    default_losses, default_metrics = defaults(pool.spec.task)
    if metrics is None:
        metrics = default_metrics if losses is None else Bound(_mean_loss, (losses,))
    chosen = default_losses if losses is None else losses
    targets = jnp.zeros((ROWS, *pool.spec.target_shape), pool.y.dtype)
    for label, function in (("losses", chosen), ("metrics", metrics)):
        for leaf in jax.tree.leaves(jax.eval_shape(function, out, targets)):
            require(
                leaf.shape == (ROWS,),
                f"{label} must give one number a row, [B], got shape {list(leaf.shape)} for {ROWS} rows: "
                "sum or average over the other axes, and never over rows",
            )
    paths = leaf_paths(model.params)
    if norm is None:
        norm = sorted({layer for layer in found_norms if any(under((layer,), path) for path in paths)})
    return Problem(
        init=init,
        apply=apply,
        losses=chosen,
        metrics=metrics,
        facts=Facts(
            name,
            log_likelihood=losses is None if log_likelihood is None else bool(log_likelihood),
            buffers=buffers if collections else "none",
            head=_present("head", head, under, paths),
            norm=_present("norm", norm, named, paths),
            masked=masked,
        ),
        l2=None if l2 is None else number("l2", l2, least=0, remedy=RIDGE),
    )

"""`flax.nnx` modules as problems.

Flax is imported inside the functions, since most uses of the package need none of it. Its modules run under
JAX's ordinary promotion of types, whatever the caller's setting: its own layers mix types (BatchNorm under
x64).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys
from fedjax_het.check import short
from fedjax_het.models import modules
from fedjax_het.models.convolution import conv_general_dilated, warn_of_slow
from fedjax_het.pool import Pool, expect_pool
from fedjax_het.problem import Model, Problem
from fedjax_het.typing import Array, Bound, Key, Metrics, Params, PyTree

__all__ = ["from_nnx"]


def _rng_states(layout: tuple[tuple[tuple[Any, ...], tuple[int, ...], bool], ...], key: Key | None) -> PyTree:
    """Fresh states of a module's generators: each has its own stream of `key`, whoever made it."""
    key = jax.random.key(0) if key is None else key
    states: dict[Any, Any] = {}
    for path, shape, is_key in layout:
        inner = states
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        stream = keys.stream(key, "/".join(map(str, path)))
        fresh = jax.random.split(stream, shape) if shape else stream
        inner[path[-1]] = fresh if is_key else jnp.zeros(shape, jnp.uint32)
    return states


def _nnx_parts(model: Any) -> tuple[Any, Any, Any, Any]:
    """(graphdef, parameters, generators, buffers); what a call records for the user is left out."""
    from flax import nnx

    graphdef, params, generators, _, rest = nnx.split(model, nnx.Param, nnx.RngState, nnx.Intermediate, ...)
    return graphdef, params, generators, rest


def _nnx_init(factory: Callable[..., Any], key: Key) -> Model:
    from flax import nnx

    _, params, _, rest = _nnx_parts(factory(rngs=nnx.Rngs(key)))
    buffers = nnx.to_pure_dict(rest)
    return Model(modules.default_floats(nnx.to_pure_dict(params)), modules.default_floats(buffers) or ())


def _nnx_apply(
    graphdef: Any,
    layout: Any,
    flags: tuple[str, ...],
    params: Params,
    buffers: PyTree,
    x: Array,
    key: Key | None = None,
    train: bool = False,
) -> tuple[PyTree, PyTree]:
    from flax import nnx

    random = train and key is not None
    model = nnx.merge(graphdef, params, _rng_states(layout, key if random else None), buffers or {})
    if train:
        model.train()
    else:
        model.eval()
    if not random:
        model.set_attributes(deterministic=True, raise_if_not_found=False)
    for path, layer in nnx.iter_modules(model):
        if isinstance(layer, nnx.Conv) and layer.conv_general_dilated is jax.lax.conv_general_dilated:
            layer.conv_general_dilated = functools.partial(
                conv_general_dilated, layer="/".join(map(str, path)) or "the module"
            )
    with jax.numpy_dtype_promotion("standard"):
        out = model(x, **modules.modes(flags, train, random))
    if not buffers:
        return out, buffers
    return out, modules.like(buffers, nnx.to_pure_dict(_nnx_parts(model)[3]))


def _rebuildable(factory: Callable[..., Any]) -> Callable[..., Any]:
    """`functools.partial` compares by identity; the same call as a `Bound` compares by its arguments."""
    if isinstance(factory, functools.partial):
        factory = Bound(_call, (factory.func, factory.args, tuple(sorted(factory.keywords.items()))))
    try:
        hash(factory)
    except TypeError:
        raise TypeError(
            f"factory must be hashable, got {factory!r}: use tuples for arguments that are lists or arrays"
        ) from None
    return factory


def _call(function: Callable[..., Any], args: tuple[Any, ...], named: tuple[Any, ...], **more: Any) -> Any:
    return function(*args, **dict(named), **more)


def from_nnx(
    factory: Callable[..., Any],
    pool: Pool,
    *,
    buffers: str = "refused",
    head: Sequence[str] = (),
    norm: Sequence[str] | None = None,
    losses: Callable[..., Array] | None = None,
    metrics: Callable[..., Metrics] | None = None,
    l2: Any = None,
    log_likelihood: bool | None = None,
) -> Problem:
    """A `flax.nnx` module as a Problem; params are its `nnx.Param` variables as nested dictionaries.

    The module is called on x [B, ...] alone, in train or eval mode, with whichever of `train`, `training`,
    `deterministic` and `use_running_average` its call takes. Dropout acts in training with a key only; every
    generator of the module has its own stream of that key. float32 variables are kept in the default float
    type. Two problems are equal if their factories are: a class, a function of a module, or
    `functools.partial` of one, rather than a lambda.

    A batch that is not full is filled up with repeated rows. They do not count in the loss, but they do in
    batch statistics, since NNX layers are not told which rows count (`from_linen` tells BatchNorm).

    `nnx.Conv` layers run by `models.convolution`, as in `from_linen`; `nnx.ConvTranspose` is named in a
    warning.

    Args:
        factory: rngs (an `nnx.Rngs`, passed by that name) -> module, for example
            `functools.partial(MLP, 784, 10)`.
        pool: what it learns.
        buffers: what becomes of variables that are neither parameters nor random states, such as
            `nnx.BatchStat`: "averaged" over the cohort like parameters, "local" to each client, or "refused".
        head: path prefixes of the head's leaves, such as ("head",).
        norm: path prefixes or names of normalisation layers; None finds Flax's own by their type.
        losses: (out, y) -> float [B]; the task's own if None (`losses.defaults`).
        metrics: (out, y) -> {name: float [B]}; if None the task's own, or {"loss": losses}.
        l2: coefficient of (l2/2)|params|^2, >= 0, or None.
        log_likelihood: whether the loss is a negative log-likelihood; if None, whether it is the task's own.

    Raises:
        TypeError: `factory` is a module already built, is not callable, cannot be hashed, or returns no
            NNX module; `pool` is not a Pool.
        ValueError: the output does not fit the task, the module has buffers and the policy is "refused", a
            part that head or norm names is absent, losses or metrics are not one number a row, or l2 is
            negative.
    """
    from flax import nnx

    if isinstance(factory, nnx.Module) or not callable(factory):
        raise TypeError(
            f"factory must be a function of rngs that builds the module, got {type(factory).__name__}: "
            "pass functools.partial(MODULE, ...), so that each key gives its own parameters"
        )
    expect_pool("pool", pool)
    factory = _rebuildable(factory)
    built: dict[str, Any] = {}

    def build(key: Key) -> None:
        model = factory(rngs=nnx.Rngs(key))
        if not isinstance(model, nnx.Module):
            raise TypeError(f"factory must return an nnx.Module, got {short(model)}: return the module itself")
        graphdef, _, generators, rest = _nnx_parts(model)
        types = tuple(getattr(nnx, name) for name in modules.NORMS if hasattr(nnx, name))
        # Only names, shapes and the graph leave: they are static, and nothing traced may.
        built["graphdef"], built["name"] = graphdef, type(model).__name__
        built["flags"] = modules.flags(type(model).__call__)
        built["layout"] = tuple(
            (tuple(path), tuple(leaf.shape), bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)))
            for path, leaf in nnx.to_flat_state(generators)
        )
        built["collections"] = sorted({type(leaf).__name__ for _, leaf in nnx.to_flat_state(rest)})
        built["norms"] = [
            "/".join(map(str, path)) for path, part in nnx.iter_modules(model) if isinstance(part, types)
        ]
        built["slow"] = [
            "/".join(map(str, path))
            for path, part in nnx.iter_modules(model)
            if isinstance(part, nnx.ConvTranspose)
        ]

    jax.eval_shape(build, jax.random.key(0))
    warn_of_slow(built["slow"])
    return modules.finish(
        built["name"],
        Bound(_nnx_init, (factory,)),
        Bound(_nnx_apply, (built["graphdef"], built["layout"], built["flags"])),
        pool,
        collections=built["collections"],
        found_norms=built["norms"],
        buffers=buffers,
        head=head,
        norm=norm,
        losses=losses,
        metrics=metrics,
        l2=l2,
        log_likelihood=log_likelihood,
    )

"""`flax.linen` modules as problems.

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
from fedjax_het.pool import Pool, PoolSpec, expect_pool
from fedjax_het.problem import Model, Problem
from fedjax_het.typing import Array, Bound, Key, Metrics, Params, PyTree

__all__ = ["from_linen"]


def _linen_init(module: Any, spec: PoolSpec, flags: tuple[str, ...], key: Key) -> Model:
    with jax.numpy_dtype_promotion("standard"):
        modes = modules.modes(flags, train=False, random=False)
        variables = dict(module.init({"params": key}, modules.example(spec), **modes))
    params = modules.default_floats(variables.pop("params", {}))
    return Model(params, modules.default_floats(variables) or ())


def _without_dropout(following: Any, args: tuple[Any, ...], kwargs: dict[str, Any], context: Any) -> Any:
    from flax import linen

    dropping = isinstance(context.module, linen.Dropout) and context.method_name == "__call__"
    return args[0] if dropping else following(*args, **kwargs)


def _masking(weight: Array | None) -> Callable[..., Any]:
    """An interceptor that tells every BatchNorm which rows of a training batch are fillers."""
    from flax import linen

    def interceptor(following: Any, args: tuple[Any, ...], kwargs: dict[str, Any], context: Any) -> Any:
        norm = isinstance(context.module, linen.BatchNorm) and context.method_name == "__call__"
        if weight is not None and norm and "mask" not in kwargs and args[0].shape[0] == weight.shape[0]:
            # an empty client has no row that counts, and a mean over none would be NaN
            counts = (weight > 0) | ~jnp.any(weight > 0)
            mask = counts.reshape(-1, *[1] * (args[0].ndim - 1))
            kwargs = {**kwargs, "mask": jnp.broadcast_to(mask, args[0].shape)}
        return following(*args, **kwargs)

    return interceptor


def _convolving(following: Any, args: tuple[Any, ...], kwargs: dict[str, Any], context: Any) -> Any:
    """An interceptor that gives every `linen.Conv` without a convolution of its own the fast one."""
    from flax import linen

    layer = context.module
    if not (isinstance(layer, linen.Conv) and context.method_name == "__call__"):
        return following(*args, **kwargs)
    if layer.conv_general_dilated is not None:
        return following(*args, **kwargs)
    fast = functools.partial(conv_general_dilated, layer="/".join(layer.path))
    object.__setattr__(layer, "conv_general_dilated", fast)  # frozen, as all flax modules
    try:
        return following(*args, **kwargs)
    finally:
        object.__setattr__(layer, "conv_general_dilated", None)


def _linen_apply(
    module: Any,
    flags: tuple[str, ...],
    params: Params,
    buffers: PyTree,
    x: Array,
    key: Key | None = None,
    train: bool = False,
    weight: Array | None = None,
) -> tuple[PyTree, PyTree]:
    from flax import linen

    variables = {"params": params, **(buffers or {})}
    modes = modules.modes(flags, train, train and key is not None)
    with jax.numpy_dtype_promotion("standard"):
        if train and key is not None:
            rngs = {"dropout": key, "params": keys.stream(key, "others")}
            with linen.intercept_methods(_masking(weight)), linen.intercept_methods(_convolving):
                out, new = module.apply(variables, x, rngs=rngs, mutable=list(buffers), **modes)
        else:
            # A module whose only switch is `train` would still ask for a key: drop the layer itself.
            with linen.intercept_methods(_masking(weight)), linen.intercept_methods(_without_dropout):
                mutable = list(buffers) if train else []
                with linen.intercept_methods(_convolving):
                    out, new = module.apply(variables, x, mutable=mutable, **modes)
    return out, modules.like(buffers, {**buffers, **new}) if buffers else buffers


def from_linen(
    module: Any,
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
    """A `flax.linen` module as a Problem; params and buffers are its variable collections.

    The module is called on x [B, ...] alone, with whichever of `train`, `training`, `deterministic` and
    `use_running_average` its call takes. Dropout acts in training with a key only; without a key
    `linen.Dropout` layers are left out. float32 variables are kept in the default float type.

    A batch that is not full is filled up with repeated rows. They count neither in the loss nor in the
    statistics of `linen.BatchNorm` layers whose input keeps the row axis first.

    `linen.Conv` layers run by `models.convolution`, which is fast in local training; what it does not cover,
    and `linen.ConvTranspose` and `linen.ConvLocal`, is named in a warning.

    Args:
        module: an unbound, hashable module.
        pool: what it learns.
        buffers: what becomes of collections beside "params", such as BatchNorm's statistics: "averaged" over
            the cohort like parameters, "local" to each client, or "refused".
        head: path prefixes of the head's leaves, such as ("head",).
        norm: path prefixes or names of normalisation layers; None finds Flax's own by their type.
        losses: (out, y) -> float [B]; the task's own if None (`losses.defaults`).
        metrics: (out, y) -> {name: float [B]}; if None the task's own, or {"loss": losses}.
        l2: coefficient of (l2/2)|params|^2, >= 0, or None.
        log_likelihood: whether the loss is a negative log-likelihood; if None, whether it is the task's own.

    Raises:
        TypeError: `module` is not a linen module, or cannot be hashed; `pool` is not a Pool.
        ValueError: the output does not fit the task, the module has buffers and the policy is "refused", a
            part that head or norm names is absent, losses or metrics are not one number a row, or l2 is
            negative.
    """
    from flax import linen

    if not isinstance(module, linen.Module):
        raise TypeError(
            f"module must be a flax.linen module, got {short(module)}: use from_nnx for NNX modules"
        )
    try:
        hash(module)
    except TypeError:
        raise TypeError(
            f"module must be hashable, got {short(module)}: use tuples for attributes that are lists or arrays"
        ) from None
    expect_pool("pool", pool)
    flags = modules.flags(type(module).__call__)
    init = Bound(_linen_init, (module, pool.spec, flags))
    types = tuple(getattr(linen, name) for name in modules.NORMS)
    found: list[str] = []
    batch_norms: list[str] = []
    slow: set[str] = set()

    def note(following: Any, args: tuple[Any, ...], kwargs: dict[str, Any], context: Any) -> Any:
        if isinstance(context.module, types):
            found.append("/".join(context.module.path))
            if isinstance(context.module, linen.BatchNorm):
                batch_norms.append(found[-1])
        if isinstance(context.module, (linen.ConvTranspose, linen.ConvLocal)):
            slow.add("/".join(context.module.path))
        return following(*args, **kwargs)

    def build(key: Key) -> Model:
        with linen.intercept_methods(note):
            return init(key)

    # A function of its own: an equal `init` seen before would come from JAX's cache, and note nothing.
    model = jax.eval_shape(build, jax.random.key(0))
    warn_of_slow(slow)
    return modules.finish(
        type(module).__name__,
        init,
        Bound(_linen_apply, (module, flags)),
        pool,
        collections=sorted(model.buffers or ()),
        found_norms=found,
        buffers=buffers,
        head=head,
        norm=norm,
        losses=losses,
        metrics=metrics,
        l2=l2,
        log_likelihood=log_likelihood,
        masked=bool(batch_norms),
    )

"""What clients see, changed: transforms checked against the rows, appended to a federation, and recorded."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.buffers import taken
from fedjax_het.check import require
from fedjax_het.federation import Federation, Transform
from fedjax_het.permutation import scramble
from fedjax_het.pool import PoolSpec
from fedjax_het.typing import Array, Bound, PyTree

__all__ = [
    "check_transforms",
    "expect_federation",
    "merged",
    "numbers",
    "partly",
    "recorded",
    "times",
    "transformed",
    "uniform",
]

ROWS = 3
"""Rows of the batch whose shapes are followed through a transform."""


def expect_federation(name: str, value: Any) -> Federation:
    """`value`, which must be a Federation.

    Raises:
        TypeError: it is none.
    """
    if isinstance(value, Federation):
        return value
    raise TypeError(
        f"{name} must be a Federation, got {type(value).__name__}: deal a pool out first, as by "
        "fh.heterogeneity.iid(pool, clients=10)"
    )


def check_transforms(
    transforms: Sequence[Transform], clients: int, spec: PoolSpec, target: Any, features: Any
) -> None:
    """Raise unless every transform has arguments for all clients and keeps shapes and dtypes.

    Args:
        transforms: to be applied in this order.
        clients: N.
        spec: what the rows are.
        target: dtype of y.
        features: dtype of x in the pool.

    Raises:
        TypeError: a transform that is no Transform.
        ValueError: arguments whose second axis is not N, a function that fails or changes a shape or a dtype.
    """
    for transform in transforms:
        if not isinstance(transform, Transform):
            raise TypeError(
                f"transforms must list Transforms, got {type(transform).__name__}: pass "
                "fh.Transform(arguments, function)"
            )
        for leaf in jax.tree.leaves(transform.arguments):
            shape = np.shape(leaf)
            require(
                len(shape) >= 2 and shape[1] == clients,
                f"transforms must have arguments of shape [T, {clients}, ...], got {shape}: "
                "add a leading axis of phases, length 1 if they never change",
            )
        _keeps(transform, spec, target, features)


def _keeps(transform: Transform, spec: PoolSpec, target: Any, features: Any) -> None:
    """Follow the shapes of a batch through a transform."""
    kind = features if spec.scale is None else jnp.result_type(float)
    x = jax.ShapeDtypeStruct((ROWS, *spec.feature_shape), kind)
    y = jax.ShapeDtypeStruct((ROWS, *spec.target_shape), target)
    row = jax.ShapeDtypeStruct((ROWS,), jnp.int32)
    arguments = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), transform.arguments)
    function = transform.function
    name = getattr(function.function if isinstance(function, Bound) else function, "__name__", "transform")
    try:
        # a fresh function, since shapes are cached by function and dtypes depend on the precision in force
        out = jax.eval_shape(lambda *given: function(*given), x, y, arguments, row)
    except Exception as error:
        raise ValueError(
            f"transforms must take rows of shape {spec.feature_shape} and targets of shape "
            f"{spec.target_shape}, got an error of {name!r}: {error}"
        ) from error
    told = [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(out)]
    wanted = [(leaf.shape, str(leaf.dtype)) for leaf in (x, y)]
    require(
        told == wanted,
        f"transforms must keep shapes and dtypes {wanted} of (x, y), got {told} from {name!r}: return x and y "
        "as they came, cast and reshaped",
    )


def times(truth: Mapping[str, Any], name: str) -> int:
    """How often `name` has been recorded, in whatever state of the clients, with its numbered successors."""
    named = re.compile(rf"(state \d+/)?{re.escape(name)}(/\d+)?")
    return sum(named.fullmatch(key) is not None for key in truth)


def recorded(truth: Mapping[str, Any], **new: Any) -> dict[str, Array]:
    """`truth` with new entries; a name that is taken is followed by "/2", "/3" ...

    Raises:
        TypeError: an entry that is no array of numbers.
    """
    told = dict(truth)
    for name, value in new.items():
        key, number = name, 1
        while key in told:
            number += 1
            key = f"{name}/{number}"
        told[key] = numbers(name, value)
    return told


def numbers(name: str, value: Any) -> Array:
    """An entry of `Federation.truth`.

    Raises:
        TypeError: no numbers.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"truth[{name!r}] must hold numbers, got dtype {array.dtype}: number the names")
    return taken(array)


def transformed(
    federation: Federation, transform: Transform, *, truth: Mapping[str, Any] | None = None
) -> Federation:
    """A federation whose clients see their rows through one transform more, applied after the others.

    Args:
        federation: any.
        transform: arguments [T, N, ...], where T is 1 or the federation's number of phases.
        truth: what it does, name -> numbers, array; see `recorded`.

    Raises:
        TypeError: not a federation, not a transform, a truth that is no numbers.
        ValueError: arguments of another shape, a function that does not keep shapes and dtypes.
    """
    expect_federation("federation", federation)
    spec = federation.spec
    check_transforms([transform], spec.num_clients, spec.pool, federation.y.dtype, federation.x.dtype)
    transform = Transform(jax.tree.map(jnp.asarray, transform.arguments), transform.function)
    for leaf in jax.tree.leaves(transform.arguments):
        require(
            leaf.shape[0] in (1, spec.phases),
            f"transforms must have arguments for 1 or {spec.phases} phases, got {leaf.shape[0]}: take as many "
            "as the federation has, or 1 if nothing changes",
        )
    return dataclasses.replace(
        federation,
        transforms=(*federation.transforms, transform),
        truth=recorded(federation.truth, **(truth or {})),
    )


def partly(transform: Transform, share: Array, salt: Array) -> Transform:
    """A transform that changes only a share of each client's rows, always the same ones for a given share.

    Row r of client k is changed in phase t if u(r, salt_k) < share[t, k], with u uniform in [0, 1): rows that
    are changed stay changed as the share grows.

    Args:
        transform: what is done to them.
        share: float [T, N], in [0, 1].
        salt: whom the draws belong to, uint32 [T or 1, N].
    """
    arguments = {"share": share, "salt": salt, "inner": transform.arguments}
    return Transform(arguments, Bound(_partly, (transform.function,)))


def uniform(row: Array, salt: Array) -> Array:
    """Uniform draws in [0, 1) that belong to rows of the pool, float32 [...], by hashing.

    Args:
        row: row numbers, int32 [...].
        salt: whose draws, uint32 scalar.
    """
    word = scramble(scramble(row.astype(jnp.uint32) ^ salt) + salt)
    return (word >> 8).astype(jnp.float32) * jnp.float32(2**-24)


def _partly(
    function: Callable[..., tuple[Array, Array]], x: Array, y: Array, arguments: PyTree, row: Array
) -> tuple[Array, Array]:
    changed = uniform(row, arguments["salt"]) < arguments["share"].astype(jnp.float32)
    new = function(x, y, arguments["inner"], row)

    def choose(after: Array, before: Array) -> Array:
        return jnp.where(changed.reshape(-1, *[1] * (before.ndim - 1)), after, before)

    return choose(new[0], x), choose(new[1], y)


def merged(chains: Sequence[tuple[Transform, ...]], clients: int) -> tuple[Transform, ...]:
    """One chain that does in phase t what `chains[t]` does: what all begin with, then what some of them add.

    Args:
        chains: transforms of T states of the same clients, arguments [1, N, ...].
        clients: N.

    Returns:
        Transforms with arguments [T, N, ...], or [1, N, ...] where nothing changes. One that some chains lack
        is switched off in their phases, by `partly`.
    """
    common = 0
    while all(len(chain) > common for chain in chains) and _alike([chain[common] for chain in chains]):
        common += 1
    told = [_stacked([chain[place] for chain in chains]) for place in range(common)]
    for held in _aligned([chain[common:] for chain in chains]):
        some = next(iter(held.values()))
        transform = _stacked([held.get(t, some) for t in range(len(chains))])
        share = np.array([[t in held] for t in range(len(chains))]).repeat(clients, axis=1)
        salt = jnp.zeros((1, clients), jnp.uint32)
        on = jnp.asarray(share, jnp.result_type(float))
        told.append(transform if share.all() else partly(transform, on, salt))
    return tuple(told)


def _aligned(chains: Sequence[tuple[Transform, ...]]) -> list[dict[int, Transform]]:
    """Places in an order that every chain keeps: which transform each chain t has there, if any."""
    places: list[dict[int, Transform]] = []
    for t, chain in enumerate(chains):
        place = 0
        for transform in chain:
            while place < len(places) and not _alike([*places[place].values(), transform]):
                place += 1
            if place == len(places):
                places.append({})
            places[place][t] = transform
            place += 1
    return places


def _alike(transforms: Sequence[Transform]) -> bool:
    """Whether they are the same function of arguments of the same shapes."""

    def kind(transform: Transform) -> tuple[Any, ...]:
        leaves, structure = jax.tree.flatten(transform.arguments)
        return transform.function, structure, [(leaf.shape[1:], leaf.dtype) for leaf in leaves]

    return all(kind(transform) == kind(transforms[0]) for transform in transforms[1:])


def _stacked(transforms: Sequence[Transform]) -> Transform:
    """One transform whose arguments change from phase to phase, if they do."""

    def stack(*leaves: Array) -> Array:
        return leaves[0] if all(leaf is leaves[0] for leaf in leaves) else jnp.concatenate(leaves)

    arguments: PyTree = jax.tree.map(stack, *(transform.arguments for transform in transforms))
    return Transform(arguments, transforms[0].function)

"""Domains: each client sees its rows through several views, in proportions of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fedjax_het.check import known, require, scalar, short
from fedjax_het.federation import Federation, Transform
from fedjax_het.heterogeneity.groups import Clusters, given, groups, one_of
from fedjax_het.heterogeneity.rows import expect_images, expect_numbers
from fedjax_het.heterogeneity.shares import dirichlet_shares
from fedjax_het.split import generator
from fedjax_het.transforms import times, transformed, uniform
from fedjax_het.typing import Array, Bound

__all__ = ["DOMAINS", "IMAGES", "domains"]

View = Callable[[Array], Array]
"""x [B, ...] -> x [B, ...], of the same shape and dtype."""


def _identity(x: Array) -> Array:
    return x


def _invert(x: Array) -> Array:
    return 1 - x


def _negate(x: Array) -> Array:
    return -x


def _mirror(x: Array) -> Array:
    return x[:, :, ::-1]


def _flip(x: Array) -> Array:
    return x[:, ::-1]


def _transpose(x: Array) -> Array:
    return x.swapaxes(1, 2)


DOMAINS: dict[str, View] = {
    "identity": _identity,
    "invert": _invert,
    "negate": _negate,
    "mirror": _mirror,
    "flip": _flip,
    "transpose": _transpose,
}
"""Views by name: x; 1 - x, for images in 0..1; -x; left and right exchanged; top and bottom exchanged; lines
and columns exchanged, for square images."""

IMAGES = ("mirror", "flip", "transpose")
"""The names of `DOMAINS` that are for images only."""


def domains(
    federation: Federation,
    *,
    domains: Sequence[str | View],
    alpha: float | None = None,
    mixture: Any = None,
    clusters: Clusters | None = None,
    seed: int = 0,
) -> Federation:
    """Show each row of client k through view j with probability pi_kj, where pi_k ~ Dir(alpha, ..., alpha).

    The view of a row belongs to the client and the row: it is the same whenever the row is taken.

    Args:
        federation: any rows of numbers.
        domains: D views: names of `DOMAINS`, or functions x [B, ...] -> x that keep shapes and dtypes (two
            federations share compiled programs if their functions are the same objects).
        alpha: concentration, > 0: small values give each client one view, large ones all of them evenly.
        mixture: the proportions themselves [N, D], each row adding up to 1; or one row a cluster if there are
            clusters.
        clusters: latent clusters whose clients share their proportions.
        seed: of the draws.

    Returns:
        The federation; truth: "mixture", float [N, D]; "cluster", int32 [N], if there are clusters.

    Raises:
        TypeError: not a federation, a view that is neither a name nor a function, values that are no numbers.
        ValueError: tokens, no views, an unknown name, a view that does not fit the rows, both or neither of
            `alpha` and `mixture`, alpha <= 0, proportions that do not add up to 1, more clusters than clients.

    Reference: Marfoq, Neglia, Bellet, Kameni, Vidal, "Federated multi-task learning under a mixture of
        distributions", NeurIPS 2021, assumption 1 (each client's distribution is a mixture of D shared ones).
    """
    expect_numbers(federation)
    views = _views(federation, domains)
    time = times(federation.truth, "mixture")
    group = groups(federation.num_clients, clusters, seed=seed, name="domains", time=time)
    chosen = one_of("pass alpha=0.5, or the mixture", alpha=alpha, mixture=mixture)
    rng = generator(seed, "domains", time)
    salt = rng.integers(2**32, size=federation.num_clients, dtype=np.uint32)
    if chosen == "mixture":
        remedy = "each row holds probabilities"
        shares = given("mixture", mixture, group, shape=(len(views),), least=0, remedy=remedy)
        require(
            bool(np.all(np.abs(shares.sum(1) - 1) < 1e-5)),
            f"mixture must have rows that add up to 1, got sums {short(shares.sum(1).tolist())}: {remedy}",
        )
        shares = shares / shares.sum(1, keepdims=True)
    else:
        concentration = scalar("alpha", alpha, above=0, remedy="small values give each client one view")
        shares = dirichlet_shares(rng, np.full(len(views), concentration), group.count)
    # what a row's uniform number must reach to be seen through view 1, 2, ...
    start = np.minimum(np.cumsum(shares, axis=1)[:, :-1], 1).astype(np.float32)
    arguments = {"start": jnp.asarray(group.each(start)[None]), "salt": jnp.asarray(salt[None])}
    truth = {"mixture": group.each(shares).astype(np.float32), **group.truth}
    return transformed(federation, Transform(arguments, Bound(_seen, (views,))), truth=truth)


def _views(federation: Federation, listed: Any) -> tuple[View, ...]:
    form = "domains must list names or functions"
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise TypeError(f'{form}, got {short(listed)}: pass a list such as ["identity", "invert"]')
    require(len(listed) > 0, f'{form}, got none: pass a list such as ["identity", "invert"]')
    views = []
    for view in listed:
        if isinstance(view, str):
            known("domains", view, DOMAINS)
            if view in IMAGES:
                height, width = expect_images(federation)
                require(
                    view != "transpose" or height == width,
                    f"domains must fit the rows, got 'transpose' for images of {height} x {width}: it is for "
                    "square ones",
                )
            views.append(DOMAINS[view])
        elif callable(view):
            views.append(view)
        else:
            raise TypeError(f"{form}, got {short(view)}: the names are {', '.join(DOMAINS)}")
    return tuple(views)


def _seen(
    views: tuple[View, ...], x: Array, y: Array, arguments: dict[str, Array], row: Array
) -> tuple[Array, Array]:
    number = uniform(row, arguments["salt"]).reshape(-1, *[1] * (x.ndim - 1))
    out = views[0](x)
    for j, view in enumerate(views[1:]):
        out = jnp.where(number >= arguments["start"][j], view(x), out)
    return out, y

"""Contrast and brightness: each client sees its features scaled and shifted by two numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fedjax_het.check import require, scalar, short
from fedjax_het.federation import Federation, Transform
from fedjax_het.heterogeneity.groups import Clusters, given, groups, one_of
from fedjax_het.heterogeneity.rows import expect_numbers
from fedjax_het.split import generator
from fedjax_het.transforms import times, transformed
from fedjax_het.typing import Array

__all__ = ["affine"]


def affine(
    federation: Federation,
    *,
    spread: float | None = None,
    offset: float | None = None,
    gains: Sequence[float] | None = None,
    offsets: Sequence[float] | None = None,
    centre: float = 0.5,
    clip: tuple[float, float] | None = None,
    clusters: Clusters | None = None,
    seed: int = 0,
) -> Federation:
    """Scale each client's features about a centre, and shift them: x -> g_k (x - centre) + centre + o_k.

    With log g_k ~ U(-spread, spread) and o_k ~ U(-offset, offset). On images the gain is the contrast, the
    offset the brightness.

    Args:
        federation: any rows of numbers.
        spread: of the logarithm of the gain, >= 0; 0 leaves all gains at 1.
        offset: the largest offset, >= 0.
        gains: the gains themselves, >= 0, one a client; or one a cluster if there are clusters.
        offsets: the offsets themselves, likewise.
        centre: what the gain leaves in place: 0.5 is the mid grey of images in 0..1, 0 the mean of
            standardised features.
        clip: (low, high) to which values are cut, or None.
        clusters: latent clusters whose clients share both numbers.
        seed: of the draws; gains and offsets are independent.

    Returns:
        The federation; truth: "gain" and "offset", float [N]; "cluster", int32 [N], if there are clusters.

    Raises:
        TypeError: not a federation, values that are no numbers.
        ValueError: tokens, nothing to do, a dial together with its numbers, a negative dial or gain, numbers
            that are not one a client, a clip whose ends are not in order, more clusters than clients.

    Reference: Reisizadeh, Farnia, Pedarsani, Jadbabaie, "Robust federated learning: the case of affine
        distribution shifts", NeurIPS 2020 (x -> Λ_k x + δ_k; here Λ_k is a number and δ_k a
        constant; see `gaussian` for a shift of each feature and `channels` for a matrix).
    """
    expect_numbers(federation)
    require(
        any(value is not None for value in (spread, offset, gains, offsets)),
        "spread, offset, gains or offsets must be given, got none: pass spread=0.5 to vary the contrast, "
        "offset=0.2 to vary the brightness",
    )
    time = times(federation.truth, "gain")
    group = groups(federation.num_clients, clusters, seed=seed, name="affine", time=time)
    unit = generator(seed, "affine", time).uniform(-1, 1, (2, group.count))
    gain, shift = np.ones(group.count), np.zeros(group.count)
    if spread is not None or gains is not None:
        if one_of("drop one of them", spread=spread, gains=gains) == "gains":
            gain = given("gains", gains, group, least=0, remedy="1 leaves the features as they are")
        else:
            gain = np.exp(
                scalar("spread", spread, least=0, remedy="it belongs to the log of the gain") * unit[0]
            )
    if offset is not None or offsets is not None:
        if one_of("drop one of them", offset=offset, offsets=offsets) == "offsets":
            shift = given("offsets", offsets, group, remedy="they are added to the features")
        else:
            shift = scalar("offset", offset, least=0, remedy="it is the largest offset") * unit[1]
    middle = scalar("centre", centre, remedy="it is what the gain leaves in place")
    arguments = {"gain": group.argument(gain), "offset": group.argument(shift)}
    truth = {name: value[0] for name, value in arguments.items()}
    arguments["centre"] = group.argument(np.full(group.count, middle))
    if clip is not None:
        low, high = _ends(clip)
        arguments |= {
            "low": group.argument(np.full(group.count, low)),
            "high": group.argument(np.full(group.count, high)),
        }
    return transformed(federation, Transform(arguments, _scaled), truth={**truth, **group.truth})


def _ends(clip: Any) -> tuple[float, float]:
    remedy = "pass the two ends, such as (0, 1)"
    require(
        isinstance(clip, Sequence) and not isinstance(clip, str) and len(clip) == 2,
        f"clip must be (low, high), got {short(clip)}: {remedy}",
    )
    low, high = (scalar("clip", end, remedy=remedy) for end in clip)
    require(low < high, f"clip must be in ascending order, got {short(clip)}: {remedy}")
    return low, high


def _scaled(x: Array, y: Array, arguments: dict[str, Array], row: Array) -> tuple[Array, Array]:
    del row
    told = {name: value.astype(x.dtype) for name, value in arguments.items()}
    # the constant part by itself, so that a gain of 1 changes no bit
    out = told["gain"] * x + ((1 - told["gain"]) * told["centre"] + told["offset"])
    return (jnp.clip(out, told["low"], told["high"]) if "low" in told else out), y

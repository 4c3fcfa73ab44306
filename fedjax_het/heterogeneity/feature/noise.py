"""Noisy features: each client's sensor adds Gaussian noise of a level of its own."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from fedjax_het.check import scalar
from fedjax_het.federation import Federation, Transform
from fedjax_het.heterogeneity.groups import Clusters, given, groups, one_of
from fedjax_het.heterogeneity.rows import expect_numbers, normal, words
from fedjax_het.split import generator
from fedjax_het.transforms import times, transformed
from fedjax_het.typing import Array

__all__ = ["noise"]

REMEDY = "pass most=0.5 for levels of up to 0.5, ramp=0.1 for variances that rise to 0.1, or the levels"


def noise(
    federation: Federation,
    *,
    most: float | None = None,
    ramp: float | None = None,
    levels: Sequence[float] | None = None,
    clusters: Clusters | None = None,
    seed: int = 0,
) -> Federation:
    """Add noise to each client's features: x -> x + l_k e, with e ~ N(0, I) and the level l_k of client k.

    The noise e belongs to the client and the row: it is the same whenever the row is taken, and two clients
    that share a row add different noise to it.

    Args:
        federation: any rows of numbers.
        most: levels are drawn from U(0, most), >= 0.
        ramp: the variance of the last client's noise, >= 0; variances rise evenly, l_k = sqrt(ramp k / N) for
            k = 1..N (over clusters, if there are any).
        levels: the levels themselves, standard deviations >= 0, one a client; or one a cluster if there are
            clusters.
        clusters: latent clusters whose clients share a level; their noise is still their own.
        seed: of the draws.

    Returns:
        The federation; truth: "level", a standard deviation, float [N]; "cluster", int32 [N], if there are
        clusters.

    Raises:
        TypeError: not a federation, levels that are no numbers.
        ValueError: tokens, none or several of `most`, `ramp` and `levels`, a negative level, levels that are
            not one a client, more clusters than clients.

    Reference: Li, Diao, Chen, He, "Federated learning on non-IID data silos: an experimental study", ICDE
        2022, noise-based feature imbalance: variance sigma i / N for party i (`ramp` is sigma).

    Departures: the published code reads sigma as the last party's standard deviation, with levels
        sigma i / (N - 1) for i = 0..N-1 (`levels` says it), and draws new noise whenever it takes a row.
    """
    expect_numbers(federation)
    time = times(federation.truth, "level")
    group = groups(federation.num_clients, clusters, seed=seed, name="noise", time=time)
    chosen = one_of(REMEDY, most=most, ramp=ramp, levels=levels)
    rng = generator(seed, "noise", time)
    word = words(rng, federation.num_clients)
    if chosen == "levels":
        level = given("levels", levels, group, least=0, remedy="they are standard deviations")
    elif chosen == "ramp":
        variance = scalar("ramp", ramp, least=0, remedy="it is the variance of the last client's noise")
        level = np.sqrt(variance * np.arange(1, group.count + 1) / group.count)
    else:
        level = scalar("most", most, least=0, remedy="it is the largest level") * rng.random(group.count)
    arguments = {"level": group.argument(level), "word": jnp.asarray(word[None])}
    truth = {"level": arguments["level"][0], **group.truth}
    return transformed(federation, Transform(arguments, _noisy), truth=truth)


def _noisy(x: Array, y: Array, arguments: dict[str, Array], row: Array) -> tuple[Array, Array]:
    level = arguments["level"].astype(x.dtype)
    return x + level * normal(arguments["word"], row, x.shape[1:], x.dtype), y

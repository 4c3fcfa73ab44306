"""Opposed targets: two camps of clients that want the opposite for the same row."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from fedjax_het.check import require, scalar
from fedjax_het.federation import Federation, Transform
from fedjax_het.heterogeneity.groups import groups
from fedjax_het.split import generator
from fedjax_het.transforms import expect_federation, partly, times, transformed
from fedjax_het.typing import Array, Bound

__all__ = ["oppose"]


def oppose(
    federation: Federation, *, rate: float, camps: Sequence[int] | None = None, seed: int = 0
) -> Federation:
    """Split the clients into two camps and turn camp 1 against camp 0, from agreement to opposition.

    Camp 0 keeps its targets. In camp 1, at rate r:

        classification: y -> K - 1 - y for a share r of the rows, always the same ones
        regression:     y -> (1 - 2 r) y for every row

    So r = 0 is agreement, r = 1 opposition; labels count as an order whose ends are exchanged, and with K odd
    the middle one has no opposite. Rows that are turned stay turned as r grows; camp 1 is of one mind about a
    row that two of its clients hold.

    What one shared model can reach that knows camp 0's target of every row, if camp 1 has a share p of the
    rows:

        accuracy on labels with an opposite   max(1 - p r, p r): 1 at r = 0, 1/2 at r = 1 for camps of one size
        mean squared error                    4 r^2 p (1 - p) mean(y^2), reached by (1 - 2 p r) y

    and with one model a camp: accuracy 1 and max(r, 1 - r), mean squared error 0.

    Args:
        federation: one label a row, or a regression. Regression targets are best centred: the opposite of y
            is -y.
        rate: r, in [0, 1].
        camps: the camp of each client, N of 0 and 1; by default half of the clients at random, camp 0 the
            larger one if N is odd.
        seed: of the camps and of the rows.

    Returns:
        The federation; truth: "cluster", the camp, int32 [N]; "opposition", float [N], r in camp 1 and 0 in
        camp 0.

    Raises:
        TypeError: not a federation, a rate that is no number, camps that are not whole numbers.
        ValueError: rows with neither one label nor float targets, a rate outside [0, 1], a single client, camps
            other than 0 and 1, or not one a client.
    """
    spec = expect_federation("federation", federation).spec.pool
    labelled = spec.task == "classification" and spec.target_shape == ()
    require(
        labelled or spec.task == "regression",
        f"federation must hold one label a row or float targets, got task {spec.task!r} of {spec.name!r}: "
        "permute or swap labels instead",
    )
    rate = scalar("rate", rate, least=0, remedy="0 is agreement, 1 opposition")
    require(rate <= 1, f"rate must be <= 1, got {rate}: 0 is agreement, 1 opposition")
    time = times(federation.truth, "opposition")
    require(
        camps is not None or federation.num_clients > 1,
        "federation must have at least 2 clients, got 1: one client is no two camps",
    )
    clusters = 2 if camps is None else camps
    group = groups(federation.num_clients, clusters, seed=seed, name="oppose", time=time, option="camps")
    require(group.count <= 2, f"camps must be 0 or 1, got {group.count - 1}: there are two of them")
    opposition = group.argument(np.array([0, rate])[: group.count])
    if labelled:
        salt = generator(seed, "oppose", time).integers(2**32, size=1, dtype=np.uint32)
        every = jnp.asarray(np.repeat(salt, federation.num_clients)[None])
        transform = partly(Transform((), Bound(_opposite, (spec.num_classes,))), opposition, every)
    else:
        transform = Transform(opposition, _turned)
    return transformed(federation, transform, truth={"opposition": opposition[0], **group.truth})


def _opposite(classes: int, x: Array, y: Array, arguments: tuple[()], row: Array) -> tuple[Array, Array]:
    del arguments, row
    return x, classes - 1 - y


def _turned(x: Array, y: Array, opposition: Array, row: Array) -> tuple[Array, Array]:
    del row
    return x, (1 - 2 * opposition.astype(y.dtype)) * y

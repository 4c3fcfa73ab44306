"""FedDyn's synthetic clients: models, features and sizes that differ by three separate switches."""

from __future__ import annotations

import numpy as np

from fedjax_het.assembly import LIMIT, assemble
from fedjax_het.check import positive_int, require, scalar
from fedjax_het.datasets.softmax_clients import (
    SoftmaxModel,
    normal_model,
    published_seed,
    softmax_clients,
    spread,
)
from fedjax_het.federation import Federation

__all__ = ["synthetic_feddyn"]


def synthetic_feddyn(
    alpha: float | None = 1.0,
    beta: float | None = 0.0,
    theta: float = 0.0,
    *,
    clients: int = 20,
    average: float = 200,
    features: int = 30,
    classes: int = 5,
    seed: int = 0,
) -> Federation:
    """Clients whose models differ by alpha, features by beta and sizes by theta; each switch alone or not.

    n_k = floor(lognormal(log(average), theta))
    u_k ~ N(0, alpha),  W_k, b_k ~ N(u_k, 1);  alpha None: one W, b ~ N(0, 1) for all
    B_k ~ N(0, beta),   v_k ~ N(B_k 1, I);     beta None: v_k = 0 for all
    x ~ N(v_k, diag(j^-1.2)),  y = argmax(W_k' x + b_k)

    alpha, beta and theta are standard deviations. 0 is not None: at alpha = 0 every client still has a model
    of its own, at beta = 0 a centre of its own. Numbers come from `numpy.random.RandomState(seed)` in the
    order of the authors' code, so a seed gives that code's data.

    | setting | alpha, beta, theta |
    |---|---|
    | the authors' example script: all alike | None, None, 0 |
    | the generator's own defaults | 1, 0, 0 |

    Args:
        alpha: spread of the clients' models, >= 0, or None.
        beta: spread of the clients' features, >= 0, or None.
        theta: spread of the logarithm of the sizes, >= 0; 0 makes all clients of equal size.
        clients: N.
        average: median size, >= 1.
        features: dimension of x.
        classes: number of labels.
        seed: 0 <= seed < 2**32.

    Returns:
        N clients on a pool of x float [M, features], y int32 [M]; each tests on the rows that it trains on,
        as published. truth: "kernel" [N, features, classes], "bias" [N, classes], "feature_mean" [N,
        features].

    Raises:
        TypeError: counts that are not whole numbers, spreads that are not numbers.
        ValueError: a negative spread, an average below 1, a seed out of range, sizes that are all 0 or
            too large.

    Reference: Acar, Zhao, Matas, Mattina, Whatmough, Saligrama, "Federated learning based on dynamic
        regularization", ICLR 2021, section 4 and the authors' code.
    """
    widths = [None if s is None else spread(name, s) for name, s in (("alpha", alpha), ("beta", beta))]
    theta = scalar("theta", theta, least=0, remedy="it spreads the sizes, 0 for equal ones")
    average = scalar("average", average, least=1, remedy="it is the median number of rows of a client")
    clients = positive_int("clients", clients, remedy="say how many there are, such as 20")
    features = positive_int("features", features, remedy="it is the dimension of x, such as 30")
    classes = positive_int("classes", classes, remedy="it is the number of labels, such as 5")
    rng = published_seed(seed)
    # The authors add a thousandth, so that equal sizes are not rounded down.
    drawn = rng.lognormal(np.log(average + 1e-3), theta, clients)
    require(
        drawn.sum() < LIMIT,
        f"theta must be small enough for less than {LIMIT} rows, got {theta:g} with average {average:g}: "
        "it is a standard deviation of logarithms, such as 1",
    )
    sizes = drawn.astype(np.int64)
    model_mean = rng.normal(0, widths[0] or 0, clients)
    context = rng.normal(0, widths[1] or 0, clients)
    mean = np.zeros((clients, features))
    if beta is not None:
        mean = np.stack([rng.normal(context[k], 1, features) for k in range(clients)])
    shared = normal_model(rng, model_mean[0], features, classes)  # drawn by the code, whether used or not
    if alpha is None:
        shared = normal_model(rng, 0, features, classes)

    def model(k: int) -> SoftmaxModel:
        return shared if alpha is None else normal_model(rng, model_mean[k], features, classes)

    words = ["one" if s is None else f"{s:g}" for s in widths]
    name = f"feddyn({','.join(words)},{theta:g})"
    source, parts, truth = softmax_clients(rng, sizes, mean, model, classes=classes, name=name)
    return assemble(source, parts, None, parts, truth=truth)

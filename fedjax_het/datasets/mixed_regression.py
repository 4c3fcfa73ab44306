"""Mixed linear regression: clusters of clients with a linear model each (IFCA's synthetic experiment)."""

from __future__ import annotations

import numpy as np

from fedjax_het.check import positive_int, require, scalar
from fedjax_het.datasets.regression_clients import regression_clients
from fedjax_het.federation import Federation
from fedjax_het.split import generator

__all__ = ["mixed_regression"]


def mixed_regression(
    *,
    clients: int = 100,
    rows: int = 100,
    clusters: int = 2,
    features: int = 1000,
    radius: float = 1.0,
    noise: float = 0.1,
    rescaled: bool = False,
    test_rows: int = 100,
    seed: int = 0,
) -> Federation:
    """Clients in K clusters; client i of cluster j has y = <x, theta_j> + N(0, noise^2) with x ~ N(0, I).

    theta_j ~ radius * Bernoulli(1/2)^d, entry by entry; or `rescaled` to |theta_j| = radius.

    The clusters are blocks of consecutive clients, whose sizes differ by at most one client. Two models are
    about radius sqrt(d/2) apart, or about `radius` if rescaled. A model is learnable to a distance of about
    noise sqrt(d / (m n / K - d - 1)), so success needs m n / K well above d.

    | published figure | clusters K | clients m | rows n | radius | noise |
    |---|---|---|---|---|---|
    | separation against noise | 2 | 100 | 100 | .1, .25, .5, .75, 1 | 0, .1, .2, .4 |
    | separation against noise | 4 | 400 | 100 | .1, .25, .5, .75, 1 | 0, .1, .2, .4 |
    | clients against rows | 2 | 50 .. 400 | 50, 100, 200 | .1, .25 | .1 |
    | clients against rows | 4 | 100 .. 800 | 50, 100, 200 | .5, .75 | .1 |

    All have d = 1000 features. The starting models there are Bernoulli(1/2)^d too, without the factor.

    Args:
        clients: m, at least `clusters`.
        rows: n, training rows of each client.
        clusters: K.
        features: d.
        radius: size of the models, >= 0; 0 makes all of them zero.
        noise: standard deviation of y about the line, >= 0.
        rescaled: whether |theta_j| is `radius`, as the paper writes, instead of the entries being 0 or
            `radius`, as the published code has it.
        test_rows: fresh rows of each client to test on, >= 0.
        seed: whole number >= 0; models, training rows and test rows are separate draws.

    Returns:
        m clients on a regression pool of x float [M, d], y float [M]. truth: "cluster" int32 [m],
        "parameters" [K, d], "separation", the smallest distance of two models (0 if there is only one), and
        "noise".

    Raises:
        TypeError: counts that are not whole numbers, a radius or noise that is no number.
        ValueError: fewer clients than clusters, a negative radius or noise; a model of zeros that should be
            rescaled.

    Reference: Ghosh, Chung, Yin, Ramchandran, "An efficient framework for clustered federated learning",
        NeurIPS 2020, section 6.1 and the authors' code.

    Departures: the published code needs as many clients in each cluster, and draws no test rows.
    """
    clients = positive_int("clients", clients, remedy="say how many there are, such as 100")
    rows = positive_int("rows", rows, remedy="say how many each client trains on, such as 100")
    clusters = positive_int("clusters", clusters, remedy="say how many models there are, such as 2")
    features = positive_int("features", features, remedy="it is the dimension of x, such as 1000")
    test_rows = positive_int("test_rows", test_rows, least=0, remedy="0 draws none")
    radius = scalar("radius", radius, least=0, remedy="it is the size of the models, such as 1")
    noise = scalar("noise", noise, least=0, remedy="it is a standard deviation, 0 for exact targets")
    require(
        clusters <= clients,
        f"clusters must be <= {clients}, got {clusters}: every cluster needs a client; take more clients",
    )
    draws = generator(seed, "mixed_regression parameters").integers(0, 2, (clusters, features))
    parameters = radius * draws.astype(float)
    if rescaled:
        require(
            bool(draws.any(1).all()),
            f"features must be large enough for models that are not zero, got {features}: take more features, "
            "another seed, or rescaled=False",
        )
        parameters /= np.sqrt(draws.sum(1))[:, None]
    cluster = np.arange(clients) * clusters // clients
    apart = [np.linalg.norm(parameters[i] - parameters[:i], axis=1).min() for i in range(1, clusters)]
    return regression_clients(
        parameters[cluster],
        np.random.Generator.standard_normal,
        rows=rows,
        test_rows=test_rows,
        noise=noise,
        seed=seed,
        name="mixed_regression",
        truth={
            "cluster": cluster.astype(np.int32),
            "parameters": parameters,
            "separation": min(apart, default=0.0),
            "noise": noise,
        },
    )

"""Linear regressions around a common one: when is a local model better than the global one?"""

from __future__ import annotations

import numpy as np

from fedjax_het.check import positive_int, scalar
from fedjax_het.datasets.regression_clients import regression_clients
from fedjax_het.federation import Federation
from fedjax_het.split import generator

__all__ = ["local_global_regression"]


def local_global_regression(
    rho: float = 0.1,
    *,
    clients: int = 100,
    rows: int = 2000,
    features: int = 20,
    noise: float = 2.25,
    test_rows: int = 1000,
    seed: int = 0,
) -> Federation:
    """Client m has y = <x, u_m> + N(0, noise^2), where u_m = v + N(0, rho^2 I) lies around a common v.

    v ~ U[0, 1]^d,  x ~ U[-1, 1]^d

    Expected squared error on fresh rows, N = `clients` of n rows each (large n):
        one model for all     noise^2 + A,                          A = rho^2 d/3 (1 - 1/N)
        one model a client    noise^2 + B n / (n - d - 1),          B = noise^2 d / n
        alpha local + (1 - alpha) global is best near alpha = A / (A + B)

    | published figure | rho | best alpha |
    |---|---|---|
    | the global model is much better | .02 | .05 |
    | the global model is better | .06 | .32 |
    | the local models are better | .1 | .57 |
    | the local models are much better | .5 | .97 |

    Args:
        rho: spread of the clients' models, >= 0.
        clients: N.
        rows: n, training rows of each client.
        features: d.
        noise: standard deviation of y about the line, >= 0; the published 2.25 is sigma^2 for sigma = 1.5.
        test_rows: fresh rows of each client to test on, >= 0.
        seed: whole number >= 0; models, training rows and test rows are separate draws.

    Returns:
        N clients on a regression pool of x float [M, d], y float [M]. truth: "parameters" [N, d], the u_m,
        "common" [d], the v, and "noise".

    Raises:
        TypeError: counts that are not whole numbers, a spread that is no number.
        ValueError: a negative spread, no clients, no training rows, no features.

    Reference: Liang, Liu, Ziyin, Allen, Auerbach, Brent, Salakhutdinov, Morency, "Think locally, act
        globally: federated learning with local and global representations", 2020 (arXiv 2001.01523), the
        synthetic experiment of the theoretical analysis; the figures of the table are of its code.

    Departures: the paper writes noise N(0, sigma^2), while its code passes sigma^2 as the standard deviation;
        `noise` is the standard deviation, and its default that of the code.
    """
    rho = scalar("rho", rho, least=0, remedy="it is a standard deviation, 0 for like models")
    clients = positive_int("clients", clients, remedy="say how many there are, such as 100")
    rows = positive_int("rows", rows, remedy="say how many each client trains on, such as 2000")
    features = positive_int("features", features, remedy="it is the dimension of x, such as 20")
    test_rows = positive_int("test_rows", test_rows, least=0, remedy="0 draws none")
    noise = scalar("noise", noise, least=0, remedy="it is a standard deviation, 0 for exact targets")
    rng = generator(seed, "local_global_regression parameters")
    common = rng.random(features)
    parameters = common + rho * rng.standard_normal((clients, features))

    def uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.uniform(-1, 1, shape)

    return regression_clients(
        parameters,
        uniform,
        rows=rows,
        test_rows=test_rows,
        noise=noise,
        seed=seed,
        name="local_global_regression",
        truth={"parameters": parameters, "common": common, "noise": noise},
    )

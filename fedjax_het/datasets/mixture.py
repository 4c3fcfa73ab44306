"""Clients that mix the same few distributions in proportions of their own (FedEM's synthetic data)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from fedjax_het.assembly import assemble
from fedjax_het.check import positive_int, require, scalar
from fedjax_het.datasets.softmax_clients import published_seed
from fedjax_het.federation import Federation
from fedjax_het.pool import pool

__all__ = ["mixture"]

LEAST, MOST = 50, 1000
"""Training rows of a client: the published sizes are floor(lognormal(4, 2)) + LEAST, cut at MOST."""


def mixture(
    *,
    clients: int = 300,
    components: int = 3,
    features: int = 150,
    alpha: float = 0.4,
    noise: float = 0.1,
    test_rows: int = 200,
    as_published: bool = False,
    seed: int = 12345,
) -> Federation:
    """Binary labels by one of M linear rules, which client t follows in proportions pi_t.

    n_t = min(floor(lognormal(4, 2)) + 50, 1000)
    pi_t ~ Dir(alpha, ..., alpha),  theta_m ~ U[-1, 1]^d
    z ~ pi_t,  x ~ U[-1, 1]^d,  e ~ N(0, noise^2),  y = 1 if <x, theta_z> + e > 0 else 0

    The features have one distribution everywhere and say nothing about z; all that differs between clients
    is pi. Numbers come from `numpy.random.RandomState(seed)` in the published order: sizes, pi, theta, then
    client by client the training rows and the test rows.

    | published table | clients | M | d | alpha | noise | test rows | seed |
    |---|---|---|---|---|---|---|---|
    | full participation | 300 | 3 | 150 | 0.4 | 0.1 | 5000 | 12345 |
    | unseen clients: the last 60 are new | 300 | 3 | 150 | 0.4 | 0.1 | 5000 | 12345 |

    `mixture(test_rows=5000)` has the published sizes, pi, theta and x bit for bit, and takes 0.95 GB in
    float32. Sizes, pi and theta do not depend on `test_rows`; the rows after the first client's training rows
    do.

    The published code does not do what the paper says: it forgets to move on from one component's rows to the
    next one's. Each component labels the first rows of the client anew, and the rows that none reaches, a
    quarter of them at these settings, have label 0 whatever x is. `as_published` repeats that, for the paper's
    tables; y is then the published one too.

    Args:
        clients: N.
        components: M.
        features: d.
        alpha: concentration of pi, > 0; small values give every client one rule of its own, large ones the
            same mixture to all.
        noise: standard deviation of the score's noise, >= 0.
        test_rows: fresh rows of each client to test on, >= 0.
        as_published: whether to label as the published code does.
        seed: 0 <= seed < 2**32.

    Returns:
        N clients on a pool of x float [R, d], y int32 [R], 2 classes. truth: "mixture" [N, M], the pi;
        "components" [M, d], the theta; "component" int32 [R], the z of every row of the pool
        (-1 where `as_published` leaves a row to no component).

    Raises:
        TypeError: counts that are not whole numbers, an alpha or noise that is no number.
        ValueError: alpha <= 0, a negative noise, a seed out of range; an alpha so small that Dir(alpha)
            underflows.

    Reference: Marfoq, Neglia, Bellet, Kameni, Vidal, "Federated multi-task learning under a mixture of
        distributions", NeurIPS 2021, section 4 and the appendix on the synthetic dataset; the authors' code.

    Departures: labels are the paper's by default, see above.
    """
    clients = positive_int("clients", clients, remedy="say how many there are, such as 300")
    components = positive_int("components", components, remedy="say how many rules there are, such as 3")
    features = positive_int("features", features, remedy="it is the dimension of x, such as 150")
    test_rows = positive_int("test_rows", test_rows, least=0, remedy="0 draws none")
    alpha = scalar("alpha", alpha, above=0, remedy="small values make the clients differ, large ones alike")
    noise = scalar("noise", noise, least=0, remedy="it is a standard deviation, 0 for exact labels")
    rng = published_seed(seed)
    sizes = np.minimum(rng.lognormal(4, 2, clients).astype(np.int64) + LEAST, MOST)
    weights = rng.dirichlet(np.full(components, alpha), clients)
    require(
        bool(np.isfinite(weights).all()),
        f"alpha must be large enough for proportions that are numbers, got {alpha}: 0.01 is one component a "
        "client already",
    )
    theta = rng.uniform(-1, 1, (components, features))
    ends = np.cumsum(np.stack([sizes, np.full(clients, test_rows)], axis=1).ravel())
    parts = np.split(np.arange(ends[-1]), ends[:-1])
    x = np.empty((int(ends[-1]), features), jnp.result_type(float))
    y, component = np.empty(len(x), np.int32), np.empty(len(x), np.int32)
    for block, rows in enumerate(parts):
        counts = rng.multinomial(len(rows), weights[block // 2])
        drawn = rng.uniform(-1, 1, (len(rows), features))
        label, rule = np.zeros(len(rows), np.int32), np.full(len(rows), -1, np.int32)
        begins = np.zeros(components, int) if as_published else np.cumsum(counts) - counts
        for m, (begin, count) in enumerate(zip(begins, counts)):
            own = slice(begin, begin + count)
            label[own] = drawn[own] @ theta[m] + rng.normal(0, noise, count) > 0
            rule[own] = m
        order = np.arange(len(rows))
        rng.shuffle(order)
        x[rows], y[rows], component[rows] = drawn[order], label[order], rule[order]
    source = pool(x, y, num_classes=2, name="mixture")
    truth = {"mixture": weights, "components": theta, "component": component}
    return assemble(source, parts[::2], None, parts[1::2], truth=truth)

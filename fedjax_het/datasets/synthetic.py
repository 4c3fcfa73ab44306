"""Synthetic(alpha, beta): softmax models and features that drift apart from client to client."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedjax_het.assembly import partition
from fedjax_het.check import positive_int, positive_ints, require, short
from fedjax_het.datasets.softmax_clients import (
    SoftmaxModel,
    normal_model,
    published_seed,
    softmax_clients,
    spread,
)
from fedjax_het.federation import Federation

__all__ = ["synthetic"]


def synthetic(
    alpha: float = 1.0,
    beta: float = 1.0,
    *,
    clients: int = 30,
    seed: int = 0,
    iid: bool = False,
    multiplier: int = 1,
    sizes: Sequence[int] | None = None,
    features: int = 60,
    classes: int = 10,
    test: float = 0.1,
    valid: float = 0.0,
) -> Federation:
    """Clients whose models differ by alpha, whose features differ by beta, and whose sizes differ a lot.

    For k = 1..N:
        n_k = (floor(lognormal(4, 2)) + 50) * multiplier
        u_k ~ N(0, alpha),  B_k ~ N(0, beta),  v_k ~ N(B_k 1, I)
        W_k ~ N(u_k, 1) [features, classes],  b_k ~ N(u_k, 1) [classes]
        x ~ N(v_k, diag(j^-1.2)),  y = argmax(W_k' x + b_k)

    alpha and beta are used as standard deviations, as the published code does (the paper writes N(0, alpha);
    the two agree at 0 and 1). Numbers come from `numpy.random.RandomState(seed)` in the published order: all
    n, all u, all B, all v, then W, b and x client by client, so a seed gives the published code's data.

    | data | clients | alpha, beta | multiplier | test | seed | function |
    |---|---|---|---|---|---|---|
    | FedProx | 30 | (0, 0), (.5, .5), (1, 1), iid | 1 | 0.1 | none published | `synthetic_fedprox` |
    | Li et al. 2020, convergence of FedAvg | 100 | the same four | 1 | 0.1 | none published | `synthetic_li` |
    | q-FFL | 100 | (1, 1) | 1 | 0.1, valid 0.1 | none published | `synthetic_qffl` |
    | q-FFL hybrid | 100 | (1, 1), half of them iid | 1 | 0.1, valid 0.1 | none published | `synthetic_hybrid` |
    | pFedMe | 100 | (.5, .5) | 5 | 0.25 | 0 | `synthetic_pfedme` |

    FedDyn's generator is another one: `synthetic_feddyn`.

    Args:
        alpha: spread of the clients' models, >= 0.
        beta: spread of the clients' features, >= 0.
        clients: N.
        seed: 0 <= seed < 2**32.
        iid: B_k = 0, v_k = 0, and one W, b ~ N(0, 1) for all, drawn after the v; `beta` then changes nothing.
        multiplier: factor of every n_k.
        sizes: the n_k themselves instead, N whole numbers >= 0; the other draws stay where they are.
        features: dimension of x.
        classes: number of labels.
        test: fraction of each client's rows held out for testing, stratified by label.
        valid: fraction for validation.

    Returns:
        N clients on a pool "synthetic(alpha,beta)" of x float [M, features], y int32 [M]. truth: "kernel"
        [N, features, classes], "bias" [N, classes], "feature_mean" [N, features].

    Raises:
        TypeError: counts that are not whole numbers, spreads that are not numbers.
        ValueError: a negative spread, a seed that RandomState does not take, the wrong number of sizes.

    Reference: Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated optimization in heterogeneous
        networks", MLSys 2020, section 5.1; the fivefold sizes are of Dinh, Tran, Nguyen, "Personalized
        federated learning with Moreau envelopes", NeurIPS 2020.

    Departures: each client's rows are cut by the stratified seeded rule of `split`, where the published
        scripts shuffle with Python's unseeded generator.
    """
    alpha, beta = spread("alpha", alpha), spread("beta", beta)
    clients = positive_int("clients", clients, remedy="say how many there are, such as 30")
    features = positive_int("features", features, remedy="it is the dimension of x, such as 60")
    classes = positive_int("classes", classes, remedy="it is the number of labels, such as 10")
    multiplier = positive_int("multiplier", multiplier, remedy="1 leaves the sizes as they are drawn")
    rng = published_seed(seed)
    count = (rng.lognormal(4, 2, clients).astype(np.int64) + 50) * multiplier
    if sizes is not None:
        count = _sizes(sizes, clients)
    model_mean = rng.normal(0, alpha, clients)
    context = rng.normal(0, 0 if iid else beta, clients)
    if iid:
        mean = np.zeros((clients, features))
        shared = normal_model(rng, 0, features, classes)
    else:
        mean = np.stack([rng.normal(context[k], 1, features) for k in range(clients)])
        shared = None

    def model(k: int) -> SoftmaxModel:
        own = normal_model(rng, model_mean[k], features, classes)
        return own if shared is None else shared

    name = "synthetic(iid)" if iid else f"synthetic({alpha:g},{beta:g})"
    source, parts, truth = softmax_clients(rng, count, mean, model, classes=classes, name=name)
    return partition(source, parts, test=test, valid=valid, seed=seed, truth=truth)


def _sizes(sizes: Sequence[int], clients: int) -> np.ndarray:
    given = positive_ints("sizes", sizes, least=0, remedy="pass one size a client")
    require(
        len(given) == clients and sum(given) > 0,
        f"sizes must list {clients} clients that hold rows, got {short(given)}: pass one size a client",
    )
    return np.array(given, np.int64)

"""Synthetic(alpha, beta) as five papers have it: the settings that belong to each name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedjax_het.assembly import partition
from fedjax_het.datasets.softmax_clients import (
    SoftmaxModel,
    normal_model,
    published_seed,
    softmax_clients,
    spread,
)
from fedjax_het.datasets.synthetic import synthetic
from fedjax_het.federation import Federation

__all__ = [
    "synthetic_fedprox",
    "synthetic_fedprox_iid",
    "synthetic_hybrid",
    "synthetic_li",
    "synthetic_li_iid",
    "synthetic_pfedme",
    "synthetic_qffl",
    "synthetic_qffl_iid",
]

FEATURES, CLASSES = 60, 10


def synthetic_fedprox(alpha: float = 1.0, beta: float = 1.0, *, seed: int = 0) -> Federation:
    """FedProx's Synthetic(alpha, beta): 30 clients, n_k = floor(lognormal(4, 2)) + 50, a tenth to test on.

    Args:
        alpha: spread of the clients' models, >= 0; the paper takes (alpha, beta) = (0, 0), (.5, .5), (1, 1).
        beta: spread of the clients' features, >= 0.
        seed: 0 <= seed < 2**32; the paper's own is not known.

    Returns:
        See `synthetic`.

    Raises:
        TypeError: spreads that are not numbers, a seed that is no whole number.
        ValueError: a negative spread, a seed out of range.

    Reference: Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated optimization in heterogeneous
        networks", MLSys 2020, section 5.1 and appendix C.1.
    """
    return synthetic(alpha, beta, clients=30, seed=seed)


def synthetic_fedprox_iid(*, seed: int = 0) -> Federation:
    """FedProx's Synthetic-IID: 30 clients of one distribution that differ in size alone.

    n_k = floor(lognormal(4, 2)) + 50;  one W, b ~ N(0, 1);  x ~ N(0, diag(j^-1.2));  y = argmax(W' x + b)

    The draws are the sizes, W, b and the rows. `synthetic(iid=True)` has the same distribution, but follows
    the general script, which draws and drops the means of the clients in between.

    Args:
        seed: 0 <= seed < 2**32; the paper's own is not known.

    Returns:
        30 clients, a tenth of the rows of each to test on; truth as of `synthetic`.

    Raises:
        TypeError: a seed that is no whole number.
        ValueError: a seed out of range.

    Reference: Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated optimization in heterogeneous
        networks", MLSys 2020, section 5.1 and appendix C.1.
    """
    rng = published_seed(seed)
    sizes = _sizes(rng, 30, 2)
    shared = normal_model(rng, 0, FEATURES, CLASSES)
    return _cut(rng, sizes, np.zeros((30, FEATURES)), lambda k: shared, "synthetic(iid)", seed)


def synthetic_li(alpha: float = 0.0, beta: float = 0.0, *, seed: int = 0) -> Federation:
    """Li et al.'s Synthetic(alpha, beta) for the convergence of FedAvg: `synthetic_fedprox` of 100 clients.

    Args:
        alpha: spread of the clients' models, >= 0; the paper takes (alpha, beta) = (0, 0) and (1, 1).
        beta: spread of the clients' features, >= 0.
        seed: 0 <= seed < 2**32; the paper's own is not known.

    Returns:
        See `synthetic`.

    Raises:
        TypeError: spreads that are not numbers, a seed that is no whole number.
        ValueError: a negative spread, a seed out of range.

    Reference: Li, Huang, Yang, Wang, Zhang, "On the convergence of FedAvg on non-IID data", ICLR 2020,
        section 5 and appendix D.
    """
    return synthetic(alpha, beta, clients=100, seed=seed)


def synthetic_li_iid(beta: float = 0.0, *, seed: int = 0) -> Federation:
    """Li et al.'s Synthetic with one model for all 100 clients; the features of client k centre at B_k 1.

    n_k = floor(lognormal(4, 2)) + 50;  B_k ~ N(0, beta);  one W, b ~ N(0, 1);
    x ~ N(B_k 1, diag(j^-1.2));  y = argmax(W' x + b)

    IID at beta = 0, which is the published setting. Another beta moves the features as the published code
    would, each client's along the vector of ones, while the labels keep one rule: feature shift alone.

    Args:
        beta: spread of the clients' features, >= 0.
        seed: 0 <= seed < 2**32; the paper's own is not known.

    Returns:
        100 clients, a tenth of the rows of each to test on; truth as of `synthetic`.

    Raises:
        TypeError: a spread that is not a number, a seed that is no whole number.
        ValueError: a negative spread, a seed out of range.

    Reference: Li, Huang, Yang, Wang, Zhang, "On the convergence of FedAvg on non-IID data", ICLR 2020,
        section 5 and appendix D; the centre is that of the authors' code.
    """
    beta = spread("beta", beta)
    rng = published_seed(seed)
    sizes = _sizes(rng, 100, 2)
    rng.normal(0, 0, 100)  # the published script draws the unused means of the models here
    mean = np.tile(rng.normal(0, beta, 100)[:, None], (1, FEATURES))
    shared = normal_model(rng, 0, FEATURES, CLASSES)
    name = "synthetic(iid)" if beta == 0 else f"synthetic(one model,{beta:g})"
    return _cut(rng, sizes, mean, lambda k: shared, name, seed)


def synthetic_qffl(alpha: float = 1.0, beta: float = 1.0, *, seed: int = 0) -> Federation:
    """q-FFL's Synthetic: `synthetic_fedprox` of 100 clients, cut 80/10/10 into train, valid and test.

    Args:
        alpha: spread of the clients' models, >= 0; the paper takes (1, 1).
        beta: spread of the clients' features, >= 0.
        seed: 0 <= seed < 2**32; the paper's own is not known.

    Returns:
        See `synthetic`.

    Raises:
        TypeError: spreads that are not numbers, a seed that is no whole number.
        ValueError: a negative spread, a seed out of range.

    Reference: Li, Sanjabi, Beirami, Smith, "Fair resource allocation in federated learning", ICLR 2020,
        section 4.1 and appendix D.1.
    """
    return synthetic(alpha, beta, clients=100, seed=seed, test=0.1, valid=0.1)


def synthetic_qffl_iid(*, seed: int = 0) -> Federation:
    """The IID set that goes with q-FFL's: 100 clients, sizes floor(lognormal(4, 1)) + 50, cut 80/10/10.

    Args:
        seed: 0 <= seed < 2**32; the authors' own is not known.

    Returns:
        100 clients of one distribution; truth as of `synthetic`.

    Raises:
        TypeError: a seed that is no whole number.
        ValueError: a seed out of range.

    Reference: code of Li, Sanjabi, Beirami, Smith, "Fair resource allocation in federated learning", ICLR
        2020: the sizes spread less than in the paper's other sets.
    """
    return _partly_shared(seed, 0.0, 100, "synthetic(iid)")


def synthetic_hybrid(*, seed: int = 0) -> Federation:
    """q-FFL's Synthetic-hybrid: of 100 clients the first 50 are IID, the others as in Synthetic(1, 1).

    n_k = floor(lognormal(4, 1)) + 50;  one W, b ~ N(0, 1)
    k < 50:   x ~ N(0, diag(j^-1.2)),  y = argmax(W' x + b)
    k >= 50:  as in `synthetic(1, 1)`

    Args:
        seed: 0 <= seed < 2**32; the authors' own is not known.

    Returns:
        100 clients cut 80/10/10 into train, valid and test. truth: that of `synthetic`, and "shared" bool
        [N], whether a client is of the IID half.

    Raises:
        TypeError: a seed that is no whole number.
        ValueError: a seed out of range.

    Reference: Li, Sanjabi, Beirami, Smith, "Fair resource allocation in federated learning", ICLR 2020,
        code of the authors.
    """
    return _partly_shared(seed, 1.0, 50, "synthetic(hybrid)")


def synthetic_pfedme(*, test: float = 0.25, seed: int = 0) -> Federation:
    """pFedMe's Synthetic(.5, .5): 100 clients of n_k = 5 (floor(lognormal(4, 2)) + 50) rows, 205,795 in all.

    Args:
        test: fraction of each client's rows to test on: 0.25 in the paper, 0.1 in the published script.
        seed: 0 <= seed < 2**32; 0 is the published one, and gives the published rows bit for bit.

    Returns:
        See `synthetic`.

    Raises:
        TypeError: a seed that is no whole number.
        ValueError: a seed or a fraction out of range.

    Reference: Dinh, Tran, Nguyen, "Personalized federated learning with Moreau envelopes", NeurIPS 2020,
        section 5.1.
    """
    return synthetic(0.5, 0.5, clients=100, multiplier=5, seed=seed, test=test)


def _partly_shared(seed: int, width: float, shared_clients: int, name: str) -> Federation:
    """100 clients, the first of whom have one model and centred features; alpha = beta = `width` elsewhere."""
    rng = published_seed(seed)
    sizes = _sizes(rng, 100, 1)
    model_mean, context = rng.normal(0, width, 100), rng.normal(0, width, 100)
    mean = np.zeros((100, FEATURES))
    for k in range(shared_clients, 100):
        mean[k] = rng.normal(context[k], 1, FEATURES)
    one = normal_model(rng, 0, FEATURES, CLASSES)

    def model(k: int) -> SoftmaxModel:
        own = normal_model(rng, model_mean[k], FEATURES, CLASSES)  # drawn by the script for everybody
        return one if k < shared_clients else own

    truth = {} if shared_clients == 100 else {"shared": np.arange(100) < shared_clients}
    return _cut(rng, sizes, mean, model, name, seed, valid=0.1, truth=truth)


def _sizes(rng: np.random.RandomState, clients: int, sigma: float) -> np.ndarray:
    return rng.lognormal(4, sigma, clients).astype(np.int64) + 50


def _cut(
    rng: np.random.RandomState,
    sizes: np.ndarray,
    mean: np.ndarray,
    model: Callable[[int], SoftmaxModel],
    name: str,
    seed: int,
    *,
    valid: float = 0.0,
    truth: dict[str, np.ndarray] | None = None,
) -> Federation:
    """The clients of `softmax_clients`, a tenth of the rows of each to test on."""
    source, parts, drawn = softmax_clients(rng, sizes, mean, model, classes=CLASSES, name=name)
    return partition(source, parts, test=0.1, valid=valid, seed=seed, truth=drawn | (truth or {}))

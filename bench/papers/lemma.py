"""FedNova's first lemma: whom FedAvg listens to when clients take unlike numbers of steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import fedjax_het as fh
from fedjax_het.engine.blocks import block
from fedjax_het.models import quadratic, quadratic_federation
from papers.rows import Row, least, most, near

__all__ = ["fednova"]

TOLERANCE = 1e-10

_rounds = jax.jit(block, static_argnames="rounds")


def fednova(rounds: int = 6000, seeds: Sequence[int] = (0, 1, 2)) -> list[Row]:
    """Limits of FedAvg and FedNova on F_k = 1/2 |w - a_k|^2 with tau_k steps, to 1e-10.

    FedAvg:  sum_k p_k s_k a_k / sum_k p_k s_k with s_k = 1 - (1 - eta)^tau_k
    FedNova: the same with p_k / tau_k for p_k

    Settings: everyone in every round, exact gradients, double precision. Two clients with p = (1/2, 1/2),
    a = (-1, 1), tau = (1, 10), at eta = 0.05 and 0.001; and for each seed 8 clients in 3 dimensions with
    a_k ~ N(0, I), tau_k in 1..20 uniformly, p_k = n_k / n = tau_k / sum tau and eta = 0.05. FedNova's bias,
    the distance from sum_k p_k a_k, is to fall with eta and to be smaller than FedAvg's.

    Reference: Wang, Liu, Liang, Joshi, Poor, "Tackling the objective inconsistency problem in heterogeneous
    federated optimization", NeurIPS 2020, lemma 1, with its constant rate and finite tau_k.
    """
    with jax.enable_x64(True):
        rows, bias = [], {}
        centres, steps = np.array([[-1.0], [1.0]]), np.array([1, 10])
        for rate in (0.05, 0.001):
            for name in ("fedavg", "fednova"):
                reached = _limit(name, centres, steps, rate, rounds, fh.weighting.uniform())
                expected = _expected(name, centres, steps, rate, np.array([0.5, 0.5]))
                rows.append(near(f"{name}, two clients, eta={rate}", reached[0], expected[0], TOLERANCE))
                bias[name, rate] = abs(reached[0])
        rows.append(most("bias of fednova, eta=0.001", bias["fednova", 0.001], bias["fednova", 0.05] / 10))
        rows.append(least("bias of fedavg, eta=0.001", bias["fedavg", 0.001], 0.8))
        for seed in seeds:
            rng = np.random.default_rng(seed)
            centres, steps = rng.normal(size=(8, 3)), rng.integers(1, 21, 8)
            shares = steps / steps.sum()
            off = {}
            for name in ("fedavg", "fednova"):
                reached = _limit(name, centres, steps, 0.05, rounds, None)
                expected = _expected(name, centres, steps, 0.05, shares)
                apart = float(np.abs(reached - expected).max())
                rows.append(most(f"{name}, 8 clients, seed {seed}: apart", apart, TOLERANCE, 0.0))
                off[name] = float(np.linalg.norm(reached - shares @ centres))
            rows.append(most(f"seed {seed}: bias of fednova over fedavg's", off["fednova"] / off["fedavg"], 1))
        return rows


def _expected(name: str, centres: np.ndarray, steps: np.ndarray, rate: float, shares: np.ndarray) -> np.ndarray:
    weight = shares * (1 - (1 - rate) ** steps)
    if name == "fednova":
        weight = weight / steps
    return weight @ centres / weight.sum()


def _limit(
    name: str, centres: np.ndarray, steps: np.ndarray, rate: float, rounds: int, weighting: Any
) -> np.ndarray:
    """Where `rounds` rounds end, from zero. A client holds its row tau_k times, and passes over them once."""
    count, dimension = centres.shape
    eyes = np.broadcast_to(np.eye(dimension), (count, dimension, dimension))
    federation = quadratic_federation(eyes, centres, sizes=steps)
    method = getattr(fh.algorithms, name)(quadratic(federation.pool), fh.local.sgd(rate, batch_size=1))
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped(), weighting=weighting)
    state = fh.initial_state(method, federation, key=jax.random.key(0), round_fn=round_fn)
    state, _ = _rounds(round_fn, method, state, federation, rounds=rounds)
    return np.asarray(state.server.params["w"])

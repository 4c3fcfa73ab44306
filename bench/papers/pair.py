"""SCAFFOLD's two quadratics, on which FedAvg drifts the further the less alike they are."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import fedjax_het as fh
from fedjax_het.engine.blocks import block
from fedjax_het.models import quadratic, quadratic_federation
from papers.rows import Row, least, most, near, told

__all__ = ["scaffold"]

RATE, MU, FAR = 0.05, 1.0, (1.0, 10.0, 100.0)

PATHS = {
    ("II", 2): (0.9025, 0.814325, 0.7347597),
    ("II", 10): (0.58716961, 0.32397897, 0.17258727),
    ("I", 2): (0.9025, 0.8142625, 0.7346513),
    ("I", 10): (0.58716961, 0.30878189, 0.15704039),
}
"""x after rounds 1, 2 and 3, by option and K."""

_rounds = jax.jit(block, static_argnames="rounds")


def scaffold(rounds: int = 1000, seeds: Sequence[int] = (0,)) -> list[Row]:
    """FedAvg worsens with K and with G; SCAFFOLD improves with K and does not see G.

    Settings: f_1 = mu x^2 + G x and f_2 = -G x with mu = 1, G in {1, 10, 100}, exact gradients, everyone in
    every round, eta = 0.05, K in {1, 2, 10} local steps, x_0 = 1; SCAFFOLD with c_k = grad f_k(x_0), in double
    precision. Asked for: SCAFFOLD's paths the same for every G (to 1e-9 of each other) and the numbers of the
    closed form (1e-7); FedAvg's limit K eta G - (1 - rho) G / (2 mu) over 1 - rho with
    rho = (1 - 2 eta mu)^K (1e-9 G), so linear in G and larger for larger K; SCAFFOLD after three rounds nearer
    to the optimum 0 the more local steps it took, K = 1 being SGD. Nothing is random.

    Reference: Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, "SCAFFOLD", ICML 2020, section 7.1 and figure 3.

    Departures: the figure has no numbers to read off; "paper" is the closed form of the recursion. Control
    variates start at the gradients: from zero, the first round is FedAvg's, and paths depend on G.
    """
    del seeds
    with jax.enable_x64(True):
        rows, after = [], {}
        for option in ("I", "II"):
            for steps in (1, 2, 10):
                paths = np.array([_corrected(option, steps, far, 3) for far in FAR])
                after[option, steps] = abs(paths[0, -1])
                apart = np.abs(paths - paths[:1]).max()
                rows.append(most(f"SCAFFOLD {option}, K={steps}: paths of all G apart", apart, 1e-9))
                for number, printed in enumerate(PATHS.get((option, steps), ())):
                    name = f"SCAFFOLD {option}, K={steps}: x after round {number + 1}"
                    rows.append(near(name, paths[0, number], printed, 1e-7))
            two = after[option, 1] - after[option, 2]
            ten = after[option, 2] - after[option, 10]
            rows.append(least(f"SCAFFOLD {option}: K=2 nearer than SGD by", two, 1e-3))
            rows.append(least(f"SCAFFOLD {option}: K=10 nearer than K=2 by", ten, 1e-3))
        limits = {}
        for steps in (1, 2, 10):
            rho = (1 - 2 * RATE * MU) ** steps
            for far in FAR:
                limit = (steps * RATE * far - (1 - rho) * far / (2 * MU)) / (1 - rho)
                limits[steps, far] = reached = _drifting(steps, far, rounds)
                rows.append(near(f"FedAvg, K={steps}, G={far:g}: limit", reached, limit, 1e-9 * far))
        worse = min(limits[10, far] - limits[2, far] for far in FAR)
        rows.append(least("FedAvg: K=10 further off than K=2 by at least", worse, 1e-3))
        rows.append(told("FedAvg, K=10: limit over G", limits[10, 100.0] / 100, 0.26767))
        return rows


def _corrected(option: str, steps: int, far: float, rounds: int) -> np.ndarray:
    """SCAFFOLD's x after each round."""
    federation, problem, solver = _pair(steps, far)
    algorithm = fh.algorithms.scaffold(problem, solver, option=option, start="gradients")
    return _path(algorithm, federation, rounds)


def _drifting(steps: int, far: float, rounds: int) -> float:
    """FedAvg's x in the end."""
    federation, problem, solver = _pair(steps, far)
    algorithm = fh.algorithms.fedavg(problem, solver)
    return float(_path(algorithm, federation, 1, block_of=rounds)[-1])


def _pair(steps: int, far: float) -> tuple[fh.Federation, fh.Problem, Any]:
    federation = quadratic_federation(np.array([[[2 * MU]], [[0.0]]]), b=np.array([[-far], [far]]))
    problem = quadratic(federation.pool, start=(1.0,))
    return federation, problem, fh.local.sgd(RATE, batch_size=None, steps=steps)


@functools.cache
def _round() -> Any:
    return fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())


def _path(algorithm: Any, federation: fh.Federation, blocks: int, block_of: int = 1) -> np.ndarray:
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=_round())
    path = []
    for _ in range(blocks):
        state, _ = _rounds(_round(), algorithm, state, federation, rounds=block_of)
        path.append(float(state.server.params["w"][0]))
    return np.array(path)

"""Bias map: it takes unlike curvatures and unlike gradients together."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.algorithms import fedavg
from fedjax_het.analysis import oracles
from fedjax_het.check import positive_int, scalar
from fedjax_het.local import sgd
from fedjax_het.models import quadratics
from fedjax_het.plots.theory_map import heat_map
from fedjax_het.theory.finding import Claim, Finding, in_double
from fedjax_het.theory.runs import engine_map, problem_of
from fedjax_het.typing import Array

__all__ = ["bias_map"]

DELTA, ZETA = 0.4, 1.0
"""Hessian and gradient heterogeneity at the far corner."""


@in_double
def bias_map(*, points: int = 15, learning_rate: float = 0.2, steps: int = 10, seed: int = 0) -> Finding:
    """|w_inf - w*| of FedAvg over Hessian heterogeneity delta and gradient heterogeneity zeta_*.

    F_k has the Hessian H + s (A_k - H) and at w* the gradient t g_k*, so that delta and zeta_* are
    proportional to s and t in [0, 1], and w* stays.

    Args:
        points: on each axis.
        learning_rate: eta.
        steps: E.
        seed: of the quadratics.

    Returns:
        Arrays "delta" and "zeta" [points]; "exact" and "measured" [points, points], rows by delta.

    Raises:
        TypeError, ValueError: a setting of the wrong kind or range.
    """
    points = positive_int("points", points, least=2, remedy="15 draw it")
    steps = positive_int("steps", steps, remedy="10 show it")
    rate = scalar("learning_rate", learning_rate, above=0, remedy="2 / L = 2 is the limit")
    federation = quadratics(10, 4, dissimilarity=ZETA, hessian_dissimilarity=DELTA, seed=seed)
    functions, problem = oracles.quadratics_of(federation), problem_of(federation)
    best, own = functions.optimum, functions.gradients(functions.optimum)
    apart = functions.A - functions.hessian[None]

    def each(s: Array, t: Array) -> tuple[Array, Array]:
        A = functions.hessian[None] + s * apart
        b = jnp.einsum("nij,j->ni", A, best, precision="highest") - t * own
        scaled = dataclasses.replace(federation, x=A, y=jnp.concatenate([b, jnp.zeros_like(b[:, :1])], 1))
        known = oracles.fedavg(
            dataclasses.replace(functions, A=A, b=b), learning_rate=rate, steps=steps
        ).fixed_point
        seen = engine_map(fedavg(problem, sgd(rate, batch_size=None, steps=steps)), scaled).fixed_point
        return jnp.linalg.norm(known - best), jnp.linalg.norm(seen - best)

    grid = jnp.linspace(0, 1, points)
    sweep = jax.jit(jax.vmap(jax.vmap(each, (None, 0)), (0, None)))
    exact, seen = (np.asarray(value) for value in sweep(grid, grid))
    off = float(np.abs(exact - seen).max())
    edge = float(max(seen[0].max(), seen[:, 0].max()))
    claims = (
        Claim(f"on both axes the engine's bias is 0: at most {edge:.1e}", edge < 1e-12),
        Claim(
            f"off the axes it is not: {exact[1:, 1:].min():.2e} to {exact.max():.2e}",
            bool(exact[1:, 1:].min() > 1e3 * edge),
        ),
        Claim(f"the engine is the oracle to {off:.1e}", off < 1e-9),
    )
    delta, zeta = DELTA * np.asarray(grid), ZETA * np.asarray(grid)

    def draw() -> Any:
        return heat_map(
            "Bias takes unlike curvatures and unlike gradients",
            zeta,
            delta,
            seen,
            labels=(
                "gradient heterogeneity zeta* (loss / parameter)",
                "Hessian heterogeneity delta (loss / parameter²)",
                "|w_inf - w*| (parameter)",
            ),
            caption=f"FedAvg on 10 quadratics in 4 dimensions, eta = {rate:g}, E = {steps}: the engine's "
            f"limit, equal to the exact one to {off:.0e}. On both axes it is w*: neither alone gives a bias.",
        )

    rows = [(float(delta[i]), float(zeta[j]), seen[i, j], exact[i, j]) for i in (0, -1) for j in (0, -1)]
    settings = {"points": points, "learning_rate": rate, "steps": steps, "seed": seed}
    arrays = {"delta": delta, "zeta": zeta, "exact": exact, "measured": seen}
    columns = ("delta", "zeta*", "engine", "exact")
    return Finding("The bias over both heterogeneities", settings, arrays, columns, rows, claims, draw)

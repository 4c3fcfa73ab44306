"""Paths: where FedAvg and FedProx end, in the plane, and that SCAFFOLD and FedDyn end at the optimum."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.algorithms import fedavg, feddyn, fedprox, scaffold
from fedjax_het.analysis import oracles
from fedjax_het.check import positive_int, scalar
from fedjax_het.local import sgd
from fedjax_het.models import quadratic_federation
from fedjax_het.plots.theory import Panel, chart, track
from fedjax_het.theory.finding import Claim, Finding, in_double
from fedjax_het.theory.runs import engine_map, increasing, problem_of
from fedjax_het.typing import Array

__all__ = ["paths"]

A = np.array([[[1.0, 0.0], [0.0, 4.0]], [[2.0, 1.0], [1.0, 2.0]], [[5.0, 0.0], [0.0, 0.5]]])
"""Three clients' curvatures, the largest 5 and the least 0.5."""

MINIMISERS = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -0.6]])

TOP, SETTLED = 5.0, 400
"""L; and the gradient steps that solve any local problem here to the last digit, at the rate 1 / (L + m)."""


@in_double
def paths(
    *,
    steps: Any = (1, 2, 3, 5, 10, 20, 50, 200),
    learning_rate: float = 0.1,
    points: int = 9,
    memory_steps: int = 5,
    alpha: float = 1.0,
) -> Finding:
    """Limits in the plane: FedAvg's over E, FedProx's over m, and SCAFFOLD's and FedDyn's.

    FedAvg goes from w* at E = 1 to sum_k p_k a_k, the mean of local minima, as E grows; FedProx with exact
    solves goes the same way as its proximal weight m falls from infinity to 0. Methods with memory end at w*.
    The three clients have equal weight; the engine's limits are those of its compiled rounds.

    Args:
        steps: E of FedAvg, increasing.
        learning_rate: eta of FedAvg, SCAFFOLD and FedDyn, at most 2 / L = 0.4.
        points: values of m, from 100 to 0.01.
        memory_steps: E of SCAFFOLD and FedDyn.
        alpha: FedDyn's.

    Returns:
        Arrays "fedavg" and "fedavg_exact" [len(steps), 2], "prox" and "prox_exact" [points, 2] at "mu"
        [points]; "scaffold", "feddyn", "optimum" and "mean" [2].

    Raises:
        TypeError, ValueError: a setting of the wrong kind or range.
    """
    listed = increasing("steps", steps, fewest=2)
    rate = scalar("learning_rate", learning_rate, above=0, remedy="2 / L = 0.4 is the limit")
    points = positive_int("points", points, least=2, remedy="9 draw it")
    memory_steps = positive_int("memory_steps", memory_steps, remedy="5 is stable here")
    alpha = scalar("alpha", alpha, above=0, remedy="1 is about (mu L)^(1/2) here")
    federation = quadratic_federation(A, MINIMISERS)
    functions, problem = oracles.quadratics_of(federation), problem_of(federation)
    best, mean, mu = functions.optimum, functions.p @ jnp.asarray(MINIMISERS), jnp.logspace(2, -2, points)

    def local_only(count: Array) -> tuple[Array, Array]:
        method = fedavg(problem, sgd(rate, batch_size=None, steps=count))
        known = oracles.fedavg(functions, learning_rate=rate, steps=count)
        return engine_map(method, federation).fixed_point, known.fixed_point

    def proximal(m: Array) -> tuple[Array, Array]:
        method = fedprox(problem, sgd(1 / (TOP + m), batch_size=None, steps=SETTLED), mu=m)
        return engine_map(method, federation).fixed_point, oracles.fedprox(functions, mu=m).fixed_point

    def with_memory() -> tuple[Array, Array]:
        local = sgd(rate, batch_size=None, steps=memory_steps)
        held = (
            engine_map(scaffold(problem, local), federation, "control"),
            engine_map(feddyn(problem, local, alpha=alpha), federation, "dual"),
        )
        first, second = (oracles.split(each.fixed_point, functions.count).point for each in held)
        return first, second

    seen, exact = (np.asarray(v) for v in jax.jit(jax.vmap(local_only))(jnp.asarray(listed, jnp.int32)))
    prox, prox_exact = (np.asarray(v) for v in jax.jit(jax.vmap(proximal))(mu))
    at_scaffold, at_feddyn = (np.asarray(v) for v in jax.jit(with_memory)())
    best, mean, mu = np.asarray(best), np.asarray(mean), np.asarray(mu)
    smooth = _smooth(functions, rate, listed[-1])
    off = float(max(np.abs(seen - exact).max(), np.abs(prox - prox_exact).max()))
    away, length = np.linalg.norm(exact - best, axis=1), float(np.linalg.norm(mean - best))
    held = [float(np.linalg.norm(each - best)) for each in (at_scaffold, at_feddyn)]
    ends = [float(np.linalg.norm(each[-1] - mean)) for each in (exact, prox_exact)]
    far = [float(np.linalg.norm(each[0] - best)) for each in (exact, prox_exact)]
    claims = (
        Claim(
            f"FedAvg's limit leaves w* with E: {', '.join(f'{d:.3f}' for d in away)} away at E = "
            f"{', '.join(map(str, listed))}",
            bool((np.diff(away) > 0).all()),
        ),
        Claim(
            f"both paths go to sum_k p_k a_k, {length:.3f} from w*: FedAvg's ends {ends[0]:.1e} from it, "
            f"FedProx's {ends[1]:.1e} at m = {mu[-1]:g} after {far[1]:.1e} from w* at m = {mu[0]:g}",
            bool(max(ends) < 0.05 * length and far[1] < 0.05 * length),
        ),
        Claim(
            f"SCAFFOLD ends {held[0]:.1e} from w*, FedDyn {held[1]:.1e}", max(held) < 1e-9
        ),
        Claim(f"the engine's limits are the oracle's to {off:.1e}", off < 1e-9),
    )  # fmt: skip

    def draw() -> Any:
        shown = [f"E = {e}" if e in (2, 5, 10, 20) else "" for e in listed]
        marks = [f"m = {m:.3g}" if i % 2 == 0 and 0.05 < m < 50 else "" for i, m in enumerate(mu)]
        lines = [
            track("FedAvg", smooth[0], 0),
            track("", seen, 0, "points", every=True, notes=shown),
            track("FedProx, exact solves", smooth[1], 1),
            track("", prox, 1, "points", every=True, notes=marks, below=True),
            track("SCAFFOLD and FedDyn: w*", best, 2, "cross"),
            track("mean of local minima", mean, 6, "cross"),
        ]
        return chart(
            "Where rounds end: memory finds the optimum, local work alone does not",
            [Panel("", lines, "w[0] (parameter)", "w[1] (parameter)", "", legend="limit of", equal=True)],
            f"Three quadratics in the plane, eta = {rate:g}, full batches. Lines: exact limits over E from 1 "
            "and over m from infinity down to 0; points: the engine's compiled rounds. Both begin at w* and "
            "end at the mean of local minima.",
        )  # fmt: skip

    settings = {
        "steps": listed, "learning_rate": rate, "points": points, "memory_steps": memory_steps, "alpha": alpha,
    }  # fmt: skip
    arrays = {
        "fedavg": seen, "fedavg_exact": exact, "prox": prox, "prox_exact": prox_exact, "mu": mu,
        "scaffold": at_scaffold, "feddyn": at_feddyn, "optimum": best, "mean": mean,
    }  # fmt: skip
    rows = [
        *((f"FedAvg, E = {e}", *map(float, w), float(d)) for e, w, d in zip(listed, seen, away)),
        *((f"FedProx, m = {m:.3g}", *map(float, w), float(np.linalg.norm(w - best))) for m, w in zip(mu, prox)),
        ("SCAFFOLD", *map(float, at_scaffold), held[0]),
        ("FedDyn", *map(float, at_feddyn), held[1]),
    ]
    return Finding(
        "Where rounds end", settings, arrays, ("method", "w[0]", "w[1]", "|w - w*|"), rows, claims, draw
    )


def _smooth(functions: oracles.Quadratics, rate: float, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact limits at many E up to `most`, and at many m, float [q, 2] each."""
    counts = jnp.asarray(np.unique(np.geomspace(1, most, 60).round()), jnp.int32)

    def local_only(count: Array) -> Array:
        return oracles.fedavg(functions, learning_rate=rate, steps=count).fixed_point

    def proximal(m: Array) -> Array:
        return oracles.fedprox(functions, mu=m).fixed_point

    first = jax.jit(jax.vmap(local_only))(counts)
    return np.asarray(first), np.asarray(jax.jit(jax.vmap(proximal))(jnp.logspace(3, -3, 80)))

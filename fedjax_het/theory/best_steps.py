"""Best steps: rounds to a target against E, the U shape, and how its lowest point moves."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.algorithms import fedavg
from fedjax_het.analysis import oracles
from fedjax_het.check import positive_int, scalar
from fedjax_het.local import sgd
from fedjax_het.local.schedules import schedule
from fedjax_het.plots.theory import Line, Panel, chart
from fedjax_het.theory.finding import Claim, Finding, in_double
from fedjax_het.theory.runs import increasing, path, problem_of, toy_federation
from fedjax_het.typing import Array

__all__ = ["best_steps"]

START = (1.0, 1.5)
FINE = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 50, 100)
"""E among which the best one is sought."""


def _decay(initial: Array, count: Array) -> Array:
    return initial / (1 + count.astype(initial.dtype))


@in_double
def best_steps(
    *,
    steps: Any = (1, 2, 5, 10, 20, 50, 100, 200),
    rounds: int = 120,
    learning_rate: float = 0.257,
    target: float = 0.0463,
    near_target: float = 0.002,
    points: int = 9,
) -> Finding:
    """Rounds until |w - w*|^2 <= target against E, FedAvg at the rate eta_0 / (1 + r), on the toy's clients.

    Curvatures are (4, 1, 1, 1). With few steps progress is slow, with many the bias, of order (E - 1) eta_r,
    has to wait for the rate to fall. Then E*, the E among 1 to 100 with the fewest rounds to a nearer target,
    of those the largest, for gradients at w* times t (zeta_*), and for curvatures H + s (A_k - H) (delta).
    Without any of either there is no bias, and no E is too large.

    Args:
        steps: E, increasing.
        rounds: at most.
        learning_rate: eta_0.
        target: epsilon, in parameter^2.
        near_target: epsilon of E*, at which fewer E tie.
        points: values of zeta_*, and of delta.

    Returns:
        Arrays "exact" and "measured" [len(steps)], rounds, NaN where the target is not reached; "zeta",
        "delta", "best_by_zeta", "best_by_delta" [points].

    Raises:
        TypeError, ValueError: a setting of the wrong kind or range.
    """
    listed, rounds = increasing("steps", steps), positive_int("rounds", rounds, remedy="120 reach the target")
    initial = scalar("learning_rate", learning_rate, above=0, remedy="0.257 shows the U")
    target = scalar("target", target, above=0, remedy="0.0463 shows the U")
    nearer = scalar("near_target", near_target, above=0, remedy="0.002 shows how E* moves")
    points = positive_int("points", points, least=2, remedy="9 draw it")
    federation = toy_federation()
    functions, problem, start = oracles.quadratics_of(federation), problem_of(federation), jnp.asarray(START)
    best, rate = functions.optimum, jnp.asarray(initial)
    follow = functools.partial(_first, start=start, rate=rate, rounds=rounds)
    exact = np.asarray(
        jax.jit(jax.vmap(lambda e: follow(functions, e, target=jnp.asarray(target))))(
            jnp.asarray(listed, jnp.int32)
        )
    )

    def engine(count: Array) -> Array:
        local = sgd(schedule(_decay, rate, unit="round"), batch_size=None, steps=count)
        return jnp.sum((path(fedavg(problem, local), federation, start, rounds) - best[None]) ** 2, axis=-1)

    below = np.asarray(jax.jit(jax.vmap(engine))(jnp.asarray(listed, jnp.int32))) <= target
    seen = np.where(below.any(1), below.argmax(1), np.nan)
    scale = jnp.linspace(0, 1, points)
    own, H = functions.gradients(best), functions.hessian

    def lowest(s: Array, t: Array) -> Array:
        A = H[None] + s * (functions.A - H[None])
        b = jnp.einsum("nij,j->ni", A, best, precision="highest") - t * own
        made = oracles.Quadratics(A, b, functions.p)
        from_large = jnp.asarray(FINE[::-1], jnp.int32)
        needed = jax.vmap(lambda e: follow(made, e, target=jnp.asarray(nearer)))(from_large)
        return from_large[jnp.argmin(jnp.where(jnp.isnan(needed), jnp.inf, needed))]

    one = jnp.ones_like(scale)
    by_zeta, by_delta = (
        np.asarray(value)
        for value in jax.jit(lambda: (jax.vmap(lowest)(one, scale), jax.vmap(lowest)(scale, one)))()
    )
    unit_zeta = float(jnp.sqrt(functions.p @ jnp.sum(own**2, axis=1)))
    unit_delta = float(jnp.max(jnp.linalg.norm(functions.A - H[None], 2, axis=(1, 2))))
    zeta, delta = unit_zeta * np.asarray(scale), unit_delta * np.asarray(scale)
    low = int(np.nanargmin(exact)) if np.isfinite(exact).any() else 0
    claims = (
        Claim(
            "rounds are " + ", ".join(f"{r:g}" for r in exact) + " for E = " + ", ".join(map(str, listed))
            + f": lowest at E = {listed[low]}, and more on both sides",
            bool(0 < low < len(listed) - 1 and exact[0] > exact[low] < exact[-1]),
        ),
        Claim("the engine needs exactly as many rounds", bool(np.array_equal(exact, seen, equal_nan=True))),
        Claim(
            f"to |w - w*|^2 <= {nearer:g} the best E falls from {by_zeta[0]} to {by_zeta[-1]} as zeta* grows, "
            f"and from {by_delta[0]} to {by_delta[-1]} as delta grows; at 0 no E is too large",
            all(each[0] > each[-1] and (np.diff(each) <= 0).all() for each in (by_zeta, by_delta)),
        ),
    )  # fmt: skip

    def draw() -> Any:
        up = "E*, best number of local steps"
        return chart(
            "Rounds to a target are a U in E, and heterogeneity moves its lowest point to fewer steps",
            [
                Panel(
                    "rounds to the target",
                    [Line("exact", listed, exact), Line("engine", listed, seen, 1, "points", every=True)],
                    "E, local steps of a round", "rounds", "xy",
                ),
                Panel(
                    f"the best of E in {FINE[0]} to {FINE[-1]}, target {nearer:g}",
                    [
                        Line("zeta* grows", zeta / unit_zeta, by_zeta, 0, "both", every=True),
                        Line("delta grows", delta / unit_delta, by_delta, 1, "both", every=True),
                    ],
                    f"share of zeta* = {unit_zeta:.3g}, or of delta = {unit_delta:.3g}", up, "y",
                ),
            ],
            f"Four clients of curvature 4, 1, 1, 1; rate {initial:g} / (1 + r); target |w - w*|² <= "
            f"{target:g}. With few steps progress is slow; with many the bias must wait for the rate to fall. "
            f"Right: target {nearer:g}; at 0 there is no bias and the largest E wins.",
        )  # fmt: skip

    settings = {
        "steps": listed, "rounds": rounds, "learning_rate": initial, "target": target,
        "near_target": nearer, "points": points,
    }  # fmt: skip
    arrays = {
        "exact": exact, "measured": seen, "zeta": zeta, "delta": delta, "best_by_zeta": by_zeta,
        "best_by_delta": by_delta,
    }  # fmt: skip
    rows = [(e, exact[i], seen[i]) for i, e in enumerate(listed)]
    columns = ("E", "rounds, exact", "rounds, engine")
    return Finding("Rounds to a target against local steps", settings, arrays, columns, rows, claims, draw)


def _first(
    functions: oracles.Quadratics, steps: Array, *, start: Array, rate: Array, target: Array, rounds: int
) -> Array:
    """Rounds until |w - w*|^2 <= target by the exact maps, NaN for more than `rounds`."""
    best = functions.optimum

    def one(w: Array, r: Array) -> tuple[Array, Array]:
        after = oracles.fedavg(functions, learning_rate=_decay(rate, r), steps=steps)(w)
        return after, jnp.sum((after - best) ** 2)

    errors = jax.lax.scan(one, start, jnp.arange(rounds))[1]
    reached = jnp.concatenate([jnp.sum((start - best) ** 2)[None], errors]) <= target
    return jnp.where(jnp.any(reached), jnp.argmax(reached).astype(rate.dtype), jnp.nan)

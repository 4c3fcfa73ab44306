"""Bounds: the measured error, its exact prediction, and what two theorems promise, on one axis."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.analysis import constants, local_gradients, oracles
from fedjax_het.analysis.bounds import explicit, gap_of_distance, li2020
from fedjax_het.check import positive_int, scalar
from fedjax_het.engine import executors, initial_state, make_round, sampling, survey
from fedjax_het.federation import Data, Federation
from fedjax_het.local.schedules import inverse_time
from fedjax_het.models import quadratics
from fedjax_het.plots.bounds import bounds_by_step
from fedjax_het.problem import Model, Problem
from fedjax_het.theory.finding import Claim, Finding, in_double
from fedjax_het.theory.fresh import fresh_fedavg
from fedjax_het.theory.runs import noisy_federation, problem_of
from fedjax_het.typing import Array, Key

__all__ = ["bounds"]

BATCH, ROWS, CURVATURE = 4, 20, 0.25
"""Rows of a batch and of a client; and mu, where L = 1."""

LIMIT = 5.0
"""How many standard errors the mean of the runs may lie from the exact expectation."""


@in_double
def bounds(
    *,
    steps: int = 5,
    rounds: int = 200,
    clients: int = 10,
    dimension: int = 3,
    spread: float = 0.3,
    runs: int = 32,
    seed: int = 0,
) -> Finding:
    """E F(w) - F* of FedAvg beside its exact expectation, E1, and Theorem 1 of Li et al. 2020.

    Quadratics with L = 1 and mu = 0.25, batches drawn anew at every step, everyone present, the theorem's step
    sizes 2 / (mu (gamma + s)) with gamma = 8 E L / mu, which both bounds allow. Li's G^2 is the largest that
    the local iterates of all runs met. E1 bounds the squared distance, of which L/2 times bounds F - F*.

    Args:
        steps: E.
        rounds: T / E.
        clients: N.
        dimension: d.
        spread: of a client's rows around its minimum, which makes the noise.
        runs: seeds, at least 8.
        seed: of the quadratics, the rows and the first run.

    Returns:
        Arrays over the rounds [rounds + 1]: "steps", "measured" (the mean over the runs), "exact" (its
        expectation), "error" (its standard error if w is normal), "e1", "li".

    Raises:
        TypeError, ValueError: a setting of the wrong kind or range.
    """
    steps, rounds = (
        positive_int(name, value, remedy=remedy)
        for name, value, remedy in (("steps", steps, "5 show the drift"), ("rounds", rounds, "200 show it"))
    )
    runs = positive_int("runs", runs, least=8, remedy="a mean needs several")
    spread = scalar("spread", spread, above=0, remedy="without any there is no noise")
    plain = quadratics(
        clients, dimension, convexity=CURVATURE, hessian_dissimilarity=0.3, distance=3.0, seed=seed
    )
    centres = np.asarray(plain.truth["minimiser"])
    federation = noisy_federation(plain.x, centres, rows=ROWS, spread=spread, seed=seed)
    functions = oracles.quadratics_of(federation)
    noise = oracles.gradient_noise(federation, BATCH).covariance  # of independent draws
    start = jnp.zeros(dimension)
    known = constants.of_quadratics(functions, start, noise)
    mu, L = float(known.mu.value), float(known.L.value)  # pyright: ignore[reportOptionalMemberAccess]
    gamma = 8 * steps * L / mu
    schedule = inverse_time(2 / mu, gamma)
    method = fresh_fedavg(problem_of(federation), schedule, steps=steps, batch_size=BATCH)
    keys = jax.random.split(jax.random.key(seed), runs)
    w, squares = jax.device_get(_runs(method, federation, start, keys, steps=steps, rounds=rounds))
    away = np.asarray(w) - np.asarray(functions.optimum)
    gaps = np.einsum("rti,ij,rtj->rt", away, np.asarray(functions.hessian), away) / 2
    measured = gaps.mean(0)
    rate = 2 / (mu * (gamma + np.arange(steps * rounds)))
    told = _expected(functions, noise, start, jnp.asarray(rate.reshape(rounds, steps)))
    exact, deviation = (np.asarray(each) for each in told)
    error = deviation / np.sqrt(runs)
    largest = float((np.asarray(squares) + np.trace(np.asarray(noise), axis1=1, axis2=2)).max())
    known = constants.replace(known, provenance="trajectory_max", li_G_sq=largest)
    promised = (
        gap_of_distance(explicit.e1(known, schedule, steps, steps * rounds), known),
        li2020.theorem1(known, schedule, steps, steps * rounds),
    )
    ratios = [each.ratio(measured) for each in promised]
    off = float(np.max(np.abs(measured - exact)[1:] / error[1:]))
    names = ("E1", "Theorem 1")
    claims = (
        Claim(
            f"the mean of {runs} runs is the exact expectation: at most {off:.1f} standard errors apart",
            off < LIMIT,
        ),
        *(
            Claim(
                f"{name} holds, its conditions too: measured / bound {ratio[0]:.2g} at the start, "
                f"{ratio[-1]:.2g} after {rounds} rounds, at most {ratio.max():.2g}",
                bool(each.may_hold and ratio.max() <= 1),
            )
            for name, each, ratio in zip(names, promised, ratios)
        ),
        Claim(
            f"in the end Theorem 1 is {promised[1].values[-1] / promised[0].values[-1]:.3g} times E1, and "
            "both are far above the error",
            bool(promised[0].values[-1] < promised[1].values[-1]),
        ),
    )  # fmt: skip

    def draw() -> Any:
        title = f"Measured error, exact expectation and bounds, E = {steps}"
        quantity = f"F(w) - F*, mean of {runs} runs"
        return bounds_by_step(
            promised[0].steps, measured, promised, prediction=exact, quantity=quantity, title=title
        )

    settings = {
        "steps": steps, "rounds": rounds, "clients": clients, "dimension": dimension, "spread": spread,
        "runs": runs, "seed": seed,
    }  # fmt: skip
    arrays = {
        "steps": promised[0].steps, "measured": measured, "error": error, "exact": exact,
        "e1": promised[0].values, "li": promised[1].values,
    }  # fmt: skip
    rows = [
        (int(promised[0].steps[t]), measured[t], exact[t], *(v for b, r in zip(promised, ratios)
                                                            for v in (b.values[t], r[t])))
        for t in (0, rounds // 2, rounds)
    ]  # fmt: skip
    columns = ("steps", "measured", "exact", "E1", "measured / E1", "Theorem 1", "measured / Theorem 1")
    return Finding("Bounds beside the error", settings, arrays, columns, rows, claims, draw)


def _none(problem: Problem, model: Model, data: Data) -> Array:
    return jnp.zeros(())


def _all_runs(
    method: Any, federation: Federation, start: Array, keys: Key, *, steps: int, rounds: int
) -> tuple[Array, Array]:
    """(w [runs, rounds + 1, d]; the largest |grad F_k|^2 of each client's local iterates [runs, rounds, N])."""
    round_fn = make_round(sampling.everyone(), executors.vmapped())
    measure = local_gradients(method.solver, steps, variance=_none)
    state = initial_state(method, federation, key=keys[0], round_fn=round_fn)
    kept: Any = state.server
    server = dataclasses.replace(kept, params={"w": start})

    def one(key: Key) -> tuple[Array, Array]:
        def step(state: Any, _: None) -> tuple[Any, tuple[Array, Array]]:
            seen = survey(measure, method, state, federation, executor=executors.vmapped())
            after = round_fn(method, state, federation)[0]
            return after, (after.server.params["w"], seen["gradient_squared"])

        w, squares = jax.lax.scan(step, dataclasses.replace(state, key=key, server=server), length=rounds)[1]
        return jnp.concatenate([start[None], w]), squares

    return jax.vmap(one)(keys)


_runs = jax.jit(_all_runs, static_argnames=("steps", "rounds"))


@jax.jit
def _expected(functions: oracles.Quadratics, noise: Array, start: Array, rates: Array) -> tuple[Array, Array]:
    """Mean, and standard deviation of a normal w, of F(w) - F* before and after rounds of steps [rounds, E]."""
    H, best = functions.hessian, functions.optimum

    def seen(state: oracles.Moments) -> tuple[Array, Array]:
        spread, slope = H @ state.covariance, H @ (state.mean - best)
        variance = jnp.sum(spread * spread.T) / 2 + slope @ state.covariance @ slope
        return state.gap(functions), jnp.sqrt(variance)

    def one(state: oracles.Moments, rate: Array) -> tuple[oracles.Moments, tuple[Array, Array]]:
        state = oracles.moments(functions, learning_rate=rate, noise=noise)(state)
        return state, seen(state)

    first = oracles.Moments(start, jnp.zeros((*start.shape, *start.shape)))
    after = jax.lax.scan(one, first, rates)[1]
    return jax.tree.map(lambda zero, rest: jnp.concatenate([zero[None], rest]), seen(first), after)

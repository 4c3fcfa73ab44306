"""Theorems 1 and 2 of Li et al. 2020 against the measured error of softmax regression, every constant known."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.analysis import bounds, softmax
from fedjax_het.analysis.bounds import Curve
from fedjax_het.analysis.constants import Constants, replace
from fedjax_het.analysis.gradient_bound import local_gradients
from fedjax_het.analysis.softmax.regression import Regression, pull, total
from fedjax_het.analysis.variances import of_batches, row_variance
from fedjax_het.assembly import partition
from fedjax_het.check import positive_int, require, scalar
from fedjax_het.datasets import synthetic
from fedjax_het.engine import executors, initial_state, survey
from fedjax_het.federation import Data, Federation
from fedjax_het.local.schedules import inverse_time
from fedjax_het.models import softmax as softmax_problem
from fedjax_het.pool import pool
from fedjax_het.problem import Model, Problem
from fedjax_het.theory.schemes import scheme
from fedjax_het.typing import Array, Bound, Key

__all__ = ["BoundRun", "bound_run", "unit_synthetic"]


@dataclasses.dataclass(frozen=True, eq=False)
class BoundRun:
    """A theorem, and the run that it is about; host arrays in double precision.

    Attributes:
        exact: what is known of the functions, w* and its certificate included.
        constants: those with sigma_k^2 and Li's G^2 as the largest met on the runs.
        steps: gradient steps after each round, int [T + 1].
        gaps: F(w) - F* of every run [seeds, T + 1].
        mean: their mean [T + 1].
        half_width: half of the mean's 95 % confidence interval (Student's t) [T + 1].
        distances: |w - w*|^2 of every run [seeds, T + 1].
        theorem: the bound of F(w) - F*: Theorem 1, or 2 where clients are drawn; its terms are the breakdown.
        explicit: E1, or E2 where clients are drawn, with the same step sizes; of E|w - w*|^2, and nan with the
            reason where the steps are too long for it.
        ratio: mean / theorem [T + 1].
    """

    exact: softmax.Exact
    constants: Constants
    steps: np.ndarray
    gaps: np.ndarray
    mean: np.ndarray
    half_width: np.ndarray
    distances: np.ndarray
    theorem: Curve
    explicit: Curve
    ratio: np.ndarray


def unit_synthetic(
    alpha: float = 1.0,
    beta: float = 1.0,
    *,
    clients: int = 20,
    largest: int = 150,
    features: int = 60,
    classes: int = 10,
    seed: int = 0,
) -> Federation:
    """Synthetic(alpha, beta) with a column of ones, scaled so that the longest row has length 1.

    Then L <= 1/2 + l2, without which the theorem says nothing at a number of steps that anybody can take. The
    model needs no bias of its own.

    Args:
        alpha: see `fedjax_het.datasets.synthetic`, as beta, features, classes and seed.
        beta: spread of the features.
        clients: N.
        largest: cap of a client's rows.
        features: d before the column of ones.
        classes: K.
        seed: of the draw.
    """
    most = positive_int("largest", largest, remedy="rows of a client, such as 150")
    shape: dict[str, Any] = {"clients": clients, "features": features, "classes": classes, "seed": seed}
    drawn = np.asarray(synthetic(alpha, beta, test=0.0, **shape).train.size[0])
    made = synthetic(alpha, beta, test=0.0, sizes=np.minimum(drawn, most).tolist(), **shape)
    x = np.column_stack([np.asarray(made.x, np.float64), np.ones(len(made.x))])
    x /= np.linalg.norm(x, axis=1).max()
    rows = np.split(np.asarray(made.train.index), np.cumsum(np.asarray(made.train.size[0]))[:-1])
    scaled = pool(x, np.asarray(made.y), num_classes=classes, name=f"unit {made.spec.pool.name}")
    return partition(scaled, rows, test=0.0, valid=0.0, seed=seed)


def bound_run(
    federation: Federation,
    *,
    l2: float = 0.1,
    bias: bool = False,
    local_steps: int = 1,
    rounds: int = 200,
    batch_size: int | None = 24,
    clients_per_round: int | None = None,
    stretch: float = 1.0,
    seeds: int = 8,
    seed: int = 0,
) -> BoundRun:
    """Run FedAvg with the theorem's step sizes from 0 and lay its error beside the theorem.

        eta_s = 2 / (mu (gamma + s)),  gamma = stretch max(8 L / mu, E)

    Batches are drawn anew at every step, as the theorem assumes. Before every round all clients, drawn or not,
    walk their local steps once more (with batches of their own) and |grad F_k|^2 + sigma_k^2 is taken at each:
    the largest, over steps, clients, rounds and seeds, is G^2. Everything is in double precision. Weights are
    p_k = n_k / n.

    Args:
        federation: of rows with one label each, such as `unit_synthetic()`.
        l2: mu.
        bias: whether the model has one; not for `unit_synthetic`, whose rows end with a constant.
        local_steps: E.
        rounds: T / E.
        batch_size: B; None for full batches.
        clients_per_round: K of scheme I; None for everyone.
        stretch: >= 1; the theorem takes any, and E (4 E where clients are drawn) makes E1 (E2) legal too.
        seeds: runs, >= 2.
        seed: of the first.

    Returns:
        BoundRun.

    Raises:
        TypeError, ValueError: settings of the wrong kind or range.

    Reference:
        Li, Huang, Yang, Wang, Zhang, ICLR 2020, Theorems 1 and 2.
    """
    steps = positive_int("local_steps", local_steps, remedy="E, such as 5")
    rounds = positive_int("rounds", rounds, remedy="a run has at least one")
    runs = positive_int("seeds", seeds, least=2, remedy="a confidence interval needs several, such as 8")
    wider = scalar("stretch", stretch, least=1, remedy="1 are the theorem's own step sizes")
    scalar("l2", l2, above=0, remedy="it is mu, such as 0.1")
    with jax.enable_x64(True):
        problem = softmax_problem(federation.pool, bias=bias, l2=l2)
        exact = softmax.constants(problem, federation, batch_size=batch_size)
        mu = softmax.strong_convexity(exact.model)
        top = softmax.smoothness(exact.model)[exact.model.p > 0].max()
        eta = inverse_time(2 / mu, wider * max(8 * top / mu, steps))
        name = "everyone" if clients_per_round is None else "scheme I"
        algorithm, round_fn = scheme(
            name,
            problem,
            federation,
            eta,
            steps=steps,
            batch_size=batch_size,
            clients_per_round=clients_per_round,
        )
        noise = Bound(_noise, (batch_size,))
        measure = local_gradients(algorithm.solver, steps, variance=noise)
        keys = jax.random.split(jax.random.key(seed), runs)
        found = jax.device_get(
            _runs(
                round_fn, algorithm, measure, exact.model, jnp.asarray(exact.optima.point), keys, rounds=rounds
            )
        )
        values, distances, squares, noises = (np.asarray(each) for each in found)
        gaps = np.maximum(values - exact.optima.value, 0)
        known = replace(
            exact.constants,
            provenance="trajectory_max",
            li_G_sq=squares.max(),
            sigma_sq=np.nanmax(noises, axis=(0, 1), initial=0.0),
        )
        horizon = steps * rounds
        if clients_per_round is None:
            theorem = bounds.li2020.theorem1(known, eta, steps, horizon)
            explicit = bounds.explicit.e1(known, eta, steps, horizon)
        else:
            theorem = bounds.li2020.theorem2(known, eta, steps, horizon, clients=clients_per_round)
            explicit = bounds.explicit.e2(known, eta, steps, horizon, clients=clients_per_round)
    mean = gaps.mean(0)
    require(theorem.steps.shape == mean.shape, "the theorem and the run must have the same rounds, got others")
    width = _student(runs) * gaps.std(0, ddof=1) / np.sqrt(runs)
    return BoundRun(
        exact, known, theorem.steps, gaps, mean, width, distances, theorem, explicit, theorem.ratio(mean)
    )


def _student(runs: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, runs - 1))


def _noise(batch_size: int | None, problem: Problem, model: Model, data: Data) -> Array:
    """sigma_k^2 of a batch drawn anew."""
    if batch_size is None:
        return jnp.zeros(())
    of_row = row_variance(problem, model, data, jax.random.key(0))
    return of_batches(of_row, data.size, jnp.minimum(batch_size, jnp.maximum(data.size, 1)))


def _all_runs(
    round_fn: Any, algorithm: Any, measure: Any, model: Regression, best: Array, keys: Key, *, rounds: int
) -> tuple[Array, Array, Array, Array]:
    """(F, |w - w*|^2 [seeds, rounds + 1]; the largest squares [seeds, rounds], noises [seeds, rounds, N])."""
    federation = model.federation

    def matrix(state: Any) -> Array:
        head = state.server.params["head"]
        return jnp.concatenate([head["kernel"], head["bias"][None]]) if model.bias else head["kernel"]

    def value(state: Any) -> tuple[Array, Array]:
        at = matrix(state)
        return total(model, lambda data: pull(model, data, at)[0], jnp.zeros(())), jnp.sum((at - best) ** 2)

    def step(state: Any, _: None) -> tuple[Any, Any]:
        seen = survey(measure, algorithm, state, federation, executor=executors.vmapped())
        after, _ = round_fn(algorithm, state, federation)
        return after, (*value(after), seen["li_G_sq"], seen["sigma_sq"])

    def one(key: Key) -> tuple[Array, Array, Array, Array]:
        state = initial_state(algorithm, federation, key=key, round_fn=round_fn)
        first, away = value(state)
        _, (values, distances, squares, noises) = jax.lax.scan(step, state, length=rounds)
        return (
            jnp.concatenate([first[None], values]),
            jnp.concatenate([away[None], distances]),
            squares,
            noises,
        )

    return jax.vmap(one)(keys)


_runs = jax.jit(_all_runs, static_argnames=("rounds",))

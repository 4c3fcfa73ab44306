"""Figure 1 of Li et al. 2020: rounds to a target loss against local steps and against clients; the schemes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.check import known, positive_int, positive_ints, scalar
from fedjax_het.datasets import digits, synthetic
from fedjax_het.engine import initial_state
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity import quantity
from fedjax_het.heterogeneity.label import classes
from fedjax_het.local.schedules import inverse_time
from fedjax_het.models import softmax
from fedjax_het.problem import Problem
from fedjax_het.theory.schemes import SCHEMES, scheme
from fedjax_het.typing import Array

__all__ = ["LiRuns", "digit_clients", "li2020_runs", "rounds_to"]

RIDGE = 1e-4
"""Weight decay of the paper; its code has 1e-3 by default."""

DATA = ("synthetic(0,0)", "synthetic(1,1)", "digits, balanced", "digits, unbalanced")
"""What (a) is run on; (b) is run on the first, (c, d) on the digits."""

EVALUATED = 4000
"""Training rows that the loss is taken over, at most: a fixed uniform draw of all clients' rows."""


@dataclasses.dataclass(frozen=True, eq=False)
class LiRuns:
    """What figure 1 of Li et al. shows; rounds are nan where the target was not reached.

    Attributes:
        local_steps: E of (a), int [a].
        rounds: data -> rounds to its target at each E, with everything else as in (a), float [a].
        clients: K of (b), int [b].
        rounds_by_clients: data -> rounds to its target at each K, float [b].
        losses: data -> scheme -> the loss before and after each round of (c, d), float [rounds + 1].
        targets: data -> the loss that (a) and (b) wait for, chosen here: the paper does not say its own.
    """

    local_steps: np.ndarray
    rounds: dict[str, np.ndarray]
    clients: np.ndarray
    rounds_by_clients: dict[str, np.ndarray]
    losses: dict[str, dict[str, np.ndarray]]
    targets: dict[str, float]


def digit_clients(clients: int, *, power: float = 0.0, seed: int = 0) -> Federation:
    """Handwritten digits, two classes a client: of equal sizes, or of sizes in proportion to rank^-power.

    It stands for the paper's MNIST, balanced and unbalanced (power law), at the size of a unit test.

    Args:
        clients: N.
        power: 0 for equal sizes.
        seed: of the draw.
    """
    if power == 0:
        return classes(digits(), clients=clients, per_client=2, seed=seed, test=0.1)
    sized = quantity.power_law(digits(), clients=clients, exponent=power, min_size=5, seed=seed, test=0.1)
    return classes(sized, per_client=2, seed=seed)


def li2020_runs(
    *,
    local_steps: Sequence[int] = (10, 50, 200, 600),
    clients_per_round: Sequence[int] = (5, 10, 30),
    rounds: int = 160,
    scheme_rounds: int = 60,
    num_clients: int = 100,
    digit_holders: int = 50,
    largest: int | None = None,
    synthetic_target: float = 1.1,
    digits_target: float = 0.9,
    data: Sequence[str] = DATA,
    schemes: Sequence[str] = SCHEMES[1:],
    seed: int = 0,
) -> LiRuns:
    """Figure 1 of Li et al. 2020: (a) rounds against E, (b) against K, (c, d) the schemes.

        (a) scheme I, K = 10, B = 64, eta_r = 0.1 / (1 + r): rounds until the loss is at the target, for each E
            on Synthetic(0, 0), Synthetic(1, 1) and the two digit sets
        (b) the same with E = 50 on Synthetic(0, 0), for each K
        (c, d) K = 10, E = 100, B = 24, eta_r = 0.1 / (1 + r) (0.9 / (1 + r) for the original scheme): losses on
            balanced and on unbalanced digits

    The digits stand for MNIST, two classes a client. E counts gradient steps. With the sizes given here (a) has
    its minimum inside on both synthetic sets, as the paper's figure has, and falls throughout on the digits, as
    its balanced MNIST does. No theorem covers these step sizes.

    Args:
        local_steps: E of (a).
        clients_per_round: K of (b).
        rounds: of (a) and (b) at most.
        scheme_rounds: of (c, d).
        num_clients: N of the synthetic sets.
        digit_holders: N of the digit sets.
        largest: cap of the synthetic clients' rows; None for the published sizes.
        synthetic_target: the loss to wait for; the paper does not give its own.
        digits_target: the same for digits.
        data: names of `DATA`, to leave some out.
        schemes: names of `fedjax_het.theory.schemes.SCHEMES` for (c, d).
        seed: of data and runs.

    Returns:
        LiRuns.

    Raises:
        TypeError, ValueError: settings of the wrong kind or range.

    Reference:
        Li, Huang, Yang, Wang, Zhang, ICLR 2020, figure 1, section 5 and appendix D.
    """
    steps = positive_ints("local_steps", local_steps, remedy="E, such as (10, 50, 200)")
    cohorts = positive_ints("clients_per_round", clients_per_round, remedy="K, such as (10, 30)")
    makers: dict[str, Callable[[], Federation]] = {
        DATA[0]: lambda: _capped(0.0, num_clients, largest, seed),
        DATA[1]: lambda: _capped(1.0, num_clients, largest, seed),
        DATA[2]: lambda: digit_clients(digit_holders, seed=seed),
        DATA[3]: lambda: digit_clients(digit_holders, power=1.0, seed=seed),
    }
    held = {known("data", name, DATA): makers[name]() for name in data}
    targets = {name: digits_target if name.startswith("digits") else synthetic_target for name in held}

    def wait(name: str, each: int, cohort: int) -> float:
        return rounds_to(
            held[name],
            "scheme I",
            local_steps=each,
            clients_per_round=cohort,
            rate=0.1,
            target=targets[name],
            rounds=rounds,
            seed=seed,
        )[0]

    def follow(name: str, each: str) -> np.ndarray:
        rate = 0.9 if each == "original" else 0.1
        settings: dict[str, Any] = {"local_steps": 100, "clients_per_round": 10, "rate": rate, "batch_size": 24}
        return rounds_to(held[name], each, rounds=scheme_rounds, seed=seed, **settings)[1]

    return LiRuns(
        local_steps=np.array(steps),
        rounds={name: np.array([wait(name, each, 10) for each in steps]) for name in held},
        clients=np.array(cohorts),
        rounds_by_clients={
            name: np.array([wait(name, 50, each) for each in cohorts]) for name in DATA[:1] if name in held
        },
        losses={name: {each: follow(name, each) for each in schemes} for name in DATA[2:] if name in held},
        targets=targets,
    )


def _capped(spread: float, clients: int, largest: int | None, seed: int) -> Federation:
    """Synthetic(spread, spread), each client cut to `largest` rows."""
    made = synthetic(spread, spread, clients=clients, seed=seed)
    if largest is None:
        return made
    most = positive_int("largest", largest, remedy="rows of a client, such as 200")
    sizes = np.asarray(made.train.size[0]) + np.asarray(made.test.size[0])
    return synthetic(spread, spread, clients=clients, seed=seed, sizes=np.minimum(sizes, most).tolist())


def rounds_to(
    federation: Federation,
    name: str,
    *,
    local_steps: int,
    clients_per_round: int,
    rate: float,
    batch_size: int = 64,
    target: float = -np.inf,
    rounds: int = 200,
    seed: int = 0,
) -> tuple[float, np.ndarray]:
    """Run a scheme from w_0 = 0 with step sizes rate / (1 + r) until the loss is at most `target`.

    The loss is the clients' mean cross-entropy weighted by p_k, of the averaged model, over a fixed draw of the
    training rows; the ridge term of 1e-4 is trained with and not counted. It is recorded after every round.

    Args:
        federation: of rows with one label each.
        name: one of `fedjax_het.theory.schemes.SCHEMES`.
        local_steps: E; changing it compiles nothing.
        clients_per_round: K.
        rate: eta_0.
        batch_size: B, drawn anew at every step.
        target: the loss to wait for; minus infinity runs all rounds.
        rounds: how many at most.
        seed: of the run.

    Returns:
        (rounds that it took, nan if the loss never came down to the target; losses before and after each round
        [rounds + 1], nan after the last).

    Raises:
        TypeError, ValueError: a setting of the wrong kind or range.

    Reference:
        Li, Huang, Yang, Wang, Zhang, ICLR 2020, section 5 and appendix D.

    Departures:
        The authors' code repeats eta_0 in the second round, clips gradients at norm 60, and tests on all rows.
    """
    steps = positive_int("local_steps", local_steps, remedy="E, such as 100")
    most = positive_int("rounds", rounds, remedy="a run has at least one")
    eta = inverse_time(scalar("rate", rate, above=0, remedy="eta_0, such as 0.1"), 1.0, unit="round")
    problem = softmax(federation.pool, l2=RIDGE)
    algorithm, round_fn = scheme(
        name, problem, federation, eta, steps=steps, batch_size=batch_size, clients_per_round=clients_per_round
    )
    state = initial_state(algorithm, federation, key=jax.random.key(seed), round_fn=round_fn)
    rows = _evaluated(federation, seed)
    level = jnp.asarray(target, jnp.result_type(float))
    count, losses = jax.device_get(_race(round_fn, algorithm, state, federation, rows, level, most=most))
    losses = np.asarray(losses, np.float64)
    return (float(count) if losses[count] <= target else float("nan")), losses


def _evaluated(federation: Federation, seed: int) -> Array:
    """Numbers of the pool's rows that the loss is taken over."""
    held = np.unique(np.asarray(federation.train.index)[: int(np.asarray(federation.train.size).sum())])
    rng = np.random.default_rng(seed)
    return jnp.asarray(np.sort(rng.permutation(held)[:EVALUATED]), jnp.int32)


def _run(
    round_fn: Any, algorithm: Any, state: Any, federation: Federation, rows: Array, target: Array, *, most: int
) -> tuple[Array, Array]:
    """(rounds done, losses [most + 1])."""
    problem: Problem = algorithm.problem
    x, y = federation.x[rows].astype(jnp.result_type(float)), federation.y[rows]

    def loss(state: Any) -> Array:
        out, _ = problem.apply(state.server.params, (), x)
        return jnp.mean(problem.losses(out, y))

    def goes_on(carry: tuple[Any, Array, Array]) -> Array:
        _, count, losses = carry
        return (count < most) & ~(losses[count] <= target)

    def step(carry: tuple[Any, Array, Array]) -> tuple[Any, Array, Array]:
        state, count, losses = carry
        state, _ = round_fn(algorithm, state, federation)
        return state, count + 1, losses.at[count + 1].set(loss(state))

    losses = jnp.full((most + 1,), jnp.nan, jnp.result_type(float)).at[0].set(loss(state))
    _, count, losses = jax.lax.while_loop(goes_on, step, (state, jnp.zeros((), jnp.int32), losses))
    return count, losses


_race = jax.jit(_run, static_argnames=("most",))

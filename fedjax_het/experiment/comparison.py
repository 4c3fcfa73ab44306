"""compare: several methods on the same federation, from the same weights, on the same cohorts and batches."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.algorithm import Client, Cohort, Report
from fedjax_het.algorithms import ALGORITHMS, make
from fedjax_het.check import known, positive_int
from fedjax_het.construct import pooled
from fedjax_het.datasets import digits
from fedjax_het.engine import History, State, sampling, simulate, stack, survey
from fedjax_het.federation import Federation, pool_rows
from fedjax_het.heterogeneity import label
from fedjax_het.local import Solver, sgd
from fedjax_het.metrics import class_accuracy, reweighted_accuracy
from fedjax_het.metrics.fairness import worst_decile
from fedjax_het.models import mlp
from fedjax_het.problem import Problem
from fedjax_het.typing import Array, PyTree

__all__ = ["CENTRALISED", "METHODS", "Comparison", "Line", "compare", "digits_study"]

CENTRALISED = "centralised"
"""FedAvg on the pooled data: not an algorithm, but the line that every federation is held against."""

METHODS = ("fedavg", "fedprox", "scaffold", "ifca", "fedper", "local_only", CENTRALISED)


@dataclasses.dataclass(frozen=True)
class Line:
    """One method's results; arrays have one entry a seed.

    Attributes:
        name: the method.
        global_accuracy: of the global model on the union test set; None without a global model.
        client_accuracy: of each client's own model on the test set reweighted to its labels, [seeds, N].
        bytes_down: all clients and rounds together, [seeds]; 0 for centralised training, which sends no models.
        bytes_up: likewise.
        steps: gradient steps of all clients together, [seeds].
        seconds: wall-clock for all seeds, compilation included.
        history: all that was recorded, with a leading dimension "seed".
    """

    name: str
    global_accuracy: np.ndarray | None
    client_accuracy: np.ndarray
    bytes_down: np.ndarray
    bytes_up: np.ndarray
    steps: np.ndarray
    seconds: float
    history: History

    @property
    def mean(self) -> np.ndarray:
        """Mean client accuracy, [seeds]."""
        return self.client_accuracy.mean(axis=-1)

    @property
    def worst(self) -> np.ndarray:
        """Mean accuracy of the worst tenth of clients, [seeds]."""
        return worst_decile(self.client_accuracy, np.ones_like(self.client_accuracy, bool))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Every method's line, and the protocol in words."""

    lines: tuple[Line, ...]
    protocol: str


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _ByClass:
    """A measure: the accuracy by class of every client's own model on the same rows x [B, ...], y [B]."""

    x: Array
    y: Array

    def init(self, algorithm: Any, server: PyTree) -> PyTree:
        return ()

    def client(
        self, carry: PyTree, algorithm: Any, server: PyTree, client: Client, report: Report | None
    ) -> tuple[PyTree, PyTree]:
        out = algorithm.predict(algorithm.personalise(server, client), self.x)
        return (), class_accuracy(out, self.y, out.shape[-1])

    def finish(
        self, carry: PyTree, algorithm: Any, server: PyTree, total: PyTree, each: PyTree, cohort: Cohort
    ) -> tuple[dict[str, Array], PyTree]:
        return {"accuracy": each}, carry


_survey = jax.jit(survey)


def digits_study(
    *, clients: int = 40, alpha: float = 0.1, min_size: int = 20
) -> tuple[Federation, Problem, Solver]:
    """The default study: scikit-learn's digits under Dirichlet label skew, an MLP of 64 units, plain SGD."""
    pool = digits()
    federation = label.dirichlet(pool, clients=clients, alpha=alpha, min_size=min_size, seed=0)
    solver = sgd(0.1, batch_size=20, epochs=5)
    return federation, mlp(pool, hidden=(64,)), solver


def _run(
    name: str,
    algorithm: Any,
    federation: Federation,
    test: tuple[Array, Array],
    proportions: np.ndarray,
    keys: Sequence[Any],
    rounds: int,
    sampler: Any,
) -> Line:
    began = time.perf_counter()
    histories, by_class = [], []
    for position, key in enumerate(keys):
        # one entry a seed where a number (the centralised run's steps) differs between seeds
        one = algorithm[position] if isinstance(algorithm, list) else algorithm
        state, history = simulate(
            one, federation, key=key, rounds=rounds, sampler=sampler, every=max(1, rounds // 10)
        )
        histories.append(history)
        if history.interrupted:
            raise KeyboardInterrupt
        by_class.append(_class_accuracies(one, state, federation, test))
    both = stack(histories)
    moves = 0 if name == CENTRALISED else 1
    return Line(
        name,
        both["global/accuracy"][:, -1] if "global/accuracy" in both else None,
        reweighted_accuracy(np.stack(by_class), proportions),
        both["bytes_down"].sum(axis=1) * moves,
        both["bytes_up"].sum(axis=1) * moves,
        np.where(both["present"], both["info/steps"], 0).sum(axis=(1, 2)),
        time.perf_counter() - began,
        both,
    )


def _class_accuracies(
    algorithm: Any, state: State, federation: Federation, test: tuple[Array, Array]
) -> np.ndarray:
    return np.asarray(_survey(_ByClass(*test), algorithm, state, federation)["accuracy"])


def compare(
    methods: Sequence[str] = METHODS,
    *,
    federation: Federation | None = None,
    problem: Problem | None = None,
    solver: Solver | None = None,
    rounds: int = 100,
    cohort: int = 10,
    seeds: int = 3,
    announce: Callable[[str], None] = lambda name: None,
) -> Comparison:
    """Run several methods under one protocol.

    Every method starts from the same weights, draws the same cohorts and visits its rows in the same batches,
    seed by seed: all of it derives from the run's key, never from the method. The federation is the same for
    all seeds. Nothing is tuned.

    Args:
        methods: keys of `ALGORITHMS`, or "centralised": FedAvg on the pooled data with as many gradient steps
            in all as FedAvg's cohorts take (run under the same key if FedAvg is not among the methods).
        federation: whom to train; default `digits_study()`. It needs `truth["proportions"]`.
        problem: what to learn; goes with `federation`.
        solver: local work.
        rounds: of every method.
        cohort: clients of a round, drawn uniformly.
        seeds: runs of every method.
        announce: called with each method's name before it runs.

    Raises:
        ValueError: unknown method; numbers below 1; a federation without label proportions.
    """
    for method in methods:
        known("methods", method, METHODS if method == CENTRALISED else (*ALGORITHMS, CENTRALISED))
    rounds = positive_int("rounds", rounds, remedy="a run has at least one")
    seeds = positive_int("seeds", seeds, remedy="every method runs at least once")
    given = (federation, problem, solver)
    if all(part is None for part in given):
        federation, problem, solver = digits_study()
    if federation is None or problem is None or solver is None:
        raise ValueError("federation, problem and solver must be given together, or none of them")
    if "proportions" not in federation.truth:
        raise ValueError(
            "federation must say its label proportions in truth['proportions'] [N, K], got "
            f"{sorted(federation.truth)}: build it with fh.heterogeneity.label"
        )
    proportions = np.asarray(federation.truth["proportions"])
    rows = federation.test.index[: int(federation.test.size.sum())]
    test = pool_rows(federation.x, federation.y, federation.spec.pool.scale, rows)
    keys = [jax.random.key(seed) for seed in range(seeds)]
    sampler = sampling.uniform(cohort)
    sampler.init(federation.num_clients)
    lines: list[Line] = []
    for method in methods:
        announce(method)
        if method == CENTRALISED:
            steps = _steps_per_round(lines, federation, solver, rounds, cohort, seeds)
            algorithm = [make("fedavg", problem, _paced(solver, count)) for count in steps]
            everyone = pooled(federation)
            lines.append(
                _run(method, algorithm, everyone, test, proportions, keys, rounds, sampling.everyone())
            )
        else:
            algorithm = make(method, problem, solver)
            lines.append(_run(method, algorithm, federation, test, proportions, keys, rounds, sampler))
    protocol = (
        f"{federation.num_clients} clients of {federation.spec.pool.name}, {cohort} a round, {rounds} rounds, "
        f"{seeds} seeds; same weights, cohorts and batches for all; rates untuned"
    )
    return Comparison(tuple(lines), protocol)


def _paced(solver: Solver, steps: int) -> Solver:
    """The same solver, taking `steps` steps a round."""
    plan = dataclasses.replace(solver.plan, amount=jnp.asarray(steps, jnp.int32), unit="steps")
    return dataclasses.replace(solver, plan=plan)


def _steps_per_round(
    lines: Sequence[Line],
    federation: Federation,
    solver: Solver,
    rounds: int,
    cohort: int,
    seeds: int,
) -> list[int]:
    """What FedAvg's cohorts take a round, seed by seed, or what they would take on average."""
    for line in lines:
        if line.name == "fedavg":
            return [max(1, round(int(total) / rounds)) for total in line.steps]
    sizes = np.asarray(federation.train.size[0])
    batch = solver.plan.batch_size or max(1, int(sizes.max()))
    amount = int(solver.plan.amount)
    each = amount * -(-sizes // batch) if solver.plan.unit == "epochs" else np.full(sizes.shape, amount)
    return [max(1, round(float(np.where(sizes > 0, each, 0).mean()) * cohort))] * seeds

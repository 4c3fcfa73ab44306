"""Li's G^2 on the trajectory: the largest stochastic gradient that local work meets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import tree
from fedjax_het.algorithm import Client, Cohort, Report
from fedjax_het.analysis.local_walk import check_walk, start_of, walk
from fedjax_het.analysis.variances import of_batches, row_variance
from fedjax_het.check import positive_int, short
from fedjax_het.federation import Data
from fedjax_het.local import Solver
from fedjax_het.problem import Model, Problem, full_gradient, objective
from fedjax_het.typing import Array, Params, PyTree, static

__all__ = ["LocalGradients", "Variance", "local_gradients"]

Variance = Callable[[Problem, Model, Data], Array]
"""(problem, model, one client's rows) -> sigma_k^2 = E|g - grad F_k|^2 of a local step's gradient, scalar."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LocalGradients:
    """See `local_gradients`.

    Attributes:
        solver: the local steps.
        room: the most of them that a client may take; static.
        variance: sigma_k^2 of a local step's gradient, or None for the solver's own batches; static.
        plain: whether they descend F_k itself; static.
    """

    solver: Solver
    room: int = static()
    variance: Variance | None = static()
    plain: bool = static()

    def init(self, algorithm: Any, server: PyTree) -> PyTree:
        """Nothing to remember.

        Raises:
            TypeError: the algorithm does not say what its clients minimise.
        """
        check_walk(algorithm, self.plain)
        return ()

    def client(
        self, carry: PyTree, algorithm: Any, server: PyTree, client: Client, report: Report | None
    ) -> tuple[PyTree, PyTree]:
        """Total: nothing. Each: the largest |grad F_k|^2 + sigma_k^2, |grad F_k|^2 and sigma_k^2.

        Raises:
            TypeError: the method has not one model a client.
        """
        problem = algorithm.problem
        f = objective(problem, train=False)
        buffers = start_of(algorithm, server, client).buffers

        def seen(params: Params, start: Params, grads: Params) -> tuple[Array, Array]:
            model = Model(params, buffers)
            whole, _ = full_gradient(f, model, client.data, jax.random.key(0))  # nothing is drawn in prediction
            squared = tree.sum_of_squares(whole)
            return squared, self.noise(problem, model, client.data).astype(squared.dtype)

        solution, _ = walk(
            algorithm, server, client, solver=self.solver, probe=seen, room=self.room, plain=self.plain
        )
        squared, noise = solution.trace
        fits = solution.steps <= self.room  # a walk longer than its room must not pass unseen
        # beyond the last step the trace is zero, which no maximum of squares notices
        return (), tuple(jnp.where(fits, jnp.max(v), jnp.nan) for v in (squared + noise, squared, noise))

    def noise(self, problem: Problem, model: Model, data: Data) -> Array:
        """sigma_k^2 of one local step: that of the smallest batch that an epoch has; 0 for full batches."""
        if self.variance is not None:
            return self.variance(problem, model, data)
        if self.solver.plan.batch_size is None:
            return jnp.zeros(())
        of_row = row_variance(problem, model, data, jax.random.key(0))
        last = (jnp.maximum(data.size, 1) - 1) % self.solver.plan.rows(data) + 1
        return of_batches(of_row, data.size, last)

    def finish(
        self, carry: PyTree, algorithm: Any, server: PyTree, total: PyTree, each: PyTree, cohort: Cohort
    ) -> tuple[dict[str, Array], PyTree]:
        """The clients' own, and the largest."""
        both, squared, noise = (jnp.where(cohort.present, value, jnp.nan) for value in each)
        largest = jnp.max(jnp.where(cohort.present, both, -jnp.inf))
        values = {
            "li_G_sq": jnp.where(jnp.any(cohort.present), largest, jnp.nan),
            "by_client": both,
            "gradient_squared": squared,
            "sigma_sq": noise,
        }
        return values, carry


def local_gradients(
    solver: Solver, room: int, *, variance: Variance | None = None, plain: bool = False
) -> LocalGradients:
    """Li's G^2 over a round: max over clients k and steps s of |grad F_k(w_k,s)|^2 + sigma_k^2(w_k,s).

    The theorem bounds E|stochastic gradient|^2 on local iterates, of all clients, drawn or not. Every client's
    local work is walked once more, as by `local_path`, and its whole gradient taken before each step: a pass
    over its rows a step. Ask in a survey of each round (`fedjax_het.survey`, which is pure: under `scan`
    beside the round) for all clients; the largest over the rounds is the constant, "trajectory_max". A measure
    in a round asks the cohort only. It is not a measure of heterogeneity: IID clients have one too.

    Args:
        solver: the local steps, such as the algorithm's own.
        room: E, the most local steps that a client takes.
        variance: (problem, model, data) -> sigma_k^2 of the gradient of one local step. If None, 0 for full
            batches, and else that of a batch without replacement, as small as an epoch's last one; dropout has
            no part in it.
        plain: as in `local_path`. The gradients are those of F_k itself in any case.

    Returns:
        A `Measure` with values, (loss / parameter)^2: "li_G_sq", scalar; and the largest of each client,
        float [C], nan where absent: "by_client" of the sum, "gradient_squared" of |grad F_k|^2 and "sigma_sq"
        of sigma_k^2. A client with more steps than `room` has nan.

    Raises:
        TypeError: an argument of the wrong kind; `init`: an algorithm that names no objective.
        ValueError: no room.

    Reference:
        Li, Huang, Yang, Wang, Zhang, ICLR 2020, Assumption 4 (G^2) and 3 (sigma_k^2).

    Departures:
        Assumed of all points, A4 contradicts strong convexity (Khaled, Mishchenko, Richtarik, AISTATS 2020):
        the points that a run visits are the only ones for which it can hold.
    """
    if not isinstance(solver, Solver):
        raise TypeError(f"solver must be a Solver, got {short(solver)}: make one with fh.local.sgd")
    if not (variance is None or callable(variance)):
        raise TypeError(f"variance must be callable, got {short(variance)}: (problem, model, data) -> scalar")
    room = positive_int("room", room, remedy="give the most local steps that a client takes")
    return LocalGradients(solver, room, variance, bool(plain))

"""Per-FedAvg: a global model from which a gradient step leads each client to a good model of its own."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.fedavg import Server, average_step
from fedjax_het.algorithms.local_loop import local_loop, slope
from fedjax_het.algorithms.parts import averaging, check_parts
from fedjax_het.check import known, number, whole
from fedjax_het.federation import Batch, Federation
from fedjax_het.local import Clock, Optax, Solver
from fedjax_het.problem import Aux, Model, Problem, full_gradient, objective
from fedjax_het.typing import Array, Key, Params, PyTree, static
from fedjax_het.weighting import uniform

__all__ = ["PerFedAvg", "perfedavg"]

VARIANTS = {"exact": 3, "fo": 2, "hf": 3}
"""The batches that a step reads of each variant."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PerFedAvg:
    """See `perfedavg`.

    Attributes:
        problem: what to learn.
        solver: local work; its rate is the paper's beta.
        server: the server's optimiser.
        weighting: the default weighting.
        alpha: rate of the step that a client makes from w, scalar.
        delta: of the difference quotient, scalar.
        adaptation: steps that a client makes before use, int32 scalar.
        variant: a key of `VARIANTS`; static.
        separate: whether each gradient of a step has a batch of its own; static.
    """

    problem: Problem
    solver: Solver
    server: Optax
    weighting: Any
    alpha: Array
    delta: Array
    adaptation: Array
    variant: str = static()
    separate: bool = static()

    def init(self, key: Key, federation: Federation) -> tuple[Server, PyTree]:
        """A fresh model; clients keep nothing but buffers that they own."""
        model = self.problem.fresh(keys.stream(key, "params"))
        server = Server(model.params, self.problem.shared(model.buffers), self.server.init(model.params))
        return server, tree.stack(self.problem.own(model.buffers), federation.num_clients)

    def batches(self, batch: Batch, client: Client, step: Array) -> tuple[Batch, Batch, Batch]:
        """D, D' and D'' of a local step: consecutive batches of the client's order of rows, or one for all."""
        if not self.separate:
            return batch, batch, batch
        order, count = keys.seed(keys.stream(client.key, "order")), VARIANTS[self.variant]

        def at(place: int) -> Batch:
            position, counts = self.solver.plan.positions(client.data, order, count * step + place)
            taken = client.data.take(position)
            return taken._replace(weight=jnp.where(counts, taken.weight, 0))

        first, second, last = (at(min(place, count - 1)) for place in range(3))
        return first, second, last

    def gradient(self, model: Model, batches: Any, client: Client, key: Key) -> tuple[Params, Aux]:
        """(I - alpha grad^2 F(w; D'')) grad F(w - alpha grad F(w; D); D'), and what the outer gradient saw."""
        first, second, last = batches
        f, w = objective(self.problem), model.params

        def at(params: Params, batch: Batch, key: Key) -> tuple[Params, Aux]:
            return slope(f, Model(params, model.buffers), batch, key, client.data, self.solver)

        inner, _ = at(w, first, keys.stream(key, "inner"))
        grads, aux = at(tree.subtract(w, tree.scale(self.alpha, inner)), second, key)
        if self.variant == "fo":
            return grads, aux

        def bent(params: Params) -> Params:
            draw = jax.random.clone(keys.stream(key, "curvature"))  # the same draws on both sides
            return at(params, last, draw)[0]

        if self.variant == "exact":
            _, product = jax.jvp(bent, (w,), (grads,))
        else:
            aside = tree.scale(self.delta, grads)
            twice = tree.subtract(bent(tree.add(w, aside)), bent(tree.subtract(w, aside)))
            product = tree.divide(twice, 2 * self.delta)
        return tree.subtract(grads, tree.scale(self.alpha, product)), aux

    def client_update(self, server: Server, client: Client) -> Report:
        """Local steps on F_k(w - alpha grad F_k(w)) from w."""
        rule = self.solver.rule

        def step(carry: Any, batch: Batch, key: Key, clock: Clock) -> Any:
            model, opt = carry
            grads, aux = self.gradient(model, self.batches(batch, client, clock.local), client, key)
            params, opt = rule.step(model.params, grads, opt, clock)
            return (Model(params, aux.buffers), opt), aux.loss

        start = self.problem.model(server.params, server.buffers, client.state)
        (end, _), info = local_loop(step, (start, rule.init(start.params)), client, self.solver)
        total = {
            "delta": tree.scale(client.weight, tree.subtract(end.params, server.params)),
            "buffers": tree.scale(client.weight, self.problem.shared(end.buffers)),
            "weight": client.weight,
        }
        return Report(self.problem.own(end.buffers), total, info=info, local=end)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """w <- w + server step on the mean update."""
        return average_step(self.server, server, total, cohort)

    def personalise(self, server: Server, client: Client) -> Model:
        """w after gradient steps of alpha on all of the client's training rows."""
        f, key = objective(self.problem), keys.stream(client.key, "adapt")

        def step(j: Array, model: Model) -> Model:
            grads, aux = full_gradient(f, model, client.data, jax.random.fold_in(key, j))
            return Model(tree.subtract(model.params, tree.scale(self.alpha, grads)), aux.buffers)

        start = self.problem.model(server.params, server.buffers, client.state)
        return jax.lax.fori_loop(0, self.adaptation, step, start)

    predict = one_model.predict
    consensus = one_model.consensus
    join = one_model.join

    def traffic(self, server: Server) -> Traffic:
        """d down, d up."""
        size = tree.num_bytes((server.params, server.buffers))
        return Traffic(size, size)


def perfedavg(
    problem: Problem,
    solver: Solver,
    *,
    alpha: Any = 0.01,
    variant: Literal["exact", "fo", "hf"] = "exact",
    separate: bool = True,
    delta: Any = 1e-3,
    adaptation: Any = 1,
    server: Optax | None = None,
) -> PerFedAvg:
    """Per-FedAvg: min over w of the mean of F_k(w - alpha grad F_k(w)), by FedAvg on these functions.

    A local step with batches D, D', D'' is

        w~ = w - alpha grad F(w; D)
        w <- w - beta (I - alpha grad^2 F(w; D'')) grad F(w~; D')

    and w <- w + mean (w_k - w) at the server. beta is the solver's rate. Before use, each client makes one
    step of alpha from w, on its training rows; `consensus` is w itself. alpha = 0 is FedAvg, uniform.

    | variant | the product of the Hessian with g = grad F(w~; D') |
    |---|---|
    | exact | by forward mode over reverse mode, to rounding |
    | fo | left out: the step has two batches, and another fixed point |
    | hf | (grad F(w + delta g; D'') - grad F(w - delta g; D'')) / (2 delta) |

    On quadratics with curvatures A_k and minima a_k, full batches and one local step, w tends to
    (sum p_k M_k)^-1 sum p_k M_k a_k, where M_k = (I - alpha A_k) A_k (I - alpha A_k), or A_k (I - alpha A_k)
    for fo.

    Args:
        problem: what to learn.
        solver: local work, with beta for its rate. A step of its plan is one of the above: with batches of
            their own, an epoch of the plan reads the rows two (fo) or three times.
        alpha: >= 0, a leaf; the runs of the pFedMe authors have 0.02 to 0.03.
        variant: "exact", "fo" (first order) or "hf" (Hessian-free).
        separate: whether D, D' and D'' are consecutive batches of the client's order of rows; else all are
            one. Where batches are full, or the client has no more rows than one batch, they are the same.
        delta: > 0, a leaf; for hf. In single precision, below 1e-4 rounding shows.
        adaptation: steps of alpha before use, a leaf; 0 uses w.
        server: the server's optimiser; default: w + mean update.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a number out of range; an unknown variant.

    Reference:
        Fallah, Mokhtari, Ozdaglar, NeurIPS 2020, Algorithm 1; fo and hf as in its experiments.

    Departures:
        The paper adapts by a batch at test time; here by all training rows. The code of the pFedMe authors
        adapts, and goes on to a meta-step, on test batches; here no test row is ever read.
    """
    check_parts(problem, solver)
    known("variant", variant, VARIANTS)
    if not isinstance(separate, bool):
        raise TypeError(f"separate must be true or false, got {separate!r}: false takes one batch a step")
    return PerFedAvg(
        problem,
        solver,
        averaging(server),
        uniform(),
        number("alpha", alpha, least=0, remedy="0 is FedAvg, 0.01 is usual"),
        number("delta", delta, above=0, remedy="0.001 is usual"),
        whole("adaptation", adaptation, least=0, remedy="1 is the paper's, 0 uses the global model"),
        variant,
        separate,
    )

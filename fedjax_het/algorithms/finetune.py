"""Fine-tuning: every client trains a method's model further on its own rows, for as long as that helps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Algorithm, Client
from fedjax_het.algorithms import wrapped
from fedjax_het.algorithms.early_stopping import best_epoch
from fedjax_het.algorithms.holdout import holdout
from fedjax_het.algorithms.local_loop import slope
from fedjax_het.algorithms.parts import check_parts
from fedjax_het.check import known, number, require, short, whole
from fedjax_het.federation import Batch, Data
from fedjax_het.local import Clock, Solver, fold
from fedjax_het.models.selectors import Selector, split
from fedjax_het.problem import Model, Problem, fix, full_mean, objective
from fedjax_het.typing import Array, Key, PyTree, static

__all__ = ["Finetune", "finetune"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Finetune:
    """Another method whose model each client tunes before use; see `finetune`.

    Attributes:
        inner: the method, untouched.
        solver: the tuning's step rule and batches; the amount of its plan is not read.
        epochs: at most, int32 scalar.
        fixed: epochs of a client that cannot stop early, int32 scalar.
        patience: epochs without an improvement after which it stops, int32 scalar.
        min_delta: by how much a loss must fall to be an improvement, scalar.
        fraction: rows held out for validation, scalar.
        least: rows from which on a client stops early, int32 scalar.
        leaves: path -> whether the leaf is tuned; static.
    """

    inner: Algorithm
    solver: Solver
    epochs: Array
    fixed: Array
    patience: Array
    min_delta: Array
    fraction: Array
    least: Array
    leaves: Callable[[str], bool] | None = static()

    problem = wrapped.problem
    weighting = wrapped.weighting
    init = wrapped.init
    client_update = wrapped.client_update
    server_update = wrapped.server_update
    predict = wrapped.predict
    consensus = wrapped.consensus
    join = wrapped.join
    traffic = wrapped.traffic

    def rows(self, client: Client) -> tuple[Data, Data, Array]:
        """(rows to train on, rows held out of them, whether the client stops early).

        Nothing is held out where the client has validation rows, or does not stop early.
        """
        data, own = client.data, client.valid.size > 0
        large = data.size >= self.least
        key = keys.stream(client.key, "holdout")
        train, out = holdout(data, self.fraction, large & ~own, key)
        enough = large & (train.size > 0) & (own | (out.size > 0))
        return train, out, enough

    def validation_loss(self, model: Model, client: Client, out: Data) -> Array:
        """The mean loss over the validation rows, whoever provides them; without a ridge term."""

        def losses(batch: Batch) -> Array:
            outputs, _ = self.problem.apply(model.params, model.buffers, batch.x)
            return self.problem.losses(outputs, batch.y)

        loss = full_mean(losses, out)
        # one of the two is empty, and its mean is 0
        return loss + full_mean(losses, client.valid) if client.valid.capacity else loss

    def personalise(self, server: PyTree, client: Client) -> Model:
        """The best of the inner method's model and of what each epoch of tuning made of it."""
        start = self.inner.personalise(server, client)
        if not isinstance(start, Model):
            raise TypeError(
                f"of must be a method whose clients use a Model, got {type(self.inner).__name__}, which serves "
                f"{type(start).__name__}: tune a global method"
            )
        params, rest = (start.params, ()) if self.leaves is None else tree.partition(start.params, self.leaves)
        f = objective(self.problem) if self.leaves is None else fix(objective(self.problem), rest)
        train, out, early = self.rows(client)
        plan = dataclasses.replace(self.solver.plan, amount=jnp.ones((), jnp.int32), unit="epochs", most=None)
        before = client.round * self.solver.plan.steps(client.data)
        key = keys.stream(client.key, "finetune")

        def whole_model(model: Model) -> Model:
            params = model.params if self.leaves is None else tree.combine(model.params, rest)
            return Model(params, model.buffers)

        def step(carry: tuple[Model, PyTree, Array], batch: Batch, key: Key, j: Array) -> Any:
            model, opt, local = carry
            grads, aux = slope(f, model, batch, key, train, self.solver)
            clock = Clock(before + local, client.round, local)
            params, opt = self.solver.rule.step(model.params, grads, opt, clock)
            return Model(params, aux.buffers if self.leaves is None else model.buffers), opt, local + 1

        def work(carry: tuple[Model, PyTree, Array], epoch: Array) -> Any:
            return fold(step, carry, jax.random.fold_in(key, epoch), train, plan)[0]

        def score(carry: tuple[Model, PyTree, Array]) -> Array:
            return self.validation_loss(whole_model(carry[0]), client, out)

        best, _, _ = best_epoch(
            work,
            score,
            (Model(params, start.buffers), self.solver.rule.init(params), jnp.zeros((), jnp.int32)),
            epochs=jnp.where(early, self.epochs, jnp.minimum(self.fixed, self.epochs)),
            patience=self.patience,
            min_delta=self.min_delta,
            scored=early,
        )
        return whole_model(best)


def finetune(
    problem: Problem,
    solver: Solver,
    *,
    of: str | Algorithm = "fedavg",
    tuner: Solver | None = None,
    epochs: Any = 20,
    patience: Any = 3,
    min_delta: Any = 0.0,
    fraction: Any = 0.2,
    least: Any = 20,
    fixed: Any = 5,
    leaves: Selector | None = None,
) -> Finetune:
    """Fine-tuning: theta_k <- the best of w and of up to `epochs` epochs of local work on F_k from w.

    Training is the other method's, to the bit; a client tunes when it is asked for its model, and keeps
    nothing. After each epoch the model is scored on validation rows, w itself before the first. The best one
    is kept: the validation loss is never above w's. A loss is an improvement if it is below the best one minus
    `min_delta`; after `patience` epochs in a row without one, the client stops.

    The validation rows are the federation's, where the client has some, and it tunes on all its training rows.
    Otherwise it holds out a part of them, in another cut after every round: shuffled, each label in its share
    to within a row. w was trained on those rows, so that tuning is judged more strictly than w. A client of
    fewer than `least` training rows, or one of whose two parts is empty, tunes for `fixed` epochs on all of
    its rows, and nothing is scored.

    Momentum and moments begin with the tuning, and last until its end. With no epochs it is the other method.

    Args:
        problem: what to learn.
        solver: local work of the other method.
        of: the method that makes w: a name of `ALGORITHMS`, with its default numbers; or a method that is made
            already, such as `fh.algorithms.fedprox(problem, solver, mu=0.1)`, and then `solver` is only that
            of the tuning.
        tuner: the tuning's step rule and batch size, by default those of `solver`; how many epochs or steps it
            plans does not matter. Schedules go on from the round's place in the run.
        epochs: the most that is done, a leaf; 0 tunes nothing.
        patience: >= 1, a leaf.
        min_delta: >= 0, in units of the loss, a leaf.
        fraction: rows to hold out, in (0, 1), a leaf.
        least: training rows from which on a client stops early, a leaf.
        fixed: epochs of a client that does not, a leaf; `epochs` is the most for them too.
        leaves: path -> whether the leaf is tuned, such as `fh.models.selectors.head(problem)`; the others, and
            the model's buffers, stay as they are. None tunes all. Function objects are static; selectors
            compare by value.

    Raises:
        TypeError: an argument of the wrong kind; a method that serves something other than one Model.
        ValueError: a number out of range; an unknown method; a method of another problem; a selector that
            takes no leaf or every leaf.

    Reference:
        Wang, Mathews, Kiddon, Eichner, Beaufays, Ramage, arXiv 1910.10252, 2019; Yu, Bagdasaryan, Shmatikov,
        arXiv 2002.04758, 2020, section 3 (fine-tuning, and of the last layer alone).

    Departures:
        Both tune for a fixed number of epochs. Early stopping, with w as the first candidate, is added.
    """
    check_parts(problem, solver)
    tuner = solver if tuner is None else tuner
    if not isinstance(tuner, Solver):
        raise TypeError(f"tuner must be a Solver, got {short(tuner)}: make one with fh.local.sgd")
    if leaves is not None:
        if not callable(leaves):
            raise TypeError(
                f"leaves must be a function of a leaf's path, got {short(leaves)}: pass "
                "fh.models.selectors.head(problem)"
            )
        split(problem, leaves)
    return Finetune(
        _method(of, problem, solver),
        tuner,
        whole("epochs", epochs, least=0, remedy="0 tunes nothing"),
        whole("fixed", fixed, least=0, remedy="0 leaves small clients with the untuned model"),
        whole("patience", patience, remedy="1 stops at the first epoch that does not help"),
        number("min_delta", min_delta, least=0, remedy="0 takes every fall of the loss"),
        number("fraction", fraction, above=0, below=1, remedy="0.2 is usual"),
        whole("least", least, least=0, remedy="20 is usual"),
        leaves,
    )


def _method(of: Any, problem: Problem, solver: Solver) -> Any:
    """The method that is tuned."""
    from fedjax_het.algorithms.table import ALGORITHMS, make  # which lists this one

    if isinstance(of, str):
        known("of", of, [name for name in ALGORITHMS if name != "finetune"])
        return make(of, problem, solver)
    own = getattr(of, "problem", None)
    if not isinstance(own, Problem):
        raise TypeError(
            f"of must be a method or the name of one, got {short(of)}: pass 'fedavg', or what "
            "fh.algorithms.fedprox(problem, solver) returns"
        )
    require(
        jax.tree.structure(own) == jax.tree.structure(problem),
        f"of must learn the problem {problem.facts.name!r}, got a method for {own.facts.name!r}: pass it the "
        "problem that the method was made with",
    )
    return of

"""Problem: learning as pure functions of parameters; and objectives, which are built from one.

An objective is what a client minimises. FedProx, SCAFFOLD, FedDyn, Ditto, pFedMe and FedRep are one solver
on other objectives, so the combinators `prox`, `tilt` and `fix` here replace gradient hooks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_het import tree
from fedjax_het.federation import Batch, Data
from fedjax_het.typing import Array, Key, Metrics, Params, PyTree, static

__all__ = [
    "Aux",
    "Facts",
    "Model",
    "Objective",
    "Problem",
    "batch_mean",
    "fix",
    "full_gradient",
    "full_loss",
    "full_mean",
    "objective",
    "prox",
    "tilt",
]


class Model(NamedTuple):
    """A model's arrays.

    Attributes:
        params: what gradients change.
        buffers: what they do not: BatchNorm statistics and the like; () for most models.
    """

    params: Params
    buffers: PyTree


class Aux(NamedTuple):
    """What an objective returns beside its value.

    Attributes:
        buffers: the model's buffers after this batch.
        loss: the problem's own loss (its ridge term included), whatever terms the objective adds; scalar.
    """

    buffers: PyTree
    loss: Array


Objective = Callable[[Params, PyTree, Batch, Key], tuple[Array, Aux]]
"""(params, buffers, batch, key) -> (value, Aux)."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a problem; static.

    Attributes:
        name: for tables and messages.
        linear: whether the output is linear in the parameters.
        convex: whether the loss is convex in the parameters.
        log_likelihood: whether the loss is a negative log-likelihood up to a constant (FedEM needs it).
        buffers: "none", or who owns the buffers: "averaged" (over the cohort, like parameters), "local" (each
            client keeps its own).
        head: path prefixes of the leaves that form the head, such as ("head",); () if unknown.
        norm: path prefixes or names of normalisation layers; () if there are none or unknown.
        masked: whether `Problem.apply` takes the rows' weights and keeps fillers out of batch statistics.
    """

    name: str
    linear: bool = False
    convex: bool = False
    log_likelihood: bool = False
    buffers: str = "none"
    head: tuple[str, ...] = ()
    norm: tuple[str, ...] = ()
    masked: bool = False


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Problem:
    """Learning as pure functions of parameters; all fields but `l2` are static.

    Attributes:
        init: key -> Model.
        apply: (params, buffers, x, key=None, train=False) -> (out, buffers); in training it also gets
            weight=float [B] if `facts.masked`.
        losses: (out, y) -> float [B].
        metrics: (out, y) -> {name: float [B]}; their mean over rows is the metric.
        facts: what is known of it.
        l2: coefficient of (l2/2)|params|^2, which is part of every F_k; None for none, scalar leaf otherwise.
    """

    init: Callable[[Key], Model] = static()
    apply: Callable[..., tuple[PyTree, PyTree]] = static()
    losses: Callable[[PyTree, Array], Array] = static()
    metrics: Callable[[PyTree, Array], Metrics] = static()
    facts: Facts = static()
    l2: Array | None = None

    def fresh(self, key: Key) -> Model:
        """`init(key)`, compiled once for all algorithms that share the problem."""
        return _fresh(self, key)

    def ridge(self, params: Params) -> Array:
        """(l2/2)|params|^2, scalar."""
        return jnp.zeros(()) if self.l2 is None else self.l2 / 2 * tree.sum_of_squares(params)

    def shared(self, buffers: PyTree) -> PyTree:
        """The buffers if the server owns them ("averaged"), else ()."""
        return buffers if self.facts.buffers == "averaged" else ()

    def own(self, buffers: PyTree) -> PyTree:
        """The buffers if each client owns its own ("local"), else ()."""
        return buffers if self.facts.buffers == "local" else ()

    def model(self, params: Params, shared: PyTree, own: PyTree) -> Model:
        """A Model whose buffers come from whoever owns them."""
        return Model(params, own if self.facts.buffers == "local" else shared)


_fresh = jax.jit(lambda problem, key: problem.init(key))


def batch_mean(values: Array, weight: Array) -> Array:
    """Sum of weight * values / max(1, sum of weight); fillers leave by `where`, so a NaN there is nothing."""
    kept = jnp.where(weight > 0, values, 0) * weight
    return jnp.sum(kept) / jnp.maximum(jnp.sum(weight), 1)


def objective(problem: Problem, *, train: bool = True) -> Objective:
    """The plain objective: the mean loss over the batch's rows, and the ridge term if there is one.

    Args:
        problem: what to learn.
        train: whether the model runs as in training (dropout, batch statistics) or as in prediction.
    """

    def plain(params: Params, buffers: PyTree, batch: Batch, key: Key) -> tuple[Array, Aux]:
        rows = {"weight": batch.weight} if train and problem.facts.masked else {}
        out, buffers = problem.apply(params, buffers, batch.x, key, train=train, **rows)
        loss = batch_mean(problem.losses(out, batch.y), batch.weight)
        if problem.l2 is not None:
            loss = loss + problem.ridge(params)
        return loss, Aux(buffers, loss)

    return plain


def prox(f: Objective, anchor: Params, mu: Array) -> Objective:
    """f(y) + mu/2 |y - anchor|^2 (FedProx, Ditto, pFedMe)."""

    def proximal(params: Params, buffers: PyTree, batch: Batch, key: Key) -> tuple[Array, Aux]:
        value, aux = f(params, buffers, batch, key)
        return value + mu / 2 * tree.sum_of_squares(tree.subtract(params, anchor)), aux

    return proximal


def tilt(f: Objective, direction: Params) -> Objective:
    """f(y) + <direction, y>: every gradient gains `direction` (SCAFFOLD's c - c_k, FedDyn's -h_k)."""

    def tilted(params: Params, buffers: PyTree, batch: Batch, key: Key) -> tuple[Array, Aux]:
        value, aux = f(params, buffers, batch, key)
        return value + tree.dot(direction, params), aux

    return tilted


def fix(f: Objective, held: Params) -> Objective:
    """f of the leaves that are absent from `held`, with `held` frozen (FedRep's alternation)."""

    def fixed(params: Params, buffers: PyTree, batch: Batch, key: Key) -> tuple[Array, Aux]:
        return f(tree.combine(params, held), buffers, batch, key)

    return fixed


def full_mean(values: Callable[[Batch], PyTree], data: Data) -> PyTree:
    """The mean over all of a client's rows of a per-row function; zeros for an empty client.

    Args:
        values: Batch -> tree of float [B, ...], one value a row.
        data: one client.

    Returns:
        The tree with the row axis averaged away.
    """
    shapes = jax.eval_shape(lambda: values(data.take(jnp.zeros((1,), jnp.int32))))
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), shapes)

    def step(total: PyTree, batch: Batch) -> PyTree:
        def gather(total_leaf: Array, value: Array) -> Array:
            counts = batch.weight.reshape(-1, *[1] * (value.ndim - 1)) > 0
            return total_leaf + jnp.sum(jnp.where(counts, value, 0), axis=0).astype(total_leaf.dtype)

        return jax.tree.map(gather, total, values(batch))

    total = data.fold_full(step, zero)
    return jax.tree.map(lambda leaf: leaf / jnp.maximum(data.size, 1).astype(leaf.dtype), total)


def full_loss(problem: Problem, model: Model, data: Data) -> Array:
    """F_k: the mean loss over all of a client's rows, without dropout or batch statistics; scalar."""

    def losses(batch: Batch) -> Array:
        out, _ = problem.apply(model.params, model.buffers, batch.x)
        return problem.losses(out, batch.y)

    loss = full_mean(losses, data)
    return loss if problem.l2 is None else loss + problem.ridge(model.params)


def full_gradient(f: Objective, model: Model, data: Data, key: Key) -> tuple[Params, Aux]:
    """The gradient of an objective over all of a client's rows, and its Aux; zeros for an empty client.

    A client of up to `federation.CHUNK` rows, and any client of a model with buffers (batch statistics do not
    add up over chunks), is one batch. Otherwise chunks are summed, weighted by their rows: exact for an
    objective that is a mean over rows plus terms that do not depend on them.
    """
    gradient = jax.grad(f, has_aux=True)
    in_one = bool(jax.tree.leaves(model.buffers))

    def step(carry: tuple[Params, Aux], batch: Batch) -> tuple[Params, Aux]:
        total, aux = carry
        grads, new = gradient(model.params, model.buffers, batch, key)
        share = jnp.sum(batch.weight) / jnp.maximum(data.size, 1).astype(batch.weight.dtype)
        total = tree.add(total, tree.scale(share, grads))
        return total, Aux(new.buffers, aux.loss + share * new.loss)

    start = (tree.zeros_like(model.params), Aux(model.buffers, jnp.zeros((), jnp.result_type(float))))
    return data.fold_full(step, start, **({"chunk": data.capacity} if in_one else {}))

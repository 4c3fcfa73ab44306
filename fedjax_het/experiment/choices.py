"""CHOICES: what a configuration may name, section by section. A new factory is one line here.

Algorithms come from `ALGORITHMS` by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optax

from fedjax_het import metrics, weighting
from fedjax_het.algorithms import ALGORITHMS, fedavg
from fedjax_het.analysis import gradient_dissimilarity
from fedjax_het.datasets import digits, fashion_mnist, load_npz, synthetic
from fedjax_het.engine import executors, sampling
from fedjax_het.experiment.options import Factory, factory, step_rule
from fedjax_het.heterogeneity import iid, label
from fedjax_het.local import Optax, Schedule, Solver, geometric, inverse_time, plan, sgd
from fedjax_het.models import linear, mlp, selectors, softmax

__all__ = ["CENTRALISED", "CHOICES", "DEFAULTS"]

CENTRALISED = "centralised"
"""FedAvg on the pooled data: no algorithm, but a method that `compare` can run."""

RATE: Mapping[str, Any] = {"learning_rate": float | Schedule}
WORK = ("epochs", "steps")


def _own() -> None:
    """The algorithm's own weighting."""


def _by_optax(
    optimizer: Optax, *, batch_size: int | None, epochs: Any = None, steps: Any = None, shuffle: bool = True
) -> Solver:
    """Local work by any of the optimizers, as `fh.local.from_optax`."""
    work = plan(batch_size=batch_size, epochs=epochs, steps=steps, shuffle=shuffle)
    return Solver(optimizer, work, None, 0)


_ALGORITHMS = {name: factory(entry.factory) for name, entry in ALGORITHMS.items()}

CHOICES: dict[str, dict[str, Factory]] = {
    "data": {
        "digits": factory(digits),
        "fashion_mnist": factory(fashion_mnist),
        "synthetic": factory(synthetic),
        "npz": factory(load_npz),
    },
    "clients": {
        "dirichlet": factory(label.dirichlet, clients=40, alpha=0.1, min_size=20),
        "iid": factory(iid.iid, clients=40),
    },
    "model": {
        "mlp": factory(mlp),
        "softmax": factory(softmax),
        "linear": factory(linear),
    },
    "local": {
        "sgd": factory(sgd, either=WORK, kinds=RATE, learning_rate=0.1, batch_size=20, epochs=5),
        "optax": factory(_by_optax, either=WORK, optimizer="adam", batch_size=20, epochs=5),
    },
    "algorithm": _ALGORITHMS,
    "method": {**_ALGORITHMS, CENTRALISED: factory(fedavg)},
    "sampling": {
        "uniform": factory(sampling.uniform, size=10),
        "everyone": factory(sampling.everyone),
        "fixed": factory(sampling.fixed, kinds={"ids": Sequence[int]}),
        "scripted": factory(sampling.scripted, kinds={"ids": Sequence[Sequence[int]]}),
    },
    "executor": {
        "auto": factory(executors.auto),
        "vmapped": factory(executors.vmapped),
        "looped": factory(executors.looped),
        "chunked": factory(executors.chunked),
        "sharded": factory(executors.sharded),
    },
    "weighting": {
        "own": factory(_own),
        "proportional": factory(weighting.proportional),
        "uniform": factory(weighting.uniform),
        "given": factory(weighting.given, kinds={"weights": Sequence[float]}),
    },
    "measure": {
        "dissimilarity": factory(gradient_dissimilarity),
    },
    "metric": {
        "balanced_accuracy": factory(metrics.balanced_accuracy),
        "auc": factory(metrics.auc),
        "perplexity": factory(metrics.perplexity),
        "rmse": factory(metrics.rmse),
        "r2": factory(metrics.r2),
    },
    "optimizer": {
        "sgd": step_rule(optax.sgd, learning_rate=1.0, momentum=None, nesterov=False),
        "adam": step_rule(optax.adam, learning_rate=0.001, b1=0.9, b2=0.999, eps=1e-8),
        "adamw": step_rule(optax.adamw, learning_rate=0.001, b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-4),
        "adagrad": step_rule(optax.adagrad, learning_rate=0.01, initial_accumulator_value=0.1, eps=1e-7),
        "yogi": step_rule(optax.yogi, learning_rate=0.01, b1=0.9, b2=0.999, eps=1e-3),
        "rmsprop": step_rule(optax.rmsprop, learning_rate=0.001, decay=0.9, eps=1e-8),
    },
    "schedule": {
        "geometric": factory(geometric),
        "inverse_time": factory(inverse_time),
    },
    "selector": {
        "head": factory(selectors.head),
        "body": factory(selectors.body),
        "norm": factory(selectors.norm),
        "matching": factory(selectors.matching),
    },
}
"""section -> name -> Factory. From `optimizer` on, what is chosen is an option of something else."""

DEFAULTS = {
    "data": "digits",
    "clients": "dirichlet",
    "model": "mlp",
    "local": "sgd",
    "algorithm": "fedavg",
    "sampling": "uniform",
    "executor": "auto",
    "weighting": "own",
}
"""The sections of a configuration, and what each names unless told otherwise."""

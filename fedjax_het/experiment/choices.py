"""CHOICES: what a configuration may name, section by section. A new factory is one line here.

Algorithms come from `ALGORITHMS` by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import optax

from fedjax_het import datasets, metrics, weighting
from fedjax_het.algorithm import Algorithm, Weighting
from fedjax_het.algorithms import ALGORITHMS, fedavg, task_covariance
from fedjax_het.algorithms.adaptive_prox import AdaptiveMu, adaptive_mu
from fedjax_het.analysis import (
    client_drift,
    gradient_dissimilarity,
    gradient_noise,
    inexactness,
    layer_drift,
    update_cosines,
)
from fedjax_het.engine import executors, sampling
from fedjax_het.experiment.options import Factory, Relation, factory, step_rule
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity import compose, concept, feature, iid, label, quantity, temporal
from fedjax_het.local import Optax, Schedule, Solver, geometric, inverse_time, plan, sgd
from fedjax_het.models import linear, mlp, selectors, softmax

__all__ = ["CENTRALISED", "CHOICES", "DEFAULTS"]

CENTRALISED = "centralised"
"""FedAvg on the pooled data: no algorithm, but a method that `compare` can run."""

RATE: Mapping[str, Any] = {"learning_rate": float | Schedule}
WORK = ("epochs", "steps")
LISTED = Sequence[float]
TABLES = Sequence[LISTED] | Sequence[Sequence[LISTED]]
"""Vectors or images; matrices."""
COHORT: Mapping[str, Any] = {"size": 10}
EACH = float | LISTED
"""A number for all clients, or one for each."""


def _own() -> None:
    """The algorithm's own weighting."""


def _by_optax(
    optimizer: Optax, *, batch_size: int | None, epochs: Any = None, steps: Any = None, shuffle: bool = True
) -> Solver:
    """Local work by any of the optimizers, as `fh.local.from_optax`."""
    work = plan(batch_size=batch_size, epochs=epochs, steps=steps, shuffle=shuffle)
    return Solver(optimizer, work, None, 0)


def _composed(federation: Federation, *, steps: Sequence[Callable[[Federation], Federation]]) -> Federation:
    """Apply several shifts in their order, as one."""
    return compose(*steps)(federation)


def _dealt(call: Callable[..., Any], **defaults: Any) -> Factory:
    """A partitioner of a pool: the shares held out, and how many clients there are, are numbers."""
    wanted = {"clients": int, "test": float, "valid": float}
    kinds = {name: kind for name, kind in wanted.items() if name != "clients" or name in defaults}
    return factory(call, kinds=kinds, test=0.2, valid=0.0, **defaults)


def _by_labels(
    federation: Federation, *, size: int, strength: Any, rule: Literal["lowest", "kinds"] = "lowest"
) -> sampling.Sampler:
    """Cohorts of those available, whose chance depends on the classes that they hold."""
    return sampling.intermittent(size, sampling.label_chances(federation, strength, rule=rule))


def _capped(*, cap: Any, base: Weighting | None = None) -> Weighting:
    """By sizes or a base, and nobody has more than a share `cap` of the cohort."""
    return weighting.capped(cap, base=base)


def _noisy(
    federation: Federation,
    *,
    epsilon: Any,
    sensitivity: Any = 1.0,
    mechanism: Literal["laplace", "geometric"] = "laplace",
    seed: int = 0,
    least: Any = 1.0,
    base: Weighting | None = None,
) -> Weighting:
    """By sizes with noise, of which there is one draw for each client and phase."""
    return weighting.noisy(
        epsilon,
        sensitivity=sensitivity,
        mechanism=mechanism,
        seed=seed,
        least=least,
        schedule=federation.schedule,
        base=base,
    )


SIZED = Literal["proportional", "uniform"]
WEIGHTS: Mapping[str, Any] = {"weights": SIZED}
SERVER_RATE: Mapping[str, Any] = {"server_learning_rate": float | Schedule}
FOLLOWING: Mapping[str, Mapping[str, Any]] = {
    "fedprox": {"mu": float | AdaptiveMu},
    **dict.fromkeys(("fedavgm", "fedadagrad", "fedadam", "fedyogi"), SERVER_RATE),
    **dict.fromkeys(("lgfedavg", "fedbn", "pfedme", "ditto"), WEIGHTS),
    "cfl": {**WEIGHTS, "eps2": float | None, "gamma": float | None, "linkage": Literal["single", "complete"]},
    "ifca": {"weights": SIZED | None, "average": Literal["models", "gradients"]},
    "finetune": {"of": Algorithm},
    "mocha": {"prior": Literal["learned", "independent"] | Sequence[LISTED] | Relation},
}
"""Numbers of algorithms that may also follow a rule or a schedule, and what others choose from."""

_ALGORITHMS = {name: factory(entry.factory, kinds=FOLLOWING.get(name)) for name, entry in ALGORITHMS.items()}

SPLIT = ("test", "valid")
"""What a federation's rows keep when they are dealt anew."""

CHOICES: dict[str, dict[str, Factory]] = {
    "data": {
        "digits": factory(datasets.digits),
        "fashion_mnist": factory(datasets.fashion_mnist),
        "flights": factory(datasets.flights),
        "chem97": factory(datasets.chem97),
        "insteval": factory(datasets.insteval),
        "shakespeare": factory(datasets.shakespeare),
        "synthetic": factory(datasets.synthetic),
        "synthetic_li": factory(datasets.synthetic_li),
        "synthetic_li_iid": factory(datasets.synthetic_li_iid),
        "synthetic_fedprox": factory(datasets.synthetic_fedprox),
        "synthetic_fedprox_iid": factory(datasets.synthetic_fedprox_iid),
        "synthetic_qffl": factory(datasets.synthetic_qffl),
        "synthetic_qffl_iid": factory(datasets.synthetic_qffl_iid),
        "synthetic_hybrid": factory(datasets.synthetic_hybrid),
        "synthetic_pfedme": factory(datasets.synthetic_pfedme),
        "synthetic_feddyn": factory(datasets.synthetic_feddyn),
        "mixture": factory(datasets.mixture),
        "mixed_regression": factory(datasets.mixed_regression),
        "local_global_regression": factory(datasets.local_global_regression),
        "gaussian_clusters": factory(datasets.gaussian_clusters),
        "npz": factory(datasets.load_npz),
    },
    "clients": {
        "iid": _dealt(iid, clients=40),
        "dirichlet": _dealt(label.dirichlet, clients=40, alpha=0.1, min_size=20),
        # as skewed over ten even classes: there, alpha is the sum of the concentrations
        "dirichlet_per_client": _dealt(label.dirichlet_per_client, clients=40, alpha=1.0),
        "shards": _dealt(label.shards, clients=40),
        "classes": _dealt(label.classes, clients=40),
        "proportions": _dealt(label.proportions),
        "power_law": _dealt(quantity.power_law, clients=40),
        "log_normal": _dealt(quantity.log_normal, clients=40),
        "dirichlet_sizes": _dealt(quantity.dirichlet, clients=40, alpha=0.5),
        "sizes": _dealt(quantity.sizes),
        "by_feature": _dealt(feature.by_feature, clients=40),
        "by_cluster": _dealt(feature.by_cluster, clients=40),
    },
    "shift": {
        "rotate": factory(feature.rotate),
        "affine": factory(feature.affine, kinds={"clip": LISTED | None}),
        "blur": factory(feature.blur),
        "noise": factory(feature.noise),
        "channels": factory(feature.channels, kinds={"mixing": Sequence[Sequence[LISTED]] | None}),
        "gaussian": factory(feature.gaussian, kinds={"shifts": TABLES | None}),
        "domains": factory(
            feature.domains, kinds={"domains": Sequence[str], "mixture": Sequence[LISTED] | None}
        ),
        "permute": factory(concept.permute),
        "swap": factory(concept.swap),
        "oppose": factory(concept.oppose),
        "linear": factory(concept.linear),
        "dirichlet": factory(label.dirichlet, without=("clients", "min_size", "balanced", *SPLIT), alpha=0.1),
        "dirichlet_per_client": factory(
            label.dirichlet_per_client, without=("clients", "replacement", *SPLIT), alpha=1.0
        ),
        "shards": factory(label.shards, without=("clients", *SPLIT)),
        "classes": factory(label.classes, without=("clients", "min_size", *SPLIT)),
        "proportions": factory(label.proportions, without=("replacement", *SPLIT)),
        "power_law": factory(quantity.power_law, without=("clients", *SPLIT)),
        "log_normal": factory(quantity.log_normal, without=("clients", *SPLIT)),
        "dirichlet_sizes": factory(quantity.dirichlet, without=("clients", *SPLIT), alpha=0.5),
        "sizes": factory(quantity.sizes, without=SPLIT),
        "by_feature": factory(feature.by_feature, without=("clients", *SPLIT)),
        "by_cluster": factory(feature.by_cluster, without=("clients", *SPLIT)),
        "sudden": factory(temporal.sudden),
        "gradual": factory(temporal.gradual),
        "recurring": factory(temporal.recurring),
        "rotating_classes": factory(temporal.rotating_classes),
        "growing": factory(temporal.growing),
        "label_delay": factory(temporal.label_delay),
        "compose": factory(_composed),
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
        "uniform": factory(sampling.uniform, **COHORT),
        "everyone": factory(sampling.everyone),
        "proportional": factory(sampling.proportional, **COHORT),
        "given": factory(sampling.given, kinds={"probabilities": LISTED}, **COHORT),
        "bernoulli": factory(sampling.bernoulli, kinds={"chance": EACH}),
        "cyclic": factory(sampling.cyclic, **COHORT),
        "intermittent": factory(sampling.intermittent, kinds={"chance": EACH}, **COHORT),
        "by_size": factory(sampling.by_size, **COHORT),
        "by_labels": factory(_by_labels, **COHORT),
        "markov": factory(sampling.markov, kinds={"leave": EACH, "join": EACH}, **COHORT),
        "periodic": factory(
            sampling.periodic, kinds={"period": int, "phase": int | Sequence[int] | None}, **COHORT
        ),
        "power_of_choice": factory(sampling.power_of_choice, **COHORT),
        "dropout": factory(sampling.dropout, inner="uniform"),
        "stragglers": factory(
            sampling.stragglers,
            kinds={"epochs": int, "policy": Literal["keep", "drop"]},
            inner="uniform",
            epochs=5,
        ),
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
        "given": factory(weighting.given, kinds={"weights": LISTED}),
        "capped": factory(_capped),
        "clip_counts": factory(weighting.clip_counts, kinds={"most": int}),
        "buckets": factory(weighting.buckets, kinds={"edges": LISTED | None}),
        "noisy": factory(_noisy),
        "unbiased": factory(
            weighting.unbiased, kinds={"probability": float | LISTED | None, "weights": LISTED | None}
        ),
        "per_draw": factory(weighting.per_draw, kinds={"draws": int | None}),
    },
    "measure": {
        "dissimilarity": factory(gradient_dissimilarity),
        "inexactness": factory(inexactness),
        "drift": factory(client_drift),
        "layer_drift": factory(layer_drift),
        "noise": factory(gradient_noise),
        "cosines": factory(update_cosines),
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
    "rule": {
        "adaptive_mu": factory(adaptive_mu),
    },
    "relation": {
        "mean_regularised": factory(task_covariance.mean_regularised, kinds={"ridge": float}),
        "clustered": factory(task_covariance.clustered, kinds={"labels": Sequence[int], "ridge": float}),
        "laplacian": factory(task_covariance.laplacian, kinds={"adjacency": Sequence[LISTED], "ridge": float}),
    },
}
"""section -> name -> Factory. Entries of "shift" take a federation, first; those of partitioners deal its rows
anew. From `optimizer` on, what is chosen is an option of something else."""

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

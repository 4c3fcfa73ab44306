"""Whether the parts of a configuration fit each other, asked before anything is compiled."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from fedjax_het.algorithms import ALGORITHMS
from fedjax_het.engine import initial_state, make_round
from fedjax_het.engine.executors import vmapped
from fedjax_het.experiment.config import Config, ConfigError
from fedjax_het.experiment.pace import unfailing
from fedjax_het.experiment.values import Choice
from fedjax_het.federation import SPLITS, Federation

__all__ = ["check_cohorts", "check_everyone", "check_listed", "check_rows", "demands_everyone"]


def demands_everyone(choice: Choice) -> bool:
    """Whether a method, or one that it is made of, is defined for all clients only."""
    inner = (value for value in choice.options.values() if isinstance(value, Choice))
    own = choice.name in ALGORITHMS and ALGORITHMS[choice.name].everyone
    return own or any(map(demands_everyone, inner))


def check_everyone(config: Config, sampler: Any, federation: Federation) -> None:
    """A single run does what it was asked for, or nothing; a comparison has `Study.sampler_of`.

    Raises:
        ConfigError: the algorithm is defined for all clients only, and the sampler leaves some out.
    """
    name = config.algorithm.name
    if demands_everyone(config.algorithm) and not unfailing(sampler, federation.num_clients):
        raise ConfigError(
            f"sampling must be 'everyone' with algorithm {name!r}, got {config.sampling.name!r}, which "
            f"leaves out some of the {federation.num_clients} clients: the method is defined only when every "
            "client takes part in every round; set sampling=everyone",
            "sampling",
            "algorithm",
        )


def check_cohorts(algorithm: Any, federation: Federation, sampler: Any, weighting: Any) -> None:
    """Let the engine meet sampler and weighting, without computing anything.

    Raises:
        ValueError: the weighting refuses cohorts of so many slots.
    """
    round_fn = make_round(sampler, vmapped(), weighting=weighting)
    jax.eval_shape(
        lambda key: initial_state(algorithm, federation, key=key, round_fn=round_fn), jax.random.key(0)
    )


def check_listed(choice: Choice, key: str, many: int) -> None:
    """What a weighting lists is one number a client.

    Raises:
        ConfigError: it is a list of another length.
    """
    for name, value in choice.options.items():
        if isinstance(value, Choice):
            check_listed(value, f"{key}.{name}", many)
        elif name in ("weights", "probability") and isinstance(value, tuple) and len(value) != many:
            remedy = "0 leaves a client out" if choice.name == "given" else "list them by client number"
            raise ConfigError(
                f"{key}.{name} must be one number for each of the {many} clients, got {len(value)}: {remedy}",
                f"{key}.{name}",
            )


def check_rows(config: Config, federation: Federation) -> None:
    """Somebody is judged.

    Raises:
        ConfigError: no rows of the split to evaluate on; a sample of more clients than there are.
    """
    how = config.evaluation
    sizes = (federation.train, federation.valid, federation.test)[SPLITS.index(how.split)].size
    share = f"{'data' if config.clients is None else 'clients'}.{how.split}"
    if not np.any(np.asarray(sizes)):
        raise ConfigError(
            f"evaluation.split must have rows, got {how.split!r} with none: set {share} to a fraction such as "
            "0.2",
            "evaluation.split",
            share,
        )
    if how.sample is not None and how.sample > federation.num_clients:
        raise ConfigError(
            f"evaluation.sample must be <= the number of clients, got {how.sample} of "
            f"{federation.num_clients}: none scores all of them",
            "evaluation.sample",
        )

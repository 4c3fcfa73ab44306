"""Schemes: who is drawn, and how local models are averaged, in Li et al. 2020 and in their code."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het import tree, weighting
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms.fedavg import FedAvg
from fedjax_het.check import known, positive_int
from fedjax_het.engine import executors, make_round, sampling
from fedjax_het.federation import Federation
from fedjax_het.problem import Problem
from fedjax_het.theory.fresh import fresh_fedavg
from fedjax_het.typing import Key, PyTree

__all__ = ["SCHEMES", "ModelsScaled", "scheme"]

SCHEMES = ("everyone", "scheme I", "scheme II", "transformed II", "original")
"""everyone: sum_k p_k w_k. scheme I: K draws by p with replacement, their plain mean. scheme II: K uniformly
without replacement, (N/K) sum p_k w_k. transformed II: the same draw, the plain mean of runs on N p_k F_k.
original: the same draw, sum p_k w_k + (1 - sum p_k) w (McMahan et al. 2017)."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ModelsScaled:
    """FedAvg whose server takes sum_k omega_k w_k, models and not updates, also if the omega_k do not sum to 1.

    With unequal p_k scheme II so stretches or shrinks the model every round, which is why it does badly there.
    `fedjax_het.weighting.unbiased` scales updates instead.
    """

    inner: FedAvg

    @property
    def problem(self) -> Problem:
        """What is learned."""
        return self.inner.problem

    @property
    def weighting(self) -> Any:
        """As FedAvg's."""
        return self.inner.weighting

    def init(self, key: Key, federation: Federation) -> tuple[PyTree, PyTree]:
        """As FedAvg's."""
        return self.inner.init(key, federation)

    def client_update(self, server: PyTree, client: Client) -> Report:
        """As FedAvg's."""
        return self.inner.client_update(server, client)

    def server_update(self, server: PyTree, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> PyTree:
        """w <- sum omega_k w_k = (w + sum omega_k (w_k - w)) + (sum omega_k - 1) w."""
        after = self.inner.server_update(server, total, each, cohort, key)
        extra = tree.scale(cohort.mass - 1, server.params)
        return dataclasses.replace(after, params=tree.add(after.params, extra))

    def consensus(self, server: PyTree) -> PyTree:
        """As FedAvg's."""
        return self.inner.consensus(server)

    def traffic(self, server: PyTree) -> Traffic:
        """As FedAvg's."""
        return self.inner.traffic(server)


def scheme(
    name: str,
    problem: Problem,
    federation: Federation,
    rate: Any,
    *,
    steps: Any,
    batch_size: int | None,
    clients_per_round: int | None = None,
) -> tuple[Any, Any]:
    """(algorithm, round) of a scheme, with fresh batches.

    Args:
        name: one of `SCHEMES`.
        problem: what to learn.
        federation: whose sizes are the p_k.
        rate: step size, see `fedjax_het.local.sgd`.
        steps: E, a leaf.
        batch_size: B, or None for full batches.
        clients_per_round: K; not for "everyone".

    Raises:
        TypeError, ValueError: unknown scheme, a number of the wrong kind or range.

    Reference:
        Li, Huang, Yang, Wang, Zhang, ICLR 2020, section 3.3 and table 1; McMahan et al., AISTATS 2017.

    Departures:
        None from the paper. The authors' code has N = 100 in scheme II and its transformation as a constant,
        and clips gradients at norm 60.
    """
    known("scheme", name, SCHEMES)
    drawn = 1
    if name != "everyone":
        drawn = positive_int("clients_per_round", clients_per_round, remedy="K, such as 10")
    sizes = np.asarray(federation.train.size[0], np.float64)
    per_row = len(sizes) / sizes.sum()
    samplers = {"everyone": sampling.everyone, "scheme I": lambda: sampling.proportional(drawn)}
    weights = {
        "everyone": weighting.proportional,
        "scheme I": weighting.per_draw,
        "scheme II": weighting.unbiased,
        "transformed II": weighting.uniform,
        "original": lambda: weighting.unbiased(probability=1.0),
    }
    multiple = jnp.asarray(per_row, jnp.result_type(float)) if name == "transformed II" else None
    method = fresh_fedavg(problem, rate, steps=steps, batch_size=batch_size, per_row=multiple)
    sampler = samplers.get(name, lambda: sampling.uniform(drawn))()
    round_fn = make_round(sampler, executors.vmapped(), weighting=weights[name]())
    return (ModelsScaled(method) if name == "scheme II" else method), round_fn

"""How far MOCHA's models are from the optimum, as a measure."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from fedjax_het.algorithm import Client, Cohort, Report
from fedjax_het.algorithms.dual import LOSSES
from fedjax_het.algorithms.mocha import Mocha, Server
from fedjax_het.federation import Batch
from fedjax_het.problem import full_mean
from fedjax_het.typing import Array, PyTree

__all__ = ["DualityGap", "duality_gap"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DualityGap:
    """See `duality_gap`."""

    def init(self, algorithm: Mocha, server: Server) -> PyTree:
        """Nothing to remember."""
        return ()

    def client(
        self, carry: PyTree, algorithm: Mocha, server: Server, client: Client, report: Report | None
    ) -> tuple[PyTree, PyTree]:
        """Total: the client's terms of P and of D. Each: nothing."""
        rule, model = LOSSES[algorithm.loss], algorithm.personalise(server, client)

        def values(batch: Batch) -> tuple[Array, Array]:
            alpha = client.state.at[batch.position].get(mode="clip")
            out = algorithm.predict(model, batch.x).reshape(alpha.shape)
            y = rule.target(batch.y, alpha.shape[1])
            return rule.primal(out, y), rule.conjugate(alpha, y)

        loss, conjugate = full_mean(values, client.data)
        # lambda/2 tr(W Sigma^-1 W') = 1/2 sum_t w_t . b_t, so that no client needs another's
        half = jnp.sum(algorithm.weights(server, client) * server.images[client.id]) / 2
        return (loss + half, -conjugate - half), ()

    def finish(
        self, carry: PyTree, algorithm: Mocha, server: Server, total: PyTree, each: PyTree, cohort: Cohort
    ) -> tuple[dict[str, Array], PyTree]:
        """P, D and P - D."""
        primal, dual = total
        return {"primal": primal, "dual": dual, "gap": primal - dual}, carry


def duality_gap() -> DualityGap:
    """P(W) - D(alpha) before the round's work: what the models lose to the best ones under the present Sigma.

    Never negative but for rounding, 0 at the optimum only. The sums are over the clients asked: in a round
    over its cohort, so ask everyone (`fh.survey`, or a round of everyone) for the gap of the whole. For
    `mocha` only.

    Returns:
        A `Measure` with values "primal", "dual" and "gap", in units of the loss; scalars.

    Reference:
        Smith, Chiang, Sanjabi, Talwalkar, NeurIPS 2017, section 3 (primal and dual); the authors'
        `compute_primal` and `compute_dual`.
    """
    return DualityGap()

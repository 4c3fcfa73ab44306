"""How far a dual method is from the optimum, as a measure."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

import fedjax_het as fh
from fedjax_het.problem import full_mean
from fedjax_het.typing import Array, PyTree
from probes.dual_sdca import DualSdca, Server

__all__ = ["Gap"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Gap:
    """Measure: primal minus dual objective over everyone, each sum in the clients' own terms.

    tr(W Sigma^-1 W') lambda/2 = 1/2 sum_t w_t . b_t, so no client needs another's.
    """

    def init(self, algorithm: DualSdca, server: Server) -> PyTree:
        """Nothing to remember."""
        return ()

    def client(
        self, carry: PyTree, algorithm: DualSdca, server: Server, client: fh.Client, report: Any
    ) -> tuple[PyTree, PyTree]:
        """Total: primal and dual terms. Each: |b_t - X_t' alpha_t / n_t|."""
        w, image = algorithm.weights(server, client), server.images[client.id]

        def values(batch: fh.Batch) -> tuple[Array, Array, Array]:
            alpha = client.state.at[batch.position].get(mode="clip")
            x, y = batch.x.reshape(batch.x.shape[0], -1), batch.y
            return algorithm.primal(x @ w, y), algorithm.conjugate(alpha, y), alpha[:, None] * x

        loss, conjugate, own = full_mean(values, client.data)
        half = jnp.sum(w * image) / 2
        return (loss + half, -conjugate - half), jnp.max(jnp.abs(own - image))

    def finish(
        self, carry: PyTree, algorithm: DualSdca, server: Server, total: PyTree, each: PyTree, cohort: fh.Cohort
    ) -> tuple[dict[str, Array], PyTree]:
        """The two objectives, their gap, and how far B is from the dual variables."""
        primal, dual = total
        return {"primal": primal, "dual": dual, "gap": primal - dual, "apart": jnp.max(each)}, carry

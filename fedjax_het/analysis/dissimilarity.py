"""Gradient dissimilarity: how much the clients' gradients disagree at one point."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import tree
from fedjax_het.algorithm import Client, Cohort, Report
from fedjax_het.problem import Model, full_gradient, objective
from fedjax_het.typing import Array, PyTree

__all__ = ["GradientDissimilarity", "gradient_dissimilarity"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GradientDissimilarity:
    """See `gradient_dissimilarity`."""

    def init(self, algorithm: Any, server: PyTree) -> PyTree:
        """The reference s before the first round: zero."""
        shapes = jax.eval_shape(algorithm.problem.init, jax.random.key(0)).params
        return tree.zeros_like(shapes)

    def client(
        self, carry: PyTree, algorithm: Any, server: PyTree, client: Client, report: Report | None
    ) -> tuple[PyTree, PyTree]:
        """Total: p, p (g - s), p |g - s|^2. Each: nothing."""
        model: Model | None = algorithm.consensus(server)
        point = algorithm.personalise(server, client) if model is None else model
        f = objective(algorithm.problem, train=False)
        grads, _ = full_gradient(f, point, client.data, client.key)
        apart = tree.subtract(grads, carry)
        weight = client.weight
        return (weight, tree.scale(weight, apart), weight * tree.sum_of_squares(apart)), ()

    def finish(
        self, carry: PyTree, algorithm: Any, server: PyTree, total: PyTree, each: PyTree, cohort: Cohort
    ) -> tuple[dict[str, Array], PyTree]:
        """G^2, |mean gradient|^2 and B^2; the mean gradient is the next reference."""
        weight, apart, squares = total
        shift = tree.divide(apart, weight)
        spread = tree.divide(squares, weight) - tree.sum_of_squares(shift)
        mean = tree.add(carry, shift)
        norm = tree.sum_of_squares(mean)
        values = {
            "G2": spread,
            "mean_gradient_squared": norm,
            "B2": jnp.where(norm > 0, 1 + spread / jnp.where(norm > 0, norm, 1), jnp.inf),
        }
        return values, tree.where(weight > 0, mean, carry)


def gradient_dissimilarity() -> GradientDissimilarity:
    """G^2(w) = sum_k p_k |g_k - gbar|^2 over the cohort, with B^2(w) = 1 + G^2 / |gbar|^2.

    g_k is the gradient of F_k over all of a client's training rows, the model as in prediction; p are the
    cohort's weights; w is the consensus model, or each client's own model for methods without one. The sums
    run over g - s, with s the last round's mean gradient, since sum p |g|^2 - |gbar|^2 loses its digits near
    IID data.

    Returns:
        A `Measure` with values "G2" and "mean_gradient_squared" (loss^2 / parameter^2) and "B2"; scalars.

    Reference:
        Koloskova, Loizou, Boreiri, Jaggi, Stich, ICML 2020, Assumption 3 (G^2 at the optimum is zeta_*^2); Li,
        Sahu et al., MLSys 2020, Definition 3 (B).
    """
    return GradientDissimilarity()

"""Gradient dissimilarity: how much the clients' gradients disagree at one point."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import tree
from fedjax_het.algorithm import Client, Cohort, Report
from fedjax_het.analysis.gradients import one_plus_ratio
from fedjax_het.analysis.point import looked_at, placed
from fedjax_het.check import known
from fedjax_het.problem import Model, full_gradient, objective
from fedjax_het.typing import Array, Params, PyTree, static

__all__ = ["GradientDissimilarity", "gradient_dissimilarity"]

OVER = ("cohort", "clients")
"""cohort: what is said holds of the clients asked; clients: it estimates what holds of all."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GradientDissimilarity:
    """See `gradient_dissimilarity`."""

    model: Model | None = None
    place: str = static(default="server")
    over: str = static(default="cohort")

    def init(self, algorithm: Any, server: PyTree) -> PyTree:
        """Nothing to remember."""
        return ()

    def begin(self, carry: PyTree, algorithm: Any, server: PyTree, client: Client) -> PyTree:
        """The reference s: this client's gradient; zero if it is not finite, so that nobody else is harmed."""
        grads = self._gradient(algorithm, server, client)
        return tree.where(tree.all_finite(grads), grads, tree.zeros_like(grads))

    def _gradient(self, algorithm: Any, server: PyTree, client: Client) -> Params:
        point = looked_at(self.place, self.model, algorithm, server, client)
        f = objective(algorithm.problem, train=False)
        return full_gradient(f, point, client.data, client.key)[0]

    def client(
        self, carry: PyTree, algorithm: Any, server: PyTree, client: Client, report: Report | None
    ) -> tuple[PyTree, PyTree]:
        """Total: p, p (g - s), p |g - s|^2; p is n_k if all clients are meant. Each: nothing."""
        apart = tree.subtract(self._gradient(algorithm, server, client), carry)
        weight = client.weight if self.over == "cohort" else client.data.size.astype(client.weight.dtype)
        return (weight, tree.scale(weight, apart), weight * tree.sum_of_squares(apart)), ()

    def finish(
        self, carry: PyTree, algorithm: Any, server: PyTree, total: PyTree, each: PyTree, cohort: Cohort
    ) -> tuple[dict[str, Array], PyTree]:
        """G^2, |mean gradient|^2 and B^2."""
        weight, apart, squares = total
        shift = tree.divide(apart, weight)
        spread = tree.divide(squares, weight) - tree.sum_of_squares(shift)
        norm = tree.sum_of_squares(tree.add(carry, shift))
        if self.over == "clients":
            spread, norm = _of_everyone(spread, norm, weight, cohort)
        values = {"G2": spread, "mean_gradient_squared": norm, "B2": one_plus_ratio(spread, norm)}
        return values, ()


def _of_everyone(spread: Array, norm: Array, rows: Array, cohort: Cohort) -> tuple[Array, Array]:
    """(G^2, |grad F|^2) of all clients, estimated from what a cohort of `rows` rows shows."""
    real = spread.dtype
    count = jnp.asarray(cohort.population, real)
    drawn = jnp.sum((cohort.id < cohort.population).astype(real))
    everyone = drawn == count
    one = count / jnp.maximum(drawn, 1)  # 1 / probability that a client is drawn; below, that a pair is
    two = one * (count - 1) / jnp.where(drawn > 1, drawn - 1, 1)
    two = jnp.where(everyone, 1, jnp.where(drawn > 1, two, jnp.nan))
    held = rows / jnp.where(cohort.rows > 0, cohort.rows, 1)
    return two * held**2 * spread, one * held * (norm + spread) - two * held**2 * spread


def gradient_dissimilarity(*, at: str | Model = "server", over: str = "cohort") -> GradientDissimilarity:
    """G^2(w) = sum_k p_k |g_k - gbar|^2 over the cohort, with B^2(w) = 1 + G^2 / |gbar|^2.

    g_k is the gradient of F_k over all of a client's training rows, the model as in prediction. The sums run
    over g - s, with s the gradient of the cohort's heaviest client, since sum p |g|^2 - |gbar|^2 loses its
    digits near IID data: |gbar - s|^2 is of the order of G^2, at most (1/p_s - 1) G^2, however long gbar is.
    One pass over the rows of the clients asked, and one more over those of that client.

    Over "clients" the values estimate those of all N clients with p_k = n_k / n. Let S be m of the N clients,
    drawn uniformly without replacement, P = sum_S p_k, and G_S^2 and gbar_S those of S with shares p_k / P. A
    client is in S with probability m/N, a pair with m(m - 1) / (N(N - 1)). G^2 is a sum over pairs,
    1/2 sum_kl p_k p_l |g_k - g_l|^2, and sum_k p_k |g_k|^2 = G^2 + |gbar|^2 one over clients: without bias

        G^2       ~  N(N - 1) / (m(m - 1)) P^2 G_S^2                 (a factor m(N - 1) / ((m - 1)N) if p = 1/N)
        |gbar|^2  ~  (N/m) P (G_S^2 + |gbar_S|^2) - the above

    exact for m = N, NaN for m = 1 < N. The second estimate may be negative, and B^2, the ratio, is biased:
    average both over rounds first. It holds neither for other samplers nor where clients drawn drop out.

    Args:
        at: where w lies. "server": the one global model, or each client's own for methods without one.
            "personal": what each client would use, for clustered methods the centre of its own cluster; some
            methods train it for that. Or a `Model`: any point, such as one centre. For G^2 at a centre over
            the members of its cluster, put a survey to their ids.
        over: "cohort": the clients asked, p their weights in the round, scaled to sum to 1. "clients": see
            above.

    Returns:
        A `Measure` with values "G2" and "mean_gradient_squared" (loss^2 / parameter^2) and "B2"; scalars. B2
        is infinite where the mean gradient is nothing but rounding, see `gradients.b_squared`.

    Raises:
        TypeError, ValueError: an unknown place, or neither of the two meanings.

    Reference:
        Koloskova, Loizou, Boreiri, Jaggi, Stich, ICML 2020, Assumption 3 (G^2 at the optimum is zeta_*^2); Li,
        Sahu et al., MLSys 2020, Definition 3 (B). Horvitz, Thompson, Journal of the American Statistical
        Association 47, 1952 (estimates over clients and pairs).
    """
    place, model = placed(at)
    return GradientDissimilarity(model, place, known("over", over, OVER))

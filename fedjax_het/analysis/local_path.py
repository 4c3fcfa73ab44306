"""Client drift within a round: how far each local step has gone, and how far the clients are apart by then."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import tree
from fedjax_het.algorithm import Client, Cohort, Report
from fedjax_het.analysis.local_walk import check_walk, walk
from fedjax_het.check import positive_int, short
from fedjax_het.local import Solver
from fedjax_het.typing import Array, Params, PyTree, static

__all__ = ["LocalPath", "local_path"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LocalPath:
    """See `local_path`.

    Attributes:
        solver: the local steps.
        room: the most of them that a client may take; static.
        plain: whether they descend F_k itself; static.
        spread: whether V_s is measured; static.
    """

    solver: Solver
    room: int = static()
    plain: bool = static()
    spread: bool = static()

    def init(self, algorithm: Any, server: PyTree) -> PyTree:
        """Nothing to remember.

        Raises:
            TypeError: the algorithm does not say what its clients minimise.
        """
        check_walk(algorithm, self.plain)
        return ()

    def begin(self, carry: PyTree, algorithm: Any, server: PyTree, client: Client) -> PyTree:
        """The reference path: this client's, zero where it is not finite; () where none is needed."""
        if not self.spread:
            return ()
        _, path, _ = self._walked(algorithm, server, client)
        return tree.where(tree.all_finite(path), path, tree.zeros_like(path))

    def _walked(self, algorithm: Any, server: PyTree, client: Client) -> tuple[Array, PyTree, Array]:
        """(squared distance [room + 1], path of leaves [room + 1, ...], steps) of one client's local work."""

        def seen(params: Params, start: Params, grads: Params) -> tuple[Array, PyTree]:
            moved = tree.subtract(params, start)
            return tree.sum_of_squares(moved), moved if self.spread else ()

        solution, start = walk(
            algorithm, server, client, solver=self.solver, probe=seen, room=self.room, plain=self.plain
        )
        end = seen(solution.params, start.params, start.params)
        steps = solution.steps
        place = jnp.arange(self.room + 1, dtype=jnp.int32)

        def whole(trace: Array, last: Array) -> Array:
            """[room + 1, ...]: the trace, and the end from the last step on."""
            trace = jnp.concatenate([trace, jnp.zeros_like(trace[:1])])
            on = (place < steps).reshape(-1, *[1] * (trace.ndim - 1))
            return jnp.where(on, trace, last[None])

        squared, path = jax.tree.map(whole, solution.trace, end)
        return squared, path, steps

    def client(
        self, carry: PyTree, algorithm: Any, server: PyTree, client: Client, report: Report | None
    ) -> tuple[PyTree, PyTree]:
        """Total: omega times 1, d^2, its mean over own steps, the last d, and the path. Each: d and the steps.

        Raises:
            TypeError: the method has not one model a client.
        """
        squared, path, steps = self._walked(algorithm, server, client)
        place = jnp.arange(self.room + 1, dtype=jnp.int32)
        # a walk longer than its room must not pass unseen
        squared = jnp.where(steps <= self.room, squared, jnp.nan)
        counts = (place > 0) & (place <= steps)
        mean = jnp.sum(jnp.where(counts, squared, 0)) / jnp.maximum(steps, 1).astype(squared.dtype)
        distance = jnp.sqrt(squared)
        total: dict[str, Any] = {
            "weight": jnp.ones_like(mean),
            "squared": squared,
            "local": jnp.where(steps <= self.room, mean, jnp.nan),
            "drift": distance[-1],
        }
        if self.spread:
            total["apart"] = tree.subtract(path, carry)
            total["apart_squared"] = jax.vmap(tree.sum_of_squares)(total["apart"])
        return tree.scale(client.weight, total), (distance, steps)

    def finish(
        self, carry: PyTree, algorithm: Any, server: PyTree, total: PyTree, each: PyTree, cohort: Cohort
    ) -> tuple[dict[str, Array], PyTree]:
        """Means over the cohort."""
        weight = total["weight"]

        def nothing(leaf: Array) -> Array:
            return jnp.full(leaf.shape, jnp.nan, leaf.dtype)

        def mean(value: PyTree) -> PyTree:
            return tree.where(weight > 0, tree.divide(value, weight), jax.tree.map(nothing, value))

        distance, steps = each
        values = {
            "by_client": jnp.where(cohort.present[:, None], distance, jnp.nan),
            "steps": jnp.where(cohort.present, steps, 0),
            "squared": mean(total["squared"]),
            "local_drift": mean(total["local"]),
            "drift": mean(total["drift"]),
        }
        if self.spread:
            shift = mean(total["apart"])
            values["spread"] = mean(total["apart_squared"]) - jax.vmap(tree.sum_of_squares)(shift)
        return values, ()


def local_path(solver: Solver, room: int, *, plain: bool = False, spread: bool = False) -> LocalPath:
    """d_k(j) = |w_k,j - w| for every local step j of every client, and what theorems make of it.

        V_s = sum_k p_k |w_k,s - wbar_s|^2,  wbar_s = sum_k p_k w_k,s       (how far clients are apart)
        Eps = sum_k p_k (1/tau_k) sum_{j=1..tau_k} |w_k,j - w|^2            (the drift within the round)

    Local work is walked once more from w, with the client's own key of the round: on the batches that FedAvg
    takes. In a round that costs the cohort's local work again; in a survey, which has keys of its own, it
    walks all clients asked, drawn or not. A run of fewer local steps at the same rates is the beginning of a
    longer one: d_k(E) over E is how drift grows with E.

    w is the consensus model, or the client's own for methods without one, and p the cohort's weights. After
    its last step a model stays where it is, so that wbar_s ends at FedAvg's next model. V_s is taken around
    the path of the cohort's heaviest client, walked once more for it, which keeps its digits near IID data.

    Args:
        solver: the local steps, such as the algorithm's own.
        room: E, the most local steps that a client takes.
        plain: False for the steps on the algorithm's own objective (FedProx's term included), which FedAvg,
            FedProx and FedNova name; True for steps on F_k itself, whatever the algorithm does with them.
        spread: whether to measure V_s, which keeps E + 1 models a client.

    Returns:
        A `Measure` with values, all in the unit of the parameters or its square:
        "by_client" d_k(j) float [C, E + 1], nan where absent; "steps" tau_k int32 [C];
        "squared" sum_k p_k d_k(j)^2 float [E + 1]; "local_drift" Eps, scalar; "drift" sum_k p_k d_k(tau_k),
        scalar; and with `spread` "spread" V_s float [E + 1]. All of a client with more steps than `room` is
        nan.

    Raises:
        TypeError: a solver or a room of the wrong kind; `init`: an algorithm that names no objective.
        ValueError: no room.

    Reference:
        Karimireddy et al., ICML 2020, section 3 (Eps, client drift); Khaled, Mishchenko, Richtarik, AISTATS
        2020, and Li, Huang, Yang, Wang, Zhang, ICLR 2020, Lemma 3 (V_s).
    """
    if not isinstance(solver, Solver):
        raise TypeError(f"solver must be a Solver, got {short(solver)}: make one with fh.local.sgd")
    room = positive_int("room", room, remedy="give the most local steps that a client takes")
    return LocalPath(solver, room, bool(plain), bool(spread))

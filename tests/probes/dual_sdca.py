"""A small dual method (MOCHA's W-step): clients keep a number for each row, the server a vector a client."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.local import Plan, Solver, fold
from fedjax_het.problem import Model, Problem
from fedjax_het.typing import Array, Key, PyTree, static

__all__ = ["DualSdca", "Server", "dual_sdca"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """images B [N, d], row t being X_t' alpha_t / n_t; relation Sigma [N, N]; safety rho, scalar."""

    images: Array
    relation: Array
    safety: Array


def _safety(relation: Array) -> Array:
    return jnp.max(jnp.sum(jnp.abs(relation), axis=1) / jnp.diagonal(relation))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DualSdca:
    """W = Sigma B / lambda, B from the dual variables; coordinate steps on the dual of each client's rows.

    Attributes:
        problem: a linear one with one output and no bias.
        plan: how many rows, in which order.
        weighting: not used.
        strength: lambda.
        loss: "squared" (1/2 (z - y)^2) or "hinge" (alpha y kept in [0, 1]; y is -1 or 1); static.
        learns: whether Sigma is refitted after every round, (W W')^(1/2) over its trace; static.
    """

    problem: Problem
    plan: Plan
    weighting: Any
    strength: Array
    loss: str = static()
    learns: bool = static()

    def init(self, key: Key, federation: fh.Federation) -> tuple[Server, Array]:
        """Zero dual variables [N, n], unrelated tasks."""
        inputs, outputs = jax.eval_shape(self.problem.init, key).params["head"]["kernel"].shape
        if outputs != 1:
            raise ValueError(
                f"problem must have one output, got {outputs}: a dual variable is one number a row"
            )
        clients, dtype = federation.num_clients, jnp.result_type(float)
        relation = jnp.eye(clients, dtype=dtype) / clients
        server = Server(jnp.zeros((clients, inputs), dtype), relation, _safety(relation))
        return server, jnp.zeros((clients, federation.spec.capacity[0]), dtype)

    def weights(self, server: Server, client: fh.Client) -> Array:
        """w_t [d]."""
        return server.relation[client.id] @ server.images / self.strength

    def change(self, alpha: Array, z: Array, y: Array, curvature: Array) -> Array:
        """The best step of one dual variable, scalar."""
        if self.loss == "squared":
            return (y - z - alpha) / (1 + curvature)
        free = (1 - y * z) / jnp.maximum(curvature, jnp.finfo(curvature.dtype).tiny) + y * alpha
        return y * jnp.clip(free, 0, 1) - alpha

    def client_update(self, server: Server, client: fh.Client) -> fh.Report:
        """Coordinate ascent in the order of the plan, as far as the work goes; upload X' delta / n."""
        w = self.weights(server, client)
        stiffness = server.safety * server.relation[client.id, client.id] / self.strength
        size = jnp.maximum(client.data.size, 1).astype(w.dtype)

        def step(carry: Any, batch: fh.Batch, key: Key, j: Array) -> Any:
            def row(i: Array, carry: Any) -> Any:
                alpha, image, loss = carry
                x, y = batch.x[i].reshape(-1).astype(w.dtype), batch.y[i].astype(w.dtype)
                at, counts = batch.position[i], batch.weight[i] > 0
                z = jnp.sum(x * (w + stiffness * image))
                change = self.change(alpha[at], z, y, stiffness * jnp.sum(x * x) / size)
                change = jnp.where(counts, change, 0)
                loss = loss + jnp.where(counts, self.primal(jnp.sum(x * w), y), 0)
                return alpha.at[at].add(change), image + change / size * x, loss

            return jax.lax.fori_loop(0, batch.weight.shape[0], row, carry)

        start = (client.state, jnp.zeros_like(w), jnp.zeros((), w.dtype))
        carry, steps = fold(step, start, client.key, client.data, self.plan, work=client.work)
        alpha, image, loss = carry
        rows = steps.astype(w.dtype) * size / self.plan.batches(client.data).astype(w.dtype)
        info = {"loss": loss / jnp.maximum(rows, 1), "steps": steps}
        local = self.model(w + stiffness / server.safety * image)
        return fh.Report(alpha, (), each=image, info=info, local=local)

    def primal(self, z: Array, y: Array) -> Array:
        """The loss at the output z."""
        return (z - y) ** 2 / 2 if self.loss == "squared" else jnp.maximum(1 - y * z, 0)

    def conjugate(self, alpha: Array, y: Array) -> Array:
        """The conjugate of the loss at -alpha."""
        return (alpha / 2 - y) * alpha if self.loss == "squared" else -y * alpha

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: fh.Cohort, key: Key) -> Server:
        """B[id] += each; then Sigma and rho, from which W follows."""
        images = server.images.at[cohort.id].add(each, mode="drop")
        relation = server.relation
        if self.learns:
            w = relation @ images / self.strength
            values, vectors = jnp.linalg.eigh(w @ w.T)
            # W W' has rank d < N: its zeros are noise, whose roots would be a thousand times as large
            roots = jnp.sqrt(jnp.maximum(values, 1e-4 * jnp.max(values) + 1e-7))
            relation = (vectors * roots[None, :]) @ vectors.T / jnp.sum(roots)
        return Server(images, relation, _safety(relation))

    def model(self, w: Array) -> Model:
        """w as parameters of the problem."""
        return Model({"head": {"kernel": w[:, None]}}, ())

    def personalise(self, server: Server, client: fh.Client) -> Model:
        """The client's own weights."""
        return self.model(self.weights(server, client))

    def predict(self, model: Model, x: Array) -> PyTree:
        """The model's outputs."""
        return self.problem.apply(model.params, model.buffers, x)[0]

    def consensus(self, server: Server) -> None:
        """There is one model a client."""
        return

    def join(self, server: Server, client: fh.Client) -> PyTree:
        """Refused."""
        raise ValueError("dual_sdca cannot serve unseen clients: Sigma has no row for them; train with them")

    def traffic(self, server: Server) -> fh.Traffic:
        """w_t down, X' delta / n up."""
        size = tree.num_bytes(jax.eval_shape(lambda server: server.images[0], server))
        return fh.Traffic(size, size)


def dual_sdca(
    problem: Problem, solver: Solver, *, strength: Any = 0.1, loss: str = "squared", learns: bool = False
) -> DualSdca:
    """Dual coordinate ascent on related linear tasks; of the solver only the plan is used."""
    fh.check.known("loss", loss, ("squared", "hinge"))
    strength = fh.check.number("strength", strength, above=0)
    return DualSdca(problem, solver.plan, fh.weighting.uniform(), strength, loss, learns)

"""What one would write by hand instead: the same rounds as one JAX program, and as a plain PyTorch loop.

Both run all rounds of a `Workload` from its initial weights and return the final weights. Neither knows
anything but this one model, algorithm and data layout; that is their advantage.

What the JAX program does for speed, each found by measurement on one core:

- Rows are laid out beforehand, client by client and batch by batch, so a batch is one slice.
- Tiny model (W1): the cohort is sorted by steps and cut into groups of ten; each group is vmapped and runs to
  the longest of the group, and a client that is done takes steps of length zero. The narrow layer's weight
  gradient is stated as (d^T x)^T behind a barrier, because XLA:CPU sends a product to its fast micro-kernels
  only if the left side contracts its last axis; x^T d as autodiff writes it runs in slower code. Gradient
  and value are the same.
- Convolutions (W3): one jitted call a step from a Python loop. Inside a compiled loop XLA:CPU runs their
  gradients in naive code, and a round takes 13 to 15 times as long.
- A model beyond cache (W2): one client at a time, without a batch axis, a loop of the client's own length.
  The stated gradient loses here (the transposed result is as large as the layer), so it is plain autodiff.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from workloads import Workload

__all__ = ["handwritten", "pytorch"]

Params = Any
Run = Callable[[], Params]
"""Runs all rounds from the initial weights, waits for the result and returns the weights."""


@jax.custom_vjp
def _narrow(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x @ kernel for few outputs and constant x: the weight gradient is d^T x, transposed afterwards."""
    return x @ kernel


def _narrow_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x @ kernel, x


def _narrow_backward(x: jax.Array, d: jax.Array) -> tuple[None, jax.Array]:
    return None, lax.optimization_barrier(d.T @ x).T


_narrow.defvjp(_narrow_forward, _narrow_backward)


def _loss(params: Params, x: jax.Array, y: jax.Array, *, stated: bool) -> jax.Array:
    """Mean cross-entropy of a batch, scalar."""
    product = jnp.matmul
    for name in [name for name in params if name.startswith("conv")]:
        x = x.reshape(len(x), 28, 28, 1) if x.ndim == 2 else x
        kernel = params[name]["kernel"]
        x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(x + params[name]["bias"])
        rows, height, width, channels = x.shape
        x = x.reshape(rows, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
    x = x.reshape(len(x), -1)
    if "dense_0" in params:
        x = jax.nn.relu(x @ params["dense_0"]["kernel"] + params["dense_0"]["bias"])
    elif stated:
        product = _narrow
    out = product(x, params["head"]["kernel"]) + params["head"]["bias"]
    return -jnp.mean(jnp.sum(jax.nn.log_softmax(out) * jax.nn.one_hot(y, out.shape[1]), axis=1))


def handwritten(workload: Workload, *, group: int | None = None, stated: bool = True) -> Run:
    """All rounds as one jitted JAX program.

    Args:
        workload: what to run.
        group: clients vmapped together, a divisor of the cohort; 1 means one at a time without a batch axis.
            10 for W1 and 1 for W2 if not given.
        stated: state the weight gradient of a model of one layer, see above; otherwise plain autodiff.
    """
    if "conv_0" in workload.params:
        return _step_by_step(workload)
    batch, rate = workload.batch, workload.learning_rate
    order = np.concatenate(workload.rows)
    x = jnp.asarray(workload.x[order].reshape(-1, batch, workload.x.shape[1]))
    y = jnp.asarray(workload.y[order].reshape(-1, batch))
    size = jnp.asarray(workload.sizes)
    first = (jnp.cumsum(size) - size) // batch
    cohort = workload.ids.shape[1]
    if group is None:
        group = 1 if "dense_0" in workload.params else 10
    gradient = jax.value_and_grad(functools.partial(_loss, stated=stated))

    def one(total: Params, weight: jax.Array, begin: jax.Array, steps: jax.Array, server: Params) -> Any:
        """One client; `total` gains its weighted delta."""

        def step(i: jax.Array, carry: tuple[Params, jax.Array]) -> tuple[Params, jax.Array]:
            params, loss = carry
            value, grads = gradient(params, x[begin + i], y[begin + i])
            return jax.tree.map(lambda p, g: p - rate * g, params, grads), loss + value

        params, loss = lax.fori_loop(0, steps, step, (server, jnp.zeros(())))
        return jax.tree.map(lambda t, p, s: t + weight * (p - s), total, params, server), loss / steps

    def several(total: Params, weight: jax.Array, begin: jax.Array, steps: jax.Array, server: Params) -> Any:
        """A group whose first client is the longest; all arrays have a leading axis of `group`."""

        def step(i: jax.Array, carry: tuple[Params, jax.Array]) -> tuple[Params, jax.Array]:
            def alone(params: Params, loss: jax.Array, x: jax.Array, y: jax.Array, live: jax.Array) -> Any:
                value, grads = gradient(params, x, y)
                length = jnp.where(live, rate, 0)
                params = jax.tree.map(lambda p, g: p - length * g, params, grads)
                return params, loss + jnp.where(live, value, 0)

            return jax.vmap(alone)(*carry, x[begin + i], y[begin + i], i < steps)

        start = jax.tree.map(lambda s: jnp.broadcast_to(s, (group, *s.shape)), server)
        params, loss = lax.fori_loop(0, steps[0], step, (start, jnp.zeros(group)))
        total = jax.tree.map(lambda t, p, s: t + jnp.tensordot(weight, p - s, 1), total, params, server)
        return total, loss / steps

    def one_round(server: Params, ids: jax.Array) -> tuple[Params, jax.Array]:
        """(new weights, mean training loss of each client [C])."""
        clients = (size[ids] / size[ids].sum(), first[ids], size[ids] // batch)
        longest = jnp.argsort(-size[ids])
        if group > 1:
            clients = jax.tree.map(lambda a: a[longest].reshape(cohort // group, group), clients)
        body = several if group > 1 else one
        zero = jax.tree.map(jnp.zeros_like, server)
        total, losses = lax.scan(lambda total, client: body(total, *client, server), zero, clients)
        if group > 1:
            losses = jnp.zeros(cohort).at[longest].set(losses.reshape(-1))
        return jax.tree.map(jnp.add, server, total), losses

    rounds = jax.jit(lambda server, ids: lax.scan(one_round, server, ids))
    start, ids = jax.tree.map(jnp.asarray, workload.params), jnp.asarray(workload.ids)
    return lambda: jax.block_until_ready(rounds(start, ids))[0]


def _channels_first(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A dense layer's kernel after images, its inputs in PyTorch's order; as it is for 0 channels."""
    if not channels:
        return kernel
    side = int(np.sqrt(len(kernel) // channels))
    return kernel.reshape(side, side, channels, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)


def _channels_last(kernel: np.ndarray, channels: int) -> np.ndarray:
    """The inverse of `_channels_first`."""
    if not channels:
        return kernel
    side = int(np.sqrt(len(kernel) // channels))
    return kernel.reshape(channels, side, side, -1).transpose(1, 2, 0, 3).reshape(kernel.shape)


def _step_by_step(workload: Workload) -> Run:
    """A jitted call for every step from a Python loop: outside of loops XLA lays the convolutions out well."""
    batch, rate = workload.batch, workload.learning_rate
    order = np.concatenate(workload.rows)
    x = jnp.asarray(workload.x[order].reshape(-1, batch, workload.x.shape[1]))
    y = jnp.asarray(workload.y[order].reshape(-1, batch))
    sizes = workload.sizes
    first = (np.cumsum(sizes) - sizes) // batch
    gradient = jax.grad(functools.partial(_loss, stated=False))

    @jax.jit
    def step(params: Params, x: jax.Array, y: jax.Array, i: jax.Array) -> Params:
        return jax.tree.map(lambda p, g: p - rate * g, params, gradient(params, x[i], y[i]))

    @jax.jit
    def add(total: Params, weight: Any, params: Params, server: Params) -> Params:
        return jax.tree.map(lambda t, p, s: t + weight * (p - s), total, params, server)

    start = jax.tree.map(jnp.asarray, workload.params)

    def run() -> Params:
        server = start
        for ids in workload.ids:
            total = jax.tree.map(jnp.zeros_like, server)
            for k in ids:
                params = server
                for i in range(first[k], first[k] + sizes[k] // batch):
                    params = step(params, x, y, i)
                total = add(total, sizes[k] / sizes[ids].sum(), params, server)
            server = jax.tree.map(jnp.add, server, total)
        return jax.block_until_ready(server)

    return run


def pytorch(workload: Workload, *, optimizer: bool = False) -> Run:
    """A plain PyTorch loop over clients and batches: slices of one tensor, autograd, SGD.

    Args:
        workload: what to run.
        optimizer: step with `torch.optim.SGD`, made once; otherwise the step is written out, which is faster.
    """
    import torch
    from torch import nn

    order = np.concatenate(workload.rows)
    x = torch.from_numpy(workload.x[order])
    y = torch.from_numpy(workload.y[order].astype(np.int64))
    sizes = workload.sizes
    first = np.cumsum(sizes) - sizes
    layers: list[nn.Module] = []
    start: list[torch.Tensor] = []
    after_images = 0
    for name, weights in workload.params.items():
        kernel = weights["kernel"]
        if name.startswith("conv"):
            layers += [] if layers else [nn.Unflatten(1, (1, 28, 28))]
            layers += [nn.Conv2d(kernel.shape[2], kernel.shape[3], 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
            kernel, after_images = kernel.transpose(3, 2, 0, 1), kernel.shape[-1]
        else:
            layers += [nn.Flatten()] if after_images and name == "dense_0" else []
            layers += [nn.Linear(*kernel.shape), nn.ReLU()]
            kernel = _channels_first(kernel, after_images if name == "dense_0" else 0).T
        start += [torch.from_numpy(kernel.copy()), torch.from_numpy(weights["bias"])]
    model = nn.Sequential(*layers[:-1])
    params = list(model.parameters())
    cross_entropy = nn.CrossEntropyLoss()
    sgd = torch.optim.SGD(params, lr=workload.learning_rate) if optimizer else None

    def step(loss: torch.Tensor) -> None:
        if sgd is not None:
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            return
        grads = torch.autograd.grad(loss, params)
        with torch.no_grad():
            for p, g in zip(params, grads):
                p.sub_(g, alpha=workload.learning_rate)

    def one_client(server: list[torch.Tensor], begin: int, size: int) -> torch.Tensor:
        """Trains `model` from the server's weights; returns the mean training loss."""
        with torch.no_grad():
            for p, s in zip(params, server):
                p.copy_(s)
        loss_sum = torch.zeros(())
        for row in range(begin, begin + size, workload.batch):
            loss = cross_entropy(model(x[row : row + workload.batch]), y[row : row + workload.batch])
            step(loss)
            loss_sum += loss.detach()
        return loss_sum / (size // workload.batch)

    def run() -> Params:
        server = [s.clone() for s in start]
        for ids in workload.ids:
            rows = int(sizes[ids].sum())
            total = [torch.zeros_like(s) for s in server]
            losses = []
            for k in ids:
                losses.append(one_client(server, int(first[k]), int(sizes[k])))
                with torch.no_grad():
                    for t, p, s in zip(total, params, server):
                        t.add_(p - s, alpha=int(sizes[k]) / rows)
            server = [s + t for s, t in zip(server, total)]
        made = {}
        for name, w, b in zip(workload.params, server[::2], server[1::2]):
            if name.startswith("conv"):
                kernel = w.numpy().transpose(2, 3, 1, 0)
            else:
                kernel = _channels_last(w.numpy().T, after_images if name == "dense_0" else 0)
            made[name] = {"kernel": kernel, "bias": b.numpy()}
        return made

    return run

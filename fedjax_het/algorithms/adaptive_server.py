"""The server's adaptive step, which FedAdagrad, FedAdam and FedYogi share but for their second moment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fedjax_het import tree
from fedjax_het.check import known, number
from fedjax_het.local import Optax, Schedule, optimizer
from fedjax_het.local.optimizers import rate
from fedjax_het.typing import Array, Params, PyTree

__all__ = ["MODES", "Moments", "SecondMoment", "adaptive", "adaptive_server"]

MODES = ("paper", "keras")
"""paper: Algorithm 2 as printed; keras: the optimisers that the paper's own runs used."""

SecondMoment = Callable[[Array, Array, Any], Array]
"""(v, Delta^2, b2) -> the next v, for one leaf."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Moments:
    """The state of an adaptive server.

    Attributes:
        m: the first moment of the mean update, like params; () where the rule has none.
        v: the second moment, like params.
        count: steps taken, int32 scalar; rounds in which nobody took part are none.
    """

    m: PyTree
    v: Params
    count: Array


def adaptive(
    learning_rate: Any, b1: Any, b2: Any, tau: Any, second: SecondMoment, mode: str
) -> optax.GradientTransformation:
    """m <- b1 m + (1 - b1) Delta;  v <- second(v, Delta^2, b2);  w <- w + eta_g m / (sqrt(v) + tau).

    It is fed -Delta, as gradient transformations are, and keeps the moments of Delta. In mode "paper" m starts
    at 0 and v at tau^2, and no bias is corrected. In mode "keras" v starts at 0, and a rule that forgets has
    eta_g sqrt(1 - b2^s) / (1 - b1^s) for eta_g in its s-th step, counted from 1.

    Args:
        learning_rate: eta_g, scalar.
        b1: scalar, or None for m = Delta.
        b2: scalar, or None for a rule that forgets nothing.
        tau: scalar.
        second: the next v.
        mode: one of `MODES`.
    """

    def init(params: Params) -> Any:
        start = tau**2 if mode == "paper" else 0.0
        m = () if b1 is None else tree.zeros_like(params)
        v = jax.tree.map(lambda leaf: jnp.full(leaf.shape, start, leaf.dtype), params)
        return Moments(m, v, jnp.zeros((), jnp.int32))

    def update(updates: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
        count = state.count + 1
        delta = tree.scale(-1, updates)
        m = delta if b1 is None else tree.add(tree.scale(b1, state.m), tree.scale(1 - b1, delta))
        v = jax.tree.map(lambda old, leaf: second(old, leaf * leaf, _like(b2, leaf)), state.v, delta)
        eta = learning_rate
        if mode == "keras" and b1 is not None and b2 is not None:
            steps = count.astype(jnp.result_type(float))
            eta = eta * jnp.sqrt(1 - b2**steps) / (1 - b1**steps)
        step = jax.tree.map(lambda a, b: _like(eta, a) * a / (_root(b) + _like(tau, a)), m, v)
        return step, Moments(() if b1 is None else m, v, count)

    return optax.GradientTransformation(init, update)


def _like(value: Any, leaf: Array) -> Any:
    return None if value is None else jnp.asarray(value, leaf.dtype)


def _root(v: Array) -> Array:
    """sqrt(v), whose derivative at 0 is 0 and not infinite: there every update so far was 0."""
    positive = v > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, v, 1)), 0)


def adaptive_server(
    server_learning_rate: Any, *, b1: Any, b2: Any, tau: Any, second: SecondMoment, mode: str
) -> Optax:
    """The server's optimiser of an adaptive method, its numbers checked and kept as leaves.

    Args:
        server_learning_rate: eta_g > 0, or a schedule over rounds.
        b1: in [0, 1), or None; see `adaptive`.
        b2: in [0, 1), or None.
        tau: > 0.
        second: a function defined once, since it is part of the compiled program.
        mode: one of `MODES`.

    Raises:
        TypeError, ValueError: a number of the wrong kind or range; unknown mode.
    """
    known("mode", mode, MODES)
    eta: Array | Schedule = rate("server_learning_rate", server_learning_rate)
    if b1 is not None:
        b1 = number("b1", b1, least=0, below=1, remedy="0.9 is usual, 0 is no momentum")
    if b2 is not None:
        b2 = number("b2", b2, least=0, below=1, remedy="near 1, such as 0.99, it averages over many rounds")
    tau = number("tau", tau, above=0, remedy="0.001 is usual; larger is less adaptive")
    return optimizer(adaptive, learning_rate=eta, b1=b1, b2=b2, tau=tau, second=second, mode=mode)

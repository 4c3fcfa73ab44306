"""Affine: a round as z <- Mz + v, which tells its limit, its path and its rate; and the probe that finds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from fedjax_het.analysis.oracles.double import double
from fedjax_het.check import positive_int, short
from fedjax_het.typing import Array, PyTree

__all__ = ["Affine", "affine_probe"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Affine:
    """The map z -> Mz + v.

    Attributes:
        matrix: M, float [m, m].
        offset: v, float [m].
    """

    matrix: Array
    offset: Array

    @double
    def __call__(self, state: Array) -> Array:
        """The state [m] after one round."""
        return jnp.matmul(self.matrix, state, precision="highest") + self.offset

    @property
    @double
    def fixed_point(self) -> Array:
        """z with Mz + v = z, float [m].

        M must not have the eigenvalue 1. It has where something never changes, such as the state of a client
        that takes no part, or the position along a direction in which every client is flat: then there is a
        fixed point for each value of it, and what comes out here is none of them.
        """
        return jnp.linalg.solve(
            jnp.eye(self.offset.shape[0], dtype=self.matrix.dtype) - self.matrix, self.offset
        )

    @property
    @double
    def rate(self) -> Array:
        """rho(M), the largest |eigenvalue|: the error shrinks by it in a round, or grows if it is above 1."""
        return jnp.max(jnp.abs(jnp.linalg.eigvals(self.matrix)))

    @double
    def trajectory(self, start: Array, rounds: int) -> Array:
        """The states before and after each of the rounds, float [rounds + 1, m].

        Args:
            start: the state before the first one [m].
            rounds: how many; it fixes the shape.

        Raises:
            TypeError, ValueError: `rounds` is not a whole number >= 0.
        """
        rounds = positive_int("rounds", rounds, least=0, remedy="say how many rounds to follow")
        start = jnp.asarray(start, self.offset.dtype)

        def one(state: Array, _: None) -> tuple[Array, Array]:
            state = self(state)
            return state, state

        return jnp.concatenate([start[None], jax.lax.scan(one, start, length=rounds)[1]])


def affine_probe(step: Callable[[PyTree], PyTree], state: PyTree) -> tuple[Affine, Callable[[Array], PyTree]]:
    """The affine map that `step` is, on the flattened state: M = d step / d state, v = step(state) - M state.

    A deterministic round on quadratic functions is affine in its state, so that this is the round itself, up to
    rounding, whatever the method: compare it with a closed form, or ask it for its fixed point and its rate.
    For a step that is not affine it is the tangent at `state`. It costs as many directional derivatives as the
    state has numbers, all at once.

    For a round of the engine, whose state holds a key and counters as well, vary what is to be probed:

        def step(server):
            return round_fn(algorithm, dataclasses.replace(state, server=server), federation)[0].server

    Where clients keep something too, as in SCAFFOLD, FedDyn or Ditto, the state is the pair:

        def step(held):
            server, clients = held
            moved = dataclasses.replace(state, server=server, clients=clients)
            after, _ = round_fn(algorithm, moved, federation)
            return after.server, after.clients

        tangent, unravel = affine_probe(step, (state.server, state.clients))

    What a round only copies has the eigenvalue 1: a control variate of the server that is the mean of the
    clients', or the state of absent clients. Then `fixed_point` is not for asking; leave such a part out of the
    state and compute it in the step, or follow `tangent.trajectory`. A round that draws is probed with its key
    held: that is one outcome's map.

    Its precision is the step's own, which nobody else can widen: build federation, algorithm and state with x64
    on, `with jax.enable_x64(True):`, for a map that is to be compared to more than six digits. What is asked of
    the map afterwards is computed in double precision.

    Args:
        step: state -> state, of the same structure and shapes.
        state: where to probe; a pytree of float arrays.

    Returns:
        (map, unravel): the map on vectors [m] in the order of `jax.flatten_util.ravel_pytree`, and the function
        that makes a state of such a vector.

    Raises:
        TypeError: a leaf of the state that is not of floats.
        ValueError: `step` does not keep the structure and the shapes of its state.
    """
    for leaf in jax.tree.leaves(state):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(
                f"state must hold floats only, got {short(leaf)}: leave keys and counters to the step, and "
                "probe the part that holds numbers"
            )
    point, unravel = ravel_pytree(state)

    def flat(vector: Array) -> tuple[Array, Array]:
        after = step(unravel(vector))
        if jax.tree.map(jnp.shape, after) != jax.tree.map(jnp.shape, state):
            raise ValueError(
                f"step must keep the structure and shapes of its state, got {short(jax.tree.structure(after))} "
                f"after {short(jax.tree.structure(state))}: return what it was given, moved"
            )
        moved = ravel_pytree(after)[0]
        return moved, moved

    matrix, after = jax.jacfwd(flat, has_aux=True)(point)
    return Affine(matrix, after - jnp.matmul(matrix, point, precision="highest")), unravel

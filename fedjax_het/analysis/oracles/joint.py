"""Joint: the state of the methods in which clients keep something beside a common point.

It is the pair of a point [d] and what each client keeps [N, d], which maps take flattened: `joint` and `split`
go there and back. A client keeps a control (SCAFFOLD, FedDyn), and then the limit is the optimum itself; or a
model of its own (Ditto, APFL). The server's own variable (SCAFFOLD's c, FedDyn's h) is sum_k p_k control_k
after every round, and needs no place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from fedjax_het.analysis.oracles.double import double
from fedjax_het.analysis.oracles.functions import Quadratics
from fedjax_het.check import number, require
from fedjax_het.typing import Array

__all__ = ["Joint", "blank", "joint", "split"]


class Joint(NamedTuple):
    """The state of a method in which clients keep something.

    Attributes:
        point: the model that clients start from, float [d].
        control: SCAFFOLD's c_k, FedDyn's lambda_k: each client's estimate of its own gradient; or a client's
            own model, Ditto's and APFL's v_k; float [N, d].
    """

    point: Array
    control: Array


@double
def joint(point: Any, control: Any) -> Array:
    """The flat state [d + N d] of a point [d] and controls [N, d].

    Raises:
        ValueError: the shapes do not fit.
    """
    point, control = number("point", point), number("control", control)
    require(
        jnp.ndim(control) == 2 and jnp.shape(point) == jnp.shape(control)[1:],
        f"point and control must have shapes [d] and [N, d], got {list(jnp.shape(point))} and "
        f"{list(jnp.shape(control))}: one control for each client",
    )
    return jnp.concatenate([point, control.ravel()])


@double
def split(state: Array, clients: int) -> Joint:
    """The point and the controls of flat states [..., d + N d], such as a trajectory's."""
    dimension = state.shape[-1] // (clients + 1)
    control = state[..., dimension:].reshape(*state.shape[:-1], clients, dimension)
    return Joint(state[..., :dimension], control)


def blank(functions: Quadratics) -> Joint:
    """The state of zeros."""
    return Joint(jnp.zeros_like(functions.b[0]), jnp.zeros_like(functions.b))

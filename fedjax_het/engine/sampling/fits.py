"""What a sampler was told against the number of clients, which it learns when a run starts."""

from __future__ import annotations

import jax.numpy as jnp

from fedjax_het.check import require
from fedjax_het.typing import Array

__all__ = ["each", "expect_each", "expect_fits"]


def expect_each(name: str, value: Array, num_clients: int) -> None:
    """Raise unless `value` is a scalar, or has one number for each of N clients.

    Raises:
        ValueError: it has not.
    """
    require(
        value.shape in ((), (num_clients,)),
        f"{name} must be one number, or one for each of the {num_clients} clients, got shape {value.shape}: "
        "list as many as there are clients",
    )


def each(value: Array, num_clients: int) -> Array:
    """`value` of every client, [N], from one for all or one for each."""
    return jnp.broadcast_to(value, (num_clients,))


def expect_fits(name: str, size: int, num_clients: int) -> None:
    """Raise if `size` clients are more than there are.

    Raises:
        ValueError: they are.
    """
    require(
        size <= num_clients,
        f"{name} must be <= the number of clients, got {size} of {num_clients}: ask for fewer",
    )

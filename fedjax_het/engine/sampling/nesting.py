"""Samplers around samplers: what each layer's coins are named."""

from __future__ import annotations

import dataclasses

import jax

from fedjax_het import keys
from fedjax_het.engine.sampling.sampler import Sampler
from fedjax_het.typing import Array, Key

__all__ = ["client_words"]


def _layers(sampler: Sampler, kind: type) -> int:
    """How many samplers of `kind` there are, from this one inwards."""
    inner = [field for field in dataclasses.fields(sampler) if field.name == "inner"]  # type: ignore[arg-type]
    return isinstance(sampler, kind) + (_layers(sampler.inner, kind) if inner else 0)  # type: ignore[attr-defined]


def client_words(sampler: Sampler, key: Key, ids: Array) -> Array:
    """Two random words for each client, uint32 [C, 2], of the outermost layer of `sampler`.

    They belong to (round, client), whatever cohort the client is in, and differ from those of layers of the
    same kind further in.
    """
    name = f"{type(sampler).__name__} {_layers(sampler, type(sampler))}"
    own = keys.stream(key, name)
    return jax.vmap(lambda client: keys.seed(keys.client(own, client)))(ids)

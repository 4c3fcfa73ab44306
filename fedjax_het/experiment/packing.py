"""Packing: a state and a history as one array of bytes and an index in words, and back, bit for bit.

A store pays for every array it is given (files, flushes, a driver), and a run has dozens of small ones: one is
several times as fast. And bytes come back as they went whatever they mean: NaN payloads, -0.0, bfloat16, typed
keys, arrays of no elements.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.engine import History
from fedjax_het.engine.history import Variable
from fedjax_het.experiment import store
from fedjax_het.typing import PyTree

__all__ = ["difference", "pack", "unpack"]


def pack(state: PyTree, history: History) -> tuple[np.ndarray, dict[str, Any]]:
    """All bytes of a run.

    Args:
        state: a pytree of arrays; typed keys are welcome.
        history: what the run measured; its fields other than `variables` hold JSON values.

    Returns:
        (content, index): uint8 [bytes], as many as the store likes; where each leaf lies in it and what it is,
            as JSON.

    Raises:
        TypeError: a leaf is no array, or an array of Python objects.
    """
    parts: list[np.ndarray] = []
    used = 0

    def place(name: str, values: np.ndarray) -> dict[str, Any]:
        nonlocal used
        if values.dtype.hasobject:
            raise TypeError(f"{name} must hold numbers, got Python objects: keep such things in meta, as JSON")
        parts.append(np.ascontiguousarray(values).reshape(-1).view(np.uint8))
        begin, used = used, used + values.nbytes
        return {"dtype": _written(values.dtype), "shape": list(values.shape), "begin": begin}

    described = _leaves(state)
    plain = jax.device_get([_plain(leaf) for leaf in jax.tree.leaves(state)])
    leaves = [
        {**words, "stored": place(f"state{words['path']}", np.asarray(values))}
        for words, values in zip(described, plain)
    ]
    variables = {
        name: {"dims": list(variable.dims), "stored": place(f"history[{name!r}]", variable.values)}
        for name, variable in history.variables.items()
    }
    content = np.concatenate([*parts, np.zeros(store.fitting(used) - used, np.uint8)])
    return content, {"state": leaves, "variables": variables, "history": _other_fields(history)}


def unpack(content: np.ndarray, index: dict[str, Any], like: PyTree) -> tuple[PyTree, History]:
    """The state and the history that `pack` took; `like` gives the state's structure (see `difference`)."""

    def take(stored: dict[str, Any]) -> np.ndarray:
        dtype, shape = jnp.dtype(stored["dtype"]), tuple(stored["shape"])
        begin = stored["begin"]
        # a copy of its own: neither alignment nor life hangs on the whole
        values = np.empty(shape, dtype)
        values.reshape(-1).view(np.uint8)[...] = content[begin : begin + values.nbytes]
        return values

    leaves = []
    for words in index["state"]:
        values = jnp.asarray(take(words["stored"]))
        leaves.append(jax.random.wrap_key_data(values, impl=words["key"]) if words["key"] else values)
    state = jax.tree.unflatten(jax.tree.structure(like), leaves)
    variables = {
        name: Variable(tuple(words["dims"]), take(words["stored"]))
        for name, words in index["variables"].items()
    }
    known = {field.name for field in dataclasses.fields(History)}
    others = {name: _tuples(value) for name, value in index["history"].items() if name in known}
    return state, History(variables, **others)


def difference(index: dict[str, Any], like: PyTree) -> list[str]:
    """What tells the packed state from `like`, arrays or `jax.ShapeDtypeStruct`s; [] if nothing does."""

    def said(leaves: list[dict[str, Any]]) -> dict[str, str]:
        return {words["path"]: f"{words['type']}{list(words['shape'])}" for words in leaves}

    saved, asked = said(index["state"]), said(_leaves(like))
    lines = [
        f"state{path}: {saved.get(path, 'absent')} != {asked.get(path, 'absent')}"
        for path in saved | asked
        if saved.get(path) != asked.get(path)
    ]
    return lines or (["state: its leaves in another order"] if list(saved) != list(asked) else [])


def _leaves(tree: PyTree) -> list[dict[str, Any]]:
    """Path, type, shape and kind of key of every leaf."""
    leaves = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path)
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)):
            raise TypeError(f"state{name} must be an array, got {type(leaf).__name__}: pass jnp.asarray of it")
        key = str(jax.random.key_impl(leaf)) if isinstance(leaf, jax.Array) and _is_key(leaf) else None
        leaves.append({"path": name, "type": str(leaf.dtype), "shape": list(leaf.shape), "key": key})
    return leaves


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _written(dtype: np.dtype) -> str:
    """The type in words; those that numpy itself lacks, such as bfloat16, by name."""
    return dtype.name if dtype.kind == "V" else dtype.str


def _other_fields(history: History) -> dict[str, Any]:
    fields = (field.name for field in dataclasses.fields(history))
    return {name: getattr(history, name) for name in fields if name != "variables"}


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value

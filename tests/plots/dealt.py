"""Federations whose pictures are known."""

from __future__ import annotations

import dataclasses

import numpy as np

import fedjax_het as fh

__all__ = ["federation", "images", "told"]


def federation(
    sizes: tuple[int, ...] = (6, 0, 12), classes: int = 3, *, shape: tuple[int, ...] = (2,), seed: int = 0
) -> fh.Federation:
    """Clients of these sizes, labels going round, normal features."""
    y = np.arange(sum(sizes)) % classes
    x = np.random.default_rng(seed).normal(size=(len(y), *shape)).astype(np.float32)
    lists = np.split(np.arange(len(y)), np.cumsum(sizes)[:-1])
    return fh.from_index_lists(fh.pool(x, y, num_classes=classes), None, lists, test=0.0)  # pyright: ignore


def images(clients: int = 4, each: int = 6, classes: int = 3, depth: tuple[int, ...] = ()) -> fh.Federation:
    """Images of 4 x 5 pixels, those of row r all of value r / 1000."""
    rows = clients * each
    x = np.broadcast_to(np.arange(rows).reshape(-1, *[1] * (2 + len(depth))) / 1000, (rows, 4, 5, *depth))
    lists = np.split(np.arange(rows), clients)
    return fh.from_index_lists(x.astype(np.float32), np.arange(rows) % classes, lists, test=0.0)


def told(source: fh.Federation, **truth: object) -> fh.Federation:
    """With this truth."""
    return dataclasses.replace(source, truth={**source.truth, **truth})  # pyright: ignore

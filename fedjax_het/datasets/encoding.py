"""Encoding: columns as features, side by side, each with its name."""

from __future__ import annotations

import numpy as np

__all__ = ["Block", "beside", "number", "one_hot"]

Block = tuple[np.ndarray, tuple[str, ...]]
"""(float32 [M, k], the names of the k columns)."""


def one_hot(name: str, values: np.ndarray) -> Block:
    """One 0/1 column for each value that occurs, in sorted order; "city=Oslo" is 1 where city is Oslo.

    Args:
        name: of the column.
        values: [M], numbers or text.
    """
    found, code = np.unique(values, return_inverse=True)
    hot = np.zeros((len(values), len(found)), np.float32)
    hot[np.arange(len(values)), code] = 1
    return hot, tuple(f"{name}={value}" for value in found.tolist())


def number(name: str, values: np.ndarray) -> Block:
    """One column, as it is.

    Args:
        name: of the column.
        values: [M], numbers or booleans.
    """
    return values.astype(np.float32)[:, None], (name,)


def beside(*blocks: Block) -> Block:
    """All blocks, in order."""
    arrays, names = zip(*blocks)
    return np.concatenate(arrays, axis=1), tuple(name for each in names for name in each)

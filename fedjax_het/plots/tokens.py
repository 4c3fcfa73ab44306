"""How often clients use each token in their targets, and how often they would if rows were dealt at random."""

from __future__ import annotations

import dataclasses

import numpy as np

from fedjax_het.check import require
from fedjax_het.federation import Federation
from fedjax_het.plots.seen import labels_of_rows
from fedjax_het.split import generator

__all__ = ["OTHERS", "Usage", "expect_tokens", "tokenised", "usage"]

MOST = 1000
"""Tokens that are told apart; of a larger vocabulary all but the most frequent count as one."""

OTHERS = -1
"""Stands for all tokens that are not told apart."""


@dataclasses.dataclass(frozen=True, eq=False)
class Usage:
    """Counts of tokens by client.

    Attributes:
        tokens: numbers of the tokens that occur, ascending, int [q]; the last may be `OTHERS`.
        counts: how often each client has each of them in its targets, int64 [N, q].
        chance: the same after a random deal of whole rows, since the tokens of a row belong together; a client
            has as many rows as before.
    """

    tokens: np.ndarray
    counts: np.ndarray
    chance: np.ndarray


def tokenised(federation: Federation) -> bool:
    """Whether targets are tokens, of two kinds at least."""
    spec = federation.spec.pool
    return spec.task == "tokens" and (spec.num_classes or 0) > 1 and int(np.prod(spec.target_shape)) > 0


def expect_tokens(federation: Federation) -> None:
    """Raise unless targets are tokens.

    Raises:
        ValueError: they are not.
    """
    pool = federation.spec.pool
    require(
        tokenised(federation),
        f"federation must hold tokens as targets, got task {pool.task!r} with {pool.num_classes} classes of "
        f"{pool.name!r}: draw label_distribution or client_sizes",
    )


def usage(federation: Federation, *, split: str, phase: int) -> Usage:
    """Tokens of all targets of each client, as its local work sees them.

    Args:
        federation: of tokens.
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.

    Raises:
        ValueError: targets that are no tokens.
    """
    expect_tokens(federation)
    owner, _, seen = labels_of_rows(federation, split=split, phase=phase)
    seen = seen.reshape(len(owner), -1)
    often = np.bincount(seen.ravel(), minlength=int(federation.spec.pool.num_classes or 0))
    kept = np.argsort(-often, kind="stable")[:MOST]
    kept = np.sort(kept[often[kept] > 0])
    column = np.full(len(often), len(kept))
    column[kept] = np.arange(len(kept))
    tokens = kept if often.sum() == often[kept].sum() else np.append(kept, OTHERS)
    place = column[seen]

    def counted(whose: np.ndarray) -> np.ndarray:
        clients, width = federation.num_clients, len(tokens)
        cell = (whose[:, None] * width + place).ravel()
        return np.bincount(cell, minlength=clients * width).reshape(clients, width)

    return Usage(tokens, counted(owner), counted(generator(0, "tokens dealt at random").permutation(owner)))

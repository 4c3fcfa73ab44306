"""Pure label skew: whether clients differ in how often labels occur and in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_het.check import positive_int, require

__all__ = ["LabelSkew", "class_smoothness", "label_skew"]

SLACK = 1e-9
"""Total variation of p(x | y) from rounding of shares."""


class LabelSkew(NamedTuple):
    """What the bound of weight divergence asks of the clients.

    Attributes:
        p: n_k / n, float64 [N].
        shares: P_k(i), rows of label i over all rows of client k, float64 [N, K]; q for an empty client.
    """

    p: np.ndarray
    shares: np.ndarray


def label_skew(x: Any, y: Any, rows: Sequence[Any], *, num_classes: int) -> LabelSkew:
    """Weights and label shares of clients that share p(x | y) exactly.

    Of every label that a client holds, it must hold each distinct x as often, relative to its rows of the
    label, as all clients together. Rows dealt out without regard to x do not meet that, however many they are;
    clients that hold whole copies of each label's rows do.

    Args:
        x: features of all rows [M, ...].
        y: labels [M], int.
        rows: row numbers of each client, N arrays.
        num_classes: K.

    Raises:
        ValueError: p(x | y) differs between clients; the message names the client, the label and by how much.
    """
    x, y = np.asarray(x), np.asarray(y)
    classes = positive_int("num_classes", num_classes)
    parts = [np.asarray(part, np.int64) for part in rows]
    require(sum(map(len, parts)) > 0, "rows must hold a row, got none: give the rows of each client")
    _, kind = np.unique(x.reshape(len(x), -1), axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    held = np.zeros((len(parts), classes, int(kind.max()) + 1))
    for client, part in enumerate(parts):
        np.add.at(held[client], (y[part], kind[part]), 1)
    by_label = held.sum(axis=2)
    everyone, total = held.sum(axis=0), by_label.sum(axis=0)
    common = everyone / np.maximum(total, 1)[:, None]
    for client, label in zip(*np.nonzero(by_label)):
        apart = np.abs(held[client, label] / by_label[client, label] - common[label]).sum() / 2
        require(
            bool(apart <= SLACK),
            f"clients must differ in their labels alone, got p(x | y={label}) of client {client} at a total "
            f"variation of {apart:.3g} from everyone's: the bound does not hold; deal out whole copies of each "
            "label's rows",
        )
    sizes = by_label.sum(axis=1)
    shares = np.where(
        sizes[:, None] > 0, by_label / np.maximum(sizes, 1)[:, None], (total / total.sum())[None, :]
    )
    return LabelSkew(sizes / sizes.sum(), shares)


def class_smoothness(x: Any, y: Any, *, num_classes: int, bias: bool = True) -> np.ndarray:
    """lambda_i of multinomial logistic regression, float64 [K]: the least that holds for every w.

        lambda_i = 1/2 lambda_max(E_{x|y=i} [(x, 1)(x, 1)'])

    The Hessian of the cross-entropy in the logits has eigenvalues in [0, 1/2]; 1/2 is approached where two
    classes share all the probability. A label without rows has 0. The ridge term is left out.

    Args:
        x: features of all rows [M, ...].
        y: labels [M], int.
        num_classes: K.
        bias: whether the model has one; the 1 of (x, 1).
    """
    flat, y = np.asarray(x, np.float64).reshape(len(x), -1), np.asarray(y)
    if bias:
        flat = np.concatenate([flat, np.ones((len(flat), 1))], axis=1)
    found = np.zeros(positive_int("num_classes", num_classes))
    for label in np.unique(y):
        of_label = flat[y == label]
        found[label] = np.linalg.norm(of_label, 2) ** 2 / len(of_label) / 2
    return found

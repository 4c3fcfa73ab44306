"""Which tokens each client uses more, and which less, than all clients together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedjax_het.federation import Federation
from fedjax_het.plots.order import side_by_side
from fedjax_het.plots.seen import expect_rows
from fedjax_het.plots.strip import strip
from fedjax_het.plots.style import canvas, finish, styled
from fedjax_het.plots.tokens import OTHERS, Usage, expect_tokens, usage
from fedjax_het.plots.truth import clusters_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["token_distribution"]

TOKENS = 30
"""Tokens that are drawn."""

COLUMNS = 2000
"""Clients that are drawn."""

NAMED = 50
"""Clients up to which all are numbered."""

REACH = 2.0
"""Octaves at which colours end: a quarter and four times the share of all clients."""


def token_distribution(federation: Federation, *, split: str = "train", phase: int = 0) -> Figure:
    """A heat map of how much each client uses a token: its share of the client's targets over that of all.

    Of a larger vocabulary the 30 tokens are drawn in which clients differ most beyond chance, by

        D(token) = sum_k n_k / n (sqrt(P_k(token)) - sqrt(P(token)))^2

    less the same of a random deal of the rows. P_k are the shares of client k, n_k of all n targets, P those of
    all clients: D is what a token adds to the squared Hellinger distances, but for a factor.

    Args:
        federation: of tokens.
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.

    Returns:
        A matplotlib Figure, the most frequent token on top. Alike clients are neighbours; latent clusters stand
        side by side under a strip that names them. Clients without rows are left out.

    Raises:
        TypeError: not a Federation.
        ValueError: targets that are no tokens, no such split or phase, no client with rows.
    """
    from matplotlib.ticker import FuncFormatter

    holders = expect_rows(federation, split=split, phase=phase)
    expect_tokens(federation)
    used = usage(federation, split=split, phase=phase)
    counts, cluster = used.counts[holders], clusters_of(federation)
    total, among = counts.sum(1), counts.sum(0) / counts.sum()
    share = counts / total[:, None]
    chosen = _telling(used, holders, among)
    cluster = None if cluster is None else cluster[holders]
    order = side_by_side(share, total, cluster, COLUMNS)
    with np.errstate(divide="ignore"):
        times = np.log2(share[np.ix_(order, chosen)] / among[chosen])
    many, words = len(holders), ""
    with styled():
        figure, (axes,) = canvas(
            f"Tokens by client: {many:,} clients, {total.sum():,.0f} targets of {federation.spec.pool.name}",
            height=float(np.clip(1.7 + 0.19 * len(chosen), 3.2, 8)),
        )
        image = axes.imshow(
            np.clip(times, -REACH, REACH).T, aspect="auto", interpolation="nearest", cmap="RdBu_r",
            vmin=-REACH, vmax=REACH, extent=(0.5, many + 0.5, len(chosen) - 0.5, -0.5),
        )  # fmt: skip
        shown = FuncFormatter(lambda octaves, _: f"{2.0**octaves:g} x")
        bar = figure.colorbar(image, ax=axes, format=shown, ticks=np.arange(-REACH, REACH + 1), pad=0.015)
        bar.set_label("client's share over that of all clients")
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        names = [f"{used.tokens[one]}  ({100 * among[one]:.2g} %)" for one in chosen]
        axes.set_yticks(range(len(chosen)), names, fontsize=8)
        axes.set_ylabel("token, its share in all targets")
        within = "" if cluster is None else " within their cluster"
        axes.set_xlabel(f"clients, alike ones side by side{within}")
        if many <= NAMED:
            axes.set_xticks(np.arange(many) + 1, [str(i) for i in holders[order]], fontsize=7)
        axes.grid(visible=False)
        if cluster is not None:
            words = strip(axes, cluster[order], 0.5, many + 0.5)
        return finish(figure, _caption(federation, used, len(chosen), many, phase) + words)


def _telling(used: Usage, holders: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Columns of the tokens that are drawn, the most frequent first, int."""
    seen, dealt = (_differ(counts[holders], among) for counts in (used.counts, used.chance))
    differ = seen - dealt
    alone = np.flatnonzero(used.tokens != OTHERS)
    chosen = alone[np.argsort(-differ[alone], kind="stable")[:TOKENS]]
    return chosen[np.argsort(-among[chosen], kind="stable")]


def _differ(counts: np.ndarray, among: np.ndarray) -> np.ndarray:
    """D of each token, see `token_distribution`."""
    total = counts.sum(1)
    return total / total.sum() @ (np.sqrt(counts / total[:, None]) - np.sqrt(among)) ** 2


def _caption(federation: Federation, used: Usage, drawn: int, clients: int, phase: int) -> str:
    words = "A column is a client; colours end at a quarter and at four times the share of all clients."
    words += " Of a rare token small clients have none or plenty by chance."
    if clients > COLUMNS:
        words += f" {COLUMNS:,} of them are drawn."
    several = federation.spec.pool.num_classes or 0
    words += (
        f" Of {several:,} tokens these {drawn} are the ones in which clients differ most beyond chance."
        if drawn < (used.tokens != OTHERS).sum()
        else f" All {drawn} tokens that occur are drawn."
    )
    empty = federation.num_clients - clients
    words += f" {empty} clients without rows are left out." if empty else ""
    return words + (f" Phase {phase} of {federation.spec.phases}." if federation.spec.phases > 1 else "")

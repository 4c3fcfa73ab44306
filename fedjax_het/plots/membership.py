"""Which client is in which cluster, round by round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_het.check import positive_int, require, short
from fedjax_het.engine import History
from fedjax_het.federation import Federation
from fedjax_het.metrics import clustering
from fedjax_het.plots.series import by_seed
from fedjax_het.plots.style import GREY, canvas, finish, key, looks, styled
from fedjax_het.plots.truth import clusters_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["assignments", "cluster_assignment", "cluster_colours"]

CLIENTS = 400
"""Clients of which each has a line; of more, evenly spaced ones."""

COLUMNS = 1000
"""Rounds that are drawn; of more, evenly spaced ones."""

NAMED = 40
"""Clients up to which lines carry their number."""

BLOCKS = 20
"""Clusters up to which each is named."""

COMPARED = 20_000_000
"""Clients times rounds that are compared with the truth; of more, evenly spaced rounds."""

SORTED = 40
"""Rounds by which clients that end in the same cluster are ordered."""


def cluster_assignment(
    source: History | np.ndarray,
    truth: Federation | np.ndarray | None = None,
    *,
    name: str = "cluster",
    run: int = 0,
    rounds: Any = None,
    final: Any = None,
) -> Figure:
    """Who is in which cluster after each round: a line a client, a colour a cluster.

    Args:
        source: a History whose clients report info/cluster; or assignments, int [R, N], negative where a client
            is in no cluster yet.
        truth: latent clusters, int [N], or a federation that knows them. Clients then stand latent cluster by
            latent cluster, and a panel shows how far both agree.
        name: of what clients report.
        run: which one of stacked runs, from 0; each numbers its clusters anew.
        rounds: the number of each row of assignments, ascending [R]; by default 1, 2, ...: rounds done.
        final: where the clients are after the last round, int [N]. Clients of CFL and of its variant by a
            threshold report the cluster that they trained in, so what a round has changed shows in the next
            one, and the last one's changes only here. Who never took part stays in none.

    Returns:
        A matplotlib Figure. Clients that end in the same cluster are neighbours.

    Raises:
        TypeError: neither a History nor whole numbers.
        ValueError: a History without such reports or such a run, or shapes that do not fit.
    """
    from matplotlib.ticker import MaxNLocator

    if isinstance(source, History):
        done, found = assignments(source, name, run)
    else:
        found = np.asarray(source)
        done = np.arange(1, len(found) + 1) if rounds is None else np.asarray(rounds)
    if found.dtype.kind not in "iu":
        raise TypeError(f"source must be a History or assignments [R, N], got {short(source)}: whole numbers")
    require(
        found.ndim == 2 and found.size > 0 and done.shape == found.shape[:1],
        f"source must have shape [R, N] with the R of rounds, got {found.shape} and {done.shape}",
    )
    if final is not None:
        end = np.asarray(final)
        if end.dtype.kind not in "iu":
            raise TypeError(f"final must be assignments [N], got {short(final)}: whole numbers")
        require(
            end.shape == found.shape[1:],
            f"final must have one entry for each of {found.shape[1]} clients, got shape {end.shape}",
        )
        # who never took part is in no cluster, whatever label it was given to begin with
        end = np.where(np.any(found >= 0, axis=0), end, found[-1])
        found = np.concatenate([found[:-1], end[None]])
    latent = clusters_of(truth) if isinstance(truth, Federation) else truth
    latent = None if latent is None else np.asarray(latent)
    if latent is not None:
        require(
            latent.shape == found.shape[1:],
            f"truth must have one entry for each of {found.shape[1]} clients, got shape {latent.shape}",
        )
    column = _spaced(len(found), COLUMNS)
    labels = np.unique(found[found >= 0])
    order = _order(found, latent)
    order = order[_spaced(len(order), CLIENTS)]
    with styled():
        figure, panels = canvas(
            f"Clusters of clients by round: {_many(found.shape[1], 'client')}, {_many(len(labels), 'cluster')}",
            rows=1 if latent is None else 2,
            width=9.0,
            height=float(np.clip(2.0 + 0.16 * len(order), 3.6, 6.5)) + (0 if latent is None else 1.2),
        )
        if latent is not None:
            panels[0].get_gridspec().set_height_ratios([0.28, 1])  # pyright: ignore[reportOptionalMemberAccess]
            _agreement(panels[0], done, found, latent, column)
        axes, edges = panels[-1], _edges(done[column])
        colours = cluster_colours(len(labels))
        _lines(axes, edges, found[column][:, order].T, labels, colours)
        _blocks(axes, order, latent)
        axes.set_xlabel("rounds done")
        for panel in panels:
            panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
            panel.set_xlim(edges[0], edges[-1])
        _legend(figure, found[-1], labels, colours)
        words = _caption(done, found, latent, len(order))
        if isinstance(source, History) and source.seeds is not None:
            words += f" Run {run} of {source.seeds}, counted from 0."
        return finish(figure, words)


def assignments(history: History, name: str = "cluster", run: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(rounds done [R], the cluster each client last reported by then, int [R, N]; -1 for none yet).

    Args:
        history: of a run, or of stacked runs.
        name: of what clients report.
        run: which one of stacked runs, from 0.

    Raises:
        TypeError: run is no whole number.
        ValueError: no such reports, or no such run.
    """
    variable = f"info/{name}"
    many = history.seeds or 1
    run = positive_int("run", run, least=0, remedy="it is the number of a stacked run")
    require(run < many, f"run must be < {many}, got {run}: runs are numbered from 0")
    require(
        variable in history,
        f"source must hold {variable}, got a History without it: choose another name=, or pass assignments",
    )
    told, cohort, present, lost, number = (
        by_seed(history, each)[run] for each in (variable, "cohort", "present", "lost", "round")
    )
    took_part = present & ~lost
    most = int(cohort[took_part].max(initial=-1)) + 1
    many = max(int(history["registered"].reshape(-1)[-1]), most) if "registered" in history else most
    found = np.full((len(told), many), -1, np.int32)
    last = np.full(many, -1, np.int32)
    for place, (clients, values, there) in enumerate(zip(cohort, told, took_part)):
        there = there & np.isfinite(values)
        last[clients[there]] = values[there].astype(np.int32)
        found[place] = last
    return number + 1, found


def cluster_colours(count: int) -> list[Any]:
    """A colour for each of `count` clusters: those of the methods while they last, then a longer list."""
    import matplotlib

    few = looks(7)
    if count <= len(few):
        return [few[i]["color"] for i in range(count)]
    if count <= 20:
        return list(matplotlib.colormaps["tab20"](np.arange(count)))
    return list(matplotlib.colormaps["turbo"](np.linspace(0.03, 0.97, count)))


def _spaced(count: int, most: int) -> np.ndarray:
    """Evenly spaced places, first and last included."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).round().astype(int)


def _edges(done: np.ndarray) -> np.ndarray:
    """Where the columns begin and end: each reaches half way to its neighbours."""
    middle = (done[1:] + done[:-1]) / 2
    first, last = (1, 1) if len(done) == 1 else (done[1] - done[0], done[-1] - done[-2])
    return np.concatenate([[done[0] - first / 2], middle, [done[-1] + last / 2]])


def _order(found: np.ndarray, latent: np.ndarray | None) -> np.ndarray:
    """By latent cluster, then by the last assignment, then by earlier ones."""
    keys = list(found[_spaced(len(found), SORTED)])
    return np.lexsort(keys if latent is None else [*keys, latent])


def _agreement(axes: Axes, done: np.ndarray, found: np.ndarray, latent: np.ndarray, column: np.ndarray) -> None:
    from matplotlib.ticker import FixedLocator

    column = column[_spaced(len(column), max(2, COMPARED // found.shape[1]))]
    held = (found[column] >= 0).any(-1)
    for (words, measure), look in zip(
        (("adjusted Rand index", clustering.adjusted_rand), ("purity", clustering.purity)), looks(2)
    ):
        value = measure(found[column], latent)
        axes.plot(done[column][held], value[held], label=words, marker="", **_without(look, "marker"))
    axes.set_ylim(min(-0.05, axes.get_ylim()[0]), 1.05)
    axes.yaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
    axes.tick_params(labelbottom=False)
    # above the panel, where it covers nothing
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0.2)


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _without(look: dict[str, Any], name: str) -> dict[str, Any]:
    return {key_: value for key_, value in look.items() if key_ != name}


def _lines(axes: Axes, edges: np.ndarray, found: np.ndarray, labels: np.ndarray, colours: list[Any]) -> None:
    from matplotlib.colors import ListedColormap

    axes.set_facecolor("#D9D9D9")
    axes.grid(visible=False)
    place = np.searchsorted(labels, found)
    seen = np.ma.masked_where(found < 0, place)
    axes.pcolormesh(
        edges,
        np.arange(len(found) + 1),
        seen,
        cmap=ListedColormap(colours or ["white"]),
        vmin=-0.5,
        vmax=max(len(labels), 1) - 0.5,
        rasterized=True,
    )
    axes.set_ylim(len(found), 0)


def _blocks(axes: Axes, order: np.ndarray, latent: np.ndarray | None) -> None:
    """Clients' numbers, or the names of the latent clusters; lines between these."""
    if latent is not None:
        block = latent[order]
        edges = np.concatenate([[0], np.flatnonzero(np.diff(block)) + 1, [len(block)]])
        for edge in edges[1:-1]:
            axes.axhline(edge, color="black", linewidth=1.4)
        if len(edges) <= BLOCKS + 1:
            axes.set_yticks((edges[1:] + edges[:-1]) / 2, [f"latent {one}" for one in block[edges[:-1]]])
            axes.tick_params(axis="y", length=0)
            return
    if len(order) <= NAMED:
        axes.set_yticks(np.arange(len(order)) + 0.5, [str(client) for client in order], fontsize=7)
        axes.set_ylabel("client")
    else:
        axes.set_yticks([])
        axes.set_ylabel("clients, by where they end")


def _legend(figure: Figure, last: np.ndarray, labels: np.ndarray, colours: list[Any]) -> None:
    """The clusters and how many clients they have at the end, the largest first where there are many."""
    from matplotlib.patches import Patch

    counts = np.array([(last == label).sum() for label in labels], int)
    shown = np.arange(len(labels)) if len(labels) <= BLOCKS else np.argsort(-counts, kind="stable")[:BLOCKS]
    handles = [Patch(color=colours[i]) for i in shown]
    texts = [f"{labels[i]}: {counts[i]:,}" for i in shown]
    if (last < 0).any():
        handles, texts = [*handles, Patch(color="#D9D9D9")], [*texts, f"none yet: {(last < 0).sum():,}"]
    if len(shown) < len(labels):
        handles, texts = [*handles, Patch(color=GREY, alpha=0)], [*texts, f"and {len(labels) - BLOCKS} more"]
    key(figure, handles, texts, "cluster: clients at the end")


def _caption(done: np.ndarray, found: np.ndarray, latent: np.ndarray | None, drawn: int) -> str:
    words = "A line is a client, its colour the cluster that it was in last; grey: none yet."
    moves = (found[1:] != found[:-1]) & (found[:-1] >= 0)
    when = np.flatnonzero(moves.any(1))
    if len(when):
        changed = moves.any(0).sum()
        words += f" Clients that ever changed cluster: {changed:,}, the last in round {done[when[-1] + 1]}."
    else:
        words += " Nobody changed cluster."
    if latent is not None and (found[-1] >= 0).any():
        end = found[-1]
        words += (
            f" At the end: purity {clustering.purity(end, latent):.2f}, adjusted Rand index "
            f"{clustering.adjusted_rand(end, latent):.2f}, {100 * clustering.coverage(end, latent):.0f} % of "
            "the latent clusters have one of their own."
        )
    if drawn < found.shape[1]:
        words += f" {drawn} of {found.shape[1]:,} clients are drawn."
    return words

"""A History as text: a line for each evaluation, and the evaluation matrix of the last one."""

from __future__ import annotations

import numpy as np

from fedjax_het.check import require
from fedjax_het.engine.history import History
from fedjax_het.metrics import fairness

__all__ = ["matrix", "summary"]

DASH = "-"

MODELS = (
    ("shared", "global model"),
    ("local", "after local work"),
    ("personal", "own model"),
)


SPREAD = ("mean", "sd", "worst decile", "best decile", "Gini")
"""Columns of the matrix that `fairness.spread` fills."""


def summary(history: History, *, metric: str | None = None, weighted: bool = False) -> str:
    """Evaluations by round, totals, the matrix of the last evaluation, and the notices that still hold.

    Args:
        history: a run, or stacked runs.
        metric: of the matrix; default accuracy, or else the first.
        weighted: count a client by its rows, instead of all alike.

    Raises:
        ValueError: nothing was evaluated, or not this metric.
    """
    require("evaluated_at" in history, "history must hold an evaluation, got none: pass every= to simulate")
    lines = _progress(history, weighted)
    if "round" in history:
        down, up = (history[name].sum(axis=-1).mean() / 1e6 for name in ("bytes_down", "bytes_up"))
        seconds = history["seconds"][..., -1].sum()
        many = "" if history.seeds is None else f"{history.seeds} seed{'' if history.seeds == 1 else 's'} of "
        count = history["round"].shape[-1]
        lines.append(f"{many}{count} rounds, {down:.2f} MB down, {up:.2f} MB up, {seconds:.1f} s")
    if history.interrupted:
        lines.append("interrupted: complete up to the last whole block of rounds")
    lines += ["", matrix(history, metric, weighted=weighted)]
    first, last = (int(history["evaluated_at"].flat[place]) for place in (0, -1))
    shown = [(rounds, text) for rounds, text in history.notices if rounds <= first or rounds == last]
    lines += [f"after {rounds} rounds: {text}" for rounds, text in shown]
    if len(shown) < len(history.notices):
        lines.append(f"earlier notices: {len(history.notices) - len(shown)}, see history.notices")
    return "\n".join(lines)


def _progress(history: History, weighted: bool) -> list[str]:
    """A header and a line for each evaluation."""
    who = "weighted mean client" if weighted else "mean client"
    rounds = history["evaluated_at"]
    rounds = rounds[0] if rounds.ndim == 2 else rounds
    columns: list[tuple[str, np.ndarray]] = []
    for metric in _metrics(history, "personal"):
        if f"global/{metric}" in history:
            columns.append((f"global {metric}", history[f"global/{metric}"]))
        own = f"personal/{metric}"
        columns.append((f"{who} {metric}", history.client_mean(own, weighted=weighted)))
        if metric == "accuracy":
            columns.append((f"worst decile {metric}", history.worst_decile(own, weighted=weighted)))
    width = 8 if history.seeds is None else 17
    lines = ["  ".join(["round".rjust(width), *(name.rjust(max(width, len(name))) for name, _ in columns)])]
    for row, number in enumerate(rounds):
        cells = [cell(values[..., row]).rjust(max(width, len(name))) for name, values in columns]
        lines.append("  ".join([str(int(number)).rjust(width), *cells]))
    return lines


def _metrics(history: History, kind: str) -> list[str]:
    return [name.split("/", 1)[1] for name in history if name.startswith(f"{kind}/")]


def matrix(history: History, metric: str | None = None, *, weighted: bool = False) -> str:
    """Who does how well under which model, at the last evaluation.

    Rows are the global model on the union of all rows and on each client, the model after local work, and the
    client's own model; columns say how they are spread over all clients, and the means over those that took
    part in training, those that did not, and newcomers. A dash stands where a method has no such model or
    nobody is of that kind.

    Args:
        history: a run, or stacked runs.
        metric: which; default accuracy, or else the first.
        weighted: count a client by its rows, instead of all alike.

    Raises:
        ValueError: nothing was evaluated, or not this metric.
    """
    metrics = _metrics(history, "personal")
    require(len(metrics) > 0, "history must hold an evaluation, got none: pass every= to simulate")
    metric = ("accuracy" if "accuracy" in metrics else metrics[0]) if metric is None else metric
    require(metric in metrics, f"metric must be one of {metrics}, got {metric!r}: evaluate it by metrics=")
    table = [[metric, "union", *SPREAD, "trained", "untrained", "newcomers"]]
    for kind, label in MODELS:
        name = f"{kind}/{metric}"
        if kind == "local" and name not in history:
            continue
        union = (
            history[f"global/{metric}"][..., -1] if kind == "shared" and f"global/{metric}" in history else None
        )
        table.append([label, cell(union), *_row(history, name, weighted)])
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths)) for row in table]
    sample = history["client"].shape[-1]
    registered = int(history["registered"].reshape(-1)[-1])
    who = f"{registered} clients" if sample == registered else f"a sample of {sample} of {registered} clients"
    how = "weighted by rows" if weighted else "all alike"
    lines.append(
        f"after {int(history['evaluated_at'].flat[-1])} rounds, over {who}, {how}{_error(history, metric)}"
    )
    return "\n".join(lines)


def _row(history: History, name: str, weighted: bool) -> list[str]:
    """Spread over all, and means over the trained, the untrained and newcomers, at the last evaluation."""
    new = f"newcomer/{name}"
    newcomers = cell(history.client_mean(new, weighted=weighted)[..., -1]) if new in history else DASH
    if name not in history:
        return [DASH] * (len(SPREAD) + 2) + [newcomers]
    spread = history.spread(name, weighted=weighted)
    values, held, rows, trained = (
        array[..., -1, :] for array in (history[name], history.held(name), history["rows"], history["trained"])
    )
    parts = [fairness.mean(values, held & who, rows if weighted else None) for who in (trained, ~trained)]
    return [*(cell(spread[column][..., -1]) for column in SPREAD), *map(cell, parts), newcomers]


def _error(history: History, metric: str) -> str:
    """The standard errors of sampled means, in words."""
    if history["client"].shape[-1] == int(history["registered"].reshape(-1)[-1]):
        return ""
    errors = []
    if f"shared/{metric}" in history:
        union = history.sampling_error(f"shared/{metric}", weighted=True)[..., -1]
        errors.append(f"{cell(np.asarray(np.mean(union)))} for the union")
    own = history.sampling_error(f"personal/{metric}")[..., -1]
    errors.append(f"{cell(np.asarray(np.mean(own)))} for the mean of own models")
    return f"; standard error {' and '.join(errors)}"


def cell(value: np.ndarray | None) -> str:
    """One number, or mean ± standard deviation over seeds; a dash where there was nothing to score."""
    if value is None or np.isnan(value).any():
        return DASH
    if np.ndim(value) == 0:
        return f"{float(value):.4f}"
    spread = f" ± {np.std(value, ddof=1):.4f}" if len(value) > 1 else ""
    return f"{np.mean(value):.4f}{spread}"

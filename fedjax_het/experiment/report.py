"""A comparison as a table and as JSON."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_het.experiment.results import PERCENT

if TYPE_CHECKING:
    from fedjax_het.experiment.results import Comparison, Line

__all__ = ["as_json", "table"]

OPTIONAL = {"gain": 12, "lose": 5, "ARI": 5, "variance": 10, "best decile": 12}
"""Columns that give way, the last first, to those of other metrics and of tuning, and how wide each is."""

ROOM = 24
"""Characters for them where nothing else asks for room: 100 must do for the table."""

WIDE = 12
"""Characters that another metric takes, or what tuning chose, or figures that are no percentages."""

MEANING = {
    "gain": "gain: of the mean client over training alone. ",
    "lose": "lose: clients that do worse than alone. ",
    "ARI": "ARI: adjusted Rand index of the clusters found and the latent ones, 1 if they are the same. ",
}
"""Optional columns whose headers do not explain themselves."""

SPREAD = ("worst decile", "best decile", "variance", "Gini", "Jain", "entropy", "divergence")
"""What JSON tells of the clients beside their mean, see `fedjax_het.metrics.fairness`."""


def table(result: Comparison) -> tuple[Any, str]:
    """(a rich table with a line for each method, what its columns mean)."""
    from rich import box
    from rich.table import Table

    rows = Table(
        title=result.protocol,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    rows.add_column("method", no_wrap=True)
    cells = [_cells(result, line) for line in result.lines]
    for column in cells[0]:
        rows.add_column(column, justify="right", no_wrap=column != "tuned")
    for line, values in zip(result.lines, cells):
        rows.add_row(line.name, *values.values())
    for one in result.diverged:
        who = "server" if one.client is None else f"client {one.client}"
        where = ("in tuning",) if one.round is None else (f"round {one.round}", who)
        rows.add_row(one.name, "diverged", *where)
    tuned = "tuned" in cells[0]
    fair = (
        "Every method had the same tuning budget on validation rows; the seeds shown are fresh."
        if tuned
        else "Rates are untuned, so a lower row is not a worse method: `compare --tune` tunes all alike."
    )
    shown = {header.split("\n")[0] for header in cells[0]}
    more = "".join(words for name, words in MEANING.items() if name in shown)
    meaning = (
        "global: the one model on all clients' test rows (- where there is none). client: each client's own "
        f"model {result.about_clients}, all clients alike; worst decile: the mean of the worst tenth of them. "
        f"{more}± is the standard deviation over seeds. MB: a run's traffic, all clients together. time: "
        f"seconds for all seeds, compilation included. Gini, Jain and more: --json. {fair}"
    )
    ended = "".join(f"{one}.\n" for one in result.diverged)
    ended += "".join(f"{label} is left out: {reason}.\n" for label, reason in result.left_out.items())
    return rows, ended + meaning


def _cells(result: Comparison, line: Line) -> dict[str, str]:
    """A method's line: header -> text."""
    metric, spread = result.metric, line.spread(result.metric)
    scale, digits, unit = _units(metric)
    tuned = any(each.tuned is not None for each in result.lines)
    shown = _shown(result, len(line.others) + tuned + (metric not in PERCENT))
    cells = {
        f"global\n{metric}{unit}": _cell(line.union, scale, digits),
        f"mean\nclient{unit}": _cell(line.mean, scale, digits),
        f"worst\ndecile{unit}": _cell(spread["worst decile"], scale, digits),
    }
    gains = result.gains(line)
    if "gain" in shown:
        points = "\npoints" if metric in PERCENT else ""
        cells[f"gain{points}"] = "" if gains is None else _cell(np.nanmean(gains, axis=1), scale, digits, "+")
    if "lose" in shown:
        cells["lose\n%"] = "" if gains is None else f"{100 * _losers(gains).mean():.0f}"
    if "ARI" in shown:
        index = line.agreement.get("adjusted_rand")
        cells["ARI"] = "" if index is None else f"{index.mean():.2f}"
    if "best decile" in shown:
        cells[f"best\ndecile{unit}"] = _cell(spread["best decile"], scale, digits)
    if "variance" in shown:  # has the square of the unit already
        squared, places = ("\n%²", 0) if metric in PERCENT else ("", digits)
        cells[f"variance{squared}"] = _cell(spread["variance"], digits=places)
    for name in line.others:
        scale, digits, unit = _units(name)
        cells[f"client\n{name}{unit}"] = _cell(line.spread(name)["mean"], scale, digits)
    cells |= {
        "MB\ndown": _short(line.bytes_down.mean() / 1e6),
        "MB\nup": _short(line.bytes_up.mean() / 1e6),
        "time\ns": _short(line.seconds),
    }
    if tuned:
        cells["tuned"] = "" if line.tuned is None else _numbers(line.tuned.numbers)
    return cells


def _shown(result: Comparison, taken: int) -> list[str]:
    """Which of the optional columns fit beside `taken` others; those that are empty for every method do not."""
    gained = any(result.gains(line) is not None for line in result.lines)
    empty = set() if gained else {"gain", "lose"}
    if not any("adjusted_rand" in line.agreement for line in result.lines):
        empty.add("ARI")
    shown, room = [], ROOM - WIDE * taken
    for name in (name for name in OPTIONAL if name not in empty):
        room -= OPTIONAL[name]
        if room < 0:
            break
        shown.append(name)
    return shown


def _losers(gains: np.ndarray) -> np.ndarray:
    """The share of the clients judged that do worse than alone, [seeds]."""
    judged = ~np.isnan(gains)
    return (judged & (gains < 0)).sum(axis=1) / np.maximum(judged.sum(axis=1), 1)


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _units(metric: str) -> tuple[float, int, str]:
    """(factor, decimals, unit) of a metric as it is shown."""
    return (100.0, 1, " %") if metric in PERCENT else (1.0, 3, "")


def _numbers(numbers: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('learning_rate', 'rate')} {value:g}" for name, value in numbers.items())


def _cell(values: np.ndarray | None, scale: float = 1.0, digits: int = 1, sign: str = "") -> str:
    """mean ± standard deviation over seeds, or a dash."""
    if values is None:
        return "-"
    spread = f" ± {np.std(values, ddof=1) * scale:.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values) * scale:{sign}.{digits}f}{spread}"


def _final(history: Any, name: str) -> dict[str, Any] | None:
    """Last, best by validation and final-window values of a metric, by seed."""
    if name not in history:
        return None
    final = history.final(name)
    return {field: _plain(getattr(final, field)) for field in final._fields}


def as_json(result: Comparison) -> str:
    """The figures of the table and, apart, last, best (by validation) and final-window values; NaN is null.

    Of every metric that clients are judged by there are its mean over clients and how evenly it is spread, all
    clients alike; variances of what the table has in percent are in percent squared. Beside training alone
    there is what every method gains, in the metric's unit, and the share of clients that lose by it. A lag that
    never ends is null; "recovered" has the share of those that end.
    """
    lines = [
        {
            "method": line.name,
            **_judged(line, result.metric, line.union),
            **{
                key: value
                for name in line.others
                for key, value in _judged(line, name, _last(line.history, f"global/{name}")).items()
            },
            "gain_over_local_only": _gained(result.gains(line)),
            **{name: _plain(values) for name, values in line.agreement.items()},
            "phases": {name.replace(" ", "_"): _plain(values) for name, values in line.phases.items()},
            "bytes_down": _plain(line.bytes_down),
            "bytes_up": _plain(line.bytes_up),
            "gradient_steps": _plain(line.steps),
            "seconds": line.seconds,
            "every_client_every_round": line.everyone,
            "final": {
                who: _final(line.history, f"{kind}/{result.metric}")
                for who, kind in (("global", "global"), ("mean_client", "personal"))
            },
            "tuned": None if line.tuned is None else line.tuned.numbers,
            "notices": [[rounds, text] for rounds, text in line.history.notices],
        }
        for line in result.lines
    ]
    whole = {
        "protocol": result.protocol,
        "metric": result.metric,
        "clients_judged": result.about_clients,
        "folder": None if result.folder is None else str(result.folder),
        "methods": lines,
        "diverged": [
            {
                "method": one.name,
                "seed": one.seed,
                "round": one.round,
                "client": one.client,
                "leaf": one.leaf,
                "message": str(one.error),
            }
            for one in result.diverged
        ],
        "left_out": [{"method": label, "reason": reason} for label, reason in result.left_out.items()],
    }
    return json.dumps(whole, indent=2)


def _judged(line: Line, metric: str, union: np.ndarray | None) -> dict[str, Any]:
    """A metric of the global model, and of the clients: {"mean_client_auc": [seeds], ...}."""
    spread = line.spread(metric)
    return {
        f"global_{metric}": _plain(union),
        f"mean_client_{metric}": _plain(spread["mean"]),
        **{f"{name.replace(' ', '_').lower()}_{metric}": _plain(spread[name]) for name in SPREAD},
    }


def _gained(gains: np.ndarray | None) -> dict[str, Any] | None:
    """The mean over clients, and the share of them that lose, [seeds] each."""
    if gains is None:
        return None
    return {"mean": _plain(np.nanmean(gains, axis=1)), "losers": _plain(_losers(gains))}


def _last(history: Any, name: str) -> np.ndarray | None:
    return history[name][:, -1] if name in history else None


def _plain(values: Any) -> Any:
    """Numbers as strict JSON has them."""
    if values is None:
        return None
    listed = values if isinstance(values, list) else np.asarray(values).tolist()
    if isinstance(listed, list):
        return [_plain(entry) for entry in listed]
    return None if isinstance(listed, float) and not math.isfinite(listed) else listed

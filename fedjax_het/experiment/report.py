"""A comparison as a table and as JSON."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fedjax_het.experiment.results import Comparison

__all__ = ["as_json", "table"]

PERCENT = ("accuracy",)
"""Metrics shown in percent."""


def table(result: Comparison) -> tuple[Any, str]:
    """(a rich table with a line for each method, what its columns mean)."""
    from rich.table import Table

    percent = result.metric in PERCENT
    scale, digits, unit = (100.0, 1, " %") if percent else (1.0, 4, "")
    rows = Table(title=result.protocol, title_justify="left", title_style="bold")
    rows.add_column("method")
    tuned = any(line.tuned is not None for line in result.lines)
    columns = [f"global {result.metric}{unit}", f"mean client{unit}", f"worst decile{unit}", "MB down", "MB up"]
    for column in [*columns, "seconds", *(["tuned"] if tuned else [])]:
        rows.add_column(column, justify="right")
    for line in result.lines:
        cells = [
            line.name,
            _cell(line.union, scale, digits),
            _cell(line.mean, scale, digits),
            _cell(line.worst(result.metric), scale, digits),
            f"{line.bytes_down.mean() / 1e6:.1f}",
            f"{line.bytes_up.mean() / 1e6:.1f}",
            f"{line.seconds:.1f}",
        ]
        if tuned:
            cells.append("" if line.tuned is None else _numbers(line.tuned.numbers))
        rows.add_row(*cells)
    fair = (
        "Every method had the same tuning budget on validation rows; the seeds shown are fresh."
        if tuned
        else "Rates are untuned, so a lower row is not a worse method: `compare --tune` tunes all alike."
    )
    meaning = (
        "global: the one model on all clients' test rows (- where there is none). client: each client's own "
        f"model {result.about_clients}; worst decile: its worst tenth of clients. ± is the standard deviation "
        "over seeds. MB: a run's traffic, all clients together. seconds: all seeds, compilation included. "
        f"{fair}"
    )
    return rows, meaning


def _numbers(numbers: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('learning_rate', 'rate')} {value:g}" for name, value in numbers.items())


def _cell(values: np.ndarray | None, scale: float = 1.0, digits: int = 1) -> str:
    """mean ± standard deviation over seeds, or a dash."""
    if values is None:
        return "-"
    spread = f" ± {np.std(values, ddof=1) * scale:.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values) * scale:.{digits}f}{spread}"


def _final(history: Any, name: str) -> dict[str, Any] | None:
    """Last, best by validation and final-window values of a metric, by seed."""
    if name not in history:
        return None
    final = history.final(name)
    return {field: _plain(getattr(final, field)) for field in final._fields}


def as_json(result: Comparison) -> str:
    """The figures of the table and, apart, last, best (by validation) and final-window values; NaN is null."""
    lines = [
        {
            "method": line.name,
            f"global_{result.metric}": _plain(line.union),
            f"mean_client_{result.metric}": _plain(line.mean),
            f"worst_decile_{result.metric}": _plain(line.worst(result.metric)),
            "bytes_down": _plain(line.bytes_down),
            "bytes_up": _plain(line.bytes_up),
            "gradient_steps": _plain(line.steps),
            "seconds": line.seconds,
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
    }
    return json.dumps(whole, indent=2)


def _plain(values: Any) -> Any:
    """Numbers as strict JSON has them."""
    if values is None:
        return None
    listed = np.asarray(values).tolist()
    entries = listed if isinstance(listed, list) else [listed]
    clean = [None if isinstance(entry, float) and not math.isfinite(entry) else entry for entry in entries]
    return clean if isinstance(listed, list) else clean[0]

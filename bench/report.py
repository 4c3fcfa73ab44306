"""Where results go: a table on standard output, JSON, a section of bench/README.md with machine and date."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax

__all__ = ["arguments", "finish", "machine", "put", "table", "versions"]

FOLDER = Path(__file__).parent

SECTIONS = ("round", "peers", "sweep", "auto", "ragged", "compile", "growth", "precision", "gpu")
"""Sections of bench/README.md, in their order."""

HEAD = """# Results

Written by the scripts of this folder, each its own section, when run with `--write`. Ratios were taken within
one run, between interleaved runs; times of different sections are not comparable, since machines are shared.
"""


def machine() -> dict[str, Any]:
    """Processor, cores, memory in GB and devices of this machine."""
    model, memory = platform.processor() or platform.machine(), None
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        model = found.group(1).strip() if found else model
        found = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
        memory = round(int(found.group(1)) / 1e6, 1) if found else None
    devices = jax.devices()
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gb": memory,
        "devices": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
    }


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of these packages, as installed."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table that also reads well in a terminal; numbers get three digits."""

    def text(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
        return str(value)

    cells = [[text(value) for value in row] for row in (head, *rows)]
    width = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, width)) + " |" for row in cells]
    rule = "|" + "|".join("-" * (w + 2) for w in width) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def put(file: Path, name: str, text: str) -> None:
    """Replace what stands between <!-- name --> and <!-- /name --> in a Markdown file.

    Raises:
        ValueError: the file has no such marks.
    """
    before = file.read_text()
    marks = re.compile(rf"<!-- {name} -->\n.*?<!-- /{name} -->", re.DOTALL)
    if not marks.search(before):
        raise ValueError(f"{file} must have the marks <!-- {name} --> and <!-- /{name} -->: write them")
    file.write_text(marks.sub(lambda _: f"<!-- {name} -->\n{text}\n<!-- /{name} -->", before))


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what all benches take: --json FILE, --write."""
    parser.add_argument("--json", metavar="FILE", help="where the results go as JSON; default: standard output")
    parser.add_argument("--write", action="store_true", help="put the table into bench/README.md")


def finish(
    options: argparse.Namespace, name: str, title: str, command: str, body: str, report: dict[str, Any]
) -> None:
    """Print the body, and write the JSON and, if asked to, the section.

    Args:
        options: with `json` and `write`, see `arguments`.
        name: one of `SECTIONS`.
        title: of the section.
        command: that gave these results.
        body: table and text, Markdown.
        report: all results, which have "machine" and "versions".
    """
    print(body)
    text = json.dumps(report, indent=2, default=float)
    if options.json:
        Path(options.json).write_text(text + "\n")
    else:
        print(text)
    if not options.write:
        return
    file = FOLDER / "README.md"
    if not file.exists():
        file.write_text("\n".join([HEAD, *(f"<!-- {one} -->\n<!-- /{one} -->\n" for one in SECTIONS)]))
    held = report["machine"]
    memory = f", {held['memory_gb']} GB" if held["memory_gb"] else ""
    where = f"{held['processor']}, {held['cores']} cores{memory}; {held['devices']}"
    what = ", ".join(f"{package} {version}" for package, version in report["versions"].items())
    today = datetime.date.today().isoformat()
    put(file, name, f"## {title}\n\n`{command}`, {today}. {where}. {what}.\n\n{body}\n")

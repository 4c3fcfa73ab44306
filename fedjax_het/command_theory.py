"""The command `theory`: what experiments there are, and one of them as a table, a picture and JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

__all__ = ["add", "theory"]


def add(made: argparse.ArgumentParser) -> None:
    """The command's words and options."""
    made.add_argument("name", nargs="?", help="an experiment; without one they are listed")
    made.add_argument("words", nargs="*", metavar="key=value", help="its settings, such as steps=[1,5,50]")
    made.add_argument("--out", type=Path, metavar="DIR", help="folder for the picture and the numbers")


def theory(arguments: argparse.Namespace) -> int:
    """List the experiments, or run one; with `--out` its picture and its numbers are written there."""
    from fedjax_het.theory import EXPERIMENTS, experiment

    if arguments.name is None:
        listed = {name: entry.caption for name, entry in EXPERIMENTS.items()}
        wide = max(map(len, listed))
        table = "\n".join(f"{name.ljust(wide)}  {caption}" for name, caption in listed.items())
        print(json.dumps(listed, indent=2) if arguments.json else table)
        return 0
    found = experiment(arguments.name, _settings(arguments.words))
    print(json.dumps(found.as_dict(), indent=2, allow_nan=False) if arguments.json else found, flush=True)
    if arguments.out is not None:
        from fedjax_het import plots

        arguments.out.mkdir(parents=True, exist_ok=True)
        path = plots.save(found.figure(), arguments.out / f"{arguments.name}.png")
        numbers = path.with_suffix(".json")
        numbers.write_text(json.dumps(found.as_dict(), indent=2, allow_nan=False) + "\n")
        if not arguments.quiet:
            print(path, numbers, sep="\n", file=sys.stderr)
    return 0


def _settings(words: list[str]) -> dict[str, Any]:
    from fedjax_het.experiment.overrides import parse

    return dict(parse(word) for word in words)

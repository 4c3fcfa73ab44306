"""The commands `kinds` and `methods`: tables of what there is."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

__all__ = ["listed"]


def listed(arguments: argparse.Namespace) -> int:
    """Print the table of `arguments.command`, or its entry `arguments.name`."""
    from fedjax_het.experiment import kinds, methods

    tables = arguments.command == "methods"
    facts, table = (methods.about, methods.table) if tables else (kinds.kinds, kinds.table)
    if arguments.json:
        print(json.dumps(facts(arguments.name), indent=2))
        return 0
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=150)
    console.print(table(arguments.name), highlight=False)
    return 0

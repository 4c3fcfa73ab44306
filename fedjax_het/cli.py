"""The command line: `fedjax-het compare`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fedjax_het.experiment import Comparison

__all__ = ["main"]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fedjax-het",
        description="Federated learning on heterogeneous clients, simulated as one compiled program.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    compare = commands.add_parser(
        "compare",
        help="several methods on the same clients",
        description=(
            "Run several methods on scikit-learn's digits, split over clients with Dirichlet label skew. All "
            "start from the same weights and see the same cohorts and batches. Rates are not tuned."
        ),
        epilog="example: fedjax-het compare --methods fedavg scaffold --alpha 0.05 --rounds 200",
    )
    compare.add_argument("--methods", nargs="+", metavar="NAME", help="default: all that are built in")
    compare.add_argument("--clients", type=int, default=40, help="registered clients (default 40)")
    compare.add_argument("--alpha", type=float, default=0.1, help="Dirichlet; small is skewed (default 0.1)")
    compare.add_argument("--cohort", type=int, default=10, help="clients of a round (default 10)")
    compare.add_argument("--rounds", type=int, default=100, help="rounds (default 100)")
    compare.add_argument("--seeds", type=int, default=3, help="runs of every method (default 3)")
    compare.add_argument("--json", action="store_true", help="print the results as JSON instead of a table")
    compare.add_argument("--quiet", action="store_true", help="no progress on the standard error")
    return parser


def _cell(values: np.ndarray | None, scale: float = 1.0, digits: int = 1) -> str:
    """mean ± standard deviation over seeds, or a dash."""
    if values is None:
        return "-"
    spread = f" ± {np.std(values, ddof=1) * scale:.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values) * scale:.{digits}f}{spread}"


def _table(result: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=result.protocol, title_justify="left", title_style="bold")
    columns = ("global accuracy %", "mean client %", "worst decile %", "MB down", "MB up", "seconds")
    table.add_column("method")
    for column in columns:
        table.add_column(column, justify="right")
    for line in result.lines:
        table.add_row(
            line.name,
            _cell(line.global_accuracy, 100),
            _cell(line.mean, 100),
            _cell(line.worst, 100),
            f"{line.bytes_down.mean() / 1e6:.1f}",
            f"{line.bytes_up.mean() / 1e6:.1f}",
            f"{line.seconds:.1f}",
        )
    # a pipe has no width of its own: a table cut to 80 columns would lose figures
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(table)
    console.print(
        "global: the one model on all clients' test rows (- where there is none). client: each client's own "
        "model on that test set, reweighted to the client's labels; worst decile: its worst tenth of clients. "
        "± is the standard deviation over seeds. MB: a run's traffic, all clients together. seconds: all "
        "seeds, compilation included. Rates are untuned, so a lower row is not a worse method.",
        style="dim",
        highlight=False,
    )


def _as_json(result: Comparison) -> str:
    lines = [
        {
            "method": line.name,
            "global_accuracy": None if line.global_accuracy is None else line.global_accuracy.tolist(),
            "mean_client_accuracy": line.mean.tolist(),
            "worst_decile_accuracy": line.worst.tolist(),
            "bytes_down": line.bytes_down.tolist(),
            "bytes_up": line.bytes_up.tolist(),
            "gradient_steps": line.steps.tolist(),
            "seconds": line.seconds,
        }
        for line in result.lines
    ]
    return json.dumps({"protocol": result.protocol, "methods": lines}, indent=2)


def _compare(arguments: argparse.Namespace) -> int:
    from fedjax_het.experiment.comparison import METHODS, compare, digits_study

    began = time.perf_counter()

    def announce(name: str) -> None:
        if not arguments.quiet:
            print(f"[{time.perf_counter() - began:5.1f} s] {name}", file=sys.stderr, flush=True)

    federation, problem, solver = digits_study(clients=arguments.clients, alpha=arguments.alpha)
    result = compare(
        arguments.methods or METHODS,
        federation=federation,
        problem=problem,
        solver=solver,
        rounds=arguments.rounds,
        cohort=arguments.cohort,
        seeds=arguments.seeds,
        announce=announce,
    )
    if arguments.json:
        print(_as_json(result))
    else:
        _table(result)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; default: the process's own.

    Returns:
        0 if it worked, 1 for bad input (the message is on the standard error), 130 after Ctrl-C. A command
        line that cannot be parsed exits with 2.
    """
    arguments = _parser().parse_args(argv)
    try:
        return _compare(arguments)
    except (ValueError, TypeError) as error:
        print(f"fedjax-het: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fedjax-het: interrupted", file=sys.stderr)
        return INTERRUPTED

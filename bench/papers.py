"""Do the papers' results come out: ours, the paper's, what is allowed, PASS or FAIL.

Settings stand in the functions named below, fixed before running unless they say otherwise; `--rounds` and
`--seeds` change them, for a first look at what runs. On two cores `scaffold`, `fednova` and `pfedme` take a
minute together, `fashion`, `fedprox` and `qffl` up to twenty minutes each, and `qffl-script` most of an hour;
`pull`, `representation` and `mixing` a minute each, `pfedme-table` and the `two-labels` up to fifteen.

    python bench/papers.py scaffold fednova pfedme --json papers.json
    python bench/papers.py qffl --rounds 50 --seeds 1
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from papers.bipartition import recovery
from papers.deciles import qffl, qffl_script
from papers.fashion import fairness
from papers.ifca import regression, rotated
from papers.lemma import fednova
from papers.mixing import mixing
from papers.mixtures import mixtures
from papers.pair import scaffold
from papers.pfedme import fedavg, table
from papers.pull import pull
from papers.representation import representation
from papers.rows import Row, show
from papers.stragglers import fedprox
from papers.two_labels import two_labels, two_labels_tuned

import fedjax_het as fh

RESULTS: dict[str, Callable[..., list[Row]]] = {
    "scaffold": scaffold,
    "fednova": fednova,
    "pfedme": fedavg,
    "pull": pull,
    "representation": representation,
    "mixing": mixing,
    "recovery": recovery,
    "mixtures": mixtures,
    "regression": regression,
    "pfedme-table": table,
    "two-labels-tuned": two_labels_tuned,
    "two-labels": two_labels,
    "rotated": rotated,
    "fashion": fairness,
    "fedprox": fedprox,
    "qffl": qffl,
    "qffl-script": qffl_script,
}
"""Name -> (rounds, seeds) -> rows; cheapest first."""


def run(name: str, changed: dict[str, Any]) -> dict[str, Any]:
    """One result, printed and returned; `changed` are arguments other than the stated ones."""
    begin = time.perf_counter()
    rows = RESULTS[name](**changed)
    seconds = time.perf_counter() - begin
    title = (RESULTS[name].__doc__ or "").splitlines()[0]
    print(f"\n{name}: {title}\n{show(rows)}\n({seconds:.0f} s)", flush=True)
    return {"changed": changed, "seconds": seconds, "rows": [dataclasses.asdict(row) for row in rows]}


def main() -> int:
    """Run those named, or all; 1 if any fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RESULTS)}; all if none")
    parser.add_argument("--rounds", type=int, help="instead of the stated ones")
    parser.add_argument("--seeds", type=int, help="so many, from 0 on, instead of the stated ones")
    parser.add_argument("--json", type=Path, help="file for the rows")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(RESULTS))
    if unknown:
        parser.error(f"NAME must be of {', '.join(RESULTS)}, got {', '.join(unknown)}")
    changed: dict[str, Any] = {} if given.rounds is None else {"rounds": given.rounds}
    if given.seeds is not None:
        changed["seeds"] = list(range(given.seeds))
    found = {}
    versions = {"python": platform.python_version(), "jax": jax.__version__, "fedjax_het": fh.__version__}
    for name in given.names or RESULTS:
        found[name] = run(name, changed)
        if given.json:  # after each, since they are long
            given.json.write_text(json.dumps({"versions": versions, "results": found}, indent=2) + "\n")
    failed = [
        f"{name}: {row['name']}" for name, one in found.items() for row in one["rows"] if row["passed"] is False
    ]
    print(f"\nFAIL {'; '.join(failed)}" if failed else "\nPASS")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

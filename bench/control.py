"""The IID control: where all clients are alike, no personal method may look better than FedAvg.

A method that gains here gains by something else than personalisation: more local work, more of the clients in a
round, rows that it should not see. Fixed before running:

- scikit-learn's digits, dealt out evenly and at random to 20 clients, of whose 90 rows 20 % are test rows;
  all 20 take part in every round, so that methods which demand everyone are not ahead.
- 2 epochs a round in batches of 20; every method's own numbers are its defaults; seeds 0, 1, 2.
- `mlp`: the network with 64 hidden units, 50 rounds at rate 0.1, and every method of the personal, clustered
  and multi-task families that can learn it. `softmax`: softmax regression, for MOCHA, which learns nothing
  else; 200 rounds at rate 0.5, where FedAvg has arrived. MOCHA has no rate: after 50 rounds at 0.1 it was five
  points ahead of a FedAvg that was still on its way. FedBN needs normalisation layers and is in neither.
- Scored: the mean over clients of the accuracy of each client's own model on its own test rows, after the last
  round, and of that the mean over seeds.

Asked for: every method at most 1 point above FedAvg. Clusters are printed, and nothing asked of them.

    python bench/control.py --json control.json --out control
    python bench/control.py mlp --rounds 5 --seeds 1
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from papers.rows import Row, most, show, told

import fedjax_het as fh
from fedjax_het.experiment import Comparison, Config, compare

STUDIES = {
    "mlp": (50, 0.1, ("model=mlp", "compare=[all-personal]")),
    "softmax": (200, 0.5, ("model=softmax", "compare=[fedavg, local_only, meanreg, mocha]")),
}
"""Name -> rounds, learning rate, and what a study changes."""

SETTINGS = (
    "clients={name=iid,clients=20,test=0.2}",
    "sampling=everyone",
    "local={batch_size=20,epochs=2}",
)

ALLOWED = 1.0
"""Percentage points above FedAvg."""


def control(
    study: str, rounds: int | None = None, seeds: Sequence[int] = (0, 1, 2), out: Path | None = None
) -> Comparison:
    """Run one of `STUDIES`.

    Args:
        study: its name.
        rounds: of every method, instead of the study's.
        seeds: of every method.
        out: a new folder for results and pictures; `gain_over_fedavg.png` is the one that shows the claim.
    """
    stated, rate, changed = STUDIES[study]
    rounds = stated if rounds is None else rounds
    changes = [*changed, *SETTINGS, f"local.learning_rate={rate}", f"rounds={rounds}", f"every={rounds}"]
    changes.append(f"seeds={list(seeds)}")
    return compare(
        Config.load(None, changes),
        folder=None if out is None else out / study,
        announce=lambda text: print(text, file=sys.stderr, flush=True),
    )


def verdicts(result: Comparison) -> list[Row]:
    """A row for each method, its difference to FedAvg in percentage points; and how many clusters it found."""
    fedavg = next(line for line in result.lines if line.name == "fedavg")
    rows = [told("fedavg, %", 100 * fedavg.mean.mean())]
    for line in result.lines:
        if line is not fedavg:
            rows.append(
                most(f"{line.name} over fedavg, points", 100 * (line.mean - fedavg.mean).mean(), ALLOWED)
            )
        if "clusters" in line.agreement:
            rows.append(told(f"{line.name}: clusters", line.agreement["clusters"].mean()))
    return rows


def main() -> int:
    """Run the studies named, or all; 1 if a method is above FedAvg by more than is allowed, or diverged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="STUDY", help=f"of {', '.join(STUDIES)}; all if none")
    parser.add_argument("--rounds", type=int, help="instead of the stated ones")
    parser.add_argument("--seeds", type=int, default=3, help="so many, from 0 on")
    parser.add_argument("--out", type=Path, help="a new folder for results and pictures")
    parser.add_argument("--json", type=Path, help="file for the rows")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(STUDIES)):
        parser.error(f"STUDY must be of {', '.join(STUDIES)}, got {', '.join(unknown)}")
    found: dict[str, Any] = {}
    failed = []
    for name in given.names or STUDIES:
        result = control(name, given.rounds, range(given.seeds), given.out)
        rows = verdicts(result)
        failed += [f"{name}: {row.name}" for row in rows if row.passed is False]
        failed += [f"{name}: {one}" for one in result.diverged]
        found[name] = {
            "protocol": result.protocol,
            "rows": [dataclasses.asdict(row) for row in rows],
            "left_out": dict(result.left_out),
            "diverged": [str(one) for one in result.diverged],
        }
        print(f"\n{name}: {result.protocol}\n{show(rows)}", flush=True)
        for label, reason in result.left_out.items():
            print(f"{label} is left out: {reason}")
        if given.json:  # after each, since they are long
            versions = {
                "python": platform.python_version(),
                "jax": jax.__version__,
                "fedjax_het": fh.__version__,
            }
            given.json.write_text(json.dumps({"versions": versions, "results": found}, indent=2) + "\n")
    print(f"\nFAIL {'; '.join(failed)}" if failed else "\nPASS")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

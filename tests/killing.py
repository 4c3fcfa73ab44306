"""A comparison killed at random moments and resumed, against one left alone.

python tests/killing.py --kills 20
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fedjax_het.experiment import load_histories
from fedjax_het.experiment.store import read, words

STUDY = (
    "clients.clients=6",
    "sampling.size=3",
    "rounds=60",
    "every=3",
    "seeds=[0,1]",
    "checkpoint.seconds=0",
    'compare=["scaffold","fedper"]',
)
"""Saves after every block, so that many of the moments fall into one."""


def command(*words: str) -> list[str]:
    """The command line, as a process of its own."""
    return [sys.executable, "-m", "fedjax_het", *words, "--quiet", "--json"]


def killed(folder: Path, kills: int, seed: int, longest: float) -> list[float]:
    """Begin the study and kill it again and again, then let it end; the seconds that each process lived."""
    rng = random.Random(seed)
    lives = []
    for number in range(kills + 1):
        begun = (folder / "config.toml").exists()
        words = ["resume", str(folder)] if begun else ["compare", *STUDY, "--out", str(folder)]
        began = time.monotonic()
        process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if number < kills:
            try:
                process.wait(rng.uniform(0.2, longest))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        _, error = process.communicate()
        lives.append(time.monotonic() - began)
        code = process.returncode
        if code not in (0, -signal.SIGKILL):
            raise RuntimeError(f"exit code {code} after {number} kills: {error.decode()}")
        if code == 0 and number < kills:
            break
    return lives


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two finished comparisons: histories but for the clock, and final states."""
    wrong = []
    a, b = load_histories(one / "history.npz"), load_histories(other / "history.npz")
    wrong += [f"history of {name}" for name in a if name not in b or not a[name].same(b[name])]
    wrong += [name for name in b if name not in a]
    runs = sorted(path.relative_to(one) for path in one.glob("*/seed-*"))
    for run in runs:
        last = [
            max((root / run / "checkpoints").glob("[0-9]*"), key=lambda p: int(p.name)) for root in (one, other)
        ]
        index = [words(path)["index"] for path in last]
        size = min(variable["stored"]["begin"] for variable in index[0]["variables"].values())
        one_state, other_state = (np.asarray(read(path))[:size] for path in last)
        if size == 0 or index[0]["state"] != index[1]["state"] or not np.array_equal(one_state, other_state):
            wrong.append(f"state of {run}")
    return wrong


def _last(folder: Path) -> Path:
    return max(folder.glob("[0-9]*"), key=lambda path: int(path.name))


def main() -> int:
    """Run both, compare, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=15.0, help="seconds that a process lives at most")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        alone, hunted = Path(root) / "alone", Path(root) / "hunted"
        subprocess.run(command("compare", *STUDY, "--out", str(alone)), check=True, stdout=subprocess.DEVNULL)
        lives = killed(hunted, arguments.kills, arguments.seed, arguments.longest)
        wrong = differences(alone, hunted)
    print(f"{len(lives) - 1} kills after {', '.join(f'{life:.1f}' for life in lives[:-1])} s")
    print("FAIL: " + "; ".join(wrong) if wrong else "every state and history is the same, bit for bit")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())

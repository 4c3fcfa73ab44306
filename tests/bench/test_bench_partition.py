"""The benchmark of partitioning runs, in small and on made-up images; and it knows a wrong partition."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

import fedjax_het as fh

SCRIPT = Path(__file__).parents[2] / "bench" / "partition.py"


def test_it_runs_in_small(tmp_path):
    only = [word for name in ("classes", "million", "rotation") for word in ("--only", name)]
    command = [sys.executable, SCRIPT, "--tiny", "--repeats", "1", "--json", tmp_path / "found.json", *only]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())["found"]
    assert set(found) == {"classes", "million", "rotation"}
    assert found["million"]["seconds"]["median"] > 0
    assert "MISSED" not in done.stdout


def test_a_wrong_partition_is_known():
    spec = importlib.util.spec_from_file_location("bench_partition", SCRIPT)
    assert spec is not None and spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    pool = fh.pool(np.zeros((6, 1)), np.arange(6) % 2)
    right, twice, lost = ([[0, 1, 2], [3, 4, 5]], [[0, 1, 2], [2, 3, 4, 5]], [[0, 1], [3, 4, 5]])
    told = [
        bench.once(fh.from_index_lists(pool, None, parts, replacement=True), 6)
        for parts in (right, twice, lost)
    ]
    assert told == [True, False, False]

"""The benchmark of weights runs in small, and its bits are those of their definition."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedjax_het.weighting import buckets, noisy, proportional, uniform

SCRIPT = Path(__file__).parents[2] / "bench" / "weights.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_weights", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_runs_in_small(tmp_path):
    command = [
        sys.executable,
        SCRIPT,
        "--tiny",
        "--seeds",
        "1",
        "--json",
        tmp_path / "f.json",
        "--out",
        tmp_path / "f.png",
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    mean = json.loads((tmp_path / "f.json").read_text())["mean"]
    assert {"exact", "uniform", "buckets 2", "noise 0.01"} <= set(mean) and "noise 0.01" in done.stdout
    assert mean["exact"]["difference"] == 0 and mean["exact"]["distance"] == pytest.approx(0, abs=1e-6)
    assert mean["noise 0.01"]["bits"] < mean["noise 1"]["bits"] < mean["exact"]["bits"]
    assert mean["buckets 100"]["bits"] <= mean["buckets 2"]["bits"] <= mean["exact"]["bits"]
    assert (tmp_path / "f.png").stat().st_size > 5000


def test_bits(bench):
    sizes = np.array([1, 2, 3, 3, 40, 41, 50, 900])
    assert bench.bits(proportional(), sizes) == pytest.approx(2.75)  # six alone, one pair
    assert bench.bits(uniform(), sizes) == 0
    assert bench.bits(buckets(10), sizes) == pytest.approx(1.4056390622)  # 4, 3 and 1 of 8
    table = bench.noise_table(0.3, sizes)
    np.testing.assert_allclose(table.sum(1), 1, atol=1e-10)
    rng = np.random.default_rng(0)
    ratio = np.exp(-0.3)
    noise = rng.geometric(1 - ratio, 100_000) - rng.geometric(1 - ratio, 100_000)
    for row, size in zip(table, sizes):
        assert row @ np.arange(1, row.size + 1) == pytest.approx(np.maximum(1, size + noise).mean(), abs=0.05)
    assert bench.bits(noisy(50.0, mechanism="geometric"), sizes) == pytest.approx(2.75)
    assert bench.bits(noisy(1e-4, mechanism="geometric"), sizes) < 0.01


def test_distance(bench):
    sizes = np.array([10, 30])
    assert bench.distance(uniform(), sizes) == pytest.approx(0.25)
    assert bench.distance(proportional(), sizes) == pytest.approx(0, abs=1e-6)

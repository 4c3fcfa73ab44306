"""The benchmark of evaluation runs, in small and on made-up images; and it fails where results differ."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "evaluation.py"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with 2,500 images of noise in the format of Fashion-MNIST."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for stem, header, shape, top in (("images-idx3", 16, (2500, 784), 256), ("labels-idx1", 8, (2500,), 10)):
        values = rng.integers(0, top, shape).astype(np.uint8)
        with gzip.open(folder / f"train-{stem}-ubyte.gz", "wb", compresslevel=1) as stream:
            stream.write(bytes(header) + values.tobytes())
    return folder


def run(code, images, *options):
    paths = f"{SCRIPT.parents[1]}{os.pathsep}{SCRIPT.parent}"
    environment = {**os.environ, "FEDJAX_HET_DATA": str(images), "PYTHONPATH": paths}
    command = [sys.executable, *code, "--tiny", "--pairs", "1", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_it_runs_in_small(images, tmp_path):
    done = run([str(SCRIPT)], images, "--json", str(tmp_path / "report.json"))
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["clients"] == 30 and report["rows"] == 1800
    assert all(outcome["agrees"] for outcome in report["first"].values())
    assert {"global/flat", "evaluate/flat", "own/own-hand"} <= set(report["ratios"])
    assert "global/flat" in done.stdout


def test_it_fails_where_results_differ(images):
    scale = "lambda w, n=iter(range(9)): e.np.full(30, 1 + next(n) / 9, e.np.float32)"  # other models each time
    broken = f"import evaluation as e; e.scale = {scale}"
    done = run(["-c", f"{broken}; raise SystemExit(e.main())"], images)
    assert done.returncode == 1 and "FAIL" in done.stdout and "ratios" not in done.stdout

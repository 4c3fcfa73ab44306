"""The benchmark of personal heads and similarity runs in small, on made-up images; and fails where it must."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "personal.py"


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
    command = [sys.executable, *code, "--tiny", "--pairs", "2", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_it_runs_in_small(images, tmp_path):
    done = run([str(SCRIPT)], images, "--json", str(tmp_path / "report.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["clients"] == 30 and report["parameters"] == 784 * 20 + 20 + 210 and report["failed"] == []
    assert set(report["ratios"]) == {"fedper/fedavg", "cosines/matrix", "cut/cosines"}
    assert all(len(times) == 2 for times in report["all_cpu_ms"].values())


@pytest.mark.parametrize(
    "broken, words",
    [
        ("p.cosines = lambda u: u @ u.T", "apart from NumPy"),
        ("old = p.rounds; p.rounds = lambda w, n: old(w, {'fedper': 'fedrep'}.get(n, n))", "of the bodies"),
    ],
)
def test_it_fails_where_results_differ(images, broken, words):
    done = run(["-c", f"import personal as p\n{broken}\nraise SystemExit(p.main())"], images)
    assert done.returncode == 1 and "FAIL" in done.stdout and words in done.stdout, done.stdout + done.stderr


def test_it_tells_which_bar_is_missed(images):
    code = "import personal as p; print(p.missed(1.2, 0.9), p.missed(1.4, float('nan')))"
    told = run(["-c", code], images).stdout
    assert (
        told.startswith("[] [") and "1.400 is above 1.3" in told and "nan of the matrix rate, below 0.8" in told
    )

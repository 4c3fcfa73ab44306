"""The benchmark of measures runs in small, on made-up images; and fails where it must."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "measures.py"


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
    assert report["clients"] == 30 and report["cohort"] == 5 and report["failed"] == []
    assert set(report["ratios"]) == {"(with - without)/pass", "with/without"}
    assert set(report["all_cpu_ms"]) == {"with", "without", "pass"}
    assert all(len(times) == 2 for times in report["all_cpu_ms"].values())


def test_it_fails_where_results_differ_and_tells_which_bar_is_missed(images):
    broken = (
        "import measures as m\n"
        "m.tree = __import__('types').SimpleNamespace(**vars(m.tree))\n"
        "old = m.tree.scale\n"
        "m.tree.scale = lambda w, t: old(2 * w, t)\n"
        "print(m.missed(1.0), m.missed(float('nan')))\n"
        "raise SystemExit(m.main())"
    )
    done = run(["-c", broken], images)
    assert done.returncode == 1 and "FAIL |mean gradient|^2 is" in done.stdout, done.stdout + done.stderr
    assert done.stdout.startswith("[] ['(with - without)/pass nan is above 1.1']")

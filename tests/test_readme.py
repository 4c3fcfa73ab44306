"""What the README says is true: its code runs as it stands, its commands are the ones that are checked."""

import inspect
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import fedjax_het as fh
import fedjax_het.experiment
import fedjax_het.theory
from fedjax_het import cli
from fedjax_het.engine.rounds import draw

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def _blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def _python(word):
    """The one Python block that has this word."""
    (block,) = [block for block in _blocks("python") if word in block]
    return block


FOLLOWED = """
import jax, numpy as np, fedjax_het as fh
pool = fh.datasets.digits()
federation = fh.heterogeneity.iid(pool, clients=5, sizes=[20, 30, 10, 25, 15])
algorithm = fh.algorithms.make("median", fh.models.softmax(pool), fh.local.sgd(0.1, batch_size=10))
sampler, key = fh.sampling.everyone(), jax.random.key(0)
state, _ = fh.simulate(algorithm, federation, key=key, rounds=1, sampler=sampler)
round_fn = fh.make_round(sampler, fh.executors.looped())
start = fh.initial_state(algorithm, federation, key=key, round_fn=round_fn)
replay = jax.jit(fh.replay)
updates = [replay(round_fn, algorithm, start, federation, k).each["head"]["bias"] for k in range(5)]
moved = state.server.params["head"]["bias"] - start.server.params["head"]["bias"]
np.testing.assert_allclose(moved, np.median(np.stack(updates), axis=0), atol=1e-6)
print(fh.__file__)
"""
"""The median of the cohort's updates, each of them replayed alone, is what the server moved by."""


@pytest.fixture(scope="module")
def quick_start():
    printed, namespace = [], {}
    exec(_blocks("python")[0], {"print": printed.append}, namespace)
    return namespace, "\n".join(printed)


@pytest.mark.smoke
def test_the_quick_start_runs_and_learns(quick_start):
    namespace, printed = quick_start
    assert "50 rounds" in printed and "global accuracy" in printed
    assert namespace["history"]["evaluated_at"].tolist() == [0, 10, 20, 30, 40, 50]
    assert namespace["history"]["global/accuracy"][-1] > 0.6


@pytest.mark.smoke
def test_the_shape_of_a_run_runs(quick_start):
    namespace = dict(quick_start[0], jax=jax, fh=fh)
    exec(_python("make_block"), namespace)
    assert namespace["state"].round == 5
    assert namespace["states"].round.tolist() == [5] * 8
    kernels = np.asarray(namespace["states"].server.params["head"]["kernel"])
    assert len(np.unique(kernels[:, 0, 0])) == 8


def test_the_screen_of_heterogeneity_runs(quick_start):
    printed = []
    namespace = dict(quick_start[0], fh=fh, print=lambda value: printed.append(str(value)))
    exec(_python("compose("), namespace)
    federation = namespace["federation"]
    assert federation.num_clients == 100 and federation.spec.phases == 2
    assert {"proportions", "sizes", "angle", "cluster"} <= set(federation.truth)
    assert "IID split of the same sizes" in printed[0] and abs(namespace["found"].reached - 0.6) < 0.02


def test_the_screen_of_personal_methods_runs(quick_start, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace = dict(quick_start[0])
    exec(_python("adjusted_rand"), namespace)
    assert capsys.readouterr().out.rstrip().endswith(" 1.0")
    assert (tmp_path / "clusters.png").stat().st_size > 1000
    assert namespace["tuned"].problem is namespace["mixed"].problem


def test_the_screen_of_cohorts_runs(quick_start):
    namespace = dict(quick_start[0], fh=fh)
    exec(_python("capped("), namespace)
    algorithm, federation, round_fn = (namespace[name] for name in ("algorithm", "federation", "round_fn"))
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    cohort, _ = draw(round_fn, algorithm, state, federation)
    assert 0 < cohort.present.sum() <= 10 and abs(float(cohort.mass) - 1) < 1e-6
    assert float(cohort.weight.max()) <= max(0.2, 1 / float(cohort.present.sum())) + 1e-6


def test_the_screen_for_python_users_runs(quick_start, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace = dict(quick_start[0], fh=fh)
    exec(_python("study_of"), namespace)
    out = capsys.readouterr().out
    assert "after local work" in out and "weighted by rows" in out
    assert namespace["final"].best is not None and namespace["frame"].shape[0] == 2 * 3
    assert (tmp_path / "by_round.png").exists() and (tmp_path / "runs" / "own" / "summary.json").exists()
    assert out.count("\n10 ") == 4, "the tracker heard of the last round of both methods and seeds"


def test_the_screen_for_the_command_line_is_understood(tmp_path, capsys):
    """Every line parses and its configuration is accepted; what it does is tested with the command line."""
    (tmp_path / "exp.toml").write_text(_blocks("toml")[0])
    config = fedjax_het.experiment.Config.load(tmp_path / "exp.toml")
    assert config.methods["strong"].algorithm.name == "fedprox" and config.clients.options["clients"] == 100
    lines = [line.split("#")[0].split() for line in _blocks("sh")[3].splitlines()]
    assert len(lines) == 13
    for command, *words in (line[1:] for line in lines):
        arguments = cli.parse([command, *words])
        if hasattr(arguments, "words"):
            files = {"exp.toml": tmp_path / "exp.toml", "runs/mine/config.toml": tmp_path / "exp.toml"}
            arguments.words = [str(files.get(word, word)) for word in arguments.words]
            assert cli.configuration(arguments).rounds >= 100


def test_theory_runs_as_it_stands(quick_start, tmp_path, capsys):
    table = README.split("## Theory that runs")[1].split("\n## ")[0]
    named = re.findall(r"^\| (`.*?`) \|", table, flags=re.MULTILINE)
    assert set(re.findall(r"`(.*?)`", " ".join(named))) == set(fh.theory.EXPERIMENTS)
    (block,) = [block for block in _blocks("sh") if "fedjax-het theory" in block]
    for line in block.splitlines():
        _, *words = line.split("#")[0].split()
        given = cli.parse(words)
        known = inspect.signature(fh.theory.EXPERIMENTS[given.name].function).parameters if given.name else ()
        assert given.command == "theory" and {word.split("=")[0] for word in given.words} <= set(known)
    assert cli.main(["theory"]) == 0 and "best-steps" in capsys.readouterr().out
    assert cli.main(["theory", "floor", "points=3", "--out", str(tmp_path / "seen")]) == 0
    assert "holds: " in capsys.readouterr().out and (tmp_path / "seen" / "floor.png").exists()
    namespace = dict(quick_start[0])
    exec(_python("constants.of_quadratics"), namespace)
    out = capsys.readouterr().out
    assert 0 < namespace["error"][-1] < namespace["bound"].values[-1] < namespace["bound"].values[0]
    assert "the step size must be <= 1 / (4 L E)" in out


def test_the_sixth_algorithm_is_one_file_and_one_line(tmp_path):
    """Follow the README in a copy of the package: write the file, add the import and the line, run it."""
    code, addition = _python("class Median"), _python('"median": Entry')
    shutil.copytree(ROOT / "fedjax_het", tmp_path / "fedjax_het", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "fedjax_het" / "algorithms" / "median.py").write_text(code)
    table = tmp_path / "fedjax_het" / "algorithms" / "table.py"
    _, imported, _, line, _ = addition.split("\n")
    text = table.read_text().replace("from fedjax_het.check", f"{imported}\nfrom fedjax_het.check", 1)
    head, tail = text.split("ALGORITHMS: dict[str, Entry] = {\n")
    table.write_text(f"{head}ALGORITHMS: dict[str, Entry] = {{\n{line}\n{tail}")
    done = subprocess.run(
        [sys.executable, "-c", FOLLOWED], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout, "the copy was imported"


def test_the_checks_run_the_readmes_own_test_command():
    commands = [line for block in _blocks("sh") for line in block.splitlines() if "[test]" in line]
    assert len(commands) == 1
    assert "pip install -q -e '.[test]'" in (ROOT / ".ci" / "run").read_text()
    assert commands[0].startswith("python3 -m venv .venv && ") and commands[0].endswith("/pytest")

"""What the README says is true: its code runs as it stands, its commands are the ones that are checked."""

import pathlib
import re

import jax
import numpy as np
import pytest

import fedjax_het as fh

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def _blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


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
    exec(_blocks("python")[1], namespace)
    assert namespace["state"].round == 5
    assert namespace["states"].round.tolist() == [5] * 8
    kernels = np.asarray(namespace["states"].server.params["head"]["kernel"])
    assert len(np.unique(kernels[:, 0, 0])) == 8


def test_the_sixth_algorithm_is_one_file_and_one_line(quick_start):
    code, line = _blocks("python")[2:4]
    namespace = {"__name__": "median"}
    exec(code, namespace)
    entry = re.search(r'^"median": (Entry\(.*\)),$', line, flags=re.MULTILINE)
    assert entry is not None
    made = eval(entry[1], {"Entry": fh.algorithms.Entry, "median": namespace["median"]})
    given = quick_start[0]
    algorithm = made.factory(given["problem"], given["solver"])
    sampler = fh.sampling.uniform(5)
    run = {"key": jax.random.key(0), "rounds": 1, "sampler": sampler}
    state, _ = fh.simulate(algorithm, given["federation"], **run)
    # the median of the cohort's updates, each of them replayed alone
    round_fn = fh.make_round(sampler, fh.executors.looped())
    start = fh.initial_state(algorithm, given["federation"], key=run["key"], round_fn=round_fn)
    ids = np.asarray(round_fn(algorithm, start, given["federation"])[1]["id"])
    replay = jax.jit(fh.replay)
    updates = [replay(round_fn, algorithm, start, given["federation"], k).each["head"]["bias"] for k in ids]
    moved = np.asarray(state.server.params["head"]["bias"] - start.server.params["head"]["bias"])
    np.testing.assert_allclose(moved, np.median(np.stack(updates), axis=0), atol=1e-6)


def test_the_checks_run_the_readmes_own_test_command():
    commands = [line for block in _blocks("sh") for line in block.splitlines() if "[test]" in line]
    assert len(commands) == 1
    assert "pip install -q -e '.[test]'" in (ROOT / ".ci" / "run").read_text()
    assert commands[0].startswith("python3 -m venv .venv && ") and commands[0].endswith("/pytest")

"""The experiments on local steps at their small settings: what captions claim, with the numbers behind it."""

import json

import jax
import numpy as np
import pytest

from fedjax_het import theory
from fedjax_het.cli import main

HERE = ("toy", "local-steps", "floor", "bias-map", "contraction", "best-steps")
ELSEWHERE = ("paths", "ellipses", "bounds", "li2020", "network")


@pytest.fixture(scope="module")
def found():
    """Run each once, in the session's single precision."""
    kept = {}

    def run(name):
        if name not in kept:
            entry = theory.EXPERIMENTS[name]
            kept[name] = entry.function(**entry.small)
        return kept[name]

    return run


def test_every_experiment_is_tested():
    assert {*HERE, *ELSEWHERE} == set(theory.EXPERIMENTS)


@pytest.mark.parametrize("name", HERE)
def test_what_the_caption_claims_holds(found, name):
    result = found(name)
    assert [claim.text for claim in result.claims if not claim.holds] == []
    assert all(isinstance(value, np.ndarray) for value in result.arrays.values())
    json.dumps(result.as_dict(), allow_nan=False)
    assert result.figure().axes, "something is drawn"
    assert not jax.config.read("jax_enable_x64"), "double precision was for the call only"


def test_the_toy_has_the_known_floors(found):
    arrays = found("toy").arrays
    np.testing.assert_allclose(arrays["floor"], [0, 0.1902, 0.4273], atol=5e-5)
    np.testing.assert_allclose(arrays["measured"], arrays["exact"], rtol=0, atol=1e-9)


def test_local_steps_end_on_the_exact_floors(found):
    arrays = found("local-steps").arrays
    np.testing.assert_allclose(arrays["measured"][:, -1], arrays["floor"], rtol=0, atol=1e-9)


def test_the_floor_leaves_its_line_by_order_eta(found):
    arrays = found("floor").arrays
    left = np.abs(arrays["exact"] / arrays["line"] - 1)
    assert (left[:, 0] < 0.1 * left[:, -1]).all() and np.abs(arrays["exact"] - arrays["measured"]).max() < 1e-9


def test_neither_kind_of_heterogeneity_alone_makes_a_bias(found):
    measured = found("bias-map").arrays["measured"]
    assert max(measured[0].max(), measured[:, 0].max()) < 1e-12 < 1e-4 < measured[1:, 1:].min()


def test_scaffold_diverges_where_fedavg_does_not(found):
    arrays = found("contraction").arrays
    np.testing.assert_allclose(arrays["exact"][1:3, 99], [3.08, 0.545], atol=5e-3)
    assert (arrays["exact"][[0, 2]] < 1).all() and np.isfinite(arrays["diverges"][1])


def test_rounds_to_a_target_are_the_known_u(found):
    arrays = found("best-steps").arrays
    for rounds in (arrays["exact"], arrays["measured"]):
        assert rounds.tolist() == [30, 5, 3, 6, 11, 24, 47, 93]


def test_the_command_lists_runs_and_writes(capsys, tmp_path):
    assert main(["theory"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in theory.EXPERIMENTS)
    assert main(["theory", "toy", "rounds=20", "--out", str(tmp_path / "seen"), "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["settings"]["rounds"] == 20 and "toy.png" in err
    assert json.loads((tmp_path / "seen" / "toy.json").read_text()) == told
    assert (tmp_path / "seen" / "toy.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tooy"], "did you mean 'toy'"),
        (["toy", "round=3"], "did you mean 'rounds'"),
        (["toy", "rounds=0"], "rounds must be >= 1, got 0"),
        (["toy", "steps=[5,1]"], "increasing order"),
        (["toy", "curvatures=[1,2]"], "curvatures must be four numbers"),
    ],
)
def test_bad_input_says_what_and_how(capsys, words, message):
    assert main(["theory", *words]) == 1
    assert message in capsys.readouterr().err

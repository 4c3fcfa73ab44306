"""The experiments on noise, bounds, paths and networks at their small settings: what their captions claim."""

import json

import jax
import numpy as np
import pytest

from fedjax_het import theory
from fedjax_het.cli import main

HERE = ("paths", "ellipses", "bounds", "li2020", "network")


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


@pytest.mark.parametrize("name", HERE)
def test_what_the_caption_claims_holds(found, name):
    result = found(name)
    assert [claim.text for claim in result.claims if not claim.holds] == []
    json.dumps(result.as_dict(), allow_nan=False)
    assert result.figure().axes, "something is drawn"
    assert not jax.config.read("jax_enable_x64"), "double precision was for the call only"


def test_paths_begin_at_the_optimum_and_end_at_the_mean_of_minima(found):
    arrays = found("paths").arrays
    optimum, mean = arrays["optimum"], arrays["mean"]
    np.testing.assert_allclose(mean, [0, 2 / 15], atol=1e-12)  # of (1, 0), (0, 1), (-1, -0.6), by hand
    hessian = np.array([[8, 1], [1, 6.5]])  # sums over the three clients, as is the right side
    np.testing.assert_allclose(hessian @ optimum, [-3, 1.7], atol=1e-12)
    for name in ("scaffold", "feddyn"):
        np.testing.assert_allclose(arrays[name], optimum, atol=1e-9)
    for name in ("fedavg", "prox"):
        np.testing.assert_allclose(arrays[name], arrays[f"{name}_exact"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(arrays["fedavg"][0], optimum, atol=1e-9)
    np.testing.assert_allclose(arrays["fedavg"][-1], mean, atol=1e-4)


def test_a_cloud_of_the_engine_has_the_ellipse(found):
    arrays = found("ellipses").arrays
    assert arrays["points"].shape == (2, 2, 400, 2) and np.abs(arrays["z"]).max() < 5
    np.testing.assert_allclose(arrays["mean"][0], arrays["mean"][1], rtol=0, atol=1e-9)  # sampling moves none
    gone = np.linalg.norm(arrays["points"].mean(axis=2) - arrays["mean"], axis=-1)
    assert (gone < 5 * np.sqrt(np.trace(arrays["covariance"], axis1=2, axis2=3) / 400)).all()
    assert np.linalg.norm(arrays["mean"][0, 1] - arrays["mean"][0, 0]) > 0.3, "ten steps are biased"


def test_bounds_are_above_the_error_that_is_expected(found):
    arrays = found("bounds").arrays
    assert (arrays["exact"] <= arrays["e1"]).all() and (arrays["e1"] < arrays["li"]).all()
    assert (np.abs(arrays["measured"] - arrays["exact"])[1:] < 5 * arrays["error"][1:]).all()
    np.testing.assert_allclose(arrays["measured"][0], arrays["exact"][0], rtol=1e-12)
    assert arrays["exact"][-1] < 1e-4 * arrays["exact"][0], "it is a run that gets somewhere"


def test_figure_1_falls_with_more_steps_and_scheme_two_jumps(found):
    arrays = found("li2020").arrays
    assert arrays["rounds"][0, 1] < arrays["rounds"][0, 0] and np.isnan(arrays["rounds"][1, 0])
    losses = arrays["losses"][0]
    assert losses.shape == (2, 16) and losses[0, -1] < 0.6 * losses[0, 0] and losses[1, -1] > losses[0, -1]


def test_a_networks_drift_by_round_layer_and_step(found):
    arrays = found("network").arrays
    assert arrays["layers"].shape == (2, 4, 8) and arrays["path"].shape == (2, 8, 9)
    np.testing.assert_allclose(  # the last step of the path is where the round ends
        np.sqrt((arrays["layers"] ** 2).sum(axis=1)), arrays["path"][:, :, -1], rtol=1e-9
    )
    assert (arrays["path"][:, :, 0] == 0).all() and (arrays["path"][:, 0, -1] > arrays["path"][:, 0, 1]).all()
    assert (arrays["G2"][0] > 10 * arrays["G2"][1]).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["paths", "steps=[1]"], "steps must be at least 2 whole numbers"),
        (["paths", "alpha=0"], "alpha must be > 0"),
        (["ellipses", "runs=5"], "runs must be >= 100"),
        (["bounds", "runs=2"], "runs must be >= 8"),
        (["bounds", "spread=0"], "spread must be > 0"),
        (["li2020", "data=[mnist]"], "data must be one of"),
        (["network", "alphas=[1]"], "alphas must be two numbers"),
    ],
)
def test_bad_input_says_what_and_how(capsys, words, message):
    assert main(["theory", *words]) == 1
    assert message in capsys.readouterr().err

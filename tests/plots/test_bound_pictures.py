"""The picture of bounds: solid is proved, dashed is not, and what is violated is not drawn."""

import dataclasses

import numpy as np
import pytest

from fedjax_het import plots
from fedjax_het.analysis import bounds, constants

KNOWN = constants.given(
    provenance="exact",
    p=[0.5, 0.5],
    L=2.0,
    mu=1.0,
    zeta_star_sq=1.0,
    sigma_sq=[0.1, 0.1],
    sigma_star_sq=[0.1, 0.1],
    distance_sq=4.0,
    delta=1.0,
)
STEPS = np.arange(0, 201, 5)
ERROR = 4 * 0.95**STEPS + 1e-3


def curves(learning_rate=0.02):
    far = bounds.explicit.e1(KNOWN, learning_rate, 5, 200)
    shape = bounds.koloskova.koloskova(KNOWN, None, 5, 200)
    return [bounds.gap_of_distance(far, KNOWN), shape]


def drawn(figure):
    (axes,) = figure.axes
    return {line.get_linestyle(): line for line in axes.lines[2:]}, [
        t.get_text() for t in figure.legends[0].texts
    ]


def test_proved_bounds_are_solid_and_shapes_dashed_and_touching():
    made = curves()
    lines, texts = drawn(plots.bounds_by_step(STEPS, ERROR, made, prediction=ERROR))
    np.testing.assert_allclose(lines["-"].get_ydata(), made[0].values)
    scaled = lines["--"].get_ydata() / made[1].values
    np.testing.assert_allclose(scaled, scaled[0])
    np.testing.assert_allclose(np.min(lines["--"].get_ydata() / ERROR[1:]), 1)
    ratio = ERROR[-1] / made[0].values[-1]
    assert any("E1" in text and f"measured / bound {ratio:.2g}" in text for text in texts)
    assert any("shape only" in text and "to touch" in text for text in texts)
    assert texts[:2] == ["measured", "exact prediction"]


def test_a_bound_outside_its_conditions_is_named_and_not_drawn():
    figure = plots.bounds_by_step(STEPS, ERROR, curves(0.5))
    caption = " ".join(figure.get_supxlabel().split())
    assert "E1, times L/2: step size" in caption and len(figure.axes[0].lines) == 2


def test_its_arguments_are_checked():
    far, shape = bounds.explicit.e1(KNOWN, 0.02, 5, 200), curves()[1]
    with pytest.raises(ValueError, match="one unit, got l, w"):
        plots.bounds_by_step(STEPS, ERROR, [far, shape])
    with pytest.raises(ValueError, match="curves must not be empty"):
        plots.bounds_by_step(STEPS, ERROR, [])
    with pytest.raises(TypeError, match="curves must be Curves"):
        plots.bounds_by_step(STEPS, ERROR, [ERROR])
    with pytest.raises(ValueError, match="measured must have one value"):
        plots.bounds_by_step(STEPS, ERROR[1:], [far])
    with pytest.raises(ValueError, match="prediction must have one value"):
        plots.bounds_by_step(STEPS, ERROR, [far], prediction=ERROR[1:])
    with pytest.raises(ValueError, match="must share one"):
        plots.bounds_by_step(STEPS + 1, ERROR, [far])


def test_a_guessed_constant_leaves_the_line_solid_and_the_claim_open():
    guess = dataclasses.replace(KNOWN, L=constants.constant("L", 2.0, "estimate"))
    curve = bounds.explicit.e1(guess, 0.02, 5, 200)
    lines, _ = drawn(plots.bounds_by_step(STEPS, ERROR, [curve], prediction=ERROR))
    assert "-" in lines and not curve.may_hold

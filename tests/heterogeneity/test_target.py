"""Federations made to measure: the value asked for is reached, or the range that can be is named."""

from functools import partial

import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.heterogeneity import MEASURES, label, quantity, to_target

CLOSE = 0.02
"""How near every target must come."""


def source(rows=6000, classes=10):
    labels = np.random.default_rng(0).permutation(rows) % classes
    return fh.pool(np.zeros((rows, 1)), labels)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("make", "measure", "value"),
    [
        (label.dirichlet, "js", 0.1),
        (label.dirichlet, "js", 0.3),
        (label.dirichlet, "tv", 0.4),
        (label.dirichlet_per_client, "js", 0.1),
        (label.dirichlet_per_client, "js", 0.35),
        (label.dirichlet_per_client, "js", 0.6),
        (label.dirichlet_per_client, "tv", 0.7),
        (label.dirichlet_per_client, "hellinger", 0.5),
        (label.dirichlet_per_client, "emd", 1.0),
    ],
)
def test_label_skew_is_reached(make, measure, value, seed):
    found = to_target(make, source(), measure=measure, value=value, clients=30, seed=seed)
    assert found.reached == MEASURES[measure](found.federation)
    assert abs(found.reached - value) <= CLOSE, str(found)
    assert found.range[0] < value < found.range[1] and found.dial == "alpha"
    again = make(source(), alpha=found.setting, clients=30, seed=seed)
    assert MEASURES[measure](again) == found.reached


@pytest.mark.parametrize(
    "make", [quantity.power_law, quantity.log_normal, quantity.dirichlet], ids=lambda make: make.__name__
)
@pytest.mark.parametrize("value", [0.1, 0.4, 0.7])
def test_sizes_are_reached(make, value):
    found = to_target(make, source(), measure="gini", value=value, clients=40, seed=3)
    assert abs(found.reached - value) <= CLOSE, str(found)


def test_a_shift_and_a_measure_of_ones_own():
    start = fh.heterogeneity.iid(source(), clients=10)

    def moved(federation):
        return float(np.abs(np.asarray(federation.transforms[-1].arguments)).mean())

    def shift(federation, *, spread):
        transform = fh.Transform(np.full((1, 10), spread, np.float32), lambda x, y, a, row: (x + a, y))
        return fh.heterogeneity.compose(partial(_with, transform=transform))(federation)

    found = to_target(shift, start, measure=moved, value=31.0, least=1.0, most=100.0)
    assert abs(found.reached - 31) <= CLOSE and abs(found.setting - 31) <= CLOSE
    assert str(found).startswith("moved 3") and "by spread = 3" in str(found)


def _with(federation, transform):
    from fedjax_het.transforms import transformed

    return transformed(federation, transform)


def test_the_reachable_range_is_named():
    with pytest.raises(
        ValueError, match=r"value must lie between 0\.\d+ and 0\.\d+, got 0.99: that is what 'tv'"
    ):
        to_target(label.dirichlet, source(), measure="tv", value=0.99, clients=10, seed=0)
    with pytest.raises(
        ValueError, match=r"value must lie between 0\.\d+ and \d\.\d+, got -1: .* for alpha from 0.1"
    ):
        to_target(label.dirichlet, source(), measure="js", value=-1, clients=10, least=0.1, most=1.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"measure": "jss", "value": 1},
            ValueError,
            "measure must be one of the names below, got 'jss': did you mean 'js'",
        ),
        ({"value": "1"}, TypeError, "value must be a number, got '1'"),
        ({"value": 0.5, "dial": "alhpa"}, ValueError, "dial must be one of the names below, got 'alhpa'"),
        ({"value": 0.5, "alpha": 1.0}, ValueError, "dial must be named, got None: dirichlet has none of those"),
        (
            {"value": 0.5, "dial": "alpha", "alpha": 1.0},
            ValueError,
            "alpha must be left out, got 1.0: it is the dial",
        ),
        (
            {"value": 0.5, "dial": "min_size"},
            ValueError,
            "least must be given for the dial 'min_size', got None",
        ),
        ({"value": 0.5, "least": 2.0, "most": 1.0}, ValueError, "least must be below most, got 2 and 1"),
        (
            {"value": 0.5, "measure": lambda f: float("nan")},
            ValueError,
            "measure must be a finite number, got nan",
        ),
        ({"value": 0.5, "tries": 0}, ValueError, "tries must be >= 1, got 0"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        to_target(label.dirichlet, source(100), clients=5, **arguments)


def test_what_is_no_partitioner():
    with pytest.raises(TypeError, match="make must be a partitioner or a shift, got 'dirichlet'"):
        to_target("dirichlet", source(100), value=0.5)

"""Theorems 1 and 2 of Li et al. 2020 beside the error that was measured on softmax regression."""

import numpy as np
import pytest

from fedjax_het.theory.li2020_bound import bound_run, unit_synthetic


@pytest.fixture(scope="module")
def tiny():
    return unit_synthetic(clients=4, largest=60, features=5, classes=3)


@pytest.mark.parametrize(("steps", "drawn"), [(4, None), (2, 2)])
def test_the_theorem_is_above_the_measured_error(tiny, steps, drawn):
    ran = bound_run(
        tiny,
        local_steps=steps,
        rounds=12,
        batch_size=8,
        clients_per_round=drawn,
        stretch=steps * (1 if drawn is None else 4),
        seeds=8,
    )
    assert (
        ran.theorem.validity == ran.explicit.validity == () and ran.theorem.may_hold and ran.explicit.may_hold
    )
    assert (ran.mean + ran.half_width <= ran.theorem.values).all() and (ran.ratio <= 1).all()
    assert (ran.distances.mean(0) <= ran.explicit.values * (1 + 1e-12)).all()
    assert ran.constants.li_G_sq.provenance == ran.constants.sigma_sq.provenance == "trajectory_max"
    assert 0 < ran.constants.li_G_sq.value <= ran.exact.constants.li_G_sq.value
    assert (ran.constants.sigma_sq.value <= ran.exact.constants.sigma_sq.value).all()
    assert ran.mean[-1] < ran.mean[0] and ran.half_width[0] == 0 < ran.half_width[-1]
    np.testing.assert_allclose(ran.mean[0], ran.exact.constants.gap.value, rtol=1e-9)
    np.testing.assert_allclose(ran.distances[:, 0], ran.exact.constants.distance_sq.value, rtol=1e-9)
    assert ran.constants.L.value <= 0.5 + 0.1 + 1e-6


def test_steps_that_are_too_long_for_the_explicit_bound_are_named(tiny):
    ran = bound_run(tiny, local_steps=4, rounds=12, batch_size=8, seeds=8)
    assert ran.theorem.validity == () and np.isnan(ran.explicit.values).all()
    assert "1 / (4 L E)" in ran.explicit.validity[0]


def test_rows_are_scaled_to_length_one(tiny):
    lengths = np.linalg.norm(np.asarray(tiny.x, np.float64), axis=1)
    np.testing.assert_allclose(lengths.max(), 1, rtol=1e-6)
    assert len(np.unique(np.asarray(tiny.x)[:, -1])) == 1 and np.asarray(tiny.train.size).max() <= 60


def test_bad_settings_are_refused(tiny):
    for change, message in (
        ({"seeds": 1}, "seeds must be >= 2"),
        ({"stretch": 0.5}, "stretch must be >= 1"),
        ({"l2": 0}, "l2 must be > 0"),
        ({"rounds": 0}, "rounds must be >= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            bound_run(tiny, **change)

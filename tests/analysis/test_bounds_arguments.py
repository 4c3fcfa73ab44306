"""Arguments that no bound can use are named by each of them, with their value; never an error of NumPy's."""

import dataclasses

import jax
import numpy as np
import pytest
from legal_bounds import BASE, LEGAL, ROUNDS, SKEWED, E, T

from fedjax_het.analysis import bounds as b
from fedjax_het.analysis import constants

FIELDS = [field.name for field in dataclasses.fields(constants.Constants)]


def made(value):
    return constants.Constant(value, "exact")


@pytest.mark.parametrize("name", LEGAL)
@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (4.0, TypeError),
        ("a", TypeError),
        (made("a"), TypeError),
        (made(np.ones((2, 2))), ValueError),
        (made(-1.0), ValueError),
        (made(np.full(4, -1.0)), ValueError),
        (None, ValueError),
    ],
)
def test_constants_are_named_by_every_bound_that_reads_them(name, bad, error):
    bound, known, schedule, _ = LEGAL[name]
    horizon = ROUNDS if name == "karimireddy" else T
    used = bound(known, schedule, E, horizon).provenance
    for field in FIELDS:
        broken = dataclasses.replace(known, **{field: bad})
        if field in used and not (bad is None and field in ("mu", "lower_curvature")):
            with pytest.raises(error, match=rf"^{field} must .*got .*: "):
                bound(broken, schedule, E, horizon)


@pytest.mark.parametrize("field", ["L", "mu", "lower_curvature", "sigma_sq"])
def test_sweeps_and_tracers_are_told_to_come_one_by_one(field):
    count = (3, 4) if field == "sigma_sq" else (3,)
    swept = dataclasses.replace(BASE, **{field: made(np.zeros(count))})
    with pytest.raises(ValueError, match=f"{field} must be one number.*one setting of a sweep"):
        b.explicit.e1(swept, 0.01, E, T)
    with pytest.raises(TypeError, match=f"{field} must be a Constant of concrete numbers.*outside jit"):
        jax.jit(lambda v: b.explicit.e1(dataclasses.replace(BASE, **{field: made(v)}), 0.01, E, T).values)(1.0)


CLIENTS = {
    "theorem 2": lambda k: b.li2020.theorem2(BASE, 0.01, E, T, clients=k),
    "theorem 3": lambda k: b.li2020.theorem3(BASE, 0.01, E, T, clients=k),
    "e2": lambda k: b.explicit.e2(BASE, 0.001, E, T, clients=k),
    "e2, scheme II": lambda k: b.explicit.e2(BASE, 0.001, E, T, clients=k, scheme="II"),
    "fedavg": lambda k: b.karimireddy.fedavg(BASE, None, E, T, clients=k),
    "one round": lambda k: b.karimireddy.one_round(BASE, 0.001, E, drift=0.1, clients=k),
    "scaffold": lambda k: b.scaffold.scaffold(BASE, None, E, T, clients=k),
    "scaffold, convex": lambda k: b.scaffold.scaffold(BASE, None, E, T, clients=k, regime="convex"),
    "fedprox": lambda k: b.fedprox.fedprox(BASE, None, E, T, mu=500.0, clients=k),
    "rho": lambda k: b.fedprox.rho(BASE, mu=500.0, clients=k),
}


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("bad", [0, -1, 1.5, np.nan, np.inf, "a", [2], np.ones(2), True])
def test_numbers_of_clients_are_named(name, bad):
    with pytest.raises((TypeError, ValueError), match=r"clients must .*got .*: the"):
        CLIENTS[name](bad)


@pytest.mark.parametrize(
    "bad", ["a", None, [[1.0], [1.0, 2.0]], np.nan, -1.0, 0.0, np.ones(3), np.ones((40, 1))]
)
def test_functions_of_steps_give_step_sizes(bad):
    with pytest.raises((TypeError, ValueError), match=r"schedule must .*got .*: "):
        b.explicit.e1(BASE, lambda s: bad, E, T)


def inconsistent(work=(1, 1, 1, 1), seen=(1.0,)):
    return b.fednova.inconsistency(BASE, work, seen, beta_sq=1, kappa_sq=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inconsistent(seen=np.ones((2, 3))), r"surrogate_sq must have shape \[m\], got"),
        (lambda: inconsistent(seen=[]), r"surrogate_sq must have shape \[m\], got"),
        (lambda: inconsistent(seen="a"), "surrogate_sq must be a number, got"),
        (lambda: inconsistent(seen=[np.nan]), "surrogate_sq must be finite, got"),
        (lambda: inconsistent(work=[1, 1, 1]), "accumulated must have one number for each of 4 clients, got"),
        (lambda: inconsistent(work=3), "accumulated must have one number for each of 4 clients, got"),
        (lambda: inconsistent(work="a"), "accumulated must be a number, got"),
        (lambda: inconsistent(work=[0, 0, 0, 0]), "accumulated must have a sum > 0, got"),
        (lambda: b.fednova.mismatch([1.0, 1.0], [1, 2]), "p must have sum 1, got 2"),
        (
            lambda: b.iid.averaged_variance([1.0, 2.0, 3.0], [0.5, 0.5]),
            "weights must have one number for each of 3",
        ),
        (lambda: b.iid.averaged_variance([1.0, 2.0], [5.0, 5.0]), "weights must have sum 1, got 10"),
        (lambda: b.iid.averaged_variance([]), "sigma_sq must have one number for each client, got"),
        (lambda: b.iid.averaged_variance([-1.0]), "sigma_sq must be >= 0, got"),
        (lambda: b.gap_of_distance(3.0, BASE), "curve must be a Curve, got 3.0"),
        (
            lambda: b.gap_of_distance(b.explicit.e1(BASE, 0.01, E, T), {"L": 1}),
            "constants must be Constants, got",
        ),
        (lambda: b.explicit.best_step(b.explicit.e1, BASE, 0, T), "local_steps must be >= 1, got 0"),
        (lambda: b.explicit.best_step(b.explicit.e1, BASE, E, T, points=1), "points must be >= 2, got 1"),
        (lambda: b.li2020.step_sizes(BASE, 0), "local_steps must be >= 1, got 0"),
        (
            lambda: b.li2020.step_sizes(SKEWED, "a", transformed=True),
            "local_steps must be a whole number, got 'a'",
        ),
    ],
)
def test_other_arguments_are_named(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_curvature_below_minus_the_smoothness_is_refused():
    known = constants.replace(BASE, provenance="exact", L=1e-6, lower_curvature=5.0)
    curve = b.fedprox.fedprox(known, None, E, T, mu=5.1, clients=20)
    assert curve.validity[0].startswith("curvatures: lower_curvature must be <= L = 1e-06, got 5")
    assert np.isnan(curve.values).all()

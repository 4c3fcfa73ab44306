"""Oracles compute in double precision, also where x64 is off, and say how where that is impossible."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.analysis import oracles
from fedjax_het.models import quadratic, quadratic_federation

LOCAL = {"learning_rate": 0.1, "steps": 3}
START = np.array([0.3, -0.7])
NOISE = np.tile([[0.5, 0.1], [0.1, 0.3]], (3, 1, 1))


def functions():
    A = np.array([[[2.0, 0.3], [0.3, 1.0]], [[1.0, -0.2], [-0.2, 3.0]], [[1.5, 0.0], [0.0, 0.7]]])
    return oracles.quadratics(A, [[0.1, 0.2], [-0.7, 0.4], [0.9, -1.1]], weights=[1, 2, 4])


def federation():
    x = np.repeat(np.eye(2)[None], 3, axis=0) * 2
    return quadratic_federation(x, np.array([[0.25, 0.5], [-0.75, 0.5], [1.0, -1.125]]), sizes=[1, 2, 4])


# name -> what it is asked; of `Quadratics` f
ASKED = {
    "apfl": lambda f: oracles.apfl(f, alpha=0.4, **LOCAL),
    "contraction": lambda f: oracles.contraction(f, **LOCAL),
    "ditto": lambda f: oracles.ditto(f, lam=0.7, **LOCAL),
    "douglas_rachford": lambda f: oracles.douglas_rachford(f, alpha=0.9),
    "drift_bias": lambda f: oracles.drift_bias(f, **LOCAL),
    "envelope": lambda f: oracles.envelope(f, 0.7),
    "extremes": oracles.extremes,
    "feddyn": lambda f: oracles.feddyn(f, alpha=0.8, **LOCAL),
    "fedavg": lambda f: oracles.fedavg(f, **LOCAL),
    "fednova": lambda f: oracles.fednova(f, learning_rate=0.1, steps=[1, 2, 5], momentum=0.3),
    "fedprox": lambda f: oracles.fedprox(f, mu=0.3),
    "gradient_noise": lambda f: oracles.gradient_noise(federation(), 1),
    "hard_sharing": lambda f: oracles.hard_sharing(f, personal=[1], tasks=(0, 1, 1), **LOCAL),
    "inexactness": lambda f: oracles.inexactness(f, START, mu=0.2, **LOCAL),
    "joint": lambda f: oracles.joint(START, f.gradients(START)),
    "l2gd": lambda f: oracles.l2gd(f, lam=0.8, p=0.4, **LOCAL).mean,
    "meanreg": lambda f: oracles.meanreg(f, lam=0.4, **LOCAL),
    "moments": lambda f: oracles.moments(f, noise=NOISE, scheme="I", cohort=2, **LOCAL).stationary,
    "partial": lambda f: oracles.partial(f, personal=[1], own_steps=2, **LOCAL),
    "perfedavg": lambda f: oracles.perfedavg(f, alpha=0.05, **LOCAL),
    "pfedme": lambda f: oracles.pfedme(f, lam=2.0, **LOCAL),
    "prox_bias": lambda f: oracles.prox_bias(f, mu=3.0),
    "quadratics": lambda f: f,
    "quadratics_of": lambda f: oracles.quadratics_of(federation()),
    "scaffold": lambda f: oracles.scaffold(f, option="II", **LOCAL),
    "scaffold_fresh": lambda f: oracles.scaffold_fresh(f, **LOCAL),
    "server_momentum": lambda f: oracles.server_momentum(oracles.fedavg(f, **LOCAL), beta=0.5),
    "split": lambda f: oracles.split(oracles.scaffold(f, option="I", **LOCAL).trajectory(np.ones(8), 2)[-1], 3),
    "step_limit": lambda f: oracles.step_limit(f, mu=0.1),
}
RECORDS = {"Affine", "Joint", "Moments", "Noise", "Quadratics", "RandomAffine", "affine_probe", "work"}


def test_every_oracle_is_asked():
    functions_ = {name for name in oracles.__all__ if callable(getattr(oracles, name)) and name[0].islower()}
    assert functions_ - RECORDS == set(ASKED)


@pytest.mark.parametrize("name", ASKED)
def test_they_are_as_exact_with_x64_off(name):
    with jax.enable_x64(True):
        wanted = jax.tree.leaves(ASKED[name](functions()))
    with jax.enable_x64(False):
        found = jax.tree.leaves(ASKED[name](functions()))
        assert jnp.zeros(1).dtype == jnp.float32, "it is off again"
    assert len(found) == len(wanted) > 0
    for a, b in zip(found, wanted):
        if jnp.issubdtype(b.dtype, jnp.floating):
            assert a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_what_is_asked_of_a_map_too():
    def told(f):
        mapped = oracles.fedavg(f, **LOCAL)
        drawn = oracles.moments(f, noise=NOISE, scheme="II", cohort=2, **LOCAL)
        path = drawn.trajectory(START, 3)
        return {
            "functions": (f.optimum, f.hessian, f.gradients(START)),
            "map": (mapped(START), mapped.fixed_point, mapped.rate, mapped.trajectory(START, 4)),
            "moments": (path, drawn.stationary, drawn.rate, drawn.mean, drawn(drawn.stationary)),
            "errors": (path.gap(f), path.dissimilarity(f)),
        }

    with jax.enable_x64(True):
        wanted = told(functions())
    with jax.enable_x64(False):
        found = told(functions())
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_numbers_of_single_precision_are_widened():
    """As they come out of a run: w of the engine in an oracle's gradients."""
    with jax.enable_x64(False):
        w = jnp.asarray(START)
        assert w.dtype == jnp.float32
        found = functions().gradients(w)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, functions().gradients(np.float64(np.float32(START))), rtol=1e-14)


def test_inside_a_transformation_it_says_how():
    with jax.enable_x64(False):
        f = functions()
        for ask in (jax.jit, jax.vmap):
            with pytest.raises(ValueError, match=r"x64 must be on for fedavg inside jit, .*: .*with"):
                ask(lambda eta: oracles.fedavg(f, learning_rate=eta, steps=2).matrix)(jnp.ones(2) * 0.1)
        with pytest.raises(ValueError, match="x64 must be on for fixed_point inside"):
            mapped = oracles.fedavg(f, **LOCAL)
            jax.jit(lambda: mapped.fixed_point)()
        with jax.enable_x64(True):
            swept = jax.vmap(lambda eta: oracles.fedavg(f, learning_rate=eta, steps=2).fixed_point)
            assert swept(jnp.array([0.1, 0.2])).dtype == jnp.float64


def test_a_probe_has_the_precision_of_its_step():
    """The engine's own round, in single precision: what the map is asked is double, what it maps is not."""
    with jax.enable_x64(False):
        held = federation()
        problem = quadratic(fh.Pool(held.x, held.y, held.spec.pool))
        algorithm = fh.algorithms.fedavg(problem, fh.local.sgd(0.1, batch_size=None, steps=3))
        round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
        state = fh.initial_state(algorithm, held, key=jax.random.key(0), round_fn=round_fn)

        def step(server):
            return round_fn(algorithm, dataclasses.replace(state, server=server), held)[0].server.params["w"]

        def of(w):
            return step(dataclasses.replace(state.server, params={"w": w}))

        probed, _ = oracles.affine_probe(of, state.server.params["w"])
        known = oracles.fedavg(oracles.quadratics_of(held), **LOCAL)
        assert probed.matrix.dtype == jnp.float32 and probed.fixed_point.dtype == np.float64
        np.testing.assert_allclose(probed.matrix, known.matrix, atol=1e-6)
        np.testing.assert_allclose(probed.fixed_point, known.fixed_point, atol=1e-6)

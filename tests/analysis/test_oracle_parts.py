"""What the oracles are made of: filters, functions, the probe; and bad input."""

import fractions
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import quadratics

import fedjax_het as fh
from fedjax_het.analysis import oracles
from fedjax_het.analysis.oracles.filters import local_filter, work
from fedjax_het.models import quadratic_federation

WEIGHTS = np.array([1.0, 2.0, 3.0, 6.0])


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def close(got, expected, digits=1e-12):
    np.testing.assert_allclose(got, expected, rtol=0, atol=digits)


def many():
    """Four clients in space."""
    return oracles.quadratics(*quadratics.functions(), weights=WEIGHTS)


def exact_filter(curvature, rate, steps):
    """eta sum_j (1 - eta h)^j in fractions."""
    h, eta = fractions.Fraction(curvature), fractions.Fraction(rate)
    return float(eta * sum((1 - eta * h) ** j for j in range(steps)))


def test_the_filter_keeps_its_digits():
    curvatures = [0.0, 1e-300, 1e-17, 1e-9, 1e-3, 1.0, 3.999999, 4.0, 4.000001, 7.0, 8.0, 8.5]
    rate = 0.25
    for steps in (0, 1, 2, 3, 50, 51):
        got = local_filter(jnp.asarray([curvatures]), work(1, rate, steps))[0]
        expected = [exact_filter(curvature, rate, steps) for curvature in curvatures]
        np.testing.assert_allclose(got, expected, rtol=5e-14, atol=0)
        falling = local_filter(jnp.asarray([curvatures]), work(1, [rate] * 51, steps))[0]
        np.testing.assert_allclose(falling, expected, rtol=1e-11, atol=1e-13)


def test_the_filter_has_its_derivatives():
    """With respect to eta and mu, at eta h = 0, 1 and 2 too."""

    def S(eta, mu, h, steps):
        return local_filter(jnp.reshape(h, (1, 1)), work(1, eta, steps, mu=mu))[0, 0]

    slopes = jax.jit(jax.vmap(jax.value_and_grad(S, (0, 1)), (None, None, 0, 0)))
    pairs = list(itertools.product((0.0, 0.7, 4.0, 8.0, 9.0), (0, 1, 2, 3, 6)))
    h, steps = jnp.asarray([h for h, _ in pairs]), jnp.asarray([E for _, E in pairs], jnp.int32)
    _, (by_rate, by_mu) = slopes(0.25, 0.0, h, steps)
    for (curvature, E), rate_slope, mu_slope in zip(pairs, by_rate, by_mu):
        r = 1 - 0.25 * curvature
        close(rate_slope, E * r ** (E - 1) if E else 0.0)
        close(mu_slope, -(0.25**2) * sum(j * r ** (j - 1) for j in range(1, E)))


def test_numbers_are_swept_and_differentiated():
    functions = many()

    @jax.jit
    def apart(eta, steps, spread):
        mixed = oracles.quadratics(functions.A, b=spread * functions.b, weights=functions.p)
        return jnp.sum((oracles.fedavg(mixed, learning_rate=eta, steps=steps).fixed_point - mixed.optimum) ** 2)

    rates, steps = jnp.asarray([0.01, 0.1, 0.3]), jnp.asarray([1, 5, 40], jnp.int32)
    table = jax.vmap(jax.vmap(apart, (0, None, None)), (None, 0, None))(rates, steps, 2.0)
    for i, j in itertools.product(range(3), range(3)):
        close(table[i, j], apart(rates[j], steps[i], 2.0), 1e-14)
        close(table[i, j], 4 * apart(rates[j], steps[i], 1.0), 1e-14)
    slope = jax.grad(apart)(0.1, 5, 1.0)
    close(slope, (apart(0.1 + 1e-6, 5, 1.0) - apart(0.1 - 1e-6, 5, 1.0)) / 2e-6, 1e-8)


def test_functions_of_a_federation():
    A, a = quadratics.functions()
    sizes = [2, 0, 3, 1]
    held = oracles.quadratics_of(quadratic_federation(A, a, sizes=sizes))
    some = np.array(sizes) > 0
    close(held.A[some], A[some], 1e-14)
    close(held.b[some], np.einsum("kij,kj->ki", A, a)[some], 1e-14)
    close(held.p, np.array(sizes) / 6)
    made = fh.models.quadratics(6, 4, seed=3, smoothness=2.0, convexity=0.3)
    held = oracles.quadratics_of(made)
    close(held.optimum, made.truth["optimum"], 1e-10)
    close(oracles.extremes(held), (0.3, 2.0), 1e-10)
    pool = fh.pool(np.repeat(A[:2], 2, axis=0), np.c_[[a[0], a[1], a[2], a[3]], np.zeros(4)], task="regression")
    mixed = oracles.quadratics_of(fh.from_index_lists(pool, None, [[0, 3], [1]], test=0.0))
    close(mixed.A[0], (A[0] + A[1]) / 2, 1e-14)
    close(mixed.b, [(a[0] + a[3]) / 2, a[1]], 1e-14)


def test_the_probe_of_a_tree():
    """Whatever the tree and wherever it stands; a map that is not affine gives its tangent."""
    rng = np.random.default_rng(0)
    M, v = jnp.asarray(rng.normal(size=(5, 5))), jnp.asarray(rng.normal(size=5))

    def step(state):
        moved = M @ jnp.concatenate([state["a"].ravel(), state["b"][None]]) + v
        return {"a": moved[:4].reshape(2, 2), "b": moved[4]}

    state = {"a": jnp.asarray(rng.normal(size=(2, 2))), "b": jnp.asarray(3.0)}
    probed, unravel = oracles.affine_probe(step, state)
    close(probed.matrix, M)
    close(probed.offset, v)
    again = step(unravel(probed.fixed_point))
    close(again["a"].ravel(), probed.fixed_point[:4])
    tangent, _ = oracles.affine_probe(jnp.sin, jnp.asarray([0.3]))
    close(tangent.matrix, np.cos(0.3))
    close(tangent(jnp.asarray([0.3])), np.sin(0.3))


def test_probe_refuses_what_it_cannot_probe():
    with pytest.raises(TypeError, match="state must hold floats only, got"):
        oracles.affine_probe(lambda state: state, (jnp.ones(2), jnp.arange(2)))
    with pytest.raises(ValueError, match="step must keep the structure"):
        oracles.affine_probe(lambda state: state[:1], jnp.ones(2))
    with pytest.raises(ValueError, match="step must keep the structure"):
        oracles.affine_probe(lambda state: {"b": state["a"]}, {"a": jnp.ones(2)})


BAD = {
    "learning_rate must be > 0": lambda f: oracles.fedavg(f, learning_rate=0.0, steps=1),
    "learning_rate must be a scalar or": lambda f: oracles.fedavg(f, learning_rate=[[0.1]], steps=1),
    "steps must be given": lambda f: oracles.fedavg(f, learning_rate=0.1),
    "steps must be >= 0": lambda f: oracles.fedavg(f, learning_rate=0.1, steps=-1),
    "steps must be a scalar or one for each of 4": lambda f: oracles.fedavg(f, learning_rate=0.1, steps=[1, 2]),
    "steps must be <= the 2 rates": lambda f: oracles.fedavg(f, learning_rate=[0.1, 0.2], steps=3),
    "mu must be >= 0": lambda f: oracles.fedprox(f, mu=-1, learning_rate=0.1, steps=1),
    "mu must be > 0": lambda f: oracles.fedprox(f, mu=0),
    "learning_rate must be given": lambda f: oracles.fedprox(f, mu=1, steps=3),
    "alpha must be > 0": lambda f: oracles.feddyn(f, alpha=0.0),
    "momentum must be < 1": lambda f: oracles.fednova(f, learning_rate=0.1, steps=1, momentum=1.0),
    "prox must be one of": lambda f: oracles.fednova(f, learning_rate=0.1, steps=1, prox="within"),
    "effective_steps must be one of": lambda f: oracles.fednova(
        f, learning_rate=0.1, steps=1, effective_steps="sum"
    ),
    "option must be one of": lambda f: oracles.scaffold(f, learning_rate=0.1, steps=1, option="III"),
    "server_learning_rate must be > 0": lambda f: oracles.fedavg(
        f, learning_rate=0.1, steps=1, server_learning_rate=0
    ),
    "present must have shape": lambda f: oracles.fedavg(f, learning_rate=0.1, steps=1, present=[True]),
    "present must hold a True": lambda f: oracles.fedavg(f, learning_rate=0.1, steps=1, present=[False] * 4),
    "beta must be < 1": lambda f: oracles.server_momentum(oracles.fedprox(f, mu=1), beta=1.0),
    "rounds must be >= 0": lambda f: oracles.fedprox(f, mu=1).trajectory(f.optimum, -1),
    "point and control must have shapes": lambda f: oracles.joint(np.zeros(2), f.b),
    "a or b must be given, and not both, got neither": lambda f: oracles.quadratics(f.A),
    "a or b must be given, and not both, got both": lambda f: oracles.quadratics(f.A, f.b, b=f.b),
    "A must have shape": lambda f: oracles.quadratics(f.A[0], f.b),
    "A must be symmetric": lambda f: oracles.quadratics(f.A.at[0, 0, 1].add(1.0), f.b),
    "b must have shape": lambda f: oracles.quadratics(f.A, b=f.b[:2]),
    "weights must have shape": lambda f: oracles.quadratics(f.A, f.b, weights=[1.0]),
    "weights must be >= 0": lambda f: oracles.quadratics(f.A, f.b, weights=[1, -1, 1, 1]),
    "weights must have a sum > 0": lambda f: oracles.quadratics(f.A, f.b, weights=np.zeros(4)),
    "lam must be > 0": lambda f: oracles.pfedme(f, lam=0, learning_rate=0.1, steps=1),
    "personal_learning_rate and inner_steps must be given together": lambda f: oracles.pfedme(
        f, lam=1, learning_rate=0.1, steps=1, inner_steps=3
    ),
    "alpha must be >= 0": lambda f: oracles.perfedavg(f, alpha=-1, learning_rate=0.1, steps=1),
    "variant must be one of": lambda f: oracles.perfedavg(
        f, alpha=0.1, learning_rate=0.1, steps=1, variant="second"
    ),
    "alpha must be <= 1": lambda f: oracles.apfl(f, alpha=1.5, learning_rate=0.1, steps=1),
    "lam must be >= 0": lambda f: oracles.ditto(f, lam=-1, learning_rate=0.1, steps=1),
    "p must be < 1": lambda f: oracles.l2gd(f, lam=1, p=1.0, learning_rate=0.1, steps=1),
    "personal must be different coordinates below 3": lambda f: oracles.partial(
        f, personal=[1, 3], learning_rate=0.1, steps=1
    ),
    "personal must leave a coordinate": lambda f: oracles.partial(
        f, personal=[0, 1, 2], own_steps=1, learning_rate=0.1, steps=1
    ),
    "own_steps must be given": lambda f: oracles.partial(
        f, personal=[0], own_learning_rate=0.1, learning_rate=0.1, steps=1
    ),
    "tasks must be one number for each of 4": lambda f: oracles.hard_sharing(
        f, personal=[0], tasks=[0, 1], learning_rate=0.1, steps=1
    ),
    "federation must hold quadratics": lambda f: oracles.quadratics_of(
        fh.from_index_lists(
            fh.pool(np.zeros((2, 2)), np.array([0, 1]), num_classes=2), None, [[0], [1]], test=0.0
        )
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_values(message):
    with pytest.raises(ValueError, match=message):
        BAD[message](many())


def test_bad_kinds():
    with pytest.raises(TypeError, match="present must hold bools"):
        oracles.fedavg(many(), learning_rate=0.1, steps=1, present=[0, 1, 2, 3])
    with pytest.raises(TypeError, match="steps must be a whole number"):
        oracles.fedavg(many(), learning_rate=0.1, steps=1.5)
    with pytest.raises(TypeError, match="federation must be a Federation"):
        oracles.quadratics_of(many())

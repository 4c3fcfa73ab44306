"""Steps towards a model that another is held near: those that are known to diverge are refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedjax_het as fh
from fedjax_het.engine.blocks import block
from fedjax_het.models import quadratic, quadratic_federation
from fedjax_het.pool import Pool

EVERYONE = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
HELD = {"ditto": fh.algorithms.ditto, "meanreg": fh.algorithms.meanreg}
both = pytest.mark.parametrize("build", HELD.values(), ids=HELD)


@pytest.fixture(scope="module")
def federation():
    """F_k(v) = |v - a_k|^2 / 4, so that L = 1/2."""
    return quadratic_federation(0.5 * np.ones((2, 1, 1)), np.array([[1.0], [-1.0]]), sizes=[1, 1])


@pytest.fixture(scope="module")
def problem(federation):
    return quadratic(Pool(federation.x, federation.y, federation.spec.pool))


@both
def test_the_message_says_which_numbers_settle(problem, build):
    solver = fh.local.sgd(0.04, batch_size=4)
    limit = (
        r"lam must be < 2 / eta = 50 for this solver, got 50: .* take a lam < 50, or a learning_rate < 0\.04$"
    )
    with pytest.raises(ValueError, match=limit):
        build(problem, solver, lam=50)
    limit = r"< 2 / eta - lipschitz = 40 for .* got 45: .* a lam < 40, or a learning_rate < 0\.03636$"
    with pytest.raises(ValueError, match=limit):
        build(problem, solver, lam=45, lipschitz=10)
    limit = r"learning_rate must be < 2 / \(lam \+ lipschitz\) = 0\.0339, got 0\.04: .*; take a learning_rate <"
    with pytest.raises(ValueError, match=limit):
        build(problem, solver, lam=1, lipschitz=58)
    limit = r"lam must be < 3 / eta = 75 for .* got 80: .* a lam < 50, or a learning_rate < 0\.025$"
    with pytest.raises(ValueError, match=limit):
        build(problem, fh.local.sgd(0.04, batch_size=4, momentum=0.5), lam=80)
    build(problem, solver, lam=49)
    build(problem, solver, lam=39, lipschitz=10)
    build(problem, fh.local.sgd(0.04, batch_size=4, momentum=0.5), lam=70)


@both
def test_what_is_not_known_is_not_refused(problem, build):
    adam = fh.local.from_optax(optax.adam, learning_rate=0.5, batch_size=4)
    build(problem, adam, lam=50)
    made = jax.jit(lambda lam: build(problem, fh.local.sgd(0.1, batch_size=4), lam=lam).lam)(50.0)
    assert float(made) == 50
    warm = fh.local.sgd(fh.local.schedule(jnp.multiply, 0.01), batch_size=4)
    build(problem, warm, lam=50)  # its first step has no length
    falling = fh.local.sgd(fh.local.geometric(0.1, 0.5), batch_size=4)
    with pytest.raises(ValueError, match=r"lam must be < 2 / eta = 20"):
        build(problem, falling, lam=50)
    with pytest.raises(ValueError, match=r"got 30: .* learning_rate < 0\.06667"):
        build(problem, fh.local.sgd(0.1, batch_size=4), lam=jnp.asarray([1.0, 30.0, 25.0]))


@both
@pytest.mark.parametrize("lipschitz", [0, -1.0, "1"])
def test_a_bound_of_the_slope_is_positive(problem, build, lipschitz):
    with pytest.raises((TypeError, ValueError), match="lipschitz must be"):
        build(problem, fh.local.sgd(0.1, batch_size=4), lipschitz=lipschitz)


def test_of_ditto_it_is_the_personal_track_that_counts(problem):
    slow, fast = fh.local.sgd(0.01, batch_size=4), fh.local.sgd(0.1, batch_size=4)
    fh.algorithms.ditto(problem, fast, personal=slow, lam=50)
    with pytest.raises(ValueError, match=r"lam must be < 2 / eta = 20"):
        fh.algorithms.ditto(problem, slow, personal=fast, lam=50)


def spreads(build, federation, problem, lams, rho=None):
    """How far personal models are apart after 20 and after 40 rounds of four steps of 0.1, for each lambda."""
    algorithm = build(problem, fh.local.sgd(0.1, batch_size=None, steps=4, momentum=rho))

    @jax.jit
    def run(lam):  # set past the check
        held = dataclasses.replace(algorithm, lam=lam)
        state = fh.initial_state(held, federation, key=jax.random.key(0), round_fn=EVERYONE)
        seen = []
        for _ in range(2):
            state, _ = block(EVERYONE, held, state, federation, rounds=20)
            seen.append(jnp.ptp(getattr(state.clients, "personal", state.clients).params["w"]))
        return jnp.stack(seen)

    return [np.asarray(run(jnp.asarray(lam))) for lam in lams]


@both
def test_just_below_the_limit_it_settles_and_just_above_it_diverges(federation, problem, build):
    """L = 1/2 counts: eta (lambda + L) = 1.96 and 2.04."""
    solver = fh.local.sgd(0.1, batch_size=None, steps=4)
    below, above = spreads(build, federation, problem, (19.1, 19.9))
    np.testing.assert_allclose(below, 1 / (19.1 + 0.5), rtol=0.05)  # L |a_1 - a_2| / (lambda + L)
    assert above[1] > 10 * above[0]
    build(problem, solver, lam=19.1, lipschitz=0.5)
    with pytest.raises(ValueError, match=r"lam must be < 2 / eta - lipschitz = 19\.5"):
        build(problem, solver, lam=19.9, lipschitz=0.5)


def test_momentum_widens_what_may_settle_and_the_remedy_settles(federation, problem):
    """Refused from 2 (1 + rho) on, where no number of steps settles; advised: below 2, where all do."""
    solver = fh.local.sgd(0.1, batch_size=None, steps=4, momentum=0.5)
    advised, refused = spreads(fh.algorithms.meanreg, federation, problem, (19.4, 29.6), rho=0.5)
    assert advised[1] < 1.01 * advised[0] and refused[1] > 10 * refused[0]
    with pytest.raises(
        ValueError, match=r"< 3 / eta - lipschitz = 29\.5 for .* got 29\.6: .* a lam < 19\.5, or"
    ):
        fh.algorithms.meanreg(problem, solver, lam=29.6, lipschitz=0.5)

"""pFedMe: against a NumPy loop, on quadratics, and where it would not settle."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import quadratics
from reference.late import late
from reference.models import Softmax, TanhNetwork
from reference.regularised import local_rounds, pfedme
from reference.setting import COHORTS, RATE, SIZES, flat_network, to_numpy

import fedjax_het as fh
from fedjax_het import keys, tree
from fedjax_het.analysis import oracles
from fedjax_het.engine.blocks import block
from fedjax_het.engine.evaluate import every_client
from fedjax_het.engine.slots import make_client
from fedjax_het.models import quadratic, quadratic_federation
from fedjax_het.pool import Pool

many_rounds = jax.jit(block, static_argnames="rounds")
_initial = jax.jit(
    lambda round_fn, algorithm, federation, key: fh.initial_state(
        algorithm, federation, key=key, round_fn=round_fn
    )
)


@jax.jit
def personal_models(algorithm, state, federation, key):
    """Everyone's personal model, [N, ...], with the draws of the round whose key it is."""
    slots = every_client(algorithm, state, federation, jnp.zeros((), jnp.int32))

    def one(slot):
        client = make_client(federation, slot, key, jnp.zeros((), jnp.int32))
        return algorithm.personalise(state.server, client).params

    return jax.lax.map(one, slots)


def close(got, expected, digits=1e-9):
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=0, atol=digits)


# --- against the loop -----------------------------------------------------------------------------------------

WORK = [[1, 1, 0.1, 1, 0.5], [0.2, 0.5, 1, 1, 0.7], [1, 0.3, 0.5, 0.1, 1]]
"""Fractions of work in `COHORTS`; client 1 takes none of its two steps in the second round."""

LAM, INNER_RATE, INNER_STEPS = 4.0, 0.2, 3


@pytest.mark.parametrize(
    ("carry_over", "weights", "momentum", "beta", "x64", "partial"),
    [
        (False, "proportional", None, 1.0, True, True),
        (True, "uniform", 0.5, 1.6, True, False),
        (False, "uniform", None, 0.7, False, False),
        (True, "proportional", None, 2.0, False, True),
    ],
)
def test_it_is_the_loop_of_the_paper(settings, carry_over, weights, momentum, beta, x64, partial):
    """`partial`: clients stop part of the way, or before the first local round."""
    setting = settings[x64]
    network, model = (setting.network, TanhNetwork) if x64 else (setting.problem, Softmax)
    flat = flat_network if x64 else (lambda params: to_numpy(params["head"]))
    done = [[0] * len(SIZES) for _ in COHORTS]
    for t, cohort in enumerate(COHORTS):
        for k, work in zip(cohort, WORK[t]):
            done[t][k] = int(np.round((work if partial else 1) * len(setting.batches[t][k])))
    with jax.enable_x64(x64):
        algorithm = fh.algorithms.pfedme(
            network,
            setting.solver(momentum),
            lam=LAM,
            personal_learning_rate=INNER_RATE,
            inner_steps=INNER_STEPS,
            server_learning_rate=beta,
            carry_over=carry_over,
            weights=weights,
        )
        sampler = late(COHORTS, WORK) if partial else fh.sampling.scripted(COHORTS)
        round_fn = fh.make_round(sampler, fh.executors.vmapped())
        first = _initial(round_fn, algorithm, setting.federation, setting.key)
        state, log = many_rounds(round_fn, algorithm, first, setting.federation, rounds=len(COHORTS))
        zero = jnp.zeros((), jnp.int32)
        own = personal_models(algorithm, state, setting.federation, keys.round_(setting.key, zero))
    numbers = {
        "rate": RATE,
        "lam": LAM,
        "inner_rate": INNER_RATE,
        "inner_steps": INNER_STEPS,
        "carry_over": carry_over,
        "momentum": momentum or 0.0,
    }
    given = (setting.x, setting.y)
    start = flat(first.server.params)
    w = pfedme(
        model,
        start,
        *given,
        setting.held,
        setting.batches,
        COHORTS,
        beta=beta,
        weights=weights,
        done=done,
        **numbers,
    )
    setting.same(flat(state.server.params), w)
    taken = [[done[t][k] for k in cohort] for t, cohort in enumerate(COHORTS)]
    np.testing.assert_array_equal(log["info"]["steps"], taken)
    for k in range(len(SIZES)):
        centre, theta = local_rounds(model, w, *given, setting.batches[0][k], **numbers)
        setting.same(flat(tree.take(own, k)), theta)
        if SIZES[k]:
            apart = max(abs(theta[name] - centre[name]).max() for name in w)
            assert apart > 1e-3, "the personal model is not w_k, which the authors' code scores in its place"
    np.testing.assert_array_equal(flat(tree.take(own, 4))["out_bias" if x64 else "bias"], w_of(state, flat))


def w_of(state, flat):
    """The last layer's bias of the global model."""
    params = flat(state.server.params)
    return params.get("out_bias", params.get("bias"))


# --- quadratics -----------------------------------------------------------------------------------------------

GOLD = {
    "A": np.array([[[1.0, 0.0], [0.0, 4.0]], [[2.0, 1.0], [1.0, 2.0]]]),
    "a": np.eye(2),
    "sizes": np.array([1, 3]),
    "parts": np.array([0.25, 0.75]),
    "first": [1.67281481481481, -0.6322962962963],
    "limit": [0.27380661446026, 0.63597782315131],
    "rho": 0.79677536358367,
}


def of(federation, start=None):
    return quadratic(Pool(federation.x, federation.y, federation.spec.pool), start=start)


def everyone():
    return fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())


def gold(rate=0.1, local=3, **numbers):
    """(algorithm, federation, state) of the two quadratics from (2, -1)."""
    federation = quadratic_federation(GOLD["A"], GOLD["a"], sizes=GOLD["sizes"])
    solver = fh.local.sgd(rate, batch_size=None, steps=local)
    algorithm = fh.algorithms.pfedme(of(federation, (2.0, -1.0)), solver, **numbers)
    return algorithm, federation, _initial(everyone(), algorithm, federation, jax.random.key(0))


@pytest.mark.usefixtures("x64")
def test_with_exact_inner_solutions_it_is_fedavg_on_the_envelopes():
    algorithm, federation, state = gold(lam=2.0, lipschitz=4.0, inner_steps=60)
    close(algorithm.personal_learning_rate, 1 / 6, 1e-15)
    functions = oracles.quadratics(GOLD["A"], GOLD["a"], weights=GOLD["sizes"])
    exact = oracles.fedavg(oracles.envelope(functions, 2.0), learning_rate=0.1, steps=3)
    path = exact.trajectory(jnp.asarray([2.0, -1.0]), 3)
    current = state
    for t in range(3):
        current, _ = many_rounds(everyone(), algorithm, current, federation, rounds=1)
        close(current.server.params["w"], path[t + 1], 1e-13)
        if t == 0:
            close(current.server.params["w"], GOLD["first"], 1e-13)
    reached, _ = many_rounds(everyone(), algorithm, current, federation, rounds=150)
    close(reached.server.params["w"], exact.fixed_point, 1e-12)
    close(reached.server.params["w"], GOLD["limit"], 2e-14)

    def step(w):
        server = dataclasses.replace(state.server, params={"w": w})
        return everyone()(algorithm, dataclasses.replace(state, server=server), federation)[0].server.params[
            "w"
        ]

    matrix = jax.jit(jax.jacfwd(step))(jnp.zeros(2))
    close(abs(np.linalg.eigvals(np.asarray(matrix))).max(), GOLD["rho"], 1e-13)


def filters(lam, inner_rate, inner_steps):
    """lam S_k, where theta_k - w = -S_k A_k (w - a_k) after K steps from w."""
    held = GOLD["A"] + lam * np.eye(2)
    left = [np.linalg.matrix_power(np.eye(2) - inner_rate * H, inner_steps) for H in held]
    return [lam * (np.eye(2) - P) @ np.linalg.inv(H) for P, H in zip(left, held)]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("inner_steps", "local"), [(1, 4), (3, 1), (3, 3)])
def test_its_limit_and_its_personal_models_with_few_inner_steps(inner_steps, local):
    """The last inner solution starts at w_k after R - 1 local rounds; only for R = 1 that is w."""
    lam, inner_rate, rate = 2.0, 0.15, 0.3
    algorithm, federation, state = gold(
        rate, local, lam=lam, personal_learning_rate=inner_rate, inner_steps=inner_steps
    )
    state, _ = many_rounds(everyone(), algorithm, state, federation, rounds=200)
    curved = [S @ A for S, A in zip(filters(lam, inner_rate, inner_steps), GOLD["A"])]
    pulls = [np.eye(2) - np.linalg.matrix_power(np.eye(2) - rate * C, local) for C in curved]
    left = sum(p * P for p, P in zip(GOLD["parts"], pulls))
    limit = np.linalg.solve(left, sum(p * P @ a for p, P, a in zip(GOLD["parts"], pulls, GOLD["a"])))
    close(state.server.params["w"], limit, 1e-12)
    own = personal_models(algorithm, state, federation, jax.random.key(1))["w"]
    for k, (C, a) in enumerate(zip(curved, GOLD["a"])):
        start = a + np.linalg.matrix_power(np.eye(2) - rate * C, local - 1) @ (limit - a)
        close(own[k], start - C @ (start - a) / lam, 1e-12)


@pytest.mark.usefixtures("x64")
def test_lambda_holds_personal_models_between_the_minima_and_the_global_model():
    for lam, rate in ((1e-4, 0.1), (1e4, 1e-5)):
        algorithm, federation, state = gold(rate, 1, lam=lam, lipschitz=4.0, inner_steps=300)
        own = np.asarray(personal_models(algorithm, state, federation, jax.random.key(1))["w"])
        w = np.asarray(state.server.params["w"])
        near = GOLD["a"] if lam < 1 else np.stack([w, w])
        assert np.linalg.norm(own - near, axis=1).max() < 1e-3
        prox = [np.linalg.solve(A + lam * np.eye(2), A @ a + lam * w) for A, a in zip(GOLD["A"], GOLD["a"])]
        close(own, prox, 1e-8)


@pytest.mark.usefixtures("x64")
def test_nothing_decays():
    """Where F_k is flat no inner step and no local round moves anything: there is no hidden ridge."""
    federation = quadratic_federation(np.zeros((2, 2, 2)), b=np.zeros((2, 2)), sizes=[1, 2])
    problem = of(federation, (3.0, -5.0))
    for carry_over in (False, True):
        algorithm = fh.algorithms.pfedme(problem, fh.local.sgd(0.1, batch_size=1), carry_over=carry_over)
        state = _initial(everyone(), algorithm, federation, jax.random.key(0))
        state, _ = many_rounds(everyone(), algorithm, state, federation, rounds=5)
        np.testing.assert_array_equal(state.server.params["w"], [3.0, -5.0])


@pytest.mark.usefixtures("x64")
def test_it_has_derivatives():
    """Of w after two rounds, with respect to lambda and alpha_p, against differences."""
    federation = quadratic_federation(*quadratics.functions(), sizes=[1, 2, 3, 6])
    solver = fh.local.scanned(fh.local.sgd(0.1, batch_size=2, shuffle=False), 3)
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped(), differentiable=True)

    def build(numbers):
        return fh.algorithms.pfedme(
            of(federation), solver, lam=numbers[0], personal_learning_rate=numbers[1], inner_steps=3
        )

    point = jnp.asarray([2.0, 0.1])
    start = fh.initial_state(build(point), federation, key=jax.random.key(0), round_fn=round_fn)

    @jax.jit
    def reached(numbers):
        state, _ = block(round_fn, build(numbers), start, federation, rounds=2)
        return jnp.sum(jnp.sin(state.server.params["w"]))

    slope = jax.jit(jax.grad(reached))(point)
    step = 1e-5
    for i, move in enumerate(np.eye(2) * step):
        close(slope[i], (reached(point + move) - reached(point - move)) / (2 * step), 1e-8)
    assert abs(np.asarray(slope)).min() > 1e-4


# --- numbers --------------------------------------------------------------------------------------------------


def test_defaults_settle_whatever_the_rate(settings):
    problem = settings[False].problem

    def built(rate, **numbers):
        return fh.algorithms.pfedme(problem, fh.local.sgd(rate, batch_size=4), **numbers)

    for rate, lam in ((0.005, 15.0), (0.1, 5.0), (2.0, 0.25)):
        algorithm = built(rate)
        np.testing.assert_allclose(algorithm.lam, lam, rtol=1e-6)
        np.testing.assert_allclose(algorithm.personal_learning_rate, 1 / (2 * lam), rtol=1e-6)
    np.testing.assert_allclose(built(0.005, lipschitz=5.0).personal_learning_rate, 1 / 20, rtol=1e-6)
    adam = fh.algorithms.pfedme(problem, fh.local.from_optax(optax.adam, learning_rate=0.5, batch_size=4))
    np.testing.assert_allclose(adam.lam, 15.0)
    many = jax.jit(lambda rate: built(rate).lam)(jnp.asarray(0.1))
    np.testing.assert_allclose(many, 5.0, rtol=1e-6)


def test_a_step_outside_the_stable_range_is_refused_with_the_number_to_use(settings):
    problem, solver = settings[False].problem, fh.local.sgd(0.1, batch_size=4)

    def built(**numbers):
        return fh.algorithms.pfedme(problem, solver, **numbers)

    with pytest.raises(
        ValueError, match=r"lam must be < 1 / eta = 10 for .* got 15: .* learning_rate < 0\.06667"
    ):
        built(lam=15.0)
    with pytest.raises(ValueError, match=r"lam must be < 1 / eta = 10 for this solver, got 10"):
        built(lam=jnp.asarray([1.0, 10.0]))
    with pytest.raises(
        ValueError, match=r"personal_learning_rate must be < 2 / lam = 0\.4, got 0\.4: .* take 0\.2"
    ):
        built(lam=5.0, personal_learning_rate=0.4)
    limit = r"personal_learning_rate must be < 2 / \(lam \+ lipschitz\) = 0\.1333, got 0\.15: .* take 0\.06667"
    with pytest.raises(ValueError, match=limit):
        built(lam=5.0, personal_learning_rate=0.15, lipschitz=10.0)
    built(lam=5.0, personal_learning_rate=0.13, lipschitz=10.0)
    clocked = fh.local.sgd(fh.local.geometric(0.1, 0.9), batch_size=4)
    with pytest.raises(ValueError, match="lam must be < 1 / eta = 10"):
        fh.algorithms.pfedme(problem, clocked, lam=12.0)
    jax.jit(lambda lam: built(lam=lam).lam)(15.0)  # not known before the run


def test_an_inner_rate_past_its_limit_diverges():
    """Not refused without L = 4; with it, alpha_p (lambda + L) = 3 would be."""
    with jax.enable_x64(True):
        far = []
        for steps in (4, 40):
            algorithm, federation, state = gold(0.1, 1, lam=2.0, personal_learning_rate=0.5, inner_steps=steps)
            own = personal_models(algorithm, state, federation, jax.random.key(0))["w"]
            far.append(float(np.abs(own).max()))
        assert far[1] > 1e6 * far[0]
        with pytest.raises(ValueError, match=r"< 2 / \(lam \+ lipschitz\) = 0\.3333, got 0\.5"):
            gold(0.1, 1, lam=2.0, personal_learning_rate=0.5, lipschitz=4.0)


def test_bad_input_is_told(settings):
    problem, solver = settings[False].problem, fh.local.sgd(0.01, batch_size=4)
    build = fh.algorithms.pfedme
    for lam in (0, -1.0):
        with pytest.raises(ValueError, match="lam must be > 0"):
            build(problem, solver, lam=lam)
    with pytest.raises(TypeError, match="lam must be a number"):
        build(problem, solver, lam="15")
    with pytest.raises(ValueError, match="personal_learning_rate must be > 0"):
        build(problem, solver, personal_learning_rate=0.0)
    with pytest.raises(ValueError, match="inner_steps must be >= 1"):
        build(problem, solver, inner_steps=0)
    with pytest.raises(ValueError, match="server_learning_rate must be > 0"):
        build(problem, solver, server_learning_rate=0)
    with pytest.raises(ValueError, match="lipschitz must be > 0"):
        build(problem, solver, lipschitz=0)
    with pytest.raises(TypeError, match="carry_over must be True or False"):
        build(problem, solver, carry_over=1)
    with pytest.raises(ValueError, match=r"weights must be one of .* did you mean 'uniform'"):
        build(problem, solver, weights="uniformly")
    with pytest.raises(ValueError, match="solver must do all that it plans"):
        build(problem, fh.local.inexact(solver, 0.5))
    with pytest.raises(TypeError, match="problem must come before solver"):
        build(solver, problem)

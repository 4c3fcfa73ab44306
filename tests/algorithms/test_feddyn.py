"""FedDyn: against a NumPy loop, in exact form on quadratics, and the model that is served."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import quadratics
from reference.dyn import Exact, feddyn
from reference.late import late
from reference.models import Softmax, TanhNetwork
from reference.setting import COHORTS, SIZES, flat_network, to_numpy

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.engine.blocks import block
from fedjax_het.models import quadratic, quadratic_federation
from fedjax_het.models.losses import defaults
from fedjax_het.pool import Pool
from fedjax_het.problem import Facts, Model, Problem

many_rounds = jax.jit(block, static_argnames="rounds")
_initial = jax.jit(
    lambda round_fn, algorithm, federation, key: fh.initial_state(
        algorithm, federation, key=key, round_fn=round_fn
    )
)


def begin(round_fn, algorithm, federation, key=None):
    return _initial(round_fn, algorithm, federation, jax.random.key(0) if key is None else key)


def one_round(round_fn, algorithm, state, federation):
    return many_rounds(round_fn, algorithm, state, federation, rounds=1)[0]


def close(got, expected, digits=1e-9):
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=0, atol=digits)


# --- against the loop -----------------------------------------------------------------------------------------

WORK = [[1, 1, 0.1, 1, 0.5], [0.2, 0.5, 1, 1, 0.7], [1, 0.3, 0.5, 0.1, 1]]
"""Fractions of work in `COHORTS`; client 1 takes none of its two steps in the second round."""


@pytest.mark.parametrize(
    ("weights", "serve", "momentum", "x64", "partial"),
    [
        ("uniform", "cohort", None, True, True),
        ("uniform", "all", 0.9, True, False),
        ("proportional", "all", None, True, True),
        ("scaled_alpha", "broadcast", None, True, False),
        ("uniform", "broadcast", None, False, True),
        ("scaled_alpha", "all", None, False, True),
        ("proportional", "cohort", None, False, False),
    ],
)
def test_it_is_the_loop_of_the_paper(settings, weights, serve, momentum, x64, partial):
    """`partial`: clients stop part of the way, or before the first step."""
    setting, alpha = settings[x64], 0.3
    network, model = (setting.network, TanhNetwork) if x64 else (setting.problem, Softmax)
    flat = flat_network if x64 else (lambda params: to_numpy(params["head"]))
    done = [[0] * len(SIZES) for _ in COHORTS]
    for t, cohort in enumerate(COHORTS):
        for k, work in zip(cohort, WORK[t]):
            done[t][k] = int(np.round((work if partial else 1) * len(setting.batches[t][k])))
    with jax.enable_x64(x64):
        algorithm = fh.algorithms.feddyn(
            network, setting.solver(momentum), alpha=alpha, weights=weights, serve=serve
        )
        sampler = late(COHORTS, WORK) if partial else fh.sampling.scripted(COHORTS)
        round_fn = fh.make_round(sampler, fh.executors.vmapped())
        first = begin(round_fn, algorithm, setting.federation, setting.key)
        state, log = many_rounds(round_fn, algorithm, first, setting.federation, rounds=len(COHORTS))
    w, h, dual, served = feddyn(
        model,
        flat(first.server.params),
        setting.x,
        setting.y,
        setting.held,
        setting.batches,
        COHORTS,
        rate=0.15,
        alpha=alpha,
        momentum=momentum or 0.0,
        weights=weights,
        done=done,
    )
    setting.same(flat(state.server.params), w)
    setting.same(flat(state.server.dual), h)
    for k, own in enumerate(dual):
        setting.same(flat(tree.take(state.clients.dual, k)), own)
    setting.same(flat(algorithm.consensus(state.server).params), served[serve])
    assert max(abs(served["cohort"][name] - w[name]).max() for name in w) > 1e-3, "they must be told apart"
    taken = np.asarray(log["info"]["steps"])
    np.testing.assert_array_equal(taken, [[done[t][k] for k in cohort] for t, cohort in enumerate(COHORTS)])
    parts = np.full(len(SIZES), 1 / len(SIZES)) if weights == "uniform" else np.array(SIZES) / sum(SIZES)
    mean = jax.tree.map(lambda c: np.tensordot(parts, np.asarray(c, np.float64), 1), state.clients.dual)
    setting.same(flat(state.server.dual), flat(mean))


# --- quadratics -----------------------------------------------------------------------------------------------

ROWS = np.array([1, 2, 3, 6])
UNIFORM, SHARES = np.full(4, 0.25), ROWS / ROWS.sum()
ALPHA = 0.7


def of(federation, start=None):
    return quadratic(Pool(federation.x, federation.y, federation.spec.pool), start=start)


def exactly(rate, steps):
    """Full-batch steps to the minimum of a local objective whose curvatures lie in [0.7, 7], to rounding."""
    return fh.local.sgd(rate, batch_size=None, steps=steps)


def everyone():
    return fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())


def at(state, w, dual, parts):
    """The state with this model and these lambda_k."""
    w, dual = jnp.asarray(w), jnp.asarray(dual)
    server = dataclasses.replace(state.server, params={"w": w}, dual={"w": jnp.asarray(parts) @ dual})
    if state.server.served != ():
        server = dataclasses.replace(server, served={"w": w})
    return dataclasses.replace(
        state, server=server, clients=dataclasses.replace(state.clients, dual={"w": dual})
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("weights", "rate", "steps"),
    [("uniform", 0.25, 150), ("uniform", 0.25, 2), ("proportional", 0.25, 150), ("scaled_alpha", 0.2, 400)],
)
def test_two_of_four_end_at_the_minimum_of_their_weighting_and_stay_there(weights, rate, steps):
    """Be local work exact or two steps."""
    A, a = quadratics.functions()
    federation, parts = quadratic_federation(A, a, sizes=ROWS), UNIFORM if weights == "uniform" else SHARES
    best = quadratics.optimum(A, a, parts)
    assert np.linalg.norm(best - quadratics.optimum(A, a, SHARES if weights == "uniform" else UNIFORM)) > 0.1
    gradients = np.einsum("nij,nj->ni", A, best - a)
    algorithm = fh.algorithms.feddyn(of(federation), exactly(rate, steps), alpha=ALPHA, weights=weights)
    round_fn = fh.make_round(fh.sampling.uniform(2), fh.executors.vmapped())
    state = begin(round_fn, algorithm, federation)
    stayed, _ = many_rounds(round_fn, algorithm, at(state, best, gradients, parts), federation, rounds=400)
    close(stayed.server.params["w"], best)
    close(stayed.server.served["w"], best)
    close(stayed.clients.dual["w"], gradients)
    reached, _ = many_rounds(round_fn, algorithm, state, federation, rounds=400)
    close(reached.server.params["w"], best)
    close(reached.server.served["w"], best)
    close(reached.clients.dual["w"], gradients, 1e-8)
    close(reached.server.dual["w"], 0)


GOLD = {
    "A": np.array([[[1.0, 0.0], [0.0, 4.0]], [[2.0, 1.0], [1.0, 2.0]]]),
    "a": np.eye(2),
    "sizes": np.array([1, 3]),
    "parts": np.array([0.25, 0.75]),
    "optimum": [0.36065573770492, 0.49180327868852],
    "first": [0.25, 0.9],
    "rho": 0.72936689466122,
}


@pytest.mark.usefixtures("x64")
def test_a_round_is_the_known_map_which_is_douglas_rachfords():
    A, b = GOLD["A"], np.einsum("nij,nj->ni", GOLD["A"], GOLD["a"])
    exact, parts = Exact(A, b, GOLD["parts"], 1.0), GOLD["parts"]
    close(exact.optimum, GOLD["optimum"], 1e-13)
    federation = quadratic_federation(A, GOLD["a"], sizes=GOLD["sizes"])
    algorithm = fh.algorithms.feddyn(
        of(federation, (2.0, -1.0)), exactly(2 / 7, 60), alpha=1.0, weights="proportional"
    )
    round_fn = everyone()
    state = begin(round_fn, algorithm, federation)
    w, dual = np.array([2.0, -1.0]), np.zeros((2, 2))
    current = state
    for t in range(3):
        z = exact.splitting(w, dual)
        w, dual = exact.round(w, dual)
        current = one_round(round_fn, algorithm, current, federation)
        close(current.server.params["w"], w, 1e-13)
        close(current.clients.dual["w"], dual, 1e-13)
        got = exact.splitting(np.asarray(current.server.params["w"]), np.asarray(current.clients.dual["w"]))
        close(got, exact.reflected(z), 1e-13)
        if t == 0:
            close(w, GOLD["first"], 1e-14)

    def step(joint):
        after, _ = round_fn(algorithm, at(state, joint[0], joint[1:], parts), federation)
        return jnp.concatenate([after.server.params["w"][None], after.clients.dual["w"]])

    rest = jnp.asarray(np.concatenate([exact.optimum[None], exact.gradients]))
    moved, matrix = jax.jit(lambda z: (step(z), jax.jacfwd(step)(z)))(rest)
    close(moved, rest, 1e-13)
    close(abs(np.linalg.eigvals(np.asarray(matrix).reshape(6, 6))).max(), GOLD["rho"], 5e-13)


@pytest.mark.usefixtures("x64")
def test_scaled_alpha_is_the_unweighted_method_on_scaled_functions():
    """With alpha_k = alpha / (N p_k) on F_k: as alpha on N p_k F_k, and lambda_k N p_k times smaller."""
    A, a = quadratics.functions()
    scale = 4 * SHARES
    sides = {
        "scaled_alpha": quadratic_federation(A, a, sizes=ROWS),
        "uniform": quadratic_federation(A * scale[:, None, None], a, sizes=ROWS),
    }
    ends = {}
    for weights, federation in sides.items():
        rate = 0.2 if weights == "scaled_alpha" else 0.1
        algorithm = fh.algorithms.feddyn(of(federation), exactly(rate, 700), alpha=ALPHA, weights=weights)
        round_fn = everyone()
        state = begin(round_fn, algorithm, federation)
        ends[weights] = many_rounds(round_fn, algorithm, state, federation, rounds=5)[0]
    close(ends["scaled_alpha"].server.params["w"], ends["uniform"].server.params["w"], 1e-12)
    close(ends["scaled_alpha"].server.dual["w"], ends["uniform"].server.dual["w"], 1e-12)
    close(ends["scaled_alpha"].clients.dual["w"] * scale[:, None], ends["uniform"].clients.dual["w"], 1e-12)
    assert ends["scaled_alpha"].server.rows == 3


# --- what the formulas leave to be decided --------------------------------------------------------------------

SLOPES = np.array([[1.0, -2.0], [3000.0, 500.0], [0.0, 0.0]])


@pytest.mark.usefixtures("x64")
def test_gradients_are_not_clipped_and_nobody_is_the_mean_of_the_cohort():
    """F_k(w) = <slope_k, w>, one step: theta_k = -eta slope_k however long. An empty client is one of N = 3."""
    federation = quadratic_federation(np.zeros((3, 2, 2)), b=-SLOPES, sizes=[1, 1, 0])
    algorithm = fh.algorithms.feddyn(of(federation), exactly(0.1, 1), alpha=0.5)
    round_fn = fh.make_round(fh.sampling.fixed([1, 2]), fh.executors.vmapped())
    state = one_round(round_fn, algorithm, begin(round_fn, algorithm, federation), federation)
    theta = -0.1 * SLOPES[1]
    close(state.server.served["w"], theta, 1e-11)
    close(state.server.dual["w"], -0.5 * theta / 3, 1e-11)
    close(state.server.params["w"], theta + theta / 3, 1e-11)
    np.testing.assert_array_equal(state.clients.dual["w"][0], 0)
    close(state.clients.dual["w"][1], -0.5 * theta, 1e-11)


def test_small_alpha_is_not_federated_averaging():
    """h / alpha stays of the size of the drifts: in round 1 already w has gone (1 + m/N) times as far."""
    A, a = quadratics.functions()
    with jax.enable_x64(True):
        federation, round_fn = quadratic_federation(A, a), everyone()
        local, problem = exactly(0.1, 3), of(federation)
        dyn, average = fh.algorithms.feddyn(problem, local, alpha=1e-9), fh.algorithms.fedavg(problem, local)
        ends = [one_round(round_fn, m, begin(round_fn, m, federation), federation) for m in (dyn, average)]
        close(ends[0].server.served["w"], ends[1].server.params["w"], 1e-8)
        close(ends[0].server.params["w"], 2 * ends[1].server.params["w"], 1e-8)


def _init(key):
    return Model({"w": jax.random.normal(key, (2,))}, {"batches": jnp.ones(())})


def _apply(params, buffers, x, key=None, train=False):
    return x @ params["w"][:, None], {"batches": buffers["batches"] + float(train)}


@pytest.mark.parametrize("buffers", ["averaged", "local"])
def test_buffers_go_where_they_belong_and_newcomers_start_level(buffers):
    rng = np.random.default_rng(0)
    pool = fh.pool(rng.normal(size=(12, 2)), rng.normal(size=(12, 1)), task="regression")
    federation = fh.from_index_lists(pool, None, np.split(np.arange(12), [5, 6, 10]), test=0.0)
    losses, metrics = defaults("regression")
    problem = Problem(_init, _apply, losses, metrics, Facts("counting", buffers=buffers))
    algorithm = fh.algorithms.feddyn(problem, fh.local.sgd(0.1, batch_size=2), serve="all")
    round_fn = fh.make_round(fh.sampling.fixed([0, 1]), fh.executors.vmapped())
    state = begin(round_fn, algorithm, federation)
    after = one_round(round_fn, algorithm, state, federation)
    if buffers == "averaged":
        assert after.server.buffers["batches"] == 1 + (3 + 1) / 2
        model = algorithm.consensus(after.server)
        assert model.buffers is after.server.buffers and model.params is after.server.served
    else:
        np.testing.assert_array_equal(after.clients.buffers["batches"], [4, 2, 1, 1])
        assert after.server.buffers == () and algorithm.consensus(after.server) is None
    newcomers = fh.adapt(algorithm, after.server, federation, key=jax.random.key(1))
    np.testing.assert_array_equal(newcomers.dual["w"], np.zeros((4, 2)))
    np.testing.assert_array_equal(newcomers.last["w"], np.tile(after.server.served["w"], (4, 1)))
    size = 4 * (2 + (buffers == "averaged"))
    assert algorithm.traffic(after.server) == fh.Traffic(size, size)


def test_bad_input_is_told(settings):
    problem, solver = settings[False].problem, fh.local.sgd(0.1, batch_size=4)
    for alpha in (0, -0.1, 0.0):
        with pytest.raises(ValueError, match=r"alpha must be > 0, got .* is not FedAvg"):
            fh.algorithms.feddyn(problem, solver, alpha=alpha)
    with pytest.raises(TypeError, match="alpha must be a number"):
        fh.algorithms.feddyn(problem, solver, alpha="0.1")
    with pytest.raises(ValueError, match=r"weights must be one of .* did you mean 'scaled_alpha'"):
        fh.algorithms.feddyn(problem, solver, weights="scaled_alphas")
    with pytest.raises(ValueError, match=r"serve must be one of .* did you mean 'broadcast'"):
        fh.algorithms.feddyn(problem, solver, serve="broadcasted")
    with pytest.raises(TypeError, match="problem must come before solver"):
        fh.algorithms.feddyn(solver, problem)

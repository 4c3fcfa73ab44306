"""Ditto: against a NumPy loop, its global track bit for bit, and personal models on quadratics."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.lab import SHIPPED
from reference import quadratics
from reference.models import Softmax, TanhNetwork
from reference.regularised import ditto
from reference.setting import COHORTS, RATE, SIZES, flat_network, to_numpy

import fedjax_het as fh
from fedjax_het import keys, tree
from fedjax_het.engine.blocks import block
from fedjax_het.models import quadratic, quadratic_federation
from fedjax_het.models.losses import defaults
from fedjax_het.pool import Pool
from fedjax_het.problem import Facts, Model, Problem

many_rounds = jax.jit(block, static_argnames="rounds")
shipped_rounds = jax.jit(block, static_argnames="rounds", compiler_options=SHIPPED)
_initial = jax.jit(
    lambda round_fn, algorithm, federation, key: fh.initial_state(
        algorithm, federation, key=key, round_fn=round_fn
    )
)

EVERYONE = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
SCRIPTED = fh.make_round(fh.sampling.scripted(COHORTS), fh.executors.vmapped())


def close(got, expected, digits=1e-9):
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=0, atol=digits)


def equal(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


# --- against the loop -----------------------------------------------------------------------------------------


def personal_batches(plan, federation, key):
    """[round][client] -> rows of each step of the personal track, which has a key of its own."""

    @jax.jit
    def rows(plan, round_, k, j):
        data = federation.data("train", federation.locate("train", jnp.int32(0), k))
        own = keys.client(keys.stream(keys.round_(key, round_), "client"), k)
        order = keys.seed(keys.stream(keys.stream(own, "personal"), "order"))
        return data.offset, plan.steps(data), *plan.positions(data, order, j)

    index, every = np.asarray(federation.train.index), []
    for t in range(len(COHORTS)):
        clients = []
        for k in range(federation.num_clients):
            steps, j = [], 0
            while j < int((seen := rows(plan, jnp.int32(t), jnp.int32(k), jnp.int32(j)))[1]):
                steps.append(index[int(seen[0]) + np.asarray(seen[2])[np.asarray(seen[3])]])
                j += 1
            clients.append(steps)
        every.append(clients)
    return every


@pytest.mark.parametrize(
    ("weights", "momentum", "x64"),
    [("uniform", None, True), ("proportional", 0.5, True), ("uniform", 0.5, False)],
)
def test_it_is_the_loop_of_the_paper(settings, weights, momentum, x64):
    setting, lam, rate = settings[x64], 0.8, 0.1
    network, model = (setting.network, TanhNetwork) if x64 else (setting.problem, Softmax)
    flat = flat_network if x64 else (lambda params: to_numpy(params["head"]))
    with jax.enable_x64(x64):
        own = fh.local.sgd(rate, batch_size=3, epochs=3, momentum=momentum)
        algorithm = fh.algorithms.ditto(
            network, setting.solver(momentum), lam=lam, personal=own, weights=weights
        )
        first = _initial(SCRIPTED, algorithm, setting.federation, setting.key)
        state, log = many_rounds(SCRIPTED, algorithm, first, setting.federation, rounds=len(COHORTS))
        personal = personal_batches(own.plan, setting.federation, setting.key)
    w, expected = ditto(
        model,
        flat(first.server.params),
        setting.x,
        setting.y,
        setting.held,
        setting.batches,
        personal,
        COHORTS,
        rate=RATE,
        lam=lam,
        personal_rate=rate,
        weights=weights,
        momentum=momentum or 0.0,
    )
    setting.same(flat(state.server.params), w)
    for k, params in enumerate(expected):
        setting.same(flat(tree.take(state.clients.personal.params, k)), params)
    steps = [[len(setting.batches[t][k]) for k in cohort] for t, cohort in enumerate(COHORTS)]
    np.testing.assert_array_equal(log["info"]["steps"], steps)


def test_the_tracks_draw_their_own_batches(settings):
    """With one solver for both: the same rows in another order."""
    setting = settings[True]
    with jax.enable_x64(True):
        personal = personal_batches(setting.solver().plan, setting.federation, setting.key)
    assert SIZES[5] == max(SIZES)
    for t in range(len(COHORTS)):
        ours, theirs = personal[t][5], setting.batches[t][5]
        np.testing.assert_array_equal(np.sort(np.concatenate(ours)), np.sort(np.concatenate(theirs)))
        assert any(not np.array_equal(a, b) for a, b in zip(ours, theirs))


# --- the global track -----------------------------------------------------------------------------------------

SERVERS = {
    "momentum": lambda problem, solver: fh.algorithms.fedavgm(problem, solver).server,
    "FedAdam's": lambda problem, solver: fh.algorithms.fedadam(problem, solver).server,
}


@pytest.mark.parametrize(("name", "x64"), [("momentum", True), ("FedAdam's", False)])
def test_the_global_track_is_fedavg_to_the_last_bit(settings, name, x64):
    """Model, optimiser and what clients report, whatever lambda and the personal work; compiled as it ships,
    since less optimised code may round the same operations in another way."""
    setting, ends = settings[x64], []
    with jax.enable_x64(x64):
        problem, solver = setting.problem, setting.solver()
        server = SERVERS[name](problem, solver)
        average = fh.algorithms.fedavg(problem, solver, server=server)
        personal = fh.local.sgd(0.3, batch_size=2, epochs=3, momentum=0.9)
        both = fh.algorithms.ditto(
            problem, solver, lam=0.4, personal=personal, server=server, weights="proportional"
        )
        for algorithm in (both, average):
            state = _initial(SCRIPTED, algorithm, setting.federation, setting.key)
            ends.append(shipped_rounds(SCRIPTED, algorithm, state, setting.federation, rounds=3))
    (ours, our_log), (theirs, their_log) = ends
    equal(ours.server, theirs.server)
    equal({name: our_log["info"][name] for name in their_log["info"]}, their_log["info"])
    equal(both.consensus(ours.server), average.consensus(theirs.server))


def test_any_averaging_method_can_be_the_global_track(settings):
    setting = settings[False]
    prox = fh.algorithms.fedprox(setting.problem, setting.solver(), mu=0.5)
    both = dataclasses.replace(fh.algorithms.ditto(setting.problem, setting.solver()), inner=prox)
    ends = []
    for algorithm in (both, prox):
        state = _initial(SCRIPTED, algorithm, setting.federation, setting.key)
        ends.append(shipped_rounds(SCRIPTED, algorithm, state, setting.federation, rounds=2)[0])
    equal(ends[0].server, ends[1].server)


def test_no_personal_model_is_ever_sent(settings):
    """NaN in everybody's v_k, cohort included: what clients send has the same bits."""
    setting = settings[False]
    algorithm = fh.algorithms.ditto(setting.problem, setting.solver())
    state = _initial(SCRIPTED, algorithm, setting.federation, setting.key)
    nan = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), state.clients.personal)
    tainted = dataclasses.replace(state, clients=dataclasses.replace(state.clients, personal=nan))
    report = jax.jit(lambda state, k: fh.replay(SCRIPTED, algorithm, state, setting.federation, k))
    for k in (0, 2, 8):
        clean, spoiled = report(state, k), report(tainted, k)
        equal((clean.total, clean.each, clean.local), (spoiled.total, spoiled.each, spoiled.local))
        trained = jax.tree.leaves(spoiled.state.personal.params)
        assert all(np.isnan(leaf).all() for leaf in trained), "it was in use"


# --- the personal track ---------------------------------------------------------------------------------------


def of(federation, start=None):
    return quadratic(Pool(federation.x, federation.y, federation.spec.pool), start=start)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("lam", "steps"), [(0.0, 2), (0.7, 1), (0.7, 5)])
def test_personal_models_tend_to_the_minimum_of_their_objective(lam, steps):
    """However short local work is; by two of four a round."""
    A, a = quadratics.functions()
    federation = quadratic_federation(A, a, sizes=[1, 2, 3, 6])
    round_fn = fh.make_round(fh.sampling.uniform(2), fh.executors.vmapped())
    own = fh.local.sgd(0.3, batch_size=None, steps=steps)
    algorithm = fh.algorithms.ditto(
        of(federation), fh.local.sgd(0.3, batch_size=None, steps=1), lam=lam, personal=own
    )
    state = _initial(round_fn, algorithm, federation, jax.random.key(0))
    w = jnp.asarray(quadratics.optimum(A, a, np.full(4, 0.25)))
    still = dataclasses.replace(algorithm.inner, server=fh.local.optimizer(optax.sgd, learning_rate=1e-300))
    held = dataclasses.replace(algorithm, inner=still)
    state = dataclasses.replace(state, server=dataclasses.replace(state.server, params={"w": w}))
    state, _ = many_rounds(round_fn, held, state, federation, rounds=400)
    close(state.server.params["w"], w)
    prox = [np.linalg.solve(M + lam * np.eye(3), M @ m + lam * np.asarray(w)) for M, m in zip(A, a)]
    close(state.clients.personal.params["w"], prox)


@pytest.mark.usefixtures("x64")
def test_without_a_pull_it_is_local_training():
    A, a = quadratics.functions()
    federation = quadratic_federation(A, a, sizes=[1, 2, 3, 6])
    solver = fh.local.sgd(0.3, batch_size=None, steps=3)
    ends = []
    for algorithm in (
        fh.algorithms.ditto(of(federation), solver, lam=0.0),
        fh.algorithms.local_only(of(federation), solver),
    ):
        state = _initial(EVERYONE, algorithm, federation, jax.random.key(0))
        ends.append(many_rounds(EVERYONE, algorithm, state, federation, rounds=4)[0].clients)
    close(ends[0].personal.params["w"], ends[1].params["w"], 1e-14)


@pytest.mark.usefixtures("x64")
def test_the_best_lambda_of_point_estimation_is_the_noise_over_the_spread():
    """Means w_k ~ N(0, tau^2) of n rows with noise sigma^2: lambda* = sigma^2 / (n tau^2), within a tenth.

    v_k = s xbar_k + (1 - s) w with s = 1 / (1 + lambda), so the error is a parabola in s, fixed by three runs.
    """
    clients, n, sigma, tau = 20_000, 5, 1.5, 0.6
    rng = np.random.default_rng(0)
    means = tau * rng.normal(size=clients)
    seen = means + sigma / np.sqrt(n) * rng.normal(size=clients)
    federation = quadratic_federation(np.ones((clients, 1, 1)), seen[:, None])
    exact = fh.local.sgd(0.5, batch_size=None, steps=1)
    errors, shares = [], []
    for lam in (0.2, 1.0, 4.0):
        own = fh.local.sgd(1 / (1 + lam), batch_size=None, steps=1)  # one step to the minimum
        algorithm = fh.algorithms.ditto(of(federation), exact, lam=lam, personal=own)
        state = _initial(EVERYONE, algorithm, federation, jax.random.key(0))
        server = dataclasses.replace(state.server, params={"w": jnp.asarray([seen.mean()])})
        state, _ = many_rounds(
            EVERYONE, algorithm, dataclasses.replace(state, server=server), federation, rounds=1
        )
        v = np.asarray(state.clients.personal.params["w"])[:, 0]
        close(v, (seen + lam * seen.mean()) / (1 + lam), 1e-12)
        errors.append(np.mean((v - means) ** 2))
        shares.append(1 / (1 + lam))
    square, linear, _ = np.polyfit(shares, errors, 2)
    best = -2 * square / linear - 1  # s* = -linear / (2 square), lambda* = 1 / s* - 1
    assert abs(best / (sigma**2 / (n * tau**2)) - 1) < 0.1


# --- who keeps what -------------------------------------------------------------------------------------------


def _init(key):
    return Model({"w": jax.random.normal(key, (2,))}, {"batches": jnp.ones(())})


def _apply(params, buffers, x, key=None, train=False):
    return x @ params["w"][:, None], {"batches": buffers["batches"] + float(train)}


@pytest.mark.parametrize("buffers", ["averaged", "local"])
def test_each_track_has_its_buffers_and_newcomers_train_at_once(buffers):
    rng = np.random.default_rng(0)
    pool = fh.pool(rng.normal(size=(12, 2)), rng.normal(size=(12, 1)), task="regression")
    federation = fh.from_index_lists(pool, None, np.split(np.arange(12), [5, 6, 10]), test=0.0)
    losses, metrics = defaults("regression")
    problem = Problem(_init, _apply, losses, metrics, Facts("counting", buffers=buffers))
    algorithm = fh.algorithms.ditto(
        problem, fh.local.sgd(0.1, batch_size=2), personal=fh.local.sgd(0.1, batch_size=1), lam=0.3
    )
    round_fn = fh.make_round(fh.sampling.fixed([0, 1]), fh.executors.vmapped())
    first = _initial(round_fn, algorithm, federation, jax.random.key(0))
    after, _ = many_rounds(round_fn, algorithm, first, federation, rounds=1)
    np.testing.assert_array_equal(after.clients.personal.buffers["batches"], [6, 2, 1, 1])
    if buffers == "averaged":
        assert after.server.buffers["batches"] == 1 + (3 + 1) / 2
        assert after.clients.shared == ()
    else:
        np.testing.assert_array_equal(after.clients.shared["batches"], [4, 2, 1, 1])
        assert after.server.buffers == () and algorithm.consensus(after.server) is None
    equal(
        tree.take(after.clients.personal, np.array([2, 3])), tree.take(first.clients.personal, np.array([2, 3]))
    )
    newcomers = fh.adapt(algorithm, after.server, federation, key=jax.random.key(1))
    moved = np.abs(np.asarray(newcomers.personal.params["w"]) - np.asarray(after.server.params["w"])).max(
        axis=1
    )
    assert moved.min() > 1e-3
    size = 4 * (2 + (buffers == "averaged"))
    assert algorithm.traffic(after.server) == fh.Traffic(size, size)


def test_a_newcomer_without_rows_keeps_the_global_model(settings):
    setting = settings[False]
    algorithm = fh.algorithms.ditto(setting.problem, setting.solver())
    state = _initial(SCRIPTED, algorithm, setting.federation, setting.key)
    newcomers = fh.adapt(algorithm, state.server, setting.federation, key=jax.random.key(1))
    equal(tree.take(newcomers.personal.params, SIZES.index(0)), state.server.params)


def test_bad_input_is_told(settings):
    problem, solver = settings[False].problem, fh.local.sgd(0.1, batch_size=4)
    with pytest.raises(ValueError, match=r"lam must be >= 0, got -0\.1: 0 is local training"):
        fh.algorithms.ditto(problem, solver, lam=-0.1)
    with pytest.raises(TypeError, match="lam must be a number"):
        fh.algorithms.ditto(problem, solver, lam=None)
    with pytest.raises(TypeError, match=r"personal must be a Solver, got 0\.1: make one"):
        fh.algorithms.ditto(problem, solver, personal=0.1)
    with pytest.raises(ValueError, match=r"weights must be one of .* did you mean 'uniform'"):
        fh.algorithms.ditto(problem, solver, weights="unifrom")
    with pytest.raises(TypeError, match=r"server must be made by fh\.local\.optimizer"):
        fh.algorithms.ditto(problem, solver, server=optax.adam(0.1))
    with pytest.raises(TypeError, match="problem must come before solver"):
        fh.algorithms.ditto(solver, problem)

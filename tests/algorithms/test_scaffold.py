"""SCAFFOLD: against a NumPy loop, in closed form, and against the defects that public code has."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import quadratics
from reference.controls import joint_map, scaffold
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
    """(state, log) of a round."""
    state, logs = many_rounds(round_fn, algorithm, state, federation, rounds=1)
    return state, jax.tree.map(lambda leaf: leaf[0], logs)


def close(got, expected, digits=1e-9):
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=0, atol=digits)


# --- against the loop -----------------------------------------------------------------------------------------

WORK = [[1, 1, 0.1, 1, 0.5], [0.2, 0.5, 1, 1, 0.7], [1, 0.3, 0.5, 0.1, 1]]
"""Fractions of work in `COHORTS`; client 2 takes one of its six steps at first, client 1 none of two later."""


def steps_done(setting):
    """[round][client] -> steps."""
    done = [[0] * len(SIZES) for _ in COHORTS]
    for t, cohort in enumerate(COHORTS):
        for k, work in zip(cohort, WORK[t]):
            done[t][k] = int(np.round(work * len(setting.batches[t][k])))
    return done


@pytest.mark.parametrize(
    ("weights", "option", "start", "x64", "uneven"),
    [
        ("uniform", "I", "gradients", True, False),
        ("uniform", "II", "gradients", False, True),
        ("proportional", "I", "zero", True, True),
        ("proportional", "II", "gradients", True, True),
        ("proportional", "II", "zero", False, False),
    ],
)
def test_it_is_the_loop_of_the_paper(settings, weights, option, start, x64, uneven):
    """`uneven`: a schedule, and clients that stop part of the way or before the first step."""
    setting = settings[x64]
    network, model = (setting.network, TanhNetwork) if x64 else (setting.problem, Softmax)
    flat = flat_network if x64 else (lambda params: to_numpy(params["head"]))
    with jax.enable_x64(x64):
        rate = fh.local.geometric(0.15, 0.8, unit="local") if uneven else 0.15
        algorithm = fh.algorithms.scaffold(
            network,
            dataclasses.replace(setting.solver(), rule=fh.local.gradient(rate)),
            option=option,
            weights=weights,
            start=start,
            server_learning_rate=0.8,
        )
        sampler = late(COHORTS, WORK) if uneven else fh.sampling.scripted(COHORTS)
        round_fn = fh.make_round(sampler, fh.executors.vmapped())
        first = begin(round_fn, algorithm, setting.federation, setting.key)
        state, log = many_rounds(round_fn, algorithm, first, setting.federation, rounds=len(COHORTS))
    x, c, own = scaffold(
        model,
        flat(first.server.params),
        setting.x,
        setting.y,
        setting.held,
        setting.batches,
        COHORTS,
        rate=(lambda t, j: 0.15 * 0.8**j) if uneven else 0.15,
        option=option,
        weights=weights,
        begin=start,
        server_rate=0.8,
        done=steps_done(setting) if uneven else None,
    )
    setting.same(flat(state.server.params), x)
    setting.same(flat(state.server.control), c)
    for k, control in enumerate(own):
        setting.same(flat(tree.take(state.clients.control, k)), control)
    if uneven:
        idle = (np.asarray(log["info"]["steps"]) == 0) & np.asarray(log["present"])
        assert idle.any(), "the script needs a client that is present and takes no step"


# --- quadratics -----------------------------------------------------------------------------------------------

FEW = np.array([1, 2, 3, 6])
PARTS = {"uniform": np.full(4, 0.25), "proportional": FEW / FEW.sum()}


def of(federation, start=None):
    return quadratic(Pool(federation.x, federation.y, federation.spec.pool), start=start)


def full_batches(steps, rate=0.1):
    return fh.local.sgd(rate, batch_size=None, steps=steps)


def everyone():
    return fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())


def at(state, x, controls, parts):
    """The state with this model and these control variates."""
    x, controls = jnp.asarray(x), jnp.asarray(controls)
    server = dataclasses.replace(state.server, params={"w": x}, control={"w": jnp.asarray(parts) @ controls})
    return dataclasses.replace(
        state, server=server, clients=dataclasses.replace(state.clients, control={"w": controls})
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("option", ["I", "II"])
@pytest.mark.parametrize("weights", PARTS)
def test_the_minimum_of_its_own_weighting_is_where_it_stays_and_ends(weights, option):
    A, a = quadratics.functions()
    federation, parts = quadratic_federation(A, a, sizes=FEW), PARTS[weights]
    best = quadratics.optimum(A, a, parts)
    other = quadratics.optimum(A, a, PARTS["uniform" if weights == "proportional" else "proportional"])
    assert np.linalg.norm(best - other) > 0.1, "the two weightings must have different minima"
    gradients = np.einsum("nij,nj->ni", A, best - a)
    algorithm = fh.algorithms.scaffold(of(federation), full_batches(3), weights=weights, option=option)
    round_fn = fh.make_round(fh.sampling.uniform(2), fh.executors.vmapped())
    state = begin(round_fn, algorithm, federation)
    stayed, _ = many_rounds(round_fn, algorithm, at(state, best, gradients, parts), federation, rounds=1200)
    close(stayed.server.params["w"], best)
    close(stayed.clients.control["w"], gradients)
    reached, _ = many_rounds(round_fn, algorithm, state, federation, rounds=1200)
    close(reached.server.params["w"], best)
    close(reached.clients.control["w"], gradients, 1e-8)
    close(reached.server.control["w"], 0, 1e-9)


GOLD = {
    "A": np.array([[[1.0, 0.0], [0.0, 4.0]], [[2.0, 1.0], [1.0, 2.0]]]),
    "a": np.eye(2),
    "sizes": np.array([1, 3]),
    "parts": np.array([0.25, 0.75]),
    "optimum": [0.36065573770492, 0.49180327868852],
    "first": [1.2833575, -0.155175],
    "rho": {"I": 0.44496393124828, "II": 0.52490367798443},
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("option", ["I", "II"])
def test_a_round_is_the_known_linear_map(option):
    """The round's own derivative with respect to (x, c_1, c_2) has the matrix and spectral radius of theory."""
    federation = quadratic_federation(GOLD["A"], GOLD["a"], sizes=GOLD["sizes"])
    algorithm = fh.algorithms.scaffold(
        of(federation, (2.0, -1.0)), full_batches(5), weights="proportional", option=option
    )
    round_fn, parts = everyone(), GOLD["parts"]
    state = begin(round_fn, algorithm, federation)
    first, _ = one_round(round_fn, algorithm, state, federation)
    close(first.server.params["w"], GOLD["first"], 1e-14)

    def step(joint):
        before = at(state, joint[0], joint[1:], parts)
        after, _ = round_fn(algorithm, before, federation)
        return jnp.concatenate([after.server.params["w"][None], after.clients.control["w"]])

    best = quadratics.optimum(GOLD["A"], GOLD["a"], parts)
    close(best, GOLD["optimum"], 1e-13)
    gradients = np.einsum("nij,nj->ni", GOLD["A"], best - GOLD["a"])
    rest = np.concatenate([best[None], gradients])
    moved, matrix = jax.jit(lambda z: (step(z), jax.jacfwd(step)(z)))(jnp.asarray(rest))
    close(moved, rest, 1e-14)
    matrix = np.asarray(matrix).reshape(6, 6)
    close(matrix, joint_map(GOLD["A"], GOLD["a"], parts, rate=0.1, steps=5, option=option), 1e-14)
    close(abs(np.linalg.eigvals(matrix)).max(), GOLD["rho"][option], 5e-13)


PRINTED = {
    ("II", 2): (0.9025, 0.814325, 0.73475975),
    ("II", 10): (0.58716961, 0.32397897, 0.17258727),
    ("I", 2): (0.9025, 0.8142625, 0.73465131),
    ("I", 10): (0.58716961, 0.30878189, 0.15704039),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("option", ["I", "II"])
def test_started_at_gradients_the_pair_does_not_see_how_far_apart_it_is(option):
    """f_1 = x^2 + G x and f_2 = -G x from x = 1."""
    round_fn, paths = everyone(), {}
    for steps in (2, 10):
        for G in (1.0, 10.0, 100.0):
            federation = quadratic_federation([[[2.0]], [[0.0]]], b=[[-G], [G]])
            algorithm = fh.algorithms.scaffold(
                of(federation, (1.0,)), full_batches(steps, 0.05), option=option, start="gradients"
            )
            state, path = begin(round_fn, algorithm, federation), []
            for _ in range(3):
                state, _ = one_round(round_fn, algorithm, state, federation)
                path.append(float(state.server.params["w"][0]))
            close(path, PRINTED[option, steps], 5.1e-9)
            paths[steps, G] = path
        close(paths[steps, 10.0], paths[steps, 1.0], 1e-12)
        close(paths[steps, 100.0], paths[steps, 1.0], 1e-11)


# --- the start at gradients -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_the_start_at_gradients(settings):
    """Everybody's own gradient, zero without rows; their weighted mean; a newcomer's, at the model of today."""
    setting = settings[True]
    algorithm = fh.algorithms.scaffold(
        setting.network, setting.solver(), weights="proportional", start="gradients"
    )
    round_fn = fh.make_round(fh.sampling.scripted(COHORTS), fh.executors.looped())
    state = begin(round_fn, algorithm, setting.federation)

    def gradient(params, k):
        if not len(setting.held[k]):
            return {name: np.zeros_like(value) for name, value in params.items()}
        return TanhNetwork.gradient(params, setting.x[setting.held[k]], setting.y[setting.held[k]])

    params = flat_network(state.server.params)
    own = [gradient(params, k) for k in range(len(SIZES))]
    for k, expected in enumerate(own):
        setting.same(flat_network(tree.take(state.clients.control, k)), expected)
    mean = {name: sum(n * g[name] for n, g in zip(SIZES, own)) / sum(SIZES) for name in params}
    setting.same(flat_network(state.server.control), mean)

    elsewhere = dataclasses.replace(
        state.server, params=jax.tree.map(lambda leaf: leaf + 0.1, state.server.params)
    )
    joined = fh.adapt(algorithm, elsewhere, setting.federation, key=jax.random.key(1))
    for k in (3, 4):
        now = gradient(flat_network(elsewhere.params), k)
        setting.same(flat_network(tree.take(joined.control, k)), now)


def _init(key):
    return Model({"w": jax.random.normal(key, (2,))}, {"batches": jnp.ones(())})


def _apply(params, buffers, x, key=None, train=False):
    return x @ params["w"][:, None], {"batches": buffers["batches"] + float(train)}


def counting(buffers):
    """(federation, a linear model that counts the batches it was trained on)."""
    rng = np.random.default_rng(0)
    pool = fh.pool(rng.normal(size=(12, 2)), rng.normal(size=(12, 1)), task="regression")
    parts = np.split(np.arange(12), [5, 6, 10])
    losses, metrics = defaults("regression")
    problem = Problem(_init, _apply, losses, metrics, Facts("counting", buffers=buffers))
    return fh.from_index_lists(pool, None, parts, test=0.0), problem


@pytest.mark.parametrize("start", ["zero", "gradients"])
@pytest.mark.parametrize("buffers", ["averaged", "local"])
def test_buffers_go_where_they_belong(buffers, start):
    """Averaged over the cohort or kept by their clients; the gradients of the start leave them alone."""
    federation, problem = counting(buffers)
    algorithm = fh.algorithms.scaffold(problem, fh.local.sgd(0.1, batch_size=2), start=start)
    round_fn = fh.make_round(fh.sampling.fixed([0, 1]), fh.executors.vmapped())
    state = begin(round_fn, algorithm, federation)
    after, _ = one_round(round_fn, algorithm, state, federation)
    if buffers == "averaged":
        assert state.server.buffers["batches"] == 1
        assert after.server.buffers["batches"] == 1 + (3 + 1) / 2
        assert after.clients.buffers == ()
        assert algorithm.consensus(after.server).buffers is after.server.buffers
    else:
        np.testing.assert_array_equal(state.clients.buffers["batches"], [1, 1, 1, 1])
        np.testing.assert_array_equal(after.clients.buffers["batches"], [4, 2, 1, 1])
        assert after.server.buffers == () and algorithm.consensus(after.server) is None


def test_seeds_start_at_their_own_gradients():
    federation, problem = counting("averaged")
    algorithm = fh.algorithms.scaffold(problem, fh.local.sgd(0.1, batch_size=2), start="gradients")
    round_fn, seeds = everyone(), jax.random.split(jax.random.key(0), 2)
    both = jax.vmap(lambda key: _initial(round_fn, algorithm, federation, key))(seeds)
    one = _initial(round_fn, algorithm, federation, seeds[1])
    np.testing.assert_allclose(both.clients.control["w"][1], one.clients.control["w"], rtol=1e-5)
    assert not np.allclose(both.clients.control["w"][0], one.clients.control["w"])


# --- linear functions: what c_i must be, whatever the steps ---------------------------------------------------

SLOPES = np.array([[1.0, -2.0], [3.0, 0.5], [-1.0, 4.0], [2.0, 2.0], [0.0, 0.0]])
ROWS = np.array([3, 1, 5, 2, 0])
"""F_k(w) = <slope_k, w>: the gradient is slope_k everywhere, so c_i+ of a client that moved is slope_i."""


def slopes(*, rate=0.1, batch_size=1, epochs=1, work, rounds=1, controls=None, shared=None, **options):
    """The state after rounds on the linear functions; clients with work 0 are absent."""
    federation = quadratic_federation(np.zeros((5, 2, 2)), b=-SLOPES, sizes=ROWS)
    solver = fh.local.sgd(rate, batch_size=batch_size, epochs=epochs)
    algorithm = fh.algorithms.scaffold(of(federation), solver, **options)
    round_fn = fh.make_round(late([range(5)], [work]), fh.executors.vmapped())
    state = begin(round_fn, algorithm, federation)
    if controls is not None:
        state = at(state, [0.0, 0.0], controls, np.full(5, 0.2))
        server = dataclasses.replace(state.server, control={"w": jnp.asarray(shared)})
        state = dataclasses.replace(state, server=server)
    for _ in range(rounds):
        state, _ = one_round(round_fn, algorithm, state, federation)
    return state


@pytest.mark.usefixtures("x64")
def test_the_correction_takes_the_clients_control_away_and_adds_the_servers():
    """y = x - eta sum (g_i - c_i + c): the other sign goes another way."""
    own, shared = np.arange(10.0).reshape(5, 2) / 7, np.array([0.3, -0.9])
    after = slopes(work=[1.0, 0, 0, 0, 0], controls=own, shared=shared)
    close(after.server.params["w"], -0.1 * ROWS[0] * (SLOPES[0] - own[0] + shared), 1e-14)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("option", ["I", "II"])
@pytest.mark.parametrize("weights", ["uniform", "proportional"])
def test_control_variates_move_and_the_servers_moves_by_everyones_part(weights, option):
    """Not zero for ever, and not by one part of the cohort: 1/5 each or n_k of 11, with two clients present."""
    after = slopes(work=[0, 1.0, 0, 1.0, 0], weights=weights, option=option)
    expected = np.zeros((5, 2))
    expected[[1, 3]] = SLOPES[[1, 3]]
    close(after.clients.control["w"], expected, 1e-13)
    parts = np.full(5, 0.2) if weights == "uniform" else ROWS / ROWS.sum()
    close(after.server.control["w"], parts @ expected, 1e-13)


@pytest.mark.usefixtures("x64")
def test_slow_clients_count_their_own_steps():
    """With K of the plan in place of their own, c_i of those who did half would be half the slope."""
    work = np.array([1.0, 0.5, 0.25, 0.1, 1.0])
    steps = np.round(work * 4 * ROWS)
    assert steps.tolist() == [12, 2, 5, 1, 0]
    after = slopes(epochs=4, work=work, rounds=3)
    close(after.clients.control["w"], SLOPES, 1e-12)
    close(after.server.control["w"], SLOPES.mean(axis=0), 1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("option", ["I", "II"])
def test_a_client_that_takes_no_step_keeps_its_control(option):
    own, shared = np.arange(10.0).reshape(5, 2) / 7, np.array([0.3, -0.9])
    after = slopes(work=[1.0, 0.3, 0, 0, 1.0], controls=own, shared=shared, option=option)
    np.testing.assert_array_equal(after.clients.control["w"][1:], own[1:])
    close(after.clients.control["w"][0], SLOPES[0], 1e-13)
    close(after.server.control["w"], shared + (SLOPES[0] - own[0]) / 5, 1e-13)
    moved = -0.1 * ROWS[0] * (SLOPES[0] - own[0] + shared)
    close(after.server.params["w"], moved / 2, 1e-13)  # client 1 came, with the model it was sent


def _rising(first, count):
    return first * count


@pytest.mark.usefixtures("x64")
def test_a_step_of_length_zero_teaches_nothing():
    """A schedule that begins at 0: client 1 takes that one step, and x - y = 0 says nothing of its gradient."""
    own, shared = np.arange(10.0).reshape(5, 2) / 7, np.array([0.3, -0.9])
    rate = fh.local.schedule(_rising, 0.1, unit="local")
    after = slopes(rate=rate, work=[1.0, 1.0, 0, 0, 0], controls=own, shared=shared)
    close(after.clients.control["w"][:2], [SLOPES[0], own[1]], 1e-13)
    close(after.server.control["w"], shared + (SLOPES[0] - own[0]) / 5, 1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("unit", ["step", "round"])
def test_the_rates_are_those_of_the_steps_taken(unit):
    """Neither the first rate nor the one after the schedule's last step, times K: sum_j eta_j."""
    rate = fh.local.geometric(0.2, 0.9, unit=unit)
    after = slopes(rate=rate, epochs=2, work=np.ones(5), rounds=3)
    close(after.clients.control["w"], SLOPES, 1e-12)
    close(after.server.control["w"], SLOPES.mean(axis=0), 1e-12)


@pytest.mark.usefixtures("x64")
def test_a_client_smaller_than_a_batch_trains():
    """Dropping the short last batch would leave it without a step, and K = 0 to divide by."""
    after = slopes(batch_size=4, epochs=2, work=[0, 1.0, 0, 1.0, 0])
    close(after.clients.control["w"][jnp.array([1, 3])], SLOPES[[1, 3]], 1e-12)
    close(after.server.params["w"], -0.1 * 2 * (SLOPES[1] + SLOPES[3]) / 2, 1e-13)


@pytest.mark.usefixtures("x64")
def test_the_mean_is_over_those_who_came_back():
    """One of three drawn clients has no rows and one reports NaN: x moves by the third's update, undivided."""
    linear = -SLOPES.copy()
    federation = quadratic_federation(np.zeros((5, 2, 2)), b=linear, sizes=ROWS)
    federation = dataclasses.replace(federation, y=federation.y.at[2].set(jnp.nan))
    algorithm = fh.algorithms.scaffold(of(federation), fh.local.sgd(0.1, batch_size=1, epochs=1))
    round_fn = fh.make_round(fh.sampling.fixed([0, 2, 4]), fh.executors.vmapped(), on_nonfinite="drop")
    state, log = one_round(round_fn, algorithm, begin(round_fn, algorithm, federation), federation)
    np.testing.assert_array_equal(log["present"], [True, False, False])
    close(state.server.params["w"], -0.1 * ROWS[0] * SLOPES[0], 1e-14)
    close(state.server.control["w"], SLOPES[0] / 5, 1e-14)


@pytest.mark.usefixtures("x64")
def test_option_ii_of_a_solver_that_stops_early():
    """On quadratics c_i+ is the mean gradient along the way gone, which is shorter than the plan."""
    A, a = quadratics.functions()
    federation = quadratic_federation(A, a, sizes=[1, 1, 1, 1])
    local = fh.local.inexact(fh.local.sgd(0.1, batch_size=None, epochs=200), 0.3)
    algorithm = fh.algorithms.scaffold(of(federation, (1.0, 1.0, 1.0)), local)
    round_fn = everyone()
    state, log = one_round(round_fn, algorithm, begin(round_fn, algorithm, federation), federation)
    taken = np.asarray(log["info"]["steps"])
    assert (taken < 200).all() and (taken > 0).all() and len(set(taken)) > 1
    for k, steps in enumerate(taken):
        w, seen = np.ones(3), []
        for _ in range(steps):
            seen.append(A[k] @ (w - a[k]))
            w = w - 0.1 * seen[-1]
        close(state.clients.control["w"][k], np.mean(seen, axis=0), 1e-12)


# --- bad input ------------------------------------------------------------------------------------------------


def test_bad_input_is_told(settings):
    problem = settings[False].problem
    plain, momentum = fh.local.sgd(0.1, batch_size=4), fh.local.sgd(0.1, batch_size=4, momentum=0.9)
    for solver in (momentum, fh.local.from_optax(optax.adam, learning_rate=0.1, batch_size=4)):
        with pytest.raises(ValueError, match=r"option must be 'I' .* pass option='I', or fh.local.sgd"):
            fh.algorithms.scaffold(problem, solver)
    assert fh.algorithms.scaffold(problem, momentum, option="I").option == "I"
    with pytest.raises(ValueError, match=r"weights must be one of .* did you mean 'proportional'"):
        fh.algorithms.scaffold(problem, plain, weights="proportionally")
    with pytest.raises(ValueError, match=r"start must be one of .* did you mean 'gradients'"):
        fh.algorithms.scaffold(problem, plain, start="gradient")
    with pytest.raises(ValueError, match="server_learning_rate must be > 0"):
        fh.algorithms.scaffold(problem, plain, server_learning_rate=-1)

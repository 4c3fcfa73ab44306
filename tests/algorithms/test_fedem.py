"""FedEM: against a loop, its likelihood, how clients predict, newcomers, and what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import mixture_em as loops
from reference.models import Softmax
from reference.setting import (
    BATCH,
    CLASSES,
    COHORTS,
    FEATURES,
    RATE,
    SIZES,
    in_jax,
    softmax_start,
    three_rounds,
    to_numpy,
)

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.algorithms.mixture import mixed_means, mixed_probabilities, mixture
from fedjax_het.assembly import assemble
from fedjax_het.engine.blocks import block
from fedjax_het.engine.state import initial_state
from fedjax_het.problem import Facts, Model

many_rounds = jax.jit(block, static_argnames="rounds")

STARTS = [softmax_start(seed) for seed in (0, 1, 2)]


def server_of(starts):
    """Replace the server's components."""

    def change(state):
        params = {"head": in_jax({name: np.stack([one[name] for one in starts]) for name in starts[0]})}
        return dataclasses.replace(state, server=dataclasses.replace(state.server, params=params))

    return change


def begin(algorithm, federation, sampler=None, change=lambda state: state, measures=None):
    """(round, state)."""
    sampler = fh.sampling.everyone() if sampler is None else sampler
    round_fn = fh.make_round(sampler, fh.executors.vmapped(), measures)
    key = jax.random.key(0)
    return round_fn, change(initial_state(algorithm, federation, key=key, round_fn=round_fn))


# --- against the loop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("momentum", "x64"), [(None, True), (0.9, True), (None, False)])
def test_it_is_the_loop_of_the_paper(settings, momentum, x64):
    """Means by rows held over the cohort; momentum begins anew each round; who is absent keeps its pi."""
    setting = settings[x64]
    with jax.enable_x64(x64):
        algorithm = fh.algorithms.fedem(setting.problem, setting.solver(momentum), components=3)
        state, log = three_rounds(algorithm, setting.federation, setting.key, server_of(STARTS))
    components, mixtures = loops.fedem(
        Softmax,
        STARTS,
        setting.x,
        setting.y,
        setting.held,
        setting.batches,
        COHORTS,
        rate=RATE,
        momentum=momentum or 0.0,
    )
    for m, component in enumerate(components):
        setting.same(to_numpy(tree.take(state.server.params, m)["head"]), component)
    limit = {"rtol": setting.tolerance, "atol": setting.tolerance}
    np.testing.assert_allclose(state.clients.weights, np.stack(mixtures), **limit)
    np.testing.assert_allclose(np.asarray(state.clients.weights).sum(axis=1), 1, 0, setting.tolerance)
    third = np.asarray(1 / 3, state.clients.weights.dtype)
    np.testing.assert_array_equal(state.clients.weights[4], third, err_msg="the empty client")
    assert np.abs(np.stack(mixtures)[0] - 1 / 3).max() > 0.05
    steps = [[len(setting.batches[t][k]) for k in cohort] for t, cohort in enumerate(COHORTS)]
    np.testing.assert_array_equal(np.asarray(log["info"]["steps"]), steps)


@pytest.mark.usefixtures("x64")
def test_the_mean_is_by_rows_held_and_not_by_responsibility(settings):
    """Two clients of which each owns one component: with full batches and one step both means are known."""
    setting = settings[True]
    solver = fh.local.sgd(RATE, batch_size=None, epochs=1)
    algorithm = fh.algorithms.fedem(setting.problem, solver, components=2)
    far = [{**one, "bias": one["bias"] + 3 * np.eye(CLASSES)[m]} for m, one in enumerate(STARTS[:2])]
    round_fn, state = begin(algorithm, setting.federation, fh.sampling.fixed([2, 5]), server_of(far))
    after, _ = many_rounds(round_fn, algorithm, state, setting.federation, rounds=1)
    by_rows = [{name: np.zeros_like(value) for name, value in one.items()} for one in far]
    by_share = [{name: np.zeros_like(value) for name, value in one.items()} for one in far]
    masses = np.zeros(2)
    for k in (2, 5):
        x, y = setting.x[setting.held[k]], setting.y[setting.held[k]]
        q = loops.expect(Softmax, far, [0.5, 0.5], x, y)
        for m in range(2):
            slopes = [Softmax.gradient(far[m], x[i : i + 1], y[i : i + 1]) for i in range(len(y))]
            masses[m] += q[:, m].sum()
            for name in far[m]:
                end = far[m][name] - RATE * sum(q[i, m] * s[name] for i, s in enumerate(slopes)) / len(y)
                by_rows[m][name] += len(y) * end / (SIZES[2] + SIZES[5])
                by_share[m][name] += q[:, m].sum() * end
    for m in range(2):
        setting.same(to_numpy(tree.take(after.server.params, m)["head"]), by_rows[m])
        apart = max(np.abs(by_share[m][name] / masses[m] - by_rows[m][name]).max() for name in far[m])
        assert apart > 1e-3


# --- expectation and maximisation -----------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_full_gradient_steps_of_everybody_never_lower_the_likelihood(settings):
    setting = settings[True]
    solver = fh.local.sgd(0.3, batch_size=None, epochs=1)
    algorithm = fh.algorithms.fedem(setting.problem, solver, components=3)
    round_fn, state = begin(algorithm, setting.federation, change=server_of(STARTS))

    def likelihood(state):
        components = [to_numpy(tree.take(state.server.params, m)["head"]) for m in range(3)]
        rows = [(setting.x[held], setting.y[held]) for held in setting.held]
        mixtures = np.asarray(state.clients.weights)
        return sum(loops.likelihood(Softmax, components, pi, x, y) for pi, (x, y) in zip(mixtures, rows))

    path = [likelihood(state)]
    for _ in range(12):
        state, _ = many_rounds(round_fn, algorithm, state, setting.federation, rounds=1)
        path.append(likelihood(state))
    assert np.all(np.diff(path) > 0) and path[-1] > path[0] + 10


@pytest.mark.usefixtures("x64")
def test_equal_components_stay_equal_and_pi_stays_what_it_is(settings):
    setting = settings[True]
    algorithm = fh.algorithms.fedem(setting.problem, setting.solver(), components=2)
    round_fn, state = begin(algorithm, setting.federation, change=server_of([STARTS[0]] * 2))
    state, _ = many_rounds(round_fn, algorithm, state, setting.federation, rounds=2)
    np.testing.assert_allclose(state.clients.weights, 0.5, 1e-12)
    setting.same(*(to_numpy(tree.take(state.server.params, m)["head"]) for m in range(2)))


def test_components_start_apart(settings):
    """Also those of a convex problem, which starts at zero; the first one is every other method's start."""
    setting = settings[False]
    for problem in (setting.problem, setting.network):
        algorithm = fh.algorithms.fedem(problem, setting.solver(), components=3)
        _, state = begin(algorithm, setting.federation)
        _, other = begin(fh.algorithms.fedavg(problem, setting.solver()), setting.federation)
        for leaf, start in zip(jax.tree.leaves(state.server.params), jax.tree.leaves(other.server.params)):
            np.testing.assert_array_equal(leaf[0], start)
        kernels = [leaf for leaf in jax.tree.leaves(state.server.params) if leaf.ndim == 3]
        for a, b in ((0, 1), (1, 2), (0, 2)):
            assert all(np.abs(np.asarray(leaf[a] - leaf[b])).mean() > 0.05 for leaf in kernels)
    biases = [leaf for leaf in jax.tree.leaves(state.server.params) if leaf.ndim == 2]
    assert all(np.all(np.asarray(leaf) == 0) for leaf in biases), "a network's own starts are left as they are"


def rules(seed=0):
    """Twelve clients of 80 rows, of which each follows one of two opposite rules with a share of its own."""
    rng = np.random.default_rng(seed)
    share = np.linspace(0, 1, 12)
    x = rng.normal(size=(12 * 120, 3))
    first = rng.random(len(x)) < np.repeat(share, 120)
    score = np.where(first, x @ [2.0, 1.0, 0.0], x @ [-1.0, 1.5, 1.5])
    y = (score > 0).astype(int)
    pool = fh.pool(x, y, num_classes=2)
    held = np.split(np.arange(len(x)), 12)
    federation = assemble(pool, [rows[:80] for rows in held], test=[rows[80:] for rows in held])
    return federation, fh.models.softmax(pool), share


def test_shares_of_two_rules_are_found():
    """The matched distance of pi is small, and clients beat the one model that averaging finds."""
    federation, problem, share = rules()
    solver = fh.local.sgd(0.5, batch_size=20, epochs=2)
    algorithm = fh.algorithms.fedem(problem, solver, components=2)
    average = fh.algorithms.fedavg(problem, solver)
    right = {}
    for name, method in (("mixture", algorithm), ("average", average)):
        round_fn, state = begin(method, federation)
        state, _ = many_rounds(round_fn, method, state, federation, rounds=40)
        right[name] = np.asarray(fh.evaluate(method, state, federation).personal["accuracy"])
        if name == "mixture":
            found = np.asarray(state.clients.weights)[:, 0]
    distance = 2 * min(np.abs(found - share).mean(), np.abs(1 - found - share).mean())
    assert distance < 0.15
    assert right["mixture"].mean() > right["average"].mean() + 0.1
    assert right["mixture"][[0, -1]].min() > 0.9 > right["average"][[0, -1]].max()


# --- prediction -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_probabilities_are_mixed_and_not_logits(settings):
    setting = settings[True]
    algorithm = fh.algorithms.fedem(setting.problem, setting.solver(), components=3)
    weights = np.array([0.6, 0.4, 0.0])
    params = {"head": in_jax({name: np.stack([one[name] for one in STARTS]) for name in STARTS[0]})}
    model = Model({"components": params, "weights": jnp.asarray(weights)}, ())
    x = setting.x[:7]
    logits = [x @ one["kernel"] + one["bias"] for one in STARTS]
    each = [np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in logits]
    expected = sum(w * p for w, p in zip(weights, each))
    out = algorithm.predict(model, jnp.asarray(x))
    np.testing.assert_allclose(jax.nn.softmax(out, axis=-1), expected, 1e-9)
    np.testing.assert_allclose(jnp.exp(out).sum(-1), 1, 1e-9)
    y = jnp.asarray(setting.y[:7])
    np.testing.assert_allclose(
        setting.problem.losses(out, y), -np.log(expected[np.arange(7), setting.y[:7]]), 1e-9
    )
    blend = np.exp(sum(w * z for w, z in zip(weights, logits)))
    assert np.abs(blend / blend.sum(axis=1, keepdims=True) - expected).max() > 0.01


def test_a_component_without_weight_does_not_make_a_prediction_infinite():
    logs = jnp.log(jnp.asarray([1.0, 1e-12]))
    outs = jnp.asarray([[[800.0, 0.0]], [[0.0, 800.0]]])
    assert bool(jnp.all(jnp.isfinite(mixed_probabilities(logs, outs))))
    np.testing.assert_allclose(
        mixed_means(jnp.log(jnp.asarray([0.25, 0.75])), jnp.asarray([[1.0], [5.0]])), [4.0], 1e-6
    )


@pytest.mark.usefixtures("x64")
def test_a_mixture_of_regressions_predicts_its_mean_and_reads_its_noise():
    """With loss 1/2 (z - y)^2 the E-step needs the noise's variance."""
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(40, 2)), 0.2
    y = x @ [1.0, 0.0] + noise * rng.normal(size=40)
    pool = fh.pool(x, y, task="regression")
    federation = fh.from_index_lists(pool, None, [np.arange(40)], test=0.0)
    solver = fh.local.sgd(0.1, batch_size=None, epochs=1)
    algorithm = fh.algorithms.fedem(fh.models.linear(pool, bias=False), solver, components=2, variance=noise**2)
    round_fn, state = begin(algorithm, federation)
    kernels = np.array([[1.0, 0.0], [0.5, 0.5]])
    server = dataclasses.replace(state.server, params={"head": {"kernel": jnp.asarray(kernels)[..., None]}})
    state = dataclasses.replace(state, server=server)
    after, _ = many_rounds(round_fn, algorithm, state, federation, rounds=1)
    density = np.exp(-((x @ kernels.T - np.asarray(pool.y)[:, None]) ** 2) / (2 * noise**2))
    expected = (density / density.sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(after.clients.weights[0], expected, 1e-9)
    model = Model({"components": state.server.params, "weights": jnp.asarray([0.25, 0.75])}, ())
    out = algorithm.predict(model, jnp.asarray(x))
    np.testing.assert_allclose(out, x.astype(np.float64) @ kernels.T @ [0.25, 0.75], 1e-9)


# --- newcomers ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_newcomers_find_their_shares_by_em_with_the_components_held(settings):
    """To the loop's digits after a few steps; after many, at the maximum of their likelihood."""
    setting = settings[True]
    found = {}
    for steps in (3, 2000):
        algorithm = fh.algorithms.fedem(setting.problem, setting.solver(), components=3, iterations=steps)
        _, state = begin(algorithm, setting.federation, change=server_of(STARTS))
        joined = fh.adapt(algorithm, state.server, setting.federation, key=jax.random.key(1))
        found[steps] = np.asarray(joined.weights)
    for k in (0, 2, 5):
        x, y = setting.x[setting.held[k]], setting.y[setting.held[k]]
        np.testing.assert_allclose(found[3][k], loops.newcomer(Softmax, STARTS, x, y, 3), 1e-9)
        best = loops.likelihood(Softmax, STARTS, found[2000][k], x, y)
        assert best >= loops.likelihood(Softmax, STARTS, found[3][k], x, y)
        for other in np.random.default_rng(k).dirichlet(np.ones(3), 200):
            assert loops.likelihood(Softmax, STARTS, other, x, y) <= best + 1e-6
    np.testing.assert_allclose(found[3][4], 1 / 3, 1e-12, err_msg="no rows, no evidence")
    np.testing.assert_allclose(found[2000].sum(axis=1), 1, 1e-12)


# --- bad input ------------------------------------------------------------------------------------------------


def _own(out, y):
    return jnp.abs(out[..., 0] - y)


def test_bad_input(settings):
    problem, solver = settings[False].problem, settings[False].solver()
    fedem = fh.algorithms.fedem
    unlikely = dataclasses.replace(problem, facts=Facts("margins", linear=True, convex=True))
    with pytest.raises(ValueError, match="problem must have a negative log-likelihood as its loss for fedem"):
        fedem(unlikely, solver)
    strange = dataclasses.replace(problem, losses=_own)
    with pytest.raises(ValueError, match="mix must be given for 'softmax'"):
        fedem(strange, solver)
    assert fedem(strange, solver, mix=mixed_means).component.losses is _own
    with pytest.raises(TypeError, match="mix must be a function"):
        fedem(problem, solver, mix="means")
    for components, error in ((0, ValueError), (2.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="components must be"):
            fedem(problem, solver, components=components)
    with pytest.raises(ValueError, match="variance must be > 0"):
        fedem(problem, solver, variance=0.0)
    with pytest.raises(ValueError, match="iterations must be >= 1"):
        fedem(problem, solver, iterations=0)
    with pytest.raises(TypeError, match="problem must come before solver"):
        fedem(solver, problem)


def test_a_mixture_made_twice_is_one_program(settings):
    problem = settings[False].problem
    assert jax.tree.structure(mixture(problem, 2)) == jax.tree.structure(mixture(problem, 2))
    assert jax.tree.structure(mixture(problem, 2)) != jax.tree.structure(mixture(problem, 3))


def test_traffic_is_all_components_both_ways(settings):
    setting = settings[False]
    algorithm = fh.algorithms.fedem(setting.problem, setting.solver(), components=3)
    server, _ = jax.eval_shape(algorithm.init, jax.random.key(0), setting.federation)
    size = 3 * 4 * (FEATURES + 1) * CLASSES
    assert algorithm.traffic(server) == fh.algorithm.Traffic(size, size)
    assert setting.solver().plan.batch_size == BATCH

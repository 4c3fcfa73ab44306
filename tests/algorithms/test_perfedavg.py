"""Per-FedAvg: against a NumPy loop, its fixed points in closed form, its variants, and honest adaptation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import quadratics
from reference.batches import recorded
from reference.meta import adapted, perfedavg_limit
from reference.meta import perfedavg as loop
from reference.models import Softmax, TanhNetwork
from reference.setting import (
    BATCH,
    COHORTS,
    EPOCHS,
    RATE,
    SIZES,
    flat_network,
    server_start,
    softmax_start,
    three_rounds,
    to_numpy,
)
from reference.used import trained, used

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.algorithms import perfedavg
from fedjax_het.engine.blocks import block
from fedjax_het.models import quadratic, quadratic_federation
from fedjax_het.pool import Pool

many_rounds = jax.jit(block, static_argnames="rounds")
evaluate = jax.jit(fh.evaluate, static_argnames="split")

STEPS = [EPOCHS * -(-size // BATCH) for size in SIZES]


@pytest.fixture(scope="module")
def batches(settings):
    """Three times as many batches as there are steps."""
    setting = settings[True]
    with jax.enable_x64(True):
        plan = fh.local.plan(batch_size=BATCH, epochs=3 * EPOCHS)
        return recorded(plan, setting.federation, setting.key, len(COHORTS))


def test_batches_of_their_own_follow_one_another(settings, batches):
    """The first are those of other methods; three a step, across the ends of epochs."""
    for mine, others in zip(batches, settings[True].batches):
        for k, steps in enumerate(others):
            assert len(mine[k]) == 3 * len(steps)
            for a, b in zip(mine[k], steps):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("variant", "separate", "momentum", "network", "x64"),
    [
        ("exact", True, None, True, True),
        ("exact", False, 0.9, False, True),
        ("fo", True, None, True, True),
        ("fo", False, None, False, True),
        ("hf", True, 0.9, False, True),
        ("exact", True, None, False, False),
        ("fo", True, 0.9, False, False),
        ("hf", True, None, False, False),
    ],
)
def test_it_is_the_loop_of_the_paper(settings, batches, variant, separate, momentum, network, x64):
    setting, seen = settings[x64], {}
    flat = flat_network if network else (lambda params: to_numpy(params["head"]))
    model = TanhNetwork if network else Softmax
    delta = 1e-3 if x64 else 1e-2

    def look(state):
        state = state if network else server_start(softmax_start())(state)
        seen.update(flat(state.server.params))
        return state

    with jax.enable_x64(x64):
        algorithm = perfedavg(
            setting.network if network else setting.problem,
            setting.solver(momentum),
            alpha=0.2,
            variant=variant,
            separate=separate,
            delta=delta,
            adaptation=2,
        )
        state, log = three_rounds(algorithm, setting.federation, setting.key, look)
        models = used(algorithm, state, setting.federation)
    w = loop(
        model,
        seen,
        setting.x,
        setting.y,
        setting.held,
        batches,
        COHORTS,
        rate=RATE,
        alpha=0.2,
        variant=variant,
        separate=separate,
        delta=delta,
        momentum=momentum or 0.0,
        steps=STEPS,
    )
    setting.same(flat(state.server.params), w)
    setting.same(flat(algorithm.consensus(state.server).params), w)
    for k, rows in enumerate(setting.held):
        expected = adapted(model, w, setting.x, setting.y, rows, alpha=0.2, steps=2)
        setting.same(flat(tree.take(models.params, k)), expected)
    np.testing.assert_array_equal(log["info"]["steps"], [[STEPS[k] for k in cohort] for cohort in COHORTS])


def meta_slope(A, a, w, alpha):
    """The gradient of the mean of F_k(w - alpha grad F_k(w)), from the chain rule."""
    slopes = []
    for matrix, point in zip(A, a):
        ahead = w - alpha * matrix @ (w - point)
        slopes.append((np.eye(len(w)) - alpha * matrix) @ matrix @ (ahead - point))
    return np.mean(slopes, axis=0)


def reached(A, a, rounds=3000, **numbers):
    federation = quadratic_federation(A, a, sizes=[1, 2, 3, 6])
    steps = numbers.pop("steps", 1)
    pool = Pool(federation.x, federation.y, federation.spec.pool)
    algorithm = perfedavg(quadratic(pool), fh.local.sgd(0.3, batch_size=None, steps=steps), **numbers)
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    state, _ = many_rounds(round_fn, algorithm, state, federation, rounds=rounds)
    return np.asarray(state.server.params["w"]), np.asarray(used(algorithm, state, federation).params["w"])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("variant", ["exact", "fo", "hf"])
def test_fixed_points_on_quadratics(variant):
    """Clients of unequal sizes count alike. One step finds the method's own optimum, more steps drift."""
    (A, a), alpha = quadratics.functions(), 0.25
    limits = {}
    for steps in (1, 5):
        w, personal = reached(A, a, alpha=alpha, variant=variant, steps=steps)
        limits[steps] = perfedavg_limit(A, a, rate=0.3, alpha=alpha, steps=steps, variant=variant)
        np.testing.assert_allclose(w, limits[steps], rtol=0, atol=1e-9)
        expected = w - alpha * np.einsum("nij,nj->ni", A, w - a)
        np.testing.assert_allclose(personal, expected, rtol=0, atol=1e-12)
    slope = np.abs(meta_slope(A, a, limits[1], alpha)).max()
    assert slope > 1e-3 if variant == "fo" else slope < 1e-12
    assert np.abs(limits[1] - limits[5]).max() > 1e-3


@pytest.mark.usefixtures("x64")
def test_without_the_inner_step_it_is_the_uniform_optimum():
    A, a = quadratics.functions()
    w, personal = reached(A, a, alpha=0.0)
    best = quadratics.optimum(A, a, np.full(4, 0.25))
    np.testing.assert_allclose(w, best, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(personal, np.broadcast_to(w, personal.shape))
    assert np.abs(perfedavg_limit(A, a, rate=0.3, alpha=0.25, steps=1, variant="exact") - best).max() > 1e-3


def test_the_hessian_free_product_is_exact_to_second_order(settings):
    """Of the gradient as it is, not normalised: ten times smaller a delta, a hundred times smaller an error."""
    setting = settings[True]
    with jax.enable_x64(True):

        def end(**numbers):
            algorithm = perfedavg(setting.network, setting.solver(), alpha=0.5, **numbers)
            state, _ = trained(algorithm, setting.federation, setting.key)
            return flat_network(state.server.params)

        exact = end()
        errors = []
        for delta in (1e-1, 1e-2):
            rough = end(variant="hf", delta=delta)
            errors.append(max(np.abs(rough[name] - exact[name]).max() for name in exact))
        first_order = end(variant="fo", separate=False)
        without = end(separate=False)
    assert 80 < errors[0] / errors[1] < 120
    assert max(np.abs(first_order[name] - without[name]).max() for name in without) > 100 * errors[0]


@functools.cache
def averaged(setting, batch_size):
    """(solver, state, log) of uniform federated averaging with momentum, in float32."""
    solver = fh.local.sgd(RATE, batch_size=batch_size, epochs=EPOCHS, momentum=0.9)
    average = dataclasses.replace(
        fh.algorithms.fedavg(setting.network, solver), weighting=fh.weighting.uniform()
    )
    return solver, *trained(average, setting.federation, setting.key)


@pytest.mark.parametrize(("variant", "full"), [("exact", True), ("exact", False), ("fo", False), ("hf", True)])
def test_without_the_inner_step_it_is_federated_averaging(settings, variant, full):
    """To the bit, uniform, where all gradients of a step are of one batch."""
    setting = settings[False]
    solver, expected, plain = averaged(setting, None if full else BATCH)
    algorithm = perfedavg(setting.network, solver, alpha=0.0, variant=variant, separate=False)
    got, log = trained(algorithm, setting.federation, setting.key)
    for a, b in zip(jax.tree.leaves((got.server, log)), jax.tree.leaves((expected.server, plain)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_adaptation_reads_training_rows_only(settings):
    """Other test labels, other validation labels: the same models. Other training labels: others."""
    setting = settings[False]
    pool = fh.pool(setting.x, setting.y, num_classes=3)
    federation = fh.from_index_lists(pool, None, setting.held, test=0.3, valid=0.2)
    algorithm = perfedavg(setting.network, setting.solver(), alpha=0.2, adaptation=3)
    state, _ = trained(algorithm, federation, setting.key)

    def relabelled(split):
        rows = federation.rows(split)
        held = np.concatenate(
            [np.asarray(rows.index)[o : o + s] for o, s in zip(rows.offset[0].tolist(), rows.size[0].tolist())]
        )
        assert len(held)
        return dataclasses.replace(federation, y=federation.y.at[held].set((federation.y[held] + 1) % 3))

    before = used(algorithm, state, federation)
    for split in ("test", "valid", "train"):
        after = used(algorithm, state, relabelled(split))
        same = all(bool(jnp.all(a == b)) for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(before)))
        assert same == (split != "train"), split


def test_the_global_model_is_scored_as_it_is_and_the_clients_after_their_steps(settings):
    setting = settings[False]
    algorithm = perfedavg(setting.problem, setting.solver(), alpha=0.5, adaptation=3)
    state, _ = trained(algorithm, setting.federation, setting.key)
    seen = evaluate(algorithm, state, setting.federation, split="train")
    here = np.array(SIZES) > 0
    assert (np.asarray(seen.personal["loss"])[here] < np.asarray(seen.shared["loss"])[here]).all()
    none = dataclasses.replace(algorithm, adaptation=jnp.zeros((), jnp.int32))
    unadapted = evaluate(none, state, setting.federation, split="train")
    np.testing.assert_allclose(unadapted.personal["loss"], unadapted.shared["loss"], rtol=1e-5)


@pytest.mark.parametrize(
    ("numbers", "error", "message"),
    [
        ({"alpha": -0.1}, ValueError, "alpha must be >= 0.*0 is FedAvg"),
        ({"delta": 0.0}, ValueError, "delta must be > 0"),
        ({"adaptation": -1}, ValueError, "adaptation must be >= 0"),
        ({"adaptation": 1.5}, TypeError, "adaptation must be a whole number"),
        ({"variant": "first"}, ValueError, "variant must be one of the names below"),
        ({"separate": 1}, TypeError, "separate must be true or false, got 1"),
    ],
)
def test_bad_input(settings, numbers, error, message):
    with pytest.raises(error, match=message):
        perfedavg(settings[False].problem, settings[False].solver(), **numbers)

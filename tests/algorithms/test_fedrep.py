"""FedRep: the head first, then the body, and the head once more before the model is used."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import partial as by_hand
from reference.models import TanhNetwork
from reference.setting import COHORTS, RATE, SIZES, WIDTH, flat_network, three_rounds

import fedjax_het as fh
from fedjax_het import keys, tree
from fedjax_het.engine.evaluate import every_client
from fedjax_het.engine.slots import make_client
from fedjax_het.models import mlp

HEAD = ["out_kernel", "out_bias"]
HEADS, BODIES, FINAL = 3, 2, 4


def build(setting, l2=None, momentum=None, **numbers):
    network = mlp(setting.federation.pool, hidden=(WIDTH,), activation="tanh", l2=l2)
    numbers = {"head_epochs": HEADS, "body_epochs": BODIES, "final_epochs": FINAL, **numbers}
    return fh.algorithms.fedrep(network, setting.solver(momentum), **numbers)


def looked_at(start):
    def look(state):
        start.update(flat_network(tree.combine(tree.take(state.clients.params, 0), state.server.params)))
        return state

    return look


def client_of(algorithm, setting, state, k):
    slots = every_client(algorithm, state, setting.federation, jnp.int32(0))
    return make_client(setting.federation, tree.take(slots, k), keys.stream(state.key, "asked"), state.round)


@pytest.mark.parametrize(("x64", "momentum", "l2"), [(True, None, None), (True, 0.9, 0.05), (False, 0.5, 0.05)])
def test_against_loops(settings, x64, momentum, l2):
    """With momentum and a ridge term, which must not move what is held."""
    setting, start = settings[x64], {}
    with jax.enable_x64(x64):
        algorithm = build(setting, l2, momentum)
        state, log = three_rounds(algorithm, setting.federation, setting.key, looked_at(start))
        own = by_hand.passes(algorithm.own.plan, setting.federation, setting.key, 3, "own")
        then = by_hand.passes(algorithm.solver.plan, setting.federation, setting.key, 3)
    shared, heads = by_hand.partial(
        TanhNetwork,
        start,
        setting.x,
        setting.y,
        setting.held,
        then,
        COHORTS,
        rate=RATE,
        personal=HEAD,
        own=own,
        momentum=momentum or 0.0,
        ridge=l2 or 0.0,
    )
    for k, head in enumerate(heads):
        params = tree.combine(tree.take(state.clients.params, k), state.server.params)
        setting.same(flat_network(params), {**shared, **head})
    steps = [[len(own[t][k]) + len(then[t][k]) for k in cohort] for t, cohort in enumerate(COHORTS)]
    np.testing.assert_array_equal(log["info"]["steps"], steps)


def test_the_passes_read_the_rows_in_different_orders(settings):
    setting = settings[True]
    with jax.enable_x64(True):
        algorithm = build(setting)
        own = by_hand.passes(algorithm.own.plan, setting.federation, setting.key, 1, "own")[0][5]
        then = by_hand.passes(algorithm.solver.plan, setting.federation, setting.key, 1)[0][5]
    assert len(own) == HEADS * 5 and len(then) == BODIES * 5
    for steps in (own, then):
        np.testing.assert_array_equal(np.sort(np.concatenate(steps[:5])), np.sort(setting.held[5]))
    assert not np.array_equal(np.concatenate(own[:5]), np.concatenate(then[:5]))


def test_heads_are_tuned_to_the_body_before_use(settings):
    setting = settings[True]
    with jax.enable_x64(True):
        algorithm = build(setting, momentum=0.5)
        state, _ = three_rounds(algorithm, setting.federation, setting.key)
        asked = jax.jit(lambda a, s, c: a.personalise(s, c))
        for k in (4, 5, 6):
            client = client_of(algorithm, setting, state, k)
            before = flat_network(algorithm.combined(state.server, client.state).params)
            got = flat_network(asked(algorithm, state.server, client).params)
            key = keys.stream(client.key, "final")
            steps = by_hand.orders(algorithm.final.plan, setting.federation, lambda _, key=key: key)[k]
            assert len(steps) == FINAL * -(-SIZES[k] // 4)
            expected = by_hand.descend(
                TanhNetwork, before, setting.x, setting.y, steps, RATE, HEAD, momentum=0.5
            )
            setting.same(got, expected)
            same = all(np.array_equal(before[name], got[name]) for name in HEAD)
            assert same == (SIZES[k] == 0)
        as_it_is = dataclasses.replace(algorithm, final=None)
        kept = flat_network(as_it_is.personalise(state.server, client).params)
        none = build(setting, momentum=0.5, final_epochs=0)
        setting.same(flat_network(asked(none, state.server, client).params), kept)


def test_the_defaults_are_the_authors(settings):
    setting = settings[False]
    algorithm = fh.algorithms.fedrep(setting.network, setting.solver())
    amounts = [int(part.plan.amount) for part in (algorithm.own, algorithm.solver, algorithm.final)]
    assert amounts == [10, 1, 10]
    by_steps = fh.algorithms.fedrep(setting.network, fh.local.sgd(0.1, batch_size=4, steps=7))
    units = {part.plan.unit for part in (by_steps.own, by_steps.solver, by_steps.final)}
    assert units == {"epochs"}, "the solver's own amount of work is replaced, its unit too"
    other = fh.algorithms.fedrep(setting.network, setting.solver(), head_epochs=3)
    assert jax.tree.structure(other) == jax.tree.structure(algorithm), "epochs are leaves"


def test_a_straggler_does_a_part_of_both_passes(settings):
    setting = settings[True]
    with jax.enable_x64(True):
        algorithm = build(setting, head_epochs=4, body_epochs=2)
        round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
        state = fh.initial_state(algorithm, setting.federation, key=setting.key, round_fn=round_fn)
        client = dataclasses.replace(client_of(algorithm, setting, state, 5), work=jnp.asarray(0.5))
        report = algorithm.client_update(state.server, client)
    assert int(report.info["steps"]) == (4 + 2) * 5 // 2


def test_held_leaves_stay_under_any_rule(settings):
    """Decoupled weight decay and Adam move every leaf that they are given, whatever its gradient."""
    setting = settings[True]
    with jax.enable_x64(True):
        solver = fh.local.from_optax(optax.adamw, learning_rate=0.1, weight_decay=0.3, batch_size=4)
        algorithm = fh.algorithms.fedrep(setting.network, solver, head_epochs=2)
        round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
        state = fh.initial_state(algorithm, setting.federation, key=setting.key, round_fn=round_fn)
        client = client_of(algorithm, setting, state, 5)
        start = algorithm.combined(state.server, client.state)
        first = jax.jit(lambda a, m, c: a.alone(a.own, keys.stream(c.key, "own"), m, c))(
            algorithm, start, client
        )
        report = jax.jit(lambda a, s, c: a.client_update(s, c))(algorithm, state.server, client)
    jax.tree.map(np.testing.assert_array_equal, first.params["dense_0"], start.params["dense_0"])
    jax.tree.map(np.testing.assert_array_equal, report.state.params["head"], first.params["head"])
    assert not np.allclose(report.local.params["dense_0"]["kernel"], start.params["dense_0"]["kernel"])
    assert not np.allclose(report.state.params["head"]["kernel"], start.params["head"]["kernel"])


def test_a_newcomer_is_tuned_when_it_is_served(settings):
    setting = settings[True]
    with jax.enable_x64(True):
        algorithm = build(setting, final_epochs=20)
        state, _ = three_rounds(algorithm, setting.federation, setting.key)
        clients = fh.adapt(algorithm, state.server, setting.federation, key=jax.random.key(2))
        joined = dataclasses.replace(state, clients=clients)
        tuned = fh.evaluate(algorithm, joined, setting.federation, split="train")
        idle = dataclasses.replace(algorithm, final=None)
        fresh = fh.evaluate(idle, joined, setting.federation, split="train")
    there = np.array(SIZES) > 0
    tuned, fresh = np.asarray(tuned.personal["loss"])[there], np.asarray(fresh.personal["loss"])[there]
    assert (tuned < fresh).all()


def test_it_recovers_the_common_subspace_and_a_global_head_does_not():
    """y = x'B w_k (Collins et al., section 5): the largest principal angle of the body to the span of B."""
    rng, features, rank, clients, rows = np.random.default_rng(0), 8, 2, 20, 30
    basis = np.linalg.qr(rng.normal(size=(features, rank)))[0]
    heads = rng.normal(size=(clients, rank))
    x = rng.normal(size=(clients, rows, features))
    y = np.einsum("krf,fd,kd->kr", x, basis, heads)
    distance = {}
    with jax.enable_x64(True):
        pool = fh.pool(x.reshape(-1, features), y.reshape(-1, 1), task="regression")
        parts = np.split(np.arange(clients * rows), clients)
        federation = fh.from_index_lists(pool, None, parts, test=0.0)
        problem, solver = linear_pair(pool, rank), fh.local.sgd(0.2, batch_size=None)
        round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
        for factory in (fh.algorithms.fedrep, fh.algorithms.fedavg):
            algorithm = factory(problem, solver)
            state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
            state, _ = jax.jit(fh.make_block(round_fn, 300))(algorithm, state, federation)
            found = np.linalg.qr(np.asarray(state.server.params["body"]["kernel"]))[0]
            distance[factory] = np.linalg.norm(found - basis @ (basis.T @ found), 2)
    assert distance[fh.algorithms.fedrep] < 1e-2 and distance[fh.algorithms.fedavg] > 1e-1


def linear_pair(pool, rank):
    """out = x @ body @ head, neither with a bias."""

    def init(key):
        a, b = jax.random.split(key)
        real = jnp.result_type(float)
        kernel = jax.random.normal(a, (pool.x.shape[1], rank), real) / 2
        return fh.Model(
            {"body": {"kernel": kernel}, "head": {"kernel": jax.random.normal(b, (rank, 1), real)}}, ()
        )

    def apply(params, buffers, x, key=None, train=False):
        return x @ params["body"]["kernel"] @ params["head"]["kernel"], buffers

    plain = fh.models.linear(pool)
    facts = dataclasses.replace(plain.facts, linear=False, convex=False)
    return dataclasses.replace(plain, init=init, apply=apply, facts=facts)


@pytest.mark.parametrize(
    ("numbers", "error", "words"),
    [
        ({"head_epochs": 0}, ValueError, "head_epochs must be >= 1, got 0: .*10 for the head"),
        ({"body_epochs": 0}, ValueError, "body_epochs must be >= 1"),
        ({"body_epochs": 1.5}, TypeError, "body_epochs must be a whole number, got 1.5"),
        ({"final_epochs": -1}, ValueError, "final_epochs must be >= 0, got -1: 0 uses heads as they are"),
    ],
)
def test_amounts_that_are_refused(settings, numbers, error, words):
    with pytest.raises(error, match=words):
        build(settings[False], **numbers)

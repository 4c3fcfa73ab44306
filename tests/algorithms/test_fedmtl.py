"""FedMTL: one trunk, and a head for each client or each task."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import partial as by_hand
from reference.models import TanhNetwork
from reference.setting import COHORTS, SIZES, flat_network, three_rounds

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.algorithms.fedmtl import FedMTL
from fedjax_het.algorithms.partial import Partial
from fedjax_het.models import selectors

HEAD = ["out_kernel", "out_bias"]
TASKS = [0, 1, 0, 2, 1, 1, 0, 2, 3]
"""Of the nine clients; task 3 is met in the first round alone, task 2 in the others."""


def first_model(start):
    def look(state):
        params = tree.combine(tree.take(state.server.heads, 0), state.server.trunk.params)
        start.update(flat_network(params))
        return state

    return look


def heads(state):
    return [
        flat_network(tree.combine(tree.take(state.server.heads, j), state.server.trunk.params))
        for j in range(len(jax.tree.leaves(state.server.heads)[0]))
    ]


@pytest.fixture(scope="module")
def run(settings):
    """(algorithm, state) after three rounds, in double precision."""
    setting = settings[True]
    with jax.enable_x64(True):
        algorithm = fh.algorithms.fedmtl(setting.network, setting.solver(), tasks=TASKS)
        return algorithm, three_rounds(algorithm, setting.federation, setting.key)[0]


@pytest.mark.parametrize(
    ("x64", "alternating", "momentum"), [(True, False, 0.9), (True, True, 0.5), (False, False, 0.0)]
)
def test_against_loops(settings, x64, alternating, momentum):
    setting, start = settings[x64], {}
    with jax.enable_x64(x64):
        solver = setting.solver(momentum)
        algorithm = fh.algorithms.fedmtl(
            setting.network, solver, tasks=TASKS, own=solver if alternating else None
        )
        state, _ = three_rounds(algorithm, setting.federation, setting.key, first_model(start))
        own = None
        if alternating:
            own = by_hand.passes(solver.plan, setting.federation, setting.key, len(COHORTS), "own")
    shared, expected = setting.reference(
        by_hand.partial, TanhNetwork, start, personal=HEAD, momentum=momentum, task=TASKS, own=own
    )
    assert len(expected) == 4
    for got, head in zip(heads(state), expected):
        setting.same(got, {**shared, **head})


@pytest.mark.parametrize("x64", [True, False], ids=["x64", "float32"])
def test_a_head_a_client_against_loops(settings, x64):
    setting, start = settings[x64], {}

    def look(state):
        start.update(flat_network(tree.combine(tree.take(state.clients.params, 0), state.server.params)))
        return state

    with jax.enable_x64(x64):
        algorithm = fh.algorithms.fedmtl(setting.network, setting.solver())
        state, _ = three_rounds(algorithm, setting.federation, setting.key, look)
    shared, own = setting.reference(by_hand.partial, TanhNetwork, start, personal=HEAD)
    for k, head in enumerate(own):
        params = tree.combine(tree.take(state.clients.params, k), state.server.params)
        setting.same(flat_network(params), {**shared, **head})


def test_a_task_of_each_clients_own_is_fedper(settings):
    setting = settings[True]
    with jax.enable_x64(True):
        solver = setting.solver()
        tasked = fh.algorithms.fedmtl(setting.network, solver, tasks=np.arange(len(SIZES)))
        one, _ = three_rounds(tasked, setting.federation, setting.key)
        algorithm = fh.algorithms.fedper(setting.network, solver)
        other, _ = three_rounds(algorithm, setting.federation, setting.key)
    for k, got in enumerate(heads(one)):
        params = tree.combine(tree.take(other.clients.params, k), other.server.params)
        expected = flat_network(params)
        for name in expected:
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-12, atol=1e-12)


def test_one_task_is_fedavg(settings):
    setting = settings[True]
    with jax.enable_x64(True):
        solver = setting.solver(0.9)
        tasked = fh.algorithms.fedmtl(setting.network, solver, tasks=[0] * len(SIZES))
        one, _ = three_rounds(tasked, setting.federation, setting.key)
        average = fh.algorithms.fedavg(setting.network, solver)
        other, _ = three_rounds(average, setting.federation, setting.key)
    expected = flat_network(other.server.params)
    for name, value in heads(one)[0].items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-12, atol=1e-12)


def test_two_clients_share_a_head_by_hand(settings):
    """Clients 3 and 5 are of task 1 and share its head, 6 is alone in task 0: means of just those, by rows."""
    setting, members = settings[True], (3, 5, 6)
    tasks = [2, 2, 2, 1, 2, 1, 0, 2, 2]
    with jax.enable_x64(True):
        algorithm = fh.algorithms.fedmtl(setting.network, setting.solver(), tasks=tasks)
        round_fn = fh.make_round(fh.sampling.fixed(list(members)), fh.executors.vmapped())
        start = fh.initial_state(algorithm, setting.federation, key=setting.key, round_fn=round_fn)
        after, _ = jax.jit(round_fn)(algorithm, start, setting.federation)
        replay = jax.jit(lambda k: fh.replay(round_fn, algorithm, start, setting.federation, k))
        end = {k: flat_network(replay(k).local.params) for k in members}
    first, found = heads(start), heads(after)
    both, everyone = SIZES[3] + SIZES[5], SIZES[3] + SIZES[5] + SIZES[6]
    assert SIZES[3] != SIZES[5]
    for name in HEAD:
        mean = (SIZES[3] * end[3][name] + SIZES[5] * end[5][name]) / both
        np.testing.assert_allclose(found[1][name], mean, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found[0][name], end[6][name], rtol=0, atol=1e-12)
        np.testing.assert_array_equal(found[2][name], first[2][name])
        assert np.abs(end[3][name] - end[5][name]).max() > 1e-3
    for name in ("in_kernel", "in_bias"):
        mean = sum(SIZES[k] * end[k][name] for k in members) / everyone
        for head in found:
            np.testing.assert_allclose(head[name], mean, rtol=0, atol=1e-12)


def test_only_those_who_are_there_count(settings):
    """A cohort of one client of task 1: its head is that client's, other heads stay as they were."""
    setting = settings[True]
    with jax.enable_x64(True):
        algorithm = fh.algorithms.fedmtl(setting.network, setting.solver(), tasks=TASKS)
        round_fn = fh.make_round(fh.sampling.fixed([1]), fh.executors.vmapped())
        start = fh.initial_state(algorithm, setting.federation, key=setting.key, round_fn=round_fn)
        after, _ = jax.jit(round_fn)(algorithm, start, setting.federation)
        report = jax.jit(fh.replay)(round_fn, algorithm, start, setting.federation, 1)
    before, now, end = heads(start), heads(after), flat_network(report.local.params)
    for name in now[1]:
        np.testing.assert_allclose(now[1][name], end[name], rtol=1e-12)
    for j in (0, 2, 3):
        for name in HEAD:
            np.testing.assert_array_equal(now[j][name], before[j][name])


def test_an_upload_has_its_head_in_its_tasks_place(settings, run):
    setting, (algorithm, state) = settings[True], run
    with jax.enable_x64(True):
        round_fn = fh.make_round(fh.sampling.fixed([3, 6]), fh.executors.vmapped())
        total = jax.jit(fh.replay)(round_fn, algorithm, state, setting.federation, 3).total
    for leaf in jax.tree.leaves(total["heads"]):
        rows = np.abs(np.asarray(leaf)).reshape(4, -1).max(axis=1)
        assert rows[2] > 0 and (rows[[0, 1, 3]] == 0).all()
    share = SIZES[3] / (SIZES[3] + SIZES[6])
    np.testing.assert_allclose(total["shares"], [0, 0, share, 0], rtol=1e-12)


def test_names_pair_leaves_not_their_order(settings):
    """A selector of leaves that lie on both sides of the others in the tree."""
    setting = settings[True]
    with jax.enable_x64(True):
        chosen = selectors.matching("^dense_0/bias$|^head/kernel$")
        algorithm = fh.algorithms.fedmtl(setting.network, setting.solver(), tasks=TASKS, personal=chosen)
        start = {}
        state, _ = three_rounds(algorithm, setting.federation, setting.key, first_model(start))
    personal = ["in_bias", "out_kernel"]
    shared, expected = setting.reference(by_hand.partial, TanhNetwork, start, personal=personal, task=TASKS)
    for got, head in zip(heads(state), expected):
        setting.same(got, {**shared, **head})


def test_a_newcomer_takes_the_head_that_fits(settings, run):
    setting, (algorithm, state) = settings[True], run
    with jax.enable_x64(True):
        clients = fh.adapt(algorithm, state.server, setting.federation, key=jax.random.key(0))
    for k, rows in enumerate(setting.held):
        losses = [TanhNetwork.loss(p, setting.x[rows], setting.y[rows]) for p in heads(state) if len(rows)]
        assert int(clients.task[k]) == (int(np.argmin(losses)) if losses else 0)
    assert len(set(np.asarray(clients.task).tolist())) > 1


def test_who_has_which_task_is_a_leaf(settings):
    setting = settings[False]
    a, b = (
        fh.algorithms.fedmtl(setting.network, setting.solver(), tasks=tasks) for tasks in (TASKS, TASKS[::-1])
    )
    assert jax.tree.structure(a) == jax.tree.structure(b)
    server, clients = b.init(jax.random.key(0), setting.federation)
    np.testing.assert_array_equal(clients.task, TASKS[::-1])
    cost = b.traffic(server)
    assert cost.up == cost.down == 4 * (4 * 5 + 5 + 5 * 3 + 3), "the trunk and one head, not four"
    assert isinstance(a, FedMTL)
    assert isinstance(fh.algorithms.fedmtl(setting.network, setting.solver()), Partial)


def test_one_program_serves_rounds_and_leaves(settings):
    """Absent slots, other numbers and a vmap over the record's leaves."""
    setting = settings[True]
    with jax.enable_x64(True):
        round_fn = fh.make_round(fh.sampling.scripted(COHORTS), fh.executors.chunked(2))
        rates = (0.15, 0.05)
        built = [
            fh.algorithms.fedmtl(setting.network, fh.local.sgd(rate, batch_size=4), tasks=TASKS)
            for rate in rates
        ]
        start = fh.initial_state(built[0], setting.federation, key=setting.key, round_fn=round_fn)
        one = jax.jit(fh.make_block(round_fn, 2))
        apart = [one(each, start, setting.federation)[0] for each in built]
        assert one._cache_size() == 1
        both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *built)
        together, _ = jax.jit(jax.vmap(fh.make_block(round_fn, 2), in_axes=(0, None, None)))(
            both, start, setting.federation
        )
    for i, alone in enumerate(apart):
        got = jax.tree.leaves(tree.take(together.server, i))
        for a, b in zip(got, jax.tree.leaves(alone.server)):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(together.clients.task[0], TASKS)


@pytest.mark.parametrize("tasks", [[0, -1, 1], [0.0, 1.0], [[0, 1]], [], "01", [True, False]])
def test_tasks_that_are_refused(settings, tasks):
    with pytest.raises(ValueError, match=r"tasks must be whole numbers >= 0, got .*counting from 0"):
        fh.algorithms.fedmtl(settings[False].network, settings[False].solver(), tasks=tasks)


def test_a_task_is_needed_for_every_client(settings):
    setting = settings[False]
    algorithm = fh.algorithms.fedmtl(setting.network, setting.solver(), tasks=[0, 1])
    with pytest.raises(ValueError, match=r"each of the 9 clients, got shape \(2,\): list the task"):
        algorithm.init(jax.random.key(0), setting.federation)
    with pytest.raises(ValueError, match="got all of them"):
        fh.algorithms.fedmtl(setting.problem, setting.solver(), tasks=TASKS)

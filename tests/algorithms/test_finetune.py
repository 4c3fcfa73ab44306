"""Fine-tuning: against a NumPy loop, what is held out, when it stops, and what it leaves alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from counting import compile_count
from reference.meta import tune
from reference.models import TanhNetwork
from reference.setting import BATCH, CLASSES, SIZES, flat_network
from reference.used import of_each, trained, used

import fedjax_het as fh
from fedjax_het import keys, tree
from fedjax_het.algorithm import Algorithm
from fedjax_het.algorithms import ALGORITHMS, finetune
from fedjax_het.algorithms.holdout import held_out, holdout
from fedjax_het.experiment.choices import CHOICES
from fedjax_het.models import selectors

EMPTY = SIZES.index(0)


def equal(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


@functools.cache
def with_valid(setting):
    """The same clients, a third of their rows for validation, and some for testing."""
    pool = fh.pool(setting.x, setting.y, num_classes=CLASSES)
    return fh.from_index_lists(pool, None, setting.held, valid=0.3, test=0.2)


@functools.cache
def average(setting, x64=False, given=False):
    """The state after three rounds of federated averaging on the network."""
    with jax.enable_x64(x64):
        federation = with_valid(setting) if given else setting.federation
        method = fh.algorithms.fedavg(setting.network, setting.solver())
        return trained(method, federation, setting.key)[0]


# --- what is held out -----------------------------------------------------------------------------------------

LABELS = np.repeat([0, 1, 2, 5], [11, 3, 24, 2])


def cut(labels, size, fraction=0.2, seed=0, room=0):
    padded = np.concatenate([labels, np.full(room, labels[0])])
    return np.asarray(
        held_out(jnp.asarray(padded, jnp.int32), jnp.int32(size), jnp.float32(fraction), jax.random.key(seed))
    )


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_every_label_gives_its_share_to_within_a_row(fraction):
    labels = np.random.default_rng(0).permutation(LABELS)
    for seed in range(20):
        out = cut(labels, len(labels), fraction, seed)
        assert abs(out.sum() - fraction * len(labels)) < 1
        for label in np.unique(labels):
            mine = labels == label
            assert abs(out[mine].sum() - fraction * mine.sum()) < 1, "floor or ceiling of its share"


def test_every_row_is_held_out_as_often_as_another():
    """Shuffled: neither the first nor the last rows of a client, nor of a label."""
    often = sum(cut(LABELS, len(LABELS), 0.2, seed).astype(int) for seed in range(400))
    assert np.abs(often - 80).max() < 5 * np.sqrt(400 * 0.2 * 0.8)


def test_a_cut_is_seeded_and_does_not_depend_on_the_capacity():
    out = cut(LABELS, len(LABELS))
    np.testing.assert_array_equal(out, cut(LABELS, len(LABELS)))
    assert (out != cut(LABELS, len(LABELS), seed=1)).any()
    roomy = cut(LABELS, len(LABELS), room=9)
    np.testing.assert_array_equal(roomy[: len(LABELS)], out)
    assert not roomy[len(LABELS) :].any()
    assert not cut(LABELS, 0).any()


def _rows(algorithm, server, client):
    train, out, early = algorithm.rows(client)
    place = jnp.arange(client.data.capacity, dtype=jnp.int32)
    real = [data.index.at[data.offset + place].get(mode="clip") for data in (train, out)]
    return real, (train.size, out.size), early


def told_apart(told, federation):
    """[client] -> (training rows of the pool, validation rows, whether it stops early)."""
    (train, out), (kept, taken), early = told
    valid = federation.valid
    found = []
    for k in range(federation.num_clients):
        given = np.asarray(valid.index)[int(valid.offset[0, k]) :][: int(valid.size[0, k])]
        own = np.asarray(out[k][: int(taken[k])])
        assert not (len(given) and len(own))
        found.append((np.asarray(train[k][: int(kept[k])]), np.concatenate([given, own]), bool(early[k])))
    return found


MOST = 6
"""Epochs."""


def _visited(algorithm, server, client):
    """Rows of each step of each epoch, [MOST, steps, BATCH], -1 for none, by the published rules for keys and
    order; and the steps of an epoch."""
    plan = dataclasses.replace(algorithm.solver.plan, amount=jnp.int32(1), unit="epochs")
    train, _, _ = algorithm.rows(client)

    def batch(epoch, j):
        key = jax.random.fold_in(keys.stream(client.key, "finetune"), epoch)
        place, counts = plan.positions(train, keys.seed(keys.stream(key, "order")), j)
        return jnp.where(counts, train.index.at[train.offset + place].get(mode="clip"), -1)

    both = jax.vmap(jax.vmap(batch, (None, 0)), (0, None))
    room = -(-client.data.capacity // BATCH)
    return both(jnp.arange(MOST, dtype=jnp.int32), jnp.arange(room, dtype=jnp.int32)), plan.steps(train)


def _everything(algorithm, server, client):
    """One program for the three questions."""
    model = algorithm.personalise(server, client)
    return model, _rows(algorithm, server, client), _visited(algorithm, server, client)


def asked(algorithm, state, federation):
    """(models, `told_apart`, [client][epoch] -> rows of each of its steps)."""
    models, told, visited = of_each(_everything, algorithm, state, federation)
    rows, steps = jax.device_get(visited)
    batches = [[[b[b >= 0] for b in epoch[: steps[k]]] for epoch in rows[k]] for k in range(len(steps))]
    return models, told_apart(told, federation), batches


def test_rows_are_cut_in_two_and_keep_their_order(settings):
    setting = settings[False]
    algorithm = finetune(setting.network, setting.solver(), least=5, fraction=0.3)
    state = average(setting)
    for k, (train, valid, early) in enumerate(asked(algorithm, state, setting.federation)[1]):
        assert early == (SIZES[k] >= 5)
        assert (len(valid) > 0) == early
        assert [row for row in setting.held[k] if row in train] == train.tolist()
        assert sorted([*train, *valid]) == sorted(setting.held[k].tolist())


def test_validation_rows_of_the_federation_come_first(settings):
    setting = settings[False]
    federation = with_valid(setting)
    algorithm = finetune(setting.network, setting.solver(), least=1)
    state = average(setting, given=True)
    sizes = np.asarray(federation.train.size[0]), np.asarray(federation.valid.size[0])
    assert ((sizes[0] > 0) & (sizes[1] == 0)).any(), "some have training rows alone"
    for k, (train, valid, _) in enumerate(asked(algorithm, state, federation)[1]):
        if sizes[1][k]:
            assert len(train) == sizes[0][k] and len(valid) == sizes[1][k]
        else:
            assert len(train) + len(valid) == sizes[0][k]


def test_rows_without_labels_count_as_of_one_label():
    rng = np.random.default_rng(0)
    pool = fh.pool(rng.normal(size=(60, 2)), rng.normal(size=60), task="regression")
    federation = fh.from_index_lists(pool, None, [np.arange(40), np.arange(40, 60)], test=0.0)
    data = federation.data("train", federation.locate("train", jnp.int32(0), jnp.int32(0)))
    train, out = holdout(data, jnp.float32(0.25), jnp.asarray(True), jax.random.key(0))
    assert (int(train.size), int(out.size)) == (30, 10)
    all_of_it, none = holdout(data, jnp.float32(0.25), jnp.asarray(False), jax.random.key(0))
    assert (int(all_of_it.size), int(none.size)) == (40, 0)
    np.testing.assert_array_equal(all_of_it.take(jnp.arange(40)).y, data.take(jnp.arange(40)).y)
    few, rest = holdout(data, jnp.float32(0.999999), jnp.asarray(True), jax.random.key(0))
    assert int(few.size) > 0 and int(few.size) + int(rest.size) == 40


# --- against the loop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "momentum", "head", "patience", "rate", "x64"),
    [
        (False, None, False, 2, 0.6, True),
        (True, 0.9, False, 1, 0.1, True),
        (False, 0.9, True, 2, 0.3, True),
        (True, None, False, 2, 0.6, False),
        (False, 0.9, True, 1, 0.1, False),
    ],
)
def test_it_is_the_loop(settings, given, momentum, head, patience, rate, x64):
    setting, fixed = settings[x64], 3
    with jax.enable_x64(x64):
        federation = with_valid(setting) if given else setting.federation
        algorithm = finetune(
            setting.network,
            setting.solver(),
            tuner=fh.local.sgd(rate, batch_size=BATCH, momentum=momentum),
            epochs=MOST,
            patience=patience,
            min_delta=0.001,
            least=4,
            fixed=fixed,
            leaves=selectors.head(setting.network) if head else None,
        )
        state = average(setting, x64, given)
        models, rows, batches = asked(algorithm, state, federation)
    w = flat_network(state.server.params)
    best = {}
    for k, (train, valid, early) in enumerate(rows):
        for epoch in batches[k]:
            visited = np.concatenate(epoch) if epoch else np.zeros(0, int)
            np.testing.assert_array_equal(np.sort(visited), np.sort(train))
        expected, when, done = tune(
            TanhNetwork,
            w,
            setting.x,
            setting.y,
            batches[k] if early else batches[k][:fixed],
            valid if early else None,
            rate=rate,
            patience=patience,
            min_delta=0.001,
            momentum=momentum or 0.0,
            leaves=("out_kernel", "out_bias") if head else None,
        )
        setting.same(flat_network(tree.take(models.params, k)), expected)
        best[k] = (early, when, done)
    assert {early for early, _, _ in best.values()} == {True, False}
    assert any(early and when < done for early, when, done in best.values()), "some go on after their best"
    assert any(early and when > 0 for early, when, _ in best.values()), "some are better for it"


# --- when it stops --------------------------------------------------------------------------------------------


def _both(algorithm, server, client):
    """Whether it stops early, and the model before and after."""
    models = algorithm.inner.personalise(server, client), algorithm.personalise(server, client)
    return algorithm.rows(client)[2], *models


@functools.partial(jax.jit, static_argnums=0)
def _losses(problem, models, federation, held):
    """The loss of each client's model on these rows, [N, rows]; one program for whatever models."""

    def one(model, rows):
        return problem.losses(problem.apply(model.params, (), federation.x[rows])[0], federation.y[rows])

    return jax.vmap(one)(models, held)


@pytest.mark.parametrize("rate", [0.05, 1.0, 50.0])
@pytest.mark.parametrize("given", [True, False])
def test_the_validation_loss_is_never_above_that_of_the_global_model(settings, rate, given):
    """Also where every epoch makes it worse: the model before the first epoch is the first candidate."""
    setting = settings[False]
    federation = with_valid(setting) if given else setting.federation
    tuner = fh.local.sgd(rate, batch_size=BATCH)
    algorithm = finetune(setting.network, setting.solver(), tuner=tuner, least=1, epochs=4, fraction=0.3)
    state = average(setting, given=given)
    after, cuts, _ = asked(algorithm, state, federation)
    before, room = fh.Model(tree.stack(state.server.params, len(SIZES)), ()), max(SIZES)
    held = jnp.asarray([[*valid, *[0] * (room - len(valid))] for _, valid, _ in cuts], jnp.int32)
    old, new = (np.asarray(_losses(setting.network, models, federation, held)) for models in (before, after))
    scores = [(np.mean(a[: len(v)]), np.mean(b[: len(v)])) for a, b, (_, v, e) in zip(old, new, cuts) if e]
    assert len(scores) >= 5
    assert all(b <= a for a, b in scores)
    assert any(b < a for a, b in scores) or rate > 1


def test_so_it_is_for_any_split_skew_and_rate(settings):
    """Clients of 0 to 27 rows, of one label or of all, from models of any quality."""
    setting, rng, state = settings[False], np.random.default_rng(0), average(settings[False])
    sizes, judged, helped = [0, 0, 1, 2, 3, 5, 9, 14, 27], 0, 0
    pool = fh.pool(setting.x, setting.y, num_classes=CLASSES)
    for skew in (0.1, 2.0, 50.0) * 4:
        order = np.argsort(setting.y + rng.uniform(0, skew, len(setting.y)))
        lists = np.split(order, np.cumsum(rng.permutation(sizes))[:-1])
        federation = fh.from_index_lists(pool, None, lists, test=0.0)
        algorithm = finetune(
            setting.network,
            setting.solver(),
            tuner=fh.local.sgd(10 ** rng.uniform(-2, 1), batch_size=BATCH),
            epochs=4,
            least=int(rng.choice([1, 5])),
            fraction=rng.uniform(0.1, 0.9),
            patience=int(rng.choice([1, 3])),
        )
        factor = float(rng.uniform(-2, 2))
        params = tree.scale(factor, state.server.params)
        start = dataclasses.replace(state, server=dataclasses.replace(state.server, params=params))
        after, cuts, _ = asked(algorithm, start, federation)
        held = jnp.asarray([[*valid, *[0] * (27 - len(valid))] for _, valid, _ in cuts], jnp.int32)
        before = fh.Model(tree.stack(params, len(lists)), ())
        old, new = (np.asarray(_losses(setting.network, each, federation, held)) for each in (before, after))
        for k, (_, valid, early) in enumerate(cuts):
            if early:
                ours, theirs = np.mean(new[k, : len(valid)]), np.mean(old[k, : len(valid)])
                assert ours <= theirs, (k, len(lists[k]), skew)
                judged, helped = judged + 1, helped + (ours < theirs)
            elif not len(lists[k]):
                equal(tree.take(after, k), fh.Model(params, ()))
    assert judged > 50 and 10 < helped < judged


def test_a_client_for_whom_every_epoch_is_worse_keeps_the_global_model_to_the_bit(settings):
    setting = settings[False]
    demanding = finetune(setting.network, setting.solver(), least=5, min_delta=1e3)
    state = average(setting)
    models = asked(demanding, state, setting.federation)[0]
    for k, size in enumerate(SIZES):
        kept = all(
            bool(jnp.all(a[k] == b))
            for a, b in zip(*map(jax.tree.leaves, (models.params, state.server.params)))
        )
        assert kept == (size >= 5 or size == 0), "small clients cannot score, and tune all the same"


def test_no_epochs_is_the_other_method(settings):
    setting = settings[False]
    algorithm = finetune(setting.network, setting.solver(), epochs=0)
    state = average(setting)
    models = asked(algorithm, state, setting.federation)[0]
    equal(models.params, tree.stack(state.server.params, len(SIZES)))
    algorithm = finetune(setting.network, setting.solver(), fixed=0)
    models = asked(algorithm, state, setting.federation)[0]
    for a, b in zip(*map(jax.tree.leaves, (models.params, state.server.params))):
        for k in np.flatnonzero(np.array(SIZES) < 20):
            np.testing.assert_array_equal(a[k], b)


def test_numbers_are_leaves(settings):
    """One program for all of them, and one under `vmap` over them."""
    setting = settings[False]
    few = finetune(setting.network, setting.solver(), epochs=1, least=5)
    state = average(setting)
    of_each(_everything, few, state, setting.federation)
    many = finetune(
        setting.network, setting.solver(), epochs=5, least=3, patience=1, min_delta=0.1, fraction=0.4, fixed=1
    )
    with compile_count() as count:
        apart = [of_each(_everything, algorithm, state, setting.federation)[0] for algorithm in (few, many)]
    assert count.value == 0
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), few, many)
    together = jax.vmap(used, in_axes=(0, None, None))(both, state, setting.federation)
    for i, alone in enumerate(apart):
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone)):
            np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6)


# --- what it leaves alone -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "made"), [("scaffold", False), ("fedper", True), ("apfl", False)])
def test_training_is_the_other_methods_to_the_bit(settings, name, made):
    """Whatever its states are; clients that serve models of their own tune those."""
    setting = settings[False]
    alone = fh.algorithms.make(name, setting.network, setting.solver())
    algorithm = finetune(setting.network, setting.solver(), of=alone if made else name, least=4)
    (expected, plain), (got, log) = (
        trained(each, setting.federation, setting.key) for each in (alone, algorithm)
    )
    equal((got.server, got.clients, log), (expected.server, expected.clients, plain))
    assert algorithm.traffic(got.server) == alone.traffic(got.server)
    _, before, after = of_each(_both, algorithm, got, setting.federation)
    moved = [np.abs(a - b) for a, b in zip(jax.tree.leaves(before.params), jax.tree.leaves(after.params))]
    assert max(each.max() for each in moved) > 1e-3 and max(each[EMPTY].max() for each in moved) == 0
    assert (algorithm.consensus(got.server) is None) == (alone.consensus(got.server) is None)


def test_a_method_that_is_made_already_keeps_its_numbers(settings):
    setting = settings[False]
    made = fh.algorithms.fedprox(setting.network, setting.solver(), mu=0.7)
    algorithm = finetune(setting.network, fh.local.sgd(0.01, batch_size=None), of=made)
    assert algorithm.inner is made and algorithm.solver.plan.batch_size is None


def test_the_body_stays_where_the_head_is_tuned_whatever_the_rule_does(settings):
    """Momentum, decay and a ridge term do not touch a leaf that is not tuned."""
    setting = settings[False]
    tuner = fh.local.from_optax(optax.adamw, learning_rate=0.05, weight_decay=0.3, batch_size=BATCH)
    network = dataclasses.replace(setting.network, l2=jnp.float32(0.1))
    head = selectors.head(network)
    algorithm = finetune(network, setting.solver(), tuner=tuner, fixed=3, leaves=head)
    state = average(setting)
    models = used(algorithm, state, setting.federation)
    tuned, body = tree.partition(models.params, head)
    whole = tree.stack(state.server.params, len(SIZES))
    equal(body, tree.partition(whole, head)[1])
    gap = tree.subtract(tuned, tree.partition(whole, head)[0])
    moved = np.sum([np.abs(leaf).reshape(len(SIZES), -1).max(axis=1) for leaf in jax.tree.leaves(gap)], axis=0)
    assert (moved[np.array(SIZES) > 0] > 0).any() and moved[EMPTY] == 0


def test_test_rows_are_not_read(settings):
    """Nor validation rows but to score: their labels choose the epoch, and nothing else."""
    setting = settings[False]
    federation = with_valid(setting)
    algorithm = finetune(setting.network, setting.solver(), least=1)
    state = average(setting, given=True)

    def spoiled(split):
        rows = federation.rows(split)
        held = np.concatenate(
            [np.asarray(rows.index)[o : o + s] for o, s in zip(rows.offset[0].tolist(), rows.size[0].tolist())]
        )
        return dataclasses.replace(federation, x=federation.x.at[held].set(jnp.nan))

    before = asked(algorithm, state, federation)[0]
    equal(asked(algorithm, state, spoiled("test"))[0], before)
    unscored = asked(algorithm, state, spoiled("valid"))[0]
    for a, b, w in zip(*map(jax.tree.leaves, (unscored.params, before.params, state.server.params))):
        for k in range(len(SIZES)):
            np.testing.assert_array_equal(a[k], w if federation.valid.size[0, k] else b[k])


def test_momentum_lasts_from_one_epoch_to_the_next(settings):
    """Two epochs of a batch each with momentum are not twice one epoch."""
    setting = settings[True]
    with jax.enable_x64(True):
        tuner = fh.local.sgd(0.2, batch_size=None, momentum=0.9)
        algorithm = finetune(setting.network, setting.solver(), tuner=tuner, fixed=2)
        state = average(setting, True)
        models = used(algorithm, state, setting.federation)
    w, k = flat_network(state.server.params), 2
    rows = setting.held[k]
    expected, _, _ = tune(
        TanhNetwork, w, setting.x, setting.y, [[rows]] * 2, None, rate=0.2, patience=1, momentum=0.9
    )
    setting.same(flat_network(tree.take(models.params, k)), expected)


# --- configuration and bad input ------------------------------------------------------------------------------


def test_a_configuration_can_write_it():
    options = CHOICES["algorithm"]["finetune"].options
    assert set(options) == {
        "of",
        "tuner",
        "epochs",
        "patience",
        "min_delta",
        "fraction",
        "least",
        "fixed",
        "leaves",
    }
    assert options["of"].kinds == (Algorithm,) and options["leaves"].optional and options["tuner"].optional
    assert ALGORITHMS["finetune"].factory is finetune


@pytest.mark.parametrize(
    ("numbers", "error", "message"),
    [
        ({"of": "fedprx"}, ValueError, "of must be one of the names below.*did you mean 'fedprox'"),
        ({"of": "finetune"}, ValueError, "of must be one of the names below, got 'finetune'"),
        ({"of": fh.algorithms.fedprox}, TypeError, "of must be a method or the name of one"),
        ({"tuner": 0.1}, TypeError, "tuner must be a Solver, got 0.1"),
        ({"epochs": -1}, ValueError, "epochs must be >= 0"),
        ({"epochs": 2.5}, TypeError, "epochs must be a whole number"),
        ({"patience": 0}, ValueError, "patience must be >= 1"),
        ({"min_delta": -0.1}, ValueError, "min_delta must be >= 0"),
        ({"fraction": 0.0}, ValueError, "fraction must be > 0"),
        ({"fraction": 1.0}, ValueError, "fraction must be < 1"),
        ({"fixed": -1}, ValueError, "fixed must be >= 0"),
        ({"least": -1}, ValueError, "least must be >= 0"),
        ({"leaves": "head"}, TypeError, "leaves must be a function of a leaf's path, got 'head'"),
        ({"leaves": selectors.matching("tail")}, ValueError, "head/kernel"),
        ({"leaves": selectors.matching("")}, ValueError, "head/kernel"),
    ],
)
def test_bad_input(settings, numbers, error, message):
    with pytest.raises(error, match=message):
        finetune(settings[False].network, settings[False].solver(), **numbers)


def test_a_method_for_another_problem_is_refused(settings):
    setting = settings[False]
    other = fh.algorithms.fedavg(setting.problem, setting.solver())
    with pytest.raises(ValueError, match="of must learn the problem"):
        finetune(setting.network, setting.solver(), of=other)


def test_a_method_that_serves_no_model_is_refused(settings):
    @dataclasses.dataclass(frozen=True)
    class Pair:
        problem: object

        def personalise(self, server, client):
            return server, server

    setting = settings[False]
    algorithm = finetune(setting.network, setting.solver(), of=Pair(setting.network))
    with pytest.raises(TypeError, match="of must be a method whose clients use a Model, got Pair"):
        algorithm.personalise(None, None)

"""The evaluation matrix along a run: local work, samples, newcomers, default metrics, one program."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import compile_count
from sklearn import metrics as sklearn

import fedjax_het as fh
from fedjax_het import keys, tree
from fedjax_het.algorithms.fedavg import FedAvg
from fedjax_het.construct import assemble
from fedjax_het.engine.evaluate import every_client
from fedjax_het.engine.slots import make_client

SIZES = (12, 30, 7, 25, 9, 40, 3, 16)
SOLVER = {"learning_rate": 0.3, "batch_size": 4}
static = ("executor", "split", "local", "sample")
evaluate = jax.jit(fh.evaluate, static_argnames=static)


def federation_of(sizes=SIZES, classes=2, valid=0.0, seed=0):
    rng = np.random.default_rng(seed)
    rows = sum(sizes)
    y = rng.integers(0, classes, rows)
    x = rng.normal(size=(rows, 3)) + np.eye(3)[y % 3]
    pool = fh.pool(x, y, num_classes=classes)
    parts = np.split(np.arange(rows), np.cumsum(sizes)[:-1])
    return fh.from_index_lists(pool, None, parts, test=0.4, valid=valid)


def method(name, federation):
    return getattr(fh.algorithms, name)(fh.models.softmax(federation.pool), fh.local.sgd(**SOLVER))


def like(kind, algorithm):
    """The same numbers in a record with other methods."""
    return kind(**{field.name: getattr(algorithm, field.name) for field in dataclasses.fields(algorithm)})


def run(algorithm, federation, rounds=3, **options):
    options = {"sampler": fh.sampling.uniform(3), "key": jax.random.key(1)} | options
    return fh.simulate(algorithm, federation, rounds=rounds, **options)


def outputs(params, x):
    return x @ np.asarray(params["head"]["kernel"], float) + np.asarray(params["head"]["bias"], float)


def rows_of(federation, split, client):
    rows = federation.rows(split)
    begin, size = int(rows.offset[0, client]), int(rows.size[0, client])
    index = np.asarray(rows.index)[begin : begin + size]
    return np.asarray(federation.x, float)[index], np.asarray(federation.y)[index]


def by_hand(out, y):
    """Loss, accuracy, balanced accuracy and area under the curve of logits [B, 2]."""
    if not len(y):
        return dict.fromkeys(("loss", "accuracy", "balanced_accuracy", "auc"), np.nan)
    odds, guess = out[:, 1] - out[:, 0], out.argmax(1)
    recall = [np.mean(guess[y == k] == k) for k in np.unique(y)]
    return {
        "loss": np.mean(np.logaddexp(0, np.where(y == 1, -odds, odds))),
        "accuracy": np.mean(guess == y),
        "balanced_accuracy": np.mean(recall),
        "auc": sklearn.roc_auc_score(y, odds) if len(set(y)) == 2 else np.nan,
    }


def check_default_metrics(rtol):
    """Global, shared and personal metrics of two classes against plain NumPy."""
    federation = federation_of()
    for name in ("fedavg", "local_only"):
        algorithm = method(name, federation)
        state, _ = run(algorithm, federation)
        seen = evaluate(algorithm, state, federation)
        every = [rows_of(federation, "test", k) for k in range(len(SIZES))]
        np.testing.assert_array_equal(seen.rows, [len(y) for _, y in every])
        np.testing.assert_array_equal(seen.trained, np.asarray(state.seen.round) >= 0)
        for k, (x, y) in enumerate(every):
            own = state.server.params if name == "fedavg" else tree.take(state.clients.params, k)
            for metric, value in by_hand(outputs(own, x), y).items():
                np.testing.assert_allclose(seen.personal[metric][k], value, rtol=rtol, err_msg=metric)
        if name == "local_only":
            assert seen.union == {} and seen.shared == {}
            continue
        x, y = (np.concatenate(parts) for parts in zip(*every))
        for metric, value in by_hand(outputs(state.server.params, x), y).items():
            np.testing.assert_allclose(seen.union[metric], value, rtol=rtol, err_msg=metric)
            np.testing.assert_array_equal(seen.shared[metric], seen.personal[metric])


def test_default_metrics_in_float32():
    check_default_metrics(2e-5)


def test_default_metrics_in_float64(x64):
    check_default_metrics(1e-9)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Copying(FedAvg):
    """FedAvg whose clients use a copy: equal numbers, but not the global model's own arrays."""

    def personalise(self, server, client):
        return jax.tree.map(lambda leaf: leaf + 0, super().personalise(server, client))


def test_the_pass_that_is_saved_would_say_the_same(x64):
    """Where clients use the global model as it is, its scores are theirs."""
    federation = federation_of()
    algorithm = method("fedavg", federation)
    state, _ = run(algorithm, federation)
    saved, made = (evaluate(a, state, federation) for a in (algorithm, like(Copying, algorithm)))
    for name, values in made.personal.items():
        np.testing.assert_allclose(values, saved.personal[name], rtol=1e-12)


@pytest.mark.parametrize("name", ["fedavg", "scaffold", "fedper"])
def test_local_is_a_round_of_local_work_scored(x64, name):
    """Each client alone does one round, by hand; its model is scored in NumPy."""
    federation = federation_of()
    mlp = fh.models.mlp(federation.pool, hidden=(3,))
    problem = mlp if name == "fedper" else fh.models.softmax(federation.pool)
    algorithm = getattr(fh.algorithms, name)(problem, fh.local.sgd(**SOLVER))
    state, _ = run(algorithm, federation)
    seen = evaluate(algorithm, state, federation, local=True)
    slots = every_client(algorithm, state, federation, jnp.int32(0))
    key = keys.stream(keys.round_(state.key, state.round), "evaluate")

    @jax.jit
    def after(algorithm, state, slot):
        client = make_client(federation, slot, key, state.round)
        return algorithm.client_update(state.server, client).local

    for k in range(len(SIZES)):
        model = after(algorithm, state, tree.take(slots, k))
        x, y = rows_of(federation, "test", k)
        if len(y):
            out = np.asarray(algorithm.predict(model, jnp.asarray(x)))
            for metric, value in by_hand(out, y).items():
                np.testing.assert_allclose(seen.local[metric][k], value, rtol=1e-9, err_msg=metric)
    trained = int(np.argmax(np.asarray(seen.rows)))
    assert float(seen.local["loss"][trained]) != float(seen.personal["loss"][trained])
    assert evaluate(algorithm, state, federation).local == {}


def test_a_method_without_a_local_model_has_no_such_scores():
    federation = federation_of()

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Silent(FedAvg):
        def client_update(self, server, client):
            return dataclasses.replace(super().client_update(server, client), local=())

    _, history = run(like(Silent, method("fedavg", federation)), federation, local=True)
    assert not any(name.startswith("local/") for name in history)
    assert "after local work" not in history.summary()


@pytest.mark.parametrize("name", ["fedavg", "local_only"])
def test_a_sample_is_the_full_evaluation_of_those_drawn(x64, name):
    federation = federation_of()
    algorithm = method(name, federation)
    state, _ = run(algorithm, federation)
    full = evaluate(algorithm, state, federation, local=True)
    part = evaluate(algorithm, state, federation, local=True, sample=5)
    ids = np.asarray(part.client)
    assert len(set(ids)) == 5 and (np.diff(ids) > 0).all()
    np.testing.assert_array_equal(part.rows, full.rows[ids])
    np.testing.assert_array_equal(part.trained, full.trained[ids])
    for kind in ("shared", "local", "personal"):
        everyone = getattr(full, kind)
        for metric, values in getattr(part, kind).items():
            np.testing.assert_allclose(values, everyone[metric][ids], rtol=1e-12, err_msg=f"{kind}/{metric}")
    if name == "fedavg":
        x, y = (np.concatenate(p) for p in zip(*(rows_of(federation, "test", k) for k in ids)))
        for metric, value in by_hand(outputs(state.server.params, x), y).items():
            np.testing.assert_allclose(part.union[metric], value, rtol=1e-9)


def test_samples_differ_by_round_and_are_reproducible():
    federation = federation_of((5,) * 40)
    algorithm = method("fedavg", federation)
    options = {"every": 1, "sample": 6}
    _, one = run(algorithm, federation, 4, **options)
    _, two = run(algorithm, federation, 4, **options)
    _, other = run(algorithm, federation, 4, **options, key=jax.random.key(2))
    drawn = one["client"]
    assert drawn.shape == (5, 6)
    np.testing.assert_array_equal(drawn, two["client"])
    assert len({tuple(row) for row in drawn}) == 5 and not np.array_equal(drawn, other["client"])


def test_samples_are_fair():
    """Every client is drawn about equally often."""
    federation = federation_of((5,) * 10)
    algorithm = method("fedavg", federation)
    state, _ = run(algorithm, federation, 1)
    draw = jax.jit(lambda s: fh.evaluate(algorithm, s, federation, sample=4).client)
    counts = np.zeros(10)
    for done in range(400):
        counts[np.asarray(draw(dataclasses.replace(state, round=jnp.int32(done))))] += 1
    assert abs(counts - 160).max() < 5 * np.sqrt(400 * 0.4 * 0.6)


@pytest.mark.parametrize("name", ["fedavg", "ifca", "fedper"])
def test_newcomers_are_adapt_and_evaluate(name):
    federation, newcomers = federation_of(classes=3), federation_of((9, 14, 6), 3, seed=4)
    mlp = fh.models.mlp(federation.pool, hidden=(3,))
    problem = mlp if name == "fedper" else fh.models.softmax(federation.pool)
    algorithm = getattr(fh.algorithms, name)(problem, fh.local.sgd(**SOLVER))
    state, history = run(algorithm, federation, newcomers=newcomers, local=True)
    clients = fh.adapt(algorithm, state.server, newcomers, key=state.key)
    seen = dataclasses.replace(state.seen, round=jnp.full((3,), -1, jnp.int32), loss=jnp.full((3,), jnp.inf))
    alone = evaluate(algorithm, dataclasses.replace(state, clients=clients, seen=seen), newcomers, local=True)
    np.testing.assert_array_equal(history["newcomer/rows"][-1], alone.rows)
    for kind, metrics in (("shared", alone.shared), ("local", alone.local), ("personal", alone.personal)):
        for metric, values in metrics.items():
            np.testing.assert_array_equal(history[f"newcomer/{kind}/{metric}"][-1], values)
    assert history.dims("newcomer/personal/loss") == ("evaluation", "newcomer")
    if name == "fedavg":
        np.testing.assert_array_equal(history["newcomer/global/loss"][-1], alone.union["loss"])


def test_newcomers_that_a_method_refuses_are_said_and_left_out():
    federation = federation_of()

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Closed(FedAvg):
        def join(self, server, client):
            raise ValueError("closed cannot serve unseen clients: train with them")

    algorithm = like(Closed, method("fedavg", federation))
    _, history = run(algorithm, federation, newcomers=federation_of((9, 14)))
    assert not any(name.startswith("newcomer/") for name in history)
    ((rounds, text),) = history.notices
    assert rounds == 0 and "newcomers are not scored: closed cannot serve unseen clients" in text
    assert text in history.summary()


def test_a_thousand_personal_models_are_one_program():
    """One compilation for all clients, none for another evaluation, round or learning rate."""
    clients = 1000
    rng = np.random.default_rng(0)
    pool = fh.pool(rng.normal(size=(3 * clients, 4)), rng.integers(0, 3, 3 * clients), num_classes=3)
    parts = np.arange(3 * clients).reshape(clients, 3)
    federation = assemble(pool, list(parts[:, :2]), None, list(parts[:, 2:]))
    algorithm = fh.algorithms.local_only(fh.models.mlp(pool, hidden=(5,)), fh.local.sgd(**SOLVER))
    round_fn = fh.make_round(fh.sampling.uniform(3), fh.executors.auto())
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    later = dataclasses.replace(state, round=jnp.int32(7))
    federation, state = jax.block_until_ready((federation, state))
    fresh = jax.jit(fh.evaluate, static_argnames=static)
    jax.clear_caches()
    with compile_count() as first:
        seen = jax.block_until_ready(fresh(algorithm, state, federation))
    assert seen.personal["loss"].shape == (clients,)
    assert len(first.programs) == 1, first.programs
    faster = fh.algorithms.local_only(algorithm.problem, fh.local.sgd(0.9, batch_size=4))
    with compile_count() as second:
        jax.block_until_ready(fresh(faster, later, federation))
    assert second.programs == []


def test_a_second_evaluation_of_a_run_compiles_nothing():
    federation, newcomers = federation_of(classes=3), federation_of((9, 14, 6), 3, seed=4)
    algorithm = method("local_only", federation)
    options = {"every": 1, "local": True, "newcomers": newcomers}
    run(algorithm, federation, 2, **options)
    with compile_count() as count:
        run(algorithm, federation, 4, **options, key=jax.random.key(9))
    assert count.programs == []


@pytest.mark.parametrize("sample", [0, 9, -1])
def test_samples_that_cannot_be(sample):
    federation = federation_of()
    with pytest.raises(ValueError, match="sample must be"):
        run(method("fedavg", federation), federation, sample=sample)


def test_an_unknown_split_and_a_wrong_sample():
    federation = federation_of()
    algorithm = method("fedavg", federation)
    with pytest.raises(ValueError, match="did you mean 'test'"):
        run(algorithm, federation, split="tst")
    with pytest.raises(ValueError, match="several different ones"):
        run(algorithm, federation, split=("test", "test"))
    with pytest.raises(TypeError, match="sample must be a whole number"):
        run(algorithm, federation, sample=2.5)

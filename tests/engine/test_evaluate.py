"""Evaluation, surveys and newcomers against plain loops over clients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.models import Softmax

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.construct import assemble
from fedjax_het.engine.blocks import block
from fedjax_het.federation import Transform

SIZES = (700, 0, 350, 40, 5)
TRAIN = (6, 9, 4, 0, 8)
CLASSES, FEATURES = 4, 3
evaluate = jax.jit(fh.evaluate, static_argnames=("executor", "split"))
many_rounds = jax.jit(block, static_argnames="rounds")


def shifted_and_relabelled(x, y, arguments, row):
    """Each client's own scale and shift of x, and its own rotation of the labels."""
    scale, shift, turn = arguments
    return x * scale + jnp.broadcast_to(shift, x.shape), ((y + turn) % CLASSES).astype(y.dtype)


def build(integers=False):
    """(federation, host): host is a list of (train, test), each (x, y) as the client sees them."""
    rng = np.random.default_rng(3)
    rows = sum(SIZES) + sum(TRAIN)
    x = (
        rng.integers(0, 256, (rows, FEATURES)).astype(np.uint8)
        if integers
        else rng.normal(size=(rows, FEATURES))
    )
    y = rng.integers(0, CLASSES, rows)
    order = rng.permutation(rows)
    cuts = np.cumsum([*TRAIN, *SIZES])[:-1]
    parts = np.split(order, cuts)
    scale, turn = rng.uniform(0.5, 1.5, (1, 5)), rng.integers(0, CLASSES, (1, 5))
    shift = rng.normal(size=(1, 5, FEATURES))
    pool = fh.pool(x, y, num_classes=CLASSES)
    arguments = (
        jnp.asarray(scale, jnp.result_type(float)),
        jnp.asarray(shift, jnp.result_type(float)),
        jnp.asarray(turn, jnp.int32),
    )
    federation = assemble(
        pool, parts[:5], None, parts[5:], transforms=[Transform(arguments, shifted_and_relabelled)]
    )
    features = x / 255 if integers else x

    def seen(k, part):
        return features[part] * scale[0, k] + shift[0, k], (y[part] + turn[0, k]) % CLASSES

    return federation, [(seen(k, parts[k]), seen(k, parts[5 + k])) for k in range(5)]


def problem_of(federation):
    return fh.models.softmax(fh.Pool(federation.x, federation.y, federation.spec.pool))


def trained(algorithm, federation, rounds=2):
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    return many_rounds(round_fn, algorithm, state, federation, rounds=rounds)[0]


def to_numpy(head):
    return {name: np.asarray(value, np.float64) for name, value in head.items()}


def accuracy(params, x, y):
    return float(np.mean(np.argmax(x @ params["kernel"] + params["bias"], axis=1) == y))


@pytest.mark.parametrize("integers", [False, True], ids=["floats", "uint8"])
@pytest.mark.parametrize("split", ["test", "train"])
def test_the_flat_pass_is_the_loop_over_clients(x64, integers, split):
    federation, host = build(integers)
    algorithm = fh.algorithms.fedavg(problem_of(federation), fh.local.sgd(0.5, batch_size=4))
    state = trained(algorithm, federation)
    seen = evaluate(algorithm, state, federation, executor=fh.executors.chunked(2), split=split)
    params, sizes = to_numpy(state.server.params["head"]), TRAIN if split == "train" else SIZES
    np.testing.assert_array_equal(seen.rows, sizes)
    everything = {"loss": [], "accuracy": []}
    for k, client in enumerate(host):
        x, y = client[0 if split == "train" else 1]
        for name, score in (("loss", Softmax.loss), ("accuracy", accuracy)):
            expected = score(params, x, y) if len(y) else np.nan
            np.testing.assert_allclose(seen.shared[name][k], expected, rtol=1e-9)
            np.testing.assert_allclose(seen.personal[name][k], expected, rtol=1e-9)
            everything[name].append(np.nan_to_num(expected) * len(y))
    for name, values in everything.items():
        np.testing.assert_allclose(seen.union[name], sum(values) / sum(sizes), rtol=1e-9)


def test_personal_models(x64):
    federation, host = build()
    algorithm = fh.algorithms.local_only(problem_of(federation), fh.local.sgd(0.5, batch_size=4))
    state = trained(algorithm, federation)
    seen = evaluate(algorithm, state, federation, executor=fh.executors.vmapped())
    assert seen.union == {} and seen.shared == {}
    for k, (_, (x, y)) in enumerate(host):
        own = to_numpy(tree.take(state.clients.params, k)["head"])
        expected = Softmax.loss(own, x, y) if len(y) else np.nan
        np.testing.assert_allclose(seen.personal["loss"][k], expected, rtol=1e-9)


def test_training_never_reads_test_rows():
    federation, _ = build()
    algorithm = fh.algorithms.fedavg(problem_of(federation), fh.local.sgd(0.5, batch_size=4))
    held = np.asarray(federation.test.index)
    poisoned = dataclasses.replace(federation, x=federation.x.at[held].set(jnp.nan))
    for a, b in zip(
        jax.tree.leaves(trained(algorithm, federation)), jax.tree.leaves(trained(algorithm, poisoned))
    ):
        if jnp.issubdtype(a.dtype, jnp.floating):
            np.testing.assert_array_equal(a, b)
            assert np.isfinite(np.asarray(a)[np.asarray(a) != np.inf]).all()


def test_phases_follow_the_rounds_done():
    """Scores after round t are on the data of round t."""
    federation, _ = build()
    turned = jax.tree.map(
        lambda leaf: jnp.concatenate([leaf, leaf[:, ::-1]]), federation.transforms[0].arguments
    )
    phases = dataclasses.replace(
        federation,
        transforms=(Transform(turned, shifted_and_relabelled),),
        schedule=jax.tree_util.Partial(lambda t: t // 2),
        spec=dataclasses.replace(federation.spec, phases=2),
    )
    swapped = dataclasses.replace(
        federation,
        transforms=(Transform(jax.tree.map(lambda leaf: leaf[1:], turned), shifted_and_relabelled),),
    )
    algorithm = fh.algorithms.fedavg(problem_of(federation), fh.local.sgd(0.5, batch_size=4))
    state = trained(algorithm, federation)
    for done, same in ((0, federation), (2, federation), (3, swapped), (9, swapped)):
        at = dataclasses.replace(state, round=jnp.int32(done))
        one = evaluate(algorithm, at, phases, executor=fh.executors.vmapped())
        other = evaluate(algorithm, at, same, executor=fh.executors.vmapped())
        np.testing.assert_array_equal(one.shared["loss"], other.shared["loss"])
        np.testing.assert_array_equal(one.personal["loss"], other.personal["loss"])


def test_newcomers_choose_the_cluster_that_fits(x64):
    federation, host = build()
    algorithm = fh.algorithms.ifca(problem_of(federation), fh.local.sgd(0.5, batch_size=4), clusters=3)
    state = trained(algorithm, federation, rounds=1)
    rng = np.random.default_rng(0)
    centres = {"kernel": rng.normal(size=(3, FEATURES, CLASSES)), "bias": rng.normal(size=(3, CLASSES))}
    server = dataclasses.replace(state.server, params={"head": jax.tree.map(jnp.asarray, centres)})
    joined = fh.adapt(algorithm, server, federation, key=jax.random.key(1))
    best = []
    for k, ((x, y), _) in enumerate(host):
        losses = (
            [Softmax.loss({n: c[j] for n, c in centres.items()}, x, y) for j in range(3)] if len(y) else [0]
        )
        best.append(int(np.argmin(losses)))
        if len(y):
            assert int(joined.cluster[k]) == best[-1]
    assert len(set(best)) > 1
    looped = fh.adapt(algorithm, server, federation, key=jax.random.key(1), executor=fh.executors.looped())
    np.testing.assert_array_equal(looped.cluster, joined.cluster)
    seen = evaluate(
        algorithm,
        dataclasses.replace(state, server=server, clients=joined),
        federation,
        executor=fh.executors.vmapped(),
    )
    for k, (_, (x, y)) in enumerate(host):
        if len(y) and TRAIN[k]:
            own = {name: centre[best[k]] for name, centre in centres.items()}
            np.testing.assert_allclose(seen.personal["loss"][k], Softmax.loss(own, x, y), rtol=1e-9)


def test_newcomers_of_a_stateless_method_need_nothing():
    federation, _ = build()
    algorithm = fh.algorithms.fedavg(problem_of(federation), fh.local.sgd(0.5, batch_size=4))
    state = trained(algorithm, federation)
    assert jax.tree.leaves(fh.adapt(algorithm, state.server, federation, key=jax.random.key(1))) == []


def test_newcomers_depend_on_their_number_and_the_key_alone():
    federation, _ = build()
    pool = fh.Pool(federation.x, federation.y, federation.spec.pool)
    algorithm = fh.algorithms.fedper(fh.models.mlp(pool, hidden=(3,)), fh.local.sgd(0.5, batch_size=4))
    state = trained(algorithm, federation)
    heads = [
        np.asarray(
            fh.adapt(algorithm, state.server, federation, key=jax.random.key(seed)).params["head"]["kernel"]
        )
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(heads[0], heads[1])
    assert heads[0].shape == (5, 3, CLASSES)
    assert not np.array_equal(heads[0], heads[2]) and not np.array_equal(heads[0][0], heads[0][1])

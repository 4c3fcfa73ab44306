"""Weight divergence, and Zhao et al.'s bound: never violated where clients differ in labels alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.analysis.divergence import central_path, weight_divergence, zhao_bound
from fedjax_het.analysis.label_skew import class_smoothness, label_skew

K, D, N, T, ROUNDS = 3, 2, 4, 3, 5


def skewed(seed):
    """Clients of whole copies of each label's rows: (x, y, rows of each client); equal sizes for all seeds."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(3 * K, D)), np.repeat(np.arange(K), 3)
    copies = [rng.permutation([0, 1, 3]) for _ in range(N)]
    rows = [np.concatenate([np.repeat(np.flatnonzero(y == i), c[i]) for i in range(K)]) for c in copies]
    return x, y, rows


def federation_of(x, y, rows):
    """Row numbers may not repeat in a federation: every client brings its own copies."""
    pool = fh.pool(np.concatenate([x[r] for r in rows]), np.concatenate([y[r] for r in rows]), num_classes=K)
    ends = np.cumsum([len(r) for r in rows])
    parts = np.split(np.arange(ends[-1]), ends[:-1])
    return pool, fh.from_index_lists(pool, None, parts, test=0.0)


def trained(federation, problem, rate):
    """w after every round of FedAvg by the engine, flat, [ROUNDS, d]."""
    solver = fh.local.sgd(rate, batch_size=None, epochs=T)
    algorithm = fh.algorithms.fedavg(problem, solver)
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)

    def one(state, _):
        state, _ = round_fn(algorithm, state, federation)
        return state, state.server.params

    return jax.lax.scan(one, state, None, length=ROUNDS)[1]


def both(federation, problem, rate, shares, p, lipschitz, l2):
    x, y = federation.x, federation.y
    federated = trained(federation, problem, rate)
    start = problem.init(jax.random.key(0)).params
    central = central_path(problem, start, x, y, learning_rate=rate, steps=T * ROUNDS, num_classes=K)
    after = jax.tree.map(lambda leaf: leaf[T::T], central.params)
    apart = jax.vmap(lambda a, b: weight_divergence(a, b))(federated, after)
    length = jax.vmap(lambda w: jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(w))))(after)
    bound = zhao_bound(shares, p, lipschitz, central.slopes, learning_rate=rate, local_steps=T, l2=l2)
    return apart * length, bound[1:], apart


def test_the_bound_is_never_violated(x64):
    """64 problems, small steps and large ones, with and without weight decay; 5 rounds of 3 local steps."""
    drawn = [skewed(seed) for seed in range(32)]
    pool, _ = federation_of(*drawn[0])
    federations = [federation_of(*one)[1] for one in drawn]
    skews = [label_skew(*one, num_classes=K) for one in drawn]
    lipschitz = np.array([class_smoothness(one[0], one[1], num_classes=K) for one in drawn])
    shares, p = np.array([s.shares for s in skews]), np.array([s.p for s in skews])
    xs, ys = jnp.stack([f.x for f in federations]), jnp.stack([f.y for f in federations])
    base = federations[0]
    rates = np.geomspace(0.01, 1.0, 32)

    def run(x, y, rate, shares, p, lipschitz, l2):
        federation = dataclasses.replace(base, x=x, y=y)
        problem = dataclasses.replace(fh.models.softmax(pool, l2=0.1), l2=l2)
        return both(federation, problem, rate, shares, p, lipschitz, l2)

    run = jax.jit(jax.vmap(run, (0, 0, 0, 0, 0, 0, None)))
    tight = []
    for l2 in (0.0, 0.2):
        apart, bound, _ = run(xs, ys, jnp.asarray(rates), shares, p, lipschitz, jnp.asarray(l2))
        assert (np.asarray(apart) <= np.asarray(bound) * (1 + 1e-12)).all()
        tight.append(float(np.max(np.asarray(apart) / np.asarray(bound))))
    assert min(tight) > 0.02, "a bound that nothing comes near is no test"


def test_the_central_path_is_gradient_descent_by_hand(x64):
    x, y, rows = skewed(1)
    pool, _ = federation_of(x, y, rows)
    problem = fh.models.softmax(pool, l2=0.3)
    start = jax.tree.map(lambda leaf: leaf + 0.5, problem.init(jax.random.key(0)).params)
    found = central_path(problem, start, pool.x, pool.y, learning_rate=0.2, steps=2, num_classes=K)
    w, b = (np.asarray(start["head"][name]) for name in ("kernel", "bias"))
    px, py = np.asarray(pool.x), np.asarray(pool.y)
    for step in range(2):
        z = px @ w + b
        probability = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        error = probability - np.eye(K)[py]
        of_class = [
            np.sqrt(
                ((px[py == i].T @ error[py == i] / (py == i).sum()) ** 2).sum()
                + (error[py == i].mean(axis=0) ** 2).sum()
            )
            for i in range(K)
        ]
        np.testing.assert_allclose(found.slopes[step], max(of_class), rtol=1e-12)
        w = w - 0.2 * (px.T @ error / len(px) + 0.3 * w)
        b = b - 0.2 * (error.mean(axis=0) + 0.3 * b)
        np.testing.assert_allclose(found.params["head"]["kernel"][step + 1], w, rtol=1e-12)
        np.testing.assert_allclose(found.params["head"]["bias"][step + 1], b, rtol=1e-12)


def test_clients_of_the_same_labels_do_not_diverge(x64):
    shares = np.tile([0.2, 0.3, 0.5], (4, 1))
    bound = zhao_bound(shares, np.ones(4), np.ones(3), np.ones(6), learning_rate=0.1, local_steps=3)
    np.testing.assert_allclose(bound, 0, atol=1e-15)
    one_label = zhao_bound(np.eye(2), np.ones(2), np.ones(2), [2.0, 3.0], learning_rate=0.1, local_steps=2)
    np.testing.assert_allclose(one_label, [0, 0.1 * 1.0 * (3 + 1.1 * 2)], rtol=1e-12)  # |P - q|_1 = 1


def test_the_class_constant_is_attained(x64):
    """Two classes tied, the third far below: the Hessian's largest eigenvalue is lambda_i."""
    x = np.random.default_rng(0).normal(size=(6, D))
    y = np.array([0, 0, 0, 0, 1, 1])
    own = x[:4]

    def loss(flat):
        w = flat.reshape(D + 1, K)
        return -jnp.mean(jax.nn.log_softmax(own @ w[:D] + w[D][None, :])[:, 0])

    tied = jnp.zeros((D + 1, K)).at[D, 2].set(-60.0).reshape(-1)
    steepest = np.linalg.eigvalsh(jax.hessian(loss)(tied))[-1]
    np.testing.assert_allclose(class_smoothness(x, y, num_classes=K)[0], steepest, rtol=1e-9)
    assert class_smoothness(x, y, num_classes=K)[2] == 0
    elsewhere = jnp.asarray(np.random.default_rng(1).normal(size=(50, (D + 1) * K)))
    seen = jax.vmap(lambda w: jnp.linalg.eigvalsh(jax.hessian(loss)(w))[-1])(elsewhere)
    assert float(seen.max()) <= steepest


def test_it_refuses_rows_that_were_dealt_out_at_random():
    x, y, rows = skewed(0)
    skew = label_skew(x, y, [*rows, []], num_classes=K)
    np.testing.assert_allclose(skew.shares.sum(axis=1), 1)
    np.testing.assert_allclose(skew.p @ skew.shares, skew.shares[-1])
    dealt = [rows[0][rows[0] != rows[0][0]], *rows[1:]]
    label = int(y[rows[0][0]])
    with pytest.raises(ValueError, match=rf"labels alone, got p\(x \| y={label}\) of client 0 at a total"):
        label_skew(x, y, dealt, num_classes=K)
    with pytest.raises(ValueError, match="rows must hold a row"):
        label_skew(x, y, [[], []], num_classes=K)


def test_the_ratio_itself():
    assert float(weight_divergence({"a": jnp.array([3.0, 4])}, {"a": jnp.array([0.0, 4])})) == 0.75
    assert np.isinf(weight_divergence(jnp.ones(2), jnp.zeros(2)))
    assert np.isnan(weight_divergence(jnp.zeros(2), jnp.zeros(2)))


def test_bad_input():
    with pytest.raises(ValueError, match=r"slopes must be one number for each of local_steps=2 steps"):
        zhao_bound(np.eye(2), np.ones(2), np.ones(2), np.ones(3), learning_rate=0.1, local_steps=2)
    with pytest.raises(ValueError, match=r"must be \[N, K\], \[N\] and \[K\]"):
        zhao_bound(np.eye(2), np.ones(3), np.ones(2), np.ones(2), learning_rate=0.1, local_steps=2)
    with pytest.raises(ValueError, match="learning_rate must be > 0"):
        zhao_bound(np.eye(2), np.ones(2), np.ones(2), np.ones(2), learning_rate=0, local_steps=2)

"""Metrics against scikit-learn and NumPy, on sets of rows that differ in size and kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn

import fedjax_het as fh
from fedjax_het.engine.scoring import add, begin, finish, standard, union
from fedjax_het.metrics import low_is_good
from fedjax_het.metrics.ranking import area_under_curve

CHUNK = 16


def judge(metric, out, y, owner, owners):
    """(by owner, union): rows fed in chunks, the last one filled up with NaN that nobody owns."""
    rows = len(out)
    room = -(-rows // CHUNK) * CHUNK
    fill = ((0, room - rows), *[(0, 0)] * (out.ndim - 1))
    out = jnp.asarray(np.pad(out, fill, constant_values=np.nan), jnp.result_type(float))
    y = jnp.asarray(np.pad(y, ((0, room - rows), *[(0, 0)] * (y.ndim - 1))))
    y = y.astype(jnp.int32 if y.dtype.kind in "iu" else jnp.result_type(float))
    whose = jnp.asarray(np.pad(owner, (0, room - rows), constant_values=owners), jnp.int32)

    def chunk(place):
        return (jax.lax.dynamic_slice_in_dim(a, place, CHUNK) for a in (out, y, whose))

    def score(place):
        a, b, _ = chunk(place)
        return a, b

    carry = begin((metric,), score, jnp.int32(0), owners, room)
    for place in range(0, room, CHUNK):
        a, b, c = chunk(jnp.int32(place))
        carry = add((metric,), carry, a, b, c, jnp.int32(place), owners)
    count = jnp.asarray(np.bincount(owner, minlength=owners), jnp.int32)
    return finish((metric,), carry, count), union((metric,), carry, count)


def rows(classes=None, seed=0, count=150, owners=7):
    """(out, y, owner): owner 3 holds nothing, owner 4 a single class, outputs of two classes tie."""
    rng = np.random.default_rng(seed)
    owner = rng.integers(0, owners, count)
    owner[owner == 3] = 2
    if classes is None:
        y = 40 + rng.normal(size=count)
        return y + rng.normal(size=count) * 0.5, y, owner
    y = rng.integers(0, classes, count)
    y[owner == 4] = 0
    out = rng.normal(size=(count, classes)) + 1.5 * np.eye(classes)[y]
    out = np.round(8 * out) / 8 if classes == 2 else out  # differences of eighths tie exactly
    return out, y, owner


def each(score, out, y, owner, owners=7):
    return [score(out[owner == k], y[owner == k]) if (owner == k).any() else np.nan for k in range(owners)]


def softmax(out):
    return np.asarray(jax.nn.softmax(jnp.asarray(out), axis=-1))


def area(out, y):
    """scikit-learn's area under the curve, each class against the rest, over classes held and lacked."""
    areas = []
    for k in range(out.shape[1]):
        here = y == k
        if here.any() and not here.all():
            others = np.delete(out, k, axis=1).astype(np.float64)
            odds = out[:, k] - np.logaddexp.reduce(others, axis=1)
            areas.append(sklearn.roc_auc_score(here, odds))
    return np.mean(areas) if areas else np.nan


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_area_under_the_curve_is_scikit_learns(x64, classes, seed):
    out, y, owner = rows(classes, seed)
    by_owner, together = judge(fh.metrics.auc(), out, y, owner, 7)
    np.testing.assert_allclose(by_owner["auc"], each(area, out, y, owner), rtol=1e-9)
    np.testing.assert_allclose(together["auc"], area(out, y), rtol=1e-9)
    assert np.isnan(by_owner["auc"][4]) and np.isnan(by_owner["auc"][3])


def test_two_classes_are_the_usual_curve():
    out, y, _ = rows(2)
    _, together = judge(fh.metrics.auc(), out, y, np.zeros(len(y), int), 1)
    odds = out[:, 1] - out[:, 0]
    np.testing.assert_allclose(together["auc"], sklearn.roc_auc_score(y, odds), rtol=1e-6)


def test_area_of_extreme_scores():
    """Saturated probabilities would all tie; log odds do not. Minus zero ties with zero."""
    out = np.array([[0.0, 50.0 + k] for k in range(10)])
    y = np.array([0] * 5 + [1] * 5)
    _, together = judge(fh.metrics.auc(), out, y, np.zeros(10, int), 1)
    assert together["auc"] == 1
    owner, positive = jnp.zeros(2, jnp.int32), jnp.array([True, False])
    assert area_under_curve(jnp.array([-0.0, 0.0]), positive, owner, 1) == 0.5
    assert area_under_curve(jnp.array([1.0, 2.0]), positive, owner, 1) == 0


def test_area_keeps_its_digits_with_many_rows():
    """Float32, 300,000 rows: counts are whole numbers and shares lie in [0, 1]."""
    rng = np.random.default_rng(0)
    score, positive = rng.normal(size=300_000).astype(np.float32), rng.random(300_000) < 0.3
    score[positive] += 1
    owner = jnp.zeros(300_000, jnp.int32)
    found = area_under_curve(jnp.asarray(score), jnp.asarray(positive), owner, 1)[0]
    np.testing.assert_allclose(found, sklearn.roc_auc_score(positive, score), rtol=3e-6)


def test_balanced_accuracy_is_scikit_learns(x64):
    out, y, owner = rows(4)

    def recall(out, y):
        guess = out.argmax(1)
        return np.mean([(guess[y == k] == k).mean() for k in np.unique(y)])

    by_owner, together = judge(fh.metrics.balanced_accuracy(), out, y, owner, 7)
    np.testing.assert_allclose(by_owner["balanced_accuracy"], each(recall, out, y, owner), rtol=1e-9)
    expected = sklearn.balanced_accuracy_score(y, out.argmax(1))
    np.testing.assert_allclose(together["balanced_accuracy"], expected, rtol=1e-9)


def test_regression_is_scikit_learns(x64):
    out, y, owner = rows()

    def root(out, y):
        return np.sqrt(np.mean((out - y) ** 2))

    for metric, name, score in (
        (fh.metrics.rmse(), "rmse", root),
        (fh.metrics.r2(40.0), "r2", lambda out, y: sklearn.r2_score(y, out)),
        (fh.metrics.r2(), "r2", lambda out, y: sklearn.r2_score(y, out)),
    ):
        by_owner, together = judge(metric, out, y, owner, 7)
        np.testing.assert_allclose(by_owner[name], each(score, out, y, owner), rtol=1e-6)
        np.testing.assert_allclose(together[name], score(out, y), rtol=1e-6)


def test_determination_far_from_zero_in_float32():
    rng = np.random.default_rng(0)
    y = 1000 + rng.normal(size=2000)
    out = y + 0.5 * rng.normal(size=2000)
    _, together = judge(fh.metrics.r2(1000.0), out, y, np.zeros(2000, int), 1)
    seen = np.float32(out), np.float32(y)
    np.testing.assert_allclose(together["r2"], sklearn.r2_score(seen[1], seen[0]), rtol=1e-3)


def test_targets_that_are_all_equal_have_no_determination():
    y = np.full(20, 3.25)
    _, together = judge(fh.metrics.r2(), y + 1, y, np.zeros(20, int), 1)
    assert np.isnan(together["r2"])


def test_several_targets_a_row(x64):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(40, 3)) * [1, 10, 100] + [5, -5, 0]
    out = y + rng.normal(size=(40, 3))
    owner = np.zeros(40, int)
    _, together = judge(fh.metrics.rmse(), out, y, owner, 1)
    np.testing.assert_allclose(together["rmse"], np.sqrt(np.mean((out - y) ** 2)), rtol=1e-9)
    _, together = judge(fh.metrics.r2(y.mean(0)), out, y, owner, 1)
    expected = sklearn.r2_score(y, out, multioutput="variance_weighted")
    np.testing.assert_allclose(together["r2"], expected, rtol=1e-9)


def test_perplexity_of_the_union_is_not_the_mean_of_the_clients(x64):
    rng = np.random.default_rng(0)
    out, y = rng.normal(size=(30, 5, 6)), rng.integers(0, 6, (30, 5))
    owner = np.repeat(np.arange(3), 10)
    logs = np.log(softmax(out))
    token = -np.take_along_axis(logs, y[..., None], -1)[..., 0]
    by_owner, together = judge(fh.metrics.perplexity(), out, y, owner, 3)
    np.testing.assert_allclose(by_owner["perplexity"], np.exp(token.reshape(3, -1).mean(1)), rtol=1e-9)
    np.testing.assert_allclose(together["perplexity"], np.exp(token.mean()), rtol=1e-9)
    assert abs(together["perplexity"] - by_owner["perplexity"].mean()) > 1e-4


def names(federation, problem):
    """What a federation is judged by, unless told otherwise."""
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.looped())
    algorithm = fh.algorithms.fedavg(problem, fh.local.sgd(0.1, batch_size=4))
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    return set(fh.evaluate(algorithm, state, federation).union)


def federation_of(x, y, **facts):
    pool = fh.pool(x, y, **facts)
    return pool, fh.from_index_lists(pool, None, np.split(np.arange(len(x)), 4), test=0.5)


def test_what_a_task_is_judged_by():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    pool, federation = federation_of(x, rng.integers(0, 3, 40), num_classes=3)
    basic = {"loss", "accuracy", "balanced_accuracy"}
    assert names(federation, fh.models.softmax(pool)) == basic
    pool, federation = federation_of(x, rng.integers(0, 2, 40), num_classes=2)
    assert names(federation, fh.models.softmax(pool)) == basic | {"auc"}
    pool, federation = federation_of(x, rng.normal(size=40), task="regression")
    assert names(federation, fh.models.linear(pool)) == {"loss", "squared_error", "rmse", "r2"}


def test_a_problem_with_metrics_of_its_own_has_them_alone():
    import dataclasses

    rng = np.random.default_rng(0)
    pool, federation = federation_of(rng.normal(size=(40, 3)), rng.integers(0, 2, 40), num_classes=2)

    def confidence(out, y):
        return {"confidence": jax.nn.softmax(out).max(axis=-1)}

    problem = dataclasses.replace(fh.models.softmax(pool), metrics=confidence)
    assert names(federation, problem) == {"confidence"}
    assert len(standard(problem, federation)) == 1


def test_metrics_of_another_task_are_refused():
    rng = np.random.default_rng(0)
    pool, federation = federation_of(rng.normal(size=(40, 3)), rng.normal(size=40), task="regression")
    algorithm = fh.algorithms.fedavg(fh.models.linear(pool), fh.local.sgd(0.1, batch_size=4))
    for metric in (fh.metrics.auc(), fh.metrics.perplexity(), fh.metrics.balanced_accuracy()):
        with pytest.raises(ValueError, match=r"metrics must judge regression.*got one that judges"):
            fh.simulate(algorithm, federation, key=jax.random.key(0), rounds=1, metrics=[metric])
    with pytest.raises(TypeError, match=r"metrics must be made by calls, got function.*fh\.metrics\.auc\(\)"):
        fh.simulate(algorithm, federation, key=jax.random.key(0), rounds=1, metrics=[fh.metrics.auc])


def test_which_way_is_better():
    assert low_is_good("valid/shared/loss") and low_is_good("perplexity")
    assert not low_is_good("personal/accuracy") and not low_is_good("r2")

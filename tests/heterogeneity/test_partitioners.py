"""Every partitioner: each row once, sizes as asked, one federation a seed, whatever the labels are called."""

from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedjax_het as fh
from fedjax_het.heterogeneity import quantity
from fedjax_het.heterogeneity.feature import by_cluster, by_feature
from fedjax_het.heterogeneity.iid import iid
from fedjax_het.heterogeneity.label import classes, dirichlet, dirichlet_per_client, proportions, shards

SPLITS = ("train", "valid", "test")


def labelled(labels, classes=None, features=3):
    labels = np.asarray(labels)
    x = np.random.default_rng(5).standard_normal((len(labels), features))
    return fh.pool(x, labels, num_classes=classes)


def held(federation):
    """The rows of each client, over all splits, ascending."""
    parts = [[] for _ in range(federation.num_clients)]
    for split in SPLITS:
        rows = federation.rows(split)
        index, offset, size = (np.asarray(leaf) for leaf in (rows.index, rows.offset[0], rows.size[0]))
        for k, (start, count) in enumerate(zip(offset, size)):
            parts[k].extend(index[start : start + count].tolist())
    return [np.sort(np.array(part, int)) for part in parts]


def counts(federation):
    """Labels that each client holds [N, K]."""
    labels, kinds = np.asarray(federation.y), federation.spec.pool.num_classes
    return np.stack([np.bincount(labels[part], minlength=kinds) for part in held(federation)])


def total_sizes(federation):
    return np.array([len(part) for part in held(federation)])


ALL = {
    "iid": iid,
    "dirichlet": partial(dirichlet, alpha=0.3, min_size=0),
    "balanced": partial(dirichlet, alpha=0.3, balanced=True, min_size=0),
    "per client": partial(dirichlet_per_client, alpha=0.5),
    "shards": partial(shards, per_client=1),
    "classes": partial(classes, per_client=1, min_size=0),
    "power law": partial(quantity.power_law, exponent=1.3, min_size=0),
    "log normal": partial(quantity.log_normal, sigma=1.5, min_size=0),
    "dirichlet sizes": partial(quantity.dirichlet, alpha=0.5, min_size=0),
    "by feature": partial(by_feature, alpha=0.4, bins=4),
    "by cluster": partial(by_cluster, alpha=0.4, groups=2),
}
EQUAL = {"iid", "balanced", "per client", "shards", "by feature", "by cluster"}


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=12, derandomize=True, deadline=None)
@given(data=st.data())
def test_every_row_once_and_sizes_as_promised(name, data):
    rows = data.draw(st.integers(12, 90), "rows")
    kinds = data.draw(st.integers(1, 4), "classes")
    clients = data.draw(st.integers(kinds, 12), "clients")
    seed = data.draw(st.integers(0, 99), "seed")
    labels = np.random.default_rng(seed).integers(0, kinds, rows)
    federation = ALL[name](labelled(labels, kinds), clients=clients, seed=seed, valid=0.1, test=0.2)
    mine = held(federation)
    np.testing.assert_array_equal(np.sort(np.concatenate(mine)), np.arange(rows))
    if name in EQUAL:
        assert np.ptp(total_sizes(federation)) <= 1
    if "sizes" in federation.truth:
        np.testing.assert_array_equal(total_sizes(federation), federation.truth["sizes"])
    np.testing.assert_allclose(federation.truth["cut"], [0.1, 0.2])


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_gives_the_same_federation(name):
    source = labelled(np.arange(120) % 4)
    one, two, other = (ALL[name](source, clients=8, seed=seed) for seed in (3, 3, 4))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two)):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(held(one), held(other)))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", [0, 7])
def test_renaming_the_labels_renames_the_result(name, seed):
    labels = np.random.default_rng(seed).integers(0, 5, 180)
    names = np.array([3, 0, 4, 1, 2])
    one, two = (ALL[name](labelled(y, 6), clients=9, seed=seed) for y in (labels, names[labels]))
    for a, b in zip(held(one), held(two)):
        np.testing.assert_array_equal(a, b)
    for split in SPLITS:
        np.testing.assert_array_equal(one.rows(split).index, two.rows(split).index)
    for entry in ("proportions", "drawn", "classes", "held"):
        if entry in one.truth:
            np.testing.assert_array_equal(
                np.asarray(one.truth[entry])[:, :5], np.asarray(two.truth[entry])[:, names]
            )


def of_federations(name):
    """The partitioner without what says something of pools alone."""
    step = ALL[name]
    size = name in ("power law", "log normal", "dirichlet sizes")
    return partial(
        step.func, **{key: value for key, value in step.keywords.items() if size or key != "min_size"}
    )


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("iid", "balanced")])
def test_a_federation_keeps_its_clients_its_rows_and_their_splits(name):
    source = labelled(np.arange(400) % 5)
    start = quantity.power_law(source, clients=10, exponent=1.0, seed=2, test=0.25, valid=0.05)
    again = of_federations(name)(start, seed=1)
    np.testing.assert_array_equal(np.sort(np.concatenate(held(again))), np.arange(400))
    assert not all(np.array_equal(a, b) for a, b in zip(held(start), held(again)))
    for split in SPLITS:  # nobody is tested on what somebody has trained on before
        before, after = (np.sort(np.asarray(f.rows(split).index)) for f in (start, again))
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(total_sizes(again), again.truth["sizes"])
    if name in ("power law", "log normal", "dirichlet sizes"):
        assert not np.array_equal(total_sizes(again), total_sizes(start))
        size, whole = np.asarray(again.test.size[0]), total_sizes(again)
        assert np.abs(size - 0.25 * whole).max() <= 2 and (np.asarray(again.train.size[0])[whole > 0] > 0).all()
    else:
        for split in SPLITS:
            np.testing.assert_array_equal(start.rows(split).size, again.rows(split).size)


def test_labels_of_all_splits_follow_a_deal():
    """What is held out is as skewed as what is trained on."""
    start = iid(labelled(np.arange(20_000) % 5), clients=10, test=0.3)
    again = dirichlet_per_client(start, alpha=2.0, seed=1)
    train, test = (fh.heterogeneity.label_counts(again, split=split) for split in ("train", "test"))
    share = [count / count.sum(1, keepdims=True) for count in (train, test)]
    assert np.abs(share[0] - share[1]).max() < 0.01 < 0.3 < share[0].max()


def test_per_client_proportions_have_the_moments_of_a_dirichlet():
    """E|P - q|^2 = (1 - |q|^2) / (alpha + 1), over 1,000 clients, within four standard errors."""
    labels = np.repeat(np.arange(4), [4000, 3000, 2000, 1000])
    q = np.array([0.4, 0.3, 0.2, 0.1])
    for alpha in (0.1, 1.0, 20.0):
        drawn = np.asarray(
            dirichlet_per_client(labelled(labels), clients=1000, alpha=alpha, seed=11).truth["proportions"],
            float,
        )
        np.testing.assert_allclose(drawn.sum(1), 1, atol=1e-6)
        square = ((drawn - q) ** 2).sum(1)
        error = square.std() / np.sqrt(1000)
        assert abs(square.mean() - (1 - (q**2).sum()) / (alpha + 1)) < 4 * error
        np.testing.assert_allclose(drawn.mean(0), q, atol=4 * np.sqrt(q.max() / (alpha + 1) / 1000))


def test_what_is_held_is_near_what_was_drawn():
    federation = dirichlet_per_client(labelled(np.arange(50_000) % 10), clients=100, alpha=1.0, seed=0)
    share = counts(federation) / 500
    drawn = np.asarray(federation.truth["proportions"])
    assert np.abs(share - drawn).sum(1).mean() / 2 < 0.1
    assert np.corrcoef(share.ravel(), drawn.ravel())[0, 1] > 0.97


def test_replacement_draws_by_the_proportions():
    source = labelled(np.repeat(np.arange(3), [10, 20, 70]))
    federation = dirichlet_per_client(source, clients=50, alpha=2.0, sizes=4000, replacement=True, seed=1)
    np.testing.assert_array_equal(total_sizes(federation), 4000)
    drawn = np.asarray(federation.truth["proportions"], float)
    # six standard deviations of a share of 4000 draws
    assert np.abs(counts(federation) / 4000 - drawn).max() < 6 * np.sqrt(0.25 / 4000)
    often = np.bincount(np.concatenate(held(federation)), minlength=100)[30:]
    assert often.std() / often.mean() < 3 / np.sqrt(often.mean())


def test_sizes_may_be_given_to_clients_of_their_own_labels():
    sizes = [5, 0, 60, 35]
    federation = dirichlet_per_client(labelled(np.arange(100) % 3), clients=4, alpha=0.5, sizes=sizes, seed=0)
    assert total_sizes(federation).tolist() == sizes
    few = dirichlet_per_client(labelled(np.arange(300) % 3), clients=4, alpha=0.5, sizes=sizes, seed=0)
    assert total_sizes(few).tolist() == sizes
    # with rows to spare clients get what they drew
    np.testing.assert_allclose(counts(few)[2] / 60, np.asarray(few.truth["proportions"])[2], atol=1.01 / 60)


@pytest.mark.parametrize(("per_client", "emd"), [(1, 1.8), (2, 1.6)])
@pytest.mark.parametrize("partition", [classes, shards])
def test_few_classes_of_fashion_mnist_have_the_published_distance(per_client, emd, partition):
    source = fh.datasets.fashion_mnist()
    federation = partition(source, clients=100, per_client=per_client, seed=0, test=0.0)
    share = counts(federation) / 600
    distance = np.abs(share - 0.1).sum(1)
    if partition is classes:
        np.testing.assert_allclose(distance, emd, atol=1e-12)
        assert (counts(federation)[counts(federation) > 0] == 600 // per_client).all()
        np.testing.assert_array_equal(np.asarray(federation.truth["classes"]).sum(0), 10 * per_client)
    else:  # both shards of a client may be of one class
        assert distance.max() <= 1.8 + 1e-12 and distance.min() >= emd - 1e-12


@settings(max_examples=25, derandomize=True, deadline=None)
@given(data=st.data())
def test_clients_get_exactly_as_many_classes(data):
    kinds = data.draw(st.integers(1, 9), "kinds")
    each = data.draw(st.integers(1, kinds), "each")
    clients = data.draw(st.integers(-(-kinds // each), 30), "clients")
    seed = data.draw(st.integers(0, 99), "seed")
    labels = np.repeat(np.arange(kinds), 40)
    federation = classes(labelled(labels), clients=clients, per_client=each, seed=seed)
    np.testing.assert_array_equal((counts(federation) > 0).sum(1), each)
    holders = (counts(federation) > 0).sum(0)
    assert np.ptp(holders) <= 1


def test_proportions_are_met_to_the_row():
    wanted = [[0.5, 0.5, 0.0], [0.0, 0.25, 0.75], [1.0, 0.0, 0.0]]
    federation = proportions(labelled(np.arange(90) % 3), proportions=wanted, seed=0)
    np.testing.assert_array_equal(counts(federation), [[10, 10, 0], [0, 5, 15], [20, 0, 0]])
    federation = proportions(labelled(np.arange(90) % 3), proportions=wanted, sizes=[4, 8, 1], seed=0)
    np.testing.assert_array_equal(counts(federation), [[2, 2, 0], [0, 2, 6], [1, 0, 0]])
    drawn = proportions(
        labelled(np.arange(90) % 3), proportions=wanted, sizes=5000, replacement=True, seed=0, test=0.0
    )
    np.testing.assert_allclose(counts(drawn) / 5000, wanted, atol=0.03)
    start = quantity.sizes(labelled(np.arange(90) % 3), sizes=[20, 30, 40])
    near = proportions(start, proportions=wanted)
    assert total_sizes(near).tolist() == [20, 30, 40]
    assert counts(near)[:, 0].argmax() == 2 and counts(near)[1, 2] > 20


def test_truth_says_nothing_that_is_so_no_longer():
    start = classes(labelled(np.arange(400) % 5), clients=10, per_client=2)
    np.testing.assert_allclose(
        start.truth["held"], counts(start) / counts(start).sum(1, keepdims=True), rtol=1e-6
    )
    for step in (partial(quantity.log_normal, sigma=1.0), partial(by_feature, alpha=0.5)):
        assert {"classes", "held"}.isdisjoint(step(start).truth)
    again = dirichlet(start, alpha=0.5)
    np.testing.assert_allclose(
        again.truth["held"], counts(again) / counts(again).sum(1, keepdims=True), rtol=1e-6
    )
    assert "classes" not in again.truth


def test_bins_are_numbered_by_value():
    source = labelled(np.arange(200) % 2)
    federation = by_feature(source, feature=1, bins=5, clients=4)
    group, value = np.asarray(federation.truth["group"]), np.asarray(source.x)[:, 1]
    edge = [(value[group == k].min(), value[group == k].max()) for k in range(5)]
    assert all(edge[k][1] < edge[k + 1][0] for k in range(4))


def test_skew_grows_as_alpha_falls_until_the_totals_forbid_more():
    source = labelled(np.random.default_rng(0).permutation(20_000) % 10)
    for replacement in (False, True):
        skew = [
            fh.heterogeneity.MEASURES["js"](
                dirichlet_per_client(
                    source, clients=40, alpha=alpha, sizes=500, replacement=replacement, seed=1
                )
            )
            for alpha in (100.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.001)
        ]
        free = skew if replacement else skew[:6]
        assert free == sorted(free)
        assert min(skew[6:]) > max(skew) - 0.03


def test_sizes_follow_their_laws():
    source = labelled(np.arange(6000) % 3)
    size = np.sort(total_sizes(quantity.power_law(source, clients=20, exponent=1.0)))[::-1]
    np.testing.assert_allclose(size, 6000 / np.arange(1, 21) / np.sum(1 / np.arange(1, 21)), atol=1)
    for law, dial, values in (
        (quantity.power_law, "exponent", (0.0, 0.5, 1.5)),
        (quantity.log_normal, "sigma", (0.0, 0.5, 1.5)),
        (quantity.dirichlet, "alpha", (1e6, 2.0, 0.2)),
    ):
        spread = [total_sizes(law(source, clients=20, seed=1, **{dial: value})).std() for value in values]
        assert spread[0] < 1 and spread == sorted(spread), law.__name__
    least = total_sizes(quantity.power_law(source, clients=20, exponent=3.0, min_size=50))
    assert least.min() == 50 and least.sum() == 6000
    log = np.log(total_sizes(quantity.log_normal(labelled(np.zeros(10**6, int)), clients=500, sigma=0.7)))
    assert abs(log.std() - 0.7) < 4 * 0.7 / np.sqrt(1000)


def test_quantity_keeps_labels():
    source = labelled(np.arange(20_000) % 10)
    start = dirichlet_per_client(source, clients=50, alpha=2.0, seed=0)
    uneven = quantity.log_normal(start, sigma=0.8, seed=0)
    before, after = (counts(f) / counts(f).sum(1, keepdims=True) for f in (start, uneven))
    assert np.abs(before - after).sum(1).mean() / 2 < 0.15
    assert np.std(np.log(total_sizes(uneven))) > 0.5
    np.testing.assert_array_equal(start.truth["proportions"], uneven.truth["proportions"])


def test_covariates_choose_rows_and_nothing_else():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20_000, 4))
    labels = (rng.random(20_000) < 0.3).astype(int)
    source = fh.pool(x, labels)
    federation = by_feature(source, feature=2, clients=20, alpha=0.3, seed=0)
    group = np.asarray(federation.truth["group"])
    mean = np.array([x[part, 2].mean() for part in held(federation)])
    other = np.array([x[part, 1].mean() for part in held(federation)])
    assert mean.std() > 0.3 and other.std() < 0.06
    rate = np.array([labels[part].mean() for part in held(federation)])
    assert np.abs(rate - 0.3).max() < 6 * np.sqrt(0.21 / 1000)
    for k in np.unique(group):  # bins hold neighbouring values and equally many rows
        inside = x[group == k, 2]
        assert len(inside) == 2000
        assert ((x[:, 2] > inside.min()) & (x[:, 2] < inside.max())).sum() == 1998
    federation = by_feature(source, feature=2, clients=20, alpha=5.0, seed=0)
    share = np.stack([np.bincount(group[part], minlength=10) for part in held(federation)]) / 1000
    assert np.corrcoef(share.ravel(), np.asarray(federation.truth["selection"]).ravel())[0, 1] > 0.9
    clusters = by_cluster(fh.pool(np.repeat(np.eye(4), 50, 0) * 9, np.arange(200) % 2), groups=4, clients=5)
    assert len(np.unique(np.asarray(clusters.truth["group"])[::50])) == 4
    values = by_feature(source, feature=x[:, 3] ** 2, clients=20, alpha=0.3, seed=0)
    assert np.std([np.mean(x[part, 3] ** 2) for part in held(values)]) > 0.2


def test_groups_of_a_column():
    column = np.array(["b", "a", "b", "c", "b", "a"])
    federation = fh.heterogeneity.natural.groups(labelled([0, 1, 0, 1, 0, 1]), group=column, test=0.0, least=2)
    assert [part.tolist() for part in held(federation)] == [[1, 5], [0, 2, 4]]
    assert federation.truth["value"].tolist() == [0, 1] and federation.truth["sizes"].tolist() == [2, 3]


POOL = labelled(np.arange(20) % 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: shards(POOL, clients=5, per_client=5),
            ValueError,
            r"per_client must be <= 4, got 5: 5 clients share",
        ),
        (lambda: shards(POOL), ValueError, "clients must be given for a Pool, got None"),
        (lambda: shards(3, clients=2), TypeError, "source must be a Pool or a Federation, got int"),
        (
            lambda: classes(POOL, clients=5, per_client=3),
            ValueError,
            "per_client must be <= 2, got 3: the rows have 2",
        ),
        (
            lambda: classes(POOL, clients=1, per_client=1),
            ValueError,
            "clients must be >= 2, got 1: .* belong to nobody",
        ),
        (
            lambda: classes(POOL, clients=10, min_size=3),
            ValueError,
            "min_size must be <= 2, got 3: 20 rows of 2",
        ),
        (lambda: dirichlet_per_client(POOL, clients=5, alpha=0), ValueError, "alpha must be > 0, got 0"),
        (lambda: dirichlet_per_client(POOL, clients=21, alpha=1), ValueError, "clients must be <= 20, got 21"),
        (
            lambda: dirichlet_per_client(POOL, clients=2, alpha=1, sizes=11),
            ValueError,
            "sizes must add up to at most 20, got 22: .* replacement=True",
        ),
        (
            lambda: dirichlet_per_client(POOL, clients=2, alpha=1, sizes=[1, 2, 3]),
            ValueError,
            "sizes must list 2 clients, got 3 sizes",
        ),
        (
            lambda: dirichlet_per_client(POOL, clients=2, alpha=1, sizes=[1, -2]),
            ValueError,
            "sizes must be >= 0, got -2",
        ),
        (
            lambda: dirichlet(iid(POOL, clients=4), clients=5, alpha=1.0),
            ValueError,
            "clients must be left out for a Federation, got 5: it has 4",
        ),
        (
            lambda: proportions(POOL, proportions=[[0.5, 0.4], [1, 0]]),
            ValueError,
            "proportions must be >= 0 and add up to 1 for each client, got 0.9 for client 0",
        ),
        (
            lambda: proportions(POOL, proportions=[[1.0]]),
            ValueError,
            r"must have shape \[1, 2\], clients and classes",
        ),
        (lambda: proportions(POOL, proportions=[1.0, 0.0]), ValueError, r"got shape \(2,\): pass \[N, K\]"),
        (
            lambda: proportions(POOL, proportions="x"),
            TypeError,
            "proportions must be a table of numbers, got 'x'",
        ),
        (
            lambda: proportions(labelled([0, 1] * 5, 3), proportions=[[0.5, 0, 0.5]]),
            ValueError,
            r"proportions must be 0 for classes that nobody holds, got more for \[2\]",
        ),
        (
            lambda: proportions(POOL, proportions=[[1.0, 0.0]], sizes=11),
            ValueError,
            r"ask for \[11\] rows of classes \[0\], which have \[10\]: all sizes up to 10 are met",
        ),
        (
            lambda: quantity.power_law(POOL, clients=5, exponent=-1),
            ValueError,
            "exponent must be >= 0.0, got -1|exponent must be >= 0, got -1",
        ),
        (
            lambda: quantity.log_normal(POOL, clients=5, min_size=5),
            ValueError,
            "min_size must be <= 4, got 5: 5 clients share 20",
        ),
        (lambda: quantity.dirichlet(POOL, clients=5, alpha=0), ValueError, "alpha must be > 0, got 0"),
        (lambda: quantity.sizes(POOL, sizes=[30]), ValueError, "sizes must add up to at most 20, got 30"),
        (lambda: by_feature(POOL, clients=2, feature=3), ValueError, r"feature must be in 0..2, got 3"),
        (
            lambda: by_feature(POOL, clients=2, feature=[1.0]),
            ValueError,
            "feature must be one finite number for each of the 20",
        ),
        (lambda: by_feature(POOL, clients=2, bins=1), ValueError, "bins must be >= 2, got 1"),
        (
            lambda: by_feature(POOL, clients=2, feature=np.zeros(20)),
            ValueError,
            "feature must take different values",
        ),
        (lambda: by_cluster(POOL, clients=2, groups=30), ValueError, "groups must be <= 20, got 30"),
        (
            lambda: fh.heterogeneity.natural.groups(POOL, group=np.arange(20), least=2),
            ValueError,
            "least must be <= 1, got 2: no value has more",
        ),
        (
            lambda: dirichlet(iid(POOL, clients=4), alpha=1.0, test=0.3),
            ValueError,
            "test must be left out for a Federation, got 0.3: its rows stay in the split",
        ),
        (
            lambda: dirichlet(iid(POOL, clients=4), alpha=1.0, min_size=3),
            ValueError,
            "min_size must be left out for a Federation, got 3: its clients keep their sizes",
        ),
        (
            lambda: dirichlet(iid(POOL, clients=4), alpha=1.0, balanced=True),
            ValueError,
            "balanced must be left out for a Federation, got True",
        ),
        (
            lambda: classes(iid(POOL, clients=4), min_size=3),
            ValueError,
            "min_size must be left out for a Federation, got 3",
        ),
        (
            lambda: shards(POOL, clients=21),
            ValueError,
            "clients must be <= 20, got 21: there is one row a client",
        ),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_who_is_known_by_its_size_is_written_down():
    federation = quantity.sizes(POOL, sizes=[3, 5, 3, 7])
    assert federation.truth["size_alone"].tolist() == [False, True, False, True]
    assert not iid(POOL, clients=4).truth["size_alone"].any()

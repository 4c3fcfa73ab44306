"""Federations from tables: kinds of columns, names, refusals."""

import datetime
import re
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest

from fedjax_het.construct import from_groups
from fedjax_het.frames import Names, from_frame

ROWS = 60


def schools(rows=ROWS, seed=0):
    """Three schools, one column of each kind."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "school": rng.choice(["Park Road", "Élan", "17"], rows),
            "score": rng.normal(size=rows).round(3),
            "age": rng.integers(11, 18, rows),
            "girl": rng.integers(0, 2, rows).astype(bool),
            "town": rng.choice(["Oslo", "Bergen"], rows),
            "passed": rng.choice(["no", "yes"], rows),
        }
    )


def columns(frame):
    """The same table as a plain dict."""
    return {name: frame[name].tolist() for name in frame}


def federation_of(frame, **options):
    return from_frame(frame, client="school", label="passed", **options)


def test_every_kind_of_column():
    frame = schools()
    federation, names = federation_of(frame)
    assert names == Names(
        clients=("17", "Park Road", "Élan"),
        features=("score", "age", "girl", "town=Bergen", "town=Oslo"),
        labels=("no", "yes"),
    )
    np.testing.assert_allclose(federation.x[:, :3], frame[["score", "age", "girl"]].astype(float), rtol=1e-6)
    np.testing.assert_array_equal(federation.x[:, 3], frame["town"] == "Bergen")
    np.testing.assert_array_equal(federation.x[:, 4], frame["town"] == "Oslo")
    np.testing.assert_array_equal(federation.y, frame["passed"] == "yes")
    assert federation.spec.pool.name == "frame" and federation.spec.pool.num_classes == 2


def test_clients_are_the_rows_of_their_value():
    frame = schools()
    federation, names = federation_of(frame, test=0.25, valid=0.25, seed=3)
    for k, school in enumerate(names.clients):
        held = [np.asarray(federation.rows(split).index) for split in ("train", "valid", "test")]
        places = [
            index[int(rows.offset[0, k]) : int(rows.offset[0, k] + rows.size[0, k])]
            for index, rows in zip(held, (federation.train, federation.valid, federation.test))
        ]
        assert sorted(np.concatenate(places).tolist()) == np.flatnonzero(frame["school"] == school).tolist()
        assert names.client(school) == k


def test_it_goes_through_from_groups():
    frame = schools()
    federation, _ = federation_of(frame, features=["score", "age"], seed=5, name="tab")
    x, y = frame[["score", "age"]].to_numpy(float), (frame["passed"] == "yes").to_numpy(int)
    same = from_groups(x, y, frame["school"].to_numpy(), seed=5, num_classes=2, name="tab")
    assert jax.tree.structure(federation) == jax.tree.structure(same)
    for one, other in zip(jax.tree.leaves(federation), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "change",
    [
        columns,
        lambda frame: {name: frame[name].to_numpy() for name in frame},
        lambda frame: frame.convert_dtypes(),
        lambda frame: frame.astype(object),
        lambda frame: frame.sample(frac=1, random_state=0).sort_index(),
        lambda frame: frame.set_index(np.arange(ROWS)[::-1]),
        lambda frame: frame.astype({"school": "category", "passed": "category", "town": "category"}),
    ],
)
def test_the_same_table_in_other_clothes(change):
    federation, names = federation_of(schools())
    again, same = federation_of(change(schools()))
    assert same == names
    for one, other in zip(jax.tree.leaves(federation), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_declared_categories_count_though_they_do_not_occur():
    frame = schools()
    frame["town"] = pd.Categorical(frame["town"], ["Oslo", "Tromsø", "Bergen"])
    frame["passed"] = pd.Categorical(frame["passed"], ["no", "maybe", "yes"], ordered=True)
    frame["age"] = pd.Categorical(frame["age"])
    federation, names = federation_of(frame, features=["town", "age"])
    assert names.features[:4] == ("town=Oslo", "town=Tromsø", "town=Bergen", "age=11")
    assert names.labels == ("no", "maybe", "yes") and federation.spec.pool.num_classes == 3
    assert set(np.unique(federation.y)) == {0, 2}
    assert not np.asarray(federation.x[:, 1]).any()
    np.testing.assert_array_equal(np.asarray(federation.x).sum(1), 2)


def labelled(values, **options):
    frame = {"client": np.arange(len(values)) % 2, "a": np.arange(len(values)) / 7, "label": values}
    federation, names = from_frame(frame, client="client", label="label", **options)
    return federation.spec.pool.task, names.labels, np.asarray(federation.y)


@pytest.mark.parametrize(
    ("values", "task", "labels", "y"),
    [
        ([5, 3, 5, 9], "classification", (3, 5, 9), [1, 0, 1, 2]),
        ([True, False, True, True], "classification", (False, True), [1, 0, 1, 1]),
        ([0.5, 1.0, -2.0, 3.0], "regression", (), [0.5, 1, -2, 3]),
        (np.array(["b", "a", "b", "c"]), "classification", ("a", "b", "c"), [1, 0, 1, 2]),
        (pd.array([4, 2, 2, 4], "Int64"), "classification", (2, 4), [1, 0, 0, 1]),
        (np.arange(300.0), "regression", (), np.arange(300.0)),
    ],
)
def test_the_label_tells_the_task(values, task, labels, y):
    got = labelled(values)
    assert got[:2] == (task, labels)
    np.testing.assert_array_equal(got[2], y)


def test_a_given_task():
    assert labelled([1.0, 0.0, 1.0], task="classification")[:2] == ("classification", (0.0, 1.0))
    assert labelled([1, 0, 1], task="regression")[:2] == ("regression", ())
    assert len(labelled(np.arange(200), task="classification")[1]) == 200


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([1.0, 0.0, 1.0], {}, "task must be given for the label 'label', got None for 2 .* type float64: pass"),
        (np.arange(101), {}, "task must be given for the label 'label', got None for 101 .* type int64"),
        (["a", "b"], {"task": "regression"}, "label must hold numbers for task 'regression', got text"),
        ([1, 2], {"task": "tokens"}, "task must be one of the names below, got 'tokens'"),
    ],
)
def test_a_label_that_does_not_fit_the_task(values, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        labelled(values, **options)


def test_numbers_of_clients():
    frame = schools().assign(school=np.arange(ROWS) % 4 * 10)
    _, names = federation_of(frame)
    assert names.clients == (0, 10, 20, 30) and names.client(20) == 2
    with pytest.raises(
        ValueError, match=r"one of the 4 clients, got '20': did you mean 20\? see names.clients"
    ):
        names.client("20")
    with pytest.raises(ValueError, match=r"got 7: see names.clients, the first is 0"):
        names.client(7)
    days = pd.date_range("2024-01-01", periods=2)
    _, names = federation_of(schools().assign(school=np.resize(days, ROWS)))
    assert names.client(np.datetime64("2024-01-02")) == 1


def holes(frame):
    frame = frame.astype({"age": "Int64", "girl": "boolean"})
    frame.loc[[3, 8], "age"] = pd.NA
    frame.loc[4, "score"] = np.nan
    frame.loc[7, "town"] = None
    frame.loc[9, "girl"] = pd.NA
    frame.loc[[0, 1], "school"] = None
    return frame


def test_missing_values_are_named_column_by_column():
    with pytest.raises(ValueError) as caught:
        federation_of(holes(schools()))
    assert str(caught.value) == (
        "frame must have no missing values in the columns used, got 2 in 'school' (first in row 0), "
        "1 in 'score' (first in row 4), 2 in 'age' (first in row 3), 1 in 'girl' (first in row 9), "
        "1 in 'town' (first in row 7): drop these rows, "
        "as by frame.dropna(subset=['school', 'score', 'age', 'girl', 'town']), or fill them in"
    )
    full = holes(schools()).dropna()
    assert federation_of(full)[0].x.shape == (len(full), 5)


@pytest.mark.parametrize("hole", [None, float("nan"), pd.NA, pd.NaT])
def test_a_hole_in_a_plain_list(hole):
    with pytest.raises(ValueError, match=r"got 1 in 'a' \(first in row 1\): drop"):
        from_frame({"c": ["k", "l"], "a": ["x", hole], "y": [0, 1]}, client="c", label="y")


def test_missing_values_in_columns_that_are_not_used():
    frame = schools().assign(score=np.nan)
    assert federation_of(frame, features=["age"])[1].features == ("age",)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            lambda f: f.to_numpy(),
            {},
            "frame must be a pandas or polars data frame .*, got ndarray: .*from_groups",
        ),
        (
            lambda f: f.rename(columns={"age": 3}),
            {},
            "frame must have strings for column names, got 3: rename it",
        ),
        (
            lambda f: f.rename(columns={"school": "skool"}),
            {},
            "client must be one of .*'school': did you mean 'skool'",
        ),
        (lambda f: f.drop(columns="passed"), {}, "label must be one of the names below, got 'passed'"),
        (lambda f: f, {"features": ["aged"]}, "features must be one of .*, got 'aged': did you mean 'age'"),
        (lambda f: f, {"features": "age"}, r"features must be a list of columns, got 'age': pass \['age'\]"),
        (lambda f: f, {"features": []}, "features must list at least one column, got none"),
        (
            lambda f: f,
            {"features": ["passed", "age", "age"]},
            "once and not the label, got 'age', 'passed': drop",
        ),
        (lambda f: f[:0], {}, r"frame must have rows, equally many in each column, got \[0\]"),
        (lambda f: columns(f) | {"age": [1, 2]}, {}, r"equally many in each column, got \[2, 60\]"),
        (
            lambda f: pd.concat([f, f[["age"]]], axis=1),
            {"features": ["age"]},
            "column 'age' must be one column",
        ),
        (
            lambda f: f.assign(age=datetime.datetime(2024, 1, 1)),
            {},
            "column 'age' must hold numbers, .*datetime64",
        ),
        (
            lambda f: f.assign(age=[1, "a"] * 30),
            {},
            "'age' must hold numbers, booleans or text, got int and str: turn",
        ),
        (
            lambda f: f.assign(age=[True, 2] * 30),
            {},
            "'age' must hold numbers, booleans or text, got bool and int",
        ),
        (lambda f: f.assign(age=1 / f["girl"]), {}, "column 'age' must be finite, got [0-9]+ infinite values"),
        (
            lambda f: f.assign(town=[f"t{i % 150}" for i in range(200)]),
            {},
            "column 'town' must have at most 100 different values .* got 150: leave it out",
        ),
        (
            lambda f: f.assign(school=[1, "a"] * 30),
            {},
            "client column 'school' must hold values that can be sorted",
        ),
    ],
)
def test_refused(change, options, message):
    frame = schools(200 if "t{i" in message or "150" in message else ROWS)
    with pytest.raises((TypeError, ValueError), match=message):
        federation_of(change(frame), **options)


def test_the_client_cannot_be_the_label():
    with pytest.raises(ValueError, match=re.escape("label must be another column than client, got 'school'")):
        from_frame(schools(), client="school", label="school")


def test_pandas_is_not_imported_for_it():
    program = (
        "import sys; from fedjax_het.frames import from_frame; "
        "from_frame({'c': [0, 0, 1], 'a': [1., 2., 3.], 'y': ['p', 'q', 'p']}, client='c', label='y'); "
        "print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr

"""describe: every kind of task, what it says, as text and as JSON."""

import json
import math

import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.heterogeneity import describe
from fedjax_het.heterogeneity.counts import label_counts
from fedjax_het.heterogeneity.iid import iid
from fedjax_het.heterogeneity.label import dirichlet
from fedjax_het.heterogeneity.measures import LABEL_MEASURES, MEASURES, SIZE_MEASURES
from fedjax_het.phases import phases, switch


def digits(alpha=0.1, **options):
    return dirichlet(fh.datasets.digits(), clients=10, alpha=alpha, **options)


def test_a_skewed_federation():
    federation = digits()
    told = describe(federation)
    assert (told.clients, told.classes, told.phases, told.task) == (10, 10, 1, "classification")
    assert told.cut and told.rows["train"] + told.rows["test"] == 1797
    np.testing.assert_array_equal(told.counts, label_counts(federation))
    for name, measure in MEASURES.items():
        assert told.measures[name].value == pytest.approx(measure(federation))
    for name in LABEL_MEASURES:
        chance = told.measures[name].chance
        assert chance.low <= chance.mean <= chance.high and not chance.holds(told.measures[name].value)
        assert told.each[name].shape == (10,)
    assert all(told.measures[name].chance is None for name in SIZE_MEASURES)
    text = str(told)
    assert "digits: classification, 10 clients, 10 classes, features 64" in text
    assert text.count("skewed: ") == 5 and "98 % of IID splits" in text and "cut by label as here" in text


def test_an_iid_federation_and_one_that_is_evener():
    text = str(describe(iid(fh.datasets.digits(), clients=10, seed=1)))
    assert text.count("as an IID split") == 6 and "skewed" not in text
    assert str(describe(digits(alpha=1e8))).count("evener than IID") == 6


def test_one_seed_one_description():
    federation = digits()
    assert describe(federation).as_dict(each=True) == describe(federation).as_dict(each=True)
    assert describe(federation, seed=1).measures["tv"] != describe(federation).measures["tv"]
    assert describe(federation, draws=19).measures["tv"].chance.draws == 19


def test_json():
    told = describe(fh.from_clients([(np.ones((6, 2)), [0, 0, 1, 1, 1, 1]), (np.ones((0, 2)), [])], test=0.5))
    about = json.loads(json.dumps(told.as_dict(each=True), allow_nan=False))
    assert about["features"] == [2] and about["rows"] == {"train": 3, "valid": 0, "test": 3}
    assert about["sizes"] == {"least": 0, "median": 1.5, "most": 3, "Gini": 0.5, "empty": 1}
    assert about["labels"]["rows"] == [1, 2] and about["labels"]["most"] == 2
    assert about["labels"]["effective"] == pytest.approx(2 ** (math.log2(3) - 2 / 3))
    assert about["each"]["tv"] == [0, None] and about["each"]["counts"] == [[1, 2], [0, 0]]
    assert "each" not in told.as_dict()


def test_regression_and_tokens_have_no_labels():
    regression = fh.from_clients([(np.ones((n, 3)), np.arange(n)) for n in (5, 9, 0)], task="regression")
    tokens = fh.from_clients(
        [(np.zeros((n, 4), int), np.ones((n, 4), int)) for n in (5, 5)], task="tokens", num_classes=7
    )
    for federation in (regression, tokens):
        told = describe(federation)
        assert told.counts is None and told.each == {} and not told.cut
        assert set(told.measures) == {*SIZE_MEASURES, "unique"}
        assert "labels" not in json.loads(json.dumps(told.as_dict(), allow_nan=False))
        assert "IID splits" not in str(told)
    assert "7 tokens, features 4" in str(told)


def test_notices():
    lists = [[0, 1, 2, 3], [4, 5, 6, 7], [8], []]
    source = fh.pool(np.ones((9, 1)), np.zeros(9, int), num_classes=3)
    told = describe(fh.from_index_lists(source, None, lists, test=0.25))
    assert told.notices == (
        "2 of 4 clients have a number of train rows that nobody else has: weights by exact sizes tell the "
        "server who is who; see fh.weighting",
        "1 of 4 clients hold no train rows",
        "1 of 4 clients hold train rows but no test rows, and are never scored",
        "2 of 3 classes are in nobody's train rows: 1, 2",
    )
    assert str(told).count("\n! ") == 4
    assert describe(fh.from_index_lists(source, None, [[0, 1], [2, 3]], test=0.5)).notices == (
        "2 of 3 classes are in nobody's train rows: 1, 2",
    )


def test_one_client_and_one_class():
    source = fh.pool(np.ones((8, 2)), np.zeros(8, int))
    told = describe(fh.from_index_lists(source, None, [np.arange(8)], test=0.25))
    for name in LABEL_MEASURES:
        assert told.measures[name].chance.holds(told.measures[name].value), name
    assert told.measures["effective_classes"].value == 1 and told.measures["effective_clients"].value == 1
    assert told.notices == ()


def test_a_split_that_nobody_has():
    told = describe(digits(), split="valid")
    assert math.isnan(told.measures["tv"].value) and told.measures["tv"].chance is None
    assert "10 of 10 clients hold no valid rows" in told.notices and "nan" in str(told)
    assert told.as_dict()["measures"]["tv"]["value"] is None and "labels" not in told.as_dict()


def test_phases():
    source = fh.datasets.digits()
    federation = phases([digits(seed=seed) for seed in range(3)], switch([5, 9]))
    told = describe(federation, phase=2)
    np.testing.assert_array_equal(told.counts, label_counts(digits(seed=2)))
    assert [(entry.earlier, entry.later) for entry in told.changes] == [(0, 1), (1, 2)]
    assert all(entry.labels > entry.labels_chance.high for entry in told.changes)
    text = str(told)
    assert "phase 2 of 3" in text and "0 -> 1" in text and "1 -> 2" in text
    about = json.loads(json.dumps(told.as_dict(), allow_nan=False))
    assert about["changes"][1]["new_rows"] == pytest.approx(told.changes[1].new_rows)
    same = phases([iid(source, clients=10, seed=seed) for seed in range(2)], switch([5]))
    assert same.spec.phases == 2 and describe(same).changes[0].labels < 0.3
    with pytest.raises(ValueError, match="phase must be < 3, got 3"):
        describe(federation, phase=3)


def test_ten_thousand_clients():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 200_000)
    source = fh.pool(np.ones((200_000, 1)), y, num_classes=10)
    told = describe(iid(source, clients=10_000), draws=19)
    assert told.measures["tv"].chance.mean == pytest.approx(told.measures["tv"].value, rel=0.02)


def test_refusals():
    with pytest.raises(TypeError, match="federation must be a Federation, got Pool"):
        describe(fh.datasets.digits())
    with pytest.raises(ValueError, match="draws must be >= 1, got 0"):
        describe(digits(), draws=0)

"""The table of a comparison and its JSON: how evenly, judged by what, and within 100 characters."""

import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

import fedjax_het as fh
from fedjax_het.experiment import Comparison, Line, compare, study_of
from fedjax_het.experiment.config import Choice, Config, Method
from fedjax_het.experiment.report import as_json, table
from fedjax_het.experiment.tuning import Tuned

CLIENTS = np.array([[0.0, 0.5, 1.0, 0.5], [0.25, 0.75, 0.75, 0.25]])


def line(name="fedavg", clients=CLIENTS, **fields):
    """Results as they come, without a run."""
    rows = fh.History({})
    return Line(
        name,
        np.array([0.5, 0.6]),
        clients,
        np.full(2, 1e9),
        np.full(2, 2e9),
        np.full(2, 7),
        123.4,
        rows,
        **fields,
    )


def result(*lines, metric="accuracy"):
    return Comparison(lines, metric, "40 clients", "on the client's own test rows")


def printed(shown, width=100):
    rows, _ = table(shown)
    console = Console(width=width)
    with console.capture() as kept:
        console.print(rows)
    return kept.get()


def header(shown):
    return [" ".join(column.header.split()) for column in table(shown)[0].columns]


def test_the_table_says_how_evenly_accuracy_is_spread():
    # by hand: seed 0 has mean 1/2 and squares 1/4, 0, 1/4, 0; seed 1 mean 1/2 and four squares of 1/16
    assert header(result(line())) == [
        "method",
        "global accuracy %",
        "mean client %",
        "worst decile %",
        "best decile %",
        "variance %²",
        "MB down",
        "MB up",
        "time s",
    ]
    (row,) = [text.split() for text in printed(result(line())).splitlines() if "fedavg" in text]
    assert " ".join(row) == ("fedavg 55.0 ± 7.1 50.0 ± 0.0 12.5 ± 17.7 87.5 ± 17.7 938 ± 442 1000 2000 123")


def test_little_traffic_is_not_none():
    assert " 0.02 " in printed(result(dataclasses.replace(line(), bytes_up=np.full(2, 2e4))))


def test_other_metrics_are_in_their_own_units():
    shown = result(line(clients=10 * CLIENTS), metric="rmse")
    assert header(shown)[1:6] == ["global rmse", "mean client", "worst decile", "variance", "MB down"]
    assert "9.375 ± 4.419" in printed(shown), "the metric's unit squared"


def test_a_terminal_of_100_columns_shows_every_figure_whole():
    chosen = Method(Choice("fedavg"), Choice("sgd", {"learning_rate": 0.0125}))
    tuned = Tuned("centralised", None, (chosen,), ((1.0,),), 0)
    judged = {"auc": CLIENTS}
    for metric in ("accuracy", "rmse"):
        for more in ({}, {"others": judged}, {"tuned": tuned}, {"tuned": tuned, "others": judged}):
            text = printed(result(line("centralised", **more), metric=metric))
            assert "…" not in text and max(map(len, text.splitlines())) <= 100, text
            assert len([row for row in text.splitlines() if "±" in row]) == 1, "one line a method"
            assert "tuned" not in more or "rate" in text


def test_columns_give_way_to_a_second_metric():
    assert header(result(line(others={"auc": CLIENTS})))[4:6] == ["variance %²", "client auc"]
    both = header(result(line(others={"auc": CLIENTS, "balanced_accuracy": CLIENTS})))
    assert both[4:6] == ["client auc", "client balanced_accuracy"]
    assert "0.500 ± 0.000" in printed(result(line(others={"auc": CLIENTS})))


def test_json_has_every_measure_of_every_metric():
    undefined = np.where(CLIENTS == 1.0, np.nan, CLIENTS)
    told = json.loads(as_json(result(line(others={"auc": undefined}, everyone=True))))["methods"][0]
    np.testing.assert_allclose(told["variance_accuracy"], [1250, 625])
    np.testing.assert_allclose(
        told["variance_auc"], [1 / 18, 1 / 16], err_msg="as it is, who has none left out"
    )
    np.testing.assert_allclose(told["jain_accuracy"], [4 / (4 * 1.5), 4 / (4 * 1.25)])
    np.testing.assert_allclose(told["mean_client_auc"], [1 / 3, 0.5])
    for name in ("worst_decile", "best_decile", "variance", "gini", "jain", "entropy", "divergence"):
        assert len(told[f"{name}_accuracy"]) == len(told[f"{name}_auc"]) == 2, name
    assert told["global_auc"] is None and told["every_client_every_round"] is True


def imbalanced():
    """Five clients, one row in ten positive; the third client has one class only."""
    rng = np.random.default_rng(0)
    y = (np.arange(200) % 10 == 0).astype(np.int64)
    y[80:120] = 0
    x = rng.normal(size=(200, 3)) + y[:, None]
    pool = fh.pool(x, y, num_classes=2, name="rare")
    federation = fh.from_index_lists(pool, None, np.split(np.arange(200), 5), test=0.5)
    return federation, fh.models.softmax(pool)


def test_methods_can_be_judged_by_auc_pooled_training_too():
    federation, problem = imbalanced()
    parts = {"federation": federation, "problem": problem, "solver": fh.local.sgd(0.1, batch_size=10)}
    study = study_of(
        ["fedavg", "centralised"], **parts, rounds=2, cohort=3, seeds=1, evaluation={"metrics": ["auc"]}
    )
    done = compare(study)
    assert "client auc" in header(done)
    fedavg, central = done.lines
    np.testing.assert_array_equal(fedavg.others["auc"][0], fedavg.history["personal/auc"][0, -1])
    assert central.others["auc"].shape == (1, 5)
    for one in done.lines:
        assert np.isnan(one.others["auc"][0, 2]), "a single class has none"
        assert np.isfinite(one.spread("auc")["mean"]).all()
    told = json.loads(as_json(done))["methods"]
    assert told[0]["global_auc"] == pytest.approx([fedavg.history["global/auc"][0, -1]])


def test_parts_made_in_python_keep_what_else_was_asked_for():
    federation, problem = imbalanced()
    study = study_of(
        ["fedavg"],
        federation=federation,
        problem=problem,
        solver=fh.local.sgd(0.1, batch_size=10),
        cohort=2,
        weighting="uniform",
        executor="looped",
        measures=["dissimilarity"],
        evaluation={"metrics": ["auc"]},
    )
    assert study.weighting is not None and study.executor == fh.executors.looped()
    assert list(study.measures) == ["dissimilarity"] and len(study.metrics) == 2 and study.given


def test_the_protocol_tells_cohorts_that_each_methods_losses_choose():
    from fedjax_het.experiment.build import build
    from fedjax_het.experiment.comparison import _protocol as protocol

    def told(*changes):
        config = Config.load(None, ["model=softmax", *changes])
        return protocol(build(config, ("fedavg",)))

    assert "same weights, cohorts and batches for all" in told()
    nested = "sampling={name=dropout,chance=0.1,inner={name=power_of_choice,size=5,candidates=8}}"
    assert "cohorts by each method's own losses" in told(nested)


def beside(**fields):
    """Lines of training alone and of two methods, of which one loses on two of four clients."""
    alone = line("local_only", CLIENTS)
    worse = line("ditto", CLIENTS + np.array([0.1, -0.1, -0.2, 0.2]), **fields)
    return result(line("fedavg", np.where(CLIENTS == 1.0, np.nan, CLIENTS + 0.05)), alone, worse)


def test_gain_over_training_alone_and_who_loses_by_it():
    shown = beside()
    assert header(shown)[4:7] == ["gain points", "lose %", "MB down"], "narrower columns than they replace"
    rows = {text.split()[0]: text for text in printed(shown).splitlines() if "±" in text}
    assert "+5.0 ± 0.0" in rows["fedavg"] and "+0.0 ± 0.0" in rows["ditto"] and " 50 " in rows["ditto"]
    assert "+" not in rows["local_only"]
    told = {one["method"]: one["gain_over_local_only"] for one in json.loads(as_json(shown))["methods"]}
    assert told["local_only"] is None
    np.testing.assert_allclose(told["ditto"]["mean"], [0, 0], atol=1e-12)
    assert told["ditto"]["losers"] == [0.5, 0.5] and told["fedavg"]["losers"] == [0, 0]
    np.testing.assert_allclose(told["fedavg"]["mean"], [0.05, 0.05], err_msg="over the clients that have rows")
    assert "gain: of the mean client over training alone" in table(shown)[1]
    assert "gain" not in table(result(line()))[1]


def test_gain_is_a_fall_where_less_is_better():
    shown = result(line("local_only", CLIENTS + 1), line("ditto", CLIENTS), metric="rmse")
    np.testing.assert_allclose(shown.gains(shown.lines[1]), np.ones((2, 4)))
    assert header(shown)[4] == "gain" and "+1.000 ± 0.000" in printed(shown)
    assert result(line("ditto")).gains(line("ditto")) is None


def test_agreement_with_latent_clusters_and_what_change_cost():
    found = {"clusters": np.array([2.0, 3.0]), "adjusted_rand": np.array([1.0, 0.5]), "purity": np.ones(2)}
    cost = {"adaptation lag": np.array([[np.nan, 4.0], [np.nan, np.inf]])}
    shown = beside(agreement=found, phases=cost)
    assert header(shown)[4:7] == ["gain points", "lose %", "ARI"]
    (row,) = [text for text in printed(shown).splitlines() if "ditto" in text]
    assert " 0.75 " in row
    told = json.loads(as_json(shown))["methods"]
    assert told[2]["clusters"] == [2, 3] and told[2]["adjusted_rand"] == [1, 0.5]
    assert told[2]["phases"] == {"adaptation_lag": [[None, 4.0], [None, None]]}
    assert "clusters" not in told[0] and told[0]["phases"] == {}


def test_columns_of_gain_give_way_within_100_characters():
    chosen = Method(Choice("fedavg"), Choice("sgd", {"learning_rate": 0.0125}))
    tuned = Tuned("centralised", None, (chosen,), ((1.0,),), 0)
    found = {"agreement": {"adjusted_rand": np.ones(2)}}
    for metric in ("accuracy", "rmse"):
        for more in ({}, {"others": {"auc": CLIENTS}}, {"tuned": tuned}):
            lines = [line(name, **more, **found) for name in ("centralised", "local_only")]
            text = printed(result(*lines, metric=metric))
            assert "…" not in text and max(map(len, text.splitlines())) <= 100, text
            assert len([row for row in text.splitlines() if "±" in row]) == 2, "one line a method"

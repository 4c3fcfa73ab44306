"""The printed evaluation matrix: cell by cell."""

import dataclasses

import numpy as np
import pytest
from engine.made import ROWS, made, with_values

import fedjax_het as fh
from fedjax_het.engine import History
from fedjax_het.engine.summary import SPREAD, matrix
from fedjax_het.metrics import fairness

HELD = ROWS > 0


def cells(text):
    """{row: {column: text}} of a matrix; columns are two spaces apart."""
    lines = [line for line in text.splitlines() if line.strip()]
    split = [[part.strip() for part in line.split("  ") if part.strip()] for line in lines]
    return {row[0]: dict(zip(split[0][1:], row[1:])) for row in split[1:] if len(row) == len(split[0])}


@pytest.mark.parametrize("weighted", [False, True])
def test_the_matrix(weighted):
    history = made(newcomers=True)
    table = cells(matrix(history, weighted=weighted))
    assert list(table) == ["global model", "own model"]
    values, weight = history["personal/accuracy"][-1], ROWS if weighted else None
    trained = np.arange(5) < 3
    row = table["own model"]
    spread = fairness.spread(values, HELD, weight)
    for name in SPREAD:
        assert row[name] == f"{spread[name]:.4f}", name
    assert row["union"] == "-", "own models have no union"
    assert table["global model"]["union"] == f"{history['global/accuracy'][-1]:.4f}"
    assert row["trained"] == f"{fairness.mean(values, HELD & trained, weight):.4f}"
    assert row["untrained"] == f"{fairness.mean(values, HELD & ~trained, weight):.4f}"
    new = history.client_mean("newcomer/personal/accuracy", weighted=weighted)[-1]
    assert row["newcomers"] == f"{new:.4f}"
    assert ("weighted by rows" in matrix(history, weighted=weighted)) == weighted


def test_a_user_reaches_weights_and_metrics():
    history = made()
    plain, weighted = history.summary(), history.summary(weighted=True, metric="loss")
    assert "mean client accuracy" in plain and "weighted" not in plain
    assert "weighted mean client accuracy" in weighted and matrix(history, "loss", weighted=True) in weighted
    last = f"{history.client_mean('personal/accuracy', weighted=True)[-1]:.4f}"
    assert last in weighted.split("rounds,")[0]
    with pytest.raises(ValueError, match=r"metric must be one of \['loss', 'accuracy'\], got 'auc'"):
        history.summary(metric="auc")


def test_dashes_where_there_is_no_model_and_nobody():
    history = made()
    kept = {k: v for k, v in history.variables.items() if not k.startswith(("global/", "shared/"))}
    table = cells(matrix(History(kept)))
    assert set(table["global model"].values()) == {"-"} and len(table["global model"]) == 9
    everyone = with_values(history, trained=np.ones((3, 5), bool))
    assert cells(matrix(everyone))["own model"]["untrained"] == "-"
    assert cells(matrix(everyone))["own model"]["newcomers"] == "-"


def test_metrics_undefined_for_some_clients_are_no_dash():
    history = made(auc=True)
    row = cells(matrix(history, "auc"))["own model"]
    assert row["mean"] == f"{history['personal/auc'][-1, 2:].mean():.4f}"


def test_seeds_are_mean_and_deviation():
    runs = [made(seed=seed) for seed in range(3)]
    text = fh.stack(runs).summary()
    last = np.array([one.client_mean("personal/accuracy")[-1] for one in runs])
    assert f"{last.mean():.4f} ± {last.std(ddof=1):.4f}" in text
    assert "3 seeds of 6 rounds, 6.00 MB down, 12.00 MB up" in text


def test_a_sample_says_its_error():
    history = made(sampled=True)
    text = matrix(history)
    assert "a sample of 5 of 50 clients" in text
    assert f"{history.sampling_error('personal/accuracy')[-1]:.4f} for the mean of own models" in text
    assert f"{history.sampling_error('shared/accuracy', weighted=True)[-1]:.4f} for the union" in text
    assert "standard error" not in matrix(made())


def test_notices_that_still_hold():
    noted = ((0, "newcomers are not scored"), (2, "first"), (4, "old"), (6, "still"))
    text = dataclasses.replace(made(), notices=noted).summary()
    assert "after 0 rounds: newcomers are not scored" in text and "after 6 rounds: still" in text
    assert "old" not in text and "earlier notices: 1, see history.notices" in text


def test_nothing_evaluated():
    with pytest.raises(ValueError, match="must hold an evaluation"):
        History({}).summary()

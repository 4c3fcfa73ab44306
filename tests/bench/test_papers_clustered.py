"""Results of papers on clusters and mixtures come out in small."""

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

import fedjax_het as fh

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def script():
    """The command as a module, with the modules beside it to be found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        spec = importlib.util.spec_from_file_location("bench_papers_clustered", BENCH / "papers.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def part(name):
    return importlib.import_module(f"papers.{name}")


def verdicts(rows):
    return [row.passed for row in rows if row.passed is not None]


# --- IFCA -----------------------------------------------------------------------------------------------------


def test_regressions_far_apart_are_found_up_to_the_noise_and_others_are_not(script, monkeypatch):
    """A tenth of the features, so a tenth of the rows: the predicted distances are about the paper's."""
    ifca = part("ifca")
    monkeypatch.setattr(ifca, "FEATURES", 100)
    monkeypatch.setattr(ifca, "ROWS", 20)
    cells = {"apart": (1.0, 0.1, 50, 3), "close, noisy": (0.1, 0.4, 50, 1), "few rows": (1.0, 0.1, 25, 2)}
    monkeypatch.setattr(ifca, "CELLS", cells)
    rows = script.RESULTS["regression"](rounds=200, seeds=[0])
    assert all(verdicts(rows)) and len(verdicts(rows)) == 4, part("rows").show(rows)
    found = {row.name: row for row in rows}
    assert found["apart: median distance"].paper == pytest.approx(0.1 * np.sqrt(100 / 399))
    assert found["few rows: median distance"].paper == pytest.approx(0.1 * np.sqrt(100 / 149))
    assert found["close, noisy: share of data sets that succeed"].ours == 0


def test_a_data_set_fails_whose_models_are_not_found(script, monkeypatch):
    ifca, nan = part("ifca"), float("nan")
    ends = {1.0: (0.05, 0.5, 1.0), 0.1: (nan, nan, 0.0)}
    monkeypatch.setattr(ifca, "_distance", lambda radius, *_: ends[radius])
    found = {row.name: row.passed for row in ifca.regression()}
    assert not found["apart: models found where it succeeds"], "one true model is missed"
    assert found["close: share of data sets that succeed"] is None
    assert not found["few rows: share of data sets that succeed"]
    ends[1.0] = (0.2, 1.0, 0.0)
    found = {row.name: row.passed for row in ifca.regression()}
    assert not found["apart: share of data sets that succeed"]
    assert not found["apart: distance farthest from the prediction"], "nor is one without a success near"


@pytest.fixture
def digits(script, monkeypatch):
    """Digits in place of clothes, a few clients."""
    pool = fh.datasets.digits()
    x, y = np.asarray(pool.x).reshape(-1, 8, 8), np.asarray(pool.y)
    pools = {
        "train": fh.pool(x[:1200], y[:1200], num_classes=10),
        "test": fh.pool(x[1200:], y[1200:], num_classes=10),
    }
    monkeypatch.setattr(fh.datasets, "fashion_mnist", pools.__getitem__)
    ifca = part("ifca")
    for name, value in {"CLIENTS": 5, "IMAGES": 40, "TESTED": 150, "HIDDEN": 32, "STARTS": 2}.items():
        monkeypatch.setattr(ifca, name, value)
    return pools


def test_every_rotation_deals_the_same_images_anew(digits):
    train, test = digits["train"], digits["test"]
    federation = part("ifca").rotations(train.x, test.x, (train.y, test.y), seed=3)
    assert federation.train.size.tolist() == [[40] * 20] and federation.test.size.tolist() == [[150] * 20]
    x, y = np.asarray(federation.x), np.asarray(federation.y)
    held = np.asarray(federation.train.index).reshape(4, 200)
    scored = np.asarray(federation.test.index).reshape(4, 5, 150)
    first = np.sort(held[0])
    for group in range(4):
        own = np.sort(held[group])
        np.testing.assert_array_equal(x[own], np.rot90(x[first], group, axes=(1, 2)))
        np.testing.assert_array_equal(y[own], y[first])
        for client in range(5):
            np.testing.assert_array_equal(scored[group, client], scored[group, 0])
        np.testing.assert_array_equal(x[scored[group, 0]], np.rot90(x[scored[0, 0]], group, axes=(1, 2)))
    assert (held[1] - 350 != held[0]).any(), "each has its own deal"
    assert not set(held.ravel()) & set(scored.ravel())


def test_rotations_of_digits_are_told_apart(script, digits):
    rows = script.RESULTS["rotated"](rounds=8, seeds=[0])
    assert verdicts(rows) == [True], part("rows").show(rows)
    found = {row.name: row.ours for row in rows}
    gain = found["seed 0: IFCA over the global model, points"]
    assert gain == pytest.approx(found["IFCA, %"] - found["global model, %"])
    assert len([name for name in found if "start" in name]) == 2


# --- FedEM ----------------------------------------------------------------------------------------------------


def test_mixtures_are_found(script, monkeypatch):
    monkeypatch.setattr(part("mixtures"), "SHAPE", {"clients": 40, "features": 10, "test_rows": 50})
    rows = script.RESULTS["mixtures"](rounds=40, seeds=[101])
    assert verdicts(rows) == [True, True], part("rows").show(rows)
    found = {row.name: row.ours for row in rows}
    assert found["largest of a seed"] == found["distance of mixtures"]
    assert 0.02 < found["with the rules known"] < 0.15


# --- CFL ------------------------------------------------------------------------------------------------------


def test_permutations_are_recovered_and_clients_alike_are_left_whole(script, monkeypatch):
    for name, value in {"HIDDEN": 32, "STARTS": 2}.items():
        monkeypatch.setattr(part("bipartition"), name, value)
    rows = script.RESULTS["recovery"](rounds=25, seeds=[0])
    assert all(verdicts(rows)) and len(verdicts(rows)) == 6, part("rows").show(rows)
    found = {row.name: row.ours for row in rows}
    assert found["seed 0, CFL: accuracy, %"] > 85 < found["seed 0, IFCA: accuracy, %"]


def test_the_two_federations_differ_in_their_labels_only(script):
    alike, permuted = part("bipartition").federations(0)
    np.testing.assert_array_equal(alike.train.index, permuted.train.index)
    np.testing.assert_array_equal(alike.test.index, permuted.test.index)
    assert np.bincount(permuted.truth["cluster"]).tolist() == [5] * 4
    assert alike.truth["permutation"].tolist() == [list(range(10))]
    assert len({tuple(row) for row in np.asarray(permuted.truth["permutation"])}) == 4

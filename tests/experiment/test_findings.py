"""describe: what is held, and how clients differ, for every sort of federation."""

import json
from pathlib import Path

import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.experiment import Config, Findings, describe, federation_of
from fedjax_het.experiment.choices import CHOICES

FEW = ["clients=iid", "clients.clients=4"]


def _described(*words: str, **options) -> Findings:
    return describe(federation_of(Config.load(None, words)), **options)


def _tokens() -> fh.Federation:
    rows = np.random.default_rng(0).integers(0, 5, (120, 6)).astype(np.int32)
    return fh.heterogeneity.iid(fh.pool(rows, rows, num_classes=5, task="tokens"), clients=3)


def test_it_joins_what_the_library_measures() -> None:
    federation = federation_of(Config.load(None, [*FEW, "shifts.0=swap", "shifts.0.rate=1"]))
    said: list[str] = []
    found = describe(federation, announce=said.append)
    assert said == ["labels, sizes and phases", "feature shift", "concept shift"]
    told = found.as_dict()
    assert told == json.loads(json.dumps(told))
    assert told["feature_shift"] == fh.analysis.feature_shift(federation).as_dict()
    assert told["concept_shift"]["seen"] is True
    assert {**fh.heterogeneity.describe(federation).as_dict(), **told} == told
    text = str(found)
    for part in (found.holdings, found.feature_shift, found.concept_shift):
        assert str(part) in text
    assert found.as_dict(each=True)["each"]["size"] == np.asarray(federation.train.size[0]).tolist()


def test_parts_may_be_left_out() -> None:
    said: list[str] = []
    found = _described(*FEW, feature_shift=False, concept_shift=False, announce=said.append)
    assert said == ["labels, sizes and phases"]
    assert (found.feature_shift, found.concept_shift, found.unmeasured) == (None, None, {})
    assert str(found) == str(found.holdings)


def test_a_phase_is_described_and_all_changes_are() -> None:
    words = [*FEW, "shifts.0=sudden", "shifts.0.round=3", "shifts.0.change=swap", "shifts.0.change.rate=1"]
    before, after = (_described(*words, phase=phase, feature_shift=False) for phase in (0, 1))
    assert before.concept_shift is not None
    assert after.concept_shift is not None
    assert (before.concept_shift.seen, after.concept_shift.seen) == (False, True)
    for found in (before, after):
        assert [(change.earlier, change.later) for change in found.holdings.changes] == [(0, 1)]
    with pytest.raises(ValueError, match="phase must be"):
        _described(*words, phase=2)


def test_what_the_rows_do_not_allow_is_said_and_the_rest_is_there() -> None:
    one = _described("clients=iid", "clients.clients=1")
    assert set(one.unmeasured) == {"feature_shift", "concept_shift"}
    assert "feature shift: not measured, federation must have two clients" in str(one)
    assert json.loads(json.dumps(one.as_dict()))["unmeasured"] == dict(one.unmeasured)
    tokens = describe(_tokens())
    assert tokens.holdings.counts is None
    assert tokens.feature_shift is not None
    assert "cut the sequences" in tokens.unmeasured["concept_shift"]


def test_data_that_come_with_clients_are_described(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    fh.datasets.save_npz(path, fh.datasets.mixed_regression(clients=6, rows=40, features=5, test_rows=10))
    found = _described("data=npz", f"data.path={path}")
    assert (found.holdings.clients, found.holdings.counts, dict(found.unmeasured)) == (6, None, {})
    assert found.concept_shift is not None
    assert found.concept_shift.seen


@pytest.mark.parametrize("name", [name for name in CHOICES["data"] if name.startswith("synthetic")])
def test_synthetic_families_are_data(name: str) -> None:
    found = _described(f"data={name}", feature_shift=False, concept_shift=False)
    assert found.holdings.clients >= 20
    assert found.holdings.rows["test"] > 0

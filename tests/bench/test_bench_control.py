"""The IID control runs in small, its verdicts are those of its lines, and a failure is told."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from fedjax_het.experiment import Comparison, Config, Line
from fedjax_het.experiment.families import brought

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def script():
    """The command as a module, with the modules beside it to be found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        spec = importlib.util.spec_from_file_location("bench_control", BENCH / "control.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def line(name, value, **fields):
    none = np.zeros(1)
    return Line(name, None, np.full((1, 4), value), none, none, none, 1.0, None, **fields)


def outcome(*lines):
    return Comparison(lines, "accuracy", "a control", "on the client's own test rows")


def test_verdicts_are_points_over_fedavg(script):
    found = {"clusters": np.array([3.0])}
    rows = script.verdicts(
        outcome(line("ditto", 0.909), line("fedavg", 0.9), line("cfl", 0.911, agreement=found))
    )
    assert [row.name.split(" ")[0] for row in rows] == ["fedavg,", "ditto", "cfl", "cfl:"]
    assert [row.passed for row in rows] == [None, True, False, None]
    assert rows[1].ours == pytest.approx(0.9) and rows[2].ours == pytest.approx(1.1) and rows[3].ours == 3


def test_the_settings_are_those_stated(script):
    study, other = (
        Config.load(None, [*changes, *script.SETTINGS]) for _, _, changes in script.STUDIES.values()
    )
    assert study.compare == brought()["all-personal"] and study.model.name == "mlp"
    assert "mocha" in other.compare and other.model.name == "softmax"
    for config in (study, other):
        assert config.clients.name == "iid" and config.sampling.name == "everyone"
        assert config.local.options["epochs"] == 2 and config.clients.options["clients"] == 20


def test_the_control_in_small(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        script, "STUDIES", {"softmax": (9, 0.2, ("model=softmax", "compare=[fedavg, local_only]"))}
    )
    monkeypatch.setattr(script, "ALLOWED", -100.0)
    file = tmp_path / "found.json"
    words = ["control.py", "--rounds", "2", "--seeds", "1", "--json", str(file), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    assert script.main() == 1
    assert "FAIL softmax: local_only over fedavg, points" in capsys.readouterr().out
    rows = json.loads(file.read_text())["results"]["softmax"]["rows"]
    assert rows[0]["ours"] > 50 and rows[1]["passed"] is False
    assert (tmp_path / "out" / "softmax" / "gain_over_fedavg.png").stat().st_size > 1000

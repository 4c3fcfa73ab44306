"""Trackers: what they are told, and what they write."""

import json
import re
import struct
import sys
import types

import jax
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.engine.history import History, Variable
from fedjax_het.experiment import tracking
from fedjax_het.experiment.tracking import each_round, jsonl, tensorboard, track


def history(first=0, rounds=4, every=2):
    """A piece of a run with every kind of variable; client 1 holds no rows."""
    rng = np.random.default_rng(first)
    at = np.array([r for r in range(first, first + rounds + 1) if r % every == 0 and (r > first or r == 0)])
    rows = np.tile([5, 0, 8, *range(1, 20)], (len(at), 1))
    by_client = np.where(rows > 0, rng.random(rows.shape), np.nan)
    present = rng.random((rounds, 6)) < 0.7
    present[0] = False
    a, b, c = ("round",), ("round", "slot"), ("evaluation", "client")
    variables = {
        "round": Variable(a, np.arange(first, first + rounds)),
        "bytes_up": Variable(a, np.arange(rounds) * 10),
        "cohort": Variable(b, rng.integers(0, 22, (rounds, 6))),
        "present": Variable(b, present),
        "info/loss": Variable(b, rng.random((rounds, 6)).astype(np.float32)),
        "info/trace": Variable((*b, "axis_0"), np.zeros((rounds, 6, 2))),
        "measure/dissimilarity/value": Variable(a, rng.random(rounds)),
        "measure/geometry/cosines": Variable((*a, "axis_0"), np.zeros((rounds, 3))),
        "evaluated_at": Variable(("evaluation",), at),
        "client": Variable(c, np.tile(np.arange(22), (len(at), 1))),
        "rows": Variable(c, rows),
        "global/accuracy": Variable(("evaluation",), rng.random(len(at))),
        "personal/accuracy": Variable(c, by_client),
        "personal/loss": Variable(c, by_client * 3),
        "valid/rows": Variable(c, np.where(rows > 7, rows, 0)),
        "valid/personal/accuracy": Variable(c, np.where(rows > 7, by_client, np.nan)),
        "newcomer/rows": Variable(("evaluation", "newcomer"), np.ones((len(at), 2), int)),
        "newcomer/personal/accuracy": Variable(("evaluation", "newcomer"), rng.random((len(at), 2))),
    }
    return History(variables)


TRAINED = {"bytes_up", "info/loss/mean", "measure/dissimilarity/value"}
SCORED = {
    "global/accuracy",
    *(
        f"{group}personal/accuracy/{summary}"
        for group in ("", "valid/", "newcomer/")
        for summary in ("mean", "worst_decile")
    ),
    "personal/loss/mean",
    "personal/loss/worst_decile",
}


def test_each_round_says_what_a_history_says():
    run = history()
    told = dict(each_round(run))
    assert list(told) == [0, 1, 2, 3, 4]
    assert set(told[0]) == SCORED and set(told[1]) == TRAINED and set(told[2]) == TRAINED | SCORED
    assert all(type(value) is float for values in told.values() for value in values.values())
    assert told[3]["bytes_up"] == 20
    present, loss = run["present"][2], run["info/loss"][2]
    assert told[3]["info/loss/mean"] == pytest.approx(loss[present].mean())
    assert np.isnan(told[1]["info/loss/mean"]), "nobody took part"
    accuracy, held = run["personal/accuracy"][1], run["rows"][1] > 0
    assert told[2]["personal/accuracy/mean"] == pytest.approx(accuracy[held].mean())
    assert told[2]["personal/accuracy/worst_decile"] == pytest.approx(np.sort(accuracy[held])[:3].mean())
    assert told[2]["personal/loss/worst_decile"] == pytest.approx(3 * np.sort(accuracy[held])[-3:].mean())
    scored = run["valid/rows"][2] > 0
    assert told[4]["valid/personal/accuracy/mean"] == pytest.approx(accuracy_of(run, 2)[scored].mean())


def accuracy_of(run, evaluation):
    return run["valid/personal/accuracy"][evaluation]


def test_pieces_of_a_run_say_what_the_whole_says():
    whole = history() + history(first=4)
    told = [*each_round(history()), *each_round(history(first=4))]
    np.testing.assert_equal(list(each_round(whole)), told)


def test_stacked_seeds_are_refused():
    with pytest.raises(ValueError, match=r"history must be of one run, got several seeds stacked: track each"):
        list(each_round(fh.stack([history(), history()])))


def lines(path):
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]


def test_jsonl_writes_a_line_a_round(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tracker = jsonl(path)
    assert path.read_text() == "", "the folder is writable: known before the run"
    track(history(), tracker)
    told = dict(each_round(history()))
    assert [line["round"] for line in lines(path)] == list(told)
    for line in lines(path):
        values = told[line.pop("round")]
        assert line == {name: None if np.isnan(value) else value for name, value in values.items()}


def test_jsonl_is_strict(tmp_path):
    path = tmp_path / "m.jsonl"
    tracker = jsonl(path)
    tracker(np.int64(3), {"a": np.float32(0.5), "b": float("nan"), "c": -np.inf, "d": jax.numpy.ones(())})
    assert path.read_text() == '{"round": 3, "a": 0.5, "b": null, "c": null, "d": 1.0}\n'
    with pytest.raises(TypeError, match=r"values\['a'\] must be a number, got 'high': pass a float"):
        tracker(4, {"a": "high"})
    with pytest.raises(TypeError, match=r"values\['a'\] must be a number, got ndarray of shape \(2,\)"):
        tracker(4, {"a": np.zeros(2)})
    with pytest.raises(ValueError, match='values must not be named "round"'):
        tracker(4, {"round": 1.0})
    assert len(lines(path)) == 1


def test_a_resumed_run_writes_what_an_unbroken_one_writes(tmp_path):
    broken, unbroken = tmp_path / "broken.jsonl", tmp_path / "unbroken.jsonl"
    track(history() + history(first=4), jsonl(unbroken))
    track(history() + history(first=4), jsonl(broken))
    track(history(first=4), jsonl(broken, resume_from=4))
    assert broken.read_text() == unbroken.read_text()
    with broken.open("a") as file:
        file.write('{"round": 9, "global/acc')
    jsonl(broken)
    assert broken.read_text() == unbroken.read_text(), "a line that was cut off goes"
    jsonl(broken, resume_from=0)
    assert [line["round"] for line in lines(broken)] == [0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.jsonl", "unbroken.jsonl"]


@pytest.mark.parametrize("bad", ["loss=3", "[1]", '{"loss": 3}', '{"round": null}', ""])
def test_a_file_of_something_else_is_left_alone(tmp_path, bad):
    path = tmp_path / "mine.txt"
    path.write_text(f'{{"round": 1}}\n{bad}\n')
    with pytest.raises(
        ValueError, match=r'mine.txt line 2 must be a JSON object with a "round", got .*: remove'
    ):
        jsonl(path, resume_from=1)
    assert path.read_text() == f'{{"round": 1}}\n{bad}\n'


def test_jsonl_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"resume_from must be >= 0, got -1"):
        jsonl(tmp_path / "m.jsonl", resume_from=-1)
    with pytest.raises(FileNotFoundError):
        jsonl(tmp_path / "nowhere" / "m.jsonl")


def events(folder):
    """(step, name, value) of each scalar in a folder of event files, and the steps that were purged."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    found, purged = [], []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            if event.session_log.status == SessionLog.START:
                purged.append(event.step)
    return found, purged


def test_tensorboard_files_hold_the_values(tmp_path):
    tracker = tensorboard(tmp_path / "events")
    track(history(), tracker)
    tracker.close()
    written, purged = events(tmp_path / "events")
    expected = [(done, *value) for done, values in each_round(history()) for value in values.items()]
    expected = [event for event in expected if np.isfinite(event[2])]
    assert [event[:2] for event in written] == [event[:2] for event in expected]
    np.testing.assert_allclose([event[2] for event in written], [event[2] for event in expected], rtol=1e-6)
    assert purged == []


def test_tensorboard_hides_what_a_resumed_run_repeats(tmp_path):
    tracker = tensorboard(tmp_path, resume_from=4)
    tracker(5, {"a": 1.0})
    tracker.close()
    assert events(tmp_path)[1] == [5]
    with pytest.raises(ValueError, match=r"resume_from must be >= 0, got -2"):
        tensorboard(tmp_path, resume_from=-2)


def test_tensorboard_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"tensorboardX must be .*: run pip install 'fedjax-het\[track\]'"
    ):
        tensorboard(tmp_path)


def test_the_hooks_in_the_docstring(tmp_path, monkeypatch):
    """As written there, against the signatures of `wandb.log` and `mlflow.log_metrics`."""
    logged = {"wandb": [], "mlflow": []}

    def log(data, step=None, commit=None):
        logged["wandb"].append((step, data))

    def log_metrics(
        metrics, step=None, synchronous=None, run_id=None, timestamp=None, model_id=None, dataset=None
    ):
        assert all(re.fullmatch(r"[\w\-. :/]+", name) for name in metrics), "names that MLflow takes"
        logged["mlflow"].append((step, metrics))

    (code,) = re.findall(r"^```python\n(.*?)^```", tracking.__doc__, flags=re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    services = {
        "wandb": types.SimpleNamespace(log=log),
        "mlflow": types.SimpleNamespace(log_metrics=log_metrics),
    }
    exec(code, {"history": history(), "track": track, "jsonl": jsonl} | services)
    told = list(each_round(history()))
    np.testing.assert_equal(logged, {"wandb": told, "mlflow": told})
    steps = [step for step, _ in logged["wandb"]]
    assert steps == sorted(set(steps)), "Weights & Biases drops steps that go back"
    assert len(lines(tmp_path / "metrics.jsonl")) == len(told)


def test_a_real_run(tmp_path):
    federation = fh.datasets.synthetic(clients=4, sizes=[9, 0, 12, 30])
    algorithm = fh.algorithms.fedavg(fh.models.softmax(federation.pool), fh.local.sgd(0.1, batch_size=8))
    _, run = fh.simulate(algorithm, federation, key=jax.random.key(0), rounds=3, every=2)
    track(run, jsonl(tmp_path / "metrics.jsonl"))
    told = lines(tmp_path / "metrics.jsonl")
    assert [line["round"] for line in told] == [0, 1, 2, 3]
    assert told[-1]["global/accuracy"] == pytest.approx(run["global/accuracy"][-1])
    worst = run["personal/accuracy"][-1][run["rows"][-1] > 0].min()
    assert told[-1]["personal/accuracy/worst_decile"] == pytest.approx(worst)
    assert told[1]["info/loss/mean"] == pytest.approx(run["info/loss"][0][run["present"][0]].mean())

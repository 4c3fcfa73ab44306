"""Run folders: what is in them, going on, what is refused; and killed processes."""

import json
import shutil
import subprocess
import time
import warnings
from typing import NamedTuple

import killing
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.experiment import (
    CheckpointError,
    Config,
    compare,
    load_histories,
    resume,
    run,
    study_of,
    to_toml,
)
from fedjax_het.experiment import runs as module
from fedjax_het.experiment.checkpoint import saved_steps

SMALL = ["clients.clients=4", "sampling.size=2", "rounds=4", "every=2", "seeds=[0]", "checkpoint.seconds=0"]


def config(*more):
    both = ['compare=["fedavg", "local_only"]', "measures=[dissimilarity,drift]"]
    return Config.load(None, [*SMALL, *both, *more])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    return compare(config(), folder=folder), folder


def same(a, b):
    assert set(a.histories) == set(b.histories)
    for name, history in a.histories.items():
        assert history.same(b.histories[name]), name


def test_everything_is_beside_the_pictures(done):
    result, folder = done
    names = {path.name for path in folder.iterdir()}
    assert {"config.toml", "environment.json", "history.npz", "summary.json", "fedavg", "local_only"} <= names
    pictures = {path.stem for path in folder.glob("*.png")}
    assert pictures == {
        "accuracy_by_round",
        "accuracy_by_bytes",
        "accuracy_by_seconds",
        "own_accuracy_by_round",
        "loss_by_round",
        "dissimilarity",
        "drift",
        "clients",
        "gain_by_size",
        "gain_over_fedavg",
        "gain_over_local_only",
        "label_distribution",
        "client_sizes",
    }
    for path in folder.glob("*.png"):
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 5000
    about = json.loads((folder / "environment.json").read_text())
    assert about["command"] == "compare" and about["versions"]["jax"]
    summary = json.loads((folder / "summary.json").read_text())
    assert [line["method"] for line in summary["methods"]] == ["fedavg", "local_only"]
    histories = load_histories(folder / "history.npz")
    assert list(histories) == ["fedavg", "local_only"] and histories["fedavg"].same(result.histories["fedavg"])
    lines = (folder / "fedavg" / "seed-0" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [0, 1, 2, 3, 4]


def test_the_saved_configuration_gives_the_same_bits(done, tmp_path):
    result, folder = done
    again = Config.load(folder / "config.toml")
    assert to_toml(again) == (folder / "config.toml").read_text()
    same(compare(again, folder=tmp_path / "again"), result)


def test_run_from_the_saved_configuration_of_a_run(tmp_path):
    changed = config("algorithm=fedprox", "algorithm.mu=0.3", "seeds=[3]", "evaluation.local=true")
    first = run(changed, folder=tmp_path / "a")
    second = run(Config.load(tmp_path / "a" / "config.toml"), folder=tmp_path / "b")
    same(first, second)
    assert "local/accuracy" in first.lines[0].history


def test_a_finished_comparison_is_read_and_not_run_again(done, monkeypatch):
    result, folder = done

    def never(*_, **__):
        raise AssertionError("nothing is left to run")

    monkeypatch.setattr(module, "simulate", never)
    same(resume(folder), result)
    same(compare(config(), folder=folder), result)


class Usage(NamedTuple):
    """A disk."""

    total: int
    used: int
    free: int


class Stop(Exception):
    """The power goes out."""


@pytest.mark.parametrize("at", [0, 2, 5])
def test_what_broke_off_goes_on_as_if_it_had_not(at, done, tmp_path, monkeypatch):
    """After `at` saves, in the middle of either method."""
    saves = []
    save = module.save

    def failing(*arguments, **options):
        if len(saves) == at:
            raise Stop
        saves.append(save(*arguments, **options))

    monkeypatch.setattr(module, "save", failing)
    with pytest.raises(Stop):
        compare(config(), folder=tmp_path / "broken")
    monkeypatch.undo()
    same(resume(tmp_path / "broken"), done[0])
    for seed in (tmp_path / "broken").glob("*/seed-0"):
        lines = (seed / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["round"] for line in lines] == [0, 1, 2, 3, 4]


def test_going_back_to_an_earlier_save(done, tmp_path):
    folder = tmp_path / "back"
    first = run(config("algorithm=scaffold"), folder=folder)
    checkpoints = folder / "scaffold" / "seed-0" / "checkpoints"
    assert saved_steps(checkpoints) == (2, 4)
    broken = next(
        path for path in (checkpoints / "4").rglob("*") if path.is_file() and path.stat().st_size > 500
    )
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=rf"(?s){broken.name}.*2"):
        resume(folder)
    same(resume(folder, step=2), first)


def test_one_damaged_run_of_a_comparison_goes_back_alone(tmp_path, monkeypatch):
    """The other run has no save of that round, and keeps what it has."""
    folder = tmp_path / "both"
    first = compare(config("checkpoint.seconds=1000"), folder=folder)
    whole = folder / "local_only" / "seed-0" / "checkpoints"
    assert saved_steps(whole) == (4,)
    broken_run = folder / "fedavg" / "seed-0" / "checkpoints"
    shutil.rmtree(broken_run)
    monkeypatch.setattr(module._Saver, "due", lambda self: True)
    same(resume(folder), first)
    assert saved_steps(broken_run) == (2, 4)
    newest = max(
        (path for path in (broken_run / "4").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="--from 2"):
        resume(folder)
    before = sorted(path.stat().st_mtime_ns for path in whole.rglob("*"))
    same(resume(folder, step=2), first)
    assert sorted(path.stat().st_mtime_ns for path in whole.rglob("*")) == before, "it was not run again"


def test_a_folder_of_something_else_is_not_touched(done, tmp_path):
    _, folder = done
    with pytest.raises(FileExistsError, match=r"(?s)holds another one.*fedjax-het resume.*rounds: 4 != 5"):
        compare(config("rounds=5"), folder=folder)
    with pytest.raises(FileExistsError, match='command: "compare" != "run"'):
        run(config(), folder=folder)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something else"):
        compare(config(), folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(FileNotFoundError, match=r"without config\.toml"):
        resume(tmp_path)


def test_the_name_and_the_pace_of_saving_may_differ_between_folders_only(done):
    """A claimed folder must hold this very study, so that its files say what was run."""
    _, folder = done
    with pytest.raises(FileExistsError):
        compare(config("name=other"), folder=folder)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("ran")

    monkeypatch.setattr(module, "simulate", never)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="must be one that can be written to"):
        compare(config(), folder=tmp_path / "file" / "below")
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10, 5, 5))
    with pytest.raises(OSError, match="must have room"):
        compare(config(), folder=tmp_path / "new")


def test_a_disk_that_fills_up_on_the_way_is_told_and_the_run_goes_on(done, tmp_path, monkeypatch):
    save, calls, told = module.save, [], []

    def full(*arguments, **options):
        calls.append(arguments[3]["round"])
        if len(calls) == 2:
            raise module.SaveError("round 2 could not be saved: no space left")
        return save(*arguments, **options)

    monkeypatch.setattr(module, "save", full)
    result = compare(config(), folder=tmp_path / "full", announce=told.append)
    same(result, done[0])
    assert any("no space left" in text for text in told)


def test_trackers_hear_of_every_round(tmp_path):
    heard = []

    def trackers(label, seed, done):
        return [lambda done, values: heard.append((label, seed, done, values))]

    run(config(), folder=tmp_path / "a", trackers=trackers)
    assert [(label, seed, done) for label, seed, done, _ in heard] == [("fedavg", 0, t) for t in range(5)]
    assert {"global/accuracy", "bytes_up", "loss"} & set(heard[-1][3])


def test_parts_made_in_python_go_on_by_calling_again(tmp_path):
    rng = np.random.default_rng(0)
    pool = fh.pool(rng.normal(size=(40, 2)), rng.integers(0, 2, 40), num_classes=2)
    federation = fh.from_index_lists(pool, None, np.split(np.arange(40), 4), test=0.25)

    def study(rate):
        parts = {
            "federation": federation,
            "problem": fh.models.softmax(pool),
            "solver": fh.local.sgd(rate, batch_size=8),
        }
        return study_of(["fedavg"], **parts, rounds=3, cohort=2, seeds=1)

    first = compare(study(0.1), folder=tmp_path / "own")
    same(compare(study(0.1), folder=tmp_path / "own"), first)
    with pytest.raises(ValueError, match="parts were given in Python"):
        resume(tmp_path / "own")
    with pytest.raises(CheckpointError, match=r"digests\.algorithm"):
        compare(study(0.2), folder=tmp_path / "own")


def test_other_versions_are_told(done, monkeypatch):
    _, folder = done
    told = module.environment()
    monkeypatch.setattr(
        module, "environment", lambda: {**told, "versions": {**told["versions"], "jax": "0.0.1"}}
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resume(folder)
    assert any("0.0.1" in str(warning.message) for warning in caught)


def test_killed_at_random_moments(tmp_path):
    """Two deaths; `killing.py --kills 20` is the long form."""
    alone, hunted = tmp_path / "alone", tmp_path / "hunted"
    words = killing.command("compare", *killing.STUDY, "--out", str(alone))
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    lives = killing.killed(hunted, 2, 1, 0.6 * (time.monotonic() - began))
    assert len(lives) >= 2
    assert killing.differences(alone, hunted) == []


def test_a_difference_would_be_found(done, tmp_path):
    _, folder = done
    other = tmp_path / "other"
    compare(config("clients.alpha=0.2"), folder=other)
    wrong = killing.differences(folder, other)
    assert "history of fedavg" in wrong and "state of fedavg/seed-0" in wrong

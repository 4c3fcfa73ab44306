"""The command line, as a person uses it."""

import json
import subprocess
import sys

import pytest

from fedjax_het.cli import main

SMALL = ["--clients", "4", "--cohort", "2", "--rounds", "1", "--seeds", "2", "--methods", "fedavg"]


def test_compare_prints_a_table_that_says_rates_are_untuned(capsys):
    assert main(["compare", *SMALL]) == 0
    out, err = capsys.readouterr()
    assert "fedavg" in out and "worst decile" in out and "untuned" in out and "±" in out
    assert "fedavg" in err, "progress names the method"


def test_compare_as_json(capsys):
    assert main(["compare", *SMALL, "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert err == ""
    assert [line["method"] for line in result["methods"]] == ["fedavg"]
    assert len(result["methods"][0]["global_accuracy"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "fedaverage"], "did you mean 'fedavg'"),
        (["--alpha", "-1"], "alpha must be"),
        (["--clients", "4", "--cohort", "9"], "got 9 of 4"),
        (["--rounds", "0"], "rounds must be"),
    ],
)
def test_bad_input_says_what_and_how_and_exits_with_1(capsys, arguments, message):
    assert main(["compare", "--seeds", "1", *arguments]) == 1
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_the_module_runs():
    done = subprocess.run(
        [sys.executable, "-m", "fedjax_het", "compare", "--help"], capture_output=True, text=True, check=True
    )
    assert "Dirichlet" in done.stdout


def test_ctrl_c_exits_with_130(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fedjax_het.experiment.comparison.digits_study", interrupted)
    assert main(["compare"]) == 130
    assert "interrupted" in capsys.readouterr().err

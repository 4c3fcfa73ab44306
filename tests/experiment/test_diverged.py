"""A method that diverges is named, and the others go on."""

import json

import numpy as np
import pytest
from rich.console import Console

import fedjax_het as fh
from fedjax_het.cli import main
from fedjax_het.engine.nonfinite import NonFiniteError
from fedjax_het.experiment import Config, compare, load_histories, resume, run
from fedjax_het.experiment import comparison as module
from fedjax_het.experiment.report import as_json, table
from fedjax_het.experiment.tuning import Untunable

SMALL = [
    "clients.clients=4",
    "sampling.size=2",
    "rounds=3",
    "every=1",
    "seeds=[0, 1]",
    "model.hidden=[8]",
    "local.epochs=1",
    "checkpoint.seconds=0",
]
WILD = ["methods.wild=fedavg", "methods.wild.local.learning_rate=1e30", "methods.mild=fedavg"]
"""One program for all, since a rate is a number."""


def config(*more):
    return Config.load(None, [*SMALL, *WILD, "compare=[wild, fedavg, mild]", *more])


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Pictures take most of a small comparison's time."""
    monkeypatch.setattr("fedjax_het.experiment.folders.draw", lambda *_: [])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diverged") / "runs"
    said = []
    return compare(config(), folder=folder, announce=said.append), folder, said


def same(a, b):
    assert list(a.histories) == list(b.histories)
    for name, history in a.histories.items():
        assert history.same(b.histories[name]), name


def test_the_others_go_on_as_if_it_had_not_been_there(done):
    result, _, said = done
    assert [line.name for line in result.lines] == ["fedavg", "mild"]
    same(result, compare(config("compare=[fedavg, mild]")))
    (wild,) = result.diverged
    assert (wild.name, wild.seed) == ("wild", 0)
    text = f"wild diverged in round {wild.round} (client {wild.client}, {wild.leaf}), seed 0"
    assert str(wild) == text and any(line.startswith(text) for line in said)
    assert isinstance(wild.error, NonFiniteError) and wild.leaf.startswith("total/")


def test_the_client_that_is_named_can_be_replayed(done):
    (wild,) = done[0].diverged
    study = fh.experiment.build(config(), ("wild",))
    algorithm = study.entrants["wild"].algorithm
    round_fn = fh.make_round(study.sampler, study.executor)
    report = fh.replay(round_fn, algorithm, wild.error.state, study.federation, wild.client)
    assert not bool(fh.tree.all_finite(report.total))


def test_it_is_in_the_table_in_json_and_in_the_folder(done):
    result, folder, _ = done
    rows, meaning = table(result)
    console = Console(width=100, file=None, record=True, quiet=False)
    with console.capture() as caught:
        console.print(rows)
    (wild,) = result.diverged
    line = next(line for line in caught.get().splitlines() if line.strip().startswith("wild"))
    assert line.split()[1:] == ["diverged", "round", str(wild.round), "client", str(wild.client)]
    assert f"{wild}." in meaning
    for told in (json.loads(as_json(result)), json.loads((folder / "summary.json").read_text())):
        assert [line["method"] for line in told["methods"]] == ["fedavg", "mild"]
        (entry,) = told["diverged"]
        assert (entry["method"], entry["round"], entry["client"]) == ("wild", wild.round, wild.client)
        assert "uploads must be finite" in entry["message"]
    assert list(load_histories(folder / "history.npz")) == ["fedavg", "mild"]
    assert (folder / "accuracy_by_round.png").exists()


def test_resume_gives_the_same_and_trains_nobody_anew(done, monkeypatch):
    result, folder, _ = done
    began = []
    go = module.begin_or_go_on
    monkeypatch.setattr(
        module, "begin_or_go_on", lambda study, run, *a, **k: began.append(run.label) or go(study, run, *a, **k)
    )
    again = resume(folder)
    same(again, result)
    assert again.diverged == result.diverged
    assert began == ["wild", "fedavg", "fedavg", "mild", "mild"], "its other seeds are not tried"


def test_what_broke_off_after_it_goes_on(done, tmp_path, monkeypatch):
    class Stop(Exception):
        """The power goes out."""

    go = module.begin_or_go_on

    def failing(study, run, *arguments, **options):
        if (run.label, run.seed) == ("fedavg", 1):
            raise Stop
        return go(study, run, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(module, "begin_or_go_on", failing)
        with pytest.raises(Stop):
            compare(config(), folder=tmp_path / "broken")
    again = resume(tmp_path / "broken")
    same(again, done[0])
    assert again.diverged == done[0].diverged


def test_where_nothing_is_left_the_first_error_is_raised():
    with pytest.raises(NonFiniteError, match="uploads must be finite"):
        compare(config("compare=[wild]"))
    with pytest.raises(NonFiniteError, match="uploads must be finite"):
        run(config("local.learning_rate=1e30"))


def test_centralised_training_keeps_its_pace_without_fedavg():
    """It takes the steps of FedAvg's cohorts, or what cohorts take on average where FedAvg is no line."""
    wild = ["methods.fedavg.local.learning_rate=1e30", "compare=[fedavg, centralised]", "seeds=[0]"]
    both = compare(config(*wild))
    alone = compare(config("compare=[centralised]", "seeds=[0]"))
    assert [one.name for one in both.diverged] == ["fedavg"]
    np.testing.assert_array_equal(both.lines[0].steps, alone.lines[0].steps)


def test_a_method_without_a_finite_candidate_is_named_too(tmp_path):
    tuned = config("clients.valid=0.2", "tuning={candidates=2, seeds=1}", "seeds=[0]", "compare=[wild, fedavg]")
    result = compare(tuned, folder=tmp_path / "tuned")
    (wild,) = result.diverged
    assert str(wild) == "wild diverged with every candidate of its tuning" and isinstance(wild.error, Untunable)
    assert [line.name for line in result.lines] == ["fedavg"] and result.lines[0].tuned is not None
    assert list(json.loads((tmp_path / "tuned" / "tuning.json").read_text())) == ["fedavg"]
    with pytest.raises(Untunable, match="'wild' must stay finite"):
        compare(config("clients.valid=0.2", "tuning={candidates=2, seeds=1}", "seeds=[0]", "compare=[wild]"))


def test_the_command_line_shows_the_others_and_ends_with_1(capsys, tmp_path):
    words = [*SMALL, *WILD, "seeds=[0]", "compare=[wild, fedavg]"]
    assert main(["compare", *words, "--out", str(tmp_path / "cli"), "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert "fedavg" in out and "wild diverged in round" in " ".join(out.split())
    assert err.strip() == "fedjax-het: wild diverged; what the others came to is complete"
    assert main(["resume", str(tmp_path / "cli"), "--quiet", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [entry["method"] for entry in told["diverged"]] == ["wild"]

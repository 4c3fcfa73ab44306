"""Families of methods in a comparison, and methods that are defined for all clients only."""

import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

import fedjax_het as fh
from fedjax_het.algorithms import ALGORITHMS
from fedjax_het.cli import configuration, parse
from fedjax_het.experiment import Config, ConfigError, build, compare, methods, run, study_of, to_toml
from fedjax_het.experiment.comparison import _protocol as protocol
from fedjax_het.experiment.families import families
from fedjax_het.experiment.pace import slots
from fedjax_het.experiment.report import as_json, table
from fedjax_het.experiment.tuning import tune

SMALL = [
    "clients.clients=4",
    "sampling.size=2",
    "rounds=2",
    "every=2",
    "seeds=[0]",
    "model=softmax",
    "local.epochs=1",
]
DEMANDING = "fedprox"
"""Made to demand all clients, so that the rule is tested apart from any one method."""


def members(family):
    return tuple(name for name, entry in ALGORITHMS.items() if entry.family == family)


@pytest.fixture
def demanding(monkeypatch):
    entry = dataclasses.replace(ALGORITHMS[DEMANDING], everyone=True, grid=())
    monkeypatch.setitem(ALGORITHMS, DEMANDING, entry)


def test_every_family_is_its_methods_in_the_order_of_the_table():
    assert set(families()) == {f"all-{entry.family}" for entry in ALGORITHMS.values()}
    for family, names in families().items():
        assert names == members(family.removeprefix("all-"))
        if family != "all-personal":
            config = Config(compare=(family,))
            assert config.compare == config.optional == names
    assert sorted(name for names in families().values() for name in names) == sorted(ALGORITHMS)


def test_all_personal_brings_every_method_with_a_model_a_client_and_what_to_read_it_against():
    config = Config(compare=("all-personal",))
    assert config.compare[:3] == ("fedavg", "local_only", "finetune")
    kinds = (*members("personal"), *members("clustered"), *members("multi-task"))
    assert set(config.compare) == {"fedavg", "local_only", *kinds}
    assert len(config.compare) == len(set(config.compare))
    for name in ("fedper", "ifca", "mocha", "fedmtl"):
        assert name in config.compare


def test_who_came_by_family_is_left_out_with_the_reason_and_who_was_named_is_refused():
    said = []
    changes = [*SMALL, "rounds=1", "model=mlp", "model.hidden=[4]"]
    result = compare(Config.load(None, [*changes, "compare=[fedavg, all-multi-task]"]), announce=said.append)
    assert [line.name for line in result.lines] == ["fedavg", "fedmtl", "meanreg"]
    assert list(result.left_out) == ["mocha"]
    assert "problem must be linear and convex for mocha, got 'mlp' (linear=false" in result.left_out["mocha"]
    assert any(text.startswith("mocha is left out: problem must be linear") for text in said)
    told = json.loads(as_json(result))["left_out"]
    assert told == [{"method": "mocha", "reason": result.left_out["mocha"]}]
    assert "mocha is left out: problem must be" in table(result)[1]
    for name, model in (("mocha", "mlp"), ("fedbn", "mlp"), ("fedper", "softmax")):
        named = Config.load(None, [*SMALL, f"model={model}", f"compare=[fedavg, {name}, all-personal]"])
        with pytest.raises(ConfigError, match=f"{name}.*must") as caught:
            build(named, named.compare)
        assert str(caught.value).startswith(f"methods.{name}"), "a key that can be written"


def test_a_method_that_does_not_fit_the_clients_is_known_before_anything_is_computed(monkeypatch):
    monkeypatch.setattr("fedjax_het.experiment.runs.simulate", lambda *_, **__: pytest.fail("computed"))
    more = "methods.ifca={clusters=5}"
    config = Config.load(None, [*SMALL, "compare=[fedavg, ifca]", more])
    with pytest.raises(
        ConfigError,
        match=r"'methods.ifca=.*': methods\.ifca\.clusters must be at most .* 4, got 5: .* clusters=4",
    ):
        compare(config)
    family = Config.load(None, [*SMALL, "compare=[all-clustered]", more])
    assert "ifca" not in family.optional, "a table of its own asks for it"
    with pytest.raises(ConfigError, match=r"methods\.ifca\.clusters must be at most"):
        compare(family)
    phases = ["shifts.0=sudden", "shifts.0.round=1", "shifts.0.change=swap", "shifts.0.change.rate=0.5"]
    study = build(
        changing := Config.load(None, [*SMALL, *phases, "compare=[all-multi-task]"]), changing.compare
    )
    assert "federation must have one phase for mocha, got 2" in study.left_out["mocha"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["ifca", "algorithm.clusters=5"],
            r"'algorithm.clusters=5': algorithm\.clusters must be at most .* got 5",
        ),
        (
            ["fedmtl", "algorithm.tasks=[0,1]", "model=mlp"],
            r"'algorithm.tasks=\[0,1\]': algorithm\.tasks must be one number for each of the 4 clients",
        ),
        (
            ["mocha", "algorithm.loss=hinge"],
            r"'algorithm.loss=hinge': algorithm\.loss .* or leave loss out for",
        ),
        (["ditto", "algorithm.lam=50"], r"'algorithm.lam=50': algorithm\.lam must be < 2 / eta = 20 .* 0\.04"),
        (
            ["finetune", "algorithm.of={name=ifca,clusters=5}"],
            r"^override 'algorithm.of={name=ifca,clusters=5}': algorithm\.of\.clusters must be at most",
        ),
        (
            [
                "mocha",
                "shifts.0=sudden",
                "shifts.0.round=1",
                "shifts.0.change=swap",
                "shifts.0.change.rate=0.5",
            ],
            r"'algorithm=mocha': mocha does not fit the clients: federation must have one phase",
        ),
    ],
)
def test_a_run_that_does_not_fit_the_clients_is_refused_by_its_key(words, message, monkeypatch):
    """Before anything is computed, in the words of a file."""
    monkeypatch.setattr("fedjax_het.experiment.runs.simulate", lambda *_, **__: pytest.fail("computed"))
    name, *changes = words
    with pytest.raises(ConfigError, match=message):
        run(Config.load(None, [*SMALL, f"algorithm={name}", *changes]))


def test_methods_that_split_a_model_say_what_to_take_where_it_is_all_head():
    config = Config.load(None, [*SMALL, "compare=[all-personal]"])
    left_out = build(config, config.compare).left_out
    for name in ("fedper", "fedrep", "lgfedavg", "fedmtl"):
        assert "'softmax' is all head, one layer: take a model with a layer before its head" in left_out[name]
        assert "the leaves are head/bias, head/kernel" in left_out[name]


def test_what_may_be_left_out_survives_the_file(tmp_path):
    config = Config.load(None, ["compare=[all-multi-task]"])
    (tmp_path / "study.toml").write_text(to_toml(config))
    again = Config.load(tmp_path / "study.toml")
    assert again == config and again.optional == ("fedmtl", "mocha", "meanreg")
    assert Config.load(tmp_path / "study.toml", ["compare=[fedavg, mocha]"]).optional == ("mocha",)
    with pytest.raises(ConfigError, match="did you mean 'mocha'"):
        Config.load(None, ["compare=[fedavg]", "optional=[moca]"])


def test_nothing_that_fits_is_an_error_with_all_reasons():
    config = Config.load(
        None, [*SMALL, "model=softmax", "compare=[fedrep, fedper]", "optional=[fedrep, fedper]"]
    )
    with pytest.raises(ConfigError, match=r"compare must hold a method that fits .* fedrep: .*; fedper: "):
        build(config, config.compare)


def test_a_method_around_one_that_demands_all_clients_demands_them_too():
    config = Config.load(None, [*SMALL, "compare=[finetune]", "methods.finetune.of=cfl"])
    study = build(config, config.compare)
    assert study.entrants["finetune"].everyone
    assert slots(study.sampler_of(study.entrants["finetune"]), 4) == 4
    with pytest.raises(ConfigError, match="set sampling=everyone"):
        build(Config.load(None, [*SMALL, "algorithm=finetune", "algorithm.of=cfl"]))


def test_a_family_stands_among_other_methods():
    config = Config.load(None, ["compare=[local_only, all-clustered, all-global, scaffold]"])
    rest = tuple(name for name in members("global") if name != "scaffold")
    assert config.compare == ("local_only", *members("clustered"), *rest, "scaffold"), "each once"
    assert set(config.methods) == set(config.compare)


def test_a_file_may_name_a_family_and_keeps_its_methods(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text('compare = ["all-personal"]\n[methods.fedper]\nname = "fedper"\n')
    config = Config.load(path)
    assert set(members("personal")) < set(config.compare)
    assert "fedper" not in config.optional and "fedrep" in config.optional
    path.write_text(to_toml(config))
    assert "all-" not in path.read_text() and Config.load(path) == config


def test_the_command_line_takes_families():
    arguments = parse(["compare", "--methods", "local_only", "all-clustered", "rounds=3"])
    config = configuration(arguments)
    assert config.compare == ("local_only", *members("clustered")) and config.rounds == 3


def test_the_list_of_methods_shows_families_and_who_demands_all_clients():
    console = Console(width=100)
    with console.capture() as kept:
        console.print(methods.table())
    shown = kept.get()
    assert "…" not in shown and max(map(len, shown.splitlines())) <= 100
    assert all(f" {name} " in shown for name in (*families(), *ALGORITHMS))
    facts = methods.about()
    assert {facts[name]["cohorts"] for name, entry in ALGORITHMS.items() if entry.everyone} == {"all"}
    assert facts["fedavg"]["cohorts"] == "any"


def test_an_unknown_family_is_answered_with_the_list(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text('compare = ["all-globl"]\n')
    with pytest.raises(ConfigError) as caught:
        Config.load(path)
    told = str(caught.value)
    assert told.startswith(f"{path}, line 1: compare must list methods and families, got 'all-globl'")
    assert "did you mean 'all-global'?" in told and "all-clustered (ifca" in told


def test_a_label_of_ones_own_is_no_family():
    config = Config.load(None, ["compare=[all-mine]", "methods.all-mine=fedavg"])
    assert config.compare == ("all-mine",)


def test_what_is_named_twice_is_still_refused():
    with pytest.raises(ConfigError, match="each once"):
        Config(compare=("fedavg", "fedavg", "all-global"))


def test_who_demands_all_clients_gets_them_and_it_is_said(demanding):
    config = Config.load(None, [*SMALL, f"compare=[fedavg, {DEMANDING}]"])
    said = []
    result = compare(config, announce=said.append)
    lines = {line.name: line for line in result.lines}
    assert lines["fedavg"].history["cohort"].shape[-1] == 2, "the others keep their cohorts"
    np.testing.assert_array_equal(lines[DEMANDING].history["cohort"][0], [[0, 1, 2, 3]] * 2)
    assert [line.everyone for line in result.lines] == [False, True]
    assert (lines[DEMANDING].bytes_up == 2 * lines["fedavg"].bytes_up).all(), "the price shows"
    assert f"2 a round (all 4, every round, for {DEMANDING})" in result.protocol
    assert f"{DEMANDING}: all 4 clients in every round, as the method demands" in said


def test_the_studys_sampler_stays_where_it_draws_everyone(demanding):
    config = Config.load(None, [*SMALL, "sampling.size=4", f"compare=[fedavg, {DEMANDING}, centralised]"])
    study = build(config, config.compare)
    assert slots(study.sampler, 4) == 4
    for name, entrant in study.entrants.items():
        assert (study.sampler_of(entrant) is study.sampler) == (name != "centralised")
        assert entrant.everyone == (name == DEMANDING)
    assert "all 4" not in protocol(study)


def test_a_single_run_on_cohorts_is_refused_with_the_remedy(demanding, monkeypatch):
    def never(*_, **__):
        raise AssertionError("nothing is to be compiled")

    monkeypatch.setattr("fedjax_het.experiment.runs.simulate", never)
    with pytest.raises(ConfigError) as caught:
        run(Config.load(None, [*SMALL, f"algorithm={DEMANDING}"]))
    told = str(caught.value)
    assert told.startswith(
        "override 'sampling.size=2' and override 'algorithm=fedprox': sampling must be 'everyone'"
    )
    assert "leaves out some of the 4 clients" in told and "set sampling=everyone" in told
    rest = [change for change in SMALL if not change.startswith("sampling")]
    with pytest.raises(ConfigError, match="which leaves out some of the 4 clients"):
        absent = ["sampling=dropout", "sampling.chance=0.5", "sampling.inner=everyone"]
        run(Config.load(None, [*rest, *absent, f"algorithm={DEMANDING}"]))
    for whole in ("sampling=everyone", "sampling.size=4"):
        assert build(Config.load(None, [*rest, f"algorithm={DEMANDING}", whole])).entrants


def test_parts_made_in_python_follow_the_same_rule(demanding):
    pool = fh.datasets.digits()
    parts = {"federation": fh.heterogeneity.iid(pool, clients=3), "problem": fh.models.softmax(pool)}
    solver = fh.local.sgd(0.1, batch_size=20)
    study = study_of(["fedavg", DEMANDING], **parts, solver=solver, rounds=1, cohort=2, seeds=1)
    assert [slots(study.sampler_of(entrant), 3) for entrant in study.entrants.values()] == [2, 3]


def test_tuning_trains_those_whom_the_run_trains(demanding, monkeypatch):
    config = Config.load(None, [*SMALL, "clients.valid=0.2", f"compare=[{DEMANDING}]"])
    study = build(config, config.compare)
    rounds = []
    make = fh.make_round

    def recording(sampler, *arguments, **options):
        rounds.append(sampler)
        return make(sampler, *arguments, **options)

    monkeypatch.setattr("fedjax_het.experiment.tuning.make_round", recording)
    tune(study, study.entrants[DEMANDING], candidates=1, seeds=1)
    assert rounds == [fh.sampling.everyone()]


def test_the_methods_of_the_table_that_demand_all_clients():
    config = Config.load(None, [*SMALL, "compare=[all-global]"])
    study = build(config, config.compare)
    names = [name for name, entrant in study.entrants.items() if entrant.everyone]
    assert "afl" in names
    for name in names:
        assert slots(study.sampler_of(study.entrants[name]), 4) == 4
        with pytest.raises(ConfigError, match="set sampling=everyone"):
            build(Config.load(None, [*SMALL, f"algorithm={name}"]))

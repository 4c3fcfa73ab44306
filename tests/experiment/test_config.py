"""Configurations: defaults, overrides, the round trip through TOML, and messages that name the line."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_het.experiment.config import Choice, Config, ConfigError, Evaluation, Method, to_toml
from fedjax_het.experiment.overrides import parse


def _load(folder: Path, text: str, *overrides: str) -> Config:
    file = folder / "exp.toml"
    file.write_text(text, encoding="utf-8")
    return Config.load(file, overrides)


def _again(config: Config) -> Config:
    """Written and read again, without a file."""
    import tomllib

    return Config.from_table(tomllib.loads(to_toml(config)))


def test_the_default_is_the_comparison_of_methods_on_digits() -> None:
    config = Config()
    assert config.compare == ("fedavg", "fedprox", "scaffold", "ifca", "fedper", "local_only", "centralised")
    assert (config.rounds, config.seeds, config.every) == (100, (0, 1, 2), 10)
    assert config.data == Choice("digits", {"flat": True})
    assert config.clients is not None
    wanted = {"clients": 40, "alpha": 0.1, "min_size": 20, "seed": 0}
    assert {name: config.clients.options[name] for name in wanted} == wanted
    assert config.model.options["hidden"] == (64,)
    rate, batch, epochs = (config.local.options[name] for name in ("learning_rate", "batch_size", "epochs"))
    assert (rate, batch, epochs) == (0.1, 20, 5)
    assert config.sampling == Choice("uniform", {"size": 10, "replacement": False})
    assert Config.load() == config


def test_the_resolved_configuration_writes_every_default_out() -> None:
    table = Config.load(overrides=["algorithm=fedprox"]).resolved()
    assert table["algorithm"] == {"name": "fedprox", "mu": 0.1, "server": "none"}
    assert table["local"]["momentum"] == "none"
    scaffold = {"option": "II", "weights": "uniform", "start": "zero", "server_learning_rate": 1.0}
    assert table["methods"]["scaffold"] == {"name": "scaffold", **scaffold}
    assert table["evaluation"] == {"split": "test", "metrics": "none", "sample": "none", "local": False}
    assert json.loads(json.dumps(table)) == table


def test_a_run_reads_its_own_configuration(tmp_path: Path) -> None:
    overrides = [
        "name=first try",
        "algorithm.server={name=adam,b1=0.8}",
        "local.learning_rate={name=geometric,initial=0.1,factor=0.99}",
        "executor={name=chunked,size=5,inner=looped}",
        "methods.strong={name=fedprox,mu=1,local={learning_rate=0.3,steps=7}}",
        "compare=[fedavg,strong,centralised]",
        "evaluation.metrics=[auc]",
        "measures=[dissimilarity]",
    ]
    config = Config.load(None, overrides)
    assert config.name == "first try"
    assert config.algorithm.options["server"].options["b1"] == 0.8
    work = config.methods["strong"].local
    assert work is not None
    assert work.options == {**config.local.options, "learning_rate": 0.3, "epochs": None, "steps": 7}
    (tmp_path / "config.toml").write_text(to_toml(config))
    again = Config.load(tmp_path / "config.toml")
    assert again == config
    assert to_toml(again) == to_toml(config)
    assert Config.from_table(json.loads(json.dumps(config.resolved()))) == config


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4, unique=True),
    NUMBERS,
    NUMBERS,
    st.none() | st.integers(1, 10**9),
    st.sampled_from([{}, {"steps": 3}, {"epochs": 2}]),
    st.lists(st.integers(1, 999), max_size=4),
    st.sampled_from(["fedavg", "fedprox", "fedper"]),
    st.text('aé"\\\n\t\x00', max_size=9),
)
def test_any_values_survive_the_file(
    seeds: list[int],
    alpha: float,
    rate: float,
    batch: int | None,
    work: dict[str, int],
    hidden: list[int],
    algorithm: str,
    text: str,
) -> None:
    config = Config(
        seeds=tuple(seeds),
        clients=Choice("dirichlet", {"alpha": alpha}),
        local=Choice("sgd", {"learning_rate": rate, "batch_size": batch, **work}),
        model=Choice("mlp", {"hidden": hidden, "activation": text}),
        algorithm=Choice(algorithm),
        methods={"mine": Method(Choice("fedprox", {"mu": rate}), Choice("sgd", {"learning_rate": alpha}))},
    )
    assert _again(config) == config
    assert config.local.options["epochs"] == (None if "steps" in work else work.get("epochs", 5))


def test_naming_another_choice_drops_the_options_of_the_first(tmp_path: Path) -> None:
    text = 'algorithm = "fedavg"\n[clients]\nalpha = 0.5\nclients = 7\n'
    kept = _load(tmp_path, text, "clients=dirichlet", "clients.min_size=2").clients
    assert kept is not None
    assert (kept.options["alpha"], kept.options["clients"], kept.options["min_size"]) == (0.5, 7, 2)
    dropped = _load(tmp_path, text, "clients=iid").clients
    assert dropped is not None
    assert (dropped.name, dropped.options["clients"]) == ("iid", 40)
    assert _load(tmp_path, text, "clients.name=iid").clients == dropped


def test_a_section_is_named_before_its_options_are_set(tmp_path: Path) -> None:
    config = _load(tmp_path, "", "algorithm.mu=0.3", "algorithm=fedprox")
    assert config.algorithm.options["mu"] == 0.3


def test_the_later_of_two_overrides_counts(tmp_path: Path) -> None:
    assert _load(tmp_path, "rounds = 3", "rounds=4", "rounds=5").rounds == 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=0.3", ("a.b", 0.3)),
        ("a = 3", ("a", 3)),
        ("a=fedprox", ("a", "fedprox")),
        ("a='3'", ("a", "3")),
        ("a=[x, 'y z', 1e-3, true]", ("a", ["x", "y z", 1e-3, True])),
        ("a={name=adam, b1=0.9}", ("a", {"name": "adam", "b1": 0.9})),
        ("a=/data/some file.npz", ("a", "/data/some file.npz")),
        ("a=x=y", ("a", "x=y")),
        ("a=2024-run", ("a", "2024-run")),
        ('a=""', ("a", "")),
    ],
)
def test_overrides_are_toml_in_which_words_need_no_quotes(text: str, expected: tuple[str, Any]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["fedprox", "=3", "a b=3", "a=", "a=[1", "a={", "a='x", "a=1\nb=2"])
def test_overrides_that_cannot_be_read_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match="override must"):
        parse(text)


def test_data_with_their_own_clients_take_no_section_clients(tmp_path: Path) -> None:
    config = _load(tmp_path, '[data]\nname = "synthetic"\nclients = 5\n')
    assert config.clients is None
    assert "clients" not in config.resolved()
    assert _again(config) == config
    assert _load(tmp_path, to_toml(Config()), "data=synthetic", "clients=none").clients is None


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("[clients]\nalhpa = 1", "exp.toml, line 2", "did you mean 'alpha'.*alpha \\(a number; default 0.1\\)"),
        (
            "\n[algorithm]\nmu = 1",
            "exp.toml, line 3",
            "it is one of 'fedprox', 'fednova'; 'fedavg' takes server",
        ),
        ('algorithm = "fedporx"', "exp.toml, line 1", "did you mean 'fedprox'"),
        ("alpha = 1", "exp.toml, line 1", "did you mean clients.alpha"),
        ("ronds = 1", "exp.toml, line 1", "did you mean 'rounds'"),
        ('[clients]\nalpha = "x"', "exp.toml, line 2", "clients.alpha must be a number, got 'x'"),
        ("rounds = 1.5", "exp.toml, line 1", "rounds must be a whole number, got 1.5"),
        ("rounds = true", "exp.toml, line 1", "rounds must be a whole number, got True"),
        ("rounds = 0", "exp.toml, line 1", "rounds must be >= 1, got 0"),
        ("seeds = 3", "exp.toml, line 1", "seeds must be a list, each entry a whole number, got 3"),
        ("seeds = [\n1, 1]", "exp.toml, line 1", "each once, got \\[1, 1\\]"),
        ("seeds = []", "exp.toml, line 1", "at least one entry"),
        ('name = "a/b"', "exp.toml, line 1", "usable as a folder"),
        ("model = 3", "exp.toml, line 1", "model must be a table of options, got 3"),
        ("[data]\nname = 3", "exp.toml, line 2", "data.name must say what is meant"),
        ('data = "npz"', "exp.toml, line 1", "data.path must be given for 'npz'"),
        ("[local]\nepochs = 2\nsteps = 2", "line 2 and line 3", "must not both be given"),
        ("[model]\nhidden = [3, 0.5]", "exp.toml, line 2", "each entry a whole number"),
        ("[algorithm]\nserver = {name = 'adma'}", "exp.toml, line 2", "did you mean 'adam'"),
        ("[algorithm]\nserver = {b1 = 0.9}", "exp.toml, line 2", "algorithm.server.name must say"),
        ('[evaluation]\nsplt = "test"', "exp.toml, line 2", "did you mean 'split'"),
        ('[evaluation]\nsplit = "tset"', "exp.toml, line 2", "did you mean 'test'"),
        ("[checkpoint]\nkeep = 0", "exp.toml, line 2", "checkpoint.keep must be >= 1"),
        ('compare = ["fedprx"]', "exp.toml, line 1", "did you mean 'fedprox'"),
        ('compare = ["mine"]', "exp.toml, line 1", r"a table \[methods.mine\]"),
        ("[methods.fedprox]\nmuu = 1", "exp.toml, line 2", "did you mean 'mu'"),
        ("[methods.mine]\nmu = 1", "exp.toml, line 1", "methods.mine.name must say"),
        ('measures = ["disimilarity"]', "exp.toml, line 1", "did you mean 'dissimilarity'"),
        ('data = "synthetic"\n[clients]', "line 2 and line 1", "write clients=none"),
        ('clients = "none"', "exp.toml, line 1", "dealt out"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, text: str, place: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        _load(tmp_path, text)
    assert str(caught.value).split(": ")[0].replace(f"{tmp_path}/", "").endswith(place)


def test_mistakes_in_overrides_are_named_with_the_override(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^override 'clients.alpha=big': clients.alpha must be a number"):
        _load(tmp_path, "[clients]\nalpha = 1\n", "rounds=3", "clients.alpha=big")
    with pytest.raises(ConfigError, match=r"^override 'rounds.x=3': rounds.x must name an option"):
        _load(tmp_path, "rounds = 3", "rounds.x=3")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name = fedprox", r", line 1, column 8: file must be TOML, got: Invalid value; text is written"),
        (b"rounds = 1\nrounds = 2\n", ", line 2.*every key once"),
        (b"seeds = [", ", end of document: file must be TOML"),
        (b"\xff\xfe", " must be a TOML file in UTF-8"),
    ],
)
def test_files_that_are_not_toml_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"bad\.toml{message}"):
        Config.load(tmp_path / "bad.toml")


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        Config.load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"got a folder: try .*config.toml"):
        Config.load(tmp_path)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "bom.toml").write_bytes("﻿rounds = 7".encode())
    assert Config.load(tmp_path / "bom.toml").rounds == 7


def test_python_users_get_the_same_checks() -> None:
    with pytest.raises(ConfigError, match=r"^algorithm must be one of the names below.*did you mean 'fedprox'"):
        Config(algorithm=Choice("fedprx"))
    with pytest.raises(ConfigError, match=r"^evaluation.sample must be >= 1"):
        Config(evaluation=Evaluation(sample=0))
    changed = dataclasses.replace(Config(), rounds=7)
    assert (changed.rounds, changed.methods) == (7, Config().methods)
    assert hash(changed) != hash(Config())

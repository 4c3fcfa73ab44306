"""Everything that a configuration can do to clients: each entry is built, written and read again."""

from pathlib import Path

import jax
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.experiment import Config, ConfigError, build, federation_of, resume, run, to_toml
from fedjax_het.experiment import runs as module
from fedjax_het.experiment.choices import CHOICES
from fedjax_het.heterogeneity import compose, concept, feature, label, quantity, temporal

FEW = ["clients.clients=4", "clients.alpha=5", "clients.min_size=10"]

DEALT = {
    "iid": [],
    "dirichlet": ["alpha=1"],
    "dirichlet_per_client": ["sizes=30"],
    "shards": ["per_client=3"],
    "classes": ["per_client=5"],
    "proportions": ["proportions=[[0.5,0.5,0,0,0,0,0,0,0,0],[0,0,1,0,0,0,0,0,0,0]]"],
    "power_law": ["exponent=1.2"],
    "log_normal": ["sigma=0.5"],
    "dirichlet_sizes": ["alpha=3"],
    "sizes": ["sizes=[5,20,100]"],
    "by_feature": ["feature=20"],
    "by_cluster": ["groups=3"],
}
"""Options of each entry of the section "clients"."""

EVEN = "[0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1]"
SHIFTED = {
    "rotate": ["clusters=4"],
    "affine": ["spread=0.5", "clip=[0,1]"],
    "blur": ["sigmas=[0,1,2,3]"],
    "noise": ["ramp=0.1"],
    "channels": ["spread=30"],
    "gaussian": ["spread=0.5"],
    "domains": ["domains=[identity,invert]", "mixture=[[1,0],[0,1],[0.5,0.5],[0.1,0.9]]"],
    "permute": ["clusters=[0,0,1,1]"],
    "swap": ["rate=0.5", "clusters=2"],
    "oppose": ["rate=1"],
    "linear": ["clusters=2", "difference=0.5"],
    "dirichlet": [],
    "dirichlet_per_client": [],
    "shards": [],
    "classes": ["per_client=5"],
    "proportions": [f"proportions=[{EVEN},{EVEN},{EVEN},{EVEN}]"],
    "power_law": [],
    "log_normal": [],
    "dirichlet_sizes": [],
    "sizes": ["sizes=[20,30,40,50]"],
    "by_feature": ["feature=20"],
    "by_cluster": ["groups=3"],
    "sudden": ["round=3", "change=swap", "change.rate=0.5"],
    "gradual": ["begin=1", "end=4", "phases=3", "change={name=dirichlet,seed=1}"],
    "recurring": ["length=2", "changes=[{name=noise,most=0.5},shards]", "offset=random"],
    "rotating_classes": ["window=3", "length=2"],
    "growing": ["length=2", "phases=3"],
    "compose": ["steps=[{name=swap,rate=1},{name=noise,most=0.1}]"],
}
"""Options of each entry of the section "shift"; "label_delay" wants phases, and has a test of its own."""


def _equal(one: fh.Federation, other: fh.Federation) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def _again(config: Config, folder: Path) -> Config:
    path = folder / "config.toml"
    path.write_text(to_toml(config))
    again = Config.load(path)
    assert again == config
    assert to_toml(again) == path.read_text()
    return again


CASES = {
    **{
        f"clients={name}": [f"clients={name}", *(f"clients.{one}" for one in options)]
        for name, options in DEALT.items()
    },
    **{
        f"shifts.0={name}": [*FEW, f"shifts.0={name}", *(f"shifts.0.{one}" for one in options)]
        for name, options in SHIFTED.items()
    },
    "label_delay": [*FEW, "shifts=[{name=growing,length=2,phases=3},{name=label_delay,phases=1}]"],
}


@pytest.mark.parametrize("words", CASES.values(), ids=CASES)
def test_what_is_built_is_what_the_written_configuration_builds(words: list[str], tmp_path: Path) -> None:
    flat = words[0].startswith("clients=") or "shifts.0=channels" in words
    config = Config.load(None, [f"data.flat={str(flat).lower()}", *words])
    federation = federation_of(config)
    _equal(federation, federation_of(_again(config, tmp_path)))
    assert int(federation.train.size.sum()) > 0


def test_every_entry_is_tried() -> None:
    assert set(DEALT) == set(CHOICES["clients"])
    assert {*SHIFTED, "label_delay"} == set(CHOICES["shift"])


def test_shifts_are_the_functions_of_the_library_in_order() -> None:
    config = Config.load(
        None,
        [
            *FEW,
            "data.flat=false",
            "shifts=[{name=power_law,exponent=1.2},{name=rotate,spread=45,seed=3},"
            "{name=sudden,round=7,change={name=compose,steps=[{name=swap,rate=0.5},shards]}}]",
        ],
    )
    pool = fh.datasets.digits(flat=False)
    wanted = label.dirichlet(pool, clients=4, alpha=5, min_size=10)
    wanted = quantity.power_law(wanted, exponent=1.2)
    wanted = feature.rotate(wanted, spread=45, seed=3)
    change = compose(lambda held: concept.swap(held, rate=0.5), label.shards)
    _equal(federation_of(config), temporal.sudden(wanted, change=change, round=7))


def test_shifts_apply_to_clients_of_every_origin(tmp_path: Path) -> None:
    synthetic = ["data=synthetic", "data.clients=5"]
    plain = federation_of(Config.load(None, synthetic))
    moved = federation_of(Config.load(None, [*synthetic, "shifts.0=gaussian", "shifts.0.spread=0.5"]))
    _equal(moved, feature.gaussian(plain, spread=0.5))
    fh.datasets.save_npz(tmp_path / "own.npz", plain)
    kept = ["data=npz", f"data.path={tmp_path / 'own.npz'}", "shifts.0=swap", "shifts.0.rate=1"]
    _equal(federation_of(Config.load(None, kept)), concept.swap(plain, rate=1.0))


def test_entries_are_names_or_tables_and_the_default_is_none() -> None:
    assert Config().shifts == ()
    assert Config().resolved()["shifts"] == []
    bare = Config.from_table({"shifts": ["shards"]})
    assert bare.shifts == Config.from_table({"shifts": [{"name": "shards", "per_client": 2}]}).shifts
    assert list(bare.shifts[0].options) == ["per_client", "seed"]


@pytest.mark.parametrize("written", ["shifts.1.rate=0.25", "shifts[1].rate=0.25"])
def test_overrides_reach_into_the_list(tmp_path: Path, written: str) -> None:
    file = tmp_path / "exp.toml"
    file.write_text('[[shifts]]\nname = "shards"\n[[shifts]]\nname = "swap"\nrate = 1\nseed = 4\n')
    changed = Config.load(file, [written]).shifts
    assert changed[0].name == "shards"
    assert (changed[1].options["rate"], changed[1].options["seed"]) == (0.25, 4)
    added = Config.load(file, ["shifts.2.length=2", "shifts.2.phases=3", "shifts.2=growing"]).shifts
    assert [shift.name for shift in added] == ["shards", "swap", "growing"]
    other = Config.load(file, ["shifts.1=oppose", "shifts.1.rate=1"]).shifts
    assert (other[1].name, other[1].options["seed"]) == ("oppose", 0), "another choice drops the options"
    assert Config.load(file, ["shifts.1.name=oppose", "shifts.1.rate=1"]).shifts == other
    assert Config.load(file, ["shifts=[]"]).shifts == ()


HEAD = '[[shifts]]\nname = "shards"\n'


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ('shifts = ["rotat"]', 1, r"shifts\[0\] must be one of the names below.*did you mean 'rotate'"),
        ('shifts = "rotate"', 1, r"shifts must be a list, got 'rotate': begin each entry with \[\[shifts\]\]"),
        ("[shifts]\nname = 'swap'", 1, "shifts must be a list"),
        (f"{HEAD}[[shifts]]\nrate = 1", 3, r"shifts\[1\].name must say what is meant"),
        (f"{HEAD}[[shifts]]\nname = 'swap'", 3, r"shifts\[1\].rate must be given for 'swap'"),
        (f"{HEAD}[[shifts]]\nname = 'swap'\nrate = 'x'", 5, r"shifts\[1\].rate must be a number, got 'x'"),
        (f"{HEAD}[[shifts]]\nname = 'swap'\nrte = 1", 5, r"shifts\[1\].rte must be .*did you mean 'rate'"),
        (f"{HEAD}[[shifts]]\nname = 'swap'\nrate = 2", 5, r"shifts\[1\].rate must be <= 1, got 2"),
        (f"{HEAD}[[shifts]]\nname = 'rotate'", 3, r"shifts\[1\] = 'rotate' cannot be applied.*images"),
        (f"{HEAD}[[shifts]]\nname = 'noise'", 3, r"shifts\[1\].most, ramp or levels must be given"),
        (
            f"{HEAD}[[shifts]]\nname = 'sudden'\nround = 1\n[shifts.change]\nname = 'swap'\nrate = 2",
            8,
            r"shifts\[1\].change.rate must be <= 1, got 2",
        ),
        (
            f"{HEAD}[[shifts]]\nname = 'sudden'\nround = -1\nchange = {{name = 'swap', rate = 2}}",
            5,
            r"shifts\[1\].round must be >= 0",
        ),
        (
            f"{HEAD}[[shifts]]\nname = 'recurring'\nlength = 1\n[[shifts.changes]]\nname = 'shards'\n"
            "[[shifts.changes]]\nname = 'gaussian'\nspread = -1",
            10,
            r"shifts\[1\].changes\[1\].spread must be >= 0, got -1",
        ),
        (
            "[[shifts]]\nname = 'compose'\n[[shifts.steps]]\nname = 'swap'\nrate = 2",
            5,
            r"^[^:]*: shifts\[0\].steps\[0\].rate must be <= 1, got 2",
        ),
        (
            "[[shifts]]\nname = 'growing'\nlength = 1\nphases = 2\n[[shifts]]\nname = 'shards'",
            5,
            r"shifts\[1\] = 'shards' cannot be applied: source must have one phase.*over time last",
        ),
        ("data = 'synthetic'\n[[shifts]]\nname = 'blur'\nmost = 1", 2, r"'blur' cannot be applied.*images"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_entry_and_line(
    tmp_path: Path, text: str, place: int, message: str
) -> None:
    (tmp_path / "exp.toml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        federation_of(Config.load(tmp_path / "exp.toml"))
    assert str(caught.value).startswith(f"{tmp_path / 'exp.toml'}, line {place}: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["shifts.1=swap"],
            r"shifts\[1\] must name an entry that there is, or the next one, got number 1 of 0",
        ),
        (["shifts.rate=1"], "shifts.rate must name an entry by its number, got 'rate': such as shifts.0.rate"),
        (
            ["shifts=swap", "shifts.0.rate=1"],
            r"shifts\[0\].rate must name an entry of a list, got one of shifts",
        ),
        (["shifts.0=swap", "shifts.0.rate=9"], r"^override 'shifts.0.rate=9': shifts\[0\].rate must be <= 1"),
        (
            ["shifts.0=swap", "shifts[0].rate=9"],
            r"^override 'shifts\[0\].rate=9': shifts\[0\].rate must be <= 1",
        ),
    ],
)
def test_mistakes_in_overrides_are_named(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        federation_of(Config.load(None, words))


def test_a_run_over_phases_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exp.toml").write_text(
        'rounds = 4\nevery = 2\nseeds = [0]\nmodel = "softmax"\ncheckpoint = {seconds = 0}\n'
        "clients = {clients = 4, alpha = 5}\nsampling = {size = 2}\nlocal = {epochs = 1}\n"
        '[[shifts]]\nname = "sudden"\nround = 3\nchange = {name = "swap", rate = 1}\n'
    )
    config = Config.load(tmp_path / "exp.toml")
    whole = run(config)

    class Stop(Exception):
        """The power goes out."""

    save, saves = module.save, []

    def once(*arguments, **options):
        if saves:
            raise Stop
        saves.append(save(*arguments, **options))

    monkeypatch.setattr(module, "save", once)
    with pytest.raises(Stop):
        run(config, folder=tmp_path / "broken")
    monkeypatch.undo()
    assert resume(tmp_path / "broken").lines[0].history.same(whole.lines[0].history)
    still = run(Config.load(tmp_path / "exp.toml", ["shifts=[]"]))
    early, late = (result.lines[0].history["global/accuracy"] for result in (still, whole))
    np.testing.assert_array_equal(early[:, :2], late[:, :2], err_msg="until round 3 nothing has changed")
    assert not np.array_equal(early[:, -1], late[:, -1])
    with pytest.raises(FileExistsError, match="shifts"):
        run(Config.load(tmp_path / "exp.toml", ["shifts.0.round=1"]), folder=tmp_path / "broken")


def test_the_build_has_the_shifts() -> None:
    study = build(Config.load(None, [*FEW, "sampling.size=2", "shifts.0=swap", "shifts.0.rate=1"]))
    assert "permutation" in study.federation.truth

"""Tuning: one budget, validation rows only, lanes that are single runs, results that a file holds."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.algorithms import ALGORITHMS
from fedjax_het.experiment import candidates as candidates_module
from fedjax_het.experiment.build import Study, build
from fedjax_het.experiment.candidates import factors, grid, numbers
from fedjax_het.experiment.config import Config, ConfigError, Method, Tuning, to_toml
from fedjax_het.experiment.toml import dump
from fedjax_het.experiment.tuning import Tuned, Untunable, from_json, tune
from fedjax_het.experiment.values import make
from fedjax_het.federation import Federation

METHODS = (
    *(name for name, entry in ALGORITHMS.items() if not entry.needs and not entry.everyone),
    "centralised",
)
"""Whatever can learn a network from a part of the clients."""

SMALL = [
    "rounds=2",
    "clients={clients=5,alpha=0.5,valid=0.2,test=0.7}",
    "sampling={size=3}",
    "local={epochs=1,batch_size=10}",
    "model={hidden=[8]}",
]


def _study(*overrides: str, labels: tuple[str, ...] = METHODS) -> Study:
    return build(Config.load(None, [*SMALL, *overrides]), labels)


@pytest.fixture(scope="module")
def study() -> Study:
    return _study(f"compare=[{','.join(METHODS)}]")


@pytest.fixture(scope="module")
def fedprox(study: Study) -> Tuned:
    return tune(study, study.entrants["fedprox"], candidates=4, seeds=2)


def _key(seed: int) -> jax.Array:
    return fh.keys.stream(jax.random.key(seed), "tuning")


def _single(study: Study, algorithm: object, seed: int) -> float:
    """The score of one candidate, by a plain run."""
    _, history = fh.simulate(
        algorithm,
        study.federation,
        key=_key(seed),
        rounds=study.config.rounds,
        sampler=study.sampler,
        split="valid",
    )
    held = history["rows"][-1] > 0
    return float(history["personal/loss"][-1][held].mean())


def test_factors_are_evenly_spaced_in_logarithm_and_hold_the_configured_rate() -> None:
    assert factors(8) == (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
    assert factors(4) == (1 / 16, 1 / 4, 1, 4)
    assert factors(1) == (1,)
    for count in range(1, 12):
        steps = np.diff(np.log2(factors(count)))
        np.testing.assert_allclose(steps, 8 / count)
        assert 1 in factors(count)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_every_method_has_the_same_budget(study: Study, count: int) -> None:
    for label, entrant in study.entrants.items():
        tried = [tuple(numbers(method).items()) for method in grid(study, entrant, count)]
        assert len(tried) == len(set(tried)) == count, label


def test_a_method_with_a_number_of_its_own_tries_fewer_rates(study: Study) -> None:
    tried = [numbers(method) for method in grid(study, study.entrants["fedprox"], 8)]
    assert [(each["learning_rate"], each["mu"]) for each in tried] == [
        (0.1 * factor, mu) for factor in (1 / 16, 1 / 4, 1, 4) for mu in (0.1, 1.0)
    ]


@pytest.mark.parametrize("name", [name for name, entry in ALGORITHMS.items() if entry.grid])
def test_declared_numbers_are_options_and_leaves(name: str) -> None:
    linear = ["model=softmax"] if ALGORITHMS[name].needs == "linear" else []
    study = _study(f"compare=[{name}]", *linear, labels=(name,))
    methods = grid(study, study.entrants[name], 8)
    given = {"problem": study.problem, "solver": study.solver}
    made = [make("method", method.algorithm, given) for method in methods]
    assert len({str(jax.tree.structure(each)) for each in made}) == 1
    assert len({str(jax.tree.leaves(each)) for each in made}) > 1


def test_lanes_equal_single_runs(study: Study, fedprox: Tuned) -> None:
    for place, method in enumerate(fedprox.candidates):
        solver = make("local", method.local, {})
        algorithm = make("method", method.algorithm, {"problem": study.problem, "solver": solver})
        for seed in range(2):
            np.testing.assert_allclose(fedprox.scores[place][seed], _single(study, algorithm, seed), rtol=1e-5)


def test_personal_models_are_what_is_judged(study: Study) -> None:
    tuned = tune(study, study.entrants["fedper"], candidates=2, seeds=1)
    expected = _single(study, tuned.entrant.algorithm, 0)
    np.testing.assert_allclose(tuned.scores[tuned.chosen][0], expected, rtol=1e-5)


def test_centralised_training_is_judged_client_by_client(study: Study) -> None:
    """By hand: FedAvg on the pooled rows with a cohort's steps, its model on every client's rows."""
    tuned = tune(study, study.entrants["centralised"], candidates=2, seeds=1)
    sizes = np.asarray(study.federation.train.size[0])
    steps = round(float(np.ceil(sizes / 10).mean()) * 3)
    solver = fh.local.sgd(0.1, batch_size=10, steps=steps)
    algorithm = fh.algorithms.fedavg(study.problem, solver)
    everyone = fh.pooled(study.federation)
    state, _ = fh.simulate(algorithm, everyone, key=_key(0), rounds=2)
    model = algorithm.consensus(state.server)
    rows = study.federation.valid
    losses = []
    for offset, size in zip(np.asarray(rows.offset[0]), np.asarray(rows.size[0])):
        index = np.asarray(rows.index)[offset : offset + size]
        x = jnp.asarray(study.federation.x)[index]
        y = jnp.asarray(study.federation.y)[index]
        if size:
            losses.append(float(study.problem.losses(algorithm.predict(model, x), y).mean()))
    np.testing.assert_allclose(tuned.scores[1][0], np.mean(losses), rtol=1e-5)


def test_the_best_by_validation_is_chosen(fedprox: Tuned) -> None:
    means = np.mean(fedprox.scores, axis=1)
    assert fedprox.chosen == int(np.argmin(means))
    assert fedprox.method == fedprox.candidates[fedprox.chosen]
    rate = fedprox.entrant.algorithm.solver.rule.learning_rate
    np.testing.assert_allclose(rate, fedprox.numbers["learning_rate"])
    assert fedprox.entrant.choice == fedprox.method.algorithm


def test_seeds_are_apart_from_those_of_final_runs(fedprox: Tuned) -> None:
    assert fedprox.scores[0][0] != fedprox.scores[0][1]
    seeds = [jax.random.key(seed) for seed in range(50)] + [_key(seed) for seed in range(50)]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in seeds}) == 100


def test_one_candidate_is_the_configured_method(study: Study) -> None:
    tuned = tune(study, study.entrants["fedavg"], candidates=1, seeds=1)
    assert tuned.numbers == {"learning_rate": 0.1}
    assert tuned.chosen == 0
    assert not tuned.at_edge


def test_a_diverging_candidate_loses_and_harms_nobody(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    entrant = study.entrants["fedavg"]

    def scores(*tried: float) -> Tuned:
        monkeypatch.setattr(candidates_module, "factors", lambda count: tried)
        return tune(study, entrant, candidates=4, seeds=2)

    calm, wild = scores(0.25, 1.0, 0.5, 2.0), scores(0.25, 1.0, 1e38, 2.0)
    assert wild.scores[2] == (np.inf, np.inf)
    assert np.isfinite(calm.scores).all()
    for place in (0, 1, 3):
        np.testing.assert_allclose(wild.scores[place], calm.scores[place], rtol=1e-5)
    assert wild.chosen == calm.chosen != 2
    with pytest.raises(
        ValueError, match=r"'fedavg' must stay finite, got 4 that did not.* from 1e\+37 to 3e\+37"
    ):
        scores(1e38, 2e38, 2e38, 3e38)


def test_candidates_that_a_method_refuses_lose_and_leave_the_others_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ditto takes no rate of 4 with lambda = 1, which does not settle."""
    study = _study("local.learning_rate=1.0", "compare=[ditto]", labels=("ditto",))
    ditto = study.entrants["ditto"]
    monkeypatch.setattr(candidates_module, "factors", lambda count: (4.0, 0.1)[:count])
    tuned = tune(study, ditto, candidates=4, seeds=2)
    tried = [numbers(candidate) for candidate in tuned.candidates]
    assert tried[1] == {"learning_rate": 4.0, "lam": 1.0}
    assert tuned.scores[1] == (np.inf, np.inf) and np.isfinite(tuned.scores[2:]).all()
    assert from_json(tuned.as_json(), study) == tuned
    monkeypatch.setattr(candidates_module, "factors", lambda count: (40.0,))
    with pytest.raises(Untunable, match=r"'ditto' must stay finite, got 2 that did not, .* from 40 to 40"):
        tune(study, ditto, candidates=2, seeds=2)


def _poisoned(federation: Federation, split: str) -> Federation:
    index = np.unique(np.asarray(federation.rows(split).index))
    x = np.array(federation.x, np.float32)
    x[index] = np.nan
    return dataclasses.replace(federation, x=jnp.asarray(x))


@pytest.mark.parametrize("label", ["fedavg", "fedper", "centralised"])
def test_test_rows_are_never_read(study: Study, label: str) -> None:
    entrant = study.entrants[label]
    clean = tune(study, entrant, candidates=2, seeds=1)
    poisoned = dataclasses.replace(study, federation=_poisoned(study.federation, "test"))
    assert tune(poisoned, entrant, candidates=2, seeds=1) == clean
    assert np.isfinite(clean.scores).all()


def test_validation_rows_are_what_counts(study: Study) -> None:
    poisoned = dataclasses.replace(study, federation=_poisoned(study.federation, "valid"))
    with pytest.raises(ValueError, match="must stay finite"):
        tune(poisoned, study.entrants["fedavg"], candidates=2, seeds=1)


def test_a_client_without_validation_rows_does_not_count(study: Study) -> None:
    federation = study.federation
    size = federation.valid.size.at[0, 0].set(0)
    bare = dataclasses.replace(federation, valid=dataclasses.replace(federation.valid, size=size))
    entrant = study.entrants["fedavg"]
    tuned = tune(dataclasses.replace(study, federation=bare), entrant, candidates=2, seeds=1)
    assert np.isfinite(tuned.scores).all()
    assert tuned.scores != tune(study, entrant, candidates=2, seeds=1).scores


def test_a_table_of_json_gives_the_result_back(study: Study, fedprox: Tuned) -> None:
    text = json.dumps(fedprox.as_json(), allow_nan=False)
    again = from_json(json.loads(text), study)
    assert again == fedprox
    for one, other in zip(jax.tree.leaves(again.entrant.algorithm), jax.tree.leaves(fedprox.entrant.algorithm)):
        np.testing.assert_array_equal(one, other)


def test_a_diverged_score_is_null_in_json(study: Study, fedprox: Tuned) -> None:
    others = [place for place in range(4) if place != fedprox.chosen]
    scores = tuple((np.inf, 1.0) if place == others[0] else row for place, row in enumerate(fedprox.scores))
    table = dataclasses.replace(fedprox, scores=scores).as_json()
    assert table["scores"][others[0]] == [None, 1.0]
    assert from_json(json.loads(json.dumps(table, allow_nan=False)), study).scores == scores


@pytest.mark.parametrize(
    "change",
    [
        {"label": "fedavgg"},
        {"label": "fedavg"},
        {"chosen": 17},
        {"scores": [[1.0, 1.0]]},
        {"scores": [[1.0], [1.0, 1.0], [1.0], [1.0]]},
        {"scores": [[], [], [], []]},
        {"candidates": []},
        {"candidates": 3},
    ],
)
def test_a_table_of_another_configuration_is_refused(study: Study, fedprox: Tuned, change: dict) -> None:
    with pytest.raises(ValueError, match="delete it to tune again"):
        from_json({**fedprox.as_json(), **change}, study)


def test_a_configuration_holds_the_tuned_method(fedprox: Tuned) -> None:
    import tomllib

    config = Config(methods={"fedprox": fedprox.method}, compare=("fedprox",))
    again = Config.from_table(tomllib.loads(to_toml(config)))
    assert again.methods["fedprox"] == fedprox.method
    assert again.methods["fedprox"].algorithm.options["mu"] == fedprox.numbers["mu"]


def test_the_rate_of_an_optimizer_of_optax_is_tuned() -> None:
    own = "methods.own={name=fedavg,local={name=optax,optimizer={name=adam,b1=0.5,learning_rate=0.01}}}"
    study = _study(own, labels=("fedavg", "own"))
    methods = grid(study, study.entrants["own"], 2)
    tried = [method.local.options["optimizer"] for method in methods if method.local is not None]
    assert [rule.options["learning_rate"] for rule in tried] == [0.01 / 16, 0.01]
    assert {rule.options["b1"] for rule in tried} == {0.5}
    # without seeing the other method's local work
    assert numbers(grid(study, study.entrants["fedavg"], 1)[0]) == {"learning_rate": 0.1}


def test_an_edge_of_the_grid_is_told(fedprox: Tuned) -> None:
    places = [dataclasses.replace(fedprox, chosen=place).at_edge for place in range(4)]
    assert places == [True] * 4, "two rates: both are edges"
    wide = Tuned("x", fedprox.entrant, _rates(fedprox, (0.1, 0.2, 0.4)), ((1.0,), (0.0,), (1.0,)), 1)
    assert not wide.at_edge
    assert dataclasses.replace(wide, chosen=2).at_edge
    assert not Tuned("x", fedprox.entrant, _rates(fedprox, (0.1,)), ((1.0,),), 0).at_edge


def _rates(tuned: Tuned, rates: tuple[float, ...]) -> tuple[Method, ...]:
    local = tuned.method.local
    assert local is not None
    return tuple(
        dataclasses.replace(
            tuned.method, local=dataclasses.replace(local, options={**local.options, "learning_rate": rate})
        )
        for rate in rates
    )


def test_schedules_are_refused() -> None:
    study = _study("local.learning_rate={name=geometric,initial=0.1,factor=0.99}", labels=("fedavg",))
    with pytest.raises(
        ConfigError, match=r"local\.learning_rate must be a number to be tuned, got the schedule"
    ):
        tune(study, study.entrants["fedavg"])


def test_a_federation_without_validation_rows_is_refused(tmp_path) -> None:
    file = tmp_path / "exp.toml"
    file.write_text(dump({"tuning": {"candidates": 4}}))
    study = build(Config.load(file, [*SMALL, "clients.valid=0"]), ("fedavg",))
    with pytest.raises(ConfigError, match=r"clients\.valid=0'.*set clients\.valid=0\.2"):
        tune(study, study.entrants["fedavg"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"candidates": 0}, "candidates must be >= 1, got 0"),
        ({"seeds": 0}, "seeds must be >= 1, got 0"),
        ({"candidates": 5}, r"multiple of 2, the values of mu .* got 5: take 6"),
        ({"candidates": 1}, "got 1: take 2"),
    ],
)
def test_numbers_out_of_range_are_refused(study: Study, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tune(study, study.entrants["fedprox"], **arguments)


def test_the_section_of_a_configuration() -> None:
    assert Config().tuning == Tuning(0, 2)
    config = Config.load(None, ["tuning={candidates=8,seeds=3}"])
    assert config.tuning == Tuning(8, 3)
    assert config.resolved()["tuning"] == {"candidates": 8, "seeds": 3}
    assert Config.from_table(config.resolved()) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tuning.candidates=-1", "tuning.candidates must be >= 0, got -1: 8 is usual, 0 tunes nothing"),
        ("tuning.candidates=2.5", "tuning.candidates must be a whole number"),
        ("tuning.seeds=0", "tuning.seeds must be >= 1, got 0"),
        ("tuning.candidate=8", "did you mean 'candidates'"),
        ("tuning=8", "tuning must be a table of options"),
    ],
)
def test_bad_sections_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.load(None, [override])

"""From a configuration to a run, and parts that do not fit refused before anything is compiled."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.experiment.build import build
from fedjax_het.experiment.config import Config, ConfigError, to_toml
from fedjax_het.experiment.toml import dump

SMALL = ["clients={clients=6,alpha=0.5}", "sampling={size=3}", "local={epochs=1}", "model=softmax"]


def _config(*overrides: str) -> Config:
    return Config.load(None, [*SMALL, *overrides])


def _equal(one, other) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        np.testing.assert_array_equal(left, right)


def test_the_default_builds_the_digits_study() -> None:
    study = build(Config(), Config().compare)
    pool = fh.datasets.digits()
    federation = fh.heterogeneity.label.dirichlet(pool, clients=40, alpha=0.1, min_size=20, seed=0)
    problem, solver = fh.models.mlp(pool, hidden=(64,)), fh.local.sgd(0.1, batch_size=20, epochs=5)
    _equal(study.federation, federation)
    _equal((study.problem, study.solver), (problem, solver))
    assert study.sampler == fh.sampling.uniform(10)
    assert list(study.entrants) == list(Config().compare)
    for name, entrant in study.entrants.items():
        made = fh.algorithms.make("fedavg" if entrant.centralised else name, problem, solver)
        _equal(entrant.algorithm, made)
    assert study.weighting is None
    assert study.metrics is None


def test_a_run_from_the_saved_configuration_has_the_same_bits(tmp_path: Path) -> None:
    config = _config("algorithm=fedprox", "algorithm.mu=0.3", "algorithm.server=adam", "weighting=uniform")
    (tmp_path / "config.toml").write_text(to_toml(config))
    finals = []
    for one in (config, Config.load(tmp_path / "config.toml")):
        study = build(one)
        state, _ = fh.simulate(
            study.entrants["fedprox"].algorithm,
            study.federation,
            key=jax.random.key(one.seeds[0]),
            rounds=2,
            sampler=study.sampler,
            executor=study.executor,
            weighting=study.weighting,
        )
        finals.append(jax.tree.leaves(state.server))
    for left, right in zip(*finals):
        np.testing.assert_array_equal(left, right)


def test_a_method_may_have_local_work_of_its_own() -> None:
    config = _config("methods.fedavg.local.learning_rate=0.3", "compare=[fedavg,fedprox]")
    study = build(config, config.compare)
    assert float(study.entrants["fedavg"].solver.rule.learning_rate) == pytest.approx(0.3)
    assert float(study.entrants["fedprox"].solver.rule.learning_rate) == pytest.approx(0.1)
    paced = dataclasses.replace(study.solver, probe=None)
    _equal(study.entrants["fedprox"].rebuilt(paced), study.entrants["fedprox"].algorithm)


@pytest.mark.parametrize(
    "overrides",
    [
        ["algorithm=fedper", "algorithm.personal={name=matching,regex=bias}"],
        ["algorithm=fedper", "algorithm.personal=body", "model=mlp"],
        ["algorithm.server={name=adagrad,learning_rate={name=inverse_time,numerator=1,offset=2}}"],
        ["local={name=optax,optimizer={name=yogi,learning_rate=0.1},steps=3,batch_size=none}"],
        ["local.learning_rate={name=geometric,initial=0.1,factor=0.99}"],
        ["executor={name=chunked,size=2,inner=looped}"],
        ["executor=sharded"],
        ["sampling={name=fixed,ids=[1,2]}"],
        ["sampling={name=scripted,ids=[[0,1],[2,3]]}"],
        ["sampling={name=uniform,size=3,replacement=true}", "weighting=per_draw"],
        ["sampling={name=proportional,size=8}", "weighting={name=per_draw,draws=8}"],
        ["sampling={name=given,size=2,probabilities=[0.5,0.1,0.1,0.1,0.1,0.1]}"],
        ["sampling={name=bernoulli,chance=0.5,slots=6}", "weighting={name=unbiased,probability=0.5}"],
        ["sampling={name=bernoulli,chance=[1,0.5,0.5,0.5,0.5,0.5],slots=6}"],
        ["sampling={name=cyclic,size=2,groups=3,shuffle=false}"],
        ["sampling={name=intermittent,size=2,chance=0.9}"],
        ["sampling={name=by_size,size=2,exponent=-1}"],
        ["sampling={name=by_labels,size=2,strength=0.5,rule=kinds}"],
        ["sampling={name=markov,size=2,leave=0.1,join=[0.1,0.2,0.3,0.4,0.5,0.6]}"],
        ["sampling={name=periodic,size=2,period=4,phase=[0,1,2,3,0,1]}"],
        ["sampling={name=power_of_choice,size=2,candidates=4}", "weighting=uniform"],
        ["sampling={name=stragglers,fraction=0.5,policy=drop,inner={name=dropout,chance=0.1,inner=everyone}}"],
        ["sampling=stragglers", "sampling.fraction=0.5", "sampling.inner.size=2"],
        ["weighting={name=given,weights=[1,2,0,1,1,1]}"],
        ["weighting={name=capped,cap=0.5,base={name=noisy,epsilon=1,base=buckets}}"],
        ["weighting={name=buckets,edges=[10,100]}"],
        ["weighting={name=clip_counts,most=50}"],
        ["weighting={name=noisy,epsilon=0.5,mechanism=geometric,seed=3}"],
        ["algorithm={name=fedprox,mu={name=adaptive_mu,step=0.2}}"],
        ["algorithm={name=fedavgm,server_learning_rate={name=geometric,initial=1.0,factor=0.9}}"],
        ["algorithm=finetune", "algorithm.of=fedprox", "algorithm.of.mu=0.3", "algorithm.tuner=sgd"],
        ["algorithm={name=finetune,of={name=fedper,personal=head},leaves=head}", "model=mlp"],
        ["algorithm={name=fedmtl,tasks=[0,0,1,1,2,2],own={name=sgd,epochs=2}}", "model=mlp"],
        ["algorithm={name=lgfedavg,personal={name=matching,regex=dense},weights=uniform}", "model=mlp"],
        ["algorithm={name=ditto,personal={name=optax,optimizer=adam,steps=3},lam=0.2}"],
        ["algorithm={name=apfl,adaptive=true,mixed_with=global}"],
        ["algorithm={name=perfedavg,variant=hf,delta=0.01}"],
        ["algorithm={name=pfedme,lam=5,server_learning_rate=2}"],
        ["algorithm={name=ifca,clusters=3,shared=body,warm_up=2,average=gradients}", "model=mlp"],
        ["algorithm={name=cfl,relative=true,linkage=complete,gamma=none}", "sampling=everyone"],
        ["algorithm={name=cosine_cfl,threshold=0.2,projection=64}", "sampling=everyone"],
        ["algorithm={name=fedem,components=2,iterations=5}"],
        ["algorithm={name=mocha,prior=independent,loss=softmax}"],
        ["algorithm={name=mocha,prior={name=clustered,labels=[0,0,0,1,1,1],ridge=0.5}}"],
        ["algorithm={name=mocha,prior={name=mean_regularised,tasks=6,ridge=0.5}}"],
        ["measures=[inexactness]"],
        ["measures=[drift,layer_drift,noise,cosines]"],
        ["clients={name=iid,clients=6}"],
        ["measures=[dissimilarity]", "evaluation.metrics=[auc,balanced_accuracy]"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_what_can_be_written_can_be_built(overrides: list[str]) -> None:
    study = build(_config(*overrides))
    assert study.federation.num_clients == 6


def test_data_with_clients_of_their_own_are_built() -> None:
    study = build(Config.load(None, ["data=synthetic", "data.clients=12", "model=softmax"]))
    assert study.federation.num_clients == 12


def test_npz_files_hold_pools_or_federations(tmp_path: Path) -> None:
    pool = fh.datasets.digits()
    federation = fh.heterogeneity.iid(pool, clients=4)
    whole, dealt = tmp_path / "pool.npz", tmp_path / "federation.npz"
    fh.datasets.save_npz(whole, pool)
    fh.datasets.save_npz(dealt, federation)
    some = ["data=npz", "sampling.size=2"]
    read = build(Config.load(None, [*some, f"data.path={dealt}"])).federation
    _equal(read.train, federation.train)
    read = build(
        Config.load(None, [*some, f"data.path={whole}", "clients=iid", "clients.clients=4"])
    ).federation
    _equal(read.train, federation.train)
    with pytest.raises(ConfigError, match="hold a pool; name one of iid, dirichlet, "):
        build(Config.load(None, [*some, f"data.path={whole}"]))
    with pytest.raises(ConfigError, match="hold a federation"):
        build(Config.load(None, [*some, f"data.path={dealt}", "clients=iid"]))


@pytest.mark.parametrize(
    ("table", "places", "message"),
    [
        (
            {"sampling": {"size": 40}, "clients": {"clients": 30}},
            ["line 2", "line 5"],
            "sampling 'uniform' does not fit 30 clients: cohort size must be <= .*, got 40 of 30",
        ),
        ({"clients": {"alpha": -1.0}}, ["line 2"], "clients.alpha must be > 0, got -1"),
        ({"clients": {"min_size": 100}}, ["line 2"], r"clients\.(min_size|clients) must"),
        ({"clients": {"test": 0.0}, "sampling": {"size": 2}}, ["line 2"], "evaluation.split must have rows"),
        ({"evaluation": {"split": "valid"}}, ["line 2"], "set clients.valid to a fraction"),
        ({"evaluation": {"sample": 41}}, ["line 2"], "got 41 of 40"),
        ({"local": {"learning_rate": 0}}, ["line 2"], "local.learning_rate must be > 0, got 0"),
        ({"local": {"epochs": 1.5}}, ["line 2"], "local.epochs must be a whole number, got 1.5"),
        (
            {"model": "linear"},
            ["line 1"],
            "model = 'linear' cannot be built: pool must be of task 'regression'",
        ),
        ({"model": {"activation": "rellu"}}, ["line 2"], "model.activation must be .*did you mean 'relu'"),
        ({"algorithm": {"name": "fedprox", "mu": -1}}, ["line 3"], "algorithm.mu must be >= 0, got -1"),
        (
            {"algorithm": {"server": {"name": "adam", "learning_rate": -1.0}}},
            ["line 3"],
            "algorithm.server.learning_rate must be > 0, got -1",
        ),
        (
            {"algorithm": "scaffold", "local": {"momentum": 0.9}},
            ["line 1"],
            "algorithm.option must be 'I' for a solver that is not plain SGD",
        ),
        ({"algorithm": {"name": "ifca", "average": "medians"}}, ["line 3"], "algorithm.average must be one of"),
        ({"algorithm": {"name": "finetune", "of": "fedavgg"}}, ["line 3"], "algorithm.of .*mean 'fedavg'"),
        (
            {"model": "softmax", "algorithm": {"name": "mocha", "prior": {"name": "clustered", "labels": [0]}}},
            ["line 5"],
            "algorithm.prior.ridge must be given",
        ),
        (
            {"algorithm": {"name": "fedper", "personal": {"name": "matching", "regex": "("}}},
            ["line 3"],
            "algorithm.personal.regex must be a regular expression",
        ),
        ({"executor": {"name": "chunked", "size": 0}}, ["line 3"], "executor.size must be >= 1"),
        (
            {"weighting": {"name": "given", "weights": [1.0]}},
            ["line 3"],
            "weighting.weights must be one number for each of the 40 clients, got 1",
        ),
        (
            {"weighting": {"name": "capped", "cap": 0.5, "base": {"name": "given", "weights": [1.0]}}},
            ["line 4"],
            "weighting.base.weights must be one number for each of the 40 clients, got 1",
        ),
        (
            {"weighting": {"name": "unbiased", "probability": [0.5, 0.5]}},
            ["line 3"],
            "weighting.probability must be one number for each of the 40 clients, got 2",
        ),
        (
            {"sampling": {"name": "stragglers", "fraction": 2.0, "inner": {"name": "uniform", "size": 5}}},
            ["line 3"],
            "sampling.fraction must be <= 1",
        ),
        (
            {"sampling": {"name": "dropout", "inner": {"name": "uniform", "size": 50}, "chance": 0.1}},
            ["line 3", "line 4"],
            "sampling 'dropout' does not fit 40 clients: .* replacement=true",
        ),
        ({"local": {"batch_size": 0}}, ["line 2"], 'local.batch_size must be >= 1, got 0: use "none" for full'),
        (
            {"sampling": {"name": "fixed", "ids": [40]}},
            ["line 3"],
            "ids must be below the number of clients 40",
        ),
        (
            {"data": {"name": "npz", "path": "none.npz"}},
            ["line 3"],
            "data.path must name a file, got 'none.npz'",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_parts_that_do_not_fit_are_named_with_their_line(
    tmp_path: Path, table: dict, places: list[str], message: str
) -> None:
    (tmp_path / "exp.toml").write_text(dump(table))
    with pytest.raises(ConfigError, match=message) as caught:
        build(Config.load(tmp_path / "exp.toml"))
    assert str(caught.value).split(": ")[0].endswith(f"exp.toml, {' and '.join(places)}"), str(caught.value)
    assert caught.value.keys


def test_methods_are_built_for_comparisons_only() -> None:
    config = _config("local.momentum=0.9")
    assert list(build(config).entrants) == ["fedavg"]
    with pytest.raises(ConfigError, match=r"methods.scaffold.option must be 'I'"):
        build(config, config.compare)
    with pytest.raises(ConfigError, match="labels must be methods"):
        build(config, ["none"])

"""What a method learned of how clients are related: read from its state, compared with the truth, drawn."""

import dataclasses

import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.experiment import Config, compare, study_of
from fedjax_het.experiment.config import Choice
from fedjax_het.experiment.entrants import Entrant
from fedjax_het.experiment.learned import READ, agreement, learned, over_phases

CLIENTS, COMPONENTS = 6, 2


@pytest.fixture(scope="module")
def federation():
    """Six clients in two latent clusters whose labels are opposed, so that a linear model tells them apart."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(CLIENTS * 20, 3))
    cluster = np.arange(CLIENTS) % 2
    y = ((x[:, 0] > 0) ^ np.repeat(cluster, 20)).astype(np.int32)
    pool = fh.pool(x, y, num_classes=2, name="opposed")
    made = fh.from_index_lists(pool, None, np.split(np.arange(len(x)), CLIENTS), test=0.25)
    return fh.heterogeneity.concept.permute(made, clusters=list(cluster), moved=0)


@pytest.fixture(scope="module")
def result(federation, tmp_path_factory):
    numbers = {
        "cfl": {"clusters": 2, "eps1": 10.0, "eps2": 0.0},
        "mocha": {"inner": 2},
        "fedem": {"components": COMPONENTS},
    }
    config = Config(
        compare=tuple(numbers),
        methods={name: {"name": name, **own} for name, own in numbers.items()},
        rounds=4,
        every=4,
        seeds=(0, 1),
        sampling="everyone",
        executor="vmapped",
    )
    problem, solver = fh.models.softmax(federation.pool), fh.local.sgd(0.5, batch_size=5)
    entrants = {}
    for name in config.compare:
        choice = config.methods[name].algorithm
        bare = Entrant(name, choice, problem, solver, None)
        entrants[name] = dataclasses.replace(bare, algorithm=bare.rebuilt(solver))
    parts = {"federation": federation, "problem": problem, "solver": solver}
    study = study_of(["fedavg"], cohort=CLIENTS, **parts)
    study = dataclasses.replace(study, config=config, sampler=fh.sampling.everyone(), entrants=entrants)
    return compare(study, folder=tmp_path_factory.mktemp("kept") / "study")


def line_of(result, name):
    return next(line for line in result.lines if line.name == name)


def test_what_each_method_learned(result):
    names = {line.name: sorted(line.learned) for line in result.lines}
    assert names == {
        "cfl": ["cluster", "similarity"],
        "mocha": ["relation"],
        "fedem": ["mixture"],
    }
    assert set(READ) == {"cfl", "cosine_cfl", "fedem", "ifca", "mocha"}
    similarity = line_of(result, "cfl").learned["similarity"]
    np.testing.assert_allclose(similarity, similarity.T, atol=1e-6)
    np.testing.assert_allclose(np.diag(similarity), 1, atol=1e-5)
    same = np.equal.outer(np.arange(CLIENTS) % 2, np.arange(CLIENTS) % 2)
    assert similarity[same].min() > similarity[~same].max(), "the cut parted the latent clusters"
    relation = line_of(result, "mocha").learned["relation"]
    assert relation.shape == (CLIENTS, CLIENTS) and np.trace(relation) == pytest.approx(1)
    np.testing.assert_allclose(line_of(result, "fedem").learned["mixture"].sum(1), 1, atol=1e-5)


def test_agreement_is_told_for_every_seed(result):
    told = line_of(result, "cfl").agreement
    assert set(told) == {"clusters", "adjusted_rand", "purity", "coverage"}
    np.testing.assert_array_equal(told["adjusted_rand"], [1, 1])
    np.testing.assert_array_equal(told["clusters"], [2, 2])
    assert line_of(result, "mocha").agreement == line_of(result, "fedem").agreement == {}


def test_the_folder_has_a_picture_of_each(result):
    drawn = {path.stem for path in result.folder.glob("*.png")}
    assert {"clusters_cfl", "similarity_cfl", "tasks_mocha", "mixture_fedem"} <= drawn


def test_a_method_around_another_is_read_as_that_one():
    server = type("Server", (), {"relation": np.eye(2)})()
    told = type("Told", (), {"server": server})()
    assert learned(Choice("fedavg"), told) == {}
    outer = Choice("finetune", {"of": Choice("mocha"), "epochs": 3})
    np.testing.assert_array_equal(learned(outer, told)["relation"], np.eye(2))


def test_mixtures_are_compared_up_to_the_order_of_components():
    federation = fh.datasets.mixture(clients=5, components=2, features=4, test_rows=2, seed=0)
    star = np.asarray(federation.truth["mixture"])
    assert agreement({"mixture": star[:, ::-1]}, federation)["mixture_distance"] == pytest.approx(0)
    off = np.clip(star + np.array([0.1, -0.1]), 0, 1)
    assert agreement({"mixture": off}, federation)["mixture_distance"] > 0.05
    assert agreement({"cluster": np.array([0, 0, -1, 2, 2])}, federation) == {"clusters": 2}


def test_clients_without_rows_are_in_no_cluster():
    pool = fh.pool(np.eye(4), np.array([0, 1, 0, 1]), num_classes=2, name="few")
    federation = fh.from_index_lists(pool, None, [[0, 1], [2, 3], []], test=0.0)
    told = agreement({"cluster": np.array([0, 0, 1])}, federation)
    assert told == {"clusters": 1}


def test_what_change_costs_is_told_by_phase():
    words = [
        "clients={clients=4,name=iid}",
        "sampling=everyone",
        "model=softmax",
        "local.epochs=1",
        "shifts=[{name=recurring,length=2,changes=[{name=swap,rate=1.0}]}]",
        "rounds=6",
        "every=1",
        "seeds=[0, 1]",
        "compare=[fedavg]",
    ]
    config = Config.load(None, words)
    (line,) = compare(config).lines
    assert set(line.phases) == {"forgetting", "backward transfer", "adaptation lag", "recovered"}
    assert line.phases["forgetting"].shape == (2, 2), "seeds, phases"
    forgotten, lag = line.phases["forgetting"], line.phases["adaptation lag"]
    assert np.isfinite(forgotten[:, 0]).all(), "the first state comes again"
    assert not np.isnan(lag[:, 1]).any(), "the second is entered"
    still = study_of(
        ["fedavg"],
        federation=fh.heterogeneity.iid(fh.datasets.digits(), clients=2),
        problem=fh.models.softmax(fh.datasets.digits()),
        solver=fh.local.sgd(0.1, batch_size=20),
        cohort=2,
    )
    assert over_phases({"personal/accuracy": np.zeros((1, 2))}, still.federation, "accuracy", 1) == {}

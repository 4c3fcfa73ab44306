"""Results of papers on personal models: the quick ones come out, in small where they are long."""

import dataclasses
import gzip
import importlib
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module", autouse=True)
def script():
    """The command as a module, with the modules beside it to be found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        spec = importlib.util.spec_from_file_location("bench_papers_personal", BENCH / "papers.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def part(name):
    return importlib.import_module(f"papers.{name}")


def verdicts(rows):
    return [row.passed for row in rows if row.passed is not None]


def by_name(rows):
    return {row.name: row for row in rows}


# ------------------------------------------------------------------------------------------- Ditto's lambda


def test_dittos_best_lambda_is_that_of_point_estimation(script, monkeypatch):
    cells = {"close": (1.0, 10, 0.2), "apart": (2.0, 10, 1.0)}  # of one shape, which is compiled once
    monkeypatch.setattr(part("pull"), "CELLS", cells)
    rows = script.RESULTS["pull"](rounds=4, seeds=[0])
    assert all(verdicts(rows)) and len(verdicts(rows)) == 4, part("rows").show(rows)
    found = by_name(rows)
    for name in cells:
        assert found[f"{name}: squared error at lambda*/4 over that at lambda*"].ours > 1.05
        assert found[f"{name}: squared error at 4 lambda* over that at lambda*"].ours > 1.05


@pytest.mark.parametrize("lam", [0.0, 0.4, 10.0])
def test_ditto_ends_between_a_client_and_the_mean_of_all(lam):
    pull = part("pull")
    federation, _ = pull.federation_of(1.0, 10, 0.5, clients=50, coordinates=100, seed=1)
    own = np.asarray(federation.y, np.float64).reshape(50, 10, 100).mean(axis=1)
    wanted = (own + lam * own.mean(axis=0)) / (1 + lam)
    np.testing.assert_allclose(pull.estimates(federation, lam, 4), wanted, atol=1e-5)


# ------------------------------------------------------------------------------------- FedRep's linear model


def test_fedrep_finds_the_column_space_and_one_head_for_all_does_not(script):
    result = script.RESULTS["representation"]
    rows = result(rounds=120, seeds=[0])
    assert verdicts(rows) == [True] * 3, part("rows").show(rows)
    assert by_name(rows)["distance before training, the mean"].ours > 0.5
    assert verdicts(result(rounds=1, seeds=[0])) == [False, True, True], "it takes more than a round"


def test_the_distance_of_two_column_spaces():
    distance, rng = part("representation").distance, np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(6, 2)))[0]
    assert distance(basis @ np.array([[3.0, 1.0], [0.0, 0.1]]), basis) < 1e-12, "other columns, the same space"
    angle = 0.3
    away = np.linalg.qr(np.concatenate([basis, rng.normal(size=(6, 1))], axis=1))[0][:, 2]
    turned = np.stack([basis[:, 0], np.cos(angle) * basis[:, 1] + np.sin(angle) * away], axis=1)
    assert distance(turned, basis) == pytest.approx(np.sin(angle))


# ------------------------------------------------------------------------------------ LG-FedAvg's linear theory


SMALL = {"clients": 30, "rows": 500, "test_rows": 600}


def test_mixtures_of_local_and_global_models_are_as_the_theory_says(script):
    rows = script.RESULTS["mixing"](seeds=[0], **SMALL)
    assert all(verdicts(rows)) and len(verdicts(rows)) == 16, part("rows").show(rows)
    alphas = [row.ours for row in rows if row.name.endswith("best alpha")]
    assert alphas == sorted(alphas) and alphas[-1] - alphas[0] > 0.7


def test_what_is_mixed_are_least_squares():
    mixing = part("mixing")
    federation = fh.datasets.local_global_regression(0.5, seed=1, **SMALL)
    local, common = mixing.fitted(federation, mixing.STEPS)
    x, y = (np.asarray(values, np.float64)[: 30 * 500] for values in (federation.x, federation.y))
    np.testing.assert_allclose(common, np.linalg.lstsq(x, y)[0], atol=1e-5)
    for client, own in enumerate(local):
        rows = slice(client * 500, (client + 1) * 500)
        np.testing.assert_allclose(own, np.linalg.lstsq(x[rows], y[rows])[0], atol=1e-5)


# ------------------------------------------------------------------------------------------- pFedMe's tables


def one_client(rows):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.integers(0, 2, 20)
    return fh.from_clients([(x[rows], y[rows])], test=0.0, num_classes=2)


def method_of(pfedme, federation, name, steps):
    """One of the three, in rounds of a few steps on batches of 5."""

    algorithm = pfedme.methods(fh.models.softmax(federation.pool), 0.1, (0.2, 0.1), (0.02, 0.05, 15.0))[name]

    def short(record):
        if hasattr(record, "inner"):
            return dataclasses.replace(record, inner=short(record.inner))
        plan = fh.local.sgd(0.1, batch_size=5, steps=steps, shuffle=False).plan
        solver = dataclasses.replace(record.solver, plan=plan)
        return dataclasses.replace(record, solver=solver)

    return short(algorithm)


def run(algorithm, federation, rounds):
    """The state after so many rounds, without an evaluation to compile."""
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    step = jax.jit(round_fn)
    for _ in range(rounds):
        state, _ = step(algorithm, state, federation)
    return state


def test_a_client_of_per_fedavg_reads_two_batches_a_step_and_goes_on():
    pfedme, federation = part("pfedme"), one_client(np.arange(20))
    whole = run(method_of(pfedme, federation, "Per-FedAvg", 3), federation, 1)
    parts = run(method_of(pfedme, federation, "Per-FedAvg", 1), federation, 3)
    kernels = [np.asarray(state.server.params["head"]["kernel"]) for state in (parts, whole)]
    np.testing.assert_allclose(*kernels, rtol=1e-5, atol=1e-7)
    assert np.abs(kernels[0]).max() > 1e-3
    assert parts.clients.tolist() == whole.clients.tolist() == [6], "three steps of two batches"


def test_personal_models_of_pfedme_come_of_the_batches_that_follow():
    pfedme, federation = part("pfedme"), one_client(np.arange(20))
    algorithm = method_of(pfedme, federation, "pFedMe", 2)
    state = run(algorithm, federation, 1)  # which read rows 0 to 9
    assert state.clients.tolist() == [2]

    evaluate = jax.jit(fh.evaluate, static_argnames="split")

    def loss(state, federation):
        return float(evaluate(algorithm, state, federation, split="train").personal["loss"][0])

    anew = dataclasses.replace(state, clients=jnp.zeros_like(state.clients))
    rolled = one_client(np.roll(np.arange(20), -10))
    assert loss(state, federation) == pytest.approx(loss(anew, rolled), rel=1e-5)
    assert abs(loss(state, federation) - loss(anew, federation)) > 1e-4


FOUND = {"FedAvg": 77.0, "pFedMe global": 78.0, "Per-FedAvg": 81.0, "pFedMe personal": 83.0}
MORE = {"Per-FedAvg before its step": 75.0, "pFedMe after local rounds": 83.0}


@pytest.mark.parametrize("name, wrong, disorder", [("", 0, 0), ("FedAvg", 2, 1), ("pFedMe personal", 2, 1)])
def test_what_pfedmes_tables_ask_for(script, monkeypatch, images, name, wrong, disorder):
    def columns(algorithms, federation, drawn, rounds, seeds):
        assert set(algorithms) == {"FedAvg", "Per-FedAvg", "pFedMe"} and rounds > 0
        found = {**FOUND, **MORE, **({name: 80.5} if name else {})}
        return {key: np.array([value - 0.1, value + 0.1]) for key, value in found.items()}

    for module in ("pfedme", "two_labels"):
        monkeypatch.setattr(part(module), "columns", columns)
    monkeypatch.setattr(fh.datasets, "synthetic_pfedme", lambda: one_client(np.arange(20)))
    assert verdicts(script.RESULTS["pfedme-table"]()).count(False) == wrong
    rows = script.RESULTS["two-labels"]()
    assert verdicts(rows).count(False) == 2 * disorder and len(verdicts(rows)) == 8
    assert rows[3].ours == pytest.approx(80.5 if name == "pFedMe personal" else 83.0)


def classes_of_mnist():
    """Labels as MNIST has them: so many of each, and its first ten in their order."""
    counts = (6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958)
    first = (5, 0, 4, 1, 9, 2, 1, 3, 1, 4)
    rest = np.array(counts) - np.bincount(first, minlength=10)
    return np.concatenate([first, np.repeat(np.arange(10), rest)])


def test_overlapping_sizes_have_the_range_that_the_paper_prints():
    two_labels, labels = part("two_labels"), classes_of_mnist()
    shared = two_labels.dealt(labels, "prefix")
    train = [int(0.75 * len(rows)) for rows in shared]
    assert (min(train), max(train)) == (1165, 3834)
    assert len(np.unique(np.concatenate(shared))) < 0.5 * sum(map(len, shared)), "rows are shared"


def test_disjoint_clients_hold_every_row_once_and_two_labels_each():
    two_labels, labels = part("two_labels"), classes_of_mnist()
    clients = two_labels.dealt(labels)
    assert np.sort(np.concatenate(clients)).tolist() == list(range(len(labels)))
    for user, rows in enumerate(clients):
        assert set(labels[rows].tolist()) == {user % 10, (user + 1) % 10}
    sizes = two_labels.parts([7000])
    assert sizes.sum() == 7000 and 1400 <= sizes[0, 0] < 3500
    with pytest.raises(ValueError, match="overlap must be 'disjoint' or 'prefix', got 'shared'"):
        two_labels.dealt(labels, "shared")


@pytest.fixture
def images(tmp_path, monkeypatch):
    """600 images of ten classes in place of Fashion-MNIST."""
    rng = np.random.default_rng(0)
    for stem, many in (("train", 500), ("t10k", 100)):
        labels = np.arange(many, dtype=np.uint8) % 10
        images = rng.integers(0, 60, (many, 784)).astype(np.uint8)
        images[np.arange(many), labels] = 255  # a pixel for each class
        for kind, header, values in (("images-idx3", (many, 28, 28), images), ("labels-idx1", (many,), labels)):
            start = bytes([0, 0, 8, len(header)]) + np.array(header, ">u4").tobytes()
            with gzip.open(tmp_path / f"{stem}-{kind}-ubyte.gz", "wb", compresslevel=1) as stream:
                stream.write(start + values.tobytes())
    monkeypatch.setenv("FEDJAX_HET_DATA", str(tmp_path))


def test_two_labels_in_small(images):
    pfedme, two_labels = part("pfedme"), part("two_labels")
    federation = two_labels.federation_of("prefix")
    x = np.asarray(federation.x)
    assert abs(x[:, 700].mean()) < 1e-3 and x[:, 700].std() == pytest.approx(1, abs=0.01)
    assert np.asarray(federation.valid.size).sum() == 0
    found = pfedme.columns(two_labels._methods(federation, (1.0, 1.0, 1.0)), federation, 5, 2, [0])
    assert set(found) == {*FOUND, *MORE} and all(0 < value.item() <= 100 for value in found.values())
    assert found["Per-FedAvg"] != found["Per-FedAvg before its step"]
    assert found["pFedMe personal"] > found["pFedMe global"], "two labels are easier than ten"


def test_rates_are_chosen_on_validation_rows_method_by_method(images, monkeypatch):
    two_labels = part("two_labels")
    federation = two_labels.federation_of(valid=0.15)
    assert np.asarray(federation.valid.size).min() > 0

    def scores(algorithm, federation, drawn, rounds, seed, split):
        assert (split, rounds, seed) == ("valid", 7, two_labels.TUNER)
        inner = algorithm.inner if hasattr(algorithm.inner, "solver") else algorithm.inner.inner
        if hasattr(inner, "lam"):  # alpha_p = 0.03 is best, alpha = 0.003, and eta = 0.02
            return {"global": 0.0, "personal": -abs(float(inner.personal_learning_rate) - 0.03)}
        if hasattr(inner, "alpha"):
            return {"global": 0.0, "personal": -abs(float(inner.alpha) - 0.003)}
        return {"global": float(inner.solver.rule.learning_rate), "personal": 0.0}

    monkeypatch.setattr(two_labels, "scores", scores)
    assert two_labels.chosen(federation, 7) == (1.0, 0.1, 0.3)

"""History: joining, stacking, what a run came to, spread over clients."""

import dataclasses

import numpy as np
import pytest
from engine.made import ROWS, made, with_values

import fedjax_het as fh
from fedjax_het.engine import Variable
from fedjax_het.engine.history import join

HELD = ROWS > 0


def test_a_run_and_its_continuation():
    first, second = made(0, 6), made(6, 4, seed=1)
    both = first + second
    np.testing.assert_array_equal(both["round"], np.arange(10))
    np.testing.assert_array_equal(both["evaluated_at"], [2, 4, 6, 8, 10])
    np.testing.assert_array_equal(both["seconds"], np.arange(1.0, 11))
    for name in first:
        if name != "seconds":
            np.testing.assert_array_equal(both[name], np.concatenate([first[name], second[name]]))
        assert both.dims(name) == first.dims(name)
    assert both.notices == first.notices + second.notices
    stacked = fh.stack([first, first]) + fh.stack([second, second])
    assert stacked.same(fh.stack([both, both]))


def test_what_one_part_did_not_record_is_nothing_there():
    """Newcomers, validation rows and measures may come and go: axes stay those of all rounds."""
    plain, more = made(0, 4, valid=False), made(4, 6, valid=True, newcomers=True)
    del plain.variables["measure/spread/G2"]
    both = plain + more
    assert both["newcomer/personal/loss"].shape == (5, 2) and both["measure/spread/G2"].shape == (10, 3)
    assert np.isnan(both["newcomer/personal/loss"][:2]).all() and np.isnan(both["measure/spread/G2"][:4]).all()
    np.testing.assert_array_equal(both["newcomer/rows"], [[0, 0]] * 2 + [[3, 4]] * 3)
    np.testing.assert_array_equal(both["newcomer/personal/loss"][2:], more["newcomer/personal/loss"])
    assert both.final("personal/loss").best_at > 4, "the evaluations without validation rows are not chosen"
    both.summary(), both.to_pandas(), both.to_xarray()


def test_parts_that_do_not_fit():
    with pytest.raises(ValueError, match="later must begin after round 5, got round 0"):
        made() + made()
    wider = made(6)
    wider = with_values(wider, cohort=np.zeros((6, 7), int))
    with pytest.raises(ValueError, match=r"equal cohorts and clients scored .* 'cohort'"):
        made() + wider


def test_joining_nothing_and_interruptions():
    assert list(join([])) == [] and not join([]).interrupted
    late = dataclasses.replace(made(6), interrupted=True)
    assert (made() + late).interrupted and not (
        dataclasses.replace(made(), interrupted=True) + made(6)
    ).interrupted


def test_stacking():
    runs = [made(seed=seed) for seed in range(3)]
    stacked = fh.stack(runs)
    assert stacked.seeds == 3 and runs[0].seeds is None
    for name in runs[0]:
        assert stacked.dims(name) == ("seed", *runs[0].dims(name))
        for place, one in enumerate(runs):
            np.testing.assert_array_equal(stacked[name][place], one[name])
    assert stacked.notices[1] == (6, "seed 1: client 3 does much worse")
    for name in ("global/loss", "personal/accuracy"):
        for field, values in zip(("last", "best", "best_at", "window", "window_sd"), stacked.final(name)):
            np.testing.assert_array_equal(values, [getattr(one.final(name), field) for one in runs])


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([], "at least one History"),
        ([made(), made(rounds=4)], "equal shapes"),
        ([made(), made(valid=False)], "same variables, got only some with"),
        ([made(), made(start=2)], "same rounds, got others for 'round'"),
        ([fh.stack([made()]), made()], "single runs, got a stack at 0"),
    ],
)
def test_runs_of_different_settings_do_not_stack(others, message):
    with pytest.raises(ValueError, match=message):
        fh.stack(others)


def test_last_best_and_window():
    history = made(rounds=12)
    test, valid = (np.array(v) for v in ([0.1, 0.9, 0.3, 0.4, 0.5, 0.2], [0.2, 0.1, 0.8, np.nan, 0.8, 0.3]))
    history = with_values(history, global__accuracy=test, valid__global__accuracy=valid)
    history = with_values(history, valid__global__loss=valid)
    final = history.final("global/accuracy", window=3)
    assert (final.last, final.best, final.best_at) == (0.2, 0.3, 6), (
        "the earliest of equals, not the best on test"
    )
    np.testing.assert_allclose([final.window, final.window_sd], [test[-3:].mean(), test[-3:].std()])
    by_loss = history.final("global/accuracy", by="valid/global/loss")
    assert (by_loss.best, by_loss.best_at) == (0.9, 4), "the lowest loss"
    np.testing.assert_allclose(history.final("global/accuracy", window=100).window, test.mean())
    own = history.final("personal/loss")
    np.testing.assert_allclose(own.last, np.mean(history["personal/loss"][-1][HELD]))
    chosen = np.argmin(history["valid/personal/loss"][:, HELD].mean(1))
    np.testing.assert_allclose(own.best, history["personal/loss"][chosen][HELD].mean())
    assert own.best_at == history["evaluated_at"][chosen]


def test_no_validation_rows_choose_nothing():
    final = made(valid=False).final("global/accuracy")
    assert final.best is None and final.best_at is None
    silent = with_values(made(), valid__global__accuracy=[np.nan] * 3)
    final = silent.final("global/accuracy")
    assert np.isnan(final.best) and final.best_at == -1


def test_bad_questions():
    history = made()
    with pytest.raises(ValueError, match="by must be a variable of validation rows, got 'global/loss'"):
        history.final("global/accuracy", by="global/loss")
    with pytest.raises(ValueError, match="window must be >= 1, got 0"):
        history.final("global/accuracy", window=0)
    with pytest.raises(KeyError, match="did you mean 'global/accuracy'"):
        history.final("global/acuracy")
    with pytest.raises(KeyError, match="did you mean"):
        history.final("global/accuracy", by="valid/global/los")
    with pytest.raises(ValueError, match="name must be an evaluated metric, got 'info/loss'"):
        history.final("info/loss")
    with pytest.raises(ValueError, match="name must be a per-client variable, got 'info/loss'"):
        history.client_mean("info/loss")


def test_spread_over_the_clients_with_rows():
    history = made(newcomers=True)
    values = history["personal/accuracy"][:, HELD]
    np.testing.assert_allclose(history.client_mean("personal/accuracy"), values.mean(1))
    weighted = np.average(values, axis=1, weights=ROWS[HELD])
    np.testing.assert_allclose(history.client_mean("personal/accuracy", weighted=True), weighted)
    np.testing.assert_allclose(
        history.client_mean("shared/accuracy", weighted=True), history["global/accuracy"]
    )
    np.testing.assert_allclose(history.worst_decile("personal/accuracy"), values.min(1))
    np.testing.assert_allclose(history.worst_decile("personal/loss"), history["personal/loss"][:, HELD].max(1))
    np.testing.assert_allclose(history.spread("personal/accuracy")["sd"], values.std(1))
    new = history["newcomer/personal/loss"]
    np.testing.assert_allclose(
        history.client_mean("newcomer/personal/loss", weighted=True), new @ [3 / 7, 4 / 7]
    )


def test_metrics_that_some_clients_cannot_have():
    """A client of a single class has no area under the curve and does not count; a broken loss shows."""
    history = made(auc=True)
    values = history["personal/auc"][:, [2, 3, 4]]
    np.testing.assert_allclose(history.client_mean("personal/auc"), values.mean(1))
    np.testing.assert_allclose(history.spread("personal/auc")["best decile"], values.max(1))
    broken = history["personal/loss"].copy()
    broken[-1, 0] = np.nan
    mean = with_values(history, personal__loss=broken).client_mean("personal/loss")
    assert np.isnan(mean[-1]) and not np.isnan(mean[:-1]).any()


def test_the_error_of_a_sample():
    history = made(sampled=True, newcomers=True)
    values = history["personal/loss"][:, HELD]
    expected = values.std(1, ddof=1) / np.sqrt(4) * np.sqrt(1 - 5 / 50)
    np.testing.assert_allclose(history.sampling_error("personal/loss"), expected)
    assert (made().sampling_error("personal/loss") == 0).all()
    assert (history.sampling_error("newcomer/personal/loss") == 0).all(), "all newcomers are scored"


def test_names_and_sameness():
    history = made()
    assert "round" in history and "rounds" not in history and next(iter(history)) == "round"
    assert history.same(made()) and not history.same(made(seed=1)) and not history.same(made(valid=False))
    assert history.same(with_values(history, seconds=np.zeros(6))), "the wall clock is not compared"
    assert not history.same(dataclasses.replace(history, notices=()))
    assert not history.same(with_values(history, rows=history["rows"].astype(np.int32)))
    assert history != made(), "equality is identity: arrays have no one truth"
    assert Variable(("round",), np.zeros(2)) != Variable(("round",), np.zeros(2))

"""Curves: what is drawn is what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from fedjax_het.engine import History
from fedjax_het.engine.history import Variable
from fedjax_het.plots import (
    dissimilarity_by_round,
    drift_by_round,
    metric_by_bytes,
    metric_by_round,
    metric_by_seconds,
)
from plots.drawn import caption, key_words, lines, overlaps
from plots.made import AT, ROUNDS, run, seeds


def held(history: History, name: str) -> np.ndarray:
    """Means over the five clients with rows."""
    return history[name][..., :5].mean(axis=-1)


def test_the_mean_over_seeds_is_drawn_with_the_extreme_seeds() -> None:
    history = seeds(3)
    figure = metric_by_round({"fedavg": history})
    (line,) = lines(figure)
    values = history["global/accuracy"]
    np.testing.assert_allclose(line, [AT, values.mean(axis=0)])
    (band,) = figure.axes[0].collections
    corners = band.get_paths()[0].vertices
    for x, low, high in zip(AT, values.min(axis=0), values.max(axis=0)):
        here = corners[np.isclose(corners[:, 0], x), 1]
        np.testing.assert_allclose([here.min(), here.max()], [low, high])
    assert "mean of 3 seeds" in caption(figure) and "lowest to highest seed" in caption(figure)


def test_from_five_seeds_on_the_band_is_a_standard_deviation() -> None:
    history = seeds(5)
    figure = metric_by_round(history)
    corners = figure.axes[0].collections[0].get_paths()[0].vertices
    values = history["global/accuracy"][:, -1]
    here = corners[np.isclose(corners[:, 0], 10), 1]
    spread = values.std(ddof=1)
    np.testing.assert_allclose([here.min(), here.max()], [values.mean() - spread, values.mean() + spread])
    assert "± 1 standard deviation" in caption(figure)


def test_one_seed_has_no_band() -> None:
    figure = metric_by_round(run())
    assert not figure.axes[0].collections
    assert caption(figure).startswith("One seed.")


@pytest.mark.parametrize("who", ["shared", "personal"])
def test_clients_are_averaged_where_they_hold_rows(who: str) -> None:
    history = run()
    np.testing.assert_allclose(lines(metric_by_round(history, who=who))[0][1], held(history, f"{who}/accuracy"))


def test_a_method_without_a_global_model_has_a_dash() -> None:
    figure = metric_by_round({"local_only": seeds(2, consensus=False), "fedavg": seeds(2)})
    assert len(lines(figure)) == 1
    assert key_words(figure)[1] == "-  local_only"
    assert "no such model" in caption(figure)


def test_a_method_looks_the_same_where_another_one_is_absent() -> None:
    both = {"local_only": run(consensus=False), "fedavg": run()}
    first, second = (metric_by_round(both, who=who).axes[0].get_lines() for who in ("global", "personal"))
    assert first[0].get_color() == second[1].get_color() != second[0].get_color()


def test_the_legend_lists_the_ends_from_high_to_low() -> None:
    histories = {f"method {i}": run(i) for i in range(4)}
    ends = {name: history["global/accuracy"][-1] for name, history in histories.items()}
    expected = [f"{100 * ends[n]:.1f} %  {n}" for n in sorted(ends, key=lambda n: -ends[n])]
    assert key_words(metric_by_round(histories)) == expected


def test_a_loss_that_spans_decades_has_a_logarithmic_axis() -> None:
    assert metric_by_round(run(), "loss").axes[0].get_yscale() == "log"
    assert metric_by_round(run(), "accuracy").axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("count", [1, 2, 7, 20])
def test_up_to_twenty_methods_fit_beside_their_legend(count: int) -> None:
    histories = {f"a method with a long name, number {i}": seeds(2) for i in range(count)}
    figure = metric_by_round(histories)
    assert len(lines(figure)) == count
    assert not overlaps(figure)
    assert figure.axes[0].get_window_extent().width > 0.45 * figure.bbox.width
    looks = {
        (str(k.get_color()), str(k._unscaled_dash_pattern), k.get_marker()) for k in figure.axes[0].get_lines()
    }
    assert len(looks) == count


def test_names_are_shown_as_they_are() -> None:
    figure = metric_by_round({"_a $1$": run(0), "$\\broken": run(1)})
    assert {text[8:] for text in key_words(figure)} == {"_a $1$", "$\\broken"}


def test_traffic_is_what_was_sent_before_the_evaluation() -> None:
    figure = metric_by_bytes(seeds(2))
    np.testing.assert_allclose(lines(figure)[0][0], [0, 20, 40])
    assert figure.axes[0].get_xlabel().endswith("(kB)")


def test_a_method_that_sends_nothing_is_a_level_line() -> None:
    histories = {"fedavg": run(0), "local_only": run(1, traffic=0), "centralised": run(2)}
    figure = metric_by_bytes(histories, free=("centralised",))
    _, alone, central = figure.axes[0].get_lines()[:3]
    np.testing.assert_allclose(alone.get_ydata(), histories["local_only"]["global/accuracy"][-1])
    np.testing.assert_allclose(central.get_ydata(), histories["centralised"]["global/accuracy"][-1])
    assert "send nothing" in caption(figure)


def test_time_is_without_compilation_unless_asked() -> None:
    figure = metric_by_seconds(seeds(2))
    np.testing.assert_allclose(lines(figure)[0][0], [0, 3, 6])
    assert "without compilation" in caption(figure)
    np.testing.assert_allclose(lines(metric_by_seconds(run(), compilation=True))[0][0], [0, 2, 5])


def test_one_block_keeps_its_time() -> None:
    history = run(seconds=Variable(("round",), np.full(ROUNDS, 7.0)))
    np.testing.assert_allclose(lines(metric_by_seconds(history))[0][0], [0, 7, 7])


def test_time_goes_on_in_a_continued_run() -> None:
    first = run()
    later = {n: v for n, v in first.variables.items() if v.dims[0] == "round"}
    later["round"] = Variable(("round",), np.arange(ROUNDS) + ROUNDS)
    later["evaluated_at"] = Variable(("evaluation",), AT[1:] + ROUNDS)
    for name in ("rows", "personal/accuracy", "global/accuracy"):
        later[name] = Variable(first.dims(name), first[name][1:])
    figure = metric_by_seconds(first + History(later), compilation=True)
    np.testing.assert_allclose(lines(figure)[0][0], [0, 2, 5, 7, 10])


def test_the_axis_fits_the_later_values_where_they_are_close() -> None:
    values = np.array([0.1, 0.5, *np.linspace(0.9, 0.95, 18)])
    both = {
        "evaluated_at": Variable(("evaluation",), np.arange(20)),
        "global/accuracy": Variable(("evaluation",), values),
    }
    figure = metric_by_round(History(both))
    low, high = figure.axes[0].get_ylim()
    assert 0.89 < low < 0.9 and 0.95 < high < 0.96
    assert "first ones lie beyond" in caption(figure)
    np.testing.assert_allclose(lines(figure)[0][1], values)


def test_rounds_are_smoothed_by_a_running_mean() -> None:
    values = np.arange(ROUNDS, dtype=float) ** 2 + 1
    history = run(**{"measure/any/G2": Variable(("round",), values)})
    line = lines(dissimilarity_by_round(history, smooth=1))[0]
    np.testing.assert_allclose(line, [np.arange(ROUNDS) + 1, values])
    line = lines(dissimilarity_by_round(history, smooth=3))[0]
    np.testing.assert_allclose(line[0], np.arange(2, ROUNDS))
    np.testing.assert_allclose(line[1], np.convolve(values, np.ones(3) / 3, "valid"))


def test_drift_is_the_mean_over_those_who_took_part() -> None:
    drift = np.arange(ROUNDS * 4, dtype=float).reshape(ROUNDS, 4)
    drift[:, 2:] = np.nan
    history = run(**{"info/drift": Variable(("round", "slot"), drift)})
    np.testing.assert_allclose(lines(drift_by_round(history))[0][1], drift[:, :2].mean(axis=1))


def test_drift_may_come_from_a_measure() -> None:
    history = run(**{"measure/drift/drift": Variable(("round",), np.arange(ROUNDS))})
    figure = drift_by_round({"fedavg": history, "other": run()}, smooth=1)
    np.testing.assert_allclose(lines(figure)[0][1], np.arange(ROUNDS))
    assert key_words(figure)[1] == "-  other"


def test_what_is_not_finite_leaves_a_gap() -> None:
    history = run()
    history["global/accuracy"][1] = np.nan
    figure = metric_by_round({"a": history, "b": run(1)})
    assert np.isnan(lines(figure)[0][1]).tolist() == [False, True, False]
    assert "Gaps" in caption(figure)


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ({}, {}, "histories must hold at least one History"),
        ({"a": run()}, {"metric": "acuracy"}, "did you mean 'accuracy'"),
        ({"a": run()}, {"who": "everybody"}, "who must be one of"),
        ({"a": run()}, {"split": "train"}, "split must be one of"),
        ({"a": run()}, {"split": "valid"}, "got no valid/global/METRIC in a"),
        ({"a": run(consensus=False)}, {}, "got no global/METRIC in a: choose another who="),
        (History({}), {}, "pass every= to simulate"),
    ],
)
def test_bad_input_is_named(given: object, options: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        metric_by_round(given, **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("given", [3, {"a": np.zeros(3)}, [run()]])
def test_what_is_no_history_is_refused(given: object) -> None:
    with pytest.raises(TypeError, match="must be a History"):
        metric_by_round(given)  # pyright: ignore[reportArgumentType]


def test_a_missing_measure_says_what_to_pass() -> None:
    with pytest.raises(ValueError, match=r"gradient_dissimilarity\(\)\} to simulate"):
        dissimilarity_by_round(run())
    with pytest.raises(ValueError, match=r"measures=\{'drift': fh.analysis.client_drift"):
        drift_by_round(run())
    with pytest.raises(ValueError, match="free must be one of"):
        metric_by_bytes({"fedavg": run()}, free=("centralized",))

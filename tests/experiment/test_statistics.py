"""Paired differences: known numbers, coverage, and no interval from too few seeds."""

import numpy as np
import pytest

from fedjax_het.experiment.statistics import LEAST, Paired, differences, paired


def test_the_interval_of_a_textbook_sample() -> None:
    """Differences 1..5: mean 3, sd sqrt(2.5), t(0.975, 4) = 2.776445: half width 1.963243."""
    seen = paired([2.0, 4.0, 6.0, 8.0, 10.0], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert (seen.mean, seen.seeds) == (3.0, 5)
    np.testing.assert_allclose((seen.low, seen.high), (3 - 1.963243, 3 + 1.963243), atol=1e-6)


def test_students_sleep_data() -> None:
    """Student (1908): hours of extra sleep under two drugs, ten patients; mean 1.58, 95 % from 0.70 to 2.46."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    seen = paired(second, first)
    np.testing.assert_allclose((seen.mean, seen.low, seen.high), (1.58, 0.7001142, 2.4598858), atol=1e-6)
    assert seen.clear
    back = paired(first, second)
    np.testing.assert_allclose((back.mean, back.low, back.high), (-seen.mean, -seen.high, -seen.low))


def test_what_the_seeds_share_does_not_widen_the_interval() -> None:
    luck = np.array([0.0, 50.0, -20.0, 10.0, 400.0])
    seen = paired(luck + np.arange(1.0, 6.0), luck)
    np.testing.assert_allclose((seen.low, seen.high), (3 - 1.963243, 3 + 1.963243), atol=1e-6)


def test_equal_differences_have_an_interval_of_no_width() -> None:
    assert paired([0.5] * 5, [0.25] * 5) == Paired(0.25, 0.25, 0.25, 5)
    assert not paired([0.5] * 5, [0.5] * 5).clear


def test_the_interval_covers_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(1.0, 3.0, (4000, LEAST))
    held = [(seen := paired(row, np.zeros(LEAST))).low <= 1.0 <= seen.high for row in draws]
    assert abs(np.mean(held) - 0.95) < 0.011  # three standard errors


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0] * 4, [0.0] * 4, r"at least 5 seeds, got 4: .* set seeds=\[0, 1, 2, 3, 4\]"),
        ([1.0] * 5, [0.0] * 6, "same seeds, got 5 and 6"),
        ([1.0, 2.0, np.nan, 4.0, 5.0], [0.0] * 5, r"a must be finite, got \[nan\] at place \[2\]"),
        ([1.0] * 5, [0.0, 0.0, 0.0, 0.0, np.inf], r"b must be finite, got \[inf\] at place \[4\]"),
        (np.ones((5, 3)), [0.0] * 5, "a must hold one value a seed"),
    ],
)
def test_bad_samples_are_refused(a, b, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired(a, b)


def test_the_table_shows_every_other_method_once() -> None:
    base = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    table = differences(
        {
            "fedavg": base,
            "fedprox": 2 * base,
            "scaffold": base + np.array([1e-3, -1e-3, 0.0, 1e-3, -1e-3]),
            "ifca": None,
        },
        "fedavg",
    )
    head, prox, scaffold, ifca, note = table.splitlines()
    assert head.split() == ["method", "minus", "fedavg", "95%", "interval"]
    assert prox.split() == ["fedprox", "+0.3000", "[+0.1037,", "+0.4963]", "*"]
    assert scaffold.split() == ["scaffold", "+0.0000", "[-0.0012,", "+0.0012]"]
    assert ifca.split() == ["ifca", "-", "-"]
    assert "5 seeds" in note
    assert len({line.index("]") for line in (prox, scaffold)}) == 1


def test_a_table_against_nothing_is_refused() -> None:
    values = {"fedavg": [1.0] * 5, "ifca": None}
    with pytest.raises(ValueError, match="did you mean 'fedavg'"):
        differences(values, "fedavgg")
    with pytest.raises(ValueError, match="'ifca' without: take one of fedavg"):
        differences(values, "ifca")
    with pytest.raises(ValueError, match="at least 5 seeds, got 2"):
        differences({"fedavg": [1.0, 2.0], "fedprox": [1.0, 2.0]}, "fedavg")

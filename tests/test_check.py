"""Validation: types, limits, messages; tracers pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_het.check import known, number, positive_int, positive_ints, require, scalar, short, whole
from fedjax_het.local import sgd
from fedjax_het.local.schedules import geometric, inverse_time, schedule
from fedjax_het.pool import pool


def test_numbers_become_arrays_of_the_default_type(x64):
    for value in (1, 0.5, np.float32(2), np.int64(3), jnp.float32(4), [1.0, 2.0]):
        assert number("rate", value).dtype == jnp.float64
    with jax.enable_x64(False):
        assert number("rate", 0.5).dtype == jnp.float32


@pytest.mark.parametrize(
    ("value", "limits", "words"),
    [
        (0, {"above": 0}, "> 0"),
        (-1, {"least": 0}, ">= 0"),
        (1, {"below": 1}, "< 1"),
        (1.5, {"most": 1}, "<= 1"),
        (np.nan, {}, "finite"),
        (np.inf, {"above": 0}, "finite"),
        ([0.5, -0.5], {"least": 0}, ">= 0"),
    ],
)
def test_limits(value, limits, words):
    with pytest.raises(ValueError) as caught:
        number("rate", value, **limits, remedy="make it so")
    assert str(caught.value) == f"rate must be {words}, got {value!r}: make it so"


NO_NUMBERS = ["0.1", b"1", True, None, Ellipsis, [[1], [1, 2]], 1j, ["0.1"], np.bool_(True), [True, 0.1]]
NO_NUMBERS += [np.array([True, False]), np.array([0.1, 0.2], object), np.array("0.1"), {"a": 1}]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_number(value):
    with pytest.raises(TypeError, match=r"rate must be a number, got .*"):
        number("rate", value)


@pytest.mark.filterwarnings("error")
def test_finite_in_the_default_type():
    with pytest.raises(ValueError, match=r"rate must be finite as float32, got 1e\+39: less"):
        number("rate", 1e39, remedy="less")


def test_one_number():
    assert scalar("rate", np.float32(0.5)) == 0.5 and isinstance(scalar("rate", 1), float)
    with pytest.raises(TypeError, match=r"rate must be one number, got \[1, 2\]: choose"):
        scalar("rate", [1, 2], remedy="choose")


def test_lists_of_whole_numbers():
    assert positive_ints("sizes", np.array([3, 1])) == positive_ints("sizes", (3, 1)) == [3, 1]
    for value in (3, "31", np.array(3), None, {3: 1}):
        with pytest.raises(TypeError, match=r"sizes must be a sequence of whole numbers, got .*: one a client"):
            positive_ints("sizes", value, remedy="one a client")
    with pytest.raises(ValueError, match=r"sizes must be >= 1, got 0: one a client"):
        positive_ints("sizes", [1, 0], remedy="one a client")


def test_messages_stay_short():
    source = pool(np.zeros((50, 3)), np.zeros(50, int))
    assert short(source) == "Pool" and short(0.1) == "0.1" and "2.0" in short(np.float32(2))
    assert short(np.zeros((50, 3))) == "ndarray of shape (50, 3) and dtype float64"
    assert short(list(range(100))) == "list of length 100"
    with pytest.raises(ValueError, match=r"rate must be > 0, got ndarray of shape \(9,\) and dtype float64$"):
        number("rate", np.zeros(9), above=0)


def test_limits_themselves():
    for value, limits in ((0, {"least": 0}), (1, {"most": 1}), (1e-9, {"above": 0}), (0.999, {"below": 1})):
        assert float(number("rate", value, **limits)) == pytest.approx(value)


def test_tracers_pass():
    assert float(jax.jit(lambda v: number("rate", v, above=0))(-1.0)) == -1
    assert int(jax.jit(lambda v: whole("epochs", v))(-1)) == -1


@pytest.mark.parametrize("value", [1.0, "1", True, None, np.float32(2)])
def test_what_is_no_whole_number(value):
    with pytest.raises(TypeError, match=r"epochs must be a whole number, got .*: say how many"):
        positive_int("epochs", value, remedy="say how many")
    with pytest.raises(TypeError, match=r"epochs must be a whole number, got .*: say how many"):
        whole("epochs", value, remedy="say how many")


def test_whole_numbers():
    assert positive_int("epochs", np.int64(3)) == 3 and isinstance(positive_int("epochs", np.int64(3)), int)
    assert positive_int("epochs", 0, least=0) == 0
    assert whole("epochs", [1, 2]).dtype == jnp.int32
    with pytest.raises(ValueError, match=r"epochs must be <= 2147483647, got 1099511627776"):
        whole("epochs", 2**40)
    for check in (positive_int, whole):
        with pytest.raises(ValueError, match=r"epochs must be >= 2, got 1: more"):
            check("epochs", 1, least=2, remedy="more")


def test_names():
    assert known("option", "I", ("I", "II")) == "I"
    with pytest.raises(ValueError) as caught:
        known("algorithm", "fedavgg", ["fedavg", "ifca"])
    assert "algorithm" in str(caught.value) and "'fedavgg'" in str(caught.value)
    assert "did you mean 'fedavg'?" in str(caught.value) and "ifca" in str(caught.value)
    with pytest.raises(ValueError) as caught:
        known("algorithm", "zzz", ["fedavg", "ifca"])
    assert "did you mean" not in str(caught.value)


def test_require():
    require(True, "never")
    with pytest.raises(ValueError, match="always"):
        require(False, "always")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: sgd(["0.1"], batch_size=1), TypeError, r"must be a number, got \['0.1'\]"),
        (lambda: sgd(np.bool_(True), batch_size=1), TypeError, r"must be a number, got .*True"),
        (lambda: inverse_time(0, 1), ValueError, r"numerator must be > 0, got 0: it is the step size times"),
        (lambda: inverse_time(1, -1), ValueError, r"offset must be > 0, got -1: the first step size"),
        (lambda: geometric(-1, 1), ValueError, r"initial must be > 0, got -1: it is the first step size"),
        (lambda: geometric(1, "1"), TypeError, r"factor must be a number, got '1': below 1"),
        (lambda: schedule(max, "1"), TypeError, r"numbers must be a number, got '1': bind"),
        (lambda: schedule(3), TypeError, r"function must be callable, got 3: pass a function"),
        (lambda: geometric(1, 1, unit="rounds"), ValueError, r"unit must be .*did you mean 'round'"),
    ],
)
def test_step_sizes(make, error, message):
    with pytest.raises(error, match=message):
        make()

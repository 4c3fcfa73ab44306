"""What the comparisons with NumPy loops share, made once for all of them."""

import jax
import pytest
from reference.setting import Setting


@pytest.fixture(scope="session")
def settings():
    """x64 or not -> Setting."""
    made = {}
    for x64 in (True, False):
        with jax.enable_x64(x64):
            made[x64] = Setting(x64)
    return made

"""The persistent compilation cache: what one command compiled, the next one loads."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["VARIABLE", "turn_on"]

VARIABLE = "FEDJAX_HET_COMPILE_CACHE"
"""Environment variable with the cache's folder; empty for no cache."""


def turn_on() -> Path | None:
    """Keep compiled programs, small and quick ones too: a run has many of those, and they add up.

    The folder is `$FEDJAX_HET_COMPILE_CACHE`, else `$JAX_COMPILATION_CACHE_DIR`, else
    `$XDG_CACHE_HOME/fedjax_het/compiled` (`~/.cache` where that is not set). It may be deleted at any time.

    Returns:
        The folder; None where the variable is empty, or the folder cannot be written, in which case programs
        are compiled as ever.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    usual = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(home / "fedjax_het" / "compiled")
    chosen = os.environ.get(VARIABLE, usual)
    if not chosen:
        return None
    folder = Path(chosen).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder

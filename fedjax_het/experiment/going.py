"""run and resume: one method, and whatever was begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedjax_het.experiment.build import Study, build
from fedjax_het.experiment.comparison import Comparison, execute
from fedjax_het.experiment.config import Config
from fedjax_het.experiment.folders import Folder

__all__ = ["resume", "run"]


def run(study: Config | Study | None = None, *, folder: str | Path | None = None, **options: Any) -> Comparison:
    """Run the configuration's `algorithm` with every seed.

    Args:
        study: a configuration, default the digits study; or parts made in Python.
        folder: as in `compare`.
        options: trackers, announce, progress, as in `compare`.

    Returns:
        A Comparison of one line, whose `history` has the dimension "seed".

    Raises:
        See `compare`.
    """
    config = Config() if study is None else study
    ready = build(config) if isinstance(config, Config) else config
    return execute(ready, "run", folder, **options)


def resume(folder: str | Path, *, step: int | None = None, **options: Any) -> Comparison:
    """Go on with the run or the comparison begun in a folder; the result is that of an uninterrupted one.

    Args:
        folder: that `run`, `compare` or the command line was given.
        step: the save to go on from where a run's latest is damaged; its error message names it.
        options: trackers, announce, progress, as in `compare`.

    Raises:
        FileNotFoundError: nothing was begun there.
        CheckpointError: a save is damaged; the message names the file, and the save to go on from.
        See `compare` for the others.
    """
    _, config, command = Folder.open(Path(folder))
    ready = build(config) if command == "run" else build(config, config.compare)
    return execute(ready, command, folder, step=step, **options)

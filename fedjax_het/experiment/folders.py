"""The folder of a run or a comparison: what was asked for, what was saved on the way, what came out.

| file | what it holds |
|---|---|
| config.toml | the resolved configuration: `fedjax-het run config.toml` gives the same bits |
| environment.json | command, libraries, device |
| METHOD/seed-K/checkpoints/ | State and History of a run, committed together |
| METHOD/seed-K/metrics.jsonl | a line for every round |
| tuning.json | what tuning tried and chose, if it did |
| history.npz | the History of every method, seeds stacked: `fh.experiment.load_histories` |
| summary.json | the table |
| *.png | the pictures |
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedjax_het.check import require
from fedjax_het.engine.files import save_all
from fedjax_het.experiment.agreement import differences, listed
from fedjax_het.experiment.build import Study
from fedjax_het.experiment.checkpoint import check_writable
from fedjax_het.experiment.config import Config, to_toml
from fedjax_het.experiment.pictures import draw
from fedjax_het.experiment.report import as_json
from fedjax_het.experiment.runs import environment
from fedjax_het.experiment.tuning import Tuned
from fedjax_het.tree import num_bytes

if TYPE_CHECKING:
    from fedjax_het.experiment.results import Comparison

__all__ = ["Folder"]


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder that this study may write to."""

    path: Path

    @classmethod
    def claim(cls, path: Path, study: Study, command: str) -> Folder:
        """Take a folder: a new one, an empty one, or one in which this very study was begun.

        Raises:
            FileExistsError: it holds something else; nothing is touched.
            SaveError: it cannot be written, or the disk is too small.
        """
        if (path / "config.toml").exists():
            _, held, begun = cls._read(path)
            lines = differences(
                {"command": begun, **held.resolved()}, {"command": command, **study.config.resolved()}
            )
            if lines:
                raise FileExistsError(
                    f"folder must be new or hold this very study, got {path}, which holds another one: choose "
                    f"another folder, or go on there by `fedjax-het resume {path}` (there != asked)\n"
                    f"{listed(lines)}"
                )
            check_writable(path, _room(study))
            return cls(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise FileExistsError(
                f"folder must be new or empty, got {path}, which holds something else: choose another, or "
                "delete it yourself"
            )
        check_writable(path, _room(study))
        folder = cls(path)
        about = {
            "command": command,
            "parts": "given in Python" if study.given else "config.toml",
            **environment(),
        }
        folder.write("environment.json", json.dumps(about, indent=2) + "\n")
        folder.write("config.toml", to_toml(study.config))
        return folder

    @classmethod
    def open(cls, path: Path) -> tuple[Folder, Config, str]:
        """(folder, its configuration, the command that began it).

        Raises:
            FileNotFoundError: no run was begun there.
            ValueError: its files are damaged; parts given in Python, which no file tells.
        """
        parts, config, command = cls._read(path)
        require(
            parts == "config.toml",
            f"folder must hold a study of configured parts, got {path}, whose parts were given in Python: call "
            "compare(study, folder=...) again with the same parts, which goes on",
        )
        return cls(path), config, command

    @staticmethod
    def _read(path: Path) -> tuple[str, Config, str]:
        """(where the parts came from, the configuration, the command that began it)."""
        about = path / "environment.json"
        if not about.exists() or not (path / "config.toml").exists():
            raise FileNotFoundError(
                f"folder must hold a run, got {path} without config.toml and environment.json: name the folder "
                "that `fedjax-het run` or `compare` printed"
            )
        try:
            told = json.loads(about.read_text())
            command, parts = told["command"], told["parts"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"folder must hold a whole environment.json, got a damaged one in {path} ({error}): write "
                '{"command": "compare", "parts": "config.toml"} into it'
            ) from None
        return parts, Config.load(path / "config.toml"), command

    def run(self, label: str, seed: int) -> Path:
        """The folder of one method and seed."""
        path = self.path / label / f"seed-{seed}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def tuning(self) -> dict[str, Any]:
        """What was tuned so far, by label."""
        path = self.path / "tuning.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def add_tuning(self, tuned: Tuned) -> None:
        """Keep a method's tuning."""
        self.write("tuning.json", json.dumps({**self.tuning(), tuned.label: tuned.as_json()}, indent=2) + "\n")

    def finish(self, study: Study, result: Comparison) -> None:
        """Write what came out."""
        save_all(result.histories, self.path / "history.npz")
        self.write("summary.json", as_json(result) + "\n")
        draw(result, study.federation, self.path)

    def write(self, name: str, text: str) -> None:
        """A text file, whole or not at all."""
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.path / f".{name}.partial"
        with open(partial, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.path / name)


def _room(study: Study) -> int:
    """Bytes that the saves of the largest run may take: a model a client, three times over, and its history."""
    import jax

    params = jax.eval_shape(study.problem.init, jax.random.key(0))
    return 3 * num_bytes(params) * (study.federation.num_clients + 2) + 10 * 2**20

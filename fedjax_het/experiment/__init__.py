"""Experiments: whole studies in one call, from a configuration or from parts made in Python."""

from fedjax_het.engine.files import load_all as load_histories
from fedjax_het.experiment.build import Study, build, federation_of
from fedjax_het.experiment.checkpoint import CheckpointError, SaveError
from fedjax_het.experiment.comparison import compare
from fedjax_het.experiment.config import Config, ConfigError, to_toml
from fedjax_het.experiment.describe import Findings, describe
from fedjax_het.experiment.going import resume, run
from fedjax_het.experiment.parts import study_of
from fedjax_het.experiment.restarts import Restarts, restarts
from fedjax_het.experiment.results import Comparison, Line
from fedjax_het.experiment.tracking import jsonl, tensorboard, track

__all__ = [
    "CheckpointError",
    "Comparison",
    "Config",
    "ConfigError",
    "Findings",
    "Line",
    "Restarts",
    "SaveError",
    "Study",
    "build",
    "compare",
    "describe",
    "federation_of",
    "jsonl",
    "load_histories",
    "restarts",
    "resume",
    "run",
    "study_of",
    "tensorboard",
    "to_toml",
    "track",
]

"""The command line: run, compare, resume, describe, kinds, methods, theory."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedjax_het import command_lists, command_theory, compile_cache

if TYPE_CHECKING:
    from fedjax_het.experiment import Comparison, Config

__all__ = ["configuration", "main", "parse"]

FAILED = 1
"""Exit code of bad input and of a run that failed; argparse's own is 2."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

FAMILIES = "all-FAMILY, such as all-global, stands for every method of a family in `fedjax-het methods`"

DEFAULT = (
    "Without a file it is the study of scikit-learn's digits, split over 40 clients with Dirichlet label skew. "
    "CONFIG is a TOML file, such as the config.toml of an earlier run; key=value changes one number of it, "
    "dotted: algorithm=fedprox algorithm.mu=0.3 seeds=[0,1] shifts.0=swap. `fedjax-het kinds` lists all names."
)

CODES = "exit codes: 0 done; 1 bad input or a run that failed; 2 a wrong command line; 130 interrupted, saved."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fedjax-het",
        description="Federated learning on heterogeneous clients, simulated as one compiled program.",
        epilog=CODES,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, example: str) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name, help=text.split(".")[0].lower(), description=text, epilog=f"example: {example} -- {CODES}"
        )
        made.add_argument("--quiet", action="store_true", help="no progress on the standard error")
        made.add_argument("--json", action="store_true", help="print JSON instead of tables")
        return made

    single = command("run", f"One method. {DEFAULT}", "fedjax-het run algorithm=scaffold rounds=200")
    several = command(
        "compare",
        "Several methods on the same clients. All start from the same weights and see the same cohorts and "
        f"batches; who diverges is named, and the others go on. {FAMILIES}. {DEFAULT}",
        "fedjax-het compare --methods fedavg scaffold --alpha 0.05 --rounds 200",
    )
    described = command(
        "describe",
        "Who holds what, and how clients differ. Labels, sizes, features, concepts and phases, beside what "
        f"chance alone would show. {DEFAULT}",
        "fedjax-het describe clients.alpha=0.05 --out seen",
    )
    for made in (single, several, described):
        made.add_argument(
            "words", nargs="*", metavar="CONFIG | key=value", help="a TOML file, and changes to it"
        )
        where = "folder for pictures" if made is described else "folder for the results, a new one"
        made.add_argument("--out", type=Path, metavar="DIR", help=where)
    described.add_argument("--split", default="train", help="whose rows: train, valid or test")
    described.add_argument("--phase", type=int, default=0, metavar="T", help="of clients that change over time")
    for name in ("feature", "concept"):
        described.add_argument(
            f"--no-{name}-shift", action="store_true", help=f"do not measure {name} shift, which takes seconds"
        )
    several.add_argument("--methods", nargs="+", metavar="NAME", help=f"what to compare; {FAMILIES}")
    several.add_argument("--clients", type=int, metavar="N", help="registered clients: clients.clients=N")
    several.add_argument("--alpha", type=float, metavar="A", help="small is skewed: clients.alpha=A")
    several.add_argument("--cohort", type=int, metavar="C", help="clients of a round: sampling.size=C")
    several.add_argument("--rounds", type=int, metavar="T", help="rounds=T")
    several.add_argument("--seeds", type=int, metavar="S", help="runs of every method: seeds=[0, ..., S - 1]")
    several.add_argument(
        "--tune",
        action="store_true",
        help="tune every method with the same budget first (tuning.candidates=8 clients.valid=0.2), then run 5 "
        "fresh seeds and print paired differences with 95%% intervals",
    )
    goes_on = command(
        "resume",
        "Go on with what was begun in a folder. The result is that of an uninterrupted run.",
        "fedjax-het resume runs/compare-20260101-120000",
    )
    goes_on.add_argument("folder", type=Path, help="that run or compare printed")
    goes_on.add_argument(
        "--from",
        dest="step",
        type=int,
        metavar="ROUND",
        help="save to go on from where the last is damaged",
    )
    for made in (single, several, goes_on):
        made.add_argument(
            "--tensorboard", action="store_true", help="also write TensorBoard files (extra track)"
        )
    listed = command(
        "kinds",
        "What a configuration can name. All sections, one of them, or one entry with what its options take.",
        "fedjax-het kinds rotate",
    )
    listed.add_argument("name", nargs="?", help="a section such as sampling, or an entry of one")
    table = command(
        "methods", "What there is to run. Or, of one method, its options.", "fedjax-het methods fedprox"
    )
    table.add_argument("name", nargs="?", help="one method")
    text = "Experiments on theory: numbers, claims and a picture. Without a name they are listed."
    command_theory.add(command("theory", text, "fedjax-het theory floor --out seen"))
    return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's words, sorted; ends the process with code 2 and a usage line if they are wrong."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)  # changes may stand between and after options
    if rest and (not hasattr(arguments, "words") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.words += rest
    return arguments


def configuration(arguments: argparse.Namespace) -> Config:
    """The configuration that a command line asks for; shortcuts are changes like the others, and come first."""
    from fedjax_het.experiment import Config

    methods = getattr(arguments, "methods", None)
    words = [*arguments.words, *(word for word in methods or () if "=" in word)]
    if methods is not None:
        arguments.methods = [word for word in methods if "=" not in word]
    files = [word for word in words if "=" not in word]
    changes = [word for word in words if "=" in word]
    if len(files) > 1:
        raise ValueError(f"CONFIG must be one file, got {files}: write changes to it as key=value")
    short = {
        "compare": "methods",
        "clients.clients": "clients",
        "clients.alpha": "alpha",
        "sampling.size": "cohort",
        "rounds": "rounds",
    }
    given = {key: getattr(arguments, name, None) for key, name in short.items()}
    if getattr(arguments, "tune", False):
        given |= {"tuning.candidates": 8, "clients.valid": 0.2, "seeds": list(range(5))}
    if getattr(arguments, "seeds", None) is not None:
        if arguments.seeds < 1:
            raise ValueError(f"seeds must be >= 1, got {arguments.seeds}: every method runs at least once")
        given["seeds"] = list(range(arguments.seeds))
    shortcuts = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    return Config.load(files[0] if files else None, [*shortcuts, *changes])


def _work(arguments: argparse.Namespace) -> int:
    """run, compare and resume."""
    from fedjax_het import experiment

    began = time.perf_counter()

    def announce(text: str) -> None:
        if not arguments.quiet:
            print(f"[{time.perf_counter() - began:5.1f} s] {text}", file=sys.stderr, flush=True)

    if arguments.command == "resume":
        folder, call = arguments.folder, lambda **options: experiment.resume(step=arguments.step, **options)
    else:
        config = configuration(arguments)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        folder = arguments.out or Path("runs") / f"{arguments.command}-{stamp}"
        do = experiment.run if arguments.command == "run" else experiment.compare
        call = lambda **options: do(config, **options)  # noqa: E731
    trackers = _trackers(arguments, folder)
    try:
        result = call(folder=folder, announce=announce, trackers=trackers)
    except KeyboardInterrupt:
        print(f"interrupted; what is done is saved: fedjax-het resume {folder}", file=sys.stderr)
        return INTERRUPTED
    _show(arguments, result)
    if result.diverged:
        names = ", ".join(one.name for one in result.diverged)
        print(f"fedjax-het: {names} diverged; what the others came to is complete", file=sys.stderr)
        return FAILED
    return 0


def _trackers(arguments: argparse.Namespace, folder: Path) -> Callable[[str, int, int], Sequence[Any]]:
    from fedjax_het.experiment.comparison import no_trackers

    if not arguments.tensorboard:
        return no_trackers
    from fedjax_het.experiment import tensorboard
    from fedjax_het.extras import need

    need("tensorboardX", "track")  # said before anything is begun

    def trackers(label: str, seed: int, done: int) -> Sequence[Any]:
        return (tensorboard(folder / "tensorboard" / label / f"seed-{seed}", resume_from=done or None),)

    return trackers


def _show(arguments: argparse.Namespace, result: Comparison) -> None:
    from rich.console import Console

    from fedjax_het.experiment.report import as_json, table

    if arguments.json:
        print(as_json(result))
        return
    # a pipe has no width of its own: a table cut to 80 columns would lose figures
    console = Console() if sys.stdout.isatty() else Console(width=120)
    if len(result.lines) == 1:
        print(result.lines[0].history.summary())  # as wide as it is: a pipe has no width
    rows, meaning = table(result)
    console.print(rows)
    console.print(meaning, style="dim", highlight=False)
    if len(result.lines) > 1 and result.enough_seeds:
        console.print(
            f"\nmean client {result.metric}, paired by seed:\n{result.differences()}", highlight=False
        )
    elif len(result.lines) > 1:
        console.print("No interval is given for fewer than 5 seeds.", style="dim", highlight=False)


def _describe(arguments: argparse.Namespace) -> int:
    from fedjax_het.experiment import describe, federation_of

    def announce(text: str) -> None:
        if not arguments.quiet:
            print(f"measuring: {text}", file=sys.stderr, flush=True)

    federation = federation_of(configuration(arguments))
    found = describe(
        federation,
        split=arguments.split,
        phase=arguments.phase,
        feature_shift=not arguments.no_feature_shift,
        concept_shift=not arguments.no_concept_shift,
        announce=announce,
    )
    print(json.dumps(found.as_dict(), indent=2) if arguments.json else found, flush=True)
    if arguments.out is not None:
        from fedjax_het import plots

        arguments.out.mkdir(parents=True, exist_ok=True)
        for name, figure in plots.pictures(federation, phase=arguments.phase).items():
            path = plots.save(figure, arguments.out / f"{name}.png")
            if not arguments.quiet:
                print(path, file=sys.stderr)
    elif not arguments.json:
        others = (
            f" Other phases: --phase 0 to {found.holdings.phases - 1}." if found.holdings.phases > 1 else ""
        )
        print(f"\nPictures of all this: --out DIR. The same for a script: --json.{others}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments; default the process's.

    Returns:
        The exit code: 0; 1 for bad input or a run that failed; 130 after Ctrl-C.
    """
    arguments = parse(argv)
    compile_cache.turn_on()
    commands = {
        "describe": _describe,
        "kinds": command_lists.listed,
        "methods": command_lists.listed,
        "theory": command_theory.theory,
    }
    try:
        return commands.get(arguments.command, _work)(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        with contextlib.suppress(AttributeError):
            sys.stdout.flush()
        print(f"fedjax-het: {error}", file=sys.stderr)
        return FAILED

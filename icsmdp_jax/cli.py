"""The command ``icsmdp``: analyse, advise, solve, learn, export, envs, experiment, fit, status, and what others add.

``icsmdp_jax.endings`` defines exit codes and error lines. With ``--json`` one JSON object goes to stdout and
everything else to stderr. JAX is not imported before a command needs it, and the persistent compilation cache is set up
before its first array.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from icsmdp_jax.devices.cache import set_compilation_cache
from icsmdp_jax.endings import LONGEST, ended, plain_warning, printable

COMMAND_GROUP = "icsmdp_jax.commands"  # entry points: functions (subparsers) -> None that add a command
LARGEST = 2**63 - 1
FUNCTION_CLASSES = ("tabular", "linear", "mlp", "two-layer")


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line."""

    def error(self, message: str) -> Any:
        line = printable(message)
        self.exit(2, f"{self.prog}: {line if len(line) <= LONGEST else f'{line[:LONGEST]} ...'}\n")


def positive_integer(text: str) -> int:
    """An integer of 1 or more, for argparse."""
    try:
        value = int(float(text)) if "e" in text.lower() and float(text).is_integer() else int(text)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number") from None
    if not 1 <= value <= LARGEST:
        raise argparse.ArgumentTypeError(f"{text[:40]}: expected a number from 1 to 2**63 - 1")
    return value


def seed(text: str) -> int:
    """A seed, for argparse: a whole number that fits into 63 bits."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number") from None
    if not 0 <= value <= LARGEST:
        raise argparse.ArgumentTypeError(f"{text[:40]}: expected a number from 0 to 2**63 - 1")
    return value


def emit(result: dict[str, Any], as_json: bool, text: Callable[[], str] | None = None) -> None:
    """Prints a result on stdout, as one JSON object, or as ``text``, or as aligned lines.

    Raises:
      ArithmeticError: if a value is not finite, which must not look like a success.
    """
    flat: dict[str, Any] = {}
    for name, value in result.items():
        parts = {f"{name}.{part}": v for part, v in value.items()} if isinstance(value, dict) else {name: value}
        for i, row in enumerate(value if isinstance(value, list) else []):
            parts |= {f"{name}[{i}].{part}": v for part, v in row.items()} if isinstance(row, dict) else {}
        flat |= parts
    for name, value in flat.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ArithmeticError(f"{name} = {value}: expected a finite number")
    if as_json:
        print(json.dumps(result, allow_nan=False))
        return
    if text is not None:
        print(text())
        return
    width = max(len(name) for name in flat)
    for name, value in flat.items():
        if isinstance(value, list):  # warnings are on stderr already
            continue
        print(f"{name:<{width}}  {value:.10g}" if isinstance(value, float) else f"{name:<{width}}  {value}")


def _analyse(args: argparse.Namespace) -> int:
    from icsmdp_jax.commands import analyse_file
    from icsmdp_jax.exact.words import as_text

    found = analyse_file(args.model, args.behaviour)
    emit(found, args.json, lambda: as_text({**found, "warnings": []}))  # they are on stderr already
    return 0


def _advise(args: argparse.Namespace) -> int:
    set_compilation_cache()
    from icsmdp_jax.commands import advise_file

    found = advise_file(args.model, args.behaviour, args.error)
    emit(found.table(), args.json, lambda: str(replace(found, warnings=[])))
    return 0


def _solve(args: argparse.Namespace) -> int:
    from icsmdp_jax.commands import solve_file

    emit(solve_file(args.model, args.behaviour, args.out, args.full), args.json)
    return 0


def _learn(args: argparse.Namespace) -> int:
    set_compilation_cache()
    from icsmdp_jax.commands import learn_file

    result = learn_file(
        args.model,
        args.behaviour,
        out=args.out,
        samples=args.samples,
        replicas=args.replicas,
        seed=args.seed,
        function_class=args.function_class,
        width=args.width,
        tail=args.tail,
        schedule=args.schedule,
        audited=args.audit,
        env=args.env,
    )
    emit(result, args.json)
    return 0


def _export(args: argparse.Namespace) -> int:
    set_compilation_cache()
    from icsmdp_jax.commands import export_file

    emit(export_file(args.model, args.behaviour, args.out, args.learned), args.json)
    return 0


def _envs(args: argparse.Namespace) -> int:
    set_compilation_cache()
    from icsmdp_jax.experiments.command import environments

    found = environments()
    if args.json:
        print(json.dumps(found, allow_nan=False))
        return 0
    columns = ("name", "agents", "options", "interface_shape", "interfaces", "longest_duration", "exact_oracle", "text")
    rows = [columns, *(tuple(str(one[name]) for name in columns) for one in found["environments"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _experiment(args: argparse.Namespace) -> int:
    from icsmdp_jax.experiments import catalogue
    from icsmdp_jax.experiments.catalogue import Options
    from icsmdp_jax.io import check_folder, write_json

    every = args.name == catalogue.ALL
    if every and (args.oracle_only or args.load is not None):
        raise ValueError(f"experiment {catalogue.ALL}: --oracle-only and --load need the name of one experiment")
    if not every and (args.force or args.overwrite):
        raise ValueError(f"experiment {args.name}: --force and --overwrite apply to {catalogue.ALL} only")
    if not every:
        catalogue.checked(args.name)
    options = Options(args.name, args.preset, args.load, args.seed)
    if args.oracle_only and args.load is not None:
        raise ValueError(
            f"experiment {args.name}: --load applies to learning, so it cannot be combined with --oracle-only"
        )
    if args.out is not None:
        check_folder(args.out)
    out = Path(args.out) if args.out is not None else Path("results") / "experiments"
    set_compilation_cache()
    from icsmdp_jax.devices.cores import single_threaded_blas

    single_threaded_blas()
    from icsmdp_jax.devices import hosts
    from icsmdp_jax.experiments import command

    hosts.join(args)
    if every:
        done = command.run_all(args.preset, args.seed, out, args.force, args.overwrite)
        print(json.dumps(done, allow_nan=False) if args.json else done["report"])
        return 0
    if args.oracle_only:
        exact = command.oracle_only(args.name)
        if args.out is not None:
            out.mkdir(parents=True, exist_ok=True)
            write_json(out / command.ORACLE, exact)
            command.say(f"written to {out / command.ORACLE}")
        emit(exact, args.json)
        return 0
    folder = out if args.out is not None else out / args.name
    content = command.run_one(options, folder)
    command.say(f"written to {folder}")
    print(json.dumps(content, allow_nan=False) if args.json else command.readable(content))
    return 0


def _add_model(command: argparse.ArgumentParser, count: str | None = None) -> None:
    command.add_argument("model", nargs=count, help="model file (.npz)")
    command.add_argument(
        "--behaviour", default="uniform", help="'uniform' or a .npy file [Z, O] with the behaviour policy"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object")


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands, those of other installed packages included."""
    from icsmdp_jax import __version__
    from icsmdp_jax.devices.hosts import add_arguments as add_host_arguments
    from icsmdp_jax.runs.status import add_command as add_status
    from icsmdp_jax.traces.command import add_command as add_fit

    parser = _Parser(prog="icsmdp", description="Learning to hand off: exact analysis, IC-Q and validation.")
    parser.add_argument("--version", action="version", version=f"icsmdp {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    analyse = commands.add_parser("analyse", help="compute every constant of the theory for a model")
    _add_model(analyse)
    analyse.set_defaults(handler=_analyse)

    advise = commands.add_parser("advise", help="find whose interface is the bottleneck, and what to show to whom")
    _add_model(advise)
    advise.add_argument(
        "--error", type=float, default=None, metavar="X",
        help="how many handoffs bring the RMSE against the full-state optimum to X, expected and certified",
    )  # fmt: skip
    advise.set_defaults(handler=_advise)

    solve = commands.add_parser("solve", help="compute the exact solutions Q* and Q_phi of a model")
    _add_model(solve)
    solve.add_argument("--out", required=True, help="where to write the solution (.npz)")
    solve.add_argument("--full", action="store_true", help="also write the discounted kernel [S, O, S]")
    solve.set_defaults(handler=_solve)

    learn = commands.add_parser("learn", help="run IC-Q on a model or an environment")
    _add_model(learn, "?")
    learn.add_argument(
        "--env", default=None, metavar="NAME", help="an environment instead of a model file; icsmdp envs lists them"
    )
    learn.add_argument("--samples", type=positive_integer, required=True, help="handoffs per replica")
    learn.add_argument("--replicas", type=positive_integer, default=32, help="independent runs (default: 32)")
    learn.add_argument("--seed", type=seed, default=0, help="seed of all random numbers (default: 0)")
    learn.add_argument(
        "--function-class", choices=FUNCTION_CLASSES, default="tabular", help="form of the values (default: tabular)"
    )
    learn.add_argument(
        "--width", type=positive_integer, default=32, help="features or hidden units per agent (default: 32)"
    )
    learn.add_argument(
        "--tail", type=positive_integer, default=None, help="handoffs in the tail average (default: the last half)"
    )
    learn.add_argument(
        "--schedule", choices=("constant", "harmonic", "polynomial"), default=None,
        help="steps by the shared clock as in 'bound', with a prediction and a certificate for the average (of all "
        "iterates unless --tail is given); by default steps count visits",
    )  # fmt: skip
    learn.add_argument(
        "--audit", type=positive_integer, default=None, metavar="M",
        help="run M further handoffs without learning, to measure the largest residual and bound the error",
    )  # fmt: skip
    learn.add_argument("--out", required=True, help="where to write q_last and q_average (.npz)")
    learn.set_defaults(handler=_learn)

    export = commands.add_parser("export", help="write a policy for icsmdp_jax.runtime, which needs no JAX")
    _add_model(export)
    export.add_argument(
        "--learned", default=None, metavar="FILE", help="output of 'learn --out' (default: the exact Q_phi)"
    )
    export.add_argument("--out", required=True, help="folder for policy.safetensors and policy.json")
    export.set_defaults(handler=_export)

    envs = commands.add_parser("envs", help="list all environments and what is known about them")
    envs.add_argument("--json", action="store_true", help="print one JSON object")
    envs.set_defaults(handler=_envs)

    experiment = commands.add_parser("experiment", help="compare IC-Q with the oracle and other methods")
    experiment.add_argument("name", help="name of the environment, or 'all' for all of them and a report")
    experiment.add_argument(
        "--out", default=None, help="directory for result.json (or oracle.json), tables and figures"
    )
    experiment.add_argument(
        "--preset", choices=("testing", "quick", "full"), default="quick", help="size of the runs (default: quick)"
    )
    experiment.add_argument("--seed", type=seed, default=0, help="seed of all random numbers (default: 0)")
    experiment.add_argument("--load", type=float, default=None, help="packets per time unit (routing-6x6 only)")
    experiment.add_argument(
        "--oracle-only", action="store_true", help="compute exact quantities only, without learning"
    )
    experiment.add_argument("--force", action="store_true", help="with 'all': run everything again")
    experiment.add_argument(
        "--overwrite", action="store_true", help="with 'all': start over if another run is in --out"
    )
    experiment.add_argument("--json", action="store_true", help="print one JSON object")
    add_host_arguments(experiment)
    experiment.set_defaults(handler=_experiment)

    add_fit(commands)
    add_status(commands)
    for entry in sorted(entry_points(group=COMMAND_GROUP), key=lambda found: found.name):
        entry.load()(commands)
    for listed in commands._get_subactions():  # what the list of commands says, each command says of itself
        if listed.help:
            commands.choices[listed.dest].description = f"{listed.help[0].upper()}{listed.help[1:]}."
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: arguments without the program's name; those of the process if None.

    Returns:
      The exit code.
    """
    show = warnings.showwarning
    warnings.showwarning = plain_warning
    try:
        return ended("icsmdp", lambda: _command(argv))
    finally:
        warnings.showwarning = show


def _command(argv: Sequence[str] | None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    for name, value in vars(args).items():
        if value == []:  # some versions of Python read --out=-- as no value at all
            parser.error(f"argument {name}: expected a value")
    return int(args.handler(args))


if __name__ == "__main__":
    sys.exit(main())

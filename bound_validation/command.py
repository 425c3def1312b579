"""The command ``icsmdp validate``: its arguments only, so that other commands need not load what it needs."""

from __future__ import annotations

import argparse
from typing import Any


def add_command(commands: Any) -> None:
    """Adds ``validate`` to the parser of the command line (an entry point of this package)."""
    command = commands.add_parser("validate", help="measure every term of the bound against theory, with a report")
    command.add_argument(
        "--preset", choices=("testing", "quick", "full"), default="quick", help="size of the run (default: quick)"
    )
    command.add_argument("--out", required=True, help="run directory")
    command.add_argument("--model", default=None, help="validate on this model file instead of the planted models")
    command.add_argument(
        "--behaviour", default="uniform", help="behaviour policy for --model: 'uniform' or a .npy file"
    )
    add_run_options(command)
    command.add_argument(
        "--replica-values", action="store_true", help="write what single replicas gave to replicas.parquet"
    )
    command.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    command.set_defaults(handler=_run)


def add_run_options(command: argparse.ArgumentParser) -> None:
    """Adds what every command with a run directory has: resuming, overwriting, and several hosts."""
    from icsmdp_jax.devices.hosts import add_arguments

    command.add_argument("--resume", action="store_true", help="resume an interrupted run")
    command.add_argument(
        "--overwrite", action="store_true",
        help="start over, whatever run is in --out; with --resume, only if it is another one",
    )  # fmt: skip
    add_arguments(command)


def _run(args: argparse.Namespace) -> int:
    from icsmdp_jax.devices.cores import use_all_cores

    if not args.distributed and args.coordinator is None:
        use_all_cores()
    from bound_validation.running import run_command

    return run_command(args)

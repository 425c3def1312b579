"""The command ``icsmdp sweep``: its arguments only, so that other commands need not load what it needs."""

from __future__ import annotations

import argparse
from typing import Any


def add_command(commands: Any) -> None:
    """Adds ``sweep`` to the parser of the command line (an entry point of this package)."""
    from bound_validation.command import add_run_options

    command = commands.add_parser("sweep", help="measure the same terms over a custom family of models and custom axes")
    command.add_argument("file", metavar="FILE.toml", help="what is swept; see docs/sweeps.md")
    command.add_argument("--out", required=True, help="run directory")
    add_run_options(command)
    command.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    command.set_defaults(handler=_run)


def _run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from bound_validation.sweep.toml import read_sweep
    from icsmdp_jax.devices import hosts
    from icsmdp_jax.devices.cache import set_compilation_cache
    from icsmdp_jax.io import check_folder

    check_folder(args.out)
    set_compilation_cache()
    sweep = read_sweep(args.file)
    hosts.join(args)
    from bound_validation.running import report
    from bound_validation.sweep.run import run_sweep

    return report(run_sweep(sweep, Path(args.out), args.resume, args.overwrite), args.json)

"""The command ``icsmdp fit``: a log in; a report, a model, a policy and ``fit.json`` out."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any


def add_command(commands: Any) -> None:
    """Adds ``fit`` to the parser of the command line."""
    command = commands.add_parser(
        "fit", help="fit a model and a better policy to a log of handoffs, and say how sure they are"
    )
    command.add_argument("logs", help="handoffs (.jsonl, .csv, .parquet) or spans (OTLP JSON, OpenAI Agents SDK)")
    command.add_argument("--config", required=True, help="what the log itself does not say (.toml); see docs/logs.md")
    command.add_argument("--out", required=True, help="directory for report.html, model.npz, the policy and fit.json")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(handler=_fit)


def _fit(args: argparse.Namespace) -> int:
    from icsmdp_jax.traces import outputs
    from icsmdp_jax.traces.config import read_config

    config = read_config(args.config)
    outputs.check(args.out)
    from icsmdp_jax.traces.fit import fit
    from icsmdp_jax.traces.log import read_log

    log = read_log(args.logs, config)
    try:
        done = fit(log)
    except ValueError as error:
        raise ValueError(f"{args.logs}: {error}") from error
    outputs.write(done, args.out, str(args.logs))
    for line in (*done.content["log"]["notes"], *done.content["warnings"]):
        print(f"icsmdp: warning: {line}", file=sys.stderr)
    print(json.dumps(done.content, allow_nan=False) if args.json else outputs.readable(done.content, args.out))
    return 0

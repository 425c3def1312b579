"""The command ``icsmdp bound``: what a number of handoffs guarantees on a model, and what it is predicted to give."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

COLUMNS = {  # field, head, what it is
    "samples": ("handoffs", "K"),
    "prediction": ("predicted", "RMSE of the linear process that predicts a plain run"),
    "comparison": ("theorem B", "certificate for plain runs"),
    "poisson": ("T3+", "certificate for projected runs with the constant step"),
    "classic": ("T3", "the same by the mixing time"),
    "best": ("best", "the smallest certificate"),
    "total": ("total", "the smallest certificate and the interface bound together: distance to the full-state optimum"),
}


def add_command(commands: Any) -> None:
    """Adds ``bound`` to the parser of the command line (an entry point of this package)."""
    from icsmdp_jax.cli import positive_integer

    command = commands.add_parser(
        "bound", help="compute what K handoffs guarantee on a model, and what they are predicted to give"
    )
    command.add_argument("model", metavar="MODEL.npz", help="model file")
    command.add_argument("--samples", required=True, nargs="+", type=positive_integer, metavar="K",
                         help="numbers of handoffs")  # fmt: skip
    command.add_argument(
        "--schedule", choices=("constant", "harmonic", "polynomial"), default="constant",
        help="steps by the shared clock k = 0, 1, ...: K^(-1/2); 1/(1 + (1 - kappa) omega k); (1 + omega k)^(-0.7)",
    )  # fmt: skip
    command.add_argument("--behaviour", default="uniform", help="behaviour policy: 'uniform' or a .npy file [Z, O]")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(handler=_run)


def _run(args: argparse.Namespace) -> int:
    from icsmdp_jax.devices.cache import set_compilation_cache

    samples = sorted(set(args.samples))
    set_compilation_cache()
    from bound_validation.certificates import tabular_certificates
    from icsmdp_jax.commands import read_behaviour, warned
    from icsmdp_jax.exact.constants import analyse
    from icsmdp_jax.models.files import load_model

    known = analyse(load_model(args.model), read_behaviour(args.behaviour))
    warnings = warned(known.interface)
    found = tabular_certificates(known, samples, args.schedule)
    if known.uncertified:
        print(f"icsmdp: {known.uncertified}", file=sys.stderr)
    content = {
        "schedule": args.schedule,
        "samples": [one.plain() for one in found],
        "warnings": warnings,
    }
    if args.json:
        print(json.dumps(content, allow_nan=False))
        return 0
    print(_table([one.plain() for one in found]))
    trivial, useful = found[0].trivial, [one.samples for one in found if one.informative]
    print(f"\nA table of zeros, where runs start, is off by {trivial:.4g} in the same norm (units of reward).")
    if useful:
        print(
            f"From {useful[0]} handoffs on the best certificate is below that: it rules out that nothing was learned."
        )
    else:
        print("No certificate is below that, so none rules out that nothing was learned.")
    for name, (head, text) in COLUMNS.items():
        if name != "samples" and any(getattr(one, name) == getattr(one, name) for one in found):
            print(f"  {head:<10} {text}")
    return 0


def _table(rows: list[dict[str, Any]]) -> str:
    """Aligned columns; those that are empty are left out."""
    names = [name for name in COLUMNS if any(row[name] is not None for row in rows)]
    cells = [[COLUMNS[name][0] for name in names]]
    for row in rows:
        values = [row[name] for name in names]
        cells.append(["-" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in values])
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)

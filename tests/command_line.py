"""What the tests of the command line share: keys of its contract and ways to run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.bound_validation.runs import GOLDEN, ROOT, Outcome

PLAIN = GOLDEN / "plain.npz"
ANALYSE_KEYS = {
    "gamma_bar", "epsilon", "delta", "interface_gap", "interface_bound", "interface_bound_value_aware", "policy_loss",
    "policy_loss_bound", "kappa", "a6_certified", "mixing_time", "omega", "clt_coefficient", "clt_coefficient_iid",
    "stationary_min", "num_states", "num_interfaces", "num_agents", "num_options",
}  # fmt: skip
LEARN_KEYS = {
    "rmse_to_interface_solution", "spread", "bias", "rmse_to_oracle", "tail_samples", "handoffs_per_second",
    "compile_s", "run_s",
}  # fmt: skip


def parsed(outcome: Outcome) -> dict:
    """The one JSON object on stdout, without NaN and Infinity, which JSON does not have."""
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("\n") == 1 and outcome.out.endswith("\n")

    def strict(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    found = json.loads(outcome.out, parse_constant=strict)
    assert isinstance(found, dict)
    return found


def contents(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def subprocess_run(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    """``icsmdp`` in a process of its own."""
    command = [sys.executable, "-m", "icsmdp_jax.cli", *map(str, arguments)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


# Most bytes that a process had in memory, by a line of its own code on Linux: ``ru_maxrss`` begins with the size of the
# one that started it.
PEAK = "1024 * int(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"


def with_peak(*arguments: object) -> tuple[subprocess.CompletedProcess, int]:
    """``icsmdp`` in a process of its own, and how many bytes of memory it took at most."""
    code = f"import sys; from icsmdp_jax.cli import main; code = main(); sys.stderr.write(str({PEAK})); sys.exit(code)"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    return done, int(done.stderr.splitlines()[-1])

"""How long does the exact analysis of a large model take, and how much memory at its peak?

Random successor lists with 4 options of 4 successors each and an interface for every five states, each analysed in a
process of its own, so that the peak is that of one analysis. Up to the number of states at which the package changes
over, the dense analysis runs as well as the one for large models.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.common import Record, Size, Timing, record
from icsmdp_jax.exact.chain import SPARSE_ABOVE

NAME = "large_models"
LARGE, DENSE = "sparse analysis", "dense analysis"
STATES_PER_INTERFACE = 5
WITHIN = """
import json, resource, sys, time
from pathlib import Path
from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.models.random import large_model
states, interfaces, sparse = json.loads(sys.argv[1])
begin = time.perf_counter()
model = large_model(0, states, interfaces, min(10, interfaces))
built = time.perf_counter() - begin
cpu, begin = time.process_time(), time.perf_counter()
table = analyse(model, sparse=sparse).table()
wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
status = Path("/proc/self/status")  # ru_maxrss begins with the size of the process that started this one
if status.exists():
    peak = 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])
else:
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"wall": wall, "cpu": cpu, "build_s": built, "peak_bytes": peak, "table": table}))
"""


def analysed(states: int, sparse: bool) -> dict[str, Any]:
    """Times, peak memory and constants of one analysis, in a fresh process that uses as many cores as this one may."""
    wanted = json.dumps([states, states // STATES_PER_INTERFACE, sparse])
    done = subprocess.run(
        [sys.executable, "-c", WITHIN, wanted],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
        cwd=Path(__file__).resolve().parents[1],
    )
    return json.loads(done.stdout)


def measure(size: Size) -> Iterator[Record]:
    """Seconds and peak memory at each number of states."""
    for states in size.pick((100,), (1_000, 10_000), (1_000, 10_000, 100_000)):
        found = {
            name: [analysed(states, name == LARGE) for _ in range(size.pick(1, 1, 3))]
            for name in ((DENSE, LARGE) if states <= SPARSE_ABOVE else (LARGE,))
        }
        times = {
            name: Timing(np.array([one["wall"] for one in runs]), np.array([one["cpu"] for one in runs]))
            for name, runs in found.items()
        }
        for name, runs in found.items():
            table = runs[0]["table"]
            case = {"states": states, "interfaces": table["num_interfaces"]}
            base = (DENSE, times[DENSE], 1.0) if name == LARGE and DENSE in times else None
            facts = {key: table[key] for key in ("mixing_time_low", "mixing_time_high", "clt_standard_error")}
            peak = max(one["peak_bytes"] for one in runs)
            yield record(NAME, case, name, times[name], base, peak_bytes=peak, build_s=runs[0]["build_s"], **facts)


if __name__ == "__main__":
    common.main(measure, __doc__)

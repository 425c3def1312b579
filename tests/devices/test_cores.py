"""Devices and threads of a command that fills the machine, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import json, os, sys
from icsmdp_jax import cli
from icsmdp_jax.devices.cores import use_all_cores
cli.build_parser()  # loads nothing that would come too early
use_all_cores()
import jax
print(json.dumps([jax.local_device_count(), os.environ["OPENBLAS_NUM_THREADS"], len(os.sched_getaffinity(0))]))
"""


@pytest.mark.parametrize(
    ("given", "devices", "threads"),
    [
        ({}, None, "1"),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, 3, "1"),
        ({"JAX_NUM_CPU_DEVICES": "1", "OPENBLAS_NUM_THREADS": "5"}, 1, "5"),
    ],
)
def test_a_device_for_each_core_unless_the_user_has_chosen(given, devices, threads):
    chosen = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "OPENBLAS_NUM_THREADS")
    bare = {name: value for name, value in os.environ.items() if name not in chosen} | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", CODE], env=bare | given, capture_output=True, text=True, check=True)
    count, blas, cores = eval(done.stdout)
    assert (count, blas) == (cores if devices is None else devices, threads)

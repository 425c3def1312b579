"""Every compiled program can be lowered for CUDA and TPU, which takes neither of them."""

from __future__ import annotations

import jax
import pytest

from icsmdp_jax.learner.networks import FUNCTION_CLASSES
from tests.programs import programs

FAST = {f"IC-Q, {kind}" for kind in FUNCTION_CLASSES} | {
    f"environment {name}" for name in ("planted", "eval-opt", "math-pipeline")
}


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in programs()]
)
def test_programs_are_lowered_for_accelerators(name):
    run, arguments = programs()[name]()
    exported = jax.export.export(jax.jit(run), platforms=["cuda", "tpu"])(*arguments)
    assert exported.platforms == ("cuda", "tpu") and exported.out_avals
    assert all(aval.dtype != "float64" for aval in exported.out_avals)

"""Every compiled program can be lowered for CUDA and TPU, which takes neither of them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from icsmdp_jax.exact import comparison
from icsmdp_jax.learner.networks import FUNCTION_CLASSES
from tests.helpers import golden_analysis
from tests.programs import programs

FAST = {f"IC-Q, {kind}" for kind in FUNCTION_CLASSES} | {f"environment {name}" for name in ("planted", "eval-opt")}


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in programs()]
)
def test_programs_are_lowered_for_accelerators(name):
    run, arguments = programs()[name]()
    exported = jax.export.export(jax.jit(run), platforms=["cuda", "tpu"])(*arguments)
    assert exported.platforms == ("cuda", "tpu") and exported.out_avals
    assert all(aval.dtype != "float64" for aval in exported.out_avals)


def test_moment_recursions_are_lowered_in_float64(monkeypatch):
    """The program of theorem B, with the arguments that it is called with."""
    known = golden_analysis("plain")
    process = comparison.linear_process(known.interface, known.q_phi.q)
    found = []

    def run(arrays: Any, alphas: Any, *counts: Any) -> Any:
        lowered = jax.jit(plain, static_argnums=4).trace(arrays, alphas, *counts).lower(lowering_platforms=("cuda",))
        found.append(lowered.as_text())
        return plain(arrays, alphas, *counts)

    plain = comparison._run
    monkeypatch.setattr(comparison, "_run", run)
    comparison.comparison(process, np.full(2, 0.5), [1, 2], certify=False)
    assert "f64" in found[0] and "f32" not in found[0]

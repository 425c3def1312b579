"""The Pallas kernel, interpreted: bit for bit what the XLA path gives, and a program for a GPU that can be lowered."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from icsmdp_jax.devices.placement import device_grid
from icsmdp_jax.learner import networks, numba_executor, pallas_executor, schedules
from icsmdp_jax.learner.icq import Learner
from icsmdp_jax.learner.pallas_executor import Tuning
from icsmdp_jax.learner.train import init_run, train
from tests.learner.executors import KINDS, drawn, prepared, same

CHUNK = 70
REPLICAS = 40  # two blocks of 32, of which the second has room left
SLOW = [
    pytest.param(kind, clock, marks=pytest.mark.slow)
    for kind in KINDS
    for clock in ("visits", "epoch")
    if (kind, clock) != ("episodic", "visits")
]


@pytest.mark.parametrize(("kind", "clock"), [("episodic", "visits"), *SLOW])
def test_tables_have_the_same_bits(kind, clock):
    """Two lanes of different steps; two chunks and a checkpoint between them."""
    learner, inputs = prepared(drawn(kind, 3), schedules.polynomial(), clock)
    lanes = [inputs, inputs._replace(step_size=schedules.polynomial(0.5))]
    runs = [
        train(learner, lanes, jax.random.key(0), REPLICAS, [CHUNK, 2 * CHUNK], CHUNK, executor=name, tuning=Tuning(32))
        for name in ("xla", "pallas")
    ]
    assert [run.executor for run in runs] == ["xla", "pallas"]
    same(*runs)


def test_threefry_has_the_bits_of_jax():
    counter = jnp.arange(100, dtype=jnp.uint32)
    key = jax.random.key_data(jax.random.fold_in(jax.random.key(3), 4))
    expected = jax.extend.random.threefry_2x32(key, jnp.concatenate([counter, jnp.zeros_like(counter)]))
    assert (jnp.concatenate(pallas_executor.threefry(*key, counter)) == expected).all()


def on_a_gpu() -> Any:
    """What newer versions of JAX ask for where a Pallas kernel is lowered without a GPU."""
    if not hasattr(jax.sharding, "AbstractDevice"):
        return contextlib.nullcontext()
    device = jax.sharding.AbstractDevice("NVIDIA H100 80GB HBM3", 132, "gpu")
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1,), ("x",), abstract_device=device))


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")
@pytest.mark.parametrize("fuse", [(True, False), pytest.param(None, marks=pytest.mark.slow)])
def test_the_kernel_is_lowered_for_a_gpu(monkeypatch, fuse):
    """Triton code with an operation for everything that the kernel does; a GPU is not needed for that."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    learner, inputs = prepared(drawn("episodic", 3), schedules.polynomial())

    def chunk(keys: Any, lane: Any, steps: Any) -> Any:
        state = jax.vmap(lambda key: init_run(learner, key, lane))(jax.random.wrap_key_data(keys))
        new = pallas_executor.run_chunk(learner, state, (lane, steps), 1000, False, Tuning(fuse=fuse))
        return new.learner.params, new.total

    known = [jax.export.DisabledSafetyCheck.custom_call("__gpu$xla.gpu.triton")]
    shapes = jax.ShapeDtypeStruct((200, 2), jnp.uint32), inputs, jax.ShapeDtypeStruct((1000,), jnp.float32)
    with on_a_gpu():
        module = jax.export.export(jax.jit(chunk), platforms=["cuda"], disabled_checks=known)(*shapes).mlir_module()
    kernel = next(line for line in module.splitlines() if "__gpu$xla.gpu.triton" in line)
    assert "grid_x = 2" in kernel and "num_warps = 4" in kernel
    assert ("fma.rn.f32" in kernel, "mul.rn.f32" in kernel) == ((True, True) if fuse else (False, False))


def test_what_does_not_apply_is_said_in_one_line(monkeypatch):
    learner, inputs = prepared(drawn("episodic", 3), schedules.polynomial())
    linear = Learner(learner.env, networks.linear(learner.env.num_agents, learner.env.num_options))

    def refused(message: str, who: Learner = learner, samples: int = CHUNK) -> None:
        with pytest.raises(ValueError, match=f"executor = 'pallas': expected {message}"):
            numba_executor.chosen("pallas", who, [inputs], samples, samples)

    refused("tables, got linear", linear)
    refused("no projection", Learner(learner.env, learner.values, project=True))
    refused("fixed behaviour", Learner(learner.env, learner.values, greedy=True))
    refused("at most 16777216 step sizes", samples=CHUNK * 2**20)
    for executor in ("pallas", "numba"):  # each makes the words of one generator for itself
        with pytest.raises(ValueError, match="expected a key of threefry2x32, got rbg"):
            train(learner, [inputs], jax.random.key(0, impl="rbg"), 1, [CHUNK], CHUNK, executor=executor)
    with pytest.raises(ValueError, match="block = 96: expected 32, 64"):
        pallas_executor.prepared(learner, [inputs], inputs, CHUNK, CHUNK, device_grid(1, 1), Tuning(96))
    monkeypatch.setenv("ICSMDP_EXECUTOR", "pallas")
    assert numba_executor.chosen(None, learner, [inputs], CHUNK, CHUNK) == "pallas"
    assert numba_executor.chosen(None, linear, [inputs], CHUNK, CHUNK) == "xla"
    assert numba_executor.chosen(None, learner, [inputs], CHUNK, CHUNK, "rbg") == "xla"

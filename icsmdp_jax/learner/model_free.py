"""Tabular IC-Q on an environment without a model: learn, then audit what was learned (D9, T5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.learner import networks, schedules
from icsmdp_jax.learner.audit import LEVEL, audit, check_memory, mean_modulus, remarks_of
from icsmdp_jax.learner.experiment import Outcome, rounded
from icsmdp_jax.learner.icq import Inputs, Learner
from icsmdp_jax.learner.train import train

PROBED = 256  # handoffs of each replica from which the mean modulus is taken before learning


def learn_without_model(
    env: Environment,
    env_params: Any,
    samples: int,
    replicas: int,
    seed: int,
    tail: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    audited: int | None = None,
) -> Outcome:
    """Runs tabular IC-Q with uniform behaviour, and audits its tail average: all that can be said without a model.

    Args:
      env: an environment whose interfaces are numbered.
      env_params: its parameters.
      samples: handoffs per replica.
      replicas: independent runs.
      seed: seed of all randomness.
      tail: handoffs in the tail average; the last half by default.
      progress: called with the handoffs done since its last call and the total of the run.
      audited: handoffs of the audit; as many as were learned from if None.

    Returns:
      ``[B, Z, O]`` tables, 0 at pairs that were never met, the audit and the speed.

    Raises:
      ValueError: for interfaces that are not numbered, and for impossible settings, in one line.
    """
    spec = env.spec
    if not spec.num_interfaces:
        raise ValueError(f"{spec.name}: interfaces are vectors {spec.interface_shape}, expected numbers to keep tables")
    remarks: list[str] = []
    samples, tail, chunk = rounded(samples, tail, remarks)
    check_memory(spec.num_interfaces * spec.num_options, replicas)
    values = networks.tabular(spec.num_interfaces, spec.num_options)
    key = jax.random.key(seed)
    modulus = mean_modulus(env, env_params, jax.random.fold_in(key, 2), PROBED)
    step = schedules.polynomial(schedules.POWER, 1.0 - modulus)
    inputs = Inputs(env_params, None, None, step, np.float32(np.inf), np.float32(1.0))
    total, since = samples * replicas, samples - tail
    done = None if progress is None else lambda count: progress(count, total)
    checkpoints = sorted({since, samples} - {0})
    run = train(Learner(env, values), [inputs], key, replicas, checkpoints, chunk, done, 3_000_000)
    average, last = run.average(-1, since)[0], np.asarray(run.snapshots[-1].last[0])
    found = audit(
        env, env_params, values, None, average.astype(np.float32), jax.random.fold_in(key, 1),
        samples if audited is None else audited, level=LEVEL / replicas,
    )  # fmt: skip
    summary: dict[str, Any] = {
        "function_class": "tabular",
        "samples": samples,
        "replicas": replicas,
        "tail_samples": tail,
        "schedule": None,
        "prediction": None,
        "certificate": None,
        "audit": found.plain(),
        "handoffs_per_second": run.handoffs / run.run_s,
        "compile_s": run.compile_s,
        "run_s": run.run_s,
        "executor": run.executor,
    }
    remarks += remarks_of(summary["audit"])
    return Outcome(last, average, summary, remarks)

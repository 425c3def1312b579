"""How many handoffs a second does IC-Q learn from, against the number of replicas?

Tabular and linear IC-Q, the same environment without learning, and a plain loop in Python and NumPy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import common
from benchmarks.common import Record, Size, bench_model, compile_seconds, race, record, repeats
from icsmdp_jax.core.handoff import Handoff
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.fixed_point import whiten
from icsmdp_jax.learner import networks
from icsmdp_jax.learner.experiment import (
    default_linear_step,
    default_tabular_step,
    model_inputs,
    random_relu,
    stationary_env,
)
from icsmdp_jax.learner.icq import Inputs, Learner, LearnerState
from icsmdp_jax.learner.train import CHUNK, train

NAME = "learner_throughput"
PLAIN = "plain loop, one replica"
FEATURES = 16  # per agent, of the linear class
MOST_CHUNKS = 200


@dataclasses.dataclass(frozen=True)
class Acting(Learner):
    """Acts like IC-Q and learns nothing: what environment, behaviour policy and random words cost alone."""

    def update(
        self, state: LearnerState, option: chex.Array, handoff: Handoff, env_state: Any, inputs: Inputs
    ) -> tuple[LearnerState, tuple[chex.Array, Any, chex.Array]]:
        """Only moves on."""
        nothing = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), state.params)
        moved = state._replace(handoff=handoff, env_state=env_state, epoch=state.epoch + 1)
        return moved, (jnp.int32(0), nothing, jnp.float32(0))


def learners(known: Analysis) -> dict[str, tuple[Learner, Inputs]]:
    """The compiled variants with their inputs."""
    interface, model = known.interface, known.interface.model
    env, env_params = stationary_env(known)
    step = default_tabular_step(interface.gamma_bar)
    tabular = networks.tabular(model.num_interfaces, model.num_options)
    assert model.features is not None
    raw = random_relu(model.features, model.interface_agent, FEATURES, np.random.default_rng(0))
    basis = whiten(raw, interface)
    linear_step = default_linear_step(basis, interface, interface.gamma_bar)
    linear = networks.linear(model.num_agents, model.num_options)
    return {
        "tabular": (Learner(env, tabular), model_inputs(known, env_params, None, step)),
        "linear": (
            Learner(env, linear),
            model_inputs(known, env_params, basis.table.astype(np.float32), linear_step),
        ),
        "environment only": (Acting(env, tabular), model_inputs(known, env_params, None, step)),
    }


def plain_loop(known: Analysis, handoffs: int) -> np.ndarray:
    """One replica of tabular IC-Q in Python and NumPy, uniform numbers drawn ahead: ``[Z, O]`` table."""
    model = known.interface.model
    assert model.probability is not None and model.successor is not None and model.duration is not None
    to_state, to_tau = model.probability.cumsum(axis=-1), model.duration.cumsum(axis=-1)
    to_option = known.interface.chain.behaviour.cumsum(axis=-1)
    table = np.zeros((model.num_interfaces, model.num_options))
    visits = np.zeros(table.shape)
    rescale = 1 - known.interface.gamma_bar
    state = 0
    for u in np.random.default_rng(0).random((handoffs, 4)):
        z = model.interface[state]
        o = min(to_option[z].searchsorted(u[0]), table.shape[1] - 1)
        tau = 1 + min(to_tau[state, o].searchsorted(u[1]), model.longest_duration - 1)
        following = min(to_state[state, o].searchsorted(u[2]), model.successor.shape[2] - 1)
        discount = model.gamma**tau
        reward = model.reward_rate[state, o] * (1 - discount) / (1 - model.gamma)
        reward += model.reward_noise * (2 * u[3] - 1)
        state = model.successor[state, o, following]
        error = reward + discount * table[model.interface[state]].max() - table[z, o]
        table[z, o] += (1 + rescale * visits[z, o]) ** -0.7 * error
        visits[z, o] += 1
    return table


def measure(size: Size) -> Iterator[Record]:
    """Handoffs per second of each variant at each number of replicas."""
    known = bench_model()
    repetitions, at_least = size.pick(1, 5, 7), size.pick(0.0, 0.2, 0.4)
    plain_work = size.pick(200, 10_000, 10_000)
    for replicas in size.pick((8,), (8, 512), (1, 8, 64, 512, 4096)):
        runs: dict[str, Callable[[], Any]] = {PLAIN: partial(plain_loop, known, plain_work)}
        work = {PLAIN: plain_work}
        compile_s: dict[str, float] = {}
        for name, (learner, inputs) in learners(known).items():
            key = jax.random.key(0)
            one = partial(train, learner, [inputs], key, replicas, [CHUNK])
            compile_s[name] = compile_seconds(one)
            samples = CHUNK * repeats(one, at_least, MOST_CHUNKS)
            runs[name] = partial(train, learner, [inputs], key, replicas, [samples])
            work[name] = samples * replicas
        times = race(runs, repetitions)
        for name, timing in times.items():
            base = None if name == PLAIN else (PLAIN, times[PLAIN], work[PLAIN])
            facts = {"handoffs": work[name], "states": known.interface.model.num_states}
            case = {"replicas": replicas}
            yield record(NAME, case, name, timing, base, work[name], "handoffs/s", compile_s.get(name), **facts)


if __name__ == "__main__":
    common.main(measure, __doc__)

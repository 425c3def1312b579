"""Replays a run of IC-Q over one process per agent and prints what crossed between them."""

import jax
import jax.numpy as jnp
import numpy as np

from examples.processes.environment import Trajectory, run_processes
from icsmdp_jax.exact import analyse
from icsmdp_jax.learner import networks, schedules
from icsmdp_jax.learner.experiment import model_inputs, stationary_env
from icsmdp_jax.learner.icq import Learner
from icsmdp_jax.models.random import random_model

model = random_model(0, num_agents=4, num_interfaces=8)
known = analyse(model)
env, params = stationary_env(known)
learner = Learner(env, networks.tabular(model.num_interfaces, model.num_options), "visits")
step = schedules.polynomial(0.7, 0.5)
inputs = jax.tree.map(jnp.asarray, model_inputs(known, params, None, step))
first = learner.init(jax.random.key(0), inputs)


def handoff(state, words):
    option = learner.act(words[env.words_per_step :], state, inputs)
    new, _ = learner.step(words, state, inputs)
    now, then = state.handoff, new.handoff
    ended = (then.final_agent, then.final_interface, then.final_mask)
    return new, Trajectory(now.agent, now.interface, option, then.reward, then.discount, *ended)


words = jax.random.bits(jax.random.key(1), (1000, learner.words_per_step), jnp.uint32)
last, rows = jax.jit(lambda state: jax.lax.scan(handoff, state, words))(first)
done = run_processes(
    Trajectory(*map(np.asarray, rows)), model.num_agents, model.num_options, model.interface_agent, step
)
print(f"{done.handoffs} handoffs, {done.scalars} scalars, {done.bytes} bytes between {len(done.agents)} processes")
print("bytes from agent (row) to agent (column):")
print(done.traffic)
difference = np.nanmax(np.abs(done.q - np.asarray(last.params)))
print(f"largest difference from the compiled learner's table: {difference:.1e}")

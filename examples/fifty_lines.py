"""IC-Q on an environment of your own: a help desk, 8 seeds times 3 learning rates in one compilation."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import EnvSpec, Handoff
from icsmdp_jax.learner import networks
from icsmdp_jax.learner.exploration import ramp
from icsmdp_jax.learner.parallel import Hyper, ParallelLearner
from icsmdp_jax.learner.schedules import constant
from icsmdp_jax.learner.simulated_returns import simulated_return


@dataclasses.dataclass(frozen=True)
class HelpDesk(Environment):
    """Desk (agent 0) sees a noisy symptom of a ticket, expert (1) its kind and her own load; 0: answer, 1: hand on."""

    spec = EnvSpec("help-desk", 2, 2, 0, (3,), jnp.float32, 40, False)

    def _handoff(self, key, state, **ended):
        agent, hard, load = state
        symptom = hard + 0.5 * jax.random.normal(key)
        seen = jnp.where(agent == 0, jnp.array([1.0, symptom, 0.0]), jnp.array([1.0, hard, load]))
        now = dict(agent=agent, interface=seen, mask=jnp.ones(2, bool))
        final = {f"final_{name}": value for name, value in now.items()}
        return Handoff(**now, **final, **ended), state

    def reset(self, key, params):
        kind, load, seen = jax.random.split(key, 3)
        state = jnp.int32(0), jax.random.bernoulli(kind, 0.4) * 1.0, jax.random.uniform(load)
        nothing = dict(reward=0.0, duration=jnp.int32(0), discount=0.0, terminated=False, truncated=False)
        return self._handoff(seen, state, **jax.tree.map(jnp.asarray, nothing))

    def step_env(self, key, state, option, params):
        (agent, hard, load), (work, seen) = state, jax.random.split(key)
        mean = jnp.where(option == 1, 1.0, jnp.where(agent == 0, 2.0 + 6.0 * hard, 1.0 + 6.0 * load))  # steps it takes
        tau = jnp.clip(jnp.ceil(jnp.log(jax.random.uniform(work, minval=1e-6)) / jnp.log1p(-1 / (mean + 1))), 1, 40)
        solved = (option == 0) & ((agent == 1) | (hard == 0.0))
        discount, done = params["gamma"] ** tau, option == 0
        ended = dict(reward=discount * solved, duration=tau.astype(jnp.int32), discount=jnp.where(done, 0.0, discount))
        return self._handoff(seen, (1 - agent, hard, load), **ended, terminated=done, truncated=jnp.asarray(False))


desk, params = HelpDesk(), {"gamma": jnp.float32(0.95)}
learner = ParallelLearner(desk, networks.mlp(2, 2, width=32, depth=1, dim=3), optax.adam, copies=32, length=8)
hyper = [Hyper(params, None, constant(rate), None, ramp(1.0, 0.1, 200)) for rate in (1e-3, 3e-3, 1e-2)]
train = jax.vmap(jax.vmap(lambda key, h: learner.train(key, h, 400), (0, None)), (None, 0))  # learning rates, seeds
state, metrics = jax.jit(train)(jax.random.split(jax.random.key(0), 8), jax.tree.map(lambda *h: jnp.stack(h), *hyper))
policies = {
    "IC-Q": lambda params_, key, now: learner.greedy(params_, now, hyper[0]),
    "random": lambda params_, key, now: jax.random.bernoulli(key).astype(jnp.int32),
}
one = jax.tree.map(lambda leaf: leaf[1, 0], state.params)  # the second rate, the first seed
for name, policy in policies.items():
    result = simulated_return(desk, params, policy, jax.random.key(1), 4096, 20, one)
    print(f"{name:7} tickets solved, discounted: {result.mean:.3f} +- {2 * result.standard_error:.3f}")

"""Three agents with float interfaces, every method, 8 seeds, curves with bands: python -m examples.own_environment"""

import dataclasses

import jax
import jax.numpy as jnp

import icsmdp_jax as ic


@dataclasses.dataclass(frozen=True)
class Triage(ic.Environment):
    """A ticket goes from desk (0) to engineer (1) or specialist (2). Option 0 answers, 1 and 2 hand it on."""

    spec = ic.EnvSpec("triage", 3, 3, 0, (3,), jnp.float32, 6, False)

    def arrive(self, key, state, ended):  # the desk sees a noisy symptom, the others how hard the ticket is
        agent, hard = state
        symptom = hard + 0.4 * (agent == 0) * jax.random.normal(key, dtype=jnp.float32)
        return ic.arrive(agent, jnp.stack([jnp.float32(1), symptom, agent / 2]), jnp.ones(3, bool), ended), state

    def reset(self, key, params):
        return self.arrive(key, (jnp.int32(0), jax.random.uniform(key, dtype=jnp.float32)), ic.no_segment())

    def step_env(self, key, state, option, params):
        (agent, hard), (work, seen) = state, jax.random.split(key)
        tau = jax.random.randint(work, (), 1, 4) + 3 * agent * (option == 0) // 2  # whoever knows more takes longer
        reward = params["gamma"] ** (tau - 1) * ((option == 0) & (hard < 0.4 + 0.3 * agent))
        discount = params["gamma"] ** tau * (option != 0)
        return self.arrive(seen, ((agent + option) % 3, hard), ic.Ended(reward, tau, discount, option == 0, tau < 0))

    def global_view(self, state, params):  # for the central learner
        return jnp.append(jax.nn.one_hot(state[0], 3, dtype=jnp.float32), state[1])


found = ic.compare_methods(Triage(), {"gamma": jnp.float32(0.95)}, ic.METHODS, updates=300, seeds=8, width=32, depth=1)
print(found)
found.figure(y_label="tickets solved, discounted").savefig("triage.png", dpi=200)

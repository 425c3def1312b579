# %% [markdown]
# # An environment of your own
#
# When a process is too large for a table, write it as an environment: a frozen dataclass with `reset` and `step_env`,
# both pure functions. Everything else, training, comparison and curves included, comes with it.

# %%
import dataclasses

import jax
import jax.numpy as jnp

import icsmdp_jax as ic

# %% [markdown]
# ## The rules
#
# A ticket goes from the desk to an engineer or a specialist. How hard it is is a real number; the desk sees it with
# noise, the others see it as it is, but take longer. Option 0 answers, options 1 and 2 hand the ticket on.


# %%
@dataclasses.dataclass(frozen=True)
class Triage(ic.Environment):
    spec = ic.EnvSpec("triage", 3, 3, 0, (3,), jnp.float32, 6, False)

    def seen(self, state, ended):  # who has the ticket now, and what that agent sees of it
        agent, hard, symptom = state
        shown = jnp.where(agent == 0, symptom, hard)
        return ic.arrive(agent, jnp.stack([jnp.float32(1), shown, agent / 2]), jnp.ones(3, bool), ended), state

    def reset(self, key, params):
        ticket, noise = jax.random.split(key)
        hard = jax.random.uniform(ticket, dtype=jnp.float32)
        symptom = hard + 0.4 * jax.random.normal(noise, dtype=jnp.float32)
        return self.seen((jnp.int32(0), hard, symptom), ic.no_segment())

    def step_env(self, key, state, option, params):
        agent, hard, symptom = state
        tau = jax.random.randint(key, (), 1, 4) + 3 * agent * (option == 0) // 2
        reward = params["gamma"] ** (tau - 1) * ((option == 0) & (hard < 0.4 + 0.3 * agent))
        discount = params["gamma"] ** tau * (option != 0)
        ended = ic.Ended(reward, tau, discount, option == 0, tau < 0)
        return self.seen(((agent + option) % 3, hard, symptom), ended)

    def global_view(self, state, params):  # what a central learner would see
        agent, hard, symptom = state
        return jnp.append(jax.nn.one_hot(agent, 3, dtype=jnp.float32), jnp.stack([hard, symptom]))


env, params = Triage(), {"gamma": jnp.float32(0.95)}

# %% [markdown]
# ## Checking the contract
#
# Shapes, types, discounts, masks, automatic resets: `check_environment` plays random options and checks every clause
# of [the contract](../../rfc/environment.md). A breach is one sentence that names clause, field and value.

# %%
seen = ic.check_environment(env, params, jax.random.key(0))
print(f"{seen.handoffs} handoffs, longest option {seen.longest} steps, {seen.terminated} tickets answered")

# %% [markdown]
# ## Training and comparing
#
# Every method of `ic.METHODS` that needs no table runs in it: `"central"`, say, which learns from `global_view`. Here
# IC-Q and agents that hear nothing from each other, four runs of each.

# %%
methods = ["ic_q", "no_message"]
found = ic.compare_methods(
    env, params, methods, updates=200, seeds=4, points=8, episodes=64, copies=16, length=8, width=16, depth=1
)
print(found)

# %% [markdown]
# Curves are means over the four runs with 95 % bands.

# %%
found.figure(y_label="tickets solved, discounted")

# %% [markdown]
# ## A name for it
#
# Once registered, it is made by name, like those that come along.

# %%
ic.register("triage", lambda gamma=0.95: (Triage(), {"gamma": jnp.float32(gamma)}), "three desks and a ticket")
print(ic.make("triage", gamma=0.9)[0].spec)

"""A gymnax environment through the adapter, in seven lines: python examples/gymnax_cartpole.py (extra ``adapters``)."""

import jax

import icsmdp_jax as ic

env, params = ic.from_gymnax("CartPole-v1", duration=[0.6, 0.3, 0.1])  # an option repeats its action one to three times
icq = ic.setup(env, params, exploration=ic.ramp(1.0, 0.05, 500), target_network=True)
state, curves = ic.train(icq, jax.random.key(0), updates=2000)
print(ic.evaluate(icq, state, jax.random.key(1), episodes=256, horizon=512))

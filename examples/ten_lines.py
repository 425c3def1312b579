import jax

import icsmdp_jax as ic

env, params = ic.make("planted", gap=0.2)  # ic.environments() lists the others, ic.register adds yours
icq = ic.setup(env, params, method="ic_q", network="mlp", width=32, depth=1)
state, curves = ic.train(icq, jax.random.key(0), updates=1500)
print(ic.evaluate(icq, state, jax.random.key(1)))

"""Learning curves of two methods with 95 % bands over seeds: python examples/learning_curves.py [FILE]."""

import sys

import jax

import icsmdp_jax as ic

env, params = ic.make("planted", gap=0.2)
curves, known = {}, ic.setup(env, params).returns
for name in ("ic_q", "no_message"):
    one = ic.setup(env, params, name, copies=16, length=4)
    _, curves[one.method.label] = ic.train(
        one, jax.random.key(0), updates=200, seeds=8, at=range(20, 201, 20), episodes=128, horizon=64
    )
figure = ic.plot_curves(curves, oracle=known.oracle, random=known.random)
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "curves.png", dpi=200)

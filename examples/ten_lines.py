import jax

from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.exact.returns import Returns
from icsmdp_jax.learner.baselines import setup

model = planted_model(PlantedConfig.far_sighted()).model  # or load_model("your.npz") of icsmdp_jax.models.files
icq = setup(model, "ic_q", "mlp", width=32, depth=1)
state, metrics = jax.jit(icq.learner.train, static_argnums=2)(jax.random.key(0), icq.hyper, 1500)
scale, table = Returns(model), icq.tables(state.params)
print(f"return {scale.normalised(scale.of_greedy(table)):.3f}   (0 a random workflow, 1 the exact oracle)")

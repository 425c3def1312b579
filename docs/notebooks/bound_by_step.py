# %% [markdown]
# # The bound, step by step
#
# The error of IC-Q against an oracle that sees the whole state has three parts: what the function class cannot
# represent, what the interface hides, and what a finite number of handoffs leaves. On a planted model each part is
# known, so each can be compared with its bound. Labels such as T1 lead to the [theory](../../theory.md).

# %%
import jax
import numpy as np

import icsmdp_jax as ic
from bound_validation import theorem
from bound_validation.cell import limit_run
from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.learner.experiment import measure_errors, random_relu

planted = planted_model(PlantedConfig.small(gap=0.2))
known = ic.analyse(planted.model, planted.behaviour)
print(known.sentence)

# %% [markdown]
# ## 1. What the interface hides
#
# IC-Q converges to the interface solution, not to the oracle's values. The distance is exact here, and T1 bounds it
# by two constants: how far rewards (epsilon) and next interfaces (delta) depend on what is hidden (D6).

# %%
bound = theorem.interface_bound(known.epsilon, known.delta, known.gap.value_norm, known.gamma_bar)
print(f"epsilon {known.epsilon:.3f}, delta {known.delta:.3f}, modulus {known.gamma_bar:.3f}")
aware = known.interface_bound_value_aware
print(f"gap {known.interface_gap:.3f} <= {aware:.3f} (T1.1) <= {bound:.3f} (T1)")
assert known.interface_gap <= aware <= bound

# %% [markdown]
# ## 2. What the function class cannot represent
#
# With m random features for each agent, IC-Q converges to the projected fixed point. T2 bounds its distance from the
# interface solution by the projection error, if A6 is certified: if kappa is below 1.

# %%
from icsmdp_jax.exact.fixed_point import whiten

interface = known.interface
print(f"kappa {known.kappa:.3f}:", "A6 holds" if known.a6_certified else "A6 is not certified")
for width in (1, 2, 3):
    raw = random_relu(planted.model.features, planted.model.interface_agent, width, np.random.default_rng(width))
    linear = known.with_features(whiten(raw, interface))
    error = interface.norm(linear.fixed.q - known.q_phi_table)
    projected = interface.norm(linear.operator(known.q_phi_table) - known.q_phi_table)
    print(f"m = {width}: error {error:.3f} <= {theorem.approximation_bound(projected, known.kappa):.3f} (T2)")

# %% [markdown]
# ## 3. What a finite number of handoffs leaves
#
# The average over the last half of K handoffs spreads over runs as the central limit theorem predicts (P2), with its
# constant. 32 runs of tabular IC-Q:

# %%
samples = [4000, 16000, 64000]
run = limit_run([known], jax.random.key(0), replicas=32, samples=samples, chunk=1000, progress=lambda handoffs: None)
rows = []
for count in samples:
    errors = measure_errors(interface, run.tables(0, count), known.q_phi_table)
    predicted = theorem.central_limit_spread(known.clt_coefficient, count // 2)
    rows.append((count, errors.spread, predicted, errors.rmse))
    print(f"K = {count:6}: spread {errors.spread:.4f}, predicted {predicted:.4f}, RMSE {errors.rmse:.4f}")

# %%
from matplotlib.figure import Figure

counts, spread, predicted, rmse = zip(*rows, strict=True)
figure = Figure(figsize=(5, 3.2), layout="constrained")
axes = figure.subplots()
axes.loglog(counts, spread, "o", label="spread, measured")
axes.loglog(counts, predicted, "--", label="central limit (P2)")
axes.loglog(counts, rmse, "^", label="RMSE to the interface solution")
axes.set_xlabel("handoffs K")
axes.set_ylabel("error (reward units)")
axes.legend()
figure

# %% [markdown]
# ## 4. All of it
#
# Against the oracle the error stops falling: what is left is the gap in the norm of the data, which T4 adds to the
# other two terms.

# %%
from bound_validation.cell import oracle_squares

for count in samples:
    error = np.sqrt(oracle_squares(known, run.tables(0, count)).mean())
    print(f"K = {count:6}: RMSE to the oracle {error:.3f}")

# %% [markdown]
# `icsmdp validate` does this for every term over whole axes, with intervals, and says for each check whether its
# bound is [informative](../../validation.md#exit-codes); `icsmdp bound` certifies the error of a given model after K
# handoffs.

# %% [markdown]
# # Large sweeps on several devices
#
# A sweep is a set of cells, settings of everything that is traced, times replicas, which are keys. Cells of one shape
# share one compiled program, and the pairs are divided among all devices that JAX sees. Here the cores of a CPU stand
# for them: two host devices, asked for before JAX starts.

# %%
import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2 " + os.environ.get("XLA_FLAGS", "")

import jax

import bound_validation as bv

print(len(jax.devices()), "devices")

# %% [markdown]
# ## A sweep
#
# Gaps and lengths of options, four cells; each runs IC-Q sixteen times. Axes are coordinates of the family, here of
# the planted models; any function that returns a model will do (`bv.Family`).

# %%
sweep = bv.Sweep(
    "gap-and-length",
    family="planted",
    fixed={"num_agents": 3, "longest_duration": 16},
    axes={"gap": (0.0, 0.2), "duration_mean": (3.0, 6.0)},
    measure=("interface", "limit"),
    samples=(2000, 8000),
    replicas=16,
)
summary = bv.run(sweep, "results")
print(bv.verdict(summary))

# %% [markdown]
# ## The table
#
# Everything is one tidy Parquet file, a row for each measurement, and `icsmdp compare` puts two of them side by side.

# %%
rows = [row for row in bv.read_table("results/results.parquet") if row.series == "spread"]
for row in rows:
    print(f"{row.cell:40} K = {row.samples:5}  spread {row.measured:.3f}  predicted {row.prediction:.3f}")

# %% [markdown]
# ## The same bits on any number of devices
#
# What a pair computes depends on its key and its cell only. Run again on one device, tables of tabular cells are
# equal bit for bit; here the grid that two devices would form for 4 cells and 16 replicas, and for 3 cells and 5.

# %%
from icsmdp_jax.devices.placement import device_grid

for cells, replicas in ((4, 16), (3, 5)):
    grid = device_grid(cells, replicas)
    print(f"{cells} cells x {replicas} replicas: each device takes {grid.block[0]} x {grid.block[1]} pairs")

# %% [markdown]
# ## Before it is large
#
# Time and memory follow from shapes alone. For a hundred thousand cells on 256 devices, [scaling](../../scaling.md)
# has the forecast, the commands for several hosts, and what was checked. An interrupted run resumes with
# `resume=True`; the table is the same as that of a run without interruptions.

# %%
again = bv.run(sweep, "results", resume=True)
print("nothing to compute again:", again["handoffs"] == summary["handoffs"])

"""Error and bound over the sample size, from the table of a run: python examples/paper_figure.py TABLE FILE."""

import sys

import matplotlib.pyplot as plt
import pyarrow.parquet as pq

table, file = sys.argv[1:]
rows = [r for r in pq.read_table(table).to_pylist() if r["axis"] == "samples" and r["series"] == "constant_step"]
figure, axes = plt.subplots(figsize=(3.4, 2.5), layout="constrained")
for colour, group in zip(("C0", "C1", "C2"), sorted({row["group"] for row in rows}), strict=False):
    some = sorted((row for row in rows if row["group"] == group), key=lambda row: row["x"])
    x, y, bound, low, high = ([r[c] for r in some] for c in ("x", "measured", "bound", "ci_low", "ci_high"))
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(x, y, "o-", color=colour, markersize=3, label=group or "measured")
    axes.plot(x, bound, "--", color=colour, label=f"bound, {group}" if group else "bound (T3)")
axes.set(xscale="log", yscale="log", xlabel="handoffs per replica", ylabel="error of the average iterate")
axes.legend(fontsize=7)
figure.savefig(file)

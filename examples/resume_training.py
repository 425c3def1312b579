"""A training that is interrupted and resumed, to the last bit: python examples/resume_training.py."""

import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

import icsmdp_jax as ic

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
key = jax.random.key(0)
icq = ic.setup(*ic.make("planted", gap=0.2), network="mlp", width=16, depth=1, copies=16, length=4)
watch = [ic.SaveCheckpoint(folder / "run.safetensors"), ic.JSONLines(folder / "run.jsonl")]

ic.train(icq, key, updates=100, callbacks=[*watch, lambda point: point.updates >= 40])  # stops as if it were killed

found = ic.load_checkpoint(folder / "run.safetensors", icq)
print(f"resumed after {found.about['updates']} updates")
state, curves = ic.train(icq, found.key, updates=100, start=found.state, callbacks=watch)

whole, _ = ic.train(icq, key, updates=100, callbacks=[ic.ProgressBar()])  # never interrupted
pairs = zip(jax.tree.leaves(state), jax.tree.leaves(whole), strict=True)
print("the same bits:", all(np.array_equal(a, b) for a, b in pairs))

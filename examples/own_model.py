"""A custom model in ten lines of NumPy: two agents, a writer and an editor, who pass a text on.

The text is poor or good, which neither of them sees. Run ``python examples/own_model.py --out mine.npz``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from icsmdp_jax.models.files import save_model
from icsmdp_jax.models.tabular import TabularModel


def build_own_model() -> dict[str, np.ndarray]:
    """States: writer with a poor and a good text, editor with a poor and a good text.

    The writer writes quickly or with care; the editor prints, whereupon a new text starts, or revises.
    """
    first = [[0, 0, 0.7, 0.3], [0, 0, 0.4, 0.6], [0.8, 0.2, 0, 0], [0.8, 0.2, 0, 0]]  # write quickly; print
    second = [[0, 0, 0.3, 0.7], [0, 0, 0.1, 0.9], [0, 0, 0.5, 0.5], [0, 0, 0.2, 0.8]]  # with care; revise
    return {
        "transition": np.stack([first, second], axis=1),  # [S, O, S]
        "duration": np.tile([[0, 0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 0.5, 0.5]], (4, 1, 1)),  # [S, O, T]: 3-4, 5-6
        "reward_rate": np.array([[0.0, 0.0], [0.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]),  # [S, O], per step
        "agent": np.array([0, 0, 1, 1], np.int32),  # [S] who is active
        "interface": np.array([0, 0, 1, 1], np.int32),  # [S] what it sees: whose desk, not the quality
        "gamma": np.array(0.9),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("own_model.npz"), help="model file to write")
    out = parser.parse_args().out
    save_model(out, TabularModel(**build_own_model()))  # type: ignore[arg-type]
    print(f"wrote {out}; what to run next:")
    print(f"  icsmdp analyse {out}")
    print(f"  icsmdp learn {out} --samples 100000 --replicas 8 --seed 0 --out learned.npz")


if __name__ == "__main__":
    main()

"""A sweep over a custom family: a drafter and a checker, to whom only a verdict says whether a draft is right.

``stakes`` is what a wrong draft costs once it is submitted. Without stakes it does not matter what the checker cannot
see, and the interface gap is 0. Run ``python examples/own_sweep.py --out results/drafts``: 10 cells, well under a
minute on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import bound_validation as bv
from icsmdp_jax.devices.cache import set_compilation_cache
from icsmdp_jax.models import durations
from icsmdp_jax.models.tabular import TabularModel

LONGEST = 32  # primitive steps
QUICK, CAREFUL = 0, 1  # options of the drafter
SUBMIT, RETURN = 0, 1  # options of the checker


def drafts(stakes: float, accuracy: float = 0.8, effort: float = 6.0, gamma: float = 0.9) -> TabularModel:
    """A drafter and a checker at given stakes.

    State 0: the drafter has the task. State ``1 + 2 * right + verdict``: the checker has a draft that is right or not,
    with a verdict that says so or not. Interfaces: the task, a bad verdict, a good verdict.

    Args:
      stakes: what a wrong draft costs when it is submitted, in units of what any draft earns.
      accuracy: probability that the verdict tells right from wrong, above 0 and below 1.
      effort: mean duration of a draft in primitive steps.
      gamma: discount per primitive step.
    """
    if not 0 < accuracy < 1:
        raise ValueError(f"accuracy = {accuracy}: expected a number above 0 and below 1")
    verdict = np.array([[accuracy, 1 - accuracy], [1 - accuracy, accuracy]])  # [right, verdict]
    transition = np.zeros((5, 2, 5))
    for option, skill, unfinished in ((QUICK, 0.5, 0.1), (CAREFUL, 0.9, 0.3)):
        transition[0, option, 0] = unfinished  # the drafter goes on by itself
        transition[0, option, 1:] = (1 - unfinished) * (np.array([[1 - skill], [skill]]) * verdict).reshape(-1)
    transition[1:, :, 0] = 1.0  # submitted or sent back: a task for the drafter
    reward = np.zeros((5, 2))
    reward[1:3, SUBMIT], reward[3:5, SUBMIT] = 1.0 - stakes, 1.0
    long, short = (durations.with_mean("geometric", mean, LONGEST).pmf for mean in (effort, 4.0))
    return TabularModel(
        reward_rate=reward,
        transition=transition,
        duration=np.stack([np.stack([short if s else long, short if s else long]) for s in range(5)]),
        agent=np.array([0, 1, 1, 1, 1]),
        interface=np.array([0, 1, 2, 1, 2]),
        gamma=gamma,
        reward_noise=0.1,
    )


SWEEP = bv.Sweep(
    name="drafts",
    family=drafts,
    axes={"stakes": (0.0, 0.25, 0.5, 1.0, 2.0), "accuracy": (0.6, 0.9)},
    samples=(2000, 8000),
    replicas=16,
    sizes=(),  # no argument changes the shape of an array: one model is enough to know it
    figure=bv.Figure(labels={"stakes": "stakes (cost of a wrong draft)", "accuracy": "accuracy"}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="run directory")
    parser.add_argument("--resume", action="store_true", help="resume an interrupted run")
    args = parser.parse_args()
    set_compilation_cache()  # as every icsmdp command does: a second run does not compile again
    summary = bv.run(SWEEP, args.out, args.resume)
    assert summary is not None  # a single process
    print(f"{summary['checks']} checks in {summary['cells']} cells, {summary['violations']} violated")
    print(summary["report"])


if __name__ == "__main__":
    main()

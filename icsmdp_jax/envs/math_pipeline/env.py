"""Mathematics by a team of roles, simulated: no language model is run, its accuracies and prices are published ones.

Planner, two solvers with different models, verifier and finalizer work on one problem in turn; the planner is first
(D1). What is on the desk is nothing, a plan, or a draft of the answer; whether it is any good is hidden.

* artifact: the problem, what lies on the desk, and the blocks of tokens that are left;
* private state of an agent: its own reading of the problem's kind and of the quality of what lies on the desk, each
  drawn at random with probability ``noise blur[i]`` and otherwise true, when the problem comes in;
* interface: agent, its reading, and the blocks left as one number. With ``noise = 0`` it hides nothing;
* options, four for each role: work and hand over, or pass on without working (``pipeline.MENUS`` says to whom). The
  planner writes a plan that replaces whatever was there. A solver writes a new draft, led by what it finds: a sound
  plan or a right draft multiplies its odds by ``lift``, a flawed or wrong one divides them. The verifier goes over a
  draft: a wrong one becomes right with probability ``repair``, a right one wrong with probability ``harm``. The
  finalizer's work is to submit the draft;
* duration: blocks of tokens of the work; passing on takes one block. The budget counts the same blocks: when it is
  used up before a draft was submitted, the episode ends with nothing.

``icsmdp_jax.envs.listed`` says what a segment pays. An episode is one problem.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from icsmdp_jax.core.arguments import each, expect, listed, whole
from icsmdp_jax.envs.listed import Listed, ListedParams, listed_env, listed_params
from icsmdp_jax.envs.math_pipeline import pipeline as world
from icsmdp_jax.envs.math_pipeline.pipeline import ROLES, Problems, problems, team

TEAM = ("Qwen3-235b", "Qwen3-235b-thinking", "DeepSeek-v3.1", "GPT-5-medium", "DeepSeek-v3")
BLUR = (1.0, 1.0, 1.0, 0.4, 0.8)  # the verifier reads most carefully


@dataclasses.dataclass(frozen=True)
class MathPipeline(Listed):
    """The pipeline; make one with ``math_pipeline``.

    Attributes:
      budget: blocks of tokens for one problem.
    """

    budget: int = 12
    name: str = "math-pipeline"

    def interface_features(self, params: ListedParams) -> np.ndarray:
        """``[Z, dim]`` float64: what an interface number stands for, as zeros and ones; zeros after the problem."""
        sizes = (len(ROLES), len(world.KINDS), len(world.LOOKS), self.budget)
        _, kind_read, looks, left = (axis.reshape(-1) for axis in np.indices(sizes))
        steps = left[:, None] >= np.arange(self.budget)  # a staircase: levels near each other look alike
        code = [np.eye(len(world.KINDS))[kind_read], np.eye(len(world.LOOKS))[looks], steps]
        return np.pad(np.concatenate(code, axis=1), ((0, 1), (0, 0)))


def math_pipeline(
    models: tuple[str, ...] = TEAM,
    budget: int = 12,
    mix: float | None = None,
    lift: float = 3.0,
    repair: float = 0.7,
    harm: float = 0.1,
    noise: float = 0.3,
    blur: tuple[float, ...] = BLUR,
    tokens_per_block: float = 1500.0,
    plan_share: float = 0.2,
    verify_share: float = 0.3,
    submit_tokens: float = 200.0,
    value: float = 1.0,
    dollar_weight: float = 1.0,
    block_cost: float = 0.01,
    gamma: float = 0.98,
) -> tuple[MathPipeline, ListedParams]:
    """The environment ``math-pipeline`` and its parameters.

    Args:
      models: language models of planner, solver A, solver B, verifier and finalizer, rows of the published tables.
      budget: blocks of tokens for one problem, 3 or more.
      mix: share of problems of the first kind, AIME; None takes the numbers of problems in the tables.
      lift: what a sound plan or a right draft multiplies a solver's odds by, and a flawed or wrong one divides them
        by; 1 or more.
      repair: probability that the verifier makes a wrong draft right.
      harm: probability that it makes a right draft wrong.
      noise: probability with which readings are drawn at random, before ``blur``; 0 closes the interface gap.
      blur: five factors of ``noise``.
      tokens_per_block: tokens in one block; work takes its tokens in whole blocks, rounded, at least one.
      plan_share: tokens and dollars of a plan, as a share of those that its author's answers take.
      verify_share: the same for going over a draft.
      submit_tokens: tokens that the finalizer writes.
      value: worth of a right answer.
      dollar_weight: price of a dollar; at 1, a right answer is worth ``value`` dollars.
      block_cost: price of a block of latency.
      gamma: discount of one block.

    Returns:
      ``(env, params)``.

    Raises:
      ValueError: for a model that the tables lack, or a number out of range.
    """
    models = listed("models", models, f"names of {len(ROLES)} models", str)
    blur = listed("blur", blur, f"{len(ROLES)} numbers")
    for name, items in (("models", models), ("blur", blur)):
        if len(items) != len(ROLES):
            raise ValueError(f"{name}: found {len(items)}, expected {len(ROLES)}: {', '.join(ROLES)}")
    whole(3, budget=budget)
    expect("a number from 0 to 1", repair=repair, harm=harm, noise=noise, **each("blur", blur))
    expect("1 or more", lift=lift)
    expect("a positive number", tokens_per_block=tokens_per_block, plan_share=plan_share, verify_share=verify_share)
    expect("a positive number", submit_tokens=submit_tokens)
    numbers = team(
        models, mix, lift, repair, harm, noise, blur, tokens_per_block, plan_share, verify_share, submit_tokens
    )
    listing = world.listing(numbers, budget)
    params = listed_params(listing, gamma, value, dollar_weight, block_cost)
    return listed_env(MathPipeline, listing, len(ROLES), budget=budget), params


def states(env: MathPipeline) -> Problems:
    """The fields behind the numbers of the states that decide, ``[S]`` each; the two ends come after them."""
    return problems(env.budget)

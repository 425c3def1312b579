"""Numbers behind the simulated language models: no model is run; published accuracies stand in for their drafts.

Three models of one family and about one size, which differ in how long they reason, stand for three strategies of one
role. Everything in this module that is not ``ACCURACY`` is our choice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from icsmdp_jax.core.arguments import expect, one_of

CLASSES = ("contest", "textbook")  # what a prompt may be: a problem like those of AIME, or like those of MATH500

# Share of problems solved, in percent: AIME, MATH500 (LLMRouterBench, github.com/ynulihao/LLMRouterBench).
ACCURACY: dict[str, tuple[float, float]] = {
    "Qwen-Coder-7B": (1.7, 65.2),
    "DS-Qwen-7B": (40.0, 88.4),
    "Qwen3-8B": (76.7, 93.6),
}
EFFORTS = ("short", "long", "longest")
MODEL_OF_EFFORT = ("Qwen-Coder-7B", "DS-Qwen-7B", "Qwen3-8B")

# Ours: tokens in blocks, uniform between the two ends. A block is one primitive step.
DRAFT_BLOCKS = ((1, 1), (2, 4), (4, 8))
PART_BLOCKS = ((1, 1), (1, 2), (2, 4))  # a part of a problem takes half as many
ONE_BLOCK = (1, 1)
CHECK_BLOCKS = (2, 4)  # reading drafts with care, or writing detailed feedback

COMMON_MISTAKE = 0.5  # ours: probability that a wrong answer is the one that wrong answers have in common
PASSES = (0.15, 0.9)  # ours: how often a piece of work passes the reader's check, by whether it is right


class Settings(NamedTuple):
    """What can be changed about every workflow; all defaults are ours.

    Attributes:
      gamma: discount of one block of tokens.
      cost: price of one block, in units of a right final answer.
      contest: share of prompts that are contest problems.
      spread: how much the hidden difficulty matters: with accuracy ``p`` an easy problem of the class is solved with
        probability ``p + spread min(p, 1 - p)`` and a hard one with ``p - spread min(p, 1 - p)``; both are equally
        frequent, so that the mean over problems is the published ``p``.
      reward: ``"outcome"`` (a right final answer pays 1) or ``"role"`` (each role is paid for its own work).
    """

    gamma: float = 0.99
    cost: float = 0.005
    contest: float = 0.5
    spread: float = 0.6
    reward: str = "outcome"


def settings_of(name: str, overrides: dict[str, Any]) -> Settings:
    """The settings of a workflow, checked.

    Args:
      name: of the workflow.
      overrides: fields of ``Settings``.

    Raises:
      ValueError: in one line, naming the argument, its value and what was expected.
    """
    for argument in overrides:
        if argument not in Settings._fields:
            raise ValueError(f"{name}: argument {argument!r}, expected one of {', '.join(Settings._fields)}")
    settings = Settings(**overrides)
    expect("a number between 0 and 1", gamma=settings.gamma)
    expect("0 or more", cost=settings.cost)
    expect("a number from 0 to 1", contest=settings.contest, spread=settings.spread)
    one_of(("outcome", "role"), reward=settings.reward)
    return settings


def solves(kind: int, effort: int, hard: int, spread: float) -> float:
    """Probability that a draft is right.

    Args:
      kind: class of the prompt, an index into ``CLASSES``.
      effort: index into ``EFFORTS``.
      hard: 1 for a hard problem of the class, 0 for an easy one.
      spread: see ``Settings``.
    """
    published = ACCURACY[MODEL_OF_EFFORT[effort]][kind] / 100
    return published + (1 - 2 * hard) * spread * min(published, 1 - published)


def prompts(settings: Settings) -> list[tuple[float, int, int]]:
    """``(probability, kind, hard)`` of every prompt."""
    share = (settings.contest, 1 - settings.contest)
    return [(share[kind] / 2, kind, hard) for kind in (0, 1) for hard in (0, 1)]


def with_check(chance: float) -> list[tuple[float, int, int]]:
    """``(probability, right, passed)`` of work that is right with probability ``chance``, and of its check."""
    return [
        (of_right * of_check, right, passed)
        for right, of_right in ((0, 1 - chance), (1, chance))
        for passed, of_check in ((0, 1 - PASSES[right]), (1, PASSES[right]))
    ]

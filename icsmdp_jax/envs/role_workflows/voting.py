"""Three generators vote, simulated (no language model is run): an aggregator turns three answers into one.

Since time is counted in tokens, the generators take their turns one after the other. A wrong answer is either the
mistake that wrong answers have in common, or one that no other voter makes. Every answer passes a check or fails it.
The aggregator sees how many answers agree and how many passed, not which is right. A generator sees how many of the
answers before its own passed; if the generators work in parallel, it sees the prompt alone.

States: ``("vote", kind, hard, answers)`` and ``("count", kind, hard, answers)``, where ``answers`` says how many of
them are right, how many the common mistake, how many other mistakes, and how many passed.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

from icsmdp_jax.core.arguments import flag
from icsmdp_jax.envs.role_workflows.env import RoleParams, RoleWorkflow, workflow
from icsmdp_jax.envs.role_workflows.published import (
    CHECK_BLOCKS,
    CLASSES,
    COMMON_MISTAKE,
    DRAFT_BLOCKS,
    EFFORTS,
    ONE_BLOCK,
    PASSES,
    Settings,
    prompts,
    settings_of,
    solves,
)
from icsmdp_jax.envs.role_workflows.rules import END, Branch, State

VOTES = 3  # arXiv 2605.24202
AGGREGATOR = VOTES  # its agent number; the generators are 0, 1 and 2
MAJORITY, READ, SOLVE = 0, 1, 2  # the aggregator's options
OWN_EFFORT = 1  # effort with which an aggregator solves the problem itself
PICKS = 0.6  # ours: reading the answers, the aggregator finds a right one among them; if not, it takes the majority


class Answers(NamedTuple):
    """Answers so far.

    Attributes:
      right: how many are right.
      common: how many are the common mistake.
      other: how many are mistakes that no other voter makes.
      passed: how many passed the check.
    """

    right: int = 0
    common: int = 0
    other: int = 0
    passed: int = 0

    @property
    def given(self) -> int:
        """How many there are."""
        return self.right + self.common + self.other

    @property
    def agreement(self) -> int:
        """Size of the largest group of equal answers."""
        return max(self.right, self.common, min(self.other, 1))


@dataclasses.dataclass(frozen=True)
class Voting:
    """Rules of the workflow; see ``icsmdp_jax.envs.role_workflows.rules.Rules``.

    Attributes:
      settings: prices, discount, prompts, who is paid for what.
      parallel: whether generators see the prompt alone.
    """

    settings: Settings = Settings()
    parallel: bool = False

    name: ClassVar[str] = "voting"
    agents: ClassVar[tuple[str, ...]] = ("generator 1", "generator 2", "generator 3", "aggregator")
    roles: ClassVar[tuple[str, ...]] = ("generator", "aggregator")
    role_of_agent: ClassVar[tuple[int, ...]] = (0, 0, 0, 1)
    options: ClassVar[tuple[tuple[str, ...], ...]] = (EFFORTS, ("majority", "read", "solve"))
    feature_names: ClassVar[tuple[str, ...]] = tuple(
        f"{kind}: {what}"
        for kind in CLASSES
        for what in ("always", *(f"{n} {how}" for how in ("passed", "failed", "agree") for n in (1, 2, 3)))
    )
    longest_episode: ClassVar[int] = VOTES + 1

    def starts(self) -> list[tuple[float, State]]:
        """Prompts, with no vote cast yet."""
        return [(chance, ("vote", kind, hard, Answers())) for chance, kind, hard in prompts(self.settings)]

    def agent(self, state: State) -> int:
        """The generators in turn, then the aggregator."""
        return answers_of(state).given

    def view(self, state: State) -> State:
        """Class of the prompt; how many answers passed; for the aggregator also how many agree."""
        stage, kind = state[:2]
        answers = answers_of(state)
        if stage == "count":
            return (kind, answers.passed, answers.agreement)
        return (kind,) if self.parallel else (kind, answers.passed)

    def available(self, state: State) -> tuple[int, ...]:
        """Everything."""
        return (0, 1, 2)

    def blocks(self, state: State, option: int) -> tuple[int, int]:
        """Answers by effort; counting takes one block, reading more."""
        if state[0] == "vote":
            return DRAFT_BLOCKS[option]
        return (ONE_BLOCK, CHECK_BLOCKS, DRAFT_BLOCKS[OWN_EFFORT])[option]

    def branches(self, state: State, option: int) -> list[Branch]:
        """An answer of one of three sorts, or the end."""
        stage, kind, hard = state[:3]
        answers = answers_of(state)
        own = solves(kind, option if stage == "vote" else OWN_EFFORT, hard, self.settings.spread)
        if stage == "vote":
            after = "vote" if answers.given + 1 < VOTES else "count"
            return [Branch(share, (after, kind, hard, more), good) for share, more, good in cast(answers, own)]
        right = own if option == SOLVE else settled(answers, careful=option == READ)
        return [Branch(1 - right, (END, False), own=False), Branch(right, (END, True), own=True)]

    def features(self, agent: int, view: State) -> list[float]:
        """The same twenty numbers for all; what an agent is not shown is 0."""
        kind, *rest = view
        passed = rest[0] if rest else 0
        failed = agent - passed if rest else 0  # agent i comes after i answers
        agree = rest[1] if agent == AGGREGATOR else 0
        row = [True] + [count == n for count in (passed, failed, agree) for n in (1, 2, 3)]
        return [float(kind == which and value) for which in range(len(CLASSES)) for value in row]


def answers_of(state: State) -> Answers:
    """The answers in a state of this stage, or of the corresponding stages of another workflow."""
    answers = state[3]
    assert isinstance(answers, Answers)
    return answers


def cast(answers: Answers, chance: float) -> list[tuple[float, Answers, bool]]:
    """One more answer, right with probability ``chance``, as ``(probability, all answers, whether it is right)``."""
    right, common, other, passed = answers
    sorts = (
        (chance, Answers(right + 1, common, other), True),
        ((1 - chance) * COMMON_MISTAKE, Answers(right, common + 1, other), False),
        ((1 - chance) * (1 - COMMON_MISTAKE), Answers(right, common, other + 1), False),
    )
    found = []
    for share, after, good in sorts:
        found.append((share * PASSES[good], after._replace(passed=passed + 1), good))
        found.append((share * (1 - PASSES[good]), after._replace(passed=passed), good))
    return found


def settled(answers: Answers, careful: bool) -> float:
    """Probability that the answer taken is right: the largest group's, drawn among the largest ones if they tie."""
    most = answers.agreement
    groups = [answers.right] * (answers.right > 0) + [answers.common] * (answers.common > 0) + [1] * answers.other
    majority = float(answers.right == most) / groups.count(most)
    if careful and answers.right > 0:
        return PICKS + (1 - PICKS) * majority
    return majority


def voting(parallel: bool = False, **overrides: Any) -> tuple[RoleWorkflow, RoleParams]:
    """The environment ``voting`` and its parameters.

    Args:
      parallel: whether generators see the prompt alone.
      **overrides: fields of ``published.Settings``.

    Raises:
      ValueError: for invalid settings.
    """
    flag(parallel=parallel)
    return workflow(Voting(settings_of("voting", overrides), parallel))

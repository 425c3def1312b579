"""Evaluator and optimiser, simulated (no language model is run): one drafts, the other accepts or sends back.

At most three drafts; the third is delivered as it is. The evaluator does not know whether the draft is right, only
whether it passes a check. Sending a draft back with detailed feedback takes longer and helps the next draft more.

States: ``("draft", kind, hard, iteration, feedback)`` and ``("review", kind, hard, iteration, right, passed)``.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from icsmdp_jax.envs.role_workflows.env import RoleParams, RoleWorkflow, workflow
from icsmdp_jax.envs.role_workflows.published import (
    CHECK_BLOCKS,
    CLASSES,
    DRAFT_BLOCKS,
    EFFORTS,
    ONE_BLOCK,
    Settings,
    prompts,
    settings_of,
    solves,
    with_check,
)
from icsmdp_jax.envs.role_workflows.rules import END, Branch, State

ITERATIONS = 3  # arXiv 2605.24202
GENERATOR, EVALUATOR = 0, 1
NOTHING, NOTE, DETAILED = 0, 1, 2  # feedback behind a draft
ACCEPT, REJECT, EXPLAIN = 0, 1, 2  # the evaluator's options: accept, send back with a note, with detailed feedback

# Ours: what feedback on the draft before adds, as a share of what is missing.
HELP = (0.0, 0.1, 0.45)


@dataclasses.dataclass(frozen=True)
class EvalOpt:
    """Rules of the workflow; see ``icsmdp_jax.envs.role_workflows.rules.Rules``.

    Attributes:
      settings: prices, discount, prompts, who is paid for what.
    """

    settings: Settings = Settings()

    name: ClassVar[str] = "eval-opt"
    agents: ClassVar[tuple[str, ...]] = ("generator", "evaluator")
    roles: ClassVar[tuple[str, ...]] = ("generator", "evaluator")
    role_of_agent: ClassVar[tuple[int, ...]] = (0, 1)
    options: ClassVar[tuple[tuple[str, ...], ...]] = (EFFORTS, ("accept", "reject", "explain"))
    feature_names: ClassVar[tuple[str, ...]] = tuple(
        f"{kind}: {what}"
        for kind in CLASSES
        for what in ("always", "iteration 2", "iteration 3", "note", "detailed feedback", "passed")
    )
    longest_episode: ClassVar[int] = 2 * ITERATIONS

    def starts(self) -> list[tuple[float, State]]:
        """Prompts, with nothing written yet."""
        return [(chance, ("draft", kind, hard, 1, NOTHING)) for chance, kind, hard in prompts(self.settings)]

    def agent(self, state: State) -> int:
        """The generator drafts, the evaluator reviews."""
        return GENERATOR if state[0] == "draft" else EVALUATOR

    def view(self, state: State) -> State:
        """Class and iteration; feedback for the generator, the check of the draft for the evaluator."""
        _, kind, _, iteration, *rest = state
        return (kind, iteration, rest[-1])

    def available(self, state: State) -> tuple[int, ...]:
        """Everything, but the third draft cannot be sent back."""
        return (ACCEPT,) if state[0] == "review" and state[3] == ITERATIONS else (0, 1, 2)

    def blocks(self, state: State, option: int) -> tuple[int, int]:
        """Drafts by effort, detailed feedback like a careful reading, verdicts one block."""
        if state[0] == "draft":
            return DRAFT_BLOCKS[option]
        return CHECK_BLOCKS if option == EXPLAIN else ONE_BLOCK

    def branches(self, state: State, option: int) -> list[Branch]:
        """A draft is right or not and passes the check or not; a verdict leads to the end or back."""
        stage, kind, hard, iteration, *rest = state
        if stage == "review":
            right = rest[0]
            if option == ACCEPT:
                return [Branch(1.0, (END, bool(right)), own=bool(right))]
            return [Branch(1.0, ("draft", kind, hard, iteration + 1, option), own=not right)]
        chance = draft_chance(kind, option, hard, rest[0], self.settings.spread)
        return [
            Branch(share, ("review", kind, hard, iteration, right, passed), bool(right))
            for share, right, passed in with_check(chance)
        ]

    def features(self, agent: int, view: State) -> list[float]:
        """The same twelve numbers for both; what one of them is not shown is 0."""
        kind, iteration, last = view
        feedback = last if agent == GENERATOR else NOTHING
        passed = agent == EVALUATOR and last == 1
        row = [True, iteration == 2, iteration == 3, feedback == NOTE, feedback == DETAILED, passed]
        return [float(kind == which and value) for which in range(len(CLASSES)) for value in row]


def draft_chance(kind: int, effort: int, hard: int, feedback: int, spread: float) -> float:
    """Probability that a draft is right, after feedback on an earlier one or none."""
    alone = solves(kind, effort, hard, spread)
    return alone + HELP[feedback] * (1 - alone)


def eval_opt(**overrides: Any) -> tuple[RoleWorkflow, RoleParams]:
    """The environment ``eval-opt`` and its parameters.

    Args:
      **overrides: fields of ``published.Settings``.

    Raises:
      ValueError: for invalid settings.
    """
    return workflow(EvalOpt(settings_of("eval-opt", overrides)))

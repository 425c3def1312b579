"""Orchestrator, three workers and a synthesizer, simulated (no language model is run).

The orchestrator hands the whole problem to every worker, or splits it into three parts, at once or after planning. A
split that fits makes parts as easy as textbook problems; the parts of one that does not are as hard as the problem. In
either case the answer of a split needs all three parts. Outline and parts pass a check or fail it; no agent knows more.
Workers see the form of their work, whether the outline passed and, unless they work in parallel, how many pieces before
their own passed. The synthesizer combines what it gets, mends it, or solves the problem itself.

States: ``("plan", kind, hard)``; ``("work", kind, hard, answers)`` and ``("join", kind, hard, answers)`` for the whole
problem, as in ``voting.py``; ``("part", kind, hard, outline, parts)`` and ``("merge", kind, hard, outline, parts)`` for
a split one.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

from icsmdp_jax.core.arguments import flag
from icsmdp_jax.envs.role_workflows.env import RoleParams, RoleWorkflow, workflow
from icsmdp_jax.envs.role_workflows.published import (
    CHECK_BLOCKS,
    CLASSES,
    DRAFT_BLOCKS,
    EFFORTS,
    ONE_BLOCK,
    PART_BLOCKS,
    Settings,
    prompts,
    settings_of,
    solves,
    with_check,
)
from icsmdp_jax.envs.role_workflows.rules import END, Branch, State
from icsmdp_jax.envs.role_workflows.voting import OWN_EFFORT, VOTES, Answers, answers_of, cast, settled

ORCHESTRATOR, SYNTHESIZER = 0, VOTES + 1
WHOLE, SPLIT, PLAN = 0, 1, 2  # the orchestrator's options: whole problem to everybody, split at once, plan and split
COMBINE, MEND, SOLVE = 0, 1, 2  # the synthesizer's
TEXTBOOK = 1
SEVERAL = 2  # wrong parts: none, one, several

# Ours: how often a split fits, by class, at once and after planning; how often mending repairs a single wrong part, and
# how often it spoils three right ones.
FITS = {SPLIT: (0.4, 0.7), PLAN: (0.9, 0.95)}
REPAIRS, SPOILS = 0.5, 0.05


class Outline(NamedTuple):
    """How the problem was split: whether that fits, and whether it passed the check."""

    fits: int
    passed: int


class Parts(NamedTuple):
    """Parts so far: how many are done, how many of them wrong (``SEVERAL`` for more too), how many passed."""

    done: int = 0
    wrong: int = 0
    passed: int = 0


@dataclasses.dataclass(frozen=True)
class OrchWorkers:
    """Rules of the workflow; see ``icsmdp_jax.envs.role_workflows.rules.Rules``.

    Attributes:
      settings: prices, discount, prompts, who is paid for what.
      parallel: whether workers see nothing of one another.
    """

    settings: Settings = Settings()
    parallel: bool = False

    name: ClassVar[str] = "orch-workers"
    agents: ClassVar[tuple[str, ...]] = ("orchestrator", "worker 1", "worker 2", "worker 3", "synthesizer")
    roles: ClassVar[tuple[str, ...]] = ("orchestrator", "worker", "synthesizer")
    role_of_agent: ClassVar[tuple[int, ...]] = (0, 1, 1, 1, 2)
    options: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("whole", "split", "plan"),
        EFFORTS,
        ("combine", "mend", "solve"),
    )
    feature_names: ClassVar[tuple[str, ...]] = tuple(
        f"{kind}: {what}"
        for kind in CLASSES
        for what in (
            *("always", "whole", "outline failed", "outline passed"),
            *(f"{n} {how}" for how in ("passed", "failed", "agree") for n in (1, 2, 3)),
        )
    )
    longest_episode: ClassVar[int] = VOTES + 2

    def starts(self) -> list[tuple[float, State]]:
        """Prompts, with nothing planned yet."""
        return [(chance, ("plan", kind, hard)) for chance, kind, hard in prompts(self.settings)]

    def agent(self, state: State) -> int:
        """The orchestrator, the workers in turn, the synthesizer."""
        if state[0] == "plan":
            return ORCHESTRATOR
        return 1 + (answers_of(state).given if state[0] in ("work", "join") else parts_of(state)[1].done)

    def view(self, state: State) -> State:
        """Class and form of the work; what passed; for the synthesizer of whole answers also how many agree."""
        stage, kind = state[:2]
        if stage == "plan":
            return (kind,)
        alone = self.parallel and stage in ("work", "part")
        if stage in ("work", "join"):
            answers = answers_of(state)
            shown: State = (kind, "whole") if alone else (kind, "whole", answers.passed)
            return (*shown, answers.agreement) if stage == "join" else shown
        outline, parts = parts_of(state)
        form = ("failed", "passed")[outline.passed]
        return (kind, form) if alone else (kind, form, parts.passed)

    def available(self, state: State) -> tuple[int, ...]:
        """Everything."""
        return (0, 1, 2)

    def blocks(self, state: State, option: int) -> tuple[int, int]:
        """Work by effort, less of it for parts; planning and mending take as long as careful reading."""
        stage = state[0]
        if stage == "work":
            return DRAFT_BLOCKS[option]
        if stage == "part":
            return PART_BLOCKS[option]
        if stage == "plan":
            return (ONE_BLOCK, ONE_BLOCK, CHECK_BLOCKS)[option]
        return (ONE_BLOCK, CHECK_BLOCKS, DRAFT_BLOCKS[OWN_EFFORT])[option]

    def branches(self, state: State, option: int) -> list[Branch]:
        """What the agent in charge may bring about."""
        if state[0] == "plan":
            return _planned(state, option)
        if state[0] == "part":
            return self._worked(state, option)
        _, kind, hard = state[:3]
        effort = option if state[0] == "work" else OWN_EFFORT
        own = solves(kind, effort, hard, self.settings.spread)
        if state[0] == "work":
            answers = answers_of(state)
            after = "work" if answers.given + 1 < VOTES else "join"
            return [Branch(share, (after, kind, hard, more), good) for share, more, good in cast(answers, own)]
        if option == SOLVE:
            right = own
        elif state[0] == "join":
            right = settled(answers_of(state), careful=option == MEND)
        else:
            wrong = parts_of(state)[1].wrong
            right = ((1 - SPOILS, REPAIRS, 0.0) if option == MEND else (1.0, 0.0, 0.0))[wrong]
        return [Branch(1 - right, (END, False), own=False), Branch(right, (END, True), own=True)]

    def _worked(self, state: State, option: int) -> list[Branch]:
        """One more part; ``own`` says whether it is right."""
        _, kind, hard = state[:3]
        outline, parts = parts_of(state)
        chance = solves(TEXTBOOK if outline.fits else kind, option, hard, self.settings.spread)
        after = "part" if parts.done + 1 < VOTES else "merge"
        found = []
        for share, right, passed in with_check(chance):
            more = Parts(parts.done + 1, min(parts.wrong + 1 - right, SEVERAL), parts.passed + passed)
            found.append(Branch(share, (after, kind, hard, outline, more), bool(right)))
        return found

    def features(self, agent: int, view: State) -> list[float]:
        """The same 26 numbers for all; what an agent is not shown is 0."""
        kind, *rest = view
        form = rest[0] if rest else ""
        told = len(rest) > 1
        passed = rest[1] if told else 0
        failed = agent - 1 - passed if told else 0  # agent i comes after i - 1 pieces
        agree = rest[2] if len(rest) > 2 else 0
        row = [True, form == "whole", form == "failed", form == "passed"]
        row += [count == n for count in (passed, failed, agree) for n in (1, 2, 3)]
        return [float(kind == which and value) for which in range(len(CLASSES)) for value in row]


def parts_of(state: State) -> tuple[Outline, Parts]:
    """Outline and parts in a state of a split problem."""
    outline, parts = state[3:]
    assert isinstance(outline, Outline) and isinstance(parts, Parts)
    return outline, parts


def _planned(state: State, option: int) -> list[Branch]:
    """Whom the problem goes to, and in what form; ``own`` says whether a split fits."""
    _, kind, hard = state
    if option == WHOLE:
        return [Branch(1.0, ("work", kind, hard, Answers()))]
    return [
        Branch(share, ("part", kind, hard, Outline(fits, passed), Parts()), bool(fits))
        for share, fits, passed in with_check(FITS[option][kind])
    ]


def orch_workers(parallel: bool = False, **overrides: Any) -> tuple[RoleWorkflow, RoleParams]:
    """The environment ``orch-workers`` and its parameters.

    Args:
      parallel: whether workers see nothing of one another.
      **overrides: fields of ``published.Settings``.

    Raises:
      ValueError: for invalid settings.
    """
    flag(parallel=parallel)
    return workflow(OrchWorkers(settings_of("orch-workers", overrides), parallel))

"""The three workflows of roles, one plain-Python episode at a time, from their description.

Nothing here imports the package. Numbers are written down again: a table of published accuracies (AIME, MATH500 in
percent: Qwen-Coder-7B 1.7/65.2, DS-Qwen-7B 40.0/88.4, Qwen3-8B 76.7/93.6) and the choices made for these environments.

A workflow is replayed rather than simulated: `replay` is told what came about (which of the things that may happen) and
says what that is worth, who acts next, what that agent sees; `law` lists what may happen with probabilities.
"""

from __future__ import annotations

from fractions import Fraction as F

CONTEST, TEXTBOOK = "contest", "textbook"
ACCURACY = {
    ("short", CONTEST): F("0.017"), ("short", TEXTBOOK): F("0.652"),
    ("long", CONTEST): F("0.400"), ("long", TEXTBOOK): F("0.884"),
    ("longest", CONTEST): F("0.767"), ("longest", TEXTBOOK): F("0.936"),
}  # fmt: skip
SPREAD = F("0.6")
CHECK = {True: F("0.9"), False: F("0.15")}  # passes the check, by whether it is right
EFFORT = ("short", "long", "longest")
WHOLE_BLOCKS = {"short": (1,), "long": (2, 3, 4), "longest": (4, 5, 6, 7, 8)}
PART_BLOCKS = {"short": (1,), "long": (1, 2), "longest": (2, 3, 4)}
ONE, CAREFUL = (1,), (2, 3, 4)


def chance(effort: str, kind: str, hard: bool) -> F:
    """Probability that one attempt is right."""
    p = ACCURACY[effort, kind]
    return p + (-1 if hard else 1) * SPREAD * min(p, 1 - p)


class EvalOpt:
    """Draft, review, and back; at most three drafts."""

    def __init__(self, kind: str, hard: bool) -> None:
        self.kind, self.hard = kind, hard
        self.drafts = [("none", None, None)]  # (feedback before, right, passed)
        self.reviewing = False
        self.over: bool | None = None

    def who(self) -> int:
        return 1 if self.reviewing else 0

    def sees(self) -> tuple:
        last = self.drafts[-1]
        return self.kind, len(self.drafts), last[2] if self.reviewing else last[0]

    def may(self) -> list[int]:
        return [0] if self.reviewing and len(self.drafts) == 3 else [0, 1, 2]

    def blocks(self, option: int) -> tuple[int, ...]:
        if self.reviewing:
            return (ONE, ONE, CAREFUL)[option]
        return WHOLE_BLOCKS[EFFORT[option]]

    def law(self, option: int) -> dict[tuple, F]:
        """What may come about, with probabilities."""
        if self.reviewing:
            return {(): F(1)}
        p = chance(EFFORT[option], self.kind, self.hard)
        helped = {"none": F(0), "note": F("0.1"), "detailed": F("0.45")}[self.drafts[-1][0]]
        p = 1 - (1 - p) * (1 - helped)
        return {
            (r, c): (p if r else 1 - p) * (CHECK[r] if c else 1 - CHECK[r])
            for r in (True, False)
            for c in (True, False)
        }

    def do(self, option: int, event: tuple) -> bool:
        """Carry it out; whether the agent did its own work well."""
        if not self.reviewing:
            self.drafts[-1] = (self.drafts[-1][0], *event)
            self.reviewing = True
            return event[0]
        right = self.drafts[-1][1]
        if option == 0:
            self.over = right
            return right
        self.drafts.append((("note", "detailed")[option - 1], None, None))
        self.reviewing = False
        return not right


def decide(answers: list[tuple[str, bool]]) -> F:
    """Probability that the most frequent answer, drawn among equals, is right; `other` mistakes are all different."""
    groups: dict[str, int] = {}
    for index, (answer, _) in enumerate(answers):
        name = f"{answer} {index}" if answer == "other" else answer
        groups[name] = groups.get(name, 0) + 1
    largest = [name for name, size in groups.items() if size == max(groups.values())]
    return F(int("right" in largest), len(largest))


def most_alike(answers: list[tuple[str, bool]]) -> int:
    """Size of the largest group of equal answers."""
    names = [answer for answer, _ in answers]
    return max(names.count("right"), names.count("common"), int("other" in names))


def answer_law(p: F) -> dict[tuple, F]:
    """One answer with its check."""
    sorts = {"right": p, "common": (1 - p) / 2, "other": (1 - p) / 2}
    return {
        (sort, c): share * (CHECK[sort == "right"] if c else 1 - CHECK[sort == "right"])
        for sort, share in sorts.items()
        for c in (True, False)
    }


def read(answers: list[tuple[str, bool]]) -> F:
    """A careful reader finds a right answer in six of ten cases, otherwise it takes the most frequent one."""
    found = F("0.6") if any(answer == "right" for answer, _ in answers) else F(0)
    return found + (1 - found) * decide(answers)


class Voting:
    """Three answers, then one decision."""

    def __init__(self, kind: str, hard: bool, parallel: bool = False) -> None:
        self.kind, self.hard, self.parallel = kind, hard, parallel
        self.answers: list[tuple[str, bool]] = []
        self.over: bool | None = None

    def who(self) -> int:
        return len(self.answers)

    def sees(self) -> tuple:
        passed = sum(c for _, c in self.answers)
        if len(self.answers) == 3:
            return self.kind, passed, most_alike(self.answers)
        return (self.kind,) if self.parallel else (self.kind, passed)

    def may(self) -> list[int]:
        return [0, 1, 2]

    def blocks(self, option: int) -> tuple[int, ...]:
        if len(self.answers) < 3:
            return WHOLE_BLOCKS[EFFORT[option]]
        return (ONE, CAREFUL, WHOLE_BLOCKS["long"])[option]

    def law(self, option: int) -> dict[tuple, F]:
        if len(self.answers) < 3:
            return answer_law(chance(EFFORT[option], self.kind, self.hard))
        p = (decide(self.answers), read(self.answers), chance("long", self.kind, self.hard))[option]
        return {(True,): p, (False,): 1 - p}

    def do(self, option: int, event: tuple) -> bool:
        if len(self.answers) < 3:
            self.answers.append(event)
            return event[0] == "right"
        self.over = event[0]
        return event[0]


class OrchWorkers:
    """A plan, three pieces of work, one synthesis."""

    def __init__(self, kind: str, hard: bool, parallel: bool = False) -> None:
        self.kind, self.hard, self.parallel = kind, hard, parallel
        self.outline: tuple | None = None  # ("whole",) or (fits, passed)
        self.pieces: list[tuple] = []  # answers, or (right, passed) for parts
        self.over: bool | None = None

    def who(self) -> int:
        return 0 if self.outline is None else 1 + len(self.pieces)

    def sees(self) -> tuple:
        if self.outline is None:
            return (self.kind,)
        form = "whole" if self.outline == ("whole",) else ("failed", "passed")[self.outline[1]]
        if self.parallel and len(self.pieces) < 3:
            return self.kind, form
        passed = sum(piece[1] for piece in self.pieces)
        if form == "whole" and len(self.pieces) == 3:
            return self.kind, form, passed, most_alike(self.pieces)
        return self.kind, form, passed

    def may(self) -> list[int]:
        return [0, 1, 2]

    def blocks(self, option: int) -> tuple[int, ...]:
        if self.outline is None:
            return (ONE, ONE, CAREFUL)[option]
        if len(self.pieces) == 3:
            return (ONE, CAREFUL, WHOLE_BLOCKS["long"])[option]
        return (WHOLE_BLOCKS if self.outline == ("whole",) else PART_BLOCKS)[EFFORT[option]]

    def law(self, option: int) -> dict[tuple, F]:
        if self.outline is None:
            if option == 0:
                return {("whole",): F(1)}
            fits = {CONTEST: (F("0.4"), F("0.9")), TEXTBOOK: (F("0.7"), F("0.95"))}[self.kind][option - 1]
            return {
                (f, c): (fits if f else 1 - fits) * (CHECK[f] if c else 1 - CHECK[f])
                for f in (True, False)
                for c in (True, False)
            }
        whole = self.outline == ("whole",)
        if len(self.pieces) < 3:
            if whole:
                return answer_law(chance(EFFORT[option], self.kind, self.hard))
            p = chance(EFFORT[option], TEXTBOOK if self.outline[0] else self.kind, self.hard)
            return {
                (r, c): (p if r else 1 - p) * (CHECK[r] if c else 1 - CHECK[r])
                for r in (True, False)
                for c in (True, False)
            }
        if option == 2:
            p = chance("long", self.kind, self.hard)
        elif whole:
            p = (decide, read)[option](self.pieces)
        else:
            wrong = sum(not right for right, _ in self.pieces)
            p = F(int(wrong == 0)) if option == 0 else {0: F("0.95"), 1: F("0.5")}.get(wrong, F(0))
        return {(True,): p, (False,): 1 - p}

    def do(self, option: int, event: tuple) -> bool:
        if self.outline is None:
            self.outline = event
            return event[0] is True
        if len(self.pieces) < 3:
            self.pieces.append(event)
            return event[0] in ("right", True)
        self.over = event[0]
        return event[0]


WORKFLOWS = {"eval-opt": EvalOpt, "voting": Voting, "orch-workers": OrchWorkers}


def segment(pays: bool, tau: int, gamma: float, cost: float) -> float:
    """Reward of a segment, block by block: every block costs, the last one may pay 1."""
    return sum(gamma**t * ((1.0 if pays and t == tau - 1 else 0.0) - cost) for t in range(tau))

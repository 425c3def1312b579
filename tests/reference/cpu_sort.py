"""The sorting-kernel machine and its team of four agents, one run after the other, in plain Python.

Registers are `0..n-1` and the scratch `n`; a program is a list of `(name, a, b)`. Nothing here imports the package.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

Instruction = tuple[str, int, int]
AGENTS = ("mov", "cmp", "cmovl", "cmovg")


class Run:
    """One run: registers and the two flags."""

    def __init__(self, values: tuple[int, ...]) -> None:
        self.registers = [*values, 0]
        self.less = self.greater = False

    def copy(self) -> Run:
        """An independent run in the same state."""
        other = Run(())
        other.registers, other.less, other.greater = list(self.registers), self.less, self.greater
        return other

    def do(self, instruction: Instruction) -> None:
        """Execute one instruction."""
        name, a, b = instruction
        if name == "cmp":
            self.less = self.registers[a] < self.registers[b]
            self.greater = self.registers[a] > self.registers[b]
        elif name == "mov" or (name == "cmovl" and self.less) or (name == "cmovg" and self.greater):
            self.registers[a] = self.registers[b]


def start(n: int) -> list[Run]:
    """One run per permutation of 1..n, in lexicographic order."""
    return [Run(values) for values in itertools.permutations(range(1, n + 1))]


def execute(runs: list[Run], program: list[Instruction]) -> list[Run]:
    """The runs after a program; the given ones are left alone."""
    runs = [run.copy() for run in runs]
    for instruction in program:
        for run in runs:
            run.do(instruction)
    return runs


def is_sorted(runs: list[Run]) -> bool:
    """Whether every run has 1..n in its registers, in this order."""
    return all(run.registers[:-1] == list(range(1, len(run.registers))) for run in runs)


def has_lost(runs: list[Run]) -> bool:
    """Whether in some run one of the values 1..n is in no register any more."""
    return any(set(range(1, len(run.registers))) - set(run.registers) for run in runs)


def relation(runs: list[Run], a: int, b: int) -> set[str]:
    """Which of <, = and > hold between two registers in some run."""
    signs = set()
    for run in runs:
        x, y = run.registers[a], run.registers[b]
        signs.add("<" if x < y else ">" if x > y else "=")
    return signs


def is_spare(runs: list[Run], a: int) -> bool:
    """Whether no run needs what register `a` holds."""
    for run in runs:
        value = run.registers[a]
        if value and run.registers.count(value) == 1:
            return False
    return True


def score(runs: list[Run]) -> int:
    """How often a register holds less than a later one, over runs and pairs; the scratch does not count."""
    n = len(runs[0].registers) - 1
    return sum(run.registers[i] < run.registers[j] for run in runs for i in range(n) for j in range(i + 1, n))


class Option(NamedTuple):
    """A run of instructions, and who goes on."""

    program: tuple[Instruction, ...]
    receiver: str


class Outcome(NamedTuple):
    """What one option leads to."""

    reward: float
    duration: int
    discount: float
    terminated: bool
    truncated: bool


class Team:
    """Four agents that write a program for `n` values."""

    def __init__(self, n: int, limit: int, gamma: float, shaping: float) -> None:
        self.n, self.limit, self.gamma, self.shaping = n, limit, gamma, shaping
        self.pairs = list(itertools.combinations(range(n + 1), 2))
        self.runs = start(n)
        self.agent = "mov"
        self.compared: tuple[int, int] | None = None
        self.program: list[Instruction] = []

    def options(self) -> list[Option]:
        """The active agent's options."""
        n = self.n
        if self.agent == "mov":
            return [Option((("mov", n, i),), "cmp") for i in range(n)]
        if self.agent == "cmp":
            return [Option((("cmp", a, b),), to) for a, b in self.pairs for to in ("cmovl", "cmovg")]
        assert self.compared is not None
        a, b = self.compared
        return [
            Option(((self.agent, x, y), (self.agent, y, z)), to)
            for x, y in ((a, b), (b, a))
            for z in range(n + 1)
            if z not in (a, b)
            for to in ("mov", "cmp")
        ]

    def acting(self) -> list[Run]:
        """Runs in which the active agent's instructions act."""
        if self.agent == "cmovl":
            return [run for run in self.runs if run.less]
        if self.agent == "cmovg":
            return [run for run in self.runs if run.greater]
        return self.runs

    def available(self) -> list[bool]:
        """Which options lose nothing and can change something, as far as the agent sees; all, if none does."""
        acting, wise = self.acting(), []
        for option in self.options():
            _, a, b = option.program[0]
            if self.agent == "cmp":
                wise.append({"<", ">"} <= relation(acting, a, b))
            elif self.agent == "mov":
                wise.append(is_spare(acting, a) and relation(acting, a, b) != {"="})
            else:
                wise.append(is_spare(acting, a))
        return wise if any(wise) else [True] * len(wise)

    def view(self) -> tuple:
        """What the active agent sees, hashable."""
        acting = self.acting()
        relations = tuple(tuple(sorted(relation(acting, a, b))) for a, b in self.pairs)
        may_write = {"mov": [self.n], "cmp": []}.get(self.agent, list(self.compared or ()))
        spare = tuple(register for register in may_write if is_spare(acting, register))
        compared = self.compared if self.agent.startswith("cmov") else None
        return self.agent, relations, spare, compared, score(self.runs)

    def everything(self) -> tuple:
        """All that decides the future, hashable."""
        registers = tuple(tuple(run.registers) for run in self.runs)
        if not self.agent.startswith("cmov"):
            return self.agent, registers
        return self.agent, registers, tuple((run.less, run.greater) for run in self.runs), self.compared

    def potential(self) -> float:
        """Twice the share of the best score, less one."""
        best = len(self.runs) * self.n * (self.n - 1) / 2
        return self.shaping * (2 * score(self.runs) / best - 1)

    def step(self, option: int) -> Outcome:
        """Append one option's run to the program, instruction by instruction."""
        chosen, before, paid, duration = self.options()[option], self.potential(), 0.0, 0
        for instruction in chosen.program:
            self.runs = execute(self.runs, [instruction])
            self.program.append(instruction)
            if instruction[0] == "cmp":
                self.compared = instruction[1:]
            if is_sorted(self.runs):
                paid = self.gamma**duration
            duration += 1
            if is_sorted(self.runs) or has_lost(self.runs):
                break
        self.agent = chosen.receiver
        terminated = is_sorted(self.runs) or has_lost(self.runs)
        discount = 0.0 if terminated else self.gamma**duration
        reward = paid + discount * self.potential() - before
        return Outcome(reward, duration, discount, terminated, not terminated and len(self.program) >= self.limit)

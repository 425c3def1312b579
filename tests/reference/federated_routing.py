"""Federated routing from its definition, one prompt at a time; chances and bills are those of the other twin."""

from __future__ import annotations

from dataclasses import dataclass

from tests.reference import expert_routing as alone

CLIENTS = ("client 0", "client 1", "client 2", "client 3")
MODELS = tuple(alone.TABLE)
CLASSES = [(kind, level) for kind in alone.TYPES for level in alone.LEVELS]
RIGHT, WRONG = alone.RIGHT, alone.WRONG
OFFICE = alone.Office(noise=0.0)


@dataclass(frozen=True)
class Prompt:
    """A prompt on somebody's desk: its number, whether the holder has a backlog, whether it may be handed on."""

    holder: str
    number: int
    backlog: bool = False
    may: bool = True


@dataclass(frozen=True)
class Agency:
    """The clients and their models; ``coverage`` models for each client, from its own number on."""

    coverage: int = 2
    focus: float = 0.8

    def as_query(self, prompt: Prompt) -> alone.Query:
        """The same in the office of one client, where it was read rightly."""
        kind, level = CLASSES[prompt.number // 4]
        return alone.Query(kind, level, MODELS.index(prompt.holder), kind, level, prompt.backlog, False, 1)

    def start(self) -> dict[Prompt, float]:
        law = {}
        for index, client in enumerate(CLIENTS):
            for number in range(24):
                own = self.focus / 8 if number // 8 == index else self.focus / 24 if index == 3 else 0.0
                law[Prompt(client, number)] = ((1 - self.focus) / 24 + own) / 4
        return law

    def options(self, prompt: Prompt) -> list[bool]:
        if prompt.holder in CLIENTS:
            first = CLIENTS.index(prompt.holder)
            mine = {MODELS[(first + step) % 5] for step in range(self.coverage)}
            return [False, *(model in mine for model in MODELS)]
        return [True, *(prompt.may and model != prompt.holder for model in MODELS)]

    def outcomes(self, prompt: Prompt, option: int) -> dict[object, float]:
        if option == 0:
            return OFFICE.outcomes(self.as_query(prompt), 0)
        to, busy = MODELS[option - 1], (0.1, 0.2, 0.3, 0.3, 0.3)[option - 1]
        may = prompt.holder in CLIENTS
        return {Prompt(to, prompt.number, True, may): busy, Prompt(to, prompt.number, False, may): 1 - busy}

    def mean_blocks(self, prompt: Prompt, option: int) -> float:
        return OFFICE.mean_blocks(self.as_query(prompt), 0) if option == 0 else 1.0

    def dollars(self, prompt: Prompt, option: int) -> float:
        return OFFICE.dollars(self.as_query(prompt), 0) if option == 0 else 0.0

    def reward(self, option: int, tau: int, after: object, dollars: float) -> float:
        due = (after == RIGHT) - 3.0 * dollars
        return float(0.98 ** (tau - 1) * due - 0.01 * sum(0.98**k for k in range(tau)))

"""One agent of a running pipeline: it acts, offers one scalar, absorbs one scalar, and keeps what it knows (D9).

policy = load_policy("desk-policy")
triage = Agent(policy, "triage", store="triage.db", epsilon=0.1)
choice = triage.act({"topic": "billing"})             # an option and its probability, for the log
triage.wait("ticket-17/0", segment)                   # the option has ended: the segment waits for its scalar
scalar = triage.offer({"topic": "billing"})           # all that the agent ever tells anyone
triage.receive("ticket-17/0", 1.25)                   # all that it ever learns from anyone
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from icsmdp_jax.runtime import messages
from icsmdp_jax.runtime.functions import EMPTY, Adam, Steps, Vector, function_of
from icsmdp_jax.runtime.policies import Policy
from icsmdp_jax.runtime.store import Store

Interface = int | Mapping[str, Any] | Sequence[float] | np.ndarray
Available = Sequence[bool] | Sequence[str] | np.ndarray | None
ABSORBED, REPEATED, UNKNOWN, INVALID = "absorbed", "repeated", "unknown", "invalid"


class Segment(NamedTuple):
    """What the agent whose option has ended keeps of it, as ``core.handoff.Segment``.

    Attributes:
      interface: what it saw when it chose.
      option: number of the option that it chose.
      reward: segment reward ``R``.
      discount: ``gamma^tau``; 0 at a terminal handoff, which no scalar answers.
      epoch: handoffs before this one on the shared clock, for steps that use it.
    """

    interface: Interface
    option: int
    reward: float
    discount: float
    epoch: int = 0


class Choice(NamedTuple):
    """A decision: number and name of the option, and the probability with which it was chosen."""

    option: int
    name: str
    probability: float


class Agent:
    """An agent that follows a policy and learns; workers in other processes may open the same store.

    Attributes:
      policy: the agent's own part of the policy.
      one: what the agent sees and starts from.
    """

    def __init__(
        self,
        policy: Policy,
        name: str,
        *,
        store: str | os.PathLike[str] = ":memory:",
        rule: Steps | Adam | None = None,
        epsilon: float = 0.0,
        temperature: float | None = None,
        learning: bool = True,
        seed: int | None = None,
        synchronous: str = "NORMAL",
    ) -> None:
        """An agent of a policy.

        Args:
          policy: the policy; only this agent's part of it is kept.
          name: which of its agents this is.
          store: SQLite file of what is learned; in memory by default.
          rule: how it learns; by default steps ``(1 + n)^-0.7`` in the visits n of an entry for tables and linear
            functions, and Adam for nets, as ``learner.setups.setup`` has it.
          epsilon: probability of an option drawn uniformly from what is available.
          temperature: options with probability proportional to ``exp(Q / temperature)`` instead of the best one.
          learning: False freezes what is known: segments are then audited instead of learned from.
          seed: of its random numbers.
          synchronous: ``"FULL"`` if the store must survive power cuts as well.

        Raises:
          ValueError: in one line, for arguments that do not fit or a store of another agent or policy.
        """
        if not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon = {epsilon}: expected a probability")
        if temperature is not None and not 0 < temperature < math.inf:
            raise ValueError(f"temperature = {temperature}: expected a number above 0, or None")
        self.policy = policy.only(name)
        self.one = one = self.policy.agents[0]
        options, tabular = len(policy.options), policy.function_class == "tabular"
        self._function = function_of(one, policy.function_class, options)
        self._rule = rule or (Steps() if self._function.per_option else Adam())
        self.epsilon, self.temperature, self.learning = epsilon, temperature, learning
        self._random = random.Random(seed)
        self._tabular, self._options = tabular, options
        listed = () if one.interfaces is None else one.interfaces.tolist()
        self._row = {number: row for row, number in enumerate(listed)}
        masks = np.ones((len(listed), options), bool) if one.available is None else one.available
        self._listed = [*(np.flatnonzero(mask).tolist() for mask in masks), list(range(options))]
        started = hashlib.sha256(repr((listed, one.fields, self._rule)).encode())
        for key in sorted(one.params):
            started.update(np.ascontiguousarray(one.params[key]).tobytes())
        about = {
            "format": "icsmdp-agent 1",
            "agent": name,
            "options": json.dumps(policy.options),
            "policy and rule": f"{policy.function_class} {type(self._rule).__name__} {started.hexdigest()[:16]}",
        }
        self.store = Store(store, about, synchronous)
        self._cache: dict[int, tuple[Vector, Vector]] = {}

    # What it sees and knows

    def _seen(self, interface: Interface) -> tuple[int, Vector, int | None]:
        """Slot of the parameters, what networks read, and the row in the policy's listing, if there is one."""
        if isinstance(interface, Mapping):
            if not self.one.fields:
                raise ValueError(
                    f"agent {self.one.name!r}: sees no fields, expected the number of an interface or a vector"
                )
            interface = self.one.number_of(interface)
        if isinstance(interface, int | np.integer):
            number = int(interface)
            row = self._row.get(number)
            if row is None and not (self.one.fields and self._tabular):
                raise ValueError(f"agent {self.one.name!r}: interface {number} is not listed in its policy")
            if self._tabular:
                return number, EMPTY, row
            if self.one.features is None:
                raise ValueError(f"agent {self.one.name!r}: has no features, expected a vector")
            return 0, np.asarray(self.one.features[row], np.float64), row
        if self._tabular:
            raise ValueError(f"agent {self.one.name!r}: a vector, expected the number of an interface or its facts")
        return 0, np.asarray(interface, np.float64), None

    def _known(self, slot: int, row: int | None) -> tuple[Vector, Vector]:
        """Parameters and memory of a slot: what was learned, else what the policy says, else the start."""
        found = self._cache.get(slot)
        if found is None:
            found = self.store.read(slot)
        if found is None:
            memory = self._rule.memory(self._function, self._options)
            if self._tabular and row is not None:
                if self.one.visits is not None and isinstance(self._rule, Steps):
                    memory = self.one.visits[row].astype(np.float64)
                found = self.one.params["q"][row].astype(np.float64), memory
            else:
                found = self._function.start.copy(), memory
        self._cache[slot] = found
        return found

    def _values(self, slot: int, row: int | None, x: Vector) -> list[float]:
        """Values of all options by what the last worker wrote; other threads of this process wait."""
        with self.store.lock:
            if self.store.changed():
                self._cache.clear()
            return self._function.values(self._known(slot, row)[0], x).tolist()

    def _open(self, row: int | None, available: Available) -> Sequence[int]:
        """Options that may be chosen; what the policy rules out stays out if anything is left."""
        listed = self._listed[-1 if row is None else row]
        if available is None:
            return listed
        if len(available) and isinstance(available[0], str):
            given = [option for option, name in enumerate(self.policy.options) if name in available]  # type: ignore[operator]
        elif len(available) == self._options:
            given = [option for option, is_open in enumerate(available) if is_open]
        else:
            given = []
        if not given:
            raise ValueError(f"available: expected names of options, or {self._options} truth values, one of them true")
        return [option for option in given if option in listed] or given

    def options_at(self, slot: int, x: Vector) -> Sequence[int]:
        """What the policy allows at an interface, given as its slot and what networks read there."""
        if self._tabular or self.one.features is None:
            return self._open(self._row.get(slot) if self._tabular else None, None)
        return self._open(int(np.flatnonzero((self.one.features == x).all(axis=1))[0]), None)

    def values(self, interface: Interface) -> list[float]:
        """Values of all options at one of the agent's own interfaces."""
        slot, x, row = self._seen(interface)
        return self._values(slot, row, x)

    # What it does

    def act(self, interface: Interface, available: Available = None) -> Choice:
        """An option for what the agent sees, and the probability that it had.

        Args:
          interface: its facts (a mapping), its number, or a vector.
          available: names, or ``[O]`` truth values; all if None. What the policy rules out stays out if anything is
            left.
        """
        slot, x, row = self._seen(interface)
        law = self.law(self._values(slot, row, x), self._open(row, available))
        drawn, option = self._random.random(), -1
        for candidate, mass in law.items():
            if mass > 0:
                option = candidate
                drawn -= mass
                if drawn < 0:
                    break
        return Choice(option, self.policy.options[option], law[option])

    def law(self, values: Sequence[float], options: Sequence[int]) -> dict[int, float]:
        """Probabilities of the available options, given the values of all: greedy or soft, and a uniform share."""
        best = max(options, key=values.__getitem__)  # the first of the best
        even = self.epsilon / len(options)
        if self.temperature is None:
            law = dict.fromkeys(options, even)
            law[best] += 1.0 - self.epsilon
            return law
        weight = {option: math.exp((values[option] - values[best]) / self.temperature) for option in options}
        share = (1.0 - self.epsilon) / sum(weight.values())
        return {option: even + share * mass for option, mass in weight.items()}

    def offer(self, interface: Interface, available: Available = None) -> float:
        """The one scalar that the agent ever tells: its best available value at its own interface (D9)."""
        slot, x, row = self._seen(interface)
        return max(map(self._values(slot, row, x).__getitem__, self._open(row, available)))

    def absorb(self, segment: Segment, scalar: float, id: str | None = None) -> float | None:
        """Learns from one of its segments and the scalar for it: ``y = R + gamma^tau v`` (D9), in one transaction.

        Args:
          segment: the segment; at discount 0 the scalar is not looked at.
          scalar: what the next agent offered; clipped to the policy's range of values (L6).
          id: of the segment; a segment that was absorbed before is not absorbed again.

        Returns:
          The temporal difference, or None for a repeated id.

        Raises:
          ValueError: for numbers that are not finite or a discount outside ``[0, 1)``; nothing changes then.
        """
        seen = self._seen(segment.interface)
        self._check(segment)
        if not math.isfinite(scalar):
            raise ValueError("scalar: expected a finite number")
        with self.store.change():
            if id is not None and self.store.was_done(id):
                self.store.count(REPEATED)
                return None
            return self._absorb(seen, segment, scalar, id)

    def _check(self, segment: Segment) -> None:
        if not math.isfinite(segment.reward) or not 0 <= segment.discount < 1:
            raise ValueError("segment: expected a finite reward and a discount in [0, 1)")
        if not 0 <= segment.option < self._options:
            raise ValueError(f"segment: option {segment.option}, expected a number below {self._options}")

    def _absorb(self, seen: tuple[int, Vector, int | None], segment: Segment, scalar: float, id: str | None) -> float:
        slot, x, row = seen
        if self.store.changed():
            self._cache.clear()
        if segment.discount == 0:
            scalar = 0.0  # by definition: nothing crosses at a terminal handoff, and the range of L6 may leave 0 out
            self.store.count("terminal")
        elif self.policy.value_range is not None:
            low, high = self.policy.value_range
            if not low <= scalar <= high:
                scalar = min(max(scalar, low), high)
                self.store.count("clipped")
        known = self._known(slot, row)
        del self._cache[slot]  # until the transaction is known to have been written
        params, memory = known[0].copy(), known[1].copy()
        target = segment.reward + segment.discount * scalar
        error = float(target - self._function.values(params, x)[segment.option])
        if self.learning:
            ascent = self._function.gradient(params, x, segment.option)
            self._rule.update(params, memory, ascent, error, segment.option, segment.epoch)
            self.store.write(slot, params, memory)
        else:
            row_of = (slot, x.tobytes(), int(segment.option), error, float(segment.discount))
            self.store.db.execute("INSERT INTO audit (slot, x, option, error, discount) VALUES (?, ?, ?, ?, ?)", row_of)
        self.store.count(ABSORBED)
        if id is not None:
            self.store.is_done(id)
        return error

    # Messages that come later, again, or never

    def wait(self, id: str, segment: Segment) -> None:
        """Keeps a finished segment until its scalar comes; a terminal one is absorbed at once.

        Raises:
          ValueError: for a segment that ``absorb`` would refuse.
        """
        if segment.discount == 0:
            self.absorb(segment, 0.0, id)
            return
        self._check(segment)
        slot, x, _ = self._seen(segment.interface)
        numbers = int(segment.option), float(segment.reward), float(segment.discount), int(segment.epoch)
        row = (id, slot, x.tobytes(), *numbers, time.time())
        with self.store.change():
            if self.store.was_done(id):
                self.store.count(REPEATED)
                return
            self.store.db.execute("INSERT OR IGNORE INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)", row)

    def receive(self, id: str, scalar: float) -> str:
        """Absorbs the scalar of a segment that waits for it, late or not.

        Returns:
          ``"absorbed"``, ``"repeated"``, ``"unknown"`` (no such segment waits) or ``"invalid"``; all are counted.
        """
        with self.store.change():
            if not math.isfinite(scalar):
                self.store.count(INVALID)
                return INVALID
            found = self.store.db.execute("SELECT * FROM waiting WHERE id = ?", (id,)).fetchone()
            if found is None:
                kind = REPEATED if self.store.was_done(id) else UNKNOWN
                self.store.count(kind)
                return kind
            _, slot, x, option, reward, discount, epoch, _, lost = found
            row = self._row.get(slot) if self._tabular else None
            segment = Segment(slot, option, reward, discount, epoch)
            self._absorb((slot, np.frombuffer(x), row), segment, scalar, id)
            if lost:
                self.store.count("late")
            return ABSORBED

    def deliver(self, header: str, body: bytes) -> str:
        """Receives a message as it was sent on the wire; see ``receive``."""
        try:
            segment, scalar = messages.decode(header, body)
        except ValueError:
            segment, scalar = "", math.nan
        return self.receive(segment, scalar)

    def give_up(self, seconds: float) -> int:
        """Counts segments that have waited for longer as lost; a scalar that comes after all is counted as late."""
        return self.store.give_up(seconds)

    def counts(self) -> dict[str, int]:
        """What was absorbed, terminal, clipped, repeated, unknown, invalid and late, and what is waiting or lost."""
        return self.store.counts()

    def close(self) -> None:
        """Closes the store; everything is written already."""
        self.store.close()

"""The workshop as a finite problem with all its primitive steps: what the exact oracle solves (D1, D3).

Written from the rules in the docstring of ``env.py`` with NumPy alone, in float64: it shares no line with the
simulation, so that agreement of the two is a check of both.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy import sparse

from icsmdp_jax.envs.workshop.env import GOOD, RAW, SPOILED, Workshop, WorkshopParams
from icsmdp_jax.exact.primitive import PrimitiveModel

Place = tuple[int, tuple[int, ...], tuple[int, ...]]  # agent, status of the parts, clamped tools
Inside = tuple[Place, int, int, int, int]  # place, part, receiver, grain, layer
Outcome = tuple[float, float, Place | Inside | None]  # probability, reward, where it leads (None: delivered)


def workshop_model(env: Workshop, params: WorkshopParams) -> PrimitiveModel:
    """Enumerates a workshop.

    Args:
      env: its sizes. States grow like ``N 3^P A^N``: keep them small.
      params: its numbers.

    Returns:
      The primitive problem; situations are numbered ``(agent * X + observation) * O + option``.
    """
    rules = _Rules(env, params)
    statuses = [s for s in itertools.product((RAW, GOOD, SPOILED), repeat=env.num_parts) if RAW in s]
    benches = list(itertools.product(range(env.num_tools), repeat=env.num_agents))
    places = [(agent, status, clamped) for agent in range(env.num_agents) for status in statuses for clamped in benches]
    place_of = {place: s for s, place in enumerate(places)}
    insides = [
        (place, part, receiver, grain, layer)
        for place in places
        for part, receiver in itertools.product(range(env.num_parts), range(env.num_agents))
        if place[1][part] == RAW
        for grain, layer in itertools.product(range(env.num_tools), range(env.num_layers))
    ]
    inside_of = {inside: u for u, inside in enumerate(insides)}
    options, tools = env.spec.num_options, env.num_tools
    states, count = len(places), len(insides)

    begin, stay, leave = _Triplets(), _Triplets(), _Triplets()
    mask, reward = np.zeros((states, options), bool), np.zeros((count, tools))
    for u, inside in enumerate(insides):
        place, part, receiver, grain, layer = inside
        if layer == 0:
            option = part * env.num_agents + receiver
            mask[place_of[place], option] = True
            begin.add(place_of[place] * options + option, u, float(rules.p.grain[part, grain]))
        for tool in range(tools):
            row = u * tools + tool
            for probability, pays, target in rules.outcomes(inside, tool):
                reward[u, tool] += probability * pays
                if target is None:
                    continue
                if len(target) == 3:
                    leave.add(row, place_of[target], probability)
                else:
                    stay.add(row, inside_of[target], probability)
    first = np.array([float(all(s == RAW for s in place[1])) for place in places])
    return PrimitiveModel(
        agent=np.array([place[0] for place in places]),
        interface=np.array([rules.interface(place) for place in places]),
        mask=mask,
        first=first / first.sum(),
        begin=begin.matrix(states * options, count),
        situation=np.array([rules.situation(inside) for inside in insides]),
        num_situations=env.num_agents * env.local_spec.num_observations * options,
        stay=stay.matrix(count * tools, count),
        leave=leave.matrix(count * tools, states),
        reward=reward,
        action_mask=np.ones((count, tools), bool),
        gamma=float(params.gamma),
    )


class _Rules:
    """The rules of one workshop, in float64."""

    def __init__(self, env: Workshop, params: WorkshopParams) -> None:
        self.env = env
        self.p = WorkshopParams(*(np.asarray(leaf, np.float64) for leaf in params))

    def interface(self, place: Place) -> int:
        agent, status, clamped = place
        return (agent * 3**self.env.num_parts + self._code(status)) * self.env.num_tools + clamped[agent]

    def situation(self, inside: Inside) -> int:
        (agent, status, clamped), part, receiver, grain, layer = inside
        env = self.env
        more = RAW in status[:part] + status[part + 1 :]
        seen = ((more * env.num_tools + clamped[agent]) * env.num_tools + grain) * env.num_layers + layer
        option = part * env.num_agents + receiver
        return (agent * env.local_spec.num_observations + seen) * env.spec.num_options + option

    def outcomes(self, inside: Inside, tool: int) -> list[Outcome]:
        """Everything that one primitive step can lead to."""
        p, env = self.p, self.env
        (agent, status, clamped), part, receiver, grain, layer = inside
        if tool != clamped[agent]:
            through, spoil, price = 0.0, 0.0, float(p.step_cost + p.clamp_cost)
        else:
            fits = (tool + agent) % env.num_tools == grain
            spoil = 0.0 if fits else float(p.spoil[agent])
            through = (1 - spoil) * float(p.skill[agent, part] if fits else p.rough)
            price = float(p.step_cost)
        benches = _replace(clamped, agent, tool)
        now = (agent, status, benches)
        found: list[Outcome] = []

        def ends(probability: float, outcome: int) -> None:
            after = _replace(status, part, outcome)
            if RAW not in after:
                worth = sum(float(w) for w, s in zip(p.worth, after, strict=True) if s == GOOD)
                found.append((probability, worth - price, None))
                return
            if receiver == agent:
                found.append((probability, -price, (agent, after, benches)))
                return
            paid = -price - float(p.carry_cost)
            found.append((probability * float(p.kept), paid, (receiver, after, benches)))
            for other in range(env.num_tools):
                changed = (receiver, after, _replace(benches, receiver, other))
                found.append((probability * (1 - float(p.kept)) / env.num_tools, paid, changed))

        idle = 1 - through - spoil
        ends(spoil, SPOILED)
        if layer + 1 == env.num_layers:
            ends(through, GOOD)
            ends(idle * float(p.interrupt), RAW)
        else:
            ends((through + idle) * float(p.interrupt), RAW)
            for new in range(env.num_tools):
                chance = through * (1 - float(p.interrupt)) * float(p.grain[part, new])
                found.append((chance, -price, (now, part, receiver, new, layer + 1)))
        found.append((idle * (1 - float(p.interrupt)), -price, (now, part, receiver, grain, layer)))
        return [outcome for outcome in found if outcome[0] > 0]

    def _code(self, status: tuple[int, ...]) -> int:
        return sum(digit * 3**place for place, digit in enumerate(status))


class _Triplets:
    """Entries of a sparse matrix, collected one by one; repeated ones add up."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.columns: list[int] = []
        self.entries: list[float] = []

    def add(self, row: int, column: int, entry: float) -> None:
        self.rows.append(row)
        self.columns.append(column)
        self.entries.append(entry)

    def matrix(self, rows: int, columns: int) -> sparse.csr_array:
        listed = sparse.coo_array((self.entries, (self.rows, self.columns)), shape=(rows, columns))
        return sparse.csr_array(listed)


def _replace(values: tuple[int, ...], place: int, new: int) -> tuple[int, ...]:
    return (*values[:place], new, *values[place + 1 :])

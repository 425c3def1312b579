"""The pipeline's desk: all states of a problem between planner, solvers, verifier and finalizer, and their laws.

No language model is run. From the published tables (``expert_routing.table``): accuracies, prices and tokens of the
models. The roles, and repair and harm as what a critic does to a draft, follow the planner-executor-critic pipelines of
arXiv 2510.07614. Ours: a plan is sound as often as its author would have solved the problem; a sound plan or a right
draft on the desk multiplies a solver's odds by ``lift``, a flawed plan or a wrong draft divides them; and the sizes of
repair and harm.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from icsmdp_jax.envs.expert_routing.table import KINDS, published, shares
from icsmdp_jax.envs.finite import one_hot
from icsmdp_jax.envs.listed import Listing

ROLES = ("planner", "solver A", "solver B", "verifier", "finalizer")
PLANNER, SOLVER_A, SOLVER_B, VERIFIER, FINALIZER = range(5)
SOLVERS = (SOLVER_A, SOLVER_B)
DESK = ("empty", "sound plan", "flawed plan", "right draft", "wrong draft")
EMPTY, SOUND, FLAWED, RIGHT, WRONG = range(5)
LEAD = np.array([0, 1, 2, 1, 2])  # what a solver is led by: nothing, something good, something bad
LOOKS = ("empty", "plan looks sound", "plan looks flawed", "draft looks right", "draft looks wrong")
NOBODY = -1
# Each role's options: whether it works first, and who is next. The finalizer's work is to submit.
MENUS: tuple[tuple[tuple[bool, int], ...], ...] = (
    ((True, SOLVER_A), (True, SOLVER_B), (False, SOLVER_A), (False, SOLVER_B)),
    ((True, VERIFIER), (True, FINALIZER), (False, SOLVER_B), (False, PLANNER)),
    ((True, VERIFIER), (True, FINALIZER), (False, SOLVER_A), (False, PLANNER)),
    ((True, FINALIZER), (False, FINALIZER), (False, SOLVER_A), (False, SOLVER_B)),
    ((True, NOBODY), (False, VERIFIER), (False, SOLVER_A), (False, SOLVER_B)),
)
OPTIONS = len(MENUS[0])
SUBMIT = 0


class Team(NamedTuple):
    """Numbers of the five agents.

    Attributes:
      kinds: ``[kinds]`` law of the kind of a problem.
      sound: ``[kinds]`` probability that a new plan is sound.
      right: ``[kinds, 3, 2]`` probability that a new draft is right, by ``LEAD`` and solver.
      repair: probability that the verifier makes a wrong draft right.
      harm: probability that it makes a right draft wrong.
      blur: ``[N]`` probability that a reading is drawn at random, for kind and for quality.
      blocks: ``[kinds, N]`` int, duration of each role's work.
      dollars: ``[kinds, N]`` dollars of that work.
    """

    kinds: np.ndarray
    sound: np.ndarray
    right: np.ndarray
    repair: float
    harm: float
    blur: np.ndarray
    blocks: np.ndarray
    dollars: np.ndarray


class Problems(NamedTuple):
    """All states, one row each, in the order of the environment's numbers; int arrays ``[S]``.

    Attributes:
      kind: hidden kind of the problem.
      desk: what lies on the desk, see ``DESK``; whether it is any good is hidden.
      agent: whose turn it is.
      kind_read: kind as this agent reads it: its private state, with ``looks``.
      looks: what lies on the desk as this agent reads it, see ``LOOKS``.
      left: blocks left, 1 or more.
    """

    kind: np.ndarray
    desk: np.ndarray
    agent: np.ndarray
    kind_read: np.ndarray
    looks: np.ndarray
    left: np.ndarray


def team(
    models: tuple[str, ...],
    mix: float | None,
    lift: float,
    repair: float,
    harm: float,
    noise: float,
    blur: tuple[float, ...],
    tokens_per_block: float,
    plan_share: float,
    verify_share: float,
    submit_tokens: float,
) -> Team:
    """The team's numbers from the published tables; arguments as in ``env.math_pipeline``."""
    accuracy, dollars, tokens = published(models)
    solvers = list(SOLVERS)
    odds = accuracy[:, solvers] / (1 - accuracy[:, solvers])
    odds = odds[:, None, :] * np.array([1.0, lift, 1 / lift])[:, None]
    share = np.array([plan_share, 1.0, 1.0, verify_share, 1.0])
    share_of_tokens = np.tile(share, (len(KINDS), 1))
    share_of_tokens[:, FINALIZER] = submit_tokens / tokens[:, FINALIZER]
    blocks = np.maximum(np.floor(tokens * share_of_tokens / tokens_per_block + 0.5), 1).astype(int)
    return Team(
        kinds=shares(mix),
        sound=accuracy[:, PLANNER],
        right=odds / (1 + odds),
        repair=repair,
        harm=harm,
        blur=noise * np.array(blur),
        blocks=blocks,
        dollars=dollars * share_of_tokens,
    )


def _sizes(budget: int) -> tuple[int, ...]:
    return (len(KINDS), len(DESK), len(ROLES), len(KINDS), len(LOOKS), budget)


@lru_cache(maxsize=8)
def problems(budget: int) -> Problems:
    """Lists the states, whatever the probabilities are.

    The planner comes first and finds nothing on the desk; verifier and finalizer get drafts only; readings are right
    about whether there is a plan or a draft, wrong at most about how good it is.
    """
    every = [axis.reshape(-1) for axis in np.indices(_sizes(budget))]
    rows = Problems(*every)
    rows = rows._replace(left=rows.left + 1)
    keep = stage(rows.desk) == stage(rows.looks)
    keep &= (rows.agent < VERIFIER) | (stage(rows.desk) == 2)
    keep &= (rows.left < budget) | ((rows.agent == PLANNER) & (rows.desk == EMPTY))
    return Problems(*(axis[keep] for axis in rows))


def stage(desk: np.ndarray) -> np.ndarray:
    """What everybody can see of the desk: 0 empty, 1 a plan, 2 a draft."""
    return (desk + 1) // 2


def number(rows: Problems, budget: int) -> np.ndarray:
    """Numbers of states given by their fields (any shape); -1 for those that cannot occur."""
    table = np.full(int(np.prod(_sizes(budget))), -1)
    known = problems(budget)
    table[np.ravel_multi_index((*known[:5], known.left - 1), _sizes(budget))] = np.arange(len(known.kind))
    known_agent = rows._replace(agent=np.maximum(rows.agent, 0))
    inside = np.ravel_multi_index((*known_agent[:5], np.maximum(rows.left - 1, 0)), _sizes(budget))
    return np.where((rows.left > 0) & (rows.agent != NOBODY), table[inside], -1)


def interfaces(rows: Problems, budget: int) -> np.ndarray:
    """``[S]`` number of what the agent sees: itself, kind and desk as it reads them, and the blocks left."""
    seen = (rows.agent, rows.kind_read, rows.looks, rows.left - 1)
    return np.ravel_multi_index(seen, (len(ROLES), len(KINDS), len(LOOKS), budget))


def readings(blur: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``([N, kinds, kinds], [N, desk, looks])`` laws of what an agent reads, given what is true."""
    part = blur[:, None, None]
    kind = (1 - part) * np.eye(len(KINDS)) + part / len(KINDS)
    alike = stage(np.arange(len(DESK)))
    block = (alike[:, None] == alike).astype(float)
    looks = (1 - part) * np.eye(len(DESK)) + part * block / block.sum(axis=1, keepdims=True)
    return kind, looks


def works(numbers: Team, budget: int) -> np.ndarray:
    """``[S, DESK]`` law of what lies on the desk after the agent's own work; as it was where there is none."""
    rows = problems(budget)
    law = np.eye(len(DESK))[rows.desk]
    chance = numbers.sound[rows.kind]
    at = rows.agent == PLANNER
    law[at] = 0.0
    law[at, SOUND], law[at, FLAWED] = chance[at], 1 - chance[at]
    for place, agent in enumerate(SOLVERS):
        at = rows.agent == agent
        chance = numbers.right[rows.kind, LEAD[rows.desk], place]
        law[at] = 0.0
        law[at, RIGHT], law[at, WRONG] = chance[at], 1 - chance[at]
    for before, good in ((RIGHT, 1 - numbers.harm), (WRONG, numbers.repair)):
        at = (rows.agent == VERIFIER) & (rows.desk == before)
        law[at] = 0.0
        law[at, RIGHT], law[at, WRONG] = good, 1 - good
    return law


def listing(numbers: Team, budget: int) -> Listing:
    """States, laws, durations and dollars of every problem under every option.

    Work that needs more blocks than are left is cut when they are used up. The agent that uses up the last block
    without submitting ends the episode with nothing.
    """
    rows = problems(budget)
    size = len(rows.kind)
    # Successors: what lies on the desk, how its kind is read, and which of the looks of its stage it has.
    after, kind_read, rank = (axis.reshape(-1) for axis in np.indices((len(DESK), len(KINDS), 2)))
    looks = np.where(after == EMPTY, EMPTY, 2 * stage(after) - 1 + rank)
    kept = (after != EMPTY) | (rank == 0)
    shape = (size, len(after))
    kind_law, look_law = readings(numbers.blur)
    need = numbers.blocks[rows.kind, rows.agent]
    done = np.minimum(need, rows.left)
    bill = numbers.dollars[rows.kind, rows.agent] * done / need
    worked = works(numbers, budget)
    successor = np.full((size, OPTIONS, len(after)), size + 1)
    probability = np.zeros((size, OPTIONS, len(after)))
    blocks, dollars = np.ones((size, OPTIONS)), np.zeros((size, OPTIONS))
    for option in range(OPTIONS):
        does, receiver = (np.array([menu[option][part] for menu in MENUS])[rows.agent] for part in (0, 1))
        tau = np.where(does, done, 1)
        desk = np.where(does[:, None], worked, np.eye(len(DESK))[rows.desk])
        seen = kind_law[receiver[:, None], rows.kind[:, None], kind_read] * look_law[receiver[:, None], after, looks]
        fields = (rows.kind[:, None], after, receiver[:, None], kind_read, looks, (rows.left - tau)[:, None])
        place = number(Problems(*(np.broadcast_to(field, shape) for field in fields)), budget)
        probability[:, option] = desk[:, after] * seen * kept
        successor[:, option] = np.where(place >= 0, place, size + 1)
        blocks[:, option], dollars[:, option] = tau, np.where(does, bill, 0.0)
    closes = rows.agent == FINALIZER
    probability[closes, SUBMIT] = np.eye(len(after))[0]
    delivered = (rows.desk == RIGHT) & (need <= rows.left)
    successor[closes, SUBMIT, 0] = np.where(delivered, size, size + 1)[closes]
    # A row has at most two desks, two readings of the kind and two of the quality: eight of the twenty places.
    order = np.argsort(probability <= 0, axis=2, kind="stable")[:, :, : 2 * len(KINDS) * 2]
    first = numbers.kinds[rows.kind] * kind_law[PLANNER][rows.kind, rows.kind_read]
    return Listing(
        agent=rows.agent,
        interface=interfaces(rows, budget),
        mask=np.ones((len(ROLES) * len(KINDS) * len(LOOKS) * budget + 1, OPTIONS), bool),
        successor=np.take_along_axis(successor, order, axis=2),
        probability=np.take_along_axis(probability, order, axis=2),
        blocks=blocks,
        dollars=dollars,
        start=first * (rows.left == budget),
        view=one_hot((*rows[:5], rows.left - 1), _sizes(budget)),
    )

"""One packet on the irregular 6x6 grid of Boyan & Littman (1993), as two model files (D1).

Agents are the 36 nodes, the artifact is the packet with its destination, an option hands the packet to a
neighbour, and the duration is the waiting and transit time at the node that hands it on. The links are those
of J. A. Boyan and M. L. Littman, "Packet routing in dynamically changing networks", NIPS 6; every other
number is a choice made here. Queues of many packets need a simulator; these files are the one-packet
problem, small enough to be solved exactly:

- ``routing_6x6_plain.npz``: a node sees all that matters, so the interface gap is 0;
- ``routing_6x6_hidden.npz``: one hidden bit says which bridge between the two halves is congested now.

Run ``python examples/routing_6x6.py --out examples/models`` to write both.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from icsmdp_jax.models.files import save_model
from icsmdp_jax.models.tabular import TabularModel

NUM_NODES = 36
# fmt: off
LINKS: tuple[tuple[int, int], ...] = (
    (0, 1), (0, 6), (1, 2), (2, 3), (3, 4), (4, 5), (5, 11), (6, 12), (7, 8), (7, 13),
    (8, 14), (9, 10), (9, 15), (10, 16), (11, 17), (12, 13), (12, 18), (13, 14), (13, 19), (14, 15),
    (14, 20), (15, 16), (15, 21), (16, 17), (16, 22), (17, 23), (18, 19), (18, 24), (19, 20), (19, 25),
    (20, 26), (21, 22), (21, 27), (22, 23), (22, 28), (23, 29), (24, 25), (24, 30), (25, 26), (25, 31),
    (26, 32), (27, 28), (27, 33), (28, 29), (28, 34), (29, 35), (30, 31), (31, 32), (33, 34), (34, 35),
)
# fmt: on
BRIDGES: tuple[tuple[int, int], tuple[int, int]] = ((2, 3), (14, 15))
NUM_SLOTS = 4

# Choices made here.
GAMMA = 0.9  # per time unit: a detour costs at least 0.42, ten hops away from the destination
SERVICE_TIMES = (1, 2, 3)  # equally likely: a narrow law, so that few visits separate two options
CONGESTION_DELAY = 6  # time units that crossing the congested bridge adds
FLIP_PROBABILITY = 0.05  # at every handoff: congestion lasts 20 handoffs on average
REWARD_RATE = -1.0  # per time unit, so that a value is minus the discounted time to delivery

Arrays = dict[str, np.ndarray]


def neighbours() -> list[list[int]]:
    """Neighbours of every node, ascending: option ``k`` at a node hands over to its ``k``-th neighbour."""
    out: list[list[int]] = [[] for _ in range(NUM_NODES)]
    for a, b in LINKS:
        out[a].append(b)
        out[b].append(a)
    return [sorted(row) for row in out]


def pair_index(node: int, destination: int) -> int:
    """Index of the interface (and, in the plain model, of the state) of a packet at ``node``."""
    return node * NUM_NODES + destination


def neighbour_table() -> tuple[np.ndarray, np.ndarray]:
    """``[nodes, slots]`` neighbour in each slot (0 where there is none), and which slots are in use."""
    table = np.zeros((NUM_NODES, NUM_SLOTS), np.int32)
    mask = np.zeros((NUM_NODES, NUM_SLOTS), bool)
    for node, row in enumerate(neighbours()):
        table[node, : len(row)] = row
        mask[node, : len(row)] = True
    return table, mask


def _service_law(delay: int, longest: int) -> np.ndarray:
    """``[T]`` pmf of the service time plus a fixed delay."""
    law = np.zeros(longest)
    law[[time + delay - 1 for time in SERVICE_TIMES]] = 1.0 / len(SERVICE_TIMES)
    return law


def build_plain(gamma: float = GAMMA) -> Arrays:
    """The plain model: ``S = Z = 1296`` (node, destination) pairs, one successor per option.

    Args:
      gamma: discount per time unit.

    Returns:
      The arrays of a model file in successor-list form, float64, int32 and bool.
    """
    table, mask = neighbour_table()
    node, destination = (grid.ravel() for grid in np.indices((NUM_NODES, NUM_NODES)))
    terminal = node == destination
    used = mask[node] & ~terminal[:, None]
    successor = np.where(used, table[node] * NUM_NODES + destination[:, None], 0)
    law = _service_law(0, max(SERVICE_TIMES))
    return {
        "successor": successor[:, :, None].astype(np.int32),
        "probability": used[:, :, None].astype(np.float64),
        "duration": used[:, :, None] * law,
        "reward_rate": np.where(used, REWARD_RATE, 0.0),
        "reward_noise": np.array(0.0),
        "agent": node.astype(np.int32),
        "interface": np.arange(NUM_NODES**2, dtype=np.int32),
        "gamma": np.array(gamma),
        "available": mask[node],
        "start": np.where(terminal, 0.0, 1.0 / (NUM_NODES * (NUM_NODES - 1))),
        "terminal": terminal,
    }


def build_hidden(delay: int = CONGESTION_DELAY, flip: float = FLIP_PROBABILITY, gamma: float = GAMMA) -> Arrays:
    """The same problem with a congested bridge that no node sees.

    State ``(bit, node, destination)`` has index ``bit * 1296 + pair_index(node, destination)``. The bit names
    the bridge that is congested now; it flips with probability ``flip`` at every handoff, and each packet
    starts under either value with probability 1/2. The duration of a crossing is drawn under the bit at its
    start.

    Args:
      delay: time units that crossing the congested bridge adds (0: the bit has no effect).
      flip: probability of a flip at each handoff.
      gamma: discount per time unit.

    Returns:
      The arrays of a model file in successor-list form: ``S = 2592``, ``Z = 1296``, two successors each.
    """
    plain = build_plain(gamma)
    pairs = NUM_NODES**2
    used = plain["probability"][:, :, 0] > 0
    longest = max(SERVICE_TIMES) + delay
    base, slow = _service_law(0, longest), _service_law(delay, longest)
    stay, move = plain["successor"], np.where(used[:, :, None], plain["successor"] + pairs, 0)
    both = np.concatenate([stay, move], axis=2)  # successors with bit 0, then bit 1
    node = np.arange(pairs) // NUM_NODES
    target = np.where(used, plain["successor"][:, :, 0] // NUM_NODES, -1)
    durations, probabilities = [], []
    for bit, (a, b) in enumerate(BRIDGES):
        crosses = ((node == a)[:, None] & (target == b)) | ((node == b)[:, None] & (target == a))
        durations.append(used[:, :, None] * np.where(crosses[:, :, None], slow, base))
        flips = (flip, 1.0 - flip) if bit else (1.0 - flip, flip)
        probabilities.append(used[:, :, None] * np.array(flips))
    twice = {name: np.concatenate([plain[name]] * 2) for name in ("reward_rate", "agent", "interface", "terminal")}
    return {
        "successor": np.concatenate([both, both]).astype(np.int32),
        "probability": np.concatenate(probabilities),
        "duration": np.concatenate(durations),
        "reward_noise": plain["reward_noise"],
        "gamma": plain["gamma"],
        "available": plain["available"],
        "start": np.concatenate([plain["start"]] * 2) / 2,
        **twice,
    }


def greedy_hops(q: np.ndarray) -> tuple[int, int]:
    """Follows the greedy route of a value table from every ordered pair of distinct nodes.

    Args:
      q: ``[1296, 4]`` values by (node, destination) pair and neighbour slot; larger is better. Slots that a
        node lacks are never taken, whatever they hold; a NaN counts as minus infinity.

    Returns:
      ``(total_hops, pairs_delivered)``: hops of the routes that arrive, and how many of the 1260 do. A route
      that has not arrived after 35 hops runs in a circle, because each choice depends on the place only.

    Raises:
      ValueError: if the table has another shape.
    """
    table, mask = neighbour_table()
    values = np.asarray(q, np.float64)
    if values.shape != (NUM_NODES**2, NUM_SLOTS):
        raise ValueError(f"q: expected shape [{NUM_NODES**2}, {NUM_SLOTS}], found {list(values.shape)}")
    values = np.where(np.repeat(mask, NUM_NODES, axis=0) & ~np.isnan(values), values, -np.inf)
    best = values.argmax(axis=1)
    node, destination = (grid.ravel() for grid in np.indices((NUM_NODES, NUM_NODES)))
    hops = np.zeros(NUM_NODES**2, int)
    for _ in range(NUM_NODES - 1):
        travelling = node != destination
        step = table[node, best[node * NUM_NODES + destination]]
        node = np.where(travelling, step, node)
        hops += travelling
    arrived = (node == destination) & (hops > 0)
    return int(hops[arrived].sum()), int(arrived.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models", help="folder of the model files")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, arrays in (("routing_6x6_plain", build_plain()), ("routing_6x6_hidden", build_hidden())):
        save_model(out / f"{name}.npz", TabularModel(**arrays))  # type: ignore[arg-type]
        print(f"wrote {out / name}.npz")


if __name__ == "__main__":
    main()

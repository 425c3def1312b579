"""One packet on its way through a busy network, as an IC-SMDP (D1, D2).

Agent = node, artifact = the packet, option = the neighbour to which it goes (its slot). The interface of a node is the
packet's destination and the node's own queue, the private state: how many packets are ahead, up to a cap. All other
packets are background traffic that follows a fixed table of next hops; ``background.py`` has recorded it.

An epoch is the arrival of the packet at a node. It waits for those ahead of it, then goes to the chosen neighbour, one
time unit away: ``tau`` is wait and transit together, and depends on the private state. Which packets are ahead at a
node is decided when the packet is sent there, as in the network itself, so the wait there is read at that time. At its
source a packet does not wait. The reward is -1 for each time unit; delivery is terminal; a packet that has not arrived
after ``limit`` time units is *truncated*.

One primitive step is one interval of the recording: a time unit, unless told otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.arguments import expect, flag, shown, whole
from icsmdp_jax.core.arrival import Ended, arrive, no_segment
from icsmdp_jax.core.environment import Environment, restart
from icsmdp_jax.core.handoff import EnvSpec, Handoff
from icsmdp_jax.core.sampling import split_word
from icsmdp_jax.core.words import in_short
from icsmdp_jax.envs.routing.background import LONGEST_WAIT, check_table, record_background
from icsmdp_jax.envs.routing.graph import (
    IRREGULAR_GRID_LINKS,
    Graph,
    graph_from_links,
    graph_from_networkx,
    irregular_grid,
    next_slots,
)


class RoutingState(NamedTuple):
    """State of one copy; all ``[]`` int32.

    Attributes:
      node: where the packet is.
      destination: where it is to go.
      row: row of the recording at which it arrived here.
      wait: intervals that it waits here.
      elapsed: intervals since its birth.
    """

    node: chex.Array
    destination: chex.Array
    row: chex.Array
    wait: chex.Array
    elapsed: chex.Array


class RoutingParams(NamedTuple):
    """Traced numbers; two loads on one graph have the same shapes.

    Attributes:
      neighbour: ``[N, D]`` int32.
      mask: ``[N, D]`` bool.
      next_slot: ``[N, N]`` int32, the table that the background follows, by node and destination.
      wait: ``[lanes * rows * N]`` uint8, the recording.
      discount: ``[longest + 1]`` float32, gamma to the power of ``tau``.
      reward: ``[longest + 1]`` float32, reward of a segment of ``tau`` intervals.
    """

    neighbour: chex.Array
    mask: chex.Array
    next_slot: chex.Array
    wait: chex.Array
    discount: chex.Array
    reward: chex.Array

    def __repr__(self) -> str:
        return in_short(self)


@dataclasses.dataclass(frozen=True)
class Routing(Environment[RoutingState, RoutingParams]):
    """The tagged packet; make one with ``routing``.

    Attributes:
      nodes: ``N``, the number of agents.
      degree: ``D``, the number of options.
      lanes: independent runs in the recording.
      rows: length of each, in intervals.
      per_unit: intervals in one time unit.
      cap: queue lengths from here on look alike.
      limit: intervals after which a packet is given up.
      as_vector: whether an interface is a vector, for networks, instead of a number.
      name: readable name.
    """

    nodes: int
    degree: int
    lanes: int
    rows: int
    per_unit: int
    cap: int
    limit: int
    as_vector: bool = False
    name: str = "routing"
    words_per_step: int = 2  # both for the restart: the time, and the two ends of the way

    @property
    def starts(self) -> int:
        """Rows of a run at which a packet may be born: it must be gone, or given up, before the run ends."""
        return self.rows - self.limit - self.longest - self.per_unit

    @property
    def longest(self) -> int:
        """Intervals of the longest segment."""
        return (LONGEST_WAIT + 1) * self.per_unit

    @property
    def spec(self) -> EnvSpec:
        """Static facts of this environment."""
        return EnvSpec(
            name=self.name,
            num_agents=self.nodes,
            num_options=self.degree,
            num_interfaces=0 if self.as_vector else self.nodes * self.nodes * (self.cap + 1),
            interface_shape=(self.nodes + 1,) if self.as_vector else (),
            interface_dtype=jnp.float32 if self.as_vector else jnp.int32,
            longest_duration=self.longest,
            exact_oracle=False,
        )

    def reset(self, key: chex.PRNGKey, params: RoutingParams) -> tuple[Handoff, RoutingState]:
        """A new packet between two different nodes, at any time of the recording."""
        return self._fresh(jax.random.bits(key, (self.words_per_step,), jnp.uint32), params)

    def step_env(
        self, key: chex.PRNGKey, state: RoutingState, option: chex.Array, params: RoutingParams
    ) -> tuple[Handoff, RoutingState]:
        """Sends the packet on; ``key`` is not used (D2).

        A slot without a neighbour (never available) keeps the packet at the node, at the end of its queue.
        """
        receiver = params.neighbour[state.node, option]
        tau = state.wait + self.per_unit
        leaving = state.row + state.wait
        wait = params.wait[leaving * self.nodes + receiver].astype(jnp.int32)
        terminated = receiver == state.destination
        elapsed = state.elapsed + tau
        truncated = (elapsed >= self.limit) & ~terminated
        after = RoutingState(
            node=receiver,
            destination=state.destination,
            row=leaving + self.per_unit,
            wait=jnp.where(terminated, 0, wait),
            elapsed=elapsed,
        )
        discount = jnp.where(terminated, jnp.float32(0), params.discount[tau])
        return self._handoff(after, params, Ended(params.reward[tau], tau, discount, terminated, truncated)), after

    def step_from_words(
        self, words: chex.Array, state: RoutingState, option: chex.Array, params: RoutingParams
    ) -> tuple[Handoff, RoutingState]:
        """``step`` without a key: ``words`` is ``[2]`` uint32, for the packet after this one."""
        handoff, entered = self.step_env(words, state, option, params)
        return restart(handoff, entered, *self._fresh(words, params))

    def queue(self, state: RoutingState) -> chex.Array:
        """``[]`` int32, packets ahead of this one at its node, at most ``cap``: each takes one time unit."""
        return jnp.minimum((state.wait + self.per_unit - 1) // self.per_unit, self.cap)

    def global_view(self, state: RoutingState, params: RoutingParams) -> chex.Array:
        """``[3 N + 1]`` float32: node and destination one-hot, own wait and the waits at all nodes in time units."""
        everyone = jnp.arange(self.nodes, dtype=jnp.int32)
        waits = params.wait[(state.row + state.wait) * self.nodes + everyone].astype(jnp.float32) / self.per_unit
        own = state.wait.astype(jnp.float32)[None] / self.per_unit
        ends = [(everyone == node).astype(jnp.float32) for node in (state.node, state.destination)]
        return jnp.concatenate([*ends, own, waits])

    def _fresh(self, words: chex.Array, params: RoutingParams) -> tuple[Handoff, RoutingState]:
        lane, rest = split_word(words[0], self.lanes)
        row = split_word(rest, self.starts)[0]
        source, rest = split_word(words[1], self.nodes)
        other = split_word(rest, self.nodes - 1)[0]
        state = RoutingState(
            node=source,
            destination=other + (other >= source).astype(jnp.int32),
            row=lane * self.rows + row,
            wait=jnp.int32(0),
            elapsed=jnp.int32(0),
        )
        return self._handoff(state, params, no_segment()), state

    def _handoff(self, state: RoutingState, params: RoutingParams, ended: Ended) -> Handoff:
        queue = self.queue(state)
        if self.as_vector:
            ahead = queue.astype(jnp.float32)[None] / self.cap
            one_hot = (jnp.arange(self.nodes, dtype=jnp.int32) == state.destination).astype(jnp.float32)
            interface = jnp.concatenate([one_hot, ahead])
        else:
            interface = (state.node * self.nodes + state.destination) * (self.cap + 1) + queue
        return arrive(state.node, interface, params.mask[state.node], ended)


def table_option(state: RoutingState, params: RoutingParams) -> chex.Array:
    """``[]`` int32, the option that the background's table takes: the shortest path, unless another table was given."""
    return params.next_slot[state.node, state.destination]


def as_graph(graph: Any) -> Graph:
    """A ``Graph`` from what a user may give: ``"6x6"``, a ``Graph``, links as pairs of numbers, or a networkx graph.

    Raises:
      ValueError: for another name, and as in ``graph.graph_from_links``.
    """
    if isinstance(graph, str):
        if graph != "6x6":
            raise ValueError(f"graph = {graph!r}: expected '6x6', links or a networkx graph")
        return irregular_grid()
    if isinstance(graph, Graph):
        return graph
    if hasattr(graph, "edges") and hasattr(graph, "nodes"):
        return graph_from_networkx(graph)
    if isinstance(graph, Iterable):
        return graph_from_links(graph)
    raise ValueError(f"graph = {graph!r}: expected '6x6', links or a networkx graph")


def routing(
    graph: Any = "6x6",
    load: float = 1.0,
    gamma: float = 0.99,
    next_hop: Sequence[Sequence[int]] | np.ndarray | None = None,
    cap: int = 4,
    limit: int = 100,
    per_unit: int = 1,
    lanes: int = 32,
    units: int = 512,
    seed: int = 0,
    as_vector: bool = False,
    name: str = "",
) -> tuple[Routing, RoutingParams]:
    """The environment ``routing`` and its parameters; the background is simulated and recorded here.

    Args:
      graph: ``"6x6"`` for the irregular grid, a ``Graph``, links as pairs of node numbers, or a networkx graph.
      load: packets per time unit in the background.
      gamma: discount of one time unit, in ``(0, 1)``; that of a primitive step is its root.
      next_hop: ``[N, N]`` next node by node and destination that the background follows; shortest paths if None.
      cap: queue lengths from here on look alike.
      limit: time units after which a packet is given up.
      per_unit: primitive steps in one time unit, 1, 2 or 4.
      lanes: independent runs of the background.
      units: length of each, in time units.
      seed: of the background.
      as_vector: whether interfaces are vectors.
      name: readable name; by default ``routing-6x6`` or ``routing``.

    Returns:
      ``(env, params)``.

    Raises:
      ValueError: for invalid graphs, tables and numbers, and loads that the table cannot carry.
    """
    network = as_graph(graph)
    expect("a positive number", load=load)
    expect("a number between 0 and 1", gamma=gamma)
    whole(1, cap=cap, limit=limit, lanes=lanes, per_unit=per_unit, units=units)
    whole(0, seed=seed)
    flag(as_vector=as_vector)
    if not isinstance(name, str):
        raise ValueError(f"name = {shown(name)}: expected a text")
    if per_unit not in (1, 2, 4):
        raise ValueError(f"per_unit = {per_unit}: expected 1, 2 or 4")
    env = Routing(
        network.num_nodes,
        network.max_degree,
        lanes,
        units * per_unit,
        per_unit,
        cap,
        limit * per_unit,
        as_vector,
        name or ("routing-6x6" if network.links == IRREGULAR_GRID_LINKS else "routing"),
    )
    if env.starts < 1:
        needed = limit + LONGEST_WAIT + 2
        raise ValueError(f"units = {units}: expected more than {needed} for limit = {limit}")
    slots = next_slots(network) if next_hop is None else check_table(network, np.asarray(next_hop))
    recording = record_background(network, load, slots, jax.random.key(seed), lanes, units, per_unit)
    tau = np.arange(env.longest + 1)
    step = float(gamma) ** (1 / per_unit)
    params = RoutingParams(
        neighbour=network.neighbour,
        mask=network.mask,
        next_slot=slots,
        wait=recording.wait.reshape(-1),
        discount=(step**tau).astype(np.float32),
        reward=(-(1 - step**tau) / (1 - step) / per_unit).astype(np.float32),
    )
    return env, jax.tree.map(jnp.asarray, params)

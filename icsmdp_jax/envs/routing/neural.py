"""IC-Q with a small network in every node instead of a table; a ``Policy`` like the others.

Each node has its own parameters, stacked over nodes. Its network reads the destination, one-hot; one hidden layer
feeds one output for each slot, clipped at 0, because times are not negative (L6). What passes between two nodes is the
same single number as in ``icq-queue``: the wait promised in the receiver's queue plus the least output of the receiver.
The queue is in view through this number alone, and exactly; it is not an input of the network.

A node learns online from every packet that it sends: ``absorb``, the update of the tables, says where the outputs
should go, with the same falling step, share and fading; the network follows along its gradient, by the right distance
to first order whatever the size of the weights. All of this is ours. Three things keep the network from filling up for
good (docs/environments.md has the numbers):

- The queue is not an input. In a full network it would be large for every destination, so that most of every step would
  go into weights that all destinations share.
- Outputs are in units of ``SCALE``. With times of hundreds of time units as they are, the gradient lies in the hidden
  layer, which all slots share.
- Hidden units have both signs, and few of them are active for one destination. What a step for one destination does to
  the others is then small, and 0 on average.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from icsmdp_jax.envs.routing.network import NetworkParams, NetworkSize, NetworkState, backlog, usable
from icsmdp_jax.envs.routing.policies import ICQ_QUEUE, Policy, Rates, absorb, least, offer

WIDTH = 768  # hidden units of one node
ACTIVE = 8  # of them active for one destination, at the start
THRESHOLD = 2.0  # of every hidden unit, on both sides
SCALE = 1000.0  # time units: an output of 1; the longest wait that the limit on packets allows
SMALL = 1e-12  # keeps ratios of squared lengths finite


class Nets(NamedTuple):
    """Parameters of all nodes, ``H`` hidden units.

    Attributes:
      hidden: ``[N, N, H]`` float32 weights of the one-hot destination.
      out: ``[N, D, H]`` float32 output weights.
      uses: ``[N, N, D]`` int32, how often the slot was taken for the destination.
    """

    hidden: chex.Array
    out: chex.Array
    uses: chex.Array


class Forward(NamedTuple):
    """One evaluation: ``hidden`` ``[H]`` float32 units and ``times`` ``[D]`` float32 estimates in time units."""

    hidden: chex.Array
    times: chex.Array


def init(key: chex.PRNGKey, size: NetworkSize) -> Nets:
    """Random hidden layers, outputs 0: like a table, a network starts from the most optimistic estimates."""
    drawn = jax.random.normal(key, (size.nodes, size.nodes, WIDTH), jnp.float32)
    threshold = jnp.sort(jnp.abs(drawn), axis=-1)[..., WIDTH - ACTIVE - 1]
    return Nets(
        hidden=THRESHOLD * drawn / threshold[..., None],
        out=jnp.zeros((size.nodes, size.degree, WIDTH), jnp.float32),
        uses=jnp.zeros((size.nodes, size.nodes, size.degree), jnp.int32),
    )


def evaluate(nets: Nets, node: chex.Array, destination: chex.Array) -> Forward:
    """One node's estimates for one destination.

    Args:
      nets: all nodes' parameters; only those of ``node`` are read.
      node: ``[]`` int32.
      destination: ``[]`` int32.
    """
    weights = nets.hidden[node, destination]
    hidden = weights - jnp.clip(weights, -THRESHOLD, THRESHOLD)
    return Forward(hidden, jnp.maximum(SCALE * jnp.sum(nets.out[node] * hidden, axis=1), 0))


def learn(nets: Nets, node: chex.Array, destination: chex.Array, now: Forward, move: chex.Array) -> Nets:
    """One step of one node along the gradient of its outputs, as long as ``move``.

    With ``J`` the Jacobian of the outputs, parameters change by ``J^T m / l``, where ``l = |J^T m|^2 / |m|^2``: to
    first order the outputs then advance by ``|m|`` in the direction of ``m``.

    Args:
      nets: all nodes' parameters; only those of ``node`` change.
      node: ``[]`` int32.
      destination: ``[]`` int32.
      now: what ``evaluate`` returned.
      move: ``[D]`` float32 time units; 0 changes nothing.
    """
    scaled = move / SCALE
    back = jnp.sum(scaled[:, None] * nets.out[node], axis=0) * (now.hidden != 0).astype(jnp.float32)
    length = jnp.sum(now.hidden**2) + jnp.sum(back**2) / (jnp.sum(scaled**2) + SMALL) + SMALL
    return nets._replace(
        hidden=nets.hidden.at[node, destination].add(back / length),
        out=nets.out.at[node].add(scaled[:, None] * (now.hidden / length)),
    )


def _route(
    nets: Nets, params: NetworkParams, state: NetworkState, rates: Rates, word: chex.Array
) -> tuple[chex.Array, Nets]:
    node, destination = state.packet.node, state.packet.destination
    now = evaluate(nets, node, destination)
    slot = least(now.times, usable(params, state, node), word)
    receiver = jnp.asarray(params.neighbour)[node, slot]
    wait = backlog(state, receiver)
    there = evaluate(nets, receiver, destination).times
    offered = offer(there, usable(params, state, receiver), wait, receiver == destination)
    uses = nets.uses[node, destination]
    wanted, used = absorb(now.times, uses, slot, jnp.float32(1), offered, rates)
    active = state.packet.active
    nets = learn(nets, node, destination, now, jnp.where(active, wanted - now.times, 0))
    return slot, nets._replace(uses=nets.uses.at[node, destination].set(jnp.where(active, used, uses)))


ICQ_NEURAL = Policy("icq-neural", ICQ_QUEUE.rates, init, _route)

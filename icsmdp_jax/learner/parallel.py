"""IC-Q with many parallel environments and networks: one set of parameters per agent, batches of handoffs (D9).

Fields of ``ParallelLearner`` are static; fields of ``Hyper`` are traced. So ``jax.vmap(learner.train, ...)`` over
seeds, step sizes, gaps, discounts or channels compiles once. In each update all environments run ``length`` handoffs
with the parameters as they are; then every receiver offers its one scalar for every handoff, and every agent moves its
own parameters by the mean over its own segments.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp

from icsmdp_jax.core.arguments import flag, one_of, whole
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import Handoff
from icsmdp_jax.learner import exploration, fits, rollout, targets, updates
from icsmdp_jax.learner.channel import new_history, transmit_rollout
from icsmdp_jax.learner.dispatch import by_slot, by_slot_weighed
from icsmdp_jax.learner.message import best_value
from icsmdp_jax.learner.networks import ValueClass, keep_fixed, num_slots
from icsmdp_jax.learner.parallel_state import Absorbed, Hyper, Metrics, State, measured
from icsmdp_jax.learner.rollout import Rows

__all__ = ["Absorbed", "Hyper", "Metrics", "ParallelLearner", "State"]

EXPLORE = ("behaviour", "epsilon-greedy", "boltzmann")
TARGETS = ("one-handoff", "n-handoff", "lambda", "peng", "watkins", "naive")
BOOTSTRAP = ("message", "own-turn", "own-turn-team", "nothing")


@dataclasses.dataclass(frozen=True)
class ParallelLearner:
    """Static configuration; see the module docstring.

    Attributes:
      env: the environment.
      values: the function class.
      optimiser: makes an optax transformation from a schedule, e.g. ``optax.adam``; None for tables, which then take
        plain steps of ``Hyper.step_size``.
      copies: ``B``, environments side by side.
      length: ``T``, handoffs of each environment between two updates.
      explore: ``"behaviour"``, ``"epsilon-greedy"`` or ``"boltzmann"``.
      target: one of ``TARGETS``; all but the first look along the ``T`` handoffs of each environment.
      bootstrap: ``"message"`` for IC-Q; the others are baselines: ``"own-turn"`` waits for the agent's own next turn,
        ``"own-turn-team"`` is also told all rewards, ``"nothing"`` learns immediate rewards.
      target_network: whether offers come from slowly moving parameters.
      double: whether the trained parameters choose the option that the target parameters value.
      federated_every: updates between two averages of all agents' parameters; 0 for none. A baseline.
      latest: largest lateness of any channel, in messages.
      roles: whether the gradient of every agent is kept apart for diagnostics, even where parameters are shared.
      graph: whether metrics count handoffs and durations from every agent to every other: two ``[N, N]`` arrays for
        each update.

    Raises:
      ValueError: for unknown words or meaningless combinations.
    """

    env: Environment
    values: ValueClass
    optimiser: updates.Optimiser | None = None
    copies: int = 64
    length: int = 8
    explore: str = "epsilon-greedy"
    target: str = "one-handoff"
    bootstrap: str = "message"
    target_network: bool = False
    double: bool = False
    federated_every: int = 0
    latest: int = 0
    roles: bool = False
    graph: bool = False

    def __post_init__(self) -> None:
        fits.check_parts(self.env, self.values)
        fits.check_factory(self.optimiser)
        whole(1, copies=self.copies, length=self.length)
        whole(0, federated_every=self.federated_every, latest=self.latest)
        for name, allowed in (("explore", EXPLORE), ("target", TARGETS), ("bootstrap", BOOTSTRAP)):
            one_of(allowed, **{name: getattr(self, name)})
        flag(target_network=self.target_network, double=self.double, roles=self.roles, graph=self.graph)
        if self.optimiser is None and self.values.name != "tabular":
            raise ValueError(f"optimiser = None: expected an optax optimiser for {self.values.name} values")
        if self.double and not self.target_network:
            raise ValueError("double = True: expected target_network = True, whose parameters value the option")
        if self.target != "one-handoff" and self.bootstrap != "message":
            raise ValueError(f"target = {self.target!r}: expected 'one-handoff' with bootstrap = {self.bootstrap!r}")
        if self.federated_every and self.values.name == "tabular":
            raise ValueError("federated_every > 0: expected parameters per agent, tables have one row per interface")
        if self.roles and self.values.name == "tabular":
            raise ValueError("roles = True: expected parameters per agent, tables have one row per interface")

    @property
    def act_words(self) -> int:
        """Random words that one choice consumes."""
        return 1 if self.explore != "epsilon-greedy" else exploration.WORDS

    def rule(self, hyper: Hyper) -> updates.SlotRule:
        """The update rule of every slot."""
        if self.optimiser is None:
            return updates.stochastic_approximation(hyper.step_size)
        return updates.from_optimiser(self.optimiser, hyper.step_size)

    def init(self, key: chex.PRNGKey, hyper: Hyper) -> State:
        """Initial parameters and the first decision of every environment.

        Raises:
          ValueError: in one line, for inputs that do not fit the learner.
        """
        fits.check_hyper(hyper, self.explore)
        fits.check_single(hyper)
        fits.check_values(self.env, self.values, hyper.data)
        key_params, key_env = jax.random.split(key)
        params = self.values.init(key_params, hyper.data)
        handoff, env_state = jax.vmap(self.env.reset, in_axes=(0, None))(
            jax.random.split(key_env, self.copies), hyper.env_params
        )
        waiting = None
        if self.bootstrap.startswith("own-turn"):
            waiting = jax.vmap(lambda now: rollout.no_pending(now, self.env.spec.num_agents))(handoff)
        return State(
            params=params,
            opt_state=jax.vmap(self.rule(hyper).init)(params),
            target_params=jax.tree.map(jnp.array, params) if self.target_network else None,
            env_state=env_state,
            handoff=handoff,
            waiting=waiting,
            since=jnp.zeros((num_slots(params),), jnp.float32) if self.federated_every else None,
            history=None if hyper.channel is None else new_history(self.copies, self.latest),
            updates=jnp.int32(0),
        )

    def table_of(self, params: Any, hyper: Hyper) -> chex.Array | None:
        """``[Z, O]`` values of all listed interfaces, each from its own agent's parameters.

        None where interfaces are not listed (``hyper.owner``), where there are more of them than rows in an update, or
        where values are a table already.
        """
        if not self._lists(hyper):
            return None
        owner = jnp.asarray(hyper.owner)
        return self._by_row(params, owner, jnp.arange(owner.shape[0], dtype=jnp.int32), hyper)

    def _lists(self, hyper: Hyper) -> bool:
        if hyper.owner is None or hyper.data is None or self.values.name == "tabular":
            return False
        return hyper.owner.shape[0] <= self.length * self.copies

    def values_at(
        self, params: Any, agent: chex.Array, interface: chex.Array, hyper: Hyper, table: chex.Array | None = None
    ) -> chex.Array:
        """``[R, O]`` values of ``R`` decisions, each from its own agent's parameters and interface.

        Args:
          params: parameters.
          agent: ``[R]`` int32.
          interface: ``[R]`` or ``[R, ...]``.
          hyper: traced inputs.
          table: ``table_of(params, hyper)``, if it is known already.
        """
        table = self.table_of(params, hyper) if table is None else table
        return self._by_row(params, agent, interface, hyper) if table is None else table[interface]

    def _by_row(self, params: Any, agent: chex.Array, interface: chex.Array, hyper: Hyper) -> chex.Array:
        slots = self.values.slot(agent, interface)
        views = jax.vmap(self.values.view, in_axes=(None, 0))(hyper.data, interface)
        return by_slot(self.values.apply, params, slots, views, num_slots(params))

    def act(
        self,
        words: chex.Array,
        params: Any,
        now: Handoff,
        update: chex.Array,
        hyper: Hyper,
        table: chex.Array | None = None,
    ) -> chex.Array:
        """Options of all active agents, each from its own interface and parameters only.

        Args:
          words: ``[B, act_words]`` uint32.
          params: parameters.
          now: decisions, leading axis B.
          update: ``[]`` int32, clock of the exploration schedule.
          hyper: traced inputs.
          table: ``table_of(params, hyper)``, if it is known already.

        Returns:
          ``[B]`` int32.
        """

        def explorer(word: chex.Array, interface: chex.Array, mask: chex.Array) -> chex.Array:
            if hyper.behaviour is None:
                return exploration.uniform_option(word, mask)
            return exploration.fixed_behaviour(word, interface, hyper.behaviour)

        if self.explore == "behaviour":
            return jax.vmap(explorer)(words[:, 0], now.interface, now.mask)
        if hyper.exploration is None:
            raise ValueError(f"hyper.exploration = None: expected a ramp for explore = {self.explore!r}")
        values = self.values_at(params, now.agent, now.interface, hyper, table)
        level = hyper.exploration.at(update)
        if self.explore == "boltzmann":
            return jax.vmap(exploration.boltzmann, in_axes=(0, 0, 0, None))(words[:, 0], values, now.mask, level)
        explore = exploration.unit(words[:, 1]) < level
        random = jax.vmap(explorer)(words[:, 0], now.interface, now.mask)
        return jnp.where(explore, random, jax.vmap(exploration.best_option)(values, now.mask))

    def greedy(self, params: Any, now: Handoff, hyper: Hyper) -> chex.Array:
        """``[]`` int32, the best option of one decision by the active agent's own values; nothing is explored."""
        values = self._by_row(params, now.agent[None], now.interface[None], hyper)[0]
        return exploration.best_option(values, now.mask)

    def collect(self, key: chex.PRNGKey, state: State, hyper: Hyper) -> tuple[State, Rows]:
        """``length`` handoffs in every environment, with the parameters as they are."""

        def turn(waiting: Any, now: Handoff, option: chex.Array, after: Handoff) -> tuple[Rows, Any]:
            if waiting is None:
                return rollout.segment(now, option, after), None
            return rollout.own_turn(waiting, now, option, after, team=self.bootstrap.endswith("team"))

        # Once, ahead of the loop: it does not change inside.
        table = None if self.explore == "behaviour" else self.table_of(state.params, hyper)
        (env_state, handoff, waiting), rows = rollout.collect(
            self.env,
            hyper.env_params,
            lambda words, now: self.act(words, state.params, now, state.updates, hyper, table),
            self.act_words,
            turn,
            key,
            (state.env_state, state.handoff, state.waiting),
            self.length,
        )
        return state._replace(env_state=env_state, handoff=handoff, waiting=waiting), rows

    def offers(self, state: State, rows: Rows, hyper: Hyper) -> chex.Array:
        """``[T, B]`` the one scalar that each receiver returns, from its own interface and its own parameters."""
        if self.bootstrap == "nothing":
            return jnp.zeros_like(rows.reward)
        count = self.length * self.copies
        at: Rows = jax.tree.map(lambda leaf: leaf.reshape(count, *leaf.shape[2:]), rows)
        where = (at.final_agent, at.final_interface, hyper)
        online = None if self.target_network and not self.double else self.values_at(state.params, *where)
        if not self.target_network:
            scalars = jax.vmap(best_value)(online, at.final_mask)
        else:
            slow = self.values_at(state.target_params, *where)
            if self.double:
                scalars = jax.vmap(targets.double_q_offer)(online, slow, at.final_mask)
            else:
                scalars = jax.vmap(best_value)(slow, at.final_mask)
        return scalars.reshape(self.length, self.copies)

    def targets_of(self, rows: Rows, scalars: chex.Array, own: chex.Array | None, hyper: Hyper) -> chex.Array:
        """``[T, B]`` targets of all rows from the scalars that crossed.

        Args:
          rows: ``[T, B]``.
          scalars: ``[T, B]`` what each receiver returned.
          own: ``[T, B, O]`` the agents' own values where they chose; None if ``target`` does not need them.
          hyper: traced inputs.
        """
        if self.bootstrap == "nothing":
            return rows.reward
        if self.target == "one-handoff":
            return targets.one_handoff(rows.reward, rows.discount, scalars)
        chain = (rows.reward, rows.discount, scalars)

        def over(function: Any, *more: chex.Array) -> chex.Array:
            return jax.vmap(function, in_axes=1, out_axes=1)(*chain, rows.truncated, *more)

        if self.target == "n-handoff":
            return over(lambda r, d, v, cut: targets.n_handoff(r, d, v, jnp.asarray(hyper.handoffs, jnp.int32), cut))
        weight = jnp.asarray(hyper.lambda_, jnp.float32)
        if self.target == "lambda":
            return over(lambda r, d, v, cut: targets.lambda_returns(r, d, v, weight, cut))
        if self.target == "peng":
            return over(lambda r, d, v, cut: targets.peng_q_lambda(r, d, v, weight, cut))
        assert own is not None
        if self.target == "naive":
            taken = jnp.take_along_axis(own, rows.option[..., None], axis=-1)[..., 0]
            return over(lambda r, d, v, cut, q: targets.naive_q_lambda(r, d, v, q, weight, cut), taken)
        best = jnp.argmax(jnp.where(rows.mask, own, -jnp.inf), axis=-1).astype(jnp.int32)
        greedy = jnp.concatenate([best == rows.option, jnp.ones((1, self.copies), bool)])
        return over(lambda r, d, v, cut, g: targets.watkins_q_lambda(r, d, v, weight, cut, g), greedy)

    def absorb(
        self, params: Any, opt_state: Any, rows: Rows, scalars: chex.Array, hyper: Hyper
    ) -> tuple[Any, Any, Absorbed]:
        """Every agent's step on its own parameters, from its own segments and one scalar for each of them.

        Nothing of ``rows`` that belongs to the receiver is read: not its interface, not its mask.

        Args:
          params: parameters stacked over slots.
          opt_state: the slots' optimiser states.
          rows: ``[T, B]``.
          scalars: ``[T, B]`` float32, one for each handoff.
          hyper: traced inputs.

        Returns:
          New parameters and optimiser states, and what went into the step.
        """
        count = self.length * self.copies
        flat: Rows = jax.tree.map(lambda leaf: leaf.reshape(count, *leaf.shape[2:]), rows)
        slots = self.values.slot(flat.agent, flat.interface)
        if self.target in ("naive", "watkins") or self.roles or self._lists(hyper):
            own, pull = jax.vjp(lambda p: self.values_at(p, flat.agent, flat.interface, hyper), params)
            target = self.targets_of(rows, scalars, own.reshape(self.length, self.copies, -1), hyper).reshape(count)
            weights = jax.vmap(updates.weights)(own, (target, flat.option, flat.valid))
            ascent, by_role = self._pulled(pull, params, flat, weights, hyper)
        else:  # targets do not depend on what the agents think themselves
            target, by_role = self.targets_of(rows, scalars, None, hyper).reshape(count), None
            views = jax.vmap(self.values.view, in_axes=(None, 0))(hyper.data, flat.interface)
            of_rows = (target, flat.option, flat.valid)
            where = (params, slots, views, num_slots(params))
            own, ascent = by_slot_weighed(self.values.apply, *where, updates.weights, of_rows)
        chosen = jax.nn.one_hot(flat.option, own.shape[1], dtype=jnp.float32) * flat.valid[:, None].astype(jnp.float32)
        error = jax.vmap(updates.error)(own, (target, flat.option, flat.valid))
        hits = jnp.zeros((num_slots(params), own.shape[1]), jnp.float32).at[slots].add(chosen)
        moved, opt_state = updates.update_slots(self.rule(hyper), params, opt_state, ascent, hits)
        return keep_fixed(self.values, moved, params), opt_state, Absorbed(flat, error, ascent, slots, hits, by_role)

    def _pulled(self, pull: Any, params: Any, flat: Rows, weights: chex.Array, hyper: Hyper) -> tuple[Any, Any]:
        """The gradients summed over each slot's rows, and the same for each agent if they are to be told apart."""
        agents = self.env.spec.num_agents
        if not self.roles or num_slots(params) == agents:
            (ascent,) = pull(weights)
            return ascent, ascent if self.roles else None
        copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], (agents, *leaf.shape[1:])), params)
        views = jax.vmap(self.values.view, in_axes=(None, 0))(hyper.data, flat.interface)
        _, pull_roles = jax.vjp(lambda p: by_slot(self.values.apply, p, flat.agent, views, agents), copies)
        (by_role,) = pull_roles(weights)
        return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0, keepdims=True), by_role), by_role

    def transmit(
        self, key: chex.PRNGKey, state: State, rows: Rows, offers: chex.Array, hyper: Hyper
    ) -> tuple[State, Rows, chex.Array]:
        """Sends the offers through the channel; rows whose message is lost are not learned from.

        Raises:
          ValueError: for longer targets, which use each message more than once, and for learners without messages.
        """
        if hyper.channel is None or state.history is None:
            return state, rows, offers
        if self.target != "one-handoff" or self.bootstrap != "message":
            raise ValueError(
                f"hyper.channel with target = {self.target!r} and bootstrap = {self.bootstrap!r}: expected "
                "'one-handoff' and 'message'"
            )
        received, delivered, history = transmit_rollout(
            key, offers, rows.final_agent, state.history, hyper.channel, rows.discount > 0
        )
        return state._replace(history=history), rows._replace(valid=rows.valid & delivered), received

    def update(self, key: chex.PRNGKey, state: State, rows: Rows, hyper: Hyper) -> tuple[State, Metrics]:
        """Offers, the channel, then ``absorb``.

        Args:
          key: source of the channel's randomness.
          state: the state.
          rows: ``[T, B]``.
          hyper: traced inputs.

        Returns:
          The new state and the metrics of the update.
        """
        state, rows, scalars = self.transmit(key, state, rows, self.offers(state, rows, hyper), hyper)
        params, opt_state, absorbed = self.absorb(state.params, state.opt_state, rows, scalars, hyper)
        new = state._replace(params=params, opt_state=opt_state, updates=state.updates + 1)
        new = self._federated(new, absorbed.hits)
        if self.target_network:
            rate = jnp.asarray(hyper.target_rate, jnp.float32)
            new = new._replace(
                target_params=jax.tree.map(lambda slow, p: slow + rate * (p - slow), state.target_params, new.params)
            )
        return new, measured(absorbed, self.env.spec.num_agents, self.graph)

    def _federated(self, state: State, hits: chex.Array) -> State:
        """Averages the agents' parameters, weighted by their rows since the last time."""
        if state.since is None:
            return state
        since = state.since + jnp.sum(hits, axis=1)
        now = (state.updates % self.federated_every == 0) & (jnp.sum(since) > 0)
        weight = since / jnp.maximum(jnp.sum(since), 1.0)

        def average(leaf: chex.Array) -> chex.Array:
            mean = jnp.tensordot(weight, leaf, axes=1)
            return jnp.where(now, jnp.broadcast_to(mean, leaf.shape), leaf)

        params = keep_fixed(self.values, jax.tree.map(average, state.params), state.params)
        return state._replace(params=params, since=jnp.where(now, 0.0, since))

    def run(self, key: chex.PRNGKey, state: State, hyper: Hyper, count: int) -> tuple[State, Metrics]:
        """``count`` updates, with random words from ``fold_in(key, update)``; metrics have a leading axis ``count``."""

        def body(current: State, _: None) -> tuple[State, Metrics]:
            key_act, key_send = jax.random.split(jax.random.fold_in(key, current.updates))
            current, rows = self.collect(key_act, current, hyper)
            return self.update(key_send, current, rows, hyper)

        return jax.lax.scan(body, state, None, length=count)

    def train(self, key: chex.PRNGKey, hyper: Hyper, count: int) -> tuple[State, Metrics]:
        """``init`` and ``run`` with the two halves of the split key: pure, to be jitted, mapped over ``hyper`` too."""
        key_init, key_run = jax.random.split(key)
        return self.run(key_run, self.init(key_init, hyper), hyper, count)

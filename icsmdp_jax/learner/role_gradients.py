"""Policy gradients for teams of roles: one set of parameters for all roles, one for each role, or one for each agent.

Every agent draws its option from a softmax over values of its interface. After a batch of episodes each decision is
reinforced by its episode's return, discounted from the prompt and compared with a baseline. Unlike IC-Q, this
sends the return, not a message, across the boundaries. What is measured along the way is whose gradients move the
parameters: norm, mass and cosines of the roles' gradients, and how agents of one role add up.

Two interventions act on roles: an anchor, which adds ``-weight KL(pi || pi_start)`` to the role's objective at the
interfaces it visits, and damping, which multiplies the role's gradient g by ``1 - damping max(0, cos(g, m))``, where m
is the moving average of the role's gradients so far.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from icsmdp_jax.core.dtypes import default_dtypes, float32_products
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import Handoff
from icsmdp_jax.core.sampling import random_words
from icsmdp_jax.learner.diagnostics import cosine_matrix, flat_gradients, gradient_mass, gradient_norm
from icsmdp_jax.learner.exploration import boltzmann
from icsmdp_jax.learner.networks import ValueClass
from icsmdp_jax.learner.role_state import Episodes, History, Inputs, Metrics, State

BASELINES = ("group", "running", "none")
PLAIN = optax.identity()  # one object, so that equal trainers share a compilation


@dataclasses.dataclass(frozen=True)
class RoleTrainer:
    """Policy gradient on batches of episodes; static, part of the compiled program's key.

    Attributes:
      env: the environment; its interfaces are numbers.
      values: class of the policies' logits, with a slot for each agent; which of them are used is traced.
      role_of_agent: role of each agent, for what is measured and for interventions.
      longest: largest number of decisions of an episode; longer ones are cut.
      prompts: different prompts in a batch.
      samples: episodes of each prompt.
      baseline: ``"group"`` (mean return of the same prompt in the batch), ``"running"`` (moving average) or ``"none"``.
      optimiser: transformation of the gradient, before the learning rate.
    """

    env: Environment
    values: ValueClass
    role_of_agent: tuple[int, ...]
    longest: int
    prompts: int = 8
    samples: int = 8
    baseline: str = "group"
    optimiser: optax.GradientTransformation = PLAIN

    def __post_init__(self) -> None:
        agents = self.env.spec.num_agents
        numbers = self.role_of_agent
        if len(numbers) != agents or sorted(set(numbers)) != list(range(len(set(numbers)))):
            raise ValueError(f"role_of_agent = {numbers}: expected {agents} numbers, counted from 0 without gaps")
        if self.baseline not in BASELINES:
            raise ValueError(f"baseline = {self.baseline!r}: expected one of {', '.join(BASELINES)}")
        for name in ("longest", "prompts", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: expected 1 or more")
        if self.samples == 1 and self.baseline == "group":
            raise ValueError("samples = 1: expected 2 or more, or there is nothing to compare an episode with")

    @property
    def num_roles(self) -> int:
        """``R``."""
        return max(self.role_of_agent) + 1

    def init(self, key: chex.PRNGKey, inputs: Inputs) -> State:
        """The state before the first update."""
        params = self.values.init(key, inputs.data)
        size = flat_gradients(params).shape[1]
        roles = self.num_roles
        with default_dtypes():
            optimiser = self.optimiser.init(params)
        return State(
            params=params,
            start=params,
            optimiser=optimiser,
            average=jnp.zeros((roles, size), jnp.float32),
            expected=jnp.zeros((roles,), jnp.float32),
            count=jnp.int32(0),
        )

    def log_policy(self, params: Any, inputs: Inputs) -> chex.Array:
        """``[Z, O]`` float32 log-probabilities at every interface; minus infinity at options that are not available."""
        group = inputs.group_of_agent[jnp.maximum(inputs.interface_agent, 0)]

        def logits(interface: chex.Array, group: chex.Array) -> chex.Array:
            own = jax.tree.map(lambda leaf: leaf[group], params)
            return self.values.apply(own, self.values.view(inputs.data, interface))

        numbers = jnp.arange(inputs.data.shape[0], dtype=jnp.int32)
        table = jax.vmap(logits)(numbers, group)
        return jax.nn.log_softmax(jnp.where(inputs.mask, table, -jnp.inf))

    def policy(self, params: Any, inputs: Inputs) -> chex.Array:
        """``[Z, O]`` float32 probabilities at every interface, as exact evaluation takes them."""
        return jnp.exp(self.log_policy(params, inputs))

    def collect(self, key: chex.PRNGKey, params: Any, inputs: Inputs) -> Episodes:
        """``prompts * samples`` episodes; the first ``samples`` have the first prompt, and so on."""
        key_reset, key_words = jax.random.split(key)
        first = jax.vmap(self.env.reset, (0, None))(jax.random.split(key_reset, self.prompts), inputs.env_params)
        handoff, state = jax.tree.map(lambda leaf: jnp.repeat(leaf, self.samples, axis=0), first)
        width, batch = self.env.words_per_step + 1, self.prompts * self.samples
        words = random_words(key_words, self.longest * batch, width).reshape(self.longest, batch, width)

        logs = self.log_policy(params, inputs)

        def one(words: chex.Array, now: Handoff, state: Any) -> tuple[chex.Array, Handoff, Any]:
            option = boltzmann(words[-1], logs[now.interface], now.mask, jnp.float32(1))
            return option, *self.env.step_from_words(words[:-1], state, option, inputs.env_params)

        def body(carry: Any, words: chex.Array) -> tuple[Any, Episodes]:
            now, state, weight, active = carry
            option, after, state = jax.vmap(one)(words, now, state)
            row = Episodes(now.agent, now.interface, option, after.reward, weight, active)
            going = active & ~(after.terminated | after.truncated)
            return (after, state, weight * after.discount, going), row

        alive = jnp.ones((batch,), bool)
        return jax.lax.scan(body, (handoff, state, jnp.ones((batch,), jnp.float32), alive), words)[1]

    def returns(self, episodes: Episodes, own_credit: chex.Array) -> chex.Array:
        """``[R, B]`` float32 return that each role is reinforced by, discounted from the prompt on."""
        paid = self._paid(episodes)
        own = (self._of_role(episodes.agent).astype(jnp.float32) * paid).sum(axis=1)
        return jnp.where(own_credit, own, paid.sum(axis=0))

    def _paid(self, episodes: Episodes) -> chex.Array:
        """``[T, B]`` float32 what each decision adds to the return."""
        return episodes.active.astype(jnp.float32) * episodes.weight * episodes.reward

    def _of_role(self, agent: chex.Array) -> chex.Array:
        """``[R, ...]`` bool."""
        role = jnp.asarray(self.role_of_agent, jnp.int32)[agent]
        return role == jnp.arange(self.num_roles, dtype=jnp.int32).reshape(-1, *(1,) * agent.ndim)

    def advantages(self, returns: chex.Array, expected: chex.Array, scaled: chex.Array) -> chex.Array:
        """``[R, B]`` returns less the baseline, scaled if asked for.

        Args:
          returns: ``[R, B]``.
          expected: ``[R]`` running baselines.
          scaled: ``[]`` bool, see ``Inputs``.
        """
        groups = returns.reshape(len(returns), self.prompts, self.samples)
        mean = groups.mean(axis=2, keepdims=True)
        if self.baseline == "group":
            away = groups - mean
        else:
            away = groups - (expected[:, None, None] if self.baseline == "running" else 0.0)
        spread = jnp.sqrt(jnp.mean((groups - mean) ** 2, axis=2, keepdims=True))
        in_units = jnp.where(spread > 1e-6, away / jnp.maximum(spread, 1e-6), 0.0)
        return jnp.where(scaled, in_units, away).reshape(returns.shape)

    def gains(self, episodes: Episodes, advantages: chex.Array, interfaces: int, share: Any = None) -> chex.Array:
        """``[Z, O]`` float32 what the batch says for each option at each interface: sum of advantages over episodes.

        Args:
          episodes: the batch.
          advantages: ``[R, B]``.
          interfaces: ``Z``.
          share: ``[B]`` weights of the episodes that sum to 1; equal ones if None.
        """
        count = episodes.agent.shape[1]
        share = jnp.full((count,), 1 / count, jnp.float32) if share is None else share
        gain = jnp.where(self._of_role(episodes.agent), advantages[:, None, :], 0.0).sum(axis=0) * share
        gain = jnp.where(episodes.active, gain, 0.0)
        empty = jnp.zeros((interfaces, self.env.spec.num_options), jnp.float32)
        return empty.at[episodes.interface, episodes.option].add(gain)

    def gradients(self, params: Any, gains: chex.Array, inputs: Inputs) -> Any:
        """Each agent's part of the gradient: leaves ``[N, G, ...]``.

        The gradient is that of ``sum gains(z, o) log pi(o | z)``, the gains held fixed. An interface has one owner, so
        that an agent's part is what the rows of its own interfaces contribute.

        Args:
          params: parameters of the policies.
          gains: ``[Z, O]``.
          inputs: traced inputs.
        """
        owner = inputs.interface_agent == jnp.arange(len(self.role_of_agent), dtype=jnp.int32)[:, None]  # [N, Z]
        logs, back = jax.vjp(lambda p: self.log_policy(p, inputs), params)
        # where an option is not available its logarithm is minus infinity, and nothing may flow through it
        pulls = jnp.where(owner[..., None] & inputs.mask, gains, 0.0).astype(logs.dtype)
        return jax.vmap(lambda pull: back(pull)[0])(pulls)

    @float32_products()
    def update(self, key: chex.PRNGKey, state: State, inputs: Inputs) -> tuple[State, Metrics]:
        """One batch, one step."""
        episodes = self.collect(key, state.params, inputs)
        returns = self.returns(episodes, inputs.own_credit)
        gains = self.gains(episodes, self.advantages(returns, state.expected, inputs.scaled), len(inputs.mask))
        parts = self.gradients(state.params, gains, inputs)
        agents = flat_gradients(jax.tree.map(lambda leaf: leaf.sum(axis=1), parts))  # an agent uses one group only
        role_of_agent = jnp.asarray(self.role_of_agent, jnp.int32)
        roles = jnp.zeros_like(state.average).at[role_of_agent].add(agents)
        factor = 1 - inputs.damping * jnp.maximum(_cosine(roles, state.average), 0.0)
        ascent = jax.tree.map(lambda leaf: jnp.tensordot(factor[role_of_agent], leaf, 1), parts)
        pull, entropy = self._anchored(state, episodes, inputs)
        ascent = jax.tree.map(jnp.subtract, ascent, pull)
        with default_dtypes():
            step, optimiser = self.optimiser.update(ascent, state.optimiser, state.params)
        step = jax.tree.map(lambda leaf: inputs.learning_rate * leaf, step)
        mean = returns.mean(axis=1)
        memory = jnp.where(state.count > 0, inputs.memory, 0.0)
        moved = State(
            params=optax.apply_updates(state.params, step),
            start=state.start,
            optimiser=optimiser,
            average=inputs.memory * state.average + (1 - inputs.memory) * roles,
            expected=memory * state.expected + (1 - memory) * mean,
            count=state.count + 1,
        )
        visits = (self._of_role(episodes.agent) & episodes.active).sum(axis=(1, 2), dtype=jnp.int32).astype(jnp.float32)
        total = self._paid(episodes).sum(axis=0).mean()
        aligned = self._alignment(agents, flat_gradients(step), inputs.group_of_agent)
        return moved, self._measured(total, visits, agents, roles, aligned, factor, entropy)

    def _anchored(self, state: State, episodes: Episodes, inputs: Inputs) -> tuple[Any, chex.Array]:
        """Gradient of the weighted divergences from the first policies, and ``[R]`` mean entropies."""
        seen = jnp.zeros(len(inputs.mask), jnp.float32).at[episodes.interface].add(episodes.active.astype(jnp.float32))
        of_role = seen * self._of_role(inputs.interface_agent).astype(jnp.float32)  # [R, Z]
        weight = inputs.anchor @ of_role / episodes.agent.shape[1]
        first = jnp.where(inputs.mask, self.log_policy(state.start, inputs), 0.0)

        def divergence(params: Any) -> tuple[chex.Array, chex.Array]:
            now = jnp.where(inputs.mask, self.log_policy(params, inputs), 0.0)
            chance = jnp.where(inputs.mask, jnp.exp(now), 0.0)
            return weight @ (chance * (now - first)).sum(axis=-1), -(chance * now).sum(axis=-1)

        pull, entropy = jax.grad(divergence, has_aux=True)(state.params)
        counts = of_role.sum(axis=1)
        return pull, jnp.where(counts > 0, of_role @ entropy / jnp.maximum(counts, 1.0), jnp.nan)

    def _alignment(self, agents: chex.Array, step: chex.Array, group: chex.Array) -> chex.Array:
        """``[R]`` cosines between each role's gradient and the step, in the parameters that the role uses."""
        role = jnp.asarray(self.role_of_agent, jnp.int32)
        count = len(self.role_of_agent)
        gradient = jnp.zeros((self.num_roles, count, agents.shape[1]), jnp.float32).at[role, group].add(agents)
        uses = jnp.zeros((self.num_roles, count), jnp.float32).at[role, group].set(1.0)
        taken = uses[..., None] * step
        gradient, taken = gradient.reshape(self.num_roles, -1), taken.reshape(self.num_roles, -1)
        some = (gradient_norm(gradient) > 0) & (gradient_norm(taken) > 0)
        return jnp.where(some, _cosine(gradient, taken), jnp.nan)

    def _measured(
        self,
        total: chex.Array,
        visits: chex.Array,
        agents: chex.Array,
        roles: chex.Array,
        aligned: chex.Array,
        factor: chex.Array,
        entropy: chex.Array,
    ) -> Metrics:
        norm, each = gradient_norm(roles), gradient_norm(agents)
        members = np.eye(self.num_roles, dtype=np.float32)[list(self.role_of_agent)]  # [N, R]
        mean = each @ (members / members.sum(axis=0))
        several = (members.sum(axis=0) > 1) & (mean > 0)
        return Metrics(
            value=total,
            visits=visits,
            norm=norm,
            mass=gradient_mass(norm, visits),
            cosine=cosine_matrix(roles),
            amplification=jnp.where(several, norm / jnp.where(mean > 0, mean, 1.0), jnp.nan),
            alignment=aligned,
            factor=factor,
            entropy=entropy,
        )

    def run(self, key: chex.PRNGKey, inputs: Inputs, points: int, between: int) -> History:
        """``points * between`` updates from a fresh start.

        Args:
          key: of everything random.
          inputs: traced inputs.
          points: how often policy and measurements are recorded.
          between: updates between two points.
        """
        key_init, key_run = jax.random.split(key)
        state = self.init(key_init, inputs)

        def stretch(state: State, keys: chex.Array) -> tuple[State, tuple[chex.Array, Metrics]]:
            state, metrics = jax.lax.scan(lambda s, k: self.update(k, s, inputs), state, keys)
            return state, (self.policy(state.params, inputs), jax.tree.map(lambda leaf: jnp.nanmean(leaf, 0), metrics))

        keys = jax.random.split(key_run, (points, between))
        _, (policies, metrics) = jax.lax.scan(stretch, state, keys)
        first = self.policy(state.params, inputs)
        return History(jnp.concatenate([first[None], policies]), metrics)


def _cosine(rows: chex.Array, others: chex.Array) -> chex.Array:
    """``[R]`` cosines between rows of two ``[R, P]`` arrays; 0 where one of the two is zero."""
    size = gradient_norm(rows) * gradient_norm(others)
    return jnp.where(size > 0, (rows * others).sum(axis=1) / jnp.where(size > 0, size, 1.0), 0.0)


def groups_of(sharing: str, role_of_agent: tuple[int, ...]) -> tuple[int, ...]:
    """Set of parameters of each agent.

    Args:
      sharing: ``"shared"`` (one set for all), ``"isolated"`` (one for each role) or ``"single"`` (one for each agent).
      role_of_agent: role of each agent.

    Raises:
      ValueError: for another word.
    """
    if sharing == "shared":
        return (0,) * len(role_of_agent)
    if sharing == "isolated":
        return role_of_agent
    if sharing == "single":
        return tuple(range(len(role_of_agent)))
    raise ValueError(f"sharing = {sharing!r}: expected 'shared', 'isolated' or 'single'")


def with_role_code(features: np.ndarray, interface_agent: np.ndarray, role_of_agent: tuple[int, ...]) -> np.ndarray:
    """``[Z, D + R]`` float32: features with a one-hot code of the role; no code where no agent decides."""
    code = np.eye(max(role_of_agent) + 1)[np.asarray(role_of_agent)[np.maximum(interface_agent, 0)]]
    return np.column_stack([features, code * (np.asarray(interface_agent) >= 0)[:, None]]).astype(np.float32)

"""Who sees what, and where handoffs lead: the state space and the kernels of planted models (D11).

The artifact is a tuple of named fields. Agent ``i`` sees the fields of its view and its own private state;
the fields outside its view are its hidden part. A private state is redrawn whenever its agent is activated,
so only the active agent's matters: the process seen at handoffs has the same law as if all ``N`` were carried
along. States are numbered ``((i * P) + private) * A + artifact`` and the interfaces of an agent are
contiguous.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from icsmdp_jax.core.arguments import expect, listed, one_of, shown, whole
from icsmdp_jax.models import durations

LEAST = {  # of the knobs that are whole numbers
    "num_agents": 2, "private_states": 1, "num_options": 1, "successors": 2, "longest_duration": 1,
    "interface_dim": 3, "planted_atoms": 1, "seed": 0,
}  # fmt: skip
NUMBERS = {  # kind of the others, a key of ``core.arguments.KINDS``
    "gamma": "a number in [0, 1)", "duration_mean": "1 or more", "duration_spread": "a number in [0, 1)",
    "hidden_duration": "a number in [0, 1)", "gap": "0 or more", "kernel_gap": "0 or more",
    "reward_gap": "a finite number", "hidden_flip": "a number in (0, 1]", "reward_noise": "0 or more",
    "planted_scale": "a finite number", "option_margin": "a finite number", "odd_weight": "a finite number",
    "even_weight": "a finite number",
}  # fmt: skip
SPREAD_LEVELS = 9  # distinct mean durations per hidden pattern, so that few laws have to be fitted


@dataclasses.dataclass(frozen=True)
class PlantedConfig:
    """Knobs of a planted model (D11). Each error source has its own; the seed fixes everything else.

    Attributes:
      num_agents: ``N``, 2 or more.
      fields: names and sizes of the artifact's fields.
      views: fields that each agent sees; None: no agent sees the last field, and with three fields or more
        agent ``i`` does not see field ``i mod (F - 1)`` either.
      private_states: values of an agent's private state.
      num_options: ``O``.
      successors: ``W``, interfaces that can follow each (interface, option).
      gamma: discount per primitive step.
      duration_law: a key of ``durations.LAWS``.
      duration_mean: mean duration in primitive steps.
      longest_duration: ``T``.
      duration_spread: largest relative deviation of the mean over (interface, option), in ``[0, 1)``.
      hidden_duration: relative dependence of the mean on the hidden part, in ``[0, 1)``.
      gap: ``eta >= 0``, the interface gap's knob; at 0 the gap is 0 unless ``hidden_duration`` opens it.
      kernel_gap: share ``min(1, eta * kernel_gap)`` of the kernel that sees the whole state.
      reward_gap: scale of the reward's hidden part ``xi``.
      hidden_flip: probability in ``(0, 1]`` that a field outside the next agent's view is redrawn at a
        handoff; small values make the chain mix slowly.
      reward_noise: half-width of the uniform noise on the segment reward.
      interface_dim: dimension of the unit vectors ``x(z)``, 3 or more.
      planted_atoms: ``M``.
      planted_scale: scale of the planted solution, whose values are about ``planted_scale``.
      option_margin: lead of the best option, in units of ``planted_scale``.
      odd_weight: weight of the coefficients' odd part ``sign(u . w)``.
      even_weight: weight of their even part ``sign(v . w) sign(v' . w)``.
      behaviour: ``"uniform"``, or ``"random"``: weights drawn from [1/2, 1] and normalised.
      seed: seed of the structure; the knobs above never change what it draws.
    """

    num_agents: int = 10
    fields: tuple[tuple[str, int], ...] = (("topic", 2), ("stage", 2), ("risk", 2))
    views: tuple[tuple[str, ...], ...] | None = None
    private_states: int = 2
    num_options: int = 2
    successors: int = 6
    gamma: float = 0.9
    duration_law: str = "geometric"
    duration_mean: float = 8.0
    longest_duration: int = 64
    duration_spread: float = 0.2
    hidden_duration: float = 0.0
    gap: float = 0.0
    kernel_gap: float = 1.0
    reward_gap: float = 1.0
    hidden_flip: float = 0.5
    reward_noise: float = 0.1
    interface_dim: int = 6
    planted_atoms: int = 4096
    planted_scale: float = 1.0
    option_margin: float = 0.5
    odd_weight: float = 1.0
    even_weight: float = 0.5
    behaviour: str = "uniform"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            whole(least, **{name: getattr(self, name)})
        for name, kind in NUMBERS.items():
            expect(kind, **{name: getattr(self, name)})
        one_of(sorted(durations.LAWS), duration_law=self.duration_law)
        one_of(("uniform", "random"), behaviour=self.behaviour)
        expected = "distinct names with sizes of 1 or more, such as (('topic', 2), ('risk', 2))"
        pairs = [listed("fields", pair, expected) for pair in listed("fields", self.fields, expected)]
        names = [pair[0] for pair in pairs if len(pair) == 2 and isinstance(pair[0], str)]
        if not names or len(set(names)) != len(pairs):
            raise ValueError(f"fields = {shown(self.fields)}: expected {expected}")
        whole(1, **{f"fields[{name!r}]": size for name, size in pairs})
        if self.views is not None:
            views = listed("views", self.views, "a tuple of names for each agent")
            if len(views) != self.num_agents:
                raise ValueError(f"views: expected {self.num_agents}, one per agent, found {len(views)}")
            for agent, view in enumerate(views):
                if not set(listed(f"views[{agent}]", view, "a tuple of names")) <= set(names):
                    raise ValueError(f"views[{agent}] = {shown(view)}: expected names among {names}")

    @classmethod
    def small(cls, **changes: object) -> PlantedConfig:
        """Ten agents with 40 interfaces and 160 states in all: for the gap, samples and mixing axes."""
        return dataclasses.replace(cls(), **changes)  # type: ignore[arg-type]

    @classmethod
    def wide(cls, **changes: object) -> PlantedConfig:
        """Ten agents with 128 interfaces each, 2560 states in all: for the width axis."""
        agents = int(changes.get("num_agents", cls.num_agents))  # type: ignore[call-overload]
        base = cls(
            num_agents=agents,
            fields=(("topic", 8), ("stage", 4), ("risk", 2)),
            views=(("topic", "stage"),) * agents,
            private_states=4,
            interface_dim=8,
        )
        return dataclasses.replace(base, **changes)  # type: ignore[arg-type]

    @classmethod
    def far_sighted(cls, **changes: object) -> PlantedConfig:
        """Ten agents with 40 interfaces and 160 states, where the best option is rarely the one that pays at once.

        Short options and few successors let values of other agents decide: for comparing what learners are told.
        """
        base = cls(
            gamma=0.97, duration_mean=3.0, successors=2, num_options=4, option_margin=0.3, odd_weight=2.0
        )  # fmt: skip
        return dataclasses.replace(base, **changes)  # type: ignore[arg-type]

    def replace(self, **changes: object) -> PlantedConfig:
        """A copy with some knobs changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def stream(self, purpose: int) -> np.random.Generator:
        """Random stream of one part of the structure, the same for all members of a family of models."""
        return np.random.default_rng([self.seed, purpose])


@dataclasses.dataclass(frozen=True)
class Layout:
    """State space of a planted model: sizes, views and the numbering of states and interfaces."""

    config: PlantedConfig

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the artifact's fields."""
        return tuple(size for _, size in self.config.fields)

    @cached_property
    def visible(self) -> np.ndarray:
        """``[N, F]`` bool: fields that each agent sees."""
        names = [name for name, _ in self.config.fields]
        if self.config.views is not None:
            return np.array([[name in view for name in names] for view in self.config.views], bool)
        seen = np.ones((self.config.num_agents, len(names)), bool)
        seen[:, -1] = False
        if len(names) >= 3:
            agents = np.arange(self.config.num_agents)
            seen[agents, agents % (len(names) - 1)] = False
        return seen

    @cached_property
    def artifacts(self) -> np.ndarray:
        """``[A, F]`` int: field values of each artifact."""
        return np.stack([axis.reshape(-1) for axis in np.indices(self.sizes)], axis=1)

    @cached_property
    def visible_count(self) -> np.ndarray:
        """``[N]`` number of values of the visible part of the artifact."""
        return np.where(self.visible, np.array(self.sizes), 1).prod(axis=1)

    @cached_property
    def first_interface(self) -> np.ndarray:
        """``[N + 1]`` index of each agent's first interface, and their total."""
        return np.concatenate([[0], np.cumsum(self.visible_count * self.config.private_states)])

    @property
    def num_interfaces(self) -> int:
        """``Z``."""
        return int(self.first_interface[-1])

    @cached_property
    def states(self) -> np.ndarray:
        """``[S, 3]`` int: active agent, its private state and the artifact's index."""
        shape = (self.config.num_agents, self.config.private_states, len(self.artifacts))
        return np.stack([axis.reshape(-1) for axis in np.indices(shape)], axis=1)

    @cached_property
    def visible_code(self) -> np.ndarray:
        """``[N, A]`` int: mixed-radix code of what each agent sees of each artifact."""
        return self._code(self.visible)

    @cached_property
    def hidden_code(self) -> np.ndarray:
        """``[N, A]`` int: mixed-radix code of what it does not see."""
        return self._code(~self.visible)

    def _code(self, chosen: np.ndarray) -> np.ndarray:
        code = np.zeros((self.config.num_agents, len(self.artifacts)), int)
        for field, size in enumerate(self.sizes):
            code = np.where(chosen[:, field, None], code * size + self.artifacts[:, field], code)
        return code

    @cached_property
    def interface(self) -> np.ndarray:
        """``[S]`` int: interface seen by the active agent."""
        agent, private, artifact = self.states.T
        seen = self.visible_code[agent, artifact]
        return self.first_interface[agent] + seen * self.config.private_states + private

    @cached_property
    def interface_agent(self) -> np.ndarray:
        """``[Z]`` int: owner of each interface."""
        return np.repeat(np.arange(self.config.num_agents), np.diff(self.first_interface))

    @cached_property
    def members(self) -> np.ndarray:
        """``[Z, H]`` int: states behind each interface by hidden code, -1 beyond an agent's own count."""
        agent, _, artifact = self.states.T
        hidden = self.hidden_code[agent, artifact]
        table = np.full((self.num_interfaces, int(hidden.max()) + 1), -1)
        table[self.interface, hidden] = np.arange(len(self.states))
        return table

    @cached_property
    def hidden_pattern(self) -> np.ndarray:
        """``[S]``: mean over the hidden fields of their values, scaled to -1..1; 0 if all are seen.

        Fields that no agent sees count three times: only they persist over many handoffs, so that mixing
        matters.
        """
        agent, _, artifact = self.states.T
        sizes = np.array(self.sizes)
        scaled = 2 * self.artifacts / np.maximum(sizes - 1, 1) - 1
        share = np.where(self.visible.any(axis=0), 1.0, 3.0) * (sizes > 1)
        hidden = np.where(self.visible[agent], 0.0, share)
        return (hidden * scaled[artifact]).sum(axis=1) / np.maximum(hidden.sum(axis=1), 1.0)


def successor_interfaces(layout: Layout) -> np.ndarray:
    """``[Z, O, W]`` int: interfaces that can follow, as ``W`` permutations of the interfaces per option.

    The first permutation is one cycle through all of them, common to the options, and the second one of
    option 0 has a fixed point: the chain is irreducible under every policy and aperiodic whenever option 0 is
    taken at all. Permutations also keep the stationary law close to uniform.
    """
    config, count = layout.config, layout.num_interfaces
    rng = config.stream(1)
    order = rng.permutation(count)
    cycle = np.empty(count, int)
    cycle[order] = np.roll(order, -1)
    table = np.empty((count, config.num_options, config.successors), int)
    table[:, :, 0] = cycle[:, None]
    for option in range(config.num_options):
        for k in range(1, config.successors):
            table[:, option, k] = rng.permutation(count)
    entering = int(np.flatnonzero(table[:, 0, 1] == 0)[0])
    table[[0, entering], 0, 1] = table[[entering, 0], 0, 1]
    return table


def kernel_lists(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Successor lists of ``K_eta = (1 - e) K_0 + e K_1`` with ``e = min(1, eta * kernel_gap)`` (D11).

    The next interface follows fixed lists with weights ``P_0(z'|z, o)``, mixed with weights that depend on
    the whole state; then every field outside the next agent's view keeps its value, or is redrawn with
    probability ``hidden_flip``. The law of the next interface under ``K_0`` depends on ``(z, o)`` only:
    ``K_0`` is lumpable.

    Returns:
      ``(successor [S, O, W*H] int, probability [S, O, W*H])``; the former depends on the seed and the sizes
      only.
    """
    config = layout.config
    states, options, width = len(layout.states), config.num_options, config.successors
    listed = successor_interfaces(layout)[layout.interface]
    base = config.stream(2).dirichlet(np.full(width, 2.0), (layout.num_interfaces, options))
    aware = config.stream(3).dirichlet(np.full(width, 1.0), (states, options))
    share = min(1.0, config.gap * config.kernel_gap)
    weight = (1 - share) * base[layout.interface] + share * aware
    following = layout.members[listed]
    exists = following >= 0
    safe = np.where(exists, following, following[..., :1])
    probability = weight[..., None] * np.where(exists, _hidden_step(layout, safe), 0.0)
    shape = (states, options, -1)
    return safe.reshape(shape), probability.reshape(shape)


def _hidden_step(layout: Layout, following: np.ndarray) -> np.ndarray:
    """Probability of the hidden part of each listed state ``[S, ...]``, given interface and state left."""
    flip, sizes = layout.config.hidden_flip, layout.sizes
    agent, _, artifact = layout.states.T
    now = layout.artifacts[artifact].reshape((-1,) + (1,) * (following.ndim - 1) + (len(sizes),))
    probability = np.ones(following.shape)
    for field, size in enumerate(sizes):
        same = layout.artifacts[artifact[following], field] == now[..., field]
        factor = flip / size + (1 - flip) * same
        probability *= np.where(layout.visible[agent[following], field], 1.0, factor)
    return probability


def duration_pmfs(layout: Layout) -> np.ndarray:
    """``[S, O, T]`` duration pmfs, whose means depend on ``(z, o)`` and perhaps on the hidden part."""
    config = layout.config
    levels = np.linspace(-1.0, 1.0, SPREAD_LEVELS)
    drawn = levels[config.stream(4).integers(SPREAD_LEVELS, size=(layout.num_interfaces, config.num_options))]
    spread = 1 + config.duration_spread * drawn[layout.interface]
    hidden = 1 + config.hidden_duration * layout.hidden_pattern
    means, index = np.unique(config.duration_mean * spread * hidden[:, None], return_inverse=True)
    laws = [durations.with_mean(config.duration_law, float(m), config.longest_duration).pmf for m in means]
    return np.stack(laws)[index.reshape(spread.shape)]


def interface_vectors(layout: Layout) -> np.ndarray:
    """``[Z, dim]`` unit vectors ``x(z)``.

    The first coordinate is ``+0.6`` or ``-0.6`` by the parity of the interface's number within its agent: it
    decides which option leads. The others are the normalised sum of random vectors of the owner, of each
    visible field value and of the private state.
    """
    config, rng = layout.config, layout.config.stream(5)
    dim = config.interface_dim - 1
    owner = rng.standard_normal((config.num_agents, dim)) / 2
    private = rng.standard_normal((config.private_states, dim))
    per_field = [rng.standard_normal((size, dim)) for size in layout.sizes]
    agent, own, artifact = layout.states[layout.members[:, 0]].T
    total = owner[agent] + private[own]
    for field, table in enumerate(per_field):
        total += np.where(layout.visible[agent, field, None], table[layout.artifacts[artifact, field]], 0.0)
    total /= np.linalg.norm(total, axis=1, keepdims=True)
    local = np.arange(layout.num_interfaces) - layout.first_interface[layout.interface_agent]
    lead = np.where(local % 2 == 0, 0.6, -0.6)
    return np.concatenate([lead[:, None], np.sqrt(1 - lead[:, None] ** 2) * total], axis=1)

"""Planted models: IC-SMDPs built backwards from their interface solution (D11, P3).

Kernels, durations and behaviour are chosen first; then ``Q_0`` is written down as an average of ReLU atoms,
and the rewards are whatever makes it the fixed point of ``T_phi``. So ``Q_phi = Q_0`` for every interface
gap, while ``Q*`` moves away from it, and the width constant ``C`` is known.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from icsmdp_jax.core.arguments import expect, whole
from icsmdp_jax.envs.planted.structure import Layout, PlantedConfig, duration_pmfs, interface_vectors, kernel_lists
from icsmdp_jax.exact.asymptotics import action_gap
from icsmdp_jax.exact.interface import InterfaceModel, interface_model
from icsmdp_jax.exact.moments import KernelMoments
from icsmdp_jax.models import durations
from icsmdp_jax.models.tabular import TabularModel

__all__ = ["Layout", "PlantedConfig", "PlantedModel", "planted_coefficients", "planted_model", "sharp_family"]

ATOM_MEAN = 1 / np.sqrt(2 * np.pi)  # E[relu(w . x)] for a Gaussian w and a unit vector x


@dataclasses.dataclass(frozen=True, eq=False)
class PlantedModel:
    """A planted model with everything that is known of it in closed form (D11, P3).

    Attributes:
      config: its knobs.
      layout: views and numbering.
      model: the IC-SMDP; ``features`` are ``x(z)``.
      behaviour: ``[Z, O]`` behaviour policy.
      interface: its interface model under that policy.
      q_planted: ``[Z, O]`` ``Q_0``, which is ``Q_phi``.
      atoms: ``[M, dim]`` ``w_j``.
      coefficients: ``[N, M, O]`` ``a_{i,o}(w_j)``.
      width_constant_blocks: ``[N]`` parts of ``C^2`` by agent (T2.1).
    """

    config: PlantedConfig
    layout: Layout
    model: TabularModel
    behaviour: np.ndarray
    interface: InterfaceModel
    q_planted: np.ndarray
    atoms: np.ndarray
    coefficients: np.ndarray
    width_constant_blocks: np.ndarray

    @property
    def width_constant(self) -> float:
        """``C``: the sampled approximant of width ``m`` has ``E||. - Q_0||_d^2 = C^2 / m`` (T2.1)."""
        return float(np.sqrt(self.width_constant_blocks.sum()))

    @property
    def q_norm(self) -> float:
        """``||Q_0||_d``."""
        return self.interface.norm(self.q_planted)

    @property
    def action_gap(self) -> float:
        """Smallest lead of the best option of ``Q_0`` over interfaces."""
        return action_gap(self.q_planted, self.interface.mask)

    @cached_property
    def agent_names(self) -> tuple[str, ...]:
        """Readable names of the agents."""
        return tuple(f"agent {i}" for i in range(self.config.num_agents))

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the artifact's fields."""
        return tuple(name for name, _ in self.config.fields)

    def describe(self) -> str:
        """The artifact's fields, and what each agent sees of them, one line each."""
        fields = ", ".join(f"{name} ({size} values)" for name, size in self.config.fields)
        lines = [f"artifact: {fields}; private states: {self.config.private_states}"]
        for name, seen in zip(self.agent_names, self.layout.visible, strict=True):
            shown = [f for f, s in zip(self.field_names, seen, strict=True) if s]
            hidden = [f for f, s in zip(self.field_names, seen, strict=True) if not s]
            lines.append(f"{name}: sees {', '.join(shown) or 'nothing'}; hidden: {', '.join(hidden) or 'nothing'}")
        return "\n".join(lines)

    def draw_features(self, rng: np.random.Generator, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Random ReLU features: each agent draws its own ``w_j`` from the uniform law over the atoms (T2.1).

        Args:
          rng: source of randomness.
          width: ``m``, features per agent, shared by its options.

        Returns:
          ``(raw [Z, m], indices [N, m])``: ``relu(w_j . x(z))`` with the draws of the owner of ``z``.
        """
        indices = rng.integers(len(self.atoms), size=(self.config.num_agents, width))
        return self.features_of(indices), indices

    def features_of(self, indices: np.ndarray) -> np.ndarray:
        """``[Z, m]`` features ``relu(w_j . x(z))`` for given draws ``[N, m]`` of the agents."""
        vectors = self._vectors
        raw = np.empty((len(vectors), indices.shape[1]))
        for agent, rows in enumerate(self._blocks):
            raw[rows] = np.maximum(vectors[rows] @ self.atoms[indices[agent]].T, 0.0)
        return raw

    def sampled_approximant(self, indices: np.ndarray) -> np.ndarray:
        """``[Z, O]`` ``(1/m) sum_j a_{i,o}(w_j) relu(w_j . x(z))`` over the draws ``[N, m]`` (T2.1)."""
        raw = self.features_of(indices)
        table = np.empty(self.q_planted.shape)
        for agent, rows in enumerate(self._blocks):
            table[rows] = raw[rows] @ self.coefficients[agent, indices[agent]] / indices.shape[1]
        return table

    @property
    def _vectors(self) -> np.ndarray:
        assert self.model.features is not None
        return self.model.features

    @property
    def _blocks(self) -> list[slice]:
        return _agent_blocks(self.layout)


def _agent_blocks(layout: Layout) -> list[slice]:
    edges = layout.first_interface
    return [slice(int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]


def _behaviour(layout: Layout) -> np.ndarray:
    shape = (layout.num_interfaces, layout.config.num_options)
    weight = np.ones(shape)
    if layout.config.behaviour == "random":
        weight = layout.config.stream(6).uniform(0.5, 1.0, shape)
    return weight / weight.sum(axis=1, keepdims=True)


def _atoms(config: PlantedConfig) -> np.ndarray:
    return config.stream(7).standard_normal((config.planted_atoms, config.interface_dim))


def planted_coefficients(config: PlantedConfig) -> np.ndarray:
    """``[N, M, O]`` coefficients of ``Q_0``: a level, a lead by the first coordinate's sign, an odd and an even part.

    The level keeps ``C`` within a few times ``||Q_0||_d``. Of each agent's options one leads where the first
    coordinate of ``x`` is positive, another where it is negative, by about ``option_margin``. The odd part is
    common to an agent's options; the even part is each option's own.
    """
    rng, atoms = config.stream(8), _atoms(config)
    n, o, dim = config.num_agents, config.num_options, config.interface_dim
    u = rng.standard_normal((n, dim - 1))
    v = rng.standard_normal((2, n, o, dim))
    v[1] -= v[0] * (np.sum(v[0] * v[1], axis=-1) / np.sum(v[0] ** 2, axis=-1))[..., None]  # or it would shift the level
    level, slope = np.ones((n, o)), np.zeros((n, o))
    for agent in range(n):
        leaders = rng.permutation(o)[:2]
        steep = config.option_margin / (2 * 0.6)  # E[sign(w_1) relu(w . x)] = x_1 E[relu(w . x)]
        level[agent] -= config.option_margin / 2 if o > 2 else 0.0
        level[agent, leaders] = 1.0
        slope[agent, leaders] = np.array([steep, -steep])[: len(leaders)]
    odd = np.sign(u @ atoms[:, 1:].T)
    even = np.sign(v[0] @ atoms.T) * np.sign(v[1] @ atoms.T)
    lead = slope[:, :, None] * np.sign(atoms[:, 0])
    total = level[:, :, None] + lead + config.odd_weight * odd[:, None] + config.even_weight * even
    return config.planted_scale / ATOM_MEAN * total.transpose(0, 2, 1)


def _planted_table(
    layout: Layout, vectors: np.ndarray, atoms: np.ndarray, coefficients: np.ndarray, pair_weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``Q_0`` ``[Z, O]`` and the parts of ``C^2`` by agent ``[N]``, both exact over the atoms (T2.1)."""
    count = len(atoms)
    table = np.empty(pair_weight.shape)
    blocks = np.empty(layout.config.num_agents)
    for agent, rows in enumerate(_agent_blocks(layout)):
        raw = np.maximum(vectors[rows] @ atoms.T, 0.0)
        table[rows] = raw @ coefficients[agent] / count
        second = np.sum((raw**2).T @ pair_weight[rows] * coefficients[agent] ** 2) / count
        blocks[agent] = second - np.sum(pair_weight[rows] * table[rows] ** 2)
    return table, blocks


def _hidden_reward(layout: Layout, weights: np.ndarray) -> np.ndarray:
    """``[S, O]`` ``xi``: the hidden pattern, centred by ``w(s|z)``, times a magnitude of ``(z, o)``."""
    count = layout.num_interfaces
    magnitude = layout.config.stream(9).uniform(0.5, 1.0, (count, layout.config.num_options))
    pattern = layout.hidden_pattern
    centre = np.bincount(layout.interface, weights=weights * pattern, minlength=count)
    return magnitude[layout.interface] * (pattern - centre[layout.interface])[:, None]


def planted_model(config: PlantedConfig, coefficients: np.ndarray | None = None) -> PlantedModel:
    """Builds an IC-SMDP whose interface solution is known in closed form (D11, P3).

    ``E[R|s,o] = Q_0(z,o) - sum P^g_phi(z'|z,o) max Q_0(z',.) + eta * reward_gap * xi(s,o)`` with
    ``sum_s w(s|z) xi(s,o) = 0``; ``d`` and ``w`` are those of the kernel at this very ``eta``.

    Args:
      config: the knobs.
      coefficients: ``[N, M, O]`` ``a_{i,o}(w_j)`` of ``Q_0`` to plant; drawn from the seed if None.

    Returns:
      The planted model. Members of a family that differ in ``gap``, ``kernel_gap``, ``reward_gap``,
      ``hidden_flip``, durations or rewards share the array ``successor`` and all shapes.

    Raises:
      ValueError: if no duration law of the family has the mean that is asked for, or for coefficients of another shape.
    """
    layout = Layout(config)
    successor, probability = kernel_lists(layout)
    vectors = interface_vectors(layout)
    bare = TabularModel(
        reward_rate=np.zeros((len(layout.states), config.num_options)),
        agent=layout.states[:, 0],
        interface=layout.interface,
        gamma=config.gamma,
        reward_noise=config.reward_noise,
        successor=successor,
        probability=probability,
        duration=duration_pmfs(layout),
        features=vectors,
    )
    behaviour = _behaviour(layout)
    unpaid = interface_model(bare, behaviour)
    atoms = _atoms(config)
    drawn = planted_coefficients(config)
    coefficients = drawn if coefficients is None else np.asarray(coefficients, np.float64)
    if coefficients.shape != drawn.shape:
        raise ValueError(f"coefficients: shape {list(coefficients.shape)}, expected {list(drawn.shape)}")
    q, blocks = _planted_table(layout, vectors, atoms, coefficients, unpaid.pair_weight)

    continuation = (unpaid.discounted @ q.max(axis=1)).reshape(q.shape)
    hidden = config.gap * config.reward_gap * _hidden_reward(layout, unpaid.weights)
    reward_mean = (q - continuation)[layout.interface] + hidden
    rate = reward_mean / unpaid.moments.annuity
    model = bare.replace(reward_rate=rate)
    return PlantedModel(
        config=config,
        layout=layout,
        model=model,
        behaviour=behaviour,
        interface=_paid(unpaid, model),
        q_planted=q,
        atoms=atoms,
        coefficients=coefficients,
        width_constant_blocks=blocks,
    )


def _paid(unpaid: InterfaceModel, model: TabularModel) -> InterfaceModel:
    """The interface model with the rewards of ``model``, whose kernel is unchanged (D5)."""
    moments: KernelMoments = dataclasses.replace(unpaid.moments, reward_rate=model.reward_rate)
    reward = unpaid.membership.T @ (unpaid.weights[:, None] * moments.reward_mean)
    return dataclasses.replace(unpaid, model=model, moments=moments, reward=reward)


def sharp_family(
    epsilon: float = 1.0,
    gamma: float = 0.9,
    flip_probability: float = 0.01,
    duration_mean: float = 8.0,
    law: str = "geometric",
    longest_duration: int = 64,
    num_agents: int = 2,
) -> TabularModel:
    """The family on which the interface bound is sharp (T1.4): one hidden bit that pays ``h * epsilon``.

    Each handoff goes to an agent drawn uniformly (perhaps the same), each agent has one interface and one
    option, and the bit flips with probability ``p`` at each handoff. With ``gbar = E[gamma^tau]``, the same
    everywhere, the interface gap is ``epsilon / (1 - gbar (1 - 2p))`` and Theorem 1 gives
    ``epsilon / (1 - gbar)``.

    Args:
      epsilon: size of the hidden expected segment reward.
      gamma: discount per primitive step.
      flip_probability: ``p`` in (0, 1).
      duration_mean: mean duration in primitive steps.
      law: a key of ``durations.LAWS``.
      longest_duration: ``T``.
      num_agents: ``N``, 2 or more.

    Returns:
      The model: state ``2 i + b`` is agent ``i`` with bit ``h = 2b - 1``.

    Raises:
      ValueError: if ``p`` is not in (0, 1), there are fewer than two agents, or no such duration law exists.
    """
    expect("a number between 0 and 1", flip_probability=flip_probability)
    expect("a finite number", epsilon=epsilon)
    whole(2, num_agents=num_agents)
    duration = durations.with_mean(law, duration_mean, longest_duration)
    bit = np.array([[1 - flip_probability, flip_probability], [flip_probability, 1 - flip_probability]])
    transition = np.tile(bit / num_agents, (num_agents, num_agents))
    states = 2 * num_agents
    agent = np.arange(states) // 2
    pay = epsilon * (2.0 * (np.arange(states) % 2) - 1)
    return TabularModel(
        reward_rate=(pay / duration.annuity(gamma))[:, None],
        agent=agent,
        interface=agent,
        gamma=gamma,
        transition=transition[:, None, :],
        duration=np.broadcast_to(duration.pmf, (states, 1, longest_duration)),
    )

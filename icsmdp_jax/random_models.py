"""Random models whose interfaces hide nothing that matters: gap 0 by construction, and short sight pays little.

Each interface stands for several states. Which of them is entered depends on all that came before, yet rewards,
durations and the next interface depend on the interface and the option alone. So ``epsilon = delta = 0`` (D6), the
interface model has the oracle's values (T1), and a learner that fails to reach the oracle cannot blame its view.
"""

from __future__ import annotations

import numpy as np

from icsmdp_jax import durations
from icsmdp_jax.tabular import TabularModel

FEWEST_AGENTS, MOST_AGENTS = 3, 5
LEVELS = 5  # distinct mean durations, so that few laws have to be fitted


def random_model(
    seed: int,
    *,
    num_agents: int | None = None,
    num_interfaces: int = 40,
    hidden: int = 4,
    num_options: int = 4,
    successors: int = 2,
    gamma: float = 0.97,
    duration_mean: float = 3.0,
    longest_duration: int = 64,
    reward_scale: float = 0.1,
    option_share: float = 0.25,
    reward_noise: float = 0.1,
    features: int = 8,
) -> TabularModel:
    """A random lumpable IC-SMDP (D1, D6) in which it matters where an option leads, more than what it pays.

    The reward rate at ``(z, o)`` is ``reward_scale`` times a level of the interface plus ``option_share`` times a part
    of the option's own, both standard normal. Each pair has ``successors`` next interfaces with random weights, a
    duration law of a random family with a random mean, and any law of the next hidden value given state, option and
    next interface. One cycle through all interfaces, among the successors of option 0, keeps the behaviour chain in
    one piece.

    Args:
      seed: of everything that is drawn.
      num_agents: ``N``, 2 or more; drawn from 3 to 5 if None. Each owns an equal share of the interfaces, up to one.
      num_interfaces: ``Z``, at least one for each agent.
      hidden: states behind each interface, 1 or more.
      num_options: ``O``.
      successors: interfaces that can follow each pair, 1 or more.
      gamma: discount per primitive step.
      duration_mean: middle of the mean durations, in primitive steps; they lie within a third of it. 3 or more.
      longest_duration: ``T``.
      reward_scale: see above, in reward per primitive step; values are some ten times as large.
      option_share: see above, 0 or more.
      reward_noise: half-width of the uniform noise on the segment reward.
      features: dimension of the random unit vectors that describe the interfaces, 1 or more.

    Returns:
      The model: state ``hidden * z + h`` is interface ``z`` with hidden value ``h``; interfaces are numbered agent by
      agent. Two models with the same sizes have arrays of the same shapes.

    Raises:
      ValueError: if a size is too small, ``option_share`` negative, or no duration law has a mean that is asked for.
    """
    for name, value, least in (
        ("num_agents", FEWEST_AGENTS if num_agents is None else num_agents, 2),
        ("num_interfaces", num_interfaces, MOST_AGENTS if num_agents is None else num_agents),
        ("hidden", hidden, 1),
        ("num_options", num_options, 1),
        ("successors", successors, 1),
        ("duration_mean", duration_mean, 3),
        ("option_share", option_share, 0),
        ("features", features, 1),
    ):
        if not value >= least:
            raise ValueError(f"{name} = {value}: expected {least} or more")
    # A stream for each part, so that neither the number of agents nor the descriptions change the dynamics.
    streams = [np.random.default_rng([seed, part]) for part in range(5)]
    drawn = int(streams[0].integers(FEWEST_AGENTS, MOST_AGENTS + 1))
    count = drawn if num_agents is None else num_agents
    interface = np.repeat(np.arange(num_interfaces), hidden)
    pairs = (num_interfaces, num_options)
    level, own = streams[1].standard_normal((num_interfaces, 1)), streams[1].standard_normal(pairs)
    successor, probability = _kernel(streams[2], num_interfaces, hidden, num_options, successors)
    vectors = streams[4].standard_normal((num_interfaces, features))
    return TabularModel(
        reward_rate=reward_scale * (level + option_share * own)[interface],
        agent=(np.arange(num_interfaces) * count // num_interfaces)[interface],
        interface=interface,
        gamma=gamma,
        reward_noise=reward_noise,
        successor=successor,
        probability=probability,
        duration=_durations(streams[3], pairs, duration_mean, longest_duration)[interface],
        features=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


def _kernel(
    rng: np.random.Generator, interfaces: int, hidden: int, options: int, successors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Successor lists ``[S, O, W*H]`` and their probabilities: first the interface, then its hidden value."""
    states = interfaces * hidden
    listed = rng.integers(interfaces, size=(interfaces, options, successors))
    order = rng.permutation(interfaces)
    listed[order, 0, 0] = np.roll(order, -1)
    weight = rng.dirichlet(np.full(successors, 2.0), (interfaces, options))
    behind = rng.dirichlet(np.ones(hidden), (states, options, successors))
    probability = np.repeat(weight, hidden, axis=0)[..., None] * behind
    entered = np.repeat(listed, hidden, axis=0)[..., None] * hidden + np.arange(hidden)
    shape = (states, options, successors * hidden)
    return entered.reshape(shape), probability.reshape(shape)


def _durations(rng: np.random.Generator, pairs: tuple[int, int], mean: float, longest: int) -> np.ndarray:
    """``[Z, O, T]`` pmfs: a family and a mean drawn for each pair."""
    means = np.linspace(2 * mean / 3, 4 * mean / 3, LEVELS)
    table = np.array([[durations.with_mean(name, float(m), longest).pmf for m in means] for name in durations.LAWS])
    return table[rng.integers(len(table), size=pairs), rng.integers(LEVELS, size=pairs)]

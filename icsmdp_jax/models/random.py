"""Random models: lumpable ones, whose interfaces hide nothing that matters, and large ones, which hide a lot.

**Lumpable** (``random_model``): gap 0 by construction, and short-sighted choices earn little.

Each interface stands for several states. Which of them is entered depends on all that came before, yet rewards,
durations and the next interface depend on the interface and the option alone. So ``epsilon = delta = 0`` (D6), the
interface model has the oracle's values (T1), and a learner that fails to reach the oracle cannot blame its view.

**Large** (``large_model``): successor lists over any number of states, drawn without a loop over them, in which what
follows depends on the hidden part too. The behaviour chain has one recurrent class and period 1 by construction.
"""

from __future__ import annotations

import numpy as np

from icsmdp_jax.models import durations
from icsmdp_jax.models.tabular import TabularModel

FEWEST_AGENTS, MOST_AGENTS = 3, 5
PMFS = 64  # distinct duration laws of a large model
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
    """A random lumpable IC-SMDP (D1, D6), where what matters about an option is less what it pays than where it leads.

    The reward rate at ``(z, o)`` is ``reward_scale`` times a level of the interface plus ``option_share`` times a part
    that depends on the option, both standard normal. Each pair has ``successors`` next interfaces with random weights,
    a duration law of a random family with a random mean, and any law of the next hidden value given state, option and
    next interface. One cycle through all interfaces, among the successors of option 0, keeps the behaviour chain in one
    piece.

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
      reward_scale: see above, in reward per primitive step; values are about ten times as large.
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
    # One stream for each part, so that neither the number of agents nor the descriptions change the dynamics.
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


def large_model(
    seed: int,
    num_states: int,
    num_interfaces: int,
    num_agents: int = 10,
    *,
    num_options: int = 4,
    successors: int = 4,
    longest_duration: int = 16,
    gamma: float = 0.95,
    hidden_share: float = 0.3,
    stay: float = 0.0,
    terminal_states: int = 0,
    reward_noise: float = 0.1,
) -> TabularModel:
    """A random IC-SMDP as successor lists (D1), for any number of states.

    Every pair has ``successors`` next states drawn uniformly with random weights. Option 0 leads from each deciding
    state to the next one of a random cycle through all of them with positive probability, and from the first of that
    cycle also back to itself: one recurrent class of period 1 under every behaviour policy that is positive on
    available options. Each interface has at least one deciding state, and agents own equal shares of the interfaces.

    Args:
      seed: of everything that is drawn.
      num_states: ``S``, terminal states included.
      num_interfaces: ``Z``, from ``num_agents`` to the number of deciding states.
      num_agents: ``N``.
      num_options: ``O``.
      successors: ``W``, 2 or more.
      longest_duration: ``T`` in primitive steps.
      gamma: discount per primitive step.
      hidden_share: standard deviation of the reward's hidden part, against 1 for what interface and option pay.
      stay: probability in ``[0, 1)`` with which every option leaves the state as it is; slows mixing down.
      terminal_states: number of states, the last ones, that end an episode; random successors lead to them, and the
        start law is uniform over the others.
      reward_noise: half-width of the uniform noise on the segment reward.

    Returns:
      The model, with ``W + 1`` listed successors if ``stay`` is positive.

    Raises:
      ValueError: if a size does not fit the others; one line.
    """
    decide = num_states - terminal_states
    for name, value, least, most in (
        ("successors", successors, 2, num_states),
        ("num_options", num_options, 1, None),
        ("longest_duration", longest_duration, 1, None),
        ("terminal_states", terminal_states, 0, num_states - 1),
        ("num_agents", num_agents, 1, None),
        ("num_interfaces", num_interfaces, num_agents, decide),
    ):
        if value < least or (most is not None and value > most):
            limit = f"{least} or more" if most is None else f"from {least} to {most}"
            raise ValueError(f"{name} = {value}: expected {limit}")
    if not 0 <= stay < 1:
        raise ValueError(f"stay = {stay}: expected a number in [0, 1)")
    streams = [np.random.default_rng([seed, 10, part]) for part in range(4)]
    interface = np.concatenate(
        [np.arange(num_interfaces), streams[0].integers(num_interfaces, size=num_states - num_interfaces)]
    )
    interface[:decide] = streams[0].permutation(interface[:decide])
    listed = streams[1].integers(num_states, size=(num_states, num_options, successors))
    order = streams[1].permutation(decide)
    listed[order, 0, 0] = np.roll(order, -1)
    listed[order[0], 0, 1] = order[0]
    weight = streams[1].uniform(0.1, 1.0, listed.shape)
    weight /= weight.sum(axis=-1, keepdims=True)
    if stay > 0:
        itself = np.broadcast_to(np.arange(num_states)[:, None, None], (num_states, num_options, 1))
        listed = np.concatenate([listed, itself], axis=-1)
        weight = np.concatenate([(1 - stay) * weight, np.full(itself.shape, stay)], axis=-1)
    pmfs = streams[2].dirichlet(np.ones(longest_duration), PMFS)
    pairs = (num_interfaces, num_options)
    seen = streams[3].standard_normal(pairs)[interface]
    terminal = np.arange(num_states) >= decide
    return TabularModel(
        reward_rate=seen + hidden_share * streams[3].standard_normal((num_states, num_options)),
        agent=(np.arange(num_interfaces) * num_agents // num_interfaces)[interface],
        interface=interface,
        gamma=gamma,
        reward_noise=reward_noise,
        successor=listed,
        probability=weight,
        duration=pmfs[streams[2].integers(PMFS, size=pairs)[interface]],
        start=~terminal / decide if terminal_states else None,
        terminal=terminal if terminal_states else None,
    )

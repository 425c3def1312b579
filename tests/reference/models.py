"""Finite models as plain dicts in the model-file format: the dense joint kernel and random valid instances.

Nothing here imports the package under test, so a wrong convention there cannot leak into the twin.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

Model = dict[str, np.ndarray]
Array = np.ndarray


def num_interfaces(model: Model) -> int:
    """Count the interfaces: rows of `available` if it is there, else the largest label plus one."""
    if "available" in model:
        return int(model["available"].shape[0])
    return int(model["interface"].max()) + 1


def terminal_states(model: Model) -> Array:
    """Return the terminal flag of every state, bool `[S]`."""
    num_states = model["interface"].shape[0]
    return np.asarray(model.get("terminal", np.zeros(num_states, bool)), bool)


def available_options(model: Model) -> Array:
    """Return the option mask of every interface, bool `[Z, O]`."""
    num_options = model["reward_rate"].shape[1]
    return np.asarray(model.get("available", np.ones((num_interfaces(model), num_options), bool)), bool)


def decision_pairs(model: Model) -> Array:
    """Return the pairs (s, o) where a decision can happen: s not terminal, o available; bool `[S, O]`."""
    return available_options(model)[model["interface"]] & ~terminal_states(model)[:, None]


def joint_kernel(model: Model) -> Array:
    """Return K(tau, s' | s, o) of (D1) as a dense float64 array `[S, O, T, S]`, tau = 1..T on axis 2."""
    if "kernel" in model:
        return np.asarray(model["kernel"], float)
    duration = np.asarray(model["duration"], float)
    num_states, num_options, _ = duration.shape
    if "transition" in model:
        transition = np.asarray(model["transition"], float)
    else:
        transition = np.zeros((num_states, num_options, num_states))
        successor, probability = model["successor"], model["probability"]
        for s in range(num_states):
            for o in range(num_options):
                for j in range(successor.shape[2]):
                    transition[s, o, successor[s, o, j]] += probability[s, o, j]
    return duration[:, :, :, None] * transition[:, :, None, :]


def lump(model: Model, s: int, o: int, successor: int) -> float:
    """Return what is paid with the last step of a segment from s to `successor`; 0 where none can end there.

    Listed lumps of one next state are taken to agree, as those of `random_model` do.
    """
    place = [successor]
    if "successor" in model:
        listed = (model["successor"][s, o] == successor) & (model["probability"][s, o] > 0)
        place = list(np.flatnonzero(listed)[:1])
    following = float(model["lump_reward_next"][s, o, place].sum()) if "lump_reward_next" in model else 0.0
    return following + (float(model["lump_reward"][s, o]) if "lump_reward" in model else 0.0)


def uniform_behaviour(model: Model) -> Array:
    """Return the behaviour that is uniform over the available options, float64 `[Z, O]`."""
    mask = available_options(model).astype(float)
    return mask / mask.sum(axis=1, keepdims=True)


def random_behaviour(rng: np.random.Generator, model: Model, floor: float = 0.1) -> Array:
    """Return a random behaviour `[Z, O]` that gives each of n available options at least floor / n."""
    draw = np.where(available_options(model), rng.exponential(size=available_options(model).shape), 0.0)
    draw = draw / draw.sum(axis=1, keepdims=True)
    return (1.0 - floor) * draw + floor * uniform_behaviour(model)


def _dirichlet(rng: np.random.Generator, shape: tuple[int, ...], alpha: float = 0.7) -> Array:
    """Draw pmfs on the last axis; the small constant keeps every entry positive."""
    draw = rng.gamma(alpha, size=shape) + 1e-3
    return draw / draw.sum(axis=-1, keepdims=True)


def _blend(closed: Array, open_: Array, gap: float) -> Array:
    return (1.0 - gap) * closed + gap * open_


def _sparse_lists(
    rng: np.random.Generator,
    block: Array,
    num_regular: int,
    num_blocks: int,
    options: int,
    width: int,
    gap: float,
) -> tuple[Array, Array]:
    """Successor lists: stay, walk a cycle through all states, then random blocks; one pad of probability 0.

    The stay makes the chain aperiodic and the cycle makes it irreducible. Both are the same for all states
    of an interface when seen at the level of blocks, so with gap = 0 the lists stay lumpable. A terminal
    state is its own block.
    """
    num_states = block.shape[0]
    num_interfaces_ = int(block[:num_regular].max()) + 1
    hidden = num_regular // num_interfaces_
    successor = np.zeros((num_states, options, width + 1), np.int32)
    probability = np.zeros((num_states, options, width + 1))
    closed_block = rng.integers(num_blocks, size=(num_interfaces_, options, width))
    closed_probability = _dirichlet(rng, (num_interfaces_, options, width))
    members = [np.flatnonzero(block == b) for b in range(num_blocks)]
    for s in range(num_states):
        z, h = (s // hidden, s % hidden) if s < num_regular else (0, 0)
        follower = s + hidden if s + hidden < num_regular else (h + 1) % hidden
        for o in range(options):
            targets = [int(rng.choice(members[b])) for b in closed_block[z, o]]
            targets[0] = s
            targets[1] = follower if s < num_regular else s
            successor[s, o, :width] = targets
            probability[s, o, :width] = _blend(closed_probability[z, o], _dirichlet(rng, (width,)), gap)
    return successor, probability


def random_model(
    rng: np.random.Generator,
    *,
    num_agents: int = 2,
    interfaces_per_agent: int = 2,
    hidden: int = 2,
    options: int = 2,
    longest: int = 4,
    joint_kernel: bool = False,
    successor_lists: bool = False,
    masks: bool = False,
    terminals: bool = False,
    gap: float = 1.0,
    gamma: float = 0.9,
    noise: float = 0.2,
    lumps: bool = False,
) -> Model:
    """Draw a valid model file as a dict: every interface hides `hidden` states behind it.

    With gap = 0 the reward rate and the law of (tau, next interface) depend on the state through its
    interface only, while the hidden part keeps dynamics of its own: epsilon = delta = 0 in (D6), Q_phi = Q*.
    With gap = 1 nothing is shared by the states of an interface. States and interfaces are shuffled.
    With `terminals` two terminal states are added: one shares an interface with states that decide, the
    other has an interface of its own, which therefore never decides. With `lumps` every segment also pays
    with its last step, by the pair and by the next state.

    Raises:
        ValueError: if both a joint kernel and successor lists are asked for.
    """
    if joint_kernel and successor_lists:
        raise ValueError("a model file holds a joint kernel or successor lists, not both")
    regular_interfaces = num_agents * interfaces_per_agent
    num_regular = regular_interfaces * hidden
    num_terminal = 2 if terminals else 0
    num_states = num_regular + num_terminal
    total_interfaces = regular_interfaces + (1 if terminals else 0)

    # Unshuffled: state z * hidden + h lies behind interface z; the terminal ones come last.
    interface = np.repeat(np.arange(regular_interfaces), hidden)
    agent_of_interface = np.arange(total_interfaces) % num_agents
    block = interface.copy()
    if terminals:
        interface = np.append(interface, [int(rng.integers(regular_interfaces)), regular_interfaces])
        block = np.append(block, [regular_interfaces, regular_interfaces + 1])
    num_blocks = regular_interfaces + num_terminal
    # Terminal rows are to be ignored by every reader; they get valid numbers that would change the answers.
    home = np.minimum(interface, regular_interfaces - 1)

    # How the mass of a block splits over its hidden states may depend on s: it is invisible to lumping.
    split = np.zeros((num_states, options, num_states))
    for b in range(num_blocks):
        inside = np.flatnonzero(block == b)
        split[:, :, inside] = _dirichlet(rng, (num_states, options, inside.size))

    model: Model = {"gamma": np.array(float(gamma)), "reward_noise": np.array(float(noise))}
    closed_rate = rng.normal(size=(regular_interfaces, options))[home]
    rate = _blend(closed_rate, rng.normal(size=(num_states, options)), gap)
    if joint_kernel:
        cells = longest * num_blocks
        closed = _dirichlet(rng, (regular_interfaces, options, cells))[home]
        closed = closed.reshape(num_states, options, longest, num_blocks)[..., block] * split[:, :, None, :]
        open_ = _dirichlet(rng, (num_states, options, longest * num_states)).reshape(closed.shape)
        kernel = _blend(closed, open_, gap)
    else:
        closed_duration = _dirichlet(rng, (regular_interfaces, options, longest))[home]
        duration = _blend(closed_duration, _dirichlet(rng, (num_states, options, longest)), gap)
        if successor_lists:
            width = min(num_states, 5)
            successor, probability = _sparse_lists(rng, block, num_regular, num_blocks, options, width, gap)
        else:
            closed = _dirichlet(rng, (regular_interfaces, options, num_blocks))[home][..., block] * split
            transition = _blend(closed, _dirichlet(rng, (num_states, options, num_states)), gap)

    # Shuffle, so that no reader can lean on an ordering: new state k is old state order[k].
    order = rng.permutation(num_states)
    place = np.argsort(order)
    names = rng.permutation(total_interfaces)
    model["reward_rate"] = rate[order]
    model["interface"] = names[interface[order]].astype(np.int32)
    model["agent"] = agent_of_interface[interface[order]].astype(np.int32)
    if joint_kernel:
        model["kernel"] = kernel[order][..., order]
    else:
        model["duration"] = duration[order]
        if successor_lists:
            model["successor"] = place[successor[order]].astype(np.int32)
            model["probability"] = probability[order]
        else:
            model["transition"] = transition[order][..., order]
    if lumps:
        closed_lump = rng.normal(size=(regular_interfaces, options))[home]
        model["lump_reward"] = _blend(closed_lump, rng.normal(size=(num_states, options)), gap)[order]
        closed_next = rng.normal(size=(regular_interfaces, options, num_blocks))[home][..., block]
        following = _blend(closed_next, rng.normal(size=(num_states, options, num_states)), gap)[order][..., order]
        if successor_lists:
            following = np.take_along_axis(following, model["successor"], axis=2)
        model["lump_reward_next"] = following
    if masks:
        available = rng.random((total_interfaces, options)) < 0.7
        available[np.arange(total_interfaces), rng.integers(options, size=total_interfaces)] = True
        model["available"] = available
    if terminals:
        terminal = np.arange(num_states)[order] >= num_regular
        start = np.where(terminal, 0.0, _dirichlet(rng, (num_states,)))
        model["terminal"] = terminal
        model["start"] = start / start.sum()
    return model


@st.composite
def models(draw: st.DrawFn, *, gap: float | None = None, max_interfaces_per_agent: int = 3) -> Model:
    """Strategy for valid models of 2 to about 20 states in every form the file format knows."""
    form = draw(st.sampled_from(["transition", "joint", "lists"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return random_model(
        rng,
        num_agents=draw(st.integers(1, 3)),
        interfaces_per_agent=draw(st.integers(1, max_interfaces_per_agent)),
        hidden=draw(st.integers(2, 3)),
        options=draw(st.integers(1, 3)),
        longest=draw(st.integers(1, 6)),
        joint_kernel=form == "joint",
        successor_lists=form == "lists",
        masks=draw(st.booleans()),
        terminals=draw(st.booleans()),
        gap=draw(st.sampled_from([0.0, 0.3, 1.0])) if gap is None else gap,
        gamma=draw(st.sampled_from([0.0, 0.5, 0.9, 0.97])),
        noise=draw(st.sampled_from([0.0, 0.5])),
        lumps=draw(st.booleans()),
    )

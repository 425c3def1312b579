"""Every theorem's inequality on any tiny model, with its constants where they can be weakened.

An attack yields the two sides of inequalities: the left one from the definition, at points chosen to make it large, the
right one from the constants. ``Weak`` scales constants by name, so that a test can plant an error in each of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bound_validation import theorem
from icsmdp_jax.exact import nets
from icsmdp_jax.exact.chain import MixingClock
from icsmdp_jax.exact.comparison import comparison, linear_process
from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.exact.fixed_point import bellman, projected_fixed_point, projection, whiten
from icsmdp_jax.exact.moments import as_dense
from icsmdp_jax.exact.poisson import linear_bounds, poisson_constants
from tests.helpers import as_model
from tests.reference import histories
from tests.reference.models import Model, available_options, random_behaviour, random_model

ROUNDING = 1e-7  # of the scale of either side


class Check(NamedTuple):
    """One inequality at one point: ``left <= right`` up to rounding of numbers as large as ``scale``."""

    name: str
    left: float
    right: float
    scale: float

    @property
    def broken(self) -> bool:
        return not self.left <= self.right + ROUNDING * max(abs(self.left), abs(self.right), self.scale)

    @property
    def ratio(self) -> float:
        return self.left / self.right if self.right > ROUNDING * self.scale else np.nan


class Weak:
    """Factors of constants by name, 1 unless given."""

    def __init__(self, **factors: float) -> None:
        self.factors = defaultdict(lambda: 1.0, factors)

    def __call__(self, name: str, value: float) -> float:
        return self.factors[name] * value


class Case(NamedTuple):
    """A model, its behaviour policy and its analysis."""

    model: Model
    behaviour: np.ndarray
    known: Analysis


def check(name: str, left: float, right: float, scale: float = 0.0) -> Check:
    return Check(name, float(left), float(right), float(scale))


# Models


def case(model: Model, behaviour: np.ndarray) -> Case:
    return Case(model, behaviour, analyse(as_model(model), behaviour))


def extreme(seed: int) -> Case:
    """A random tiny model: weights down to 1e-6, nearly deterministic kernels, masks, terminals, any unit of reward."""
    rng = np.random.default_rng([7, seed])
    form = seed % 3
    model = random_model(
        rng, num_agents=int(rng.integers(1, 4)), interfaces_per_agent=int(rng.integers(1, 4)),
        hidden=int(rng.integers(1 + (form == 2), 4)), options=int(rng.integers(1, 4)), longest=int(rng.integers(1, 7)),
        joint_kernel=form == 1, successor_lists=form == 2, masks=bool(rng.random() < 0.5),
        terminals=bool(rng.random() < 0.4), gap=float(rng.choice([0.0, 0.01, 1.0])),
        gamma=float(rng.choice([0.0, 0.3, 0.9, 0.99, 0.9999])), noise=float(rng.choice([0.0, 0.5])),
        lumps=bool(rng.random() < 0.5),
    )  # fmt: skip
    power = float(rng.choice([1.0, 1.0, 6.0]))
    for name, axes in (("transition", (-1,)), ("duration", (-1,)), ("kernel", (-2, -1)), ("probability", (-1,))):
        if name in model:
            sharper = np.where(model[name] > 0, model[name] ** power, 0.0)
            model[name] = sharper / sharper.sum(axis=axes, keepdims=True)
    unit = 10.0 ** rng.uniform(-4, 4)
    for name in ("reward_rate", "reward_noise", "lump_reward", "lump_reward_next"):
        if name in model:
            model[name] = model[name] * unit
    return case(model, random_behaviour(rng, model, float(rng.choice([1.0, 0.1, 1e-3, 1e-6]))))


def hidden_bit(keep: float, rate: tuple[float, float], lasts: tuple[int, int], gamma: float = 0.9) -> Case:
    """One interface and option, a bit that is kept with some probability; it decides about reward and duration."""
    duration = np.zeros((2, 1, max(lasts)))
    duration[[0, 1], 0, np.array(lasts) - 1] = 1.0
    model = {
        "transition": np.array([[[keep, 1 - keep]], [[1 - keep, keep]]]), "duration": duration,
        "reward_rate": np.array(rate)[:, None], "agent": np.zeros(2, int), "interface": np.zeros(2, int),
        "gamma": np.array(gamma), "reward_noise": np.array(0.0),
    }  # fmt: skip
    return case(model, np.ones((1, 1)))


def tiny(seed: int) -> Case:
    """Three deciding states, few enough histories to go through all of them."""
    rng = np.random.default_rng([8, seed])
    terminal = seed % 2
    states, spread = 3 + terminal, float(rng.choice([0.2, 1.0, 5.0]))
    interface = np.array([[0, 0, 1, 0], [0, 1, 2, 0], [0, 0, 0, 0]][seed % 3][:states])
    owner = np.array([0, 1, 0])[interface]
    model = {
        "kernel": rng.dirichlet(np.full(2 * states, spread), size=(states, 2)).reshape(states, 2, 2, states) + 1e-9,
        "reward_rate": rng.normal(size=(states, 2)) * 10.0 ** rng.uniform(-3, 3), "reward_noise": np.array(0.0),
        "agent": owner, "interface": interface, "gamma": np.array(float(rng.choice([0.5, 0.9, 0.99]))),
    }  # fmt: skip
    model["kernel"] /= model["kernel"].sum(axis=(2, 3), keepdims=True)
    if seed % 4 == 1:
        model["available"] = np.array([[True, False]] * (int(interface.max()) + 1))
    if seed % 5 == 2:
        model["reward_noise"] = 0.5 * np.abs(model["reward_rate"]).max()
    if seed % 5 == 3:
        model |= {"lump_reward": rng.normal(size=(states, 2)), "lump_reward_next": rng.normal(size=(states, 2, states))}
    if terminal:
        model |= {"terminal": np.arange(states) == 3, "start": np.array([0.3, 0.7, 0.0, 0.0])}
    return case(model, random_behaviour(rng, model, float(rng.choice([1.0, 0.1, 1e-3]))))


# Attacks


def tables(case: Case, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Tables to try: of all sizes, flat, with a single spike, and off the solution by a constant."""
    mask, q = case.known.interface.mask, case.known.q_phi_table
    size = np.abs(q).max() + 1e-300
    for power in (-2, 0, 2):
        yield np.where(mask, q + size * 10.0**power * rng.normal(size=q.shape), 0.0)
    spike = np.zeros(q.shape)
    spike[tuple(rng.choice(np.argwhere(mask)))] = size
    yield q + spike
    yield np.where(mask, q + size, 0.0)


def operators(case: Case, rng: np.random.Generator, weak: Weak) -> Iterator[Check]:
    """L1 and P1: how far one backup moves two tables."""
    interface = case.known.interface
    m, keep = interface.moments, interface.decision_pairs
    modulus = weak("gamma_bar", interface.gamma_bar)

    def backup(q: np.ndarray) -> np.ndarray:
        best = np.where(m.used, q, -np.inf).max(axis=1, initial=-np.inf)
        value = np.where(np.isfinite(best), best, 0.0)
        return m.reward_mean + (m.discounted @ value).reshape(q.shape)

    q = np.where(m.used, rng.normal(size=keep.shape), 0.0)
    for other in (q + 1.0, q + rng.normal(size=q.shape)):
        moved, apart = np.abs(backup(q) - backup(other))[keep].max(), np.abs(q - other)[keep].max()
        yield check("L1", moved, modulus * apart, np.abs(backup(q))[keep].max())
    kappa, zero = weak("kappa", case.known.kappa), np.zeros(interface.mask.shape)
    pairs = [(one, case.known.q_phi_table) for one in tables(case, rng)] + [(least_likely(case), zero)]
    for one, two in pairs:
        moved = interface.norm(bellman(interface, one) - bellman(interface, two))
        scale = interface.norm(bellman(interface, one))
        yield check("P1", moved, kappa * interface.norm(one - two), 1e-3 * scale)


def least_likely(case: Case) -> np.ndarray:
    """The table of P1's second claim: the leading singular vector, on the least likely option of each interface."""
    interface = case.known.interface
    live = np.flatnonzero(interface.mask.any(axis=1))
    law = np.where(interface.mask, interface.chain.behaviour, np.inf)
    least, option = law.min(axis=1)[live], law.argmin(axis=1)[live]
    scaled = np.sqrt(interface.pair_weight.reshape(-1, 1)) * as_dense(interface.discounted)[:, live]
    inverse = 1 / np.sqrt(interface.interface_weight[live] * least)
    out = np.zeros(interface.mask.shape)
    out[live, option] = inverse * np.abs(np.linalg.svd(scaled * inverse, full_matrices=False)[2][0])
    return out


def interfaces(case: Case, weak: Weak) -> Iterator[Check]:
    """T1 to T1.3."""
    known = case.known
    gap, ais = known.gap, known.ais
    modulus, size = weak("gamma_bar", known.interface.gamma_bar), np.abs(known.q_phi_table).max()
    value = known.q_phi.value[known.interface.mask.any(axis=1)]
    epsilon, delta = weak("epsilon", ais.epsilon), weak("delta", ais.delta)
    middle, mass = abs(value.max() + value.min()) / 2, weak("delta_mass", ais.delta_mass)
    first = theorem.interface_bound(epsilon, delta, gap.value_norm, modulus)
    split = theorem.interface_bound_mass_span(epsilon, delta, np.ptp(value), middle, mass, modulus)
    yield check("T1", gap.gap, first, size)
    yield check(
        "T1.1", gap.gap, theorem.interface_bound_value_aware(weak("numerator", gap.value_numerator), modulus), size
    )
    yield check("T1.2", gap.gap, split, size)
    yield check("T1.3", gap.policy_loss, weak("two", theorem.policy_loss_bound(split)), size)


def approximations(case: Case, rng: np.random.Generator, weak: Weak) -> Iterator[Check]:
    """T2, with random features of one to three columns."""
    known, interface = case.known, case.known.interface
    if not known.kappa < 1:
        return
    for width in (1, 2, 3):
        operator = projection(interface, whiten(rng.normal(size=(interface.model.num_interfaces, width)), interface))
        fixed = projected_fixed_point(interface, operator, known.q_phi_table)
        if fixed.converged:
            near = interface.norm(operator(known.q_phi_table) - known.q_phi_table)
            bound = theorem.approximation_bound(near, weak("kappa", known.kappa))
            yield check("T2", interface.norm(fixed.q - known.q_phi_table), bound, interface.norm(known.q_phi_table))


def audits(case: Case, rng: np.random.Generator, weak: Weak) -> Iterator[Check]:
    """T5: in the sup norm, in ``||.||_d`` and entry by entry."""
    known, interface = case.known, case.known.interface
    mask, q = interface.mask, known.q_phi_table
    modulus = weak("gamma_phi", 1 - interface.killing[mask].min())
    kernel = as_dense(interface.discounted)
    for table in tables(case, rng):
        error = np.where(mask, bellman(interface, table) - table, 0.0)
        off, scale = np.abs(table - q)[mask], np.abs(table)[mask].max()
        yield check("T5 sup", off.max(), np.abs(error).max() / (1 - modulus), scale)
        if known.kappa < 1:
            bound = interface.norm(error) / (1 - weak("kappa", known.kappa))
            yield check("T5 norm", interface.norm(table - q), bound, scale)
        entry = entrywise(np.abs(error), kernel, mask)
        worst = int((off - entry[mask]).argmax())
        yield check("T5 entry", off[worst], weak("entry", entry[mask][worst]), scale)


def entrywise(error: np.ndarray, kernel: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``u = |e| + P^g_phi max u`` by policy iteration, ``[Z, O]``."""
    live = np.flatnonzero(mask.any(axis=1))
    option = np.where(mask, error, -1.0).argmax(axis=1)
    rows = kernel.reshape(*mask.shape, -1)
    for _ in range(100):
        chosen = rows[live, option[live]][:, live]
        value = np.zeros(len(mask))
        value[live] = np.linalg.solve(np.eye(len(live)) - chosen, error[live, option[live]])
        found = error + (kernel @ value).reshape(mask.shape)
        better = np.where(mask, found, -1.0).max(axis=1) > value * (1 + 1e-12)
        if not better[live].any():
            break
        option = np.where(better, np.where(mask, found, -1.0).argmax(axis=1), option)
    return found


def runs(case: Case, weak: Weak) -> Iterator[Check]:
    """B, T3, T3.1, T3+, T4 against the exact mean over all histories of three handoffs."""
    known, interface = case.known, case.known.interface
    mask, weight = interface.mask, interface.pair_weight[interface.mask]
    size = interface.norm(known.q_phi_table)
    process = linear_process(interface, known.q_phi.q)
    for steps in ([3**-0.5] * 3, [1.0, 0.6, 0.4]):
        found = comparison(process, steps, [2, 3])
        done = histories.run(case.model, case.behaviour, steps)
        error = np.sqrt(done.probability @ ((done.learned_sum / 3) ** 2 @ weight))
        exact = float(found.prediction[1])
        bound = exact + weak("order", float(found.certificate[1]) - exact)
        yield check("B", error, weak("certificate", bound), size)
        entries = np.zeros((len(done.probability), *mask.shape))
        entries[:, mask] = done.learned_sum / 3 + known.q_phi_table[mask]
        keep = interface.decision_pairs
        state_weight = (interface.chain.stationary[:, None] * interface.lift(interface.chain.behaviour))[keep]
        square = ((entries[:, interface.model.interface][:, keep] - known.q_star.q[keep]) ** 2) @ state_weight
        total = theorem.total_bound(bound, 0.0, weak("interface", known.gap.bound_value_aware))
        yield check("T4", np.sqrt(done.probability @ square), weak("sum", total), size)
    yield from _projected(case, weak, size)


def _projected(case: Case, weak: Weak, size: float) -> Iterator[Check]:
    """T3, T3.1 and T3+ on projected runs, and the second moment of one semi-gradient at the corners of the balls."""
    known, interface = case.known, case.known.interface
    mask, weight, kappa = interface.mask, interface.pair_weight[interface.mask], known.kappa
    radius = 1.25 * float(np.abs(known.q_phi_table).max())
    poisson = poisson_constants(interface, linear_bounds(interface, radius))
    yield from _second_moment(case, radius, weak("G_2", poisson.gradient_square))
    if not kappa < 1 or radius == 0:
        return
    distance, gradient = (
        float(np.linalg.norm(known.q_phi_table[mask])),
        theorem.gradient_bound(known.reward_max, radius),
    )
    omega, clock = known.omega, known.clock
    assert isinstance(clock, MixingClock)
    for decaying in (False, True):
        steps = [theorem.decaying_step(k, omega, kappa) if decaying else 3**-0.5 for k in range(3)]
        done = histories.run(case.model, case.behaviour, steps, radius)
        error = np.sqrt(done.probability @ ((done.learned_sum / 3) ** 2 @ weight))
        level = theorem.decaying_step(3, omega, kappa) if decaying else 3**-0.5
        mixing = clock(min(level, 0.999)) if level < 1 else 1
        if decaying:
            classic = theorem.residual_bound_decaying_step(gradient, mixing, kappa, omega, 3)
            plus = theorem.poisson_bound_decaying_step(*poisson, kappa, omega, 3)
        else:
            classic = theorem.residual_bound_constant_step(distance, gradient, mixing, kappa, 3)
            plus = theorem.poisson_bound_constant_step(distance, *poisson, kappa, 3**-0.5, 3)
        yield check("T3.1" if decaying else "T3", error, theorem.residual_rms(classic), size)
        yield check("T3.1+" if decaying else "T3+", error, theorem.residual_rms(plus), size)


def _second_moment(case: Case, radius: float, bound: float) -> Iterator[Check]:
    interface = case.known.interface
    mask = interface.mask
    number = np.where(mask, np.cumsum(mask.reshape(-1)).reshape(mask.shape) - 1, -1)
    ahead = histories.atoms(case.model, case.behaviour, number)
    law = interface.chain.stationary
    likely = np.where(mask, interface.chain.behaviour, -1).argmax(axis=1)
    for sign in (1.0, -1.0):
        table = np.where(mask, sign * radius, 0.0)
        table[np.arange(len(mask)), likely] *= -1  # what is offered pulls one way, what is updated the other
        flat, best = table[mask], np.where(mask, table, -np.inf).max(axis=1)
        square = 0.0
        for s in np.flatnonzero(law > 0):
            for atom in ahead[s]:
                offered = atom.discount * best[atom.lands] if atom.lands >= 0 else 0.0
                square += law[s] * atom.probability * (atom.reward + offered - flat[atom.entry]) ** 2
        yield check("G_2", square, bound, radius**2)


def neural(case: Case, rng: np.random.Generator, weak: Weak) -> Iterator[Check]:
    """N's core inequality (7), the mean semi-gradient below it, and N3, on a drawn start in balls of any size."""
    known, interface = case.known, case.known.interface
    kappa, mask = known.kappa, interface.mask
    if not kappa < 0.95 or not np.abs(known.q_phi_table).any():
        return
    x = rng.normal(size=(interface.model.num_interfaces, 3))
    start = nets.draw_start(interface, x / np.linalg.norm(x, axis=1, keepdims=True), 16, rng)
    size = float(np.abs(known.q_phi_table).max())
    radius = size * 10.0 ** rng.uniform(-2.5, 0.3)
    target = nets.projected_target(start, radius, np.zeros(start.hidden.shape), kappa, 4000, 1e-6 * size**2)
    e, h, cost = nets.residual_constants(start, radius, target)
    second = nets.gradient_error(start, radius, target.delta)
    q_c, weight = target.table, np.where(mask, interface.pair_weight, 0.0)
    state_weight = interface.chain.stationary[:, None] * interface.lift(interface.chain.behaviour)
    keep = interface.decision_pairs

    def residual(q: np.ndarray) -> np.ndarray:
        best = np.where(mask, q, -np.inf).max(axis=1, initial=-np.inf)
        value = np.where(np.isfinite(best), best, 0.0)
        mean = interface.moments.reward_mean + (interface.lifted_discounted @ value).reshape(keep.shape)
        return mean - interface.lift(q)

    tried = [target.delta, 0 * target.delta]
    for power in (-1, 0, 2):
        tried.append(start.per_unit(rng.normal(size=start.hidden.shape) * radius * 10.0**power, radius))
    tried.append(start.per_unit(-np.sign(start.hidden) * radius, radius))  # towards flipping everything
    for delta in tried:
        net, line = start.net(delta), start.linear(delta)
        apart = interface.norm(line - q_c)
        main = float(np.sum(weight * (bellman(interface, net) - net) * (line - q_c)))
        beta = residual(net)
        charged = float((state_weight * np.abs(beta) * interface.lift(second))[keep].sum())
        moved = np.einsum("zord,zd->zor", delta[start.owner], start.x)
        flips = ((start.activation + moved > 0).astype(float) - (start.activation > 0)) * start.sign / 4.0
        off = np.einsum("zor,zor->zo", flips, np.einsum("zord,zd->zor", (delta - target.delta)[start.owner], start.x))
        mean = main + float((state_weight * beta * interface.lift(np.where(mask, off, 0.0)))[keep].sum())
        bound = (
            -(1 - weak("kappa", kappa)) * apart**2 + weak("e_h", (1 + kappa) * (e + h) * apart)
            + weak("c_C", cost) + weak("e_h", (1 + kappa) * e * h)
        )  # fmt: skip
        yield check("N drift", main + charged, bound, 1e-3 * size * size * radius)
        yield check("N mean", mean, bound, 1e-3 * size * size * radius)
    if interface.norm(known.q_phi_table - q_c) > 0.05 * interface.norm(known.q_phi_table):
        nearest = nets.nearest(start, radius, known.q_phi_table, target.delta, 4000, 1e-6 * size**2)
        bound = theorem.approximation_bound(interface.norm(nearest - known.q_phi_table), weak("kappa", kappa))
        bound += theorem.target_distance(target.slack, kappa)
        yield check("N3", interface.norm(q_c - known.q_phi_table), bound, 1e4 * ROUNDING * size)


def exact(case: Case, seed: int, weak: Weak) -> list[Check]:
    """All inequalities about exact quantities of one model."""
    rng = np.random.default_rng([9, seed])
    about = (operators, approximations, audits)
    return [*interfaces(case, weak), *(one for attack in about for one in attack(case, rng, weak))]


def alone(model: Model) -> bool:
    """Whether there is never a choice, so that IC-Q is its own linear companion."""
    return bool((available_options(model).sum(axis=1) <= 1).all())

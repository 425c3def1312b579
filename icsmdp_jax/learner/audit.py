"""Audit of what was learned: how far a table, or net, is from its fixed point, without a model (T5).

All parameters are frozen and the agents keep handing off, with the same protocol as in learning: one scalar each time.
Each agent averages its own temporal differences ``R + gamma^tau v - Q(z, o)`` and its own ``gamma^tau`` for each of its
pairs (z, o). In the end it tells the others two numbers, its largest upper confidence limit of either kind, and

    ||Q - Q_phi||_inf <= max |e| / (1 - gbar_phi).

Whether interfaces are numbers or vectors makes no difference; only the interfaces that were met are certified.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import Handoff, Segment
from icsmdp_jax.core.sampling import AliasTable
from icsmdp_jax.devices.placement import host_memory
from icsmdp_jax.learner import networks, rollout
from icsmdp_jax.learner.audit_limits import BATCHES, METHODS, Sums, covered, half_width
from icsmdp_jax.learner.exploration import fixed_behaviour, uniform_option
from icsmdp_jax.learner.icq import take
from icsmdp_jax.learner.memory import in_units
from icsmdp_jax.learner.message import Rule, protocol
from icsmdp_jax.learner.networks import ValueClass

LEVEL = 0.05  # probability that any limit of one table fails
CORRELATED = 0.1  # correlation of neighbouring batches from which they are too short
BYTES = 80  # for each pair, batch and table: sums, the same side by side, and what limits are computed from
LONGEST_CALL = 2**20  # rows that are brought to the host at once
FROZEN = Rule(lambda params: (), lambda params, state, direction, error, segment: (params, state))


@dataclasses.dataclass(frozen=True, eq=False)
class Audit:
    """An audit of ``[R]`` tables; all limits of one table hold together, with the level that was asked for.

    Attributes:
      handoffs: M, of each table.
      method: one of ``audit_limits.METHODS``.
      pairs: ``[P, 2]`` int interface and option; the interface counts rows of ``interfaces``.
      interfaces: ``[Z]`` numbers of the interfaces; where they are vectors ``[Z, 1 + dim]``, agent and vector.
      errors: sums of temporal differences, ``[R, b, P]``.
      discounts: sums of ``gamma^tau``, 0 at terminal handoffs.
      residual: ``[R, P]`` mean temporal difference; NaN where there was no visit.
      limit: ``[R, P]`` upper limit of its absolute value; infinite where none can be given.
      modulus: ``[R, P]`` upper limit of ``E[gamma^tau; not terminal | z, o]``.
      covered: ``[R, P]`` bool, whether the pair was met often enough for a limit.
    """

    handoffs: int
    method: str
    pairs: np.ndarray
    interfaces: np.ndarray
    errors: Sums
    discounts: Sums
    residual: np.ndarray
    limit: np.ndarray
    modulus: np.ndarray
    covered: np.ndarray

    @property
    def error_bounds(self) -> np.ndarray:
        """``[R]`` bound on ``||Q - Q_phi||_inf`` of each table; infinite where there is none."""
        modulus = self.modulus.max(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(modulus < 1, self.limit.max(axis=1) / (1 - modulus), np.inf)

    @property
    def correlation(self) -> float:
        """Correlation of neighbouring batches, which should be near 0: if it is not, the batches are too short."""
        deviations = self.errors.deviations
        size = float((deviations**2).sum())
        return float((deviations[:, 1:] * deviations[:, :-1]).sum()) / size if size > 0 else 0.0

    def plain(self) -> dict[str, Any]:
        """What ``icsmdp learn --audit`` prints: the worst of the tables, None for what cannot be claimed."""

        def finite(value: float) -> float | None:
            return float(value) if np.isfinite(value) else None

        whole = self.covered.all(axis=0)
        size = np.where(np.isnan(self.residual), 0.0, np.abs(self.residual))
        missing = [[int(z), int(o)] for z, o in self.pairs[~whole]]
        return {
            "handoffs": self.handoffs,
            "largest_residual": finite(size[:, whole if whole.any() else slice(None)].max()),
            "upper_limit": finite(self.limit.max()),
            "error_bound": finite(self.error_bounds.max()),
            "method": self.method,
            "modulus_limit": finite(self.modulus.max()),
            "pairs": len(self.pairs),
            "covered": int(whole.sum()),
            "not_covered": missing,
            "batch_correlation": self.correlation,
        }


def audit(
    env: Environment,
    env_params: Any,
    values: ValueClass,
    data: Any,
    params: Any,
    key: chex.PRNGKey,
    handoffs: int,
    *,
    behaviour: AliasTable | None = None,
    pairs: np.ndarray | None = None,
    method: str = "batch-means",
    size: float | None = None,
    gamma: float = 1.0,
    level: float = LEVEL,
    batches: int = BATCHES,
) -> Audit:
    """Audits frozen parameters over ``handoffs`` further handoffs of each replica (T5).

    Args:
      env: the environment.
      env_params: its parameters.
      values: the function class.
      data: its data.
      params: parameters, leaves ``[R, ...]``: one set for each replica.
      key: of all randomness.
      handoffs: M for each replica, of which the remainder of a division by ``batches`` is not used; as many as a batch
        are run before, so that the chain forgets its start.
      behaviour: alias tables of the behaviour policy by interface; uniform over what is available if None.
      pairs: ``[Z, O]`` bool, pairs that must be covered; those that were available at an interface that was met if
        None.
      method: ``"batch-means"`` or ``"random-scaling"``, or ``"bernstein"`` where the gap is closed.
      size: bound on the absolute temporal difference, for ``"bernstein"``.
      gamma: upper bound on ``gamma^tau``, if it is known.
      level: probability that any limit of one table fails; Bonferroni over pairs and over both kinds of limits.
      batches: b.

    Raises:
      ValueError: for fewer handoffs than two for each batch, an unknown method, a size that a difference exceeds, or
        sums that do not fit into memory.
    """
    if handoffs < 2 * batches:
        raise ValueError(f"handoffs = {handoffs}: expected at least {2 * batches} to audit in {batches} batches")
    if method not in METHODS:
        raise ValueError(f"method = {method!r}: expected one of {', '.join(METHODS)}")
    replicas = jax.tree.leaves(params)[0].shape[0]
    listed = env.spec.num_interfaces * env.spec.num_options if pairs is None else int(np.sum(pairs))
    check_memory(listed, replicas, batches)
    frozen = _Frozen(env, values, behaviour is None)
    inputs = (env_params, data, jax.tree.map(jnp.asarray, params), behaviour)
    length = handoffs // batches
    state, seen = frozen.start(jax.random.fold_in(key, 0), inputs, replicas), _Seen(pairs, replicas, batches)
    call = min(length, max(1, LONGEST_CALL // replicas))
    lengths = [call] * (length // call) + ([length % call] if length % call else [])
    count = 0
    for batch in range(-1, batches):
        for part in lengths:
            count += 1
            state, rows = frozen.run(jax.random.fold_in(key, count), state, inputs, part)
            if batch >= 0:
                seen.add(batch, jax.device_get(rows))
    labels, interfaces, errors, discounts = seen.sums()
    if method == "bernstein" and size is not None and seen.largest > size:
        raise ValueError(f"size = {size:.6g}: expected a bound on the differences, one of which is {seen.largest:.6g}")
    each = level / (2 * len(labels))
    limit = np.abs(np.nan_to_num(errors.mean)) + half_width(errors, method, each, size)
    modulus = np.nan_to_num(discounts.mean, nan=1.0) + half_width(discounts, method, each, 1.0, sides=1)
    return Audit(
        handoffs, method, labels, interfaces, errors, discounts, errors.mean, limit, np.minimum(modulus, gamma),
        covered(errors, method),
    )  # fmt: skip


def remarks_of(content: dict[str, Any]) -> list[str]:
    """What else a reader of ``Audit.plain`` should know."""
    out = []
    if content["covered"] < content["pairs"]:
        rare = content["pairs"] - content["covered"]
        out.append(f"audit: {rare} of {content['pairs']} pairs were met in less than half of the batches; no bound")
    if content["batch_correlation"] > CORRELATED:
        out.append(f"audit: neighbouring batches correlate ({content['batch_correlation']:.2f}), expected longer ones")
    return out


def check_memory(pairs: int, replicas: int, batches: int = BATCHES) -> None:
    """Refuses an audit whose sums would not fit into memory, before anything is run.

    Raises:
      ValueError: in one line with the forecast and what would fit.
    """
    each, limit = BYTES * pairs * batches, host_memory()
    if each * replicas > limit:
        raise ValueError(
            f"audit: {replicas} tables of {pairs} pairs need {in_units(each * replicas)}, expected at most "
            f"{in_units(limit)}; {limit // each} would fit"
        )


def mean_modulus(env: Environment, env_params: Any, key: chex.PRNGKey, handoffs: int) -> float:
    """Mean ``gamma^tau`` over some handoffs under uniform behaviour, terminal ones left out."""
    values = networks.tabular(1, env.spec.num_options)
    first, then = jax.random.split(key)
    frozen, inputs = _Frozen(env, values, True), (env_params, None, jnp.zeros((1, 1, env.spec.num_options)), None)
    discount = np.asarray(frozen.run(then, frozen.start(first, inputs, 1), inputs, handoffs)[1]["discount"], float)
    return float(discount[discount > 0].mean()) if (discount > 0).any() else 0.0


@dataclasses.dataclass(frozen=True)
class _Frozen:
    """Handoffs with frozen parameters, one set of parameters for each copy of the environment."""

    env: Environment
    values: ValueClass
    uniform: bool

    def start(self, key: chex.PRNGKey, inputs: Any, replicas: int) -> Any:
        """First decisions of all copies."""
        return _start(self, key, inputs[0], replicas)

    def run(self, key: chex.PRNGKey, state: Any, inputs: Any, length: int) -> tuple[Any, dict[str, chex.Array]]:
        """``length`` handoffs of every copy, and what each agent keeps of them: ``[length, R]`` arrays."""
        return _run(self, key, state, inputs, length)


def _handoffs(
    frozen: _Frozen, key: chex.PRNGKey, state: Any, inputs: Any, length: int
) -> tuple[Any, dict[str, chex.Array]]:
    env_params, data, params, behaviour = inputs
    values, (offer, absorb) = frozen.values, protocol(frozen.values.apply, FROZEN)

    def act(words: chex.Array, now: Handoff) -> chex.Array:
        if frozen.uniform:
            return jax.vmap(uniform_option)(words[:, 0], now.mask)
        return jax.vmap(lambda word, z: fixed_behaviour(word, z, behaviour))(words[:, 0], now.interface)

    def turn(carry: chex.Array, now: Handoff, option: chex.Array, after: Handoff) -> tuple[rollout.Rows, chex.Array]:
        return rollout.segment(now, option, after), carry

    state, rows = rollout.collect(frozen.env, env_params, act, 1, turn, key, state, length)

    def difference(row: rollout.Rows, own: Any) -> chex.Array:
        receiver = take(own, values.slot(row.final_agent, row.final_interface))
        scalar = offer(receiver, values.view(data, row.final_interface), row.final_mask)
        segment = Segment(values.view(data, row.interface), row.option, row.reward, row.discount, jnp.int32(0))
        return absorb(take(own, values.slot(row.agent, row.interface)), (), segment, scalar)[2]

    error = jax.vmap(jax.vmap(difference), in_axes=(0, None))(rows, params)
    kept = {
        "agent": rows.agent,
        "interface": rows.interface,
        "mask": rows.mask,
        "option": rows.option,
        "discount": rows.discount,
    }
    return state, {**kept, "error": error}


def _decisions(frozen: _Frozen, key: chex.PRNGKey, env_params: Any, replicas: int) -> Any:
    handoff, state = jax.vmap(frozen.env.reset, in_axes=(0, None))(jax.random.split(key, replicas), env_params)
    return state, handoff, jnp.zeros((replicas,))


_run = jax.jit(_handoffs, static_argnums=(0, 4))
_start = jax.jit(_decisions, static_argnums=(0, 3))


class _Seen:
    """Sums over the handoffs so far, by replica, batch and pair; interfaces that are vectors are numbered as met."""

    def __init__(self, pairs: np.ndarray | None, replicas: int, batches: int) -> None:
        self.shape, self.fixed = (replicas, batches), pairs is not None
        self.numbers: dict[bytes, int] = {}
        self.rows: list[np.ndarray] = []
        self.mask = np.zeros((0, 0), bool) if pairs is None else np.array(pairs, bool)
        self.tables: dict[tuple[int, str], np.ndarray] = {}  # by batch and kind: [R, Z O]; squares as batch -1
        self.largest = 0.0  # absolute difference

    def add(self, batch: int, rows: dict[str, np.ndarray]) -> None:
        """Adds ``[T, R]`` handoffs of one batch."""
        length, replicas = rows["option"].shape
        mask = rows["mask"].reshape(length * replicas, -1)
        seen = rows["interface"].reshape(length * replicas, *rows["interface"].shape[2:])
        number = self._numbered(seen, rows["agent"].reshape(-1))
        grow = max(number.max() + 1 - len(self.mask), 0)
        self.mask = np.concatenate(
            [self.mask.reshape(len(self.mask), mask.shape[1]), np.zeros((grow, mask.shape[1]), bool)]
        )
        if not self.fixed:
            one = np.zeros(len(self.mask), int)
            one[number] = np.arange(len(number))  # any handoff there will do: a mask belongs to its interface
            new = np.flatnonzero(np.bincount(number, minlength=len(self.mask)) > 0)
            self.mask[new] |= mask[one[new]]
        place = number * mask.shape[1] + rows["option"].reshape(-1)
        place = np.tile(np.arange(replicas), length) * self.mask.size + place
        error = rows["error"].reshape(-1).astype(np.float64)
        discount = rows["discount"].reshape(-1).astype(np.float64)
        self.largest = max(self.largest, float(np.abs(error).max()))
        own = {"visits": None, "error": error, "discount": discount}
        squares = {"error": error**2, "discount": discount**2}  # of all batches together
        terms = {(batch, name): weight for name, weight in own.items()} | {(-1, n): w for n, w in squares.items()}
        for name, weight in terms.items():
            table = np.bincount(place, weights=weight, minlength=replicas * self.mask.size).reshape(replicas, -1)
            old = self.tables.get(name, np.zeros((replicas, 0)))
            table[:, : old.shape[1]] += old.astype(table.dtype)
            self.tables[name] = table

    def _numbered(self, interfaces: np.ndarray, agent: np.ndarray) -> np.ndarray:
        """Numbers of interfaces ``[n, ...]``: themselves; of vectors, places in the list of those met so far."""
        if interfaces.ndim == 1 and np.issubdtype(interfaces.dtype, np.integer):
            return interfaces.astype(int)
        flat = np.column_stack([agent.astype(interfaces.dtype), interfaces.reshape(len(interfaces), -1)])
        unique, inverse = np.unique(flat, axis=0, return_inverse=True)
        for row in unique:
            if self.numbers.setdefault(row.tobytes(), len(self.numbers)) == len(self.rows):
                self.rows.append(row)
        return np.array([self.numbers[row.tobytes()] for row in unique])[inverse.reshape(-1)]

    def sums(self) -> tuple[np.ndarray, np.ndarray, Sums, Sums]:
        """Labels of the pairs, the interfaces, and the sums of differences and of discounts."""
        keep, options = np.flatnonzero(self.mask.reshape(-1)), self.mask.shape[1]
        replicas, batches = self.shape

        def kept(batch: int, name: str) -> np.ndarray:
            table = self.tables[batch, name]
            out = np.zeros((replicas, len(keep)))
            there = keep < table.shape[1]  # later batches may have met further interfaces
            out[:, there] = table[:, keep[there]]
            return out

        visits, error, discount = (
            np.stack([kept(batch, name) for batch in range(batches)], axis=1)
            for name in ("visits", "error", "discount")
        )
        errors, discounts = Sums(visits, error, kept(-1, "error")), Sums(visits, discount, kept(-1, "discount"))
        interfaces = np.array(self.rows) if self.rows else np.arange(len(self.mask))
        return np.stack([keep // options, keep % options], axis=1), interfaces, errors, discounts

"""What a policy is worth on a finite model, exactly, and on the scale from the random workflow to the oracle.

The return ``J`` of a policy is the mean of its value (D3) over the law of the first state, in float64 and on the host;
whatever does not depend on the policy is computed once by ``Returns`` and shared by all replicas. Environments that are
not finite models have ``simulated_return``.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from icsmdp_jax.core.arguments import of_type
from icsmdp_jax.exact.chain import behaviour_chain, uniform_behaviour
from icsmdp_jax.exact.interface import InterfaceModel, interface_model, solve_interface
from icsmdp_jax.exact.moments import KernelMoments, kernel_moments
from icsmdp_jax.exact.solve import Solution, evaluate_policy, optimal_q
from icsmdp_jax.models.tabular import TabularModel

ROOM = 1e-9  # lead of the oracle over chance, relative to the scale, that is taken for rounding
SUM_TOLERANCE = 1e-5  # float32 softmax rows of some hundred options still pass; rows are renormalised afterwards


class Interval(NamedTuple):
    """A mean over replicas with its interval; arrays where the values had further axes.

    Attributes:
      mean: mean over replicas.
      ci_low: lower end; NaN for a single replica, about whose spread nothing is known.
      ci_high: upper end.
      replicas: number of replicas.
    """

    mean: Any
    ci_low: Any
    ci_high: Any
    replicas: int


def half_width(values: np.ndarray, level: float = 0.95) -> Any:
    """Half the width of the t-interval for the mean of ``[replicas, ...]`` values; NaN for a single replica."""
    from scipy import stats

    sample = np.asarray(values, np.float64)
    count = sample.shape[0]
    if count < 2:
        return np.full(sample.shape[1:], np.nan)[()]
    quantile = float(stats.t.ppf((1 + level) / 2, count - 1))
    return quantile * sample.std(axis=0, ddof=1) / np.sqrt(count)


def mean_interval(values: np.ndarray, level: float = 0.95) -> Interval:
    """Mean over the first axis with a t-interval.

    Args:
      values: ``[replicas, ...]``.
      level: coverage.

    Raises:
      ValueError: if there is no replica at all.
    """
    sample = np.asarray(values, np.float64)
    if sample.ndim == 0 or not len(sample):
        raise ValueError(f"values: expected one replica or more along the first axis, found shape {sample.shape}")
    mean, half = sample.mean(axis=0), half_width(sample, level)
    return Interval(mean, mean - half, mean + half, len(sample))


def has_scale(random: float, oracle: float, size: float = 0.0) -> bool:
    """Whether the oracle beats chance beyond rounding, relative to both and to ``size``, a scale of rewards."""
    return oracle - random > ROOM * max(abs(oracle), abs(random), size)


def normalised(value: Any, random: float, oracle: float, size: float = 0.0) -> Any:
    """``(J - J_random) / (J_oracle - J_random)``: 0 for the random workflow, 1 for the oracle.

    Args:
      value: return, or an array of returns.
      random: return of the random policy.
      oracle: return of the oracle.
      size: scale of the rewards, for ``has_scale``.

    Raises:
      ValueError: if the oracle is no better than chance beyond rounding, so that there is nothing to learn.
    """
    if not has_scale(random, oracle, size):
        raise ValueError(f"oracle = {oracle:.9g}: expected more than random = {random:.9g}, or there is no scale")
    return (np.asarray(value, np.float64) - random)[()] / (oracle - random)


def greedy(table: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The best available option of every row, the first among equals.

    Args:
      table: ``[..., Z, O]`` values; what stands at unavailable options does not matter.
      mask: ``[Z, O]`` bool. A row without any available option gets option 0; one whose available values are all minus
        infinity its first available option.

    Returns:
      ``[..., Z]`` int.

    Raises:
      ValueError: if an available option has a value that is not a number.
    """
    values = np.asarray(table, np.float64)
    lost = np.isnan(values) & mask
    if lost.any():
        index = ", ".join(str(int(i)) for i in np.argwhere(lost)[0])
        raise ValueError(f"table[{index}] = nan: expected a number at every available option")
    values = np.where(mask, values, -np.inf)
    return (mask & (values == values.max(axis=-1, keepdims=True))).argmax(axis=-1)


def random_policy(model: TabularModel) -> np.ndarray:
    """``[Z, O]`` policy that picks each available option equally often."""
    return uniform_behaviour(model)


def _immediate(interface: InterfaceModel) -> np.ndarray:
    rewards = np.where(interface.mask, interface.reward, -np.inf)
    return greedy(rewards, interface.model.option_mask)


def start_law(model: TabularModel, moments: KernelMoments | None = None) -> np.ndarray:
    """``[S]`` law of the first state: the model's own given that the state decides, else the stationary law (D4).

    Args:
      model: the IC-SMDP.
      moments: moments of its kernel, if they are known already.

    Raises:
      ValueError: if there is no start law and the uniform behaviour has not exactly one recurrent class.
    """
    if model.start is not None:
        law = np.where(model.is_terminal, 0.0, model.start)
        return law / law.sum()
    moments = kernel_moments(model) if moments is None else moments
    return behaviour_chain(model, None, moments.probability).stationary


@dataclasses.dataclass(frozen=True, eq=False)
class Returns:
    """Exact returns of policies on one model (D3); kernel, oracle and baselines are computed once, when first needed.

    A policy is a table over interfaces or over states: ``[Z]`` or ``[S]`` integers name one option each, ``[Z, O]`` or
    ``[S, O]`` numbers are probabilities. ``by_state`` says which of the two; without it the shape decides.

    Attributes:
      model: the IC-SMDP.
      behaviour: ``[Z, O]`` behaviour policy that weighs the hidden part in interface quantities; uniform if None.

    Example:
      >>> import icsmdp_jax as ic
      >>> returns = ic.Returns(ic.make("planted", gap=0.2)[0].model)
      >>> bool(returns.random < returns.of_greedy(returns.q_phi.q.reshape(40, 4)) <= returns.oracle)
      True
    """

    model: TabularModel
    behaviour: np.ndarray | None = None

    def __repr__(self) -> str:
        return f"Returns({self.model!r}, {'uniform' if self.behaviour is None else 'given'} behaviour)"

    def __post_init__(self) -> None:
        of_type(TabularModel, "a TabularModel; load_model reads a model file", model=self.model)

    @staticmethod
    def on(interface: InterfaceModel) -> Returns:
        """Returns on a model whose interface model exists already, so that it is not computed again."""
        found = Returns(interface.model, interface.chain.behaviour)
        vars(found).update(moments=interface.moments, interface=interface)  # where cached_property looks first
        return found

    @cached_property
    def moments(self) -> KernelMoments:
        """Moments of the option kernel (D2)."""
        return kernel_moments(self.model)

    @cached_property
    def start(self) -> np.ndarray:
        """``[S]`` law of the first state, ``start_law``."""
        return start_law(self.model, self.moments)

    @cached_property
    def interface(self) -> InterfaceModel:
        """The interface model under the behaviour policy (D5)."""
        return interface_model(self.model, self.behaviour, self.moments)

    @cached_property
    def q_star(self) -> Solution:
        """``Q*`` over states (D3)."""
        return optimal_q(self.moments)

    @cached_property
    def q_phi(self) -> Solution:
        """``Q_phi`` over interfaces, where tabular IC-Q converges (D5)."""
        return solve_interface(self.interface)

    @cached_property
    def oracle(self) -> float:
        """Return of the policy that is greedy in ``Q*``: the most that any policy earns."""
        return self.of(greedy(self.q_star.q, self.moments.used), by_state=True)

    @cached_property
    def random(self) -> float:
        """Return of the uniformly random workflow."""
        return self.of(random_policy(self.model), by_state=False)

    @cached_property
    def greedy_immediate(self) -> float:
        """Return of the workflow that looks at the expected segment reward only."""
        return self.of(_immediate(self.interface), by_state=False)

    @cached_property
    def interface_optimum(self) -> float:
        """Return of the policy that is greedy in ``Q_phi``: what exact IC-Q earns, policy loss included (T1.3)."""
        return float(self.of_greedy(self.q_phi.q))

    @property
    def has_scale(self) -> bool:
        """Whether the oracle beats the random workflow beyond rounding, so that ``normalised`` has a scale."""
        return has_scale(self.random, self.oracle, self.size)

    def normalised(self, value: Any) -> Any:
        """A return, or an array of them, on the scale from this model's random workflow (0) to its oracle (1)."""
        return normalised(value, self.random, self.oracle, self.size)

    @cached_property
    def size(self) -> float:
        """Largest expected segment reward, in absolute value: what rounding is relative to."""
        return float(np.abs(self.moments.reward_mean).max())

    def value(self, policy: np.ndarray, by_state: bool | None = None) -> np.ndarray:
        """``[S]`` value of a policy, by a direct linear solve (D3); 0 at terminal states.

        Args:
          policy: see the class.
          by_state: whether the table is over states; None lets the shape decide.

        Raises:
          ValueError: if it is not a policy of this model, or may be read in both ways.
        """
        choice, law = self._over_states(np.asarray(policy), by_state)
        moments, decides = self.moments, ~self.model.is_terminal
        if choice is not None:
            return evaluate_policy(moments.reward_mean, moments.discounted, choice, decides, killing=moments.killing)
        s, o = moments.used.shape
        assert law is not None
        pick = sparse.csr_array((law.reshape(-1), (np.repeat(np.arange(s), o), np.arange(s * o))), shape=(s, s * o))
        reward = (law * moments.reward_mean).sum(axis=1, keepdims=True)
        killing = np.where(decides, (law * moments.killing).sum(axis=1), 1.0)[:, None]
        return evaluate_policy(reward, pick @ moments.discounted, np.zeros(s, int), decides, killing=killing)

    def of(self, policy: np.ndarray, by_state: bool | None = None) -> float:
        """``J``: mean value of a policy over the law of the first state; arguments and errors as in ``value``."""
        return float(self.start @ self.value(policy, by_state))

    def of_greedy(self, tables: np.ndarray, by_state: bool = False) -> Any:
        """Returns of the policies that are greedy in value tables; equal policies are evaluated once.

        Args:
          tables: ``[..., Z, O]`` (``[..., S, O]`` with ``by_state``), any number of leading axes.
          by_state: whether the tables are over states.

        Returns:
          ``[...]`` float64.
        """
        mask = self.moments.used if by_state else self.model.option_mask
        choices = greedy(tables, mask)
        flat = choices.reshape(-1, choices.shape[-1])
        distinct, which = np.unique(flat, axis=0, return_inverse=True)
        returns = np.array([self.of(choice, by_state) for choice in distinct])
        return returns[which.reshape(-1)].reshape(choices.shape[:-1])[()]

    def _over_states(self, table: np.ndarray, by_state: bool | None) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The policy over states, checked: ``(choice [S], None)`` or ``(None, law [S, O])``."""
        model, mask = self.model, self.moments.used
        integer = table.ndim == 1 and table.dtype.kind in "iu"
        if not integer and not (table.ndim == 2 and table.dtype.kind == "f" and table.shape[1] == model.num_options):
            raise ValueError(
                f"policy: expected integers [Z] or [S], or real numbers [Z, {model.num_options}] or "
                f"[S, {model.num_options}], found {table.dtype} {list(table.shape)}"
            )
        if not self._reads_by_state(len(table), by_state):
            table = table[model.interface]
        if integer:
            inside = (table >= 0) & (table < model.num_options)
            allowed = inside & mask[np.arange(len(mask)), np.where(inside, table, 0)]
            bad = ~allowed & ~model.is_terminal
            if bad.any():
                s = int(np.flatnonzero(bad)[0])
                raise ValueError(f"policy: option {table[s]} in state {s}, expected one that is available there")
            return np.where(allowed, table, 0), None
        decides = ~model.is_terminal
        bad = decides[:, None] & ~np.where(mask, table >= -SUM_TOLERANCE, np.abs(table) <= SUM_TOLERANCE)
        if bad.any():
            s, o = (int(i) for i in np.argwhere(bad)[0])
            wanted = "0 or more" if mask[s, o] else "0, because the option is not available"
            raise ValueError(f"policy: probability {table[s, o]} of option {o} in state {s}, expected {wanted}")
        law = np.where(mask, np.maximum(table, 0.0), 0.0).astype(np.float64)
        total = law.sum(axis=1)
        off = decides & ~(np.abs(total - 1) <= SUM_TOLERANCE)
        if off.any():
            s = int(np.flatnonzero(off)[0])
            raise ValueError(f"policy: probabilities in state {s} sum to {total[s]:.9g}, expected 1")
        return None, law / np.where(decides, total, 1.0)[:, None]

    def _reads_by_state(self, rows: int, by_state: bool | None) -> bool:
        states, interfaces = self.model.num_states, self.model.num_interfaces
        if by_state is None and rows == states == interfaces:
            if not np.array_equal(self.model.interface, np.arange(states)):
                raise ValueError(
                    f"policy: {rows} rows may be interfaces or states of this model; expected by_state to say which"
                )
            return True
        wanted = rows == states if by_state is None else by_state
        if rows != (states if wanted else interfaces):
            raise ValueError(f"policy: expected {interfaces} rows (interfaces) or {states} (states), found {rows}")
        return wanted


def central_model(model: TabularModel) -> TabularModel:
    """The same dynamics for one agent that sees the handoff state itself: the central learner's view (D1, D3).

    Its features, if the model has any, are those of the state's interface, one-hot codes of the agent and of the
    state's rank among the deciding states that agent and features do not tell apart; so no two of them are alike.

    Args:
      model: an IC-SMDP.

    Returns:
      A model with ``Z = S`` interfaces, numbered and named as the states are, all of agent 0; what agents are called
      and which fields they see is left out.
    """
    changes: dict[str, Any] = {
        "agent": np.zeros(model.num_states, np.int32),
        "interface": np.arange(model.num_states, dtype=np.int32),
        "interface_name": model.state_name,
        "agent_name": None,
        "visible": None,
    }
    if model.available is not None:
        changes["available"] = model.available[model.interface]
    if model.features is not None:
        described = model.features[model.interface]
        agent = np.eye(model.num_agents)[model.agent]
        rank = _rank_among_alike(np.column_stack([agent, described]), ~model.is_terminal)
        code = np.eye(int(rank.max()) + 1)[rank] * ~model.is_terminal[:, None]
        changes["features"] = np.column_stack([described, agent, code])
    return model.replace(**changes)


def _rank_among_alike(rows: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """``[n]`` how many earlier counted rows equal this one; 0 for rows that are not counted."""
    _, group = np.unique(rows, axis=0, return_inverse=True)
    seen: dict[int, int] = {}
    rank = np.zeros(len(rows), int)
    for row in np.flatnonzero(counted):
        label = int(group.reshape(-1)[row])
        rank[row] = seen.get(label, 0)
        seen[label] = rank[row] + 1
    return rank

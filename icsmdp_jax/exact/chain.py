"""The Markov chain of handoff states under a behaviour policy: stationary law and mixing time (D4, D8)."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from icsmdp_jax.exact.elimination import Elimination, dense_law
from icsmdp_jax.exact.large_chain import Restarted, graph, period, restarted, sparse_law
from icsmdp_jax.exact.moments import Matrix, as_dense
from icsmdp_jax.models.arrays import SUM_TOLERANCE
from icsmdp_jax.models.tabular import TabularModel

SPARSE_ABOVE = 3000  # states beyond which the analysis never forms a square array over states
CACHED = 2**15  # numbers that are looked at together
DENSER = 12  # times that one multiplication takes longer with compressed rows than with dense ones
POWERS = 4e9  # bytes of powers of a chain that a clock keeps; 41 of them in any case
NAMED = 4  # states or classes that a message names
ABSORBING = "an absorbing state is declared with `terminal`"


@dataclasses.dataclass(frozen=True)
class BehaviourChain:
    """Chain of decision states under a behaviour policy that sees only the interface (D4).

    Attributes:
      behaviour: ``[Z, O]`` probabilities of the options at each interface.
      transition: ``[n, n]`` transition matrix over the decision states of the recurrent class: an array, compressed
        rows, or ``Restarted``.
      states: ``[n]`` int, their indices in the model.
      stationary: ``[S]`` stationary law ``d``; positive at ``states``, 0 at terminal and at transient states.
      start: ``[S]`` law of the state that replaces a terminal handoff; zeros in a continuing model.
      sparse: whether the analysis uses iterative solvers and bounds instead of square arrays over states.
      residual: ``sum_s |(d P - d)(s)|``.
      relative_error: certified bound on the relative error of every ``d(s)``.
      elimination: factors of ``I - P``; None where the law was found by iteration.
    """

    behaviour: np.ndarray
    transition: Matrix
    states: np.ndarray
    stationary: np.ndarray
    start: np.ndarray
    sparse: bool = False
    residual: float = 0.0
    relative_error: float = 0.0
    elimination: Elimination | None = dataclasses.field(default=None, repr=False)

    def poisson(self, right: np.ndarray) -> np.ndarray:
        """``f`` with ``(I - P) f = right`` and mean 0 under the stationary law, by elimination (P2).

        Args:
          right: ``[n]`` or ``[n, c]`` of mean 0 under the stationary law.

        Returns:
          The shape of ``right``; each entry is accurate relative to the sum of ``|right|`` that a path from its state
          collects on the way to a frequent state.

        Raises:
          ValueError: if the law was found by iteration, and there are no factors.
        """
        if len(right) == 1:
            return np.zeros_like(right)
        if self.elimination is None:
            raise ValueError("poisson: no factors, expected a chain whose law was found by elimination")
        padded = np.zeros((self.elimination.count, *right.shape[1:]))  # a restart is a state of its own
        padded[: len(right)] = right
        found = self.elimination.solve(padded)[: len(right)]
        return found - self.stationary[self.states] @ found


def uniform_behaviour(model: TabularModel) -> np.ndarray:
    """``[Z, O]`` policy that picks each available option equally often; zero rows where none is available."""
    mask = model.option_mask
    return mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)


def checked_behaviour(model: TabularModel, behaviour: np.ndarray | None) -> np.ndarray:
    """A behaviour policy, validated: positive on available options, zero elsewhere, rows summing to 1.

    Raises:
      ValueError: one line that names the index and the value.
    """
    if behaviour is None:
        return uniform_behaviour(model)
    law = np.asarray(behaviour)
    shape = (model.num_interfaces, model.num_options)
    if law.dtype.kind not in "fiu" or law.shape != shape:
        raise ValueError(
            f"behaviour: expected real numbers of shape {list(shape)}, found {law.dtype} {list(law.shape)}"
        )
    law = law.astype(np.float64)
    decides = model.interface_agent >= 0
    needed = decides[:, None] & model.option_mask
    for bad, wanted in (
        (~np.isfinite(law) & decides[:, None], "a finite number"),
        (needed & ~(law > 0), "more than 0 at every available option"),
        (
            decides[:, None] & ~model.option_mask & ~(np.abs(law) <= SUM_TOLERANCE),
            "0, because the option is not available",
        ),
    ):
        if bad.any():
            z, o = (int(i) for i in np.argwhere(bad)[0])
            raise ValueError(f"behaviour[{z}, {o}] = {law[z, o]}: expected {wanted}")
    law = np.where(needed, law, 0.0)
    total = law.sum(axis=1)
    off = decides & (np.abs(total - 1) > SUM_TOLERANCE)
    if off.any():
        z = int(np.flatnonzero(off)[0])
        raise ValueError(f"behaviour[{z}] sums to {total[z]:.9g}: expected 1")
    return law / np.where(decides, total, 1.0)[:, None]


def policy_matrix(model: TabularModel, behaviour: np.ndarray, rows: Matrix) -> Matrix:
    """``[S, S]`` average of the option rows ``[S*O, S]`` under a behaviour policy; zero rows at terminal states."""
    s, o = model.num_states, model.num_options
    weight = behaviour[model.interface] * ~model.is_terminal[:, None]
    pick = sparse.csr_array((weight.reshape(-1), (np.repeat(np.arange(s), o), np.arange(s * o))), shape=(s, s * o))
    return pick @ rows


def restart_law(model: TabularModel) -> np.ndarray:
    """``[S]`` start law given that the state decides; zeros in a model without terminal states."""
    if model.start is None or not model.is_terminal.any():
        return np.zeros(model.num_states)
    law = np.where(model.is_terminal, 0.0, model.start)
    return law / law.sum()


def with_restart(rows: Matrix, terminal: np.ndarray, start: np.ndarray) -> Matrix:
    """Sends the mass that enters terminal states to the start law instead (D4).

    Args:
      rows: ``[n, S]`` sub-stochastic rows over next states.
      terminal: ``[S]`` bool.
      start: ``[S]`` restart law.

    Returns:
      ``[n, S]`` rows with no mass on terminal states.
    """
    if not terminal.any():
        return rows
    if sparse.issparse(rows):
        lost = np.asarray(rows @ terminal.astype(float))
        kept = rows @ sparse.diags_array((~terminal).astype(float))
        outer = sparse.csr_array(lost[:, None]) @ sparse.csr_array(start[None, :])
        return sparse.csr_array(kept + outer)
    return rows * ~terminal + (rows[:, terminal].sum(axis=1))[:, None] * start[None, :]


def behaviour_chain(
    model: TabularModel, behaviour: np.ndarray | None, probability: Matrix, iterative: bool | None = None
) -> BehaviourChain:
    """The chain of decision states and its stationary law (D4).

    Args:
      model: the IC-SMDP.
      behaviour: ``[Z, O]`` behaviour policy; uniform over available options if None.
      probability: ``[S*O, S]`` where each segment ends (``KernelMoments.probability``).
      iterative: whether to use solvers for many states; by their number (``SPARSE_ABOVE``) if None.

    Returns:
      The chain restricted to its recurrent class, which every option leaves invariant.

    Raises:
      ValueError: if the chain has several recurrent classes, or the behaviour policy is not one.
    """
    law = checked_behaviour(model, behaviour)
    start = restart_law(model)
    many = model.num_states > SPARSE_ABOVE if iterative is None else iterative
    averaged = policy_matrix(model, law, probability)
    joined = (restarted if many else with_restart)(averaged, model.is_terminal, start)
    states = _recurrent_states(joined, ~model.is_terminal)
    if isinstance(joined, Restarted):
        transition: Matrix = joined.restricted(states)
    else:
        transition = joined[states][:, states]
    found = sparse_law(transition, states) if many else dense_law(as_dense(transition), states)
    stationary = np.zeros(model.num_states)
    stationary[states] = found.law
    return BehaviourChain(
        behaviour=law,
        transition=transition,
        states=states,
        stationary=stationary,
        start=start,
        sparse=many,
        residual=found.residual,
        relative_error=found.relative_error,
        elimination=found.elimination,
    )


def recurrent_classes(transition: Matrix, decides: np.ndarray) -> list[np.ndarray]:
    """The closed classes of decision states, each as indices: strongly connected components that are never left."""
    edges, states = graph(transition)
    count, label = csgraph.connected_components(edges, directed=True, connection="strong")
    source, target = edges.nonzero()
    leaves = np.zeros(count, bool)
    leaves[label[source[label[source] != label[target]]]] = True
    label = label[:states]
    closed = np.unique(label[decides & ~leaves[label]])
    order = np.argsort(label, kind="stable")
    ends = np.searchsorted(label[order], [closed, closed + 1])
    return sorted((order[a:b] for a, b in ends.T), key=lambda found: int(found[0]))


def _recurrent_states(transition: Matrix, decides: np.ndarray) -> np.ndarray:
    closed = recurrent_classes(transition, decides)
    if len(closed) != 1:
        names = "; ".join(_named(found) for found in closed[:NAMED]) + ("; ..." if len(closed) > NAMED else "")
        hint = ""
        if all(len(found) == 1 for found in closed):
            hint = f" ({ABSORBING})"
        raise ValueError(
            f"transition: the behaviour chain has {len(closed)} recurrent classes ({names}), expected 1{hint}"
        )
    return closed[0]


def _named(states: np.ndarray) -> str:
    some = ", ".join(str(int(s)) for s in states[:NAMED]) + (", ..." if len(states) > NAMED else "")
    return f"state {some}" if len(states) == 1 else f"states {some}"


def structure_warnings(model: TabularModel, chain: BehaviourChain) -> list[str]:
    """What a user should know about the states that the stationary law leaves out, one sentence each (D4).

    Args:
      model: the IC-SMDP.
      chain: its behaviour chain.
    """
    transient = int((~model.is_terminal).sum()) - len(chain.states)
    if not transient:
        return []
    count = f"{transient} of {model.num_states} states are transient"
    if len(chain.states) == 1 and not model.is_terminal.any():
        return [f"{count}; {ABSORBING} (state {int(chain.states[0])} is never left, and all weight is there)"]
    return [f"{count}; they have no weight, and no constant, bound or learned value is about them"]


def stationary_law(transition: Matrix) -> np.ndarray:
    """Stationary law of an irreducible chain, every weight accurate to rounding, however small (D4).

    Args:
      transition: ``[n, n]`` stochastic matrix; beyond ``SPARSE_ABOVE`` states it is not made dense.

    Returns:
      ``[n]`` float64 positive weights that sum to 1.

    Raises:
      ValueError: one line, if a weight is below the range of double precision, or cannot be certified.
    """
    many = transition.shape[0] > SPARSE_ABOVE
    return (sparse_law(transition) if many else dense_law(as_dense(transition))).law


def distance_to_stationarity(power: np.ndarray, stationary: np.ndarray) -> float:
    """``max_s TV(P^t(s, .), d)`` for a dense power ``P^t`` (D8)."""
    few = max(1, CACHED // len(stationary))
    rows = (power[at : at + few] - stationary for at in range(0, len(power), few))
    return 0.5 * max(float(np.abs(some, out=some).sum(axis=1).max()) for some in rows)


def settled(power: np.ndarray) -> np.ndarray:
    """A stochastic matrix, in place, that sums to 1 in every row.

    Where a state is rarely left, the diagonal is what the others leave: rounding would otherwise drown the small
    chances of leaving that a slow chain is all about. They are sums of positive products, and keep their relative
    accuracy.
    """
    diagonal = np.einsum("ii->i", power)
    stays = diagonal.copy()
    diagonal[:] = 0.0
    leaves = power.sum(axis=1)
    rarely = leaves < 0.5
    diagonal[:] = np.where(rarely, 1 - leaves, stays)
    power /= np.where(rarely, 1.0, leaves + stays)[:, None]
    return power


class MixingClock:
    """Mixing times of one chain by repeated squaring, with the powers kept between questions (D8).

    ``t_mix(e) = min{t : max_s TV(P^t(s, .), d) <= e}``. The distance never increases with t, so the first t is
    found by doubling and then descending binary digits; a periodic chain has no such t.
    """

    exact = True

    def __init__(self, transition: Matrix, stationary: np.ndarray, longest: int = 2**1000) -> None:
        self._transition = transition
        self._stationary = stationary
        self._powers: list[np.ndarray] = []
        self._distances: list[float] = []
        # Chains of many states whose powers would take too much memory are given up earlier.
        self._longest = min(longest, 2 ** min(1000, max(40, int(POWERS / (8 * len(stationary) ** 2)))))
        self._known: dict[float, float] = {}

    def __call__(self, accuracy: float) -> float:
        """Smallest ``t >= 0`` whose distance is at most ``accuracy``; ``inf`` if there is none below the limit."""
        if accuracy not in self._known:
            self._known[accuracy] = self._search(accuracy)
        return self._known[accuracy]

    def bounds(self, accuracy: float) -> tuple[float, float]:
        """``(low, high)`` with ``low <= t_mix(accuracy) <= high``: here both are the mixing time itself."""
        return self(accuracy), self(accuracy)

    def forget(self) -> None:
        """Lets the powers go, which take much memory; times that were asked for stay known."""
        self._powers, self._distances = [], []

    @cached_property
    def period(self) -> int:
        """Greatest common divisor of the lengths of cycles."""
        return period(self._transition)

    def _search(self, accuracy: float) -> float:
        if 1.0 - float(self._stationary.min()) <= accuracy:
            return 0.0  # P^0 is the identity
        if accuracy <= 0:
            return math.inf
        if not self._powers:
            self._powers = [settled(np.array(as_dense(self._transition)))]
            self._distances = [distance_to_stationarity(self._powers[0], self._stationary)]
        level = 0
        while self._distances[level] > accuracy:
            level += 1
            if 2**level > self._longest:
                return math.inf
            if level == len(self._powers):
                square = self._ahead(self._powers[-1], level - 1)
                self._powers.append(square)
                self._distances.append(distance_to_stationarity(square, self._stationary))
                stuck = level > 20 and self._distances[-1] >= self._distances[-2] * (1 - 1e-12)
                # Slow chains rest at a distance of about 1/2 or more as well, but not for ever.
                if stuck and self._distances[-1] > accuracy and (self._distances[-1] < 0.25 or self.period > 1):
                    return math.inf
        if level == 0:
            return 1.0
        steps, current = 2 ** (level - 1), self._powers[level - 1]
        for digit in range(level - 2, -1, -1):
            candidate = self._ahead(current, digit)
            if distance_to_stationarity(candidate, self._stationary) > accuracy:
                current, steps = candidate, steps + 2**digit
        return float(steps + 1)

    def _ahead(self, power: np.ndarray, digit: int) -> np.ndarray:
        """A power times ``P^(2^digit)``; by single steps from compressed rows, where these are few enough."""
        step = self._transition
        if not sparse.issparse(step) or DENSER * 2**digit * step.nnz > len(power) ** 2:
            return settled(power @ self._powers[digit])
        for _ in range(2**digit):
            power = step @ power
        return settled(power)


def mixing_time(transition: Matrix, stationary: np.ndarray, accuracy: float = 0.25) -> float:
    """``t_mix(accuracy)`` of a chain, exactly, by repeated squaring; ``inf`` for a periodic chain (D8)."""
    return MixingClock(transition, stationary)(accuracy)

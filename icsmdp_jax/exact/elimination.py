"""States eliminated one by one without a subtraction: laws and linear systems right in every entry, however small (D4).

Eliminating a state ``k`` from a chain leaves the chain that is watched while it is elsewhere:
``P(i, j) <- P(i, j) + P(i, k) P(k, j) / S(k)`` with ``S(k) = sum_{j != k} P(k, j)`` (Grassmann, Taksar and Heyman
1985). The diagonal is never read, so that ``1 - P(i, i)``, which loses a small exit probability to rounding, does not
occur, and sums, products and quotients of positive numbers keep their relative accuracy. The same factors
``I - P = (I - U)(D - L)``, with ``U``, ``D`` and ``L`` of no negative entry, solve ``(I - P) f = b``: every ``f(s)`` is
off by a small multiple of rounding times the sum of ``|b|`` that a path from ``s`` collects on its way to the reference
state.

Rows may be multiplied by anything (the solution of ``d (I - P) = 0`` changes by known factors). Each is multiplied by a
power of two that brings its exit probability to between 1/2 and 1, so that exits of 1e-300 do no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dtrtrs

PANELS = (96, 16)  # states eliminated between two products of large matrices, and of small ones
LEAST = 1e-300  # what is smaller than this, relative to 1, is not told from 0
RARER = 10.0  # powers of two by which another state may be more frequent than the reference
TRIES = 4  # references
STEPS = 16  # of the chain, to guess a frequent state
A_PRIORI = 60  # roundings of an entry in one step of elimination, ``PAIRWISE`` for its exit probability included
BLOCK = 2**22  # numbers of the columns that are looked at together
UNIT = float(np.finfo(float).eps) / 2  # largest relative error of one operation
PAIRWISE = 40  # roundings in a sum of up to 2**20 positive numbers as NumPy takes it, along a contiguous axis

Part = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Stage(NamedTuple):
    """States that are eliminated together, and those of the rest that they have transitions from or to.

    Attributes:
      kept: ``[k]`` int, the latter.
      gone: ``[e]`` int, the former.
      above: ``[k, e]`` ``-U`` from the kept to the eliminated states.
      inner: ``[e, e]`` ``-U`` above the diagonal, ``D`` on it, ``-L`` below it.
      before: ``[e, k]`` ``-L`` from the eliminated to the kept states.
    """

    kept: np.ndarray
    gone: np.ndarray
    above: np.ndarray
    inner: np.ndarray
    before: np.ndarray

    def up(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        """``(I - U)^-1`` within the stage, or the inverse of its transpose, times ``right``."""
        return solve_triangular(self.inner, right, trans=int(transposed), unit_diagonal=True, check_finite=False)

    def down(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        """``(D - L)^-1`` within the stage, or the inverse of its transpose, times ``right``."""
        return solve_triangular(self.inner, right, trans=int(transposed), lower=True, check_finite=False)


class Elimination:
    """Factors of ``I - P`` for a chain in which every state leads to a reference state.

    Attributes:
      reference: the state that is never eliminated.
      count: number ``n`` of states.
      stages: in the order of elimination.
    """

    def __init__(
        self,
        part: Part,
        exits: np.ndarray,
        border: np.ndarray,
        blocks: Sequence[np.ndarray],
        names: np.ndarray | None = None,
    ) -> None:
        """Eliminates the states of the last block first and those of the border last.

        Args:
          part: dense ``[r, c]`` transition probabilities between given states; what it says of a state and itself is
            not used.
          exits: ``[n]`` probability of leaving each state, as a sum over the others; that of the reference may be 0.
          border: ``[c]`` int, the reference state first.
          blocks: states of no transitions but to their own block, to the next one on either side, and to the border.
          names: ``[n]`` int, what a message calls the states; their indices if None.

        Raises:
          ValueError: one line, if a state is left with a probability of less than ``LEAST``.
        """
        self.reference = int(border[0])
        exponent = np.frexp(np.where(exits > 0, exits, 1.0))[1]
        self._exponent, self.count = exponent, len(exits)
        self._names = np.arange(len(exits)) if names is None else names

        def scaled(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
            return np.ldexp(part(rows, columns), -exponent[rows][:, None])

        self.stages: list[Stage] = []
        nothing = np.zeros(0, int)
        left = list(blocks)
        gone = left.pop() if left else nothing
        square = scaled(np.concatenate([border, gone]), np.concatenate([border, gone]))
        while len(gone):
            before = left.pop() if left else nothing
            kept = np.concatenate([border, before])
            if len(before):
                whole = np.zeros((len(kept) + len(gone),) * 2)
                here, there = np.r_[: len(border), len(kept) : len(whole)], np.arange(len(border), len(kept))
                whole[np.ix_(here, here)] = square
                whole[np.ix_(there, there)] = scaled(before, before)
                whole[np.ix_(there, here)] = scaled(before, np.concatenate([border, gone]))
                whole[np.ix_(here, there)] = scaled(np.concatenate([border, gone]), before)
                square = whole
            square = self._eliminated(square, kept, gone)
            gone = before
        if len(border) > 1:
            self._eliminated(square, border[:1], border[1:])

    def _eliminated(self, square: np.ndarray, kept: np.ndarray, gone: np.ndarray) -> np.ndarray:
        """Adds the stage that takes the last states of ``square`` out; the probabilities between those that stay."""
        factors = np.negative(square, out=square)
        bad = eliminate(factors, len(kept))
        if bad is not None:
            state = int(self._names[np.concatenate([kept, gone])[bad]])
            raise ValueError(
                f"transition: state {state} and the states around it are left with a probability below {LEAST:.3g}, "
                "expected more (double precision cannot tell it from 0)"
            )
        k = len(kept)
        self.stages.append(Stage(kept, gone, factors[:k, k:], factors[k:, k:], factors[k:, :k]))
        return -factors[:k, :k]

    @staticmethod
    def killed(rows: np.ndarray, killing: np.ndarray) -> Elimination:
        """Of a chain that is killed: the reference is the state of being dead, number 0, and all others come after it.

        Args:
          rows: ``[n, n]`` transition probabilities, each row summing to ``1 - killing``; the diagonal is not read.
          killing: ``[n]`` positive, to full relative accuracy.
        """
        whole = np.zeros((len(rows) + 1,) * 2)
        whole[1:, 1:], whole[1:, 0] = rows, killing
        np.fill_diagonal(whole, 0.0)
        others = np.arange(1, len(whole))
        return Elimination(lambda r, c: whole[np.ix_(r, c)], whole.sum(axis=1), np.zeros(1, int), [others])

    def scaled_law(self) -> np.ndarray:
        """``[n]`` the law of the chain with scaled rows, 1 at the reference state."""
        law = np.zeros(self.count)
        law[self.reference] = 1.0
        for stage in reversed(self.stages):
            law[stage.gone] = stage.up(-(stage.above.T @ law[stage.kept]), transposed=True)
        return law

    def law(self) -> tuple[np.ndarray, int]:
        """``[n]`` stationary law, and what had better be the reference: this one, or a far more frequent state."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            scaled = self.scaled_law()
            size = np.log2(scaled) - self._exponent  # rows were multiplied by 2**-exponent
        best = int(size.argmax())  # infinite or not a number where the reference is much too rare
        if not size[best] <= size[self.reference] + RARER:
            return scaled, best
        mantissa, exponent = np.frexp(scaled)
        exponent = exponent - self._exponent
        law = np.ldexp(mantissa, exponent - exponent[best])
        return law / law.sum(), self.reference

    def solve(self, right: np.ndarray) -> np.ndarray:
        """``f`` with ``(I - P) f = right`` at all states but the reference, where ``f`` is 0.

        Args:
          right: ``[n]`` or ``[n, c]``; what it is at the reference state does not matter. If its mean under the
            stationary law is 0, the equation holds at the reference state too.

        Returns:
          The shape of ``right``, float64.
        """
        out = np.ldexp(right.reshape(self.count, -1), -self._exponent[:, None])
        for stage in self.stages:
            out[stage.gone] = stage.up(out[stage.gone])
            out[stage.kept] -= stage.above @ out[stage.gone]
        out[self.reference] = 0.0
        for stage in reversed(self.stages):
            out[stage.gone] = stage.down(out[stage.gone] - stage.before @ out[stage.kept])
        return out.reshape(right.shape)

    def steps_back(self, law: np.ndarray) -> np.ndarray:
        """``[n]`` expected number of moves from each state to the reference in the reversed chain of a scaled law."""
        out = law.copy()
        for stage in self.stages:
            out[stage.gone] = stage.down(out[stage.gone], transposed=True)
            out[stage.kept] -= stage.before.T @ out[stage.gone]
        out[self.reference] = 0.0
        for stage in reversed(self.stages):
            out[stage.gone] = stage.up(out[stage.gone] - stage.above.T @ out[stage.kept], transposed=True)
        return out / law


def eliminate(square: np.ndarray, keep: int) -> int | None:
    """Replaces all but the first ``keep`` states of ``-P`` by their factors, in place.

    Args:
      square: ``[n, n]`` float64, ``-P`` off the diagonal; then as in ``Stage``, with ``-P`` of the censored chain in
        the corner of the states that stay.
      keep: number of states that stay, 1 or more.

    Returns:
      None, or the index of a state whose exit probability is below ``LEAST``.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # of the diagonal, which is never read
        return _eliminate(square, keep, np.zeros((len(square), 1)), PANELS)


def _eliminate(square: np.ndarray, keep: int, out: np.ndarray, panels: tuple[int, ...]) -> int | None:
    """As above within a panel; ``out [n, 1]``, the sums of the rows' entries outside of it, changes with them."""
    end = len(square)
    while end > keep:
        begin = max(keep, end - panels[0])
        panel, rows, columns = square[begin:end, begin:end], square[begin:end, :begin], square[:begin, begin:end]
        outside = out[begin:end] + rows.sum(axis=1, keepdims=True)
        if len(panels) > 1:
            bad = _eliminate(panel, 0, outside, panels[1:])
        else:
            bad = _one_by_one(panel, outside[:, 0])
        if bad is not None:
            return begin + bad
        if begin:
            rows[:] = _solved(panel, rows, True)
            columns[:] = _solved(panel.T, columns.T, False).T
            out[begin:end] = _solved(panel, out[begin:end], True)
            out[:begin] -= columns @ out[begin:end]
            square[:begin, :begin] -= columns @ rows
        end = begin
    return None


def _one_by_one(panel: np.ndarray, out: np.ndarray) -> int | None:
    for k in range(len(panel) - 1, -1, -1):
        row, column = panel[k, :k], panel[:k, k]
        leaves = -(row.sum() + out[k])
        if not leaves >= LEAST:
            return k
        panel[k, k] = leaves
        column /= leaves
        panel[:k, :k] -= column[:, None] * row
        out[:k] -= column * out[k]
    return None


def _solved(upper: np.ndarray, right: np.ndarray, unit: bool) -> np.ndarray:
    """An upper triangular system by LAPACK itself: panels are so small that what checks its arguments would show."""
    return dtrtrs(upper, right, unitdiag=unit)[0]


class Law(NamedTuple):
    """A stationary law with what is known about its error.

    Attributes:
      law: ``[n]`` weights of ``LEAST`` or more that sum to 1.
      residual: ``sum_s |(d P - d)(s)|``.
      relative_error: certified bound on the relative error of every weight.
      elimination: factors of ``I - P``; None if the law was found by iteration.
    """

    law: np.ndarray
    residual: float
    relative_error: float
    elimination: Elimination | None


def eliminated(factors: Callable[[int], Elimination], guess: int, names: np.ndarray) -> tuple[np.ndarray, Elimination]:
    """The stationary law of an irreducible chain and the factors that it comes from, by a frequent reference state.

    Args:
      factors: the elimination with a given reference.
      guess: the reference to try first.
      names: ``[n]`` int, what a message calls the states.

    Raises:
      ValueError: one line, if some weight is below ``LEAST``.
    """
    for _ in range(TRIES):
        found = factors(guess)
        law, guess = found.law()
        if guess == found.reference:
            break
    refuse_rare(law, names)
    return law, found


def refuse_rare(law: np.ndarray, names: np.ndarray) -> None:
    """Refuses a law of recurrent states with a weight that double precision cannot tell from 0."""
    rare = np.flatnonzero(~(law >= LEAST))
    if len(rare):
        raise ValueError(
            f"transition: state {names[rare[0]]} is recurrent, but its weight in the stationary law is below "
            f"{LEAST:.3g}, expected more (double precision cannot tell it from 0)"
        )


def frequent_state(step: Callable[[np.ndarray], np.ndarray], exits: np.ndarray) -> int:
    """A state that is likely to be a frequent one: where lazy moves from everywhere lead.

    Args:
      step: ``[n]`` flows into each state, of given ``[n]`` weights of the states.
      exits: ``[n]`` probability of leaving each state.
    """
    moves = np.full(len(exits), 1 / len(exits))
    for _ in range(STEPS):
        moves = (moves + step(moves / exits)) / 2
    return int((np.log(np.maximum(moves, LEAST)) - np.log(exits)).argmax())


def certificate(imbalance: float, terms: int, steps: np.ndarray) -> float:
    """Bound on the relative error of a law ``v`` whose flows nearly balance.

    With ``x(j) = d(j) / v(j)`` and the reversed moves ``G(j, i) = v(i) P(i, j) / (v(j) S(j))``, balance of ``d`` says
    ``x = G x``. Let ``x = 1`` at the reference ``r`` and ``e = x - 1``: ``e(j) - sum_{i != r} G(j, i) e(i) = rho(j)``,
    where ``rho(j) = sum_i G(j, i) - 1`` is the relative imbalance. ``I - G`` without ``r`` is an M-matrix, so
    ``|e| <= 2 max|rho| h`` for every ``h >= 0`` with ``h - G h >= 1/2``. Normalisation at most doubles that.

    Args:
      imbalance: largest computed ``|rho|``.
      terms: roundings in the sums behind it.
      steps: ``[n]`` ``h``, as ``Elimination.steps_back`` has it.

    Returns:
      The bound; infinite if it exceeds 1.
    """
    bound = 4 * (imbalance + (terms + 8) * UNIT) * float(steps.max(initial=0.0))
    return bound if bound <= 1 else float("inf")


def dense_law(transition: np.ndarray, names: np.ndarray | None = None) -> Law:
    """Stationary law of an irreducible chain by elimination (D4).

    The certificate is the smaller of two: that of ``certificate``, and ``A_PRIORI n^2`` roundings. For the latter, the
    rounding of one step changes the probabilities of the chain of ``m`` states that is left by ``A_PRIORI / 2``
    roundings of themselves at most, and relative changes by ``c`` change every weight by ``2 m c`` of itself
    (O'Cinneide 1993).

    Args:
      transition: ``[n, n]`` stochastic matrix.
      names: ``[n]`` int, what a message calls the states; their indices if None.

    Raises:
      ValueError: one line, if some weight is below ``LEAST``.
    """
    count = len(transition)
    names = np.arange(count) if names is None else names
    if count == 1:
        return Law(np.ones(1), 0.0, 0.0, None)
    away = np.array(transition, np.float64)
    np.fill_diagonal(away, 0.0)
    exits = away.sum(axis=1)

    def factors(reference: int) -> Elimination:
        others = np.delete(np.arange(count), reference)
        return Elimination(lambda r, c: away[np.ix_(r, c)], exits, np.array([reference]), [others], names)

    law, found = eliminated(factors, frequent_state(lambda weights: weights @ away, exits), names)
    width = max(1, BLOCK // count)
    inflow = np.concatenate(
        [(np.ascontiguousarray(away[:, at : at + width].T) * law).sum(axis=1) for at in range(0, count, width)]
    )
    imbalance = np.abs(inflow / (law * exits) - 1).max()
    bound = certificate(float(imbalance), PAIRWISE, found.steps_back(found.scaled_law()))
    return Law(law, float(np.abs(inflow - law * exits).sum()), min(bound, A_PRIORI * count**2 * UNIT), found)

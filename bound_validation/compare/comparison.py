"""Two validation runs side by side: which rows differ by more than their own noise explains.

Rows are matched by cell, series, term, samples and abscissa. Rows with noise carry 95 % intervals; the difference of a
pair is divided by its standard error and judged by a t-test with the degrees of freedom of Welch and Satterthwaite,
since many rows rest on few replicas. Over all pairs with noise the false discovery rate is held at 5 % (Benjamini,
Hochberg 1995): of the differences that are reported, one in twenty is expected to be chance, and if nothing changed,
the probability that anything is reported is at most 5 %. Both statements take the two runs to be independent and the
rows of one run to be independent or positively dependent, as errors of one trajectory after more and more handoffs are.
Exact pairs differ where rounding of float64 does not explain it.

Everything here is a pure function of rows and of the contents of ``summary.json`` and the manifest.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from bound_validation.results import CONSTANTS, NAN, Row

DISCOVERY_RATE = 0.05
RELATIVE = 1e-9  # differences of exact values that count
ABSOLUTE = 1e-10  # what rounding leaves of a difference of numbers of order one, such as a gap that is closed
SWEEP = "sweep"  # axis of the rows of custom sweeps
EXACT, NOISY, UNKNOWN = "exact", "noisy", "unknown noise"
MEASURED_BOUNDS = ("fixed_point",)  # T2 is put to the measured projection error: such a bound has noise itself


class Key(NamedTuple):
    """What identifies a row of a table.

    Attributes:
      cell: id of the setting.
      series: what was measured.
      term: the term of the bound.
      samples: handoffs of each replica.
      x: the abscissa; NaN in a sweep, where it follows the figure settings and says nothing about the row.
    """

    cell: str
    series: str
    term: str
    samples: int
    x: float

    def __str__(self) -> str:
        term = f" ({self.term})" if self.term not in ("", self.series) else ""
        samples = f" K = {self.samples}" if self.samples and math.isnan(self.x) else ""
        return f"{self.cell} {self.series}{term}{samples}"


def key_of(row: Row) -> Key:
    """The key of a row; an absent abscissa is one and the same NaN, so that keys are equal."""
    follows = row.axis == SWEEP or math.isnan(row.x)
    return Key(row.cell, row.series, row.term, row.samples, NAN if follows else row.x)


@dataclasses.dataclass(frozen=True)
class Pair:
    """One row of A compared with the same row of B.

    Attributes:
      key: what identifies the row.
      a: the row of A.
      b: the row of B.
      kind: ``exact``, ``noisy``, or ``unknown noise`` where a value comes from a single replica.
      difference: measured in B less measured in A.
      noise: standard error of the difference, in the unit of the row; 0 if exact, NaN if unknown.
      z: difference over noise; NaN without noise.
      p: two-sided p-value; NaN without noise.
      differs: whether the values differ beyond noise, or beyond rounding; see ``compare``.
      bound_differs: whether the bounds differ beyond rounding.
      constants: names of the model's constants that differ beyond rounding.
    """

    key: Key
    a: Row
    b: Row
    kind: str
    difference: float
    noise: float
    z: float
    p: float
    differs: bool
    bound_differs: bool
    constants: tuple[str, ...]

    @property
    def holds_differs(self) -> bool:
        """Whether the bound held in one run and not in the other, or was claimed in one only."""
        return self.a.holds != self.b.holds

    @property
    def same_bits(self) -> bool:
        """Whether measured values and intervals are the same floats (NaN with NaN)."""
        ends = [(getattr(self.a, name), getattr(self.b, name)) for name in ("measured", "ci_low", "ci_high")]
        return all(repr(one) == repr(other) for one, other in ends)

    @property
    def changed(self) -> bool:
        """Whether anything about the row changed that is not noise."""
        return self.differs or self.bound_differs or self.holds_differs or bool(self.constants)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What became of all rows.

    Attributes:
      pairs: matched rows, in the order of A.
      only_a: rows of A that B lacks.
      only_b: rows of B that A lacks.
    """

    pairs: tuple[Pair, ...]
    only_a: tuple[Row, ...]
    only_b: tuple[Row, ...]

    @property
    def changed(self) -> bool:
        """Whether any matched row changed, or rows are missing on one side."""
        return bool(self.only_a or self.only_b) or any(pair.changed for pair in self.pairs)

    def count(self, kind: str) -> int:
        """Number of pairs of one kind."""
        return sum(pair.kind == kind for pair in self.pairs)


def same_value(a: float, b: float) -> bool:
    """Whether two exact values are equal up to rounding; NaN equals NaN."""
    if math.isfinite(a) and math.isfinite(b):
        return abs(a - b) <= RELATIVE * max(abs(a), abs(b)) + ABSOLUTE
    return repr(float(a)) == repr(float(b))


def kind_of(row: Row) -> str:
    """Whether a row has an interval, is exact, or has noise that one replica cannot show."""
    if not (math.isfinite(row.ci_low) and math.isfinite(row.ci_high)):
        return EXACT if row.replicas == 0 else UNKNOWN
    if row.ci_low == row.ci_high:
        return UNKNOWN if row.replicas == 1 else EXACT
    return NOISY


def standard_error_of_difference(a: Row, b: Row) -> tuple[float, float]:
    """Standard error of ``b.measured - a.measured`` and its degrees of freedom.

    A standard error is the half-width of the 95 % interval over the t quantile of ``replicas - 1`` degrees of freedom,
    by which it was made (1.96 where the replicas are not known). The half-widths are read off on one of two scales. A
    mean has a symmetric interval. A root mean square has the root of a symmetric interval for the mean square
    (``bound_validation.intervals.root_interval``), so that its two sides differ, and the test belongs on the scale of
    squares, where nothing is lost by treating ``sqrt`` as linear. The table does not say which rows are roots; the
    scale is the one on which both intervals together are more nearly symmetric. A lower end of 0 is where an
    interval was cut off and tells nothing: then the upper side counts alone, on the scale of squares, which is right
    for roots and for means errs towards reporting less. Where some asymmetry is left, each interval gives the side
    that faces the other value.

    Args:
      a: a row whose values are finite.
      b: the same row of the other run.

    Returns:
      ``(standard error in the unit of the row, degrees of freedom)``; the error is 0 if neither row has an interval.
    """
    squares = _on_squares(a, b)
    variances, freedoms = [], []
    for row, other in ((a, b), (b, a)):
        value, low, high = ((v * v if squares else v) for v in (row.measured, row.ci_low, row.ci_high))
        upper, lower = high - value, value - low
        cut = squares and row.ci_low == 0
        half = upper if cut or other.measured > row.measured else lower
        half = max(half if half > 0 else max(upper, lower), 0.0)
        freedom = row.replicas - 1 if row.replicas > 1 else math.inf
        variances.append((half / _quantile(freedom)) ** 2)
        freedoms.append(freedom)
    total = sum(variances)
    if total == 0:
        return 0.0, math.inf
    spread = sum(v**2 / f for v, f in zip(variances, freedoms, strict=True))
    freedom = total**2 / spread if spread > 0 else math.inf
    if squares:  # the difference of squares is that of the values times their sum
        return math.sqrt(total) / (a.measured + b.measured), freedom
    return math.sqrt(total), freedom


@functools.cache
def _quantile(freedom: float) -> float:
    return float(stats.t.ppf(0.975, freedom))


def _on_squares(a: Row, b: Row) -> bool:
    if min(a.ci_low, b.ci_low, a.measured, b.measured) < 0 or a.measured + b.measured == 0:
        return False
    noisy = [row for row in (a, b) if row.ci_low != row.ci_high]
    if any(row.ci_low == 0 for row in noisy):
        return True

    def asymmetry(power: int) -> float:
        total = 0.0
        for row in noisy:
            low, value, high = row.ci_low**power, row.measured**power, row.ci_high**power
            total += abs(high + low - 2 * value) / (high - low)
        return total

    return asymmetry(2) < asymmetry(1)


def discoveries(p_values: Sequence[float], rate: float = DISCOVERY_RATE) -> np.ndarray:
    """Which hypotheses are rejected at this false discovery rate (Benjamini, Hochberg 1995).

    Args:
      p_values: ``[n]``.
      rate: expected share of false ones among the rejections.

    Returns:
      ``[n]`` bool.
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    below = np.flatnonzero(p[order] <= rate * np.arange(1, len(p) + 1) / max(len(p), 1))
    rejected = np.zeros(len(p), bool)
    if len(below):
        rejected[order[: below[-1] + 1]] = True
    return rejected


def compare(rows_a: Sequence[Row], rows_b: Sequence[Row], rate: float = DISCOVERY_RATE) -> Comparison:
    """Compares two tables.

    A value that is finite in one run only always differs. A pair with unknown noise never does: it is shown only.

    Args:
      rows_a: the rows of A.
      rows_b: the rows of B.
      rate: false discovery rate over all pairs with noise.

    Returns:
      The comparison.

    Raises:
      ValueError: if a table has two rows of the same key.
    """
    of_a, of_b = _by_key(rows_a, "A"), _by_key(rows_b, "B")
    pairs = [_pair(key, row, of_b[key]) for key, row in of_a.items() if key in of_b]
    tested = [index for index, pair in enumerate(pairs) if math.isfinite(pair.p)]
    for index, found in zip(tested, discoveries([pairs[i].p for i in tested], rate), strict=True):
        pairs[index] = dataclasses.replace(pairs[index], differs=bool(found))
    only_a = tuple(row for key, row in of_a.items() if key not in of_b)
    only_b = tuple(row for key, row in of_b.items() if key not in of_a)
    return Comparison(tuple(pairs), only_a, only_b)


def _by_key(rows: Iterable[Row], name: str) -> dict[Key, Row]:
    found: dict[Key, Row] = {}
    for row in rows:
        key = key_of(row)
        if key in found:
            raise ValueError(f"{name}: two rows are {key} at x = {row.x:g}, expected one")
        found[key] = row
    return found


def _pair(key: Key, a: Row, b: Row) -> Pair:
    kinds = {kind_of(a), kind_of(b)}
    kind = next(one for one in (UNKNOWN, NOISY, EXACT) if one in kinds)
    difference, noise, z, p = b.measured - a.measured, NAN, NAN, NAN
    if repr(a.measured) == repr(b.measured):
        difference = 0.0
    differs = not same_value(a.measured, b.measured)
    if kind == EXACT:
        noise = 0.0
    elif math.isfinite(a.measured) and math.isfinite(b.measured):
        differs = False  # undecided: by the test of all rows together, or never
        if kind == NOISY:
            noise, freedom = standard_error_of_difference(a, b)
            z = difference / noise if noise > 0 else 0.0 if difference == 0 else math.copysign(math.inf, difference)
            p = 2 * float(stats.t.sf(abs(z), freedom))
    if a.series in MEASURED_BOUNDS:
        bound_differs = math.isfinite(a.bound) != math.isfinite(b.bound)  # its factor is judged below, with kappa
    else:
        bound_differs = not (same_value(a.bound, b.bound) and same_value(a.trivial, b.trivial))
    constants = tuple(name for name in CONSTANTS if not same_value(getattr(a, name), getattr(b, name)))
    return Pair(key, a, b, kind, difference, noise, z, p, differs, bound_differs, constants)


class Change(NamedTuple):
    """A named entry that is not the same in both runs; None where a run lacks it."""

    name: str
    a: Any
    b: Any


def changed_verdicts(summary_a: Mapping[str, Any], summary_b: Mapping[str, Any]) -> list[Change]:
    """Verdicts that differ: whether all bounds held, and whether each claim and each slope passed.

    Args:
      summary_a: content of the ``summary.json`` of A.
      summary_b: that of B.

    Returns:
      The changes, claims and slopes in only one of the runs included; verdicts in words.
    """

    words = {True: "passed", False: "failed", None: "not judged"}

    def word(entry: Mapping[str, Any]) -> str:
        return "undecided" if entry["undecided"] else words[entry["passed"]]

    def verdicts(summary: Mapping[str, Any]) -> dict[str, str]:
        out = {"all bounds": "held" if summary["bound_holds"] else "violated"}
        out |= {f"slope {name}": word(slope) for name, slope in summary["slopes"].items()}
        return out | {f"claim {claim['name']}": word(claim) for claim in summary["claims"]}

    return differing(verdicts(summary_a), verdicts(summary_b))


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    """Entries of two mappings that differ, in the order of the first; nested mappings with dotted names."""
    changes: list[Change] = []
    for name in [*a, *(name for name in b if name not in a)]:
        one, other = a.get(name), b.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            changes += [Change(f"{name}.{inner}", x, y) for inner, x, y in differing(one, other)]
        elif one != other:
            changes.append(Change(name, one, other))
    return changes


RELATIONS = {
    "equal": "same configuration, code and kind of device: on one machine the tables are equal bit for bit",
    "same seeds": "same seeds, so the runs are not independent: the noise is an upper guide, and z tends to be smaller",
    "independent": "taken as independent runs",
}


def relation(manifest_a: Mapping[str, Any] | None, manifest_b: Mapping[str, Any] | None) -> str:
    """How two runs depend on each other: a key of ``RELATIONS``.

    Runs share their seeds if the seeds in their configurations are the same and so are the models. With the same
    seeds, another version of the code may still draw other numbers; then the runs are independent and nothing is
    wrong with the noise.
    """
    if not manifest_a or not manifest_b:
        return "independent"
    if manifest_a == manifest_b:
        return "equal"
    seeds_a, seeds_b = list(_seeds(manifest_a.get("config"))), list(_seeds(manifest_b.get("config")))
    given = ("model", "model_sha256", "behaviour")
    same_model = all(manifest_a.get(name) == manifest_b.get(name) for name in given)
    return "same seeds" if seeds_a == seeds_b and seeds_a and same_model else "independent"


def _seeds(config: Any) -> Iterable[tuple[str, Any]]:
    """Names and values of all seeds of a configuration, in order."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            if "seed" in name:
                yield name, value
            else:
                yield from _seeds(value)
    elif isinstance(config, list):
        for value in config:
            yield from _seeds(value)

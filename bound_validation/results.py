"""The one table of a validation run: its schema, and Parquet and JSON in and out, written atomically."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

from bound_validation import theorem
from icsmdp_jax.core.arguments import of_type
from icsmdp_jax.io import atomic_write
from icsmdp_jax.io import to_plain as to_plain
from icsmdp_jax.io import write_json as write_json

NAN = float("nan")
SCHEMA = 5  # of the table and of the manifest, see docs/table.md
TERMS = ("approximation", "interface", "residual", "total")
ROUNDING = 1e-9  # float64 noise allowed where a bound itself is (nearly) zero, relative to the row's scale and values


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement of one cell, with everything the theory says about it.

    Attributes:
      axis: width, gap, samples, mixing, durations, total, agents, audit, returns, messages or model.
      cell: frozen readable id, e.g. ``width/3``.
      series: what was measured (see docs/validation.md for the list).
      term: which term of the bound it checks: approximation, interface, residual or total; empty if none.
      group: readable name of the other coordinates, e.g. ``tabular``.
      x_name: name of the abscissa.
      x: the abscissa.
      measured: measured value, ``||.||_d`` or sup norm of a Q error unless the series says otherwise.
      ci_low: lower end of the 95 % interval (equal to ``measured`` if the value is exact); NaN for a single replica.
      ci_high: upper end.
      bound: what the theorem guarantees; NaN where none is claimed.
      trivial: error of the zero function, where runs start, in the same norm against the same reference; for the
        interface, and for losses of policies, the width of the a-priori range of values (D12, L6). NaN without a bound.
      prediction: sharp prediction (not a bound); NaN if there is none.
      alternative: a second line that the figure sets against the prediction, e.g. without the Poisson terms.
      certified: whether A6 is certified in this cell.
      holds: 1 if measured <= bound, 0 if violated, -1 if no bound is claimed.
      informative: 1 if bound < trivial, 0 if not, -1 if either is unknown (D12).
      replicas: number of replicas or draws behind the value; 0 if exact.
      width: features per agent, 0 for tabular.
      gap: eta.
      samples: handoffs per replica.
      tail_samples: handoffs in the average.
      note: a sentence for the report, usually empty.
      gamma, gamma_bar, kappa, epsilon, delta, value_norm, omega, mixing_time, width_constant, clt_coefficient,
        clt_coefficient_iid, reward_max, radius, action_gap, q_norm: the constants of the cell's model; NaN where they
        do not enter.
      function_class: tabular, aggregated (tables that are constant on groups of interfaces), linear or neural; empty
        where nothing is approximated.
      step_rule: constant, polynomial, harmonic, decaying (that of T3.1) or adam; empty where nothing is learned.
      statistic: how ``measured`` comes from ``values``: their mean, rms, or spread, see ``by_replica``. Not a column.
      values: one number for each replica, in the order of their keys, where they are kept. Not a column.
    """

    axis: str
    cell: str
    series: str
    x_name: str
    x: float
    measured: float
    term: str = ""
    group: str = ""
    ci_low: float = NAN
    ci_high: float = NAN
    bound: float = NAN
    trivial: float = NAN
    prediction: float = NAN
    alternative: float = NAN
    certified: bool = True
    holds: int = -1
    informative: int = -1
    replicas: int = 0
    width: int = 0
    gap: float = 0.0
    samples: int = 0
    tail_samples: int = 0
    note: str = ""
    gamma: float = NAN
    gamma_bar: float = NAN
    kappa: float = NAN
    epsilon: float = NAN
    delta: float = NAN
    value_norm: float = NAN
    omega: float = NAN
    mixing_time: float = NAN
    width_constant: float = NAN
    clt_coefficient: float = NAN
    clt_coefficient_iid: float = NAN
    reward_max: float = NAN
    radius: float = NAN
    action_gap: float = NAN
    q_norm: float = NAN
    function_class: str = ""
    step_rule: str = ""
    statistic: str = dataclasses.field(default="", compare=False, repr=False)
    values: tuple[float, ...] = dataclasses.field(default=(), compare=False, repr=False)

    @property
    def ratio(self) -> float:
        """``measured / bound``; NaN where no bound is claimed or both are zero up to rounding."""
        if not math.isfinite(self.bound) or self.bound <= ROUNDING * self.scale:
            return NAN
        return self.measured / self.bound

    @property
    def scale(self) -> float:
        """Size of its model's values, in units of reward; 1 for a row that has no such constants, a ratio for instance.

        Rounding errors of what is measured are relative to it, whatever the unit of the rewards.
        """
        sizes = [abs(size) for size in (self.value_norm, self.q_norm) if math.isfinite(size)]
        return max(sizes, default=1.0)

    @property
    def over_trivial(self) -> float:
        """``bound / trivial``, below 1 for an informative bound; NaN where either is unknown or both are zero."""
        if not (math.isfinite(self.bound) and self.trivial > ROUNDING * self.scale):
            return NAN
        return self.bound / self.trivial

    @property
    def evidence(self) -> bool:
        """Whether the row speaks for the theory: its bound holds and is informative (D12)."""
        return self.holds == 1 and self.informative == 1

    @property
    def constants(self) -> dict[str, Any]:
        """The constants of its cell's model, with 0 for rounding noise compared with 1 or with its values."""
        values = {name: getattr(self, name) for name in CONSTANTS}
        noise = {name: 1e-12 * (self.scale if name in REWARDS else 1.0) for name in values}
        return {k: 0.0 if isinstance(v, float) and abs(v) < noise[k] else v for k, v in values.items()}


def checked(row: Row) -> Row:
    """The row with its interval completed, unless a single replica tells none; ``holds`` and ``informative`` decided.

    An infinite bound, or one without a trivial value to compare it with, is neither informative nor vacuous.
    """
    known = row.replicas != 1
    low = row.measured if known and math.isnan(row.ci_low) else row.ci_low
    high = row.measured if known and math.isnan(row.ci_high) else row.ci_high
    holds = informative = -1
    if math.isfinite(row.bound):
        slack = ROUNDING * (row.scale + abs(row.measured) + abs(row.bound))
        holds = int(math.isfinite(row.measured) and row.measured <= row.bound + slack)
        informative = -1 if math.isnan(row.trivial) else int(theorem.informative(row.bound, row.trivial))
    return dataclasses.replace(row, ci_low=low, ci_high=high, holds=holds, informative=informative)


def by_replica(statistic: str, values: Any) -> dict[str, Any]:
    """Columns of a row that keep what single replicas gave.

    Args:
      statistic: ``mean``, ``rms`` (root of the mean square) or ``spread`` (root of the sum of squares over n - 1).
      values: ``[replicas]`` numbers.
    """
    return {"statistic": statistic, "values": tuple(float(value) for value in values)}


COLUMNS = [field.name for field in dataclasses.fields(Row) if field.name not in ("statistic", "values")]
CONSTANTS = (
    *COLUMNS[COLUMNS.index("gamma") : COLUMNS.index("function_class")],
    "certified",
)  # columns that say which model a row is about
REWARDS = (  # constants in units of reward
    "epsilon", "value_norm", "clt_coefficient", "clt_coefficient_iid", "reward_max", "radius", "action_gap", "q_norm",
)  # fmt: skip
_TYPES = {field.name: field.type for field in dataclasses.fields(Row)}


def write_table(path: str | os.PathLike[str], rows: list[Row], metadata: dict[str, str] | None = None) -> None:
    """Writes ``results.parquet``: one row each, columns in the schema's order, and ``ratio`` last."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"str": pa.string(), "float": pa.float64(), "int": pa.int64(), "bool": pa.bool_()}
    columns: dict[str, Any] = {
        name: pa.array([getattr(r, name) for r in rows], kinds[str(_TYPES[name])]) for name in COLUMNS
    }
    columns["ratio"] = pa.array([r.ratio for r in rows], pa.float64())
    table = pa.table(columns).replace_schema_metadata(metadata or {})
    with atomic_write(path) as stream:
        pq.write_table(table, stream)


def write_replicas(path: str | os.PathLike[str], rows: list[Row]) -> None:
    """Writes ``replicas.parquet``: one row for each replica of each row that keeps its values (``by_replica``)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept = [row for row in rows if row.values]
    counts = [len(row.values) for row in kept]
    names = ("axis", "cell", "series", "term", "samples", "statistic")
    columns: dict[str, Any] = {
        name: pa.array(
            [getattr(row, name) for row in kept for _ in row.values], pa.int64() if name == "samples" else pa.string()
        )
        for name in names
    }
    columns["replica"] = pa.array([index for count in counts for index in range(count)], pa.int64())
    columns["value"] = pa.array([value for row in kept for value in row.values], pa.float64())
    with atomic_write(path) as stream:
        pq.write_table(pa.table(columns), stream)


def read_table(path: str | os.PathLike[str]) -> list[Row]:
    """Reads a table back.

    Raises:
      ValueError: in one line, if the file is not such a table.

    Example:
      >>> import bound_validation as bv
      >>> import tempfile
      >>> sweep = bv.Sweep("gap", family="planted", axes={"gap": (0, 0.1)}, measure=["interface"])
      >>> out = tempfile.mkdtemp()
      >>> summary = bv.run(sweep, out)
      >>> {row.series for row in bv.read_table(f"{out}/results.parquet")} >= {"gap", "policy_loss"}
      True
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    of_type(str | os.PathLike, "the name of a Parquet file", path=path)
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{os.fspath(path)}: cannot be read as Parquet ({' '.join(str(error).split())})") from None
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ValueError(f"{os.fspath(path)}: column {missing[0]} is missing, expected the schema of Row")
    return [Row(**{name: record[name] for name in COLUMNS}) for record in table.select(COLUMNS).to_pylist()]

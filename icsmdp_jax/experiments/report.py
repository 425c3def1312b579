"""``report.html``: IC-Q against the centralized oracle over all environments, on one self-contained page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from icsmdp_jax.envs.registry import ENVIRONMENTS
from icsmdp_jax.experiments import files
from icsmdp_jax.experiments.catalogue import STUDIES
from icsmdp_jax.experiments.comparison import NEAR, WITHIN
from icsmdp_jax.experiments.figure import LEARNED, overview_figure
from icsmdp_jax.experiments.result import label
from icsmdp_jax.io import atomic_write
from icsmdp_jax.pages.page import Picture, picture, render

OVERVIEW = "overview"
COLUMNS = {
    "interface_oracle": "exact greedy policy of Q_phi",
    "own_interface_oracle": "the same, own behaviour",
    **{name: label(name) for name in LEARNED},
}
EXACT_WORDS = {
    "oracle": "return of the exact oracle, which sees the whole state",
    "random": "return of the random workflow",
    "interface_optimum": "return of the exact greedy policy of Q_phi (uniform behaviour)",
    "own_interface_optimum": "the same under the epsilon-greedy behaviour that IC-Q ended with",
    "greedy_immediate": "return of the exact policy of immediate rewards",
    "interface_optimum_normalised": "normalised return of the exact greedy policy of Q_phi",
    "interface_distance": "its distance to the oracle, as a share of the scale",
    "greedy_immediate_normalised": "normalised return of the exact policy of immediate rewards",
    "epsilon": "epsilon: largest error of the interface's mean segment reward (D6)",
    "delta": "delta: largest L1 error of its discounted kernel (D6)",
    "gamma_bar": "gamma-bar: modulus of the Bellman operator over options (L1)",
    "interface_gap": "interface gap, max |Q_phi - Q*| (T1)",
    "interface_bound": "its bound (T1)",
    "policy_loss": "what acting greedily in Q_phi loses in the worst state (T1.3)",
    "policy_loss_bound": "its bound (T1.3)",
    "oracle_learned_tools": "return of the exact oracle where local policies are chosen, too",
    "num_states": "states of the exact listing",
    "num_interfaces": "interfaces",
}


def write_report(results: Sequence[Mapping[str, Any]], out: Path) -> Path:
    """Writes ``out/report.html`` atomically: one file, nothing loaded from elsewhere.

    Args:
      results: contents of the ``result.json`` files, in the order of the page; their figures are in
        ``out/<environment>/figures``.
      out: folder of the run.

    Returns:
      Path of the page.
    """
    from icsmdp_jax.drawing import interactive, style

    with style.house_style():
        overview = overview_figure(results)
        if overview is not None:
            style.save(overview, out, OVERVIEW)
            interactive.save_data(overview, out, OVERVIEW)
    filters: dict[str, Callable[..., str]] = {
        "number": files.number, "cell": files.cell_text, "ends": files.ends, "verdict": files.verdict,
        "signs": lambda words: Markup.escape(words).replace("Q_phi", Markup("Q<sub>&phi;</sub>")),
    }  # fmt: skip
    page = render(
        __package__,
        "report.html.j2",
        filters,
        overview=_picture(out / f"{OVERVIEW}.png", out) if overview is not None else None,
        columns=list(COLUMNS.values()),
        lines=[_line(result) for result in results],
        headline=headline(results),
        sections=[_section(result, out) for result in results],
        judged=any(passed is not None for result in results for passed in result["checks"].values()),
    )
    target = out / "report.html"
    with atomic_write(target) as stream:
        stream.write(page.encode("utf-8"))
    return target


def headline(results: Sequence[Mapping[str, Any]]) -> str:
    """What the page says first, counted from the results."""
    checks = [passed for result in results for passed in result["checks"].values()]
    judged = [passed for passed in checks if passed is not None]
    if not judged:
        return "Everything ran, but this preset trains too little to judge anything."
    near = [result["checks"][NEAR] for result in results if result["checks"].get(NEAR) is not None]
    parts = []
    if near:
        parts.append(
            f"On {sum(near)} of {len(near)} environments with an exact oracle IC-Q comes within {WITHIN} of the exact "
            "greedy policy of its own Q_phi."
        )
    parts.append(f"{sum(judged)} of {len(judged)} checks passed" + (
        f"; {len(checks) - len(judged)} were not judged." if len(judged) < len(checks) else "."
    ))  # fmt: skip
    return " ".join(parts)


def _line(result: Mapping[str, Any]) -> dict[str, Any]:
    """One line of the table over all environments."""
    scaled, exact = result["normalised"], result["exact"]
    return {
        "name": result["environment"],
        "values": [scaled.get(name) for name in COLUMNS],
        "epsilon": exact.get("epsilon", ""),
        "delta": exact.get("delta", ""),
        "distance": exact.get("interface_distance", ""),
        "scalars": result["message_scalars_per_handoff"],
        "failed": [name for name, passed in result["checks"].items() if passed is False],
    }


def _section(result: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Everything about one environment."""
    name = result["environment"]
    folder = out / name / files.FIGURES
    known = ENVIRONMENTS.get(name)
    return {
        "name": name,
        "text": known.text if known else STUDIES.get(name, ""),
        "metric": result["metric"],
        "figures": [(one, _picture(folder / f"{one}.png", out)) for one in result["figures"]],
        "rows": files.method_rows(result),
        "checks": result["checks"],
        "remarks": result["remarks"],
        "tables": result["tables"],
        "exact": [(EXACT_WORDS.get(key, key.replace("_", " ")), value) for key, value in result["exact"].items()],
        "scalars": result["message_scalars_per_handoff"],
        "settings": {**result["configuration"], **result["settings"], "wall time (s)": result["seconds"]},
    }


def _picture(path: Path, out: Path) -> Picture:
    from icsmdp_jax.drawing.style import DPI, FULL_WIDTH

    return picture(path, out, FULL_WIDTH, DPI)

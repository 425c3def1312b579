"""What ``train`` recorded, drawn in one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from icsmdp_jax.core.arguments import of_type, one_of
from icsmdp_jax.drawing.style import house_style
from icsmdp_jax.drawing.training import Curve, return_figure

if TYPE_CHECKING:
    from icsmdp_jax.learner.curves import Curves

LABELS = {"returns": "return of the greedy policy", "reward": "mean segment reward", "td_error": "TD error, RMS"}


def plot_curves(curves: Curves | Mapping[str, Curves], y: str | None = None, **changes: Any) -> Figure:
    """Learning curves with 95 % bands over seeds.

    Args:
      curves: what ``train`` returned, or several of them by name, at most eight.
      y: ``returns``, ``reward`` or ``td_error`` (root mean square over all decisions); by default ``returns`` where all
        curves have them, else ``reward``.
      **changes: arguments of ``drawing.training.return_figure``: ``oracle``, ``random``, ``y_label``, ``x_log``, ...

    Returns:
      A Matplotlib figure; bands need two seeds or more.

    Raises:
      ValueError: in one line, for what is not recorded.

    Example:
      >>> import jax, icsmdp_jax as ic
      >>> icq = ic.setup(*ic.make("planted", gap=0.2), copies=8, length=4)
      >>> state, curves = ic.train(icq, jax.random.key(0), updates=10, seeds=2)
      >>> figure = ic.plot_curves({"IC-Q": curves}, y="reward")
      >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
      ('updates', 'mean segment reward')
    """
    named = curves if isinstance(curves, Mapping) else {"training": curves}
    for name, one in named.items():
        of_type(tuple, "curves that train returned", **{f"curves[{name!r}]": one})
    if y is None:
        y = "reward" if any(one.returns is None for one in named.values()) else "returns"
    one_of(LABELS, y=y)
    drawn = [_curve(name, one, y) for name, one in named.items()]
    with house_style():
        return return_figure(drawn, **{"y_label": LABELS[y], "x_label": "updates", **changes})


def _curve(name: str, one: Curves, y: str) -> Curve:
    values = getattr(one, y)
    if values is None:
        raise ValueError(f"y = {y!r}: not recorded in {name!r}, expected train(..., episodes=) of 1 or more")
    values = np.asarray(values, np.float64)
    if y == "td_error":
        visits = np.asarray(one.visits, np.float64)
        values = np.sqrt((visits * values**2).sum(axis=-1) / np.maximum(visits.sum(axis=-1), 1))
    updates = np.asarray(one.updates)
    if values.ndim == 1:
        return Curve(name, updates, values, *np.full((2, len(values)), np.nan))
    return Curve.over_runs(name, updates[0], values)

"""How does the time of the exact analysis grow with the number of states, and that of a program written by hand?

Planted models with more and more agents; the parts are those of ``icsmdp_jax.exact.constants.analyse``, and what is
compared is all that ``icsmdp analyse`` prints. The Poisson constants (T3+), which a bound needs, come on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks import analysis_by_hand, common
from benchmarks.common import Record, Size, race, record
from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.exact.asymptotics import central_limit
from icsmdp_jax.exact.breakdown import OWN
from icsmdp_jax.exact.chain import MixingClock
from icsmdp_jax.exact.constants import analyse, kappa_certificate
from icsmdp_jax.exact.fixed_point import projection
from icsmdp_jax.exact.interface import (
    InterfaceModel,
    ais_constants,
    interface_gap,
    interface_model,
    solve_interface,
)
from icsmdp_jax.exact.moments import KernelMoments
from icsmdp_jax.exact.poisson import RADIUS_MARGIN, linear_bounds, poisson_constants
from icsmdp_jax.exact.solve import Solution, optimal_q

NAME = "exact_analysis"
WHOLE, BY_HAND = "whole analysis", "the same by hand"
SAME = 1e-9  # relative difference of the two that is no matter


def mixing(interface: InterfaceModel) -> float:
    """The mixing time, by repeated squaring of the chain (D8)."""
    chain = interface.chain
    return MixingClock(chain.transition, chain.stationary[chain.states])(0.25)


def gap(interface: InterfaceModel, q_phi: Solution, q_star: Solution) -> Any:
    """Epsilon, delta, the interface gap and every form of its bound (D6, T1)."""
    return interface_gap(interface, q_phi, q_star, ais_constants(interface))


def both_solutions(interface: InterfaceModel, moments: KernelMoments) -> tuple[Solution, Solution]:
    """``Q_phi`` and ``Q*`` (D3, D5)."""
    return solve_interface(interface), optimal_q(moments)


def difference(table: dict[str, Any], by_hand: dict[str, Any]) -> float:
    """Largest difference of two analyses, relative to the largest number of the same name or 1."""
    rows = ("num_states", "weight", *OWN)
    worst = 0.0
    for name, found in by_hand.items():
        if name == "shown":
            ours = [[row["policy_loss"], row["interface_gap"]] for row in table["by_agent"]]
        elif name in ("by_agent", "by_interface"):
            ours = [[row[column] for column in rows] for row in table[name]]
        else:
            ours = table[name]
        worst = max(worst, float(np.abs(np.asarray(ours) - found).max() / max(1.0, np.abs(found).max())))
    return worst


def parts(num_agents: int) -> tuple[int, float, dict[str, Callable[[], Any]]]:
    """Number of states, how far the two programs differ, and the parts of one analysis as functions of nothing.

    Raises:
      RuntimeError: if the two programs find different constants.
    """
    planted = planted_model(PlantedConfig.small(num_agents=num_agents, gap=0.5))
    model, behaviour = planted.model, planted.behaviour
    interface = interface_model(model, behaviour)
    q_phi, q_star = both_solutions(interface, interface.moments)
    finite = np.where(interface.mask, q_phi.q, 0.0)
    table = analyse(model, behaviour).table()
    by_hand = partial(analysis_by_hand.constants, model, behaviour, table["by_agent"][0]["gain"] is not None)
    if not (apart := difference(table, by_hand())) <= SAME:
        raise RuntimeError(f"{BY_HAND}: constants differ by {apart:.3g}, expected {SAME:g} or less")
    bounds = linear_bounds(interface, RADIUS_MARGIN * float(np.abs(finite).max()))
    return (
        model.num_states,
        apart,
        {
            BY_HAND: by_hand,
            WHOLE: lambda: analyse(model, behaviour).table(),
            "interface model": partial(interface_model, model, behaviour),
            "solutions": partial(both_solutions, interface, interface.moments),
            "interface gap": partial(gap, interface, q_phi, q_star),
            "certificate": partial(kappa_certificate, interface),
            "mixing time": partial(mixing, interface),
            "central limit": partial(central_limit, interface, projection(interface, None), finite),
            "Poisson constants": partial(poisson_constants, interface, bounds),
        },
    )


def measure(size: Size) -> Iterator[Record]:
    """Seconds of each part at each number of states."""
    for num_agents in size.pick((2,), (10, 40), (10, 40, 160)):
        states, apart, functions = parts(num_agents)
        for function in functions.values():
            function()  # libraries load and threads start
        times = race(functions, size.pick(1, 3, 5))
        for name, timing in times.items():
            base = None if name == BY_HAND else (BY_HAND, times[BY_HAND], 1.0)
            yield record(NAME, {"states": states}, name, timing, base, difference=apart)


if __name__ == "__main__":
    common.main(measure, __doc__)

"""How does the time of the exact analysis grow with the number of states, and which part of it takes longest?

Planted models with more and more agents; the parts are those of ``icsmdp_jax.exact.constants.analyse``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.common import Record, Size, race, record
from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.exact.asymptotics import central_limit
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
from icsmdp_jax.exact.solve import Solution, optimal_q

NAME = "exact_analysis"
WHOLE = "whole analysis"


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


def parts(num_agents: int) -> tuple[int, dict[str, Callable[[], Any]]]:
    """Number of states, and the parts of the analysis of one planted model as functions without arguments."""
    planted = planted_model(PlantedConfig.small(num_agents=num_agents, gap=0.5))
    model, behaviour = planted.model, planted.behaviour
    interface = interface_model(model, behaviour)
    q_phi, q_star = both_solutions(interface, interface.moments)
    finite = np.where(interface.mask, q_phi.q, 0.0)
    return model.num_states, {
        WHOLE: partial(analyse, model, behaviour),
        "interface model": partial(interface_model, model, behaviour),
        "solutions": partial(both_solutions, interface, interface.moments),
        "interface gap": partial(gap, interface, q_phi, q_star),
        "certificate": partial(kappa_certificate, interface),
        "mixing time": partial(mixing, interface),
        "central limit": partial(central_limit, interface, projection(interface, None), finite),
    }


def measure(size: Size) -> Iterator[Record]:
    """Seconds of each part at each number of states."""
    for num_agents in size.pick((2,), (10, 40), (10, 40, 160)):
        states, functions = parts(num_agents)
        for function in functions.values():
            function()  # libraries load and threads start
        times = race(functions, size.pick(1, 3, 3))
        for name, timing in times.items():
            base = None if name == WHOLE else (WHOLE, times[WHOLE], 1.0)
            yield record(NAME, {"states": states}, name, timing, base)


if __name__ == "__main__":
    common.main(measure, __doc__)

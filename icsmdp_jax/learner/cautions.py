"""What stands between a run of a learner and the numbers that it is compared with, in sentences for its user."""

from __future__ import annotations

import numpy as np

from icsmdp_jax.exact.constants import Analysis

REWARDS = (1e-30, 1e30)  # float32 holds 1e-38 to 1e38; errors times small steps, and sums, need room on either side
HALF_UNIT = 2.0**-24  # relative rounding of float32
LOST = 0.01  # share of an effective horizon that may be lost when discounts are rounded
UNSETTLED = 0.05  # share of handoffs with a choice that is still open from which that is said


def precision_warnings(known: Analysis) -> list[str]:
    """What the float32 of simulation cannot hold of a model, in words: tiny or huge rewards, discounts next to 1."""
    found, (least, most) = [], REWARDS
    if known.reward_max > 0 and not least <= known.reward_max <= most:
        found.append(
            f"rewards are up to {known.reward_max:.3g}; float32, in which runs are simulated, has room for steps and "
            f"sums from {least:.0e} to {most:.0e}: give them in another unit"
        )
    killing = known.interface.least_killing
    if killing * LOST < HALF_UNIT:
        found.append(
            f"1 - gamma_bar = {killing:.3g} is not resolved by float32 discounts, in which runs are simulated "
            f"(rounding {HALF_UNIT:.0e}): what is learned tends to other values than the interface solution"
        )
    return found


def unsettled(known: Analysis, tables: np.ndarray) -> list[str]:
    """Says that tables ``[replicas, Z, O]`` still disagree on the best options: P2 asks for a settled choice."""
    mask = known.interface.mask
    best = np.where(mask, known.q_phi_table, -np.inf).argmax(axis=1)
    other = np.where(mask, tables, -np.inf).argmax(axis=2) != best
    share = float((other @ known.interface.pair_weight.sum(axis=1)).mean())
    if share <= UNSETTLED:
        return []
    return [
        f"at {share:.0%} of the handoffs the last tables prefer another option than the interface solution, whose best "
        f"options lead by {known.limit.action_gap:.2g} or more: spread_predicted is a limit that longer runs approach"
    ]

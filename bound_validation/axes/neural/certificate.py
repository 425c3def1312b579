"""What theorem N says of one drawn start: its target, its bound at every number of handoffs, and the parts of it."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from bound_validation import theorem
from icsmdp_jax.exact import nets
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.poisson import PoissonConstants, poisson_constants

SLACK = 1e-5  # by which a computed target may miss its inequality; it enters the bound


@dataclasses.dataclass(frozen=True, eq=False)
class NetCertificate:
    """A start, the balls around its units, and what follows (theorem N).

    Attributes:
      known: the analysed model; its A6 must be certified.
      start: the drawn start.
      radius: of the balls, ``rho``.
      target: ``Q_C`` and its parameters.
      inside: whether the class holds ``Q_phi``, so that ``Q_C = Q_phi``.
    """

    known: Analysis
    start: nets.NetStart
    radius: float
    target: nets.NetTarget
    inside: bool

    @cached_property
    def floors(self) -> tuple[float, float, float]:
        """``||e_f||_d``, ``||e_h||_d`` and ``c_C``."""
        return nets.residual_constants(self.start, self.radius, self.target)

    @cached_property
    def poisson(self) -> PoissonConstants:
        """``E_d[D^2 L^2]``, ``C_Z`` and ``M`` (N+)."""
        bounds = nets.net_bounds(self.start, self.radius, self.target.delta, self.target.table)
        return poisson_constants(self.known.interface, bounds)

    @property
    def distance(self) -> float:
        """``||delta_C||`` over all blocks."""
        return float(np.linalg.norm(self.target.delta))

    @cached_property
    def trivial(self) -> float:
        """``||Q_C||_d``: the error of the start itself (D12)."""
        return self.known.interface.norm(self.target.table)

    @cached_property
    def approximation(self) -> tuple[float, float]:
        """``||Q_C - Q_phi||_d`` and its bound (N3, N4); both 0 where the class holds ``Q_phi``."""
        if self.inside:
            return 0.0, 0.0
        interface, q = self.known.interface, self.known.q_phi_table
        nearest = nets.nearest(self.start, self.radius, q, self.target.delta, tolerance=SLACK)
        bound = theorem.approximation_bound(interface.norm(nearest - q), self.known.kappa)
        off = theorem.target_distance(self.target.slack, self.known.kappa)
        return interface.norm(self.target.table - q), float(bound + off)

    @cached_property
    def largest_linearisation_error(self) -> float:
        """``max e_f`` over interfaces and options (N2)."""
        return float(nets.linearisation_error(self.start, self.radius).max())

    def step(self, samples: int) -> float:
        """The constant step at which the bound is least (N+)."""
        constants = self.poisson
        return float(theorem.poisson_best_step(self.distance, constants.gradient_square, constants.drift, samples))

    def parts(self, samples: int) -> dict[str, float]:
        """The bound on ``(E ||Q - Q_C||_d^2)^(1/2)`` after this number of handoffs, as a sum (N+).

        ``linearisation`` is what is left of it with the gap closed and no end of samples, ``hidden`` what ``c_C`` adds,
        ``sampling`` what the number of samples adds.
        """
        e, h, mismatch = self.floors
        kappa = self.known.kappa
        sampling = theorem.neural_statistical_term(self.distance, *self.poisson, self.step(samples), samples)
        levels = [theorem.neural_bound(e, h, c, s, kappa) for c, s in ((0, 0), (mismatch, 0), (mismatch, sampling))]
        return {
            "linearisation": levels[0],
            "hidden": levels[1] - levels[0],
            "sampling": levels[2] - levels[1],
        }

    def bound(self, samples: int) -> float:
        """The bound itself."""
        return float(sum(self.parts(samples).values()))

    def frobenius_floor(self) -> float:
        """The part ``linearisation`` with a ball around each whole net instead, the smallest that holds these balls."""
        whole = self.radius * np.sqrt(self.start.width)
        norm = self.known.interface.norm
        e, h = (norm(table) for table in nets.frobenius_errors(self.start, float(whole), self.target.delta))
        return float(theorem.neural_bound(e, h, 0, 0, self.known.kappa))


def certificate(
    known: Analysis, width: int, reach: float, seed: int, index: int, slack: float = SLACK
) -> NetCertificate:
    """Draws a start and finds its target.

    Args:
      known: the analysed model, with descriptions of its interfaces.
      width: units per agent and option.
      reach: ``m^(1/2) rho``.
      seed: of the axis.
      index: which of its starts.
      slack: by which the target may miss its inequality.
    """
    interface = known.interface
    assert interface.model.features is not None
    rng = np.random.default_rng([seed, width, index])
    start = nets.draw_start(interface, interface.model.features, width, rng)
    radius = reach / float(np.sqrt(width))
    delta = nets.interpolant(start, known.q_phi_table, radius)
    if delta is not None:
        return NetCertificate(known, start, radius, nets.NetTarget(delta, start.linear(delta), 0.0), True)
    first = np.zeros(start.hidden.shape)
    target = nets.projected_target(start, radius, first, known.kappa, tolerance=slack)
    return NetCertificate(known, start, radius, target, False)

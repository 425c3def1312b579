"""Every term of the bound as a function of plain constants, equation by equation (docs/theory.md).

All functions are pure. They take floats, NumPy scalars or arrays that broadcast together, and return a
Python float if every argument is a scalar, else a float64 array. None of them sees a model, a key or a
learner. Values are in units of discounted reward, numbers of samples and mixing times in handoffs. A constant
outside its range is refused with a ``ValueError`` of one line that names it; ``kappa >= 1`` is refused
because no bound that needs A6 holds then.

The mixing time may be ``inf`` (a periodic chain); the residual bounds are then ``inf``: they say nothing.
"""

from bound_validation.theorem.residual import (
    central_limit_spread,
    constant_step,
    decaying_step,
    gradient_bound,
    informative,
    neural_bound,
    neural_statistical_term,
    poisson_best_step,
    poisson_bound_constant_step,
    poisson_bound_decaying_step,
    residual_bound_constant_step,
    residual_bound_decaying_step,
    residual_rms,
    tail_average_bound,
    target_distance,
)
from bound_validation.theorem.terms import (
    approximation_bound,
    approximation_guarantee,
    effective_horizon,
    interface_bound,
    interface_bound_mass_span,
    interface_bound_value_aware,
    policy_loss_bound,
    sharp_gap,
    total_bound,
    width_rate,
)

__all__ = [
    "approximation_bound",
    "approximation_guarantee",
    "central_limit_spread",
    "constant_step",
    "decaying_step",
    "effective_horizon",
    "gradient_bound",
    "informative",
    "interface_bound",
    "interface_bound_mass_span",
    "interface_bound_value_aware",
    "neural_bound",
    "neural_statistical_term",
    "poisson_best_step",
    "poisson_bound_constant_step",
    "poisson_bound_decaying_step",
    "policy_loss_bound",
    "residual_bound_constant_step",
    "residual_bound_decaying_step",
    "residual_rms",
    "sharp_gap",
    "tail_average_bound",
    "target_distance",
    "total_bound",
    "width_rate",
]

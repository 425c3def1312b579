"""What can be known of an IC-SMDP without sampling: float64, on the host, with NumPy and SciPy."""

from icsmdp_jax.exact.asymptotics import central_limit
from icsmdp_jax.exact.chain import behaviour_chain, mixing_time, stationary_law
from icsmdp_jax.exact.constants import Analysis, analyse, kappa_certificate
from icsmdp_jax.exact.fixed_point import FeatureBasis, projected_fixed_point
from icsmdp_jax.exact.interface import InterfaceModel, ais_constants, interface_model, solve_interface
from icsmdp_jax.exact.moments import KernelMoments, kernel_moments
from icsmdp_jax.exact.solve import evaluate_policy, modified_policy_iteration, optimal_q

__all__ = [
    "Analysis",
    "FeatureBasis",
    "InterfaceModel",
    "KernelMoments",
    "ais_constants",
    "analyse",
    "behaviour_chain",
    "central_limit",
    "evaluate_policy",
    "interface_model",
    "kappa_certificate",
    "kernel_moments",
    "mixing_time",
    "modified_policy_iteration",
    "optimal_q",
    "projected_fixed_point",
    "solve_interface",
    "stationary_law",
]

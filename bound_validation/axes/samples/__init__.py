"""The axis samples: the residual against the number of handoffs (P2, theorem B, T3+)."""

from bound_validation.axes.samples.spec import ACCELERATED, PRESETS
from bound_validation.axis import in_folder

AXIS = in_folder(__name__, PRESETS, accelerated=ACCELERATED)

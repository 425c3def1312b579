"""The axis samples: the residual against the number of handoffs (T3, T3.1, P2)."""

from bound_validation.axes.samples.spec import ACCELERATED, PRESETS
from bound_validation.axis import in_folder

AXIS = in_folder(__name__, PRESETS, accelerated=ACCELERATED)

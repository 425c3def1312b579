"""The axis durations: gamma_bar, not gamma, sets the error constant and the contraction (L1, T1)."""

from bound_validation.axes.durations.spec import PRESETS
from bound_validation.axis import in_folder

AXIS = in_folder(__name__, PRESETS)

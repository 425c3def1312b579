"""The axis returns: does one scalar per handoff suffice (T1.3)."""

from bound_validation.axes.returns.spec import PRESETS
from bound_validation.axis import in_folder

AXIS = in_folder(__name__, PRESETS)

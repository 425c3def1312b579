"""The axis mixing: how slow mixing enters, with the gap open and closed (T3+, P2, P2.1)."""

from bound_validation.axes.mixing.spec import PRESETS
from bound_validation.axis import in_folder

AXIS = in_folder(__name__, PRESETS)

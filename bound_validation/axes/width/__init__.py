"""The axis width: approximation error against features per agent (T2, T2.1)."""

from bound_validation.axes.width.spec import PRESETS
from bound_validation.axis import in_folder

AXIS = in_folder(__name__, PRESETS)

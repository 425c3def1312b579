"""The axis model: every term on a given model file."""

from bound_validation.axes.model.spec import PRESETS
from bound_validation.axis import in_folder

AXIS = in_folder(__name__, PRESETS, figure=None, given=True)

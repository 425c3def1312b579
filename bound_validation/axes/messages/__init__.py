"""The axis messages: channels that fail (D9, L1)."""

from bound_validation.axes.messages.spec import PRESETS
from bound_validation.axis import in_folder

AXIS = in_folder(__name__, PRESETS)

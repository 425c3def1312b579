"""The axis audit: what a learned table says of its own error, without a model (T5)."""

from bound_validation.axes.audit.spec import PRESETS
from bound_validation.axis import in_folder

AXIS = in_folder(__name__, PRESETS, claims=f"{__name__}.measure:claims")

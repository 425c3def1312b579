"""The axis total: the whole bound over width, gap and samples (T4)."""

from bound_validation.axes.total.spec import PRESETS
from bound_validation.axis import in_folder

AXIS = in_folder(__name__, PRESETS, claims=f"{__name__}.measure:claims")

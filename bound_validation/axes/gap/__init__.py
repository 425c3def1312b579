"""The axis gap: the interface gap against eta, exactly and in IC-Q runs, and the sharp family (T1)."""

from bound_validation.axes.gap.spec import PRESETS
from bound_validation.axis import in_folder

AXIS = in_folder(__name__, PRESETS)

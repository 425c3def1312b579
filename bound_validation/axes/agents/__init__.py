"""The axis agents: the bound's terms as the pipeline grows (T1, T3, P2)."""

from bound_validation.axes.agents.spec import PRESETS
from bound_validation.axis import in_folder

AXIS = in_folder(__name__, PRESETS)

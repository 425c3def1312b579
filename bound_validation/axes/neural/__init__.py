"""The axis neural: IC-Q with nets whose hidden layer is trained, against theorem N."""

from bound_validation.axes.neural.spec import PRESETS
from bound_validation.axis import in_folder

AXIS = in_folder(__name__, PRESETS, claims=f"{__name__}.measure:claims")

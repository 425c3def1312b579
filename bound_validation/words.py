"""What an axis says in the report, and the symbols that all of them use.

The strings are this project's own HTML fragments; nothing measured or user-given is pasted into them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Section(NamedTuple):
    """Words that go with an axis.

    Attributes:
      title: heading.
      paragraphs: explanation, HTML.
      captions: by name of the figure, HTML.
      slopes: readable names of its fitted slopes, plain text.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    captions: Mapping[str, str] = MappingProxyType({})
    slopes: Mapping[str, str] = MappingProxyType({})


NORM = "&Vert;&middot;&Vert;<sub>d</sub>"
Q_PHI, Q_M, Q_STAR = "Q<sub>&phi;</sub>", "Q<sub>m</sub>", "Q<sup>&#8902;</sup>"
GAMMA_BAR = '<span class="bar">&gamma;</span>'
ROOT_M = "C&#8239;m<sup>&minus;1/2</sup>"
T_MIX = "t<sub>mix</sub>"

READING = (
    "Markers are measurements, with 95&nbsp;% intervals that are often smaller than the marker. Solid lines are "
    "guaranteed by a theorem, dashed lines are sharp predictions, dotted lines are drawn for comparison, thin "
    "dash-dotted lines are fitted power laws with the slope and its interval. Hollow markers: A6 is not certified "
    "there, so the bound is not claimed. A red cross: the bound is violated. Axes are logarithmic; one that shows 0 is "
    "linear up to its smallest positive value. Values are in units of reward."
)

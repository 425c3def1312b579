"""The one table of methods: IC-Q and its rivals, each with its flow of information, labels and plot style.

Learner, experiments, axes of the bound and figures all read it; ``register`` adds a method to all of them.
"""

from __future__ import annotations

from typing import NamedTuple

VIEWS = ("interface", "owner", "state")
WHOLE_STATE, SEGMENTS, PARAMETERS = "whole state", "interface and segment", "scalar and parameters"


class Method(NamedTuple):
    """A learner and its flow of information.

    Attributes:
      id: its name in Python and in cells.
      label: what figures and tables call it.
      wording: what the active agent sees and what crosses at a handoff.
      colour: hexadecimal, for figures.
      marker: Matplotlib's code, for figures.
      json_id: its name in the result files of experiments, if that is another one.
      view: ``"interface"``, ``"owner"`` (the interface and whose it is) or ``"state"``.
      shared: whether all agents use one set of parameters.
      bootstrap: see ``ParallelLearner``.
      federated_every: see ``ParallelLearner``.
      crosses: numbers that cross between agents at each handoff, or ``WHOLE_STATE``, ``SEGMENTS`` or ``PARAMETERS``,
        whose number depends on the model.
    """

    id: str
    label: str
    wording: str
    colour: str = "#009E73"
    marker: str = "P"
    json_id: str = ""
    view: str = "interface"
    shared: bool = False
    bootstrap: str = "message"
    federated_every: int = 0
    crosses: float | str = 1.0

    @property
    def name(self) -> str:
        """Its name in result files."""
        return self.json_id or self.id

    @property
    def needs_networks(self) -> bool:
        """Whether it is IC-Q itself with tables, where a row has one owner and the maximum is all that is used."""
        return self.shared or self.federated_every > 0


METHODS: dict[str, Method] = {}


def register(method: Method) -> Method:
    """Adds a method to the end of the table.

    Raises:
      ValueError: if its names are taken, or for an unknown view or word for what crosses.
    """
    taken = {name for one in METHODS.values() for name in (one.id, one.name)}
    for name in (method.id, method.name):
        if name in taken:
            raise ValueError(f"method {name!r}: there is one of this name, expected another than {', '.join(METHODS)}")
    if method.view not in VIEWS:
        raise ValueError(f"method {method.id!r}: view = {method.view!r}, expected one of {', '.join(VIEWS)}")
    words = (WHOLE_STATE, SEGMENTS, PARAMETERS)
    if isinstance(method.crosses, str) and method.crosses not in words:
        raise ValueError(f"method {method.id!r}: crosses = {method.crosses!r}, expected a number or one of {words}")
    METHODS[method.id] = method
    return method


def named(name: str) -> Method:
    """The method of this name in result files.

    Raises:
      ValueError: for an unknown name; the line lists the names.
    """
    for method in METHODS.values():
        if method.name == name:
            return method
    names = ", ".join(method.name for method in METHODS.values())
    raise ValueError(f"methods: found {name!r}, expected names among {names}")


for _method in (
    Method("ic_q", "IC-Q", "own interface, own parameters; one scalar crosses at each handoff", "#0072B2", "o"),
    Method(
        "central", "central learner", "one learner that sees the global state", "#E69F00", "s",
        json_id="central_learner", view="state", crosses=WHOLE_STATE,
    ),
    Method(
        "full_information", "full information",
        "own interface; the receiver's whole interface crosses, later its segment, and everybody hears it. All agents "
        "then hold the same data, so one set of parameters, which knows whose interface it reads, stands for their "
        "equal copies",
        "#009E73", "^", view="owner", shared=True, crosses=SEGMENTS,
    ),
    Method(
        "shared", "shared parameters",
        "own interface, one set of parameters for all; one scalar crosses at each handoff",
        "#56B4E9", "D", shared=True,
    ),
    Method(
        "federated", "federated averages",
        "own interface; one scalar crosses at each handoff, and all parameters are averaged from time to time",
        "#6B6B6B", "*", federated_every=10, crosses=PARAMETERS,
    ),
    Method(
        "no_message_team", "no message, team reward",
        "own interface; rewards are announced to everybody, and values cross nowhere: an agent bootstraps on its own "
        "next turn",
        "#000000", ">", bootstrap="own-turn-team",
    ),
    Method(
        "no_message", "no message", "own interface; nothing crosses: an agent bootstraps on its own next turn",
        "#D55E00", "v", bootstrap="own-turn", crosses=0.0,
    ),
    Method(
        "immediate", "immediate reward only",
        "own interface; nothing crosses: an agent learns its own segment's reward",
        "#CC79A7", "X", bootstrap="nothing", crosses=0.0,
    ),
):  # fmt: skip
    register(_method)

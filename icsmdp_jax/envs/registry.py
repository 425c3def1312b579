"""All environments by name: ``make("cpu-sort3")`` gives an environment and its parameters.

Entries are strings, so that nothing is imported before it is asked for. Other packages publish environments as entry
points of the group ``icsmdp_jax.environments``, ``name = "module:function"``; they are listed after ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, NamedTuple

from icsmdp_jax.core.arguments import shown

if TYPE_CHECKING:
    from icsmdp_jax.core.environment import Environment


class Entry(NamedTuple):
    """One name of the registry.

    Attributes:
      maker: a function, or ``"module:function"``, called with keyword arguments; returns ``(env, params)``.
      text: what it is, in a few words.
      arguments: arguments that belong to the name; the caller who makes the environment may replace them.
    """

    maker: str | Callable[..., tuple[Environment, Any]]
    text: str
    arguments: Mapping[str, Any] = {}


HERE = "icsmdp_jax.envs"
ROUTING, SORTING, ROLES = f"{HERE}.routing:routing", f"{HERE}.cpu_sort:cpu_sort", f"{HERE}.role_workflows"

ENVIRONMENTS: dict[str, Entry] = {
    "routing-6x6": Entry(ROUTING, "packets on an irregular 6 x 6 grid", {"graph": "6x6"}),
    "routing": Entry(ROUTING, "packets on any graph", {"graph": "6x6"}),
    "expert-routing": Entry(
        f"{HERE}.expert_routing:expert_routing", "queries handed from a front agent to experts of different price"
    ),
    "math-pipeline": Entry(
        f"{HERE}.math_pipeline:math_pipeline", "planner, solvers, verifier and finalizer work on a draft"
    ),
    "semantic-cache": Entry(
        f"{HERE}.semantic_cache:semantic_cache", "a front agent answers from its cache, or hands on to models"
    ),
    "federated-routing": Entry(
        f"{HERE}.federated_routing:federated_routing", "clients with access to some of the models route their queries"
    ),
    "cpu-sort2": Entry(
        SORTING, "agents of instruction classes write a program that sorts two values", {"num_values": 2}
    ),
    "cpu-sort3": Entry(SORTING, "the same for three values", {"num_values": 3}),
    "cpu-sort4": Entry(SORTING, "the same for four values", {"num_values": 4}),
    "eval-opt": Entry(f"{ROLES}:eval_opt", "an evaluator and an optimizer in turn"),
    "voting": Entry(f"{ROLES}:voting", "voters and an aggregator"),
    "orch-workers": Entry(f"{ROLES}:orch_workers", "an orchestrator and its workers"),
    "workshop": Entry(
        f"{HERE}.workshop.lifted:workshop_options",
        "benches with fixed local policies work on the parts of a workpiece",
    ),
    "planted": Entry(f"{HERE}.planted.env:planted", "ten agents of a model built backwards from its solution"),
}


class Description(NamedTuple):
    """Facts of one environment, plain values.

    Attributes:
      name: registered name.
      text: what it is.
      agents: number of agents.
      options: largest number of options at an interface.
      interface_shape: shape of one interface; ``[]`` for a number.
      interfaces: number of interfaces where they are numbered, else None.
      longest_duration: longest option in primitive steps, None if unbounded.
      exact_oracle: whether an exact solution is available.
    """

    name: str
    text: str
    agents: int
    options: int
    interface_shape: list[int]
    interfaces: int | None
    longest_duration: int | None
    exact_oracle: bool


GROUP = "icsmdp_jax.environments"


def published() -> dict[str, Entry]:
    """Environments of installed packages, under names that are not taken; nothing is imported."""
    found: dict[str, Entry] = {}
    for one in metadata.entry_points(group=GROUP):
        if one.name not in ENVIRONMENTS:
            source = one.dist.name if one.dist is not None else "another package"
            found.setdefault(one.name, Entry(one.value, f"published by {source}"))
    return found


def environments() -> tuple[str, ...]:
    """All names: those of the documentation in its order, then registered ones and those of installed packages.

    Example:
      >>> import icsmdp_jax as ic
      >>> "planted" in ic.environments()
      True
    """
    return (*ENVIRONMENTS, *published())


def register(name: str, maker: str | Callable[..., tuple[Environment, Any]], text: str, **arguments: Any) -> None:
    """Adds an environment of another package to the end of the list, for this process.

    An installed package is found without it: ``[project.entry-points."icsmdp_jax.environments"]`` in its pyproject.toml
    with the line ``name = "module:function"``.

    Args:
      name: its name.
      maker: a function of keyword arguments that returns ``(env, params)``, or ``"module:function"``.
      text: what it is, in a few words.
      **arguments: arguments that belong to the name.

    Raises:
      ValueError: if the name is taken, or the maker is not one.

    Example:
      >>> import icsmdp_jax as ic
      >>> def desk(gap=0.1):
      ...     return ic.make("planted", num_agents=3, gap=gap)
      >>> ic.register("desk", desk, "three agents", gap=0.3)
      >>> ic.make("desk", gap=0)[0].spec.num_agents
      3
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"name = {shown(name)}: expected a text")
    if not callable(maker) and not (isinstance(maker, str) and ":" in maker):
        raise ValueError(f"maker = {shown(maker)}: expected a function, or 'module:function'")
    if name in ENVIRONMENTS:
        raise ValueError(f"environment {name!r}: is registered already, expected another name")
    ENVIRONMENTS[name] = Entry(maker, text, arguments)


def entry(name: str) -> Entry:
    """The entry of a name.

    Raises:
      ValueError: for an unknown name; the line lists the names.
    """
    if isinstance(name, str) and name in ENVIRONMENTS:
        return ENVIRONMENTS[name]
    others = published()
    if not isinstance(name, str) or name not in others:
        raise ValueError(f"environment {shown(name)}: expected one of {', '.join((*ENVIRONMENTS, *others))}")
    return others[name]


def make(name: str, /, **overrides: Any) -> tuple[Environment, Any]:
    """The environment of a name and its parameters.

    Args:
      name: one of ``environments()``.
      **overrides: arguments of its maker that replace the name's own or the defaults.

    Returns:
      ``(env, params)``.

    Raises:
      ValueError: for an unknown name, an argument that the maker does not have, or whatever the maker refuses.

    Example:
      >>> import icsmdp_jax as ic
      >>> env, params = ic.make("planted", gap=0.2)
      >>> env.spec.num_agents
      10
    """
    import inspect

    found = entry(name)
    maker = _load(name, found.maker) if isinstance(found.maker, str) else found.maker
    known = inspect.signature(maker).parameters
    if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values()):
        for argument in overrides:
            if argument not in known:
                raise ValueError(f"{name}: argument {argument!r}, expected one of {', '.join(known)}")
    made = maker(**{**found.arguments, **overrides})
    if not (isinstance(made, tuple) and len(made) == 2):
        raise ValueError(f"{name}: its maker returned {type(made).__name__}, expected (env, params)")
    return made


def describe(name: str) -> Description:
    """Facts of an environment with its default arguments."""
    env = make(name)[0]
    spec = env.spec
    return Description(
        name=name,
        text=entry(name).text,
        agents=spec.num_agents,
        options=spec.num_options,
        interface_shape=[int(size) for size in spec.interface_shape],
        interfaces=spec.num_interfaces or None,
        longest_duration=spec.longest_duration or None,
        exact_oracle=env.has_exact_model,
    )


def _load(name: str, where: str) -> Any:
    module, _, function = where.partition(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"environment {name!r}: {where} cannot be loaded ({error}), expected a function") from None

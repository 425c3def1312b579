"""IC-Q against the centralized oracle on any environment with an exact model: one call, one ``Result``.

All methods spend the same handoffs. What each has learned is judged by the exact return of its greedy policy, on the
scale on which the random workflow has 0 and the oracle, which sees the whole state, has 1. Between IC-Q and the oracle
stands the policy that is greedy in the exact ``Q_phi``, the fixed point of tabular IC-Q (D5): what separates IC-Q from
it is learning, and what separates it from the oracle is the interface (T1.3).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.exact.returns import Interval
from icsmdp_jax.experiments.cooperation import cooperation_tables
from icsmdp_jax.experiments.course import course_figures, course_handoffs
from icsmdp_jax.experiments.quantities import exact_quantities, has_scale, own_interface_optimum
from icsmdp_jax.experiments.result import NEURAL, Result, Table, exactly, label, over_replicas
from icsmdp_jax.experiments.training import Budget, MethodRun, parts_of, prepared, train
from icsmdp_jax.learner.methods import WHOLE_STATE
from icsmdp_jax.runs.tasks import Progress

__all__ = ["ALL_TABULAR", "METHODS", "WITHIN", "Budget", "beside_exact", "compare", "judged", "say"]

METHODS = ("ic_q", "central_learner", "no_message", "immediate", "random")
ALL_TABULAR = ("ic_q", "central_learner", "no_message", "no_message_team", "immediate", "random")
WITHIN = 0.02  # how near to the exact greedy policy of its Q_phi IC-Q is to come, on the normalised scale
JUDGED_FROM = 50_000  # handoffs of each replica from which on the checks are decided
NEAR = f"IC-Q is within {WITHIN} of the exact greedy policy of its own Q_phi (normalised return)"
WORSE = ("no_message", "random")  # methods that are to be worse than IC-Q

NativeCentral = tuple[Environment, Any]
STOPS: ContextVar[Progress] = ContextVar("stops", default=lambda amount: None)  # of the task in this thread


def compare(
    env: Environment,
    params: Any,
    budget: Budget,
    *,
    methods: Sequence[str] = METHODS,
    function_class: str = "tabular",
    seed: int = 0,
    metric: str = "discounted return (reward units)",
    central: NativeCentral | None = None,
    budgets: Mapping[str, Budget] | None = None,
    remarks: Sequence[str] = (),
    tables: Sequence[Table] = (),
    figures: Mapping[str, Callable[[], Any]] | None = None,
    agents: Sequence[str] | None = None,
    judged_from: int = JUDGED_FROM,
) -> Result:
    """Trains the methods and compares them with what is known exactly.

    Args:
      env: native environment whose interfaces are numbered, with an exact model.
      params: its parameters.
      budget: handoffs, replicas, step sizes and exploration, the same for all methods.
      methods: ``ic_q``, ``central_learner``, ``no_message``, ``no_message_team``, ``immediate``, ``full_information``,
        ``shared``, ``federated``, each also with ``_neural`` at its end for networks, and ``random``, which is exact.
        ``ic_q`` is required.
      function_class: of the names without that ending.
      seed: of all random keys.
      metric: what the numbers are, with unit.
      central: an environment that shows everything and its parameters, for the central learner; by default that is
        trained in ``central_model`` of the exact model.
      budgets: other step sizes, exploration or sizes of networks for single methods; the handoffs must be the same.
      remarks: further sentences for the reader.
      tables: further tables.
      figures: further figures, besides those of ``course_figures``.
      agents: readable names of the agents in figures, where the model has none.
      judged_from: handoffs of each replica from which on the checks are decided.

    Returns:
      The result; ``exact`` has what ``exact_quantities`` gives.

    Raises:
      ValueError: for unknown methods, methods without IC-Q, or budgets of different handoffs.
    """
    spent = _checked_budgets(methods, budget, budgets or {}, function_class)
    name, model = env.spec.name, env.exact_model(params)
    known = analyse(model)
    with_tables = [
        method
        for method in methods
        if method != "random"
        and parts_of(method, function_class)[1] == "tabular"
        and parts_of(method, function_class)[0].needs_networks
    ]
    trained: dict[str, MethodRun] = {}
    course: dict[str, np.ndarray] = {}
    for method in methods:
        if method == "random" or method in with_tables:
            continue
        say(name, label(method))
        if central is not None and parts_of(method)[0].view == "state":
            judge = analyse(central[0].exact_model(central[1]))
            one = _native_central(method, central, judge, spent[method], function_class, seed)
        else:
            judge = known
            one = train(prepared(method, env, params, model, spent[method], function_class), spent[method], seed)
        trained[method] = one
        course[method] = judge.returns.of_greedy(one.course, one.by_state)
    earned = {method: found[:, -1] for method, found in course.items()}
    own = None
    if budget.explore == "epsilon-greedy" and budget.epsilon_end > 0 and function_class == "tabular":
        own = own_interface_optimum(known, trained["ic_q"].tables, budget.epsilon_end)
    exact = exact_quantities(known) | ({} if own is None else {"own_interface_optimum": float(own.mean())})
    values, scaled = beside_exact(known, earned, own)
    found = judged(known, scaled, budget.handoffs >= judged_from) if scaled else ({}, [_no_scale(known)])
    return Result(
        environment=name,
        metric=metric,
        methods=values,
        message_scalars_per_handoff=trained["ic_q"].scalars,
        exact=exact,
        normalised=scaled,
        remarks=[*remarks, *found[1], *_how_trained(trained, with_tables, central)],
        settings={"seed": seed, "function_class": function_class, **budget.settings(), **_seconds(trained)},
        tables=[
            _crossing(trained, values),
            *tables,
            *cooperation_tables(course_handoffs(known.returns.model, trained["ic_q"].course[0], agents, seed)),
        ],  # fmt: skip
        figures={**(figures or {}), **course_figures(known, trained, course, agents)},
        checks=found[0],
    )


def beside_exact(
    known: Analysis, earned: Mapping[str, np.ndarray], own: np.ndarray | None
) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """Returns of learners between those that are known exactly.

    Args:
      known: the exact solution.
      earned: ``[replicas]`` exact returns of what each method learned.
      own: returns of ``own_interface_optimum``, if they are known.

    Returns:
      By method, in reward units and on the scale 0 random, 1 oracle; the latter empty if there is no scale.
    """
    returns = known.returns
    values = {"exact_oracle": exactly(returns.oracle), "interface_oracle": exactly(returns.interface_optimum)}
    if own is not None:
        values["own_interface_oracle"] = over_replicas(own) if len(own) > 1 else exactly(float(own[0]))
    values |= {method: over_replicas(found) for method, found in earned.items()}
    values |= {"greedy_immediate": exactly(returns.greedy_immediate), "random": exactly(returns.random)}
    scaled = {method: on_scale(known, value) for method, value in values.items()} if has_scale(known) else {}
    return values, scaled


def say(name: str, what: str) -> None:
    """What an experiment is at, on stderr; a place where a run that was interrupted stops."""
    STOPS.get()(0)
    print(f"{name}: {what}", file=sys.stderr)


def on_scale(known: Analysis, value: Interval) -> Interval:
    """An interval of returns on the scale 0 random, 1 oracle."""
    mean, low, high = (float(known.returns.normalised(end)) for end in value[:3])
    return Interval(mean, low, high, value.replicas)


def _native_central(
    method: str, central: NativeCentral, known: Analysis, budget: Budget, function_class: str, seed: int
) -> MethodRun:
    """A central learner in an environment that shows everything: IC-Q, were there nothing that an interface hides."""
    kind = "ic_q" + (NEURAL if method.endswith(NEURAL) else "")
    one = train(prepared(kind, *central, known.returns.model, budget, function_class), budget, seed)
    return one._replace(scalars=math.nan)


def judged(known: Analysis, scaled: Mapping[str, Interval], enough: bool) -> tuple[dict[str, bool | None], list[str]]:
    """The checks of the fourth claim, and the sentences that say how they came out.

    Args:
      known: the exact solution.
      scaled: normalised returns by method: ``ic_q``, ``interface_oracle``, ``greedy_immediate``, and more.
      enough: whether there was enough training to judge.

    Returns:
      ``(checks, remarks)``.
    """
    found, exact, own = scaled["ic_q"], scaled["interface_oracle"].mean, scaled.get("own_interface_oracle")
    checks: dict[str, bool | None] = {}
    off = found.mean - exact
    line = (
        f"IC-Q's normalised return is {_text(found)}; that of the exact greedy policy of Q_phi under the uniform "
        f"behaviour is {exact:.4f} (difference {off:+.4f})"
    )
    passed = abs(off) <= WITHIN
    if own is not None:
        off_own = found.mean - own.mean
        line += (
            f", and under the epsilon-greedy behaviour that IC-Q ended with {own.mean:.4f} (difference {off_own:+.4f})"
        )
        passed = passed or abs(off_own) <= WITHIN
    line += f": {'within' if passed else 'not within'} {WITHIN}."
    checks[NEAR] = passed if enough else None
    if not enough:
        line += " This preset trains too little to tell."
    lines = [line]
    lines.append(
        f"The exact greedy policy of Q_phi is {1 - exact:.4f} of the scale below the full oracle; its interface has "
        f"epsilon = {_clean(known.epsilon, known.reward_max)} and delta = {_clean(known.delta)}. The worst state loses "
        f"{known.gap.policy_loss:.4g} (reward units); the bound 2 (epsilon + delta ||V_phi||) / (1 - gamma_bar) is "
        f"{known.gap.policy_loss_bound:.4g}."
    )
    for method in WORSE:
        if method not in scaled:
            continue
        other = scaled[method]
        worse = other.ci_high < found.ci_low
        words = "The no-message learner" if method == "no_message" else "The random workflow"
        checks[f"{words[0].lower()}{words[1:]} is worse than IC-Q outside the intervals"] = worse if enough else None
        lines.append(
            f"{words} has {_text(other)}: {'worse' if worse else 'not worse'} than IC-Q outside the intervals."
        )
        if not worse:
            lines[-1] += _why(exact, scaled, found)
    return checks, lines


def _clean(value: float, scale: float = 1.0) -> str:
    """A number of 0 or more, without what is rounding."""
    return f"{value:.4g}" if value > 1e-12 * scale else "0"


def _why(exact: float, scaled: Mapping[str, Interval], found: Interval) -> str:
    """What can be said in general about a baseline that keeps up with IC-Q, whose limit has the return ``exact``."""
    immediate = scaled["greedy_immediate"].mean
    if immediate >= exact - WITHIN:
        return (
            f" Here the option with the largest immediate reward is nearly always the best one ({immediate:.4f} for "
            "the exact policy of immediate rewards), so messages have little to add."
        )
    if not found.ci_high - found.ci_low < 0.2:
        return " IC-Q's runs scatter too widely for these replicas to tell the two apart."
    return ""


def _no_scale(known: Analysis) -> str:
    return (
        f"The oracle earns {known.returns.oracle:.6g} and the random workflow {known.returns.random:.6g}: no scale on "
        "which to compare."
    )


def _checked_budgets(
    methods: Sequence[str], budget: Budget, budgets: Mapping[str, Budget], function_class: str
) -> dict[str, Budget]:
    """The budget of every method; all names are looked at before anything is trained."""
    if "ic_q" not in methods:
        raise ValueError(f"methods = {tuple(methods)!r}: expected 'ic_q' among them")
    for method in methods:
        if method != "random":
            parts_of(method, function_class)
    for method, other in budgets.items():
        if other.handoffs != budget.handoffs:
            raise ValueError(
                f"budgets[{method!r}]: {other.handoffs} handoffs, expected {budget.handoffs} as all methods"
            )
    return {method: budgets.get(method, budget) for method in methods}


def _how_trained(
    trained: Mapping[str, MethodRun], with_tables: Sequence[str], central: NativeCentral | None
) -> list[str]:
    lines = []
    if "central_learner" in trained and central is None:
        lines.append(
            "The central learner is trained in the exact listing of the environment, numbered by its states: equal in "
            "law to the native environment, and judged alike."
        )
    if with_tables:
        lines.append(
            f"Not run: {', '.join(name.replace('_', ' ') for name in with_tables)}. With tables they are IC-Q itself, "
            "since a row has one owner and the maximum is all that a target uses."
        )
    return lines


def _seconds(trained: Mapping[str, MethodRun]) -> dict[str, float]:
    return {
        "compile_s": round(sum(one.compile_s for one in trained.values()), 2),
        "run_s": round(sum(one.run_s for one in trained.values()), 2),
    }


def _crossing(trained: Mapping[str, MethodRun], values: Mapping[str, Interval]) -> Table:
    """What each learned method earns, and what crosses for it."""
    rows = []
    for method, one in trained.items():
        crosses = WHOLE_STATE if parts_of(method)[0].crosses == WHOLE_STATE else one.scalars
        rows.append([label(method), values[method], crosses])
    return Table(
        "Exact return of each learner's greedy policy, and the numbers that cross between agents at each handoff",
        ("method", "return (reward units), 95 % interval", "scalars per handoff"),
        rows,
        name="crossing",
    )


def _text(value: Interval) -> str:
    if value.ci_low == value.ci_high:
        return f"{value.mean:.4f}"
    return f"{value.mean:.4f} [{value.ci_low:.4f}, {value.ci_high:.4f}]"

"""eval-opt, voting, orch-workers: IC-Q against its baselines on simulated roles, and roles trained by policy gradients.

No language model is run. The comparison with the oracle takes the workflows as they are registered, where an agent sees
how many pieces of work before its own passed their check. Training with shared or isolated parameters takes the form in
which agents of one role work in parallel from the same prompt (``roles_study.py``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from icsmdp_jax.envs import role_workflows
from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.comparison import Budget, compare, say
from icsmdp_jax.experiments.quantities import exact_quantities
from icsmdp_jax.experiments.result import Result, Table, over_replicas
from icsmdp_jax.experiments.roles_figures import training_figure
from icsmdp_jax.experiments.roles_study import ANCHOR, COLLAPSE, DAMPING, SCHEMES, Finding, Size, Study, findings, study

MAKERS: dict[str, Callable[..., Any]] = {
    "eval-opt": role_workflows.eval_opt,
    "voting": role_workflows.voting,
    "orch-workers": role_workflows.orch_workers,
}


def run(options: Options) -> Result:
    """Compares the methods, then trains the roles in every scheme.

    Raises:
      ValueError: for a name that is not a workflow of roles.
    """
    if options.name not in MAKERS:
        raise ValueError(f"name = {options.name!r}: expected one of {', '.join(MAKERS)}")
    maker = MAKERS[options.name]
    budget = Budget(updates=options.pick(10, 800, 4000), copies=32, length=8, replicas=options.pick(2, 16, 32))
    env, params = maker()
    result = compare(env, params, budget, seed=options.seed, agents=env.rules.agents)
    say(options.name, "roles trained by policy gradients")
    size = Size(options.pick(2, 20, 40), options.pick(2, 40, 100), options.pick(2, 8, 32))
    done = study(maker, size, options.seed, **({} if options.name == "eval-opt" else {"parallel": True}))
    found = findings(done)
    return dataclasses.replace(
        result,
        remarks=[*result.remarks, *_said(done, found, options.preset != "testing"), *_in_parallel(done, result.exact)],
        settings={**result.settings, "role_training": dataclasses.asdict(size)},
        tables=[*result.tables, _variants(maker, options.name), _trained(done), _decided(found)],
        figures={**result.figures, "roles": lambda: training_figure(done)},
    )


def _in_parallel(done: Study, registered: Mapping[str, float]) -> list[str]:
    """What one scalar carries when agents of one role do not see one another's work; exact but for the training."""
    if done.crowd is None:
        return []
    table = exact_quantities(analyse(done.env.exact_model(done.params)))
    role = done.roles[done.crowd]
    return [
        f"Where a {role} sees nothing of the other {role}s, the exact greedy policy of Q_phi falls from "
        f"{registered['interface_optimum_normalised']:.3f} to {table['interface_optimum_normalised']:.3f} of the "
        "scale: the one scalar comes from an agent that does not see the work, so it carries no credit for it. A "
        f"broadcast outcome does: the policy gradient reaches {done.peak('isolated').mean():.3f} reward units there, "
        f"the exact greedy policy of Q_phi {table['interface_optimum']:.3f}, the oracle {table['oracle']:.3f}."
    ]


def _variants(maker: Callable[..., Any], name: str) -> Table:
    """Exact quantities of other forms of the workflow."""
    forms: dict[str, dict[str, Any]] = {"as registered": {}}
    if name != "eval-opt":
        forms["agents of one role see nothing of one another"] = {"parallel": True}
    forms |= {"blocks cost twice as much": {"cost": 0.01}, "each role is paid for its own work": {"reward": "role"}}
    names = ("random", "greedy_immediate", "interface_optimum", "oracle", "epsilon", "delta")
    rows = []
    for text, overrides in forms.items():
        env, params = maker(**overrides)
        table = exact_quantities(analyse(env.exact_model(params)))
        rows.append([text, *(table[key] for key in names), table["interface_optimum_normalised"]])
    return Table(
        "Exact returns and interface constants of several forms of the workflow",
        ("form", *(key.replace("_", " ") for key in names), "interface optimum, normalised"),
        rows,
        name="forms",
    )


def _trained(done: Study) -> Table:
    """What became of each scheme."""
    rows = []
    for name in done.names:
        at = done.at(name)
        share = " / ".join(f"{x:.2f}" for x in done.mass_share(name).mean(axis=0))
        rows.append(
            [
                SCHEMES[name].text,
                over_replicas(done.worth.value[at].max(axis=1)),
                over_replicas(done.worth.value[at, :, -1]),
                over_replicas(done.worth.accuracy[at, :, -1]),
                over_replicas(done.drop(name)),
                f"{(done.drop(name) >= COLLAPSE).sum()} of {done.size.replicas}",
                share,
            ]
        )
    return Table(
        "Roles trained by policy gradients: exact values, means over replicas with 95 % intervals",
        (
            "scheme", "best return", "last return", "last accuracy", "best less last accuracy",
            f"runs that end {COLLAPSE} below", f"gradient mass of {' / '.join(done.roles)}",
        ),
        rows,
        name="schemes",
    )  # fmt: skip


def _decided(found: list[Finding]) -> Table:
    return Table(
        "Which of the phenomena reported in arXiv 2605.24202 occur here, by fixed criteria",
        ("phenomenon", "number that decides", "criterion", "occurs"),
        [[one.what, one.number, one.wanted, "yes" if one.occurs else "no"] for one in found],
        name="phenomena",
    )


def _said(done: Study, found: list[Finding], enough: bool) -> list[str]:
    """Findings as sentences."""
    if not enough:
        return ["Roles were trained too little in this preset to say anything about them."]
    yes = [one.what for one in found if one.occurs]
    no = [one.what for one in found if not one.occurs]
    said = [
        "Roles trained by policy gradients (simulated, not language models). Occurs: "
        + ("; ".join(yes) or "nothing")
        + ". Does not occur: "
        + ("; ".join(no) or "nothing")
        + "."
    ]
    change = over_replicas(done.drop("isolated_scaled") - done.drop("isolated_free"))
    said.append(
        "With returns scaled by their spread over the prompt and one set of parameters per role, accuracy ends "
        f"{done.drop('isolated_scaled').mean():.3f} below its best; where time is free while training it ends "
        f"{done.drop('isolated_free').mean():.3f} below, a difference of {change.mean:.3f} [{change.ci_low:.3f}, "
        f"{change.ci_high:.3f}]."
        + (
            " Where all answers to a prompt are equally right, scaling makes the price of time the whole signal."
            if change.ci_low > 0
            else ""
        )
    )
    helped = []
    for sharing in ("shared", "isolated"):
        for kind, weight in (("anchored", ANCHOR), ("damped", DAMPING)):
            at, plain = done.at(f"{sharing}_{kind}"), done.at(f"{sharing}_scaled")
            change = over_replicas(done.worth.accuracy[at, :, -1] - done.worth.accuracy[plain, :, -1])
            helped.append(
                f"{sharing}, {kind} ({weight:g}): {change.mean:+.3f} [{change.ci_low:+.3f}, {change.ci_high:+.3f}]"
            )
    said.append("Last accuracy with an intervention less that without, paired by replica: " + "; ".join(helped) + ".")
    return said

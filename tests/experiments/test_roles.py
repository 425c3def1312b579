"""The experiment on roles: everything runs, is finite where it must be, and the criteria decide as they say."""

from __future__ import annotations

import dataclasses
import json
from functools import cache

import numpy as np
import pytest

from icsmdp_jax.drawing.envs import role_workflows as picture
from icsmdp_jax.envs.role_workflows import Worth, eval_opt, voting, worth
from icsmdp_jax.envs.role_workflows.model import listing_of
from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.experiments import roles, roles_figures, roles_study
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.quantities import exact_quantities
from icsmdp_jax.experiments.result import Result
from icsmdp_jax.experiments.roles_study import COLLAPSE, Size, Study, findings


@cache
def small() -> Study:
    return roles_study.study(voting, Size(points=2, between=3, replicas=3, prompts=2, samples=4), parallel=True)


@pytest.mark.slow
def test_every_scheme_starts_alike_and_differs_later() -> None:
    done = small()
    assert done.names == tuple(roles_study.SCHEMES) and done.policy.shape[:3] == (len(done.names), 3, 3)
    np.testing.assert_allclose(done.policy[:, :, 0, :-1], 1 / 3, atol=1e-6)
    last = done.policy[:, 0, -1].reshape(len(done.names), -1)
    # the anchor is exactly 0 at the start only, so that after six updates no two schemes are the same
    assert len(np.unique(last.round(6), axis=0)) == len(done.names)
    assert np.isfinite(done.worth.value).all() and (done.updates == [0, 3, 6]).all()
    again = worth(done.env, done.params, done.policy[2, 1, 2])
    assert done.worth.accuracy[2, 1, 2] == pytest.approx(float(again.accuracy), abs=1e-12)


def test_parallel_generators_share_policies_exactly_where_they_share_parameters() -> None:
    """In parallel all generators read the same prompt: with one set per role they play the same policy."""
    done = small()
    views = listing_of(done.env.rules).views
    rows = [[z for z, (agent, _) in enumerate(views) if agent == i] for i in range(3)]
    policy = done.policy[:, :, -1]
    same = [name for i, name in enumerate(done.names) if np.allclose(policy[i][:, rows[0]], policy[i][:, rows[1]])]
    assert set(same) == {name for name in done.names if not name.startswith("single")}


def test_measures_by_hand() -> None:
    done = small()
    accuracy = np.zeros((len(done.names), 3, 3))
    accuracy[done.at("isolated")] = [[0.5, 0.9, 0.8], [0.5, 0.6, 0.7], [0.5, 0.9, 0.9 - COLLAPSE + 1e-9]]
    made = dataclasses.replace(done, worth=Worth(accuracy, accuracy, accuracy))
    np.testing.assert_allclose(made.drop("isolated"), [0.1, 0.0, COLLAPSE - 1e-9])
    np.testing.assert_allclose(made.peak("isolated"), [0.9, 0.7, 0.9])
    found = {one.what: one for one in findings(made)}
    collapse = found["late collapse, one set per role"]
    assert collapse.number.mean == pytest.approx(1 / 3) and not collapse.occurs
    assert 0 <= collapse.number.ci_low < collapse.number.ci_high <= 1
    accuracy[done.at("isolated"), 2, 2] = 0.8
    again = {one.what: one for one in findings(made)}["late collapse, one set per role"]
    assert again.number.mean == pytest.approx(2 / 3) and again.occurs
    mass = done.mass_share("shared")
    np.testing.assert_allclose(mass.sum(axis=1), 1, rtol=1e-5)


def test_exchange_of_one_role() -> None:
    """Nothing is gained by exchanging equal policies; with one role exchanged after another, all is."""
    done = small()
    np.testing.assert_allclose(done.gain_of_exchange("isolated", "isolated"), 0, atol=1e-12)
    gain = done.gain_of_exchange("shared", "isolated")
    assert gain.shape == (3, 2) and np.abs(gain).max() > 0
    mixed = done.policy[done.at("shared"), :, -1].copy()
    rows = [z for z, (agent, _) in enumerate(listing_of(done.env.rules).views) if agent == 3]
    mixed[:, rows] = done.policy[done.at("isolated"), :, -1][:, rows]
    before = done.worth.value[done.at("shared"), :, -1]
    np.testing.assert_allclose(gain[:, 1], worth(done.env, done.params, mixed).value - before, atol=1e-12)


def test_capture_needs_mass_and_loss() -> None:
    done = small()
    heavy = done.metrics.mass.copy()
    heavy[..., 0], heavy[..., 1] = 0.9, 0.1
    policy = done.policy.copy()
    listing = listing_of(done.env.rules)
    aggregator = [z for z, (agent, _) in enumerate(listing.views) if agent == 3]
    for name, option in (("shared", 2), ("isolated", 1)):  # solving alone against reading what there is
        policy[done.at(name)] = 0.0
        policy[done.at(name)][..., 2] = 1.0
        policy[done.at(name)][..., aggregator, :] = np.eye(3)[option]
    made = dataclasses.replace(done, policy=policy, metrics=done.metrics._replace(mass=heavy))
    names = {one.what: one for one in findings(made)}
    found = names["capture by the generator, plain returns: loss of the aggregator"]
    assert found.occurs and found.number.mean > 0.01
    even = dataclasses.replace(made, metrics=done.metrics._replace(mass=np.ones_like(heavy)))
    assert not [one for one in findings(even) if one.what.startswith("capture") and "plain" in one.what][0].occurs


def test_eval_opt_has_no_crowd() -> None:
    env, _ = eval_opt()
    assert not any(name.startswith("single") for name in roles_study.schemes_for(env))


def test_figures_draw_themselves(tmp_path) -> None:  # type: ignore[no-untyped-def]
    figure = roles_figures.training_figure(small())
    figure.savefig(tmp_path / "training.png", dpi=50)
    assert len(figure.axes) == 6 and all(axes.get_ylabel() for axes in figure.axes[::2])
    for name in picture.RULES:
        drawn = picture.draw(name)
        drawn.savefig(tmp_path / f"{name}.png", dpi=50)
        words = {text.get_text() for text in drawn.axes[0].texts}
        assert set(picture.RULES[name].agents) <= words
    with pytest.raises(ValueError, match="name = 'debate': expected one of eval-opt, voting, orch-workers"):
        picture.draw("debate")


def test_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match="name = 'debate': expected one of eval-opt, voting, orch-workers"):
        roles.run(Options("debate", "testing"))


def test_what_is_said_is_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that an experiment adds to the comparison, from a study that is there already."""
    done = small()
    bare = Result("voting", "", {}, exact={"interface_optimum_normalised": 0.9})
    monkeypatch.setattr(roles, "compare", lambda *given, **more: bare)
    monkeypatch.setattr(roles, "study", lambda *given, **more: done)
    result = roles.run(Options("voting", "quick"))
    forms, schemes, phenomena = result.tables
    exact = exact_quantities(analyse(done.env.exact_model(done.params)))
    parallel = dict(zip(forms.columns, forms.rows[1], strict=True))
    assert parallel["oracle"] == pytest.approx(exact["oracle"]) and parallel["epsilon"] == exact["epsilon"]
    assert forms.rows[0][4] > forms.rows[2][4]  # blocks that cost twice as much leave less to the oracle
    last = [row[2].mean for row in schemes.rows]
    np.testing.assert_allclose(last, done.worth.value[:, :, -1].mean(axis=1))
    found = findings(done)
    assert [(row[0], row[3]) for row in phenomena.rows] == [(one.what, "yes" if one.occurs else "no") for one in found]
    happens, credit = result.remarks[0], result.remarks[-1]
    assert all((one.what in happens.split("Does not occur")[0]) is one.occurs for one in found)
    assert f"falls from 0.900 to {exact['interface_optimum_normalised']:.3f}" in credit


@pytest.mark.slow
@pytest.mark.parametrize("name", list(roles.MAKERS))
def test_experiment(name: str) -> None:
    """The testing preset: one result with all its parts, as JSON too."""
    result = roles.run(Options(name, "testing"))
    told = json.loads(json.dumps(result.as_json()))
    assert {"ic_q", "exact_oracle", "random"} <= set(told["methods"])
    assert [table["name"] for table in told["tables"]][-3:] == ["forms", "schemes", "phenomena"]
    assert result.exact["greedy_immediate"] < result.exact["interface_optimum"] < result.exact["oracle"]
    assert any("trained too little" in line for line in told["remarks"])

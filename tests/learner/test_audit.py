"""The audit of what was learned: limits from outside, sums handoff by handoff, what is covered and what is not (T5)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from icsmdp_jax.core.sampling import random_words
from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.exact import analyse
from icsmdp_jax.exact.fixed_point import bellman, entrywise_bound
from icsmdp_jax.learner import audit as module
from icsmdp_jax.learner import networks
from icsmdp_jax.learner.audit import Audit, audit
from icsmdp_jax.learner.audit_limits import Sums, half_width, scaling_quantile
from icsmdp_jax.learner.exploration import behaviour_table, fixed_behaviour
from tests.exact.test_comparison import tiny
from tests.helpers import as_model, golden_analysis
from tests.learner.courier import OPTIONS, Courier, CourierParams

HANDOFFS = 640


def sums(rng: np.random.Generator, batches: int, visits: int, repeats: int, mean: float) -> Sums:
    """Independent terms, uniform on an interval of length 2, one pair."""
    terms = rng.uniform(-1, 1, size=(repeats, batches, visits)) + mean
    return Sums(
        np.full((repeats, batches, 1), visits), terms.sum(axis=2)[..., None], (terms**2).sum(axis=(1, 2))[..., None]
    )


def test_quantiles_of_random_scaling_are_the_published_ones() -> None:
    """Abadir and Paruolo (1997): 6.747 for two-sided 95 %, 5.323 for 90 %."""
    assert scaling_quantile(0.05, 2000) == pytest.approx(6.747, abs=2e-3)
    assert scaling_quantile(0.10, 2000) == pytest.approx(5.323, abs=2e-3)
    walks = np.random.default_rng(0).normal(size=(100_000, 8)).cumsum(axis=1)
    bridge = walks - walks[:, -1:] * np.arange(1, 9) / 8
    ratio = np.abs(walks[:, -1]) / np.sqrt(8) / np.sqrt((bridge**2).mean(axis=1) / 8)
    assert np.mean(ratio > scaling_quantile(0.05, 8)) == pytest.approx(0.05, abs=0.004)


@pytest.mark.parametrize("method", ["batch-means", "random-scaling", "bernstein"])
def test_intervals_miss_as_often_as_they_say(method: str) -> None:
    found = sums(np.random.default_rng(1), 32, 40, 4000, 0.3)
    missed = np.mean(np.abs(found.mean - 0.3) > half_width(found, method, 0.05, size=1.3))
    assert missed <= 0.01 if method == "bernstein" else missed == pytest.approx(0.05, abs=0.012)
    one = np.mean(found.mean + half_width(found, method, 0.05, size=1.3, sides=1) < 0.3)
    assert one <= 0.01 if method == "bernstein" else one == pytest.approx(0.05, abs=0.012)


def test_batch_means_of_equal_visits_are_the_textbook_interval() -> None:
    found = sums(np.random.default_rng(2), 16, 5, 1, 0.0)
    means = found.total[0, :, 0] / 5
    half = stats.t.ppf(0.975, 15) * means.std(ddof=1) / 4
    assert half_width(found, "batch-means", 0.05)[0, 0] == pytest.approx(half, rel=1e-12)


def test_a_bernstein_limit_needs_a_size_and_holds_from_the_first_visit() -> None:
    few = Sums(np.array([[1], [0]]), np.array([[0.5], [0.0]]), np.array([0.25]))
    with pytest.raises(ValueError, match="size: missing, expected a bound"):
        half_width(few, "bernstein", 0.05)
    assert 1 < half_width(few, "bernstein", 0.05, size=1.0)[0] < np.inf
    assert half_width(Sums(few.visits * 0, few.total, few.square), "bernstein", 0.05, size=1.0)[0] == np.inf


def audited(seed: int, q: np.ndarray | None = None, **options: object) -> tuple[Audit, np.ndarray]:
    """An audit of two random tables on a tiny model, with masks, terminal handoffs and dependent durations."""
    known = analyse(as_model(tiny(seed, True)))
    env, params = tabular_env(known.interface.model)
    shape = known.interface.mask.shape
    tables = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32) if q is None else q
    values = networks.tabular(*shape)
    law = behaviour_table(known.interface.chain.behaviour)
    found = audit(env, params, values, None, tables, jax.random.key(3), HANDOFFS, behaviour=law, **options)  # type: ignore[arg-type]
    return found, tables


def test_sums_are_those_of_the_handoffs_one_by_one() -> None:
    found, tables = audited(3)
    known = analyse(as_model(tiny(3, True)))
    env, params = tabular_env(known.interface.model)
    law = behaviour_table(known.interface.chain.behaviour)
    key, length = jax.random.key(3), HANDOFFS // 32
    keys = jax.random.split(jax.random.fold_in(key, 0), 2)
    now, state = jax.vmap(env.reset, in_axes=(0, None))(keys, params)
    step = jax.jit(jax.vmap(env.step_from_words, in_axes=(0, 0, 0, None)))
    act = jax.jit(jax.vmap(lambda word, z: fixed_behaviour(word, z, law)))
    visits, total = (np.zeros((2, 32, *tables.shape[1:])) for _ in range(2))
    for batch in range(-1, 3):
        drawn = random_words(jax.random.fold_in(key, batch + 2), length * 2, env.words_per_step + 1)
        for words in np.asarray(drawn).reshape(length, 2, -1):
            option = act(words[:, -1], now.interface)
            after, state = step(words[:, :-1], state, option, params)
            for r in range(2):
                z, o, end = int(now.interface[r]), int(option[r]), int(after.final_interface[r])
                mask = np.asarray(after.final_mask[r])
                best = tables[r, end][mask].max() if mask.any() else 0.0
                if batch >= 0:
                    visits[r, batch, z, o] += 1
                    total[r, batch, z, o] += after.reward[r] + after.discount[r] * best - tables[r, z, o]
            now = after
    z, o = found.pairs.T
    np.testing.assert_array_equal(found.errors.visits[:, :3], visits[:, :3, z, o])
    np.testing.assert_allclose(found.errors.total[:, :3], total[:, :3, z, o], rtol=1e-5, atol=1e-4)


def test_residuals_moduli_and_bounds_are_near_the_exact_ones() -> None:
    known = golden_analysis("plain")
    interface, model = known.interface, known.interface.model
    env, params = tabular_env(model)
    rng = np.random.default_rng(0)
    table = (known.q_phi_table + rng.normal(size=known.q_phi_table.shape))[None].astype(np.float32)
    values = networks.tabular(*interface.mask.shape)
    found = audit(env, params, values, None, table, jax.random.key(0), 64_000, gamma=model.gamma)
    z, o = found.pairs.T
    assert found.covered.all() and len(z) == interface.mask.sum()
    exact = (bellman(interface, table[0].astype(float)) - table[0])[z, o]
    modulus = (1 - interface.killing)[z, o]
    assert (np.abs(exact) <= found.limit[0]).all() and (found.limit[0] <= np.abs(exact) + 1.0).all()
    assert (modulus <= found.modulus[0]).all() and (found.modulus[0] <= modulus + 0.06).all()
    error = np.abs(table[0] - known.q_phi_table)[z, o].max()
    assert error <= found.error_bounds[0] == found.limit[0].max() / (1 - found.modulus[0].max())
    plain = found.plain()
    assert plain["error_bound"] == found.error_bounds[0] and plain["not_covered"] == []
    assert plain["largest_residual"] == pytest.approx(np.abs(exact).max(), abs=0.3)


def test_pairs_that_were_never_met_are_named_and_nothing_is_claimed() -> None:
    known = analyse(as_model(tiny(1, True)))
    asked = known.interface.mask.copy()
    free = np.argwhere(~asked)
    asked = np.concatenate([asked, np.zeros((1, 2), bool)])
    asked[-1, 1] = True  # an interface that the model does not have
    found, _ = audited(1, pairs=asked)
    plain = found.plain()
    assert plain["not_covered"] == [[len(asked) - 1, 1]] and len(free) == (~known.interface.mask).sum()
    assert plain["upper_limit"] is None and plain["error_bound"] is None
    assert plain["largest_residual"] is not None
    every = audited(1)[0].plain()
    assert every["not_covered"] == [] and every["error_bound"] is not None


def test_interfaces_that_are_vectors_are_told_apart_by_agent_and_vector() -> None:
    """Places of the courier never repeat, so nothing is covered; a net that ignores them still has residuals."""
    values = networks.linear(3, OPTIONS, dim=2)
    params = jnp.ones((1, 3, OPTIONS, 2))
    found = audit(Courier(), CourierParams(), values, None, params, jax.random.key(0), 64)
    assert found.interfaces.shape[1] == 3 and len(found.interfaces) == 64
    assert found.errors.times.sum() == 64 and not found.covered.any()
    plain = found.plain()
    assert plain["error_bound"] is None and len(plain["not_covered"]) == plain["pairs"]


def test_a_size_that_a_difference_exceeds_is_refused() -> None:
    assert audited(1, method="bernstein", size=1e3)[0].plain()["method"] == "bernstein"
    with pytest.raises(ValueError, match="size = 0.5: expected a bound on the differences, one of which is"):
        audited(1, method="bernstein", size=0.5)


def test_sums_that_do_not_fit_are_refused_before_anything_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "host_memory", lambda: 3 * 80 * 32 * 1000)
    monkeypatch.setattr(module, "_run", None)
    with pytest.raises(ValueError, match="audit: 4 tables of 1000 pairs need .*; 3 would fit"):
        module.check_memory(1000, 4)
    module.check_memory(1000, 3)
    values = networks.tabular(1000, 4)
    env, params = tabular_env(golden_analysis("plain").interface.model)
    with pytest.raises(ValueError, match="audit: 3 tables of 2000 pairs"):
        audit(env, params, values, None, np.zeros((3, 1000, 4), np.float32), jax.random.key(0), 64,
              pairs=np.ones((1000, 2), bool))  # fmt: skip


def test_too_few_handoffs_are_refused() -> None:
    with pytest.raises(ValueError, match="handoffs = 63: expected at least 64"):
        audit(Courier(), CourierParams(), networks.linear(3, OPTIONS, dim=2), None,
              jnp.ones((1, 3, OPTIONS, 2)), jax.random.key(0), 63)  # fmt: skip
    with pytest.raises(ValueError, match="method = 'other': expected one of batch-means"):
        audit(Courier(), CourierParams(), networks.linear(3, OPTIONS, dim=2), None,
              jnp.ones((1, 3, OPTIONS, 2)), jax.random.key(0), 64, method="other")  # fmt: skip


def test_the_entrywise_bound_solves_its_equation_and_lies_between() -> None:
    known = golden_analysis("episodic_masks")
    interface = known.interface
    table = np.where(interface.mask, known.q_phi_table + np.random.default_rng(5).normal(size=interface.mask.shape), 0)
    residual = bellman(interface, table) - np.where(interface.mask, table, 0)
    bound = entrywise_bound(interface, residual)
    ahead = np.asarray(interface.discounted @ bound.max(axis=1)).reshape(bound.shape)
    np.testing.assert_allclose(bound[interface.mask], (np.abs(residual) + ahead)[interface.mask], atol=1e-8)
    error = np.abs(table - known.q_phi_table)
    sup = np.abs(residual).max() / interface.killing[interface.mask].min()
    assert (error <= bound + 1e-9).all() and bound.max() <= sup + 1e-8

"""Nets near their start against a plain loop, and what theorem N takes for granted about them."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.exact.nets import NetStart, draw_start
from icsmdp_jax.learner import networks, schedules, slots
from icsmdp_jax.learner.icq import Inputs, Learner
from icsmdp_jax.learner.near_start import as_units, near_start, net_data, project_units
from icsmdp_jax.learner.train import train
from tests.helpers import golden, golden_analysis, learner_inputs, same_bits
from tests.reference import near_start as twin
from tests.reference.simulate import Trajectory

MODEL = "episodic_masks"  # masks, terminal states and restarts all at once
WIDTH, STEPS, STEP, RADIUS = 8, 600, 0.4, 0.35


@cache
def start() -> NetStart:
    interface = golden_analysis(MODEL).interface
    rng = np.random.default_rng(3)
    x = rng.normal(size=(interface.model.num_interfaces, 3))
    return draw_start(interface, x / np.linalg.norm(x, axis=1, keepdims=True), WIDTH, rng)


@cache
def learner() -> Learner:
    model = golden(MODEL)
    env, _ = tabular_env(model)
    return Learner(env, near_start(model.num_agents, model.num_options, WIDTH), "epoch", project=True)


def inputs() -> Inputs:
    one, model = start(), golden(MODEL)
    _, params = tabular_env(model)
    behaviour = golden_analysis(MODEL).interface.chain.behaviour
    data = net_data(one.x, one.hidden, model.interface_agent)
    found = learner_inputs(params, behaviour, schedules.constant(STEP), data, RADIUS)
    return jax.tree.map(jnp.asarray, found)


class Record(NamedTuple):
    """One run: its trajectory and ``[K, N, O, dim, m]`` parameters after each handoff."""

    path: Trajectory
    iterates: np.ndarray


@cache
def record() -> Record:
    one = learner()
    words = jax.random.bits(jax.random.key(7), (STEPS, one.words_per_step), jnp.uint32)

    def advance(state, row):
        option = one.act(row[one.env.words_per_step :], state, inputs())
        new, _ = one.step(row, state, inputs())
        now, then = state.handoff, new.handoff
        segment = (now.agent, state.env_state.index, now.interface, option, then.reward, then.duration)
        receiver = (jnp.int32(-1), then.final_interface, then.terminated, then.final_mask)
        return new, (Trajectory(*segment, *receiver), new.params)

    first = jax.jit(one.init)(jax.random.key(0), inputs())
    path, iterates = jax.device_get(jax.jit(lambda state: jax.lax.scan(advance, state, words)[1])(first))
    return Record(path, iterates)


def test_a_run_is_the_plain_loop_handoff_by_handoff() -> None:
    path, iterates = record()
    owner = np.maximum(golden(MODEL).interface_agent, 0)
    x = start().x.astype(np.float32).astype(float)
    wanted = twin.projected_icq(path, start().hidden, x, owner, STEP, RADIUS, golden(MODEL).gamma)
    assert path.terminal.sum() > 10 and (~path.next_mask).any(axis=1).sum() > 50
    lengths = np.linalg.norm(wanted, axis=-1)
    assert (lengths[-1] > RADIUS * (1 - 1e-9)).sum() > 5 and (lengths[-1] < 0.9 * RADIUS).sum() > 5
    np.testing.assert_allclose(as_units(iterates), wanted, rtol=0, atol=2e-5)


def test_the_nets_are_those_of_the_analysis_and_silent_at_the_start() -> None:
    """Exactly 0 in float32, with the gradient of the linearisation; elsewhere the values that ``exact.nets`` gives."""
    one, values, data = start(), learner().values, inputs().data
    owner = golden(MODEL).interface_agent
    silent = values.init(jax.random.key(0), data)
    table = np.asarray(networks.value_table(values, silent, data, owner))
    assert silent.dtype == jnp.float32 and (table == 0).all()

    def at(params: jax.Array, z: int, o: int) -> jax.Array:
        return values.apply(params[max(owner[z], 0)], values.view(data, jnp.int32(z)))[o]

    for z, o in ((0, 0), (3, 1)):
        pull = np.zeros(one.interface.mask.shape)
        pull[z, o] = 1.0
        if one.interface.mask[z, o]:
            np.testing.assert_allclose(as_units(jax.grad(at)(silent, z, o)), one.gradient(pull), atol=1e-6)
    last = record().iterates[-1]
    mask = one.interface.mask
    found = np.asarray(networks.value_table(values, jnp.asarray(last), data, owner))
    np.testing.assert_allclose(found[mask], one.net(as_units(last))[mask], atol=1e-5)


def test_an_update_touches_its_block_only() -> None:
    path, iterates = record()
    before = np.concatenate([np.zeros_like(iterates[:1]), iterates[:-1]])
    changed = (before.view(np.uint32) != iterates.view(np.uint32)).any(axis=(3, 4))
    for k in range(STEPS):
        allowed = np.zeros(changed.shape[1:], bool)
        allowed[path.agent[k], path.option[k]] = True
        assert not (changed[k] & ~allowed).any(), k
    assert changed.any(axis=(1, 2)).mean() > 0.9


def test_the_projection_is_one() -> None:
    """Into the ball, no unit inside it moves by a bit, a second time changes no bit, and distances never grow."""
    rng = np.random.default_rng(1)
    scale = 10.0 ** rng.uniform(-2, 1, (200, 1, 1, WIDTH))
    drawn = (rng.normal(size=(2, 200, 3, 3, WIDTH)) * scale).astype(np.float32)
    once = np.asarray(jax.jit(jax.vmap(jax.vmap(lambda p: project_units(p, RADIUS))))(drawn))
    lengths = np.linalg.norm(once.astype(float), axis=3)
    assert lengths.max() <= np.float32(RADIUS) and (lengths > RADIUS * (1 - 1e-6)).mean() > 0.2
    short = np.linalg.norm(drawn.astype(float), axis=3) < RADIUS * (1 - 1e-6)
    assert short.mean() > 0.2
    kept = np.swapaxes(once, 3, 4)[short].view(np.uint32)
    np.testing.assert_array_equal(kept, np.swapaxes(drawn, 3, 4)[short].view(np.uint32))
    same_bits(jax.jit(jax.vmap(jax.vmap(lambda p: project_units(p, RADIUS))))(once), once)
    far, near = (np.linalg.norm((a[0] - a[1]).astype(float), axis=2) for a in (drawn, once))
    assert (near <= far * (1 + 1e-6) + 1e-7).all()


def test_averages_are_those_of_the_iterates() -> None:
    """The trainer's uniform average, which counts the start and not the last iterate (D10)."""
    key, one = jax.random.key(2), learner()
    fine = train(one, [inputs()], key, 2, list(range(1, 81)), chunk=1)
    coarse = train(one, [inputs()], key, 2, [80], chunk=1)
    iterates = np.stack([np.zeros_like(fine.snapshots[0].last), *(s.last for s in fine.snapshots[:-1])]).astype(float)
    np.testing.assert_allclose(coarse.average(), iterates.mean(axis=0), atol=1e-6)
    assert np.abs(iterates[-1]).max() > 0.05


@pytest.mark.parametrize("change", [slots.put, slots.add])
def test_masks_and_scatters_give_the_same_bits(change, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    tree = rng.normal(size=(5, 3, 2, 300)).astype(np.float32)
    entry, slot = rng.normal(size=(5, 2, 300)).astype(np.float32), np.arange(5) % 3
    masked = jax.jit(jax.vmap(lambda *a: change(*a)))(tree, slot, entry)
    monkeypatch.setattr(slots, "WIDE", 10**9)
    scattered = jax.jit(jax.vmap(lambda *a: change(*a)))(tree, slot, entry)
    same_bits(masked, scattered)
    assert (np.asarray(masked)[np.arange(5), slot] != tree[np.arange(5), slot]).all()


def test_a_start_that_is_not_symmetric_is_refused() -> None:
    hidden = np.array(start().hidden)
    hidden[0, 0, -1] += 1
    with pytest.raises(ValueError, match="the second half like the first"):
        net_data(start().x, hidden, golden(MODEL).interface_agent)
    with pytest.raises(ValueError, match="width = 7: expected an even number of units"):
        near_start(2, 2, 7)

"""The forecast of time and memory: worked out by hand, and held against what compiled programs say."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from bound_validation.cell import analysed
from icsmdp_jax.devices.placement import CELLS, REPLICAS, device_grid
from icsmdp_jax.envs.planted.model import PlantedConfig
from icsmdp_jax.learner import networks
from icsmdp_jax.learner.experiment import default_tabular_step, model_inputs, stationary_env
from icsmdp_jax.learner.forecast import forecast, state_bytes, table_bytes
from icsmdp_jax.learner.icq import Learner
from icsmdp_jax.learner.train import _compiled, input_bytes, replica_keys, stack_inputs


@pytest.fixture(scope="module")
def sweep():
    known = analysed(PlantedConfig.small(gap=0.2))
    env, params = stationary_env(known)
    model = known.interface.model
    learner = Learner(env, networks.tabular(model.num_interfaces, model.num_options))
    return learner, model_inputs(known, params, None, default_tabular_step(known.interface.gamma_bar))


def test_counted_by_hand(sweep):
    learner, inputs = sweep
    costs = forecast(learner, inputs, 10, 6, 1000, 3, devices=8, rate=1e5, bandwidth=1e6)
    # 10 x 6 pairs on 8 devices: rows of 2 give 10 x 8 places, rows of 1 give 10 x 8, rows of 4 12 x 6, rows of 8 16 x 6
    assert costs.pairs == 9 and costs.idle == pytest.approx(1 - 60 / 72)
    assert costs.simulate_s == pytest.approx(9 * 1000 / 1e5)
    assert costs.fetch_s == pytest.approx(60 * 3 * table_bytes(learner, inputs) / 1e6)
    table = learner.values.init(jax.random.key(0), None)
    assert table_bytes(learner, inputs) == 3 * table.size * 4  # the last iterate, and the sum in two halves
    assert costs.bytes_per_host == 2 * 60 * 3 * table_bytes(learner, inputs)
    alone = forecast(learner, inputs, 2, 6, 1000, 3, devices=1, rate=1e5)  # 12 pairs, 2 models; a word has 4 bytes
    words = 2 * 4 * 1000 * learner.words_per_step  # held twice while they are drawn
    assert alone.bytes_per_device == 12 * (3 * state_bytes(learner, inputs) + words) + 2 * input_bytes(inputs)


def test_memory_is_of_the_size_that_the_program_takes(sweep):
    """The state grows with the replicas as the compiled program says, is donated, and is covered by the forecast."""
    learner, inputs = sweep
    replicas = 512
    layout = device_grid(1, replicas, 1)
    init, advance = _compiled(learner, 1000, layout)
    lanes = stack_inputs([inputs])
    placed = layout.place(lanes, CELLS)
    keys = layout.place(replica_keys(jax.random.key(0), replicas), REPLICAS)
    state = jax.eval_shape(init, keys, placed)
    found = advance.lower(state, placed, jnp.int32(1)).compile().memory_analysis()
    model = sum(leaf.nbytes for leaf in jax.tree.leaves(lanes))
    states = found.argument_size_in_bytes - model
    assert states == pytest.approx(replicas * state_bytes(learner, inputs), rel=0.02)
    assert found.alias_size_in_bytes >= 0.9 * states  # the state is donated
    assert forecast(learner, inputs, 1, replicas, 1000, 1, 1, 1.0).bytes_per_device > found.argument_size_in_bytes

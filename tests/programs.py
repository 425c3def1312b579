"""Every compiled program of the house at a small size, by name: a function and its arguments, made when asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from icsmdp_jax.core.wrappers import Central
from icsmdp_jax.devices.placement import device_grid
from icsmdp_jax.envs import registry
from icsmdp_jax.envs.cpu_sort import cpu_sort
from icsmdp_jax.envs.routing import ICQ_NEURAL, POLICIES, graph_from_links, network_params
from icsmdp_jax.envs.routing.network import NetworkSize
from icsmdp_jax.envs.routing.simulate import run_lanes
from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.envs.workshop.env import feature_tables, workshop
from icsmdp_jax.experiments import sorting_runs
from icsmdp_jax.learner import channel, networks, schedules, train
from icsmdp_jax.learner.adaptable import AdaptableLearner, inputs_for, tabular_learner
from icsmdp_jax.learner.adaptable_state import situation_index, situation_vector
from icsmdp_jax.learner.exploration import behaviour_table, ramp
from icsmdp_jax.learner.icq import Inputs, Learner
from icsmdp_jax.learner.methods import METHODS
from icsmdp_jax.learner.networks import FUNCTION_CLASSES, features_of
from icsmdp_jax.learner.parallel import EXPLORE, TARGETS, Hyper, ParallelLearner
from icsmdp_jax.learner.role_gradients import RoleTrainer, groups_of, with_role_code
from icsmdp_jax.learner.role_state import Inputs as RoleInputs
from icsmdp_jax.learner.setups import setup
from icsmdp_jax.learner.simulated_returns import discounted_returns, random_option
from icsmdp_jax.learner.updates import stay_within
from icsmdp_jax.models.random import random_model

Program = tuple[Callable[..., Any], tuple[Any, ...]]
SMALL = {"cpu-sort3": {"length_limit": 5}}  # what makes the listing short
KEY = jax.random.key(0)
SIZES: dict[str, Any] = {"copies": 2, "length": 2}
MODEL = random_model(0, num_interfaces=5, num_agents=3)
ROLES = (0, 1, 1)


@cache
def programs() -> dict[str, Callable[[], Program]]:
    """All of them; a program is made under the settings in force when it is asked for."""
    found: dict[str, Callable[[], Program]] = {}
    for name in registry.environments():
        found[f"environment {name}"] = partial(environment, name)
        found[f"central learner of {name}"] = partial(environment, name, central=True)
    for method in METHODS:
        for kind in FUNCTION_CLASSES:
            found[f"{method}, {kind}"] = partial(method_on, method, kind)
    for word, values in (("target", TARGETS), ("explore", EXPLORE)):
        for value in values:
            found[f"{word} {value}"] = partial(method_on, "ic_q", "tabular", **{word: value})
    found["target network"] = partial(method_on, "ic_q", "mlp", target_network=True, double=True)
    found["gradients by role"] = partial(method_on, "ic_q", "mlp", roles=True)
    found["channel"] = partial(method_on, "ic_q", "tabular", latest=2)
    for name, optimiser in OPTIMISERS.items():
        found[f"optimiser {name}"] = partial(method_on, "ic_q", "two-layer", optimiser=optimiser)
    for kind in FUNCTION_CLASSES:
        found[f"IC-Q, {kind}"] = partial(icq, kind)
    found["IC-Q, two-layer, frozen"] = partial(icq, "two-layer", hidden="frozen")
    found["IC-Q on the shared clock"] = partial(icq, "tabular", clock="epoch", project=True)
    found["IC-Q, greedy"] = partial(icq, "linear", greedy=True)
    for adapt in (True, False):
        found[f"adaptable, tables, adapt={adapt}"] = partial(adaptable, adapt)
    found["adaptable, networks"] = adaptable_networks
    vector = (jnp.int32(0), jnp.int32(1), jnp.zeros(4, jnp.float32))
    found["situation as a vector"] = lambda: (situation_vector(3), vector)
    for kind, baseline in (("linear", "group"), ("mlp", "running"), ("two-layer", "none")):
        found[f"roles, {kind}"] = partial(role_trainer, kind, baseline)
    found["programs that sort"] = sorting
    for name in (*POLICIES, "neural"):
        found[f"packets, {name}"] = partial(packets, name)
    return found


OPTIMISERS: dict[str, Any] = {
    "sgd": lambda step: optax.sgd(step, momentum=0.9),
    "adamw": optax.adamw,
    "lion": optax.lion,
    "near the start": lambda step: optax.chain(optax.sgd(step), stay_within(1.0)),
}


def environment(name: str, central: bool = False) -> Program:
    """An environment with the learner that suits its interfaces, and random options in it."""
    env, params = registry.make(name, **SMALL.get(name, {}))
    spec = env.spec
    if central:
        env = Central(env, env.global_view_size(params))
        spec = env.spec
    if spec.num_interfaces:
        values, optimiser = networks.tabular(spec.num_interfaces, spec.num_options), None
    else:
        dim = spec.interface_shape[0]
        values, optimiser = networks.mlp(spec.num_agents, spec.num_options, 4, 1, dim), optax.adam
    learner = ParallelLearner(env, values, optimiser, **SIZES)

    def run(key: Any, hyper: Hyper) -> Any:
        return learner.train(key, hyper, 2), discounted_returns(env, hyper.env_params, random_option, key, 2, 3)

    return run, (KEY, Hyper(params, None, schedules.polynomial(), exploration=ramp(1.0, 0.1, 5)))


def method_on(method: str, kind: str, **fields: Any) -> Program:
    """A method of the table on a small model."""
    one = setup(MODEL, None, method, kind, width=4, depth=1, **SIZES, **fields)
    faults = None
    if one.learner.latest:
        liars = np.array([True, False, False])
        faults = channel.clean(3, (-1.0, 1.0)).dropping(0.1).noisy(0.1).quantised(3, True).late(1).clipped()
        faults = faults.adversarial(liars, "high", 0.5)
    hyper = one.hyper._replace(channel=faults, lambda_=0.5, handoffs=2, target_rate=0.1)
    return partial(one.learner.train, count=2), (KEY, hyper)


def icq(kind: str, hidden: str = "", **fields: Any) -> Program:
    """Compiled chunks of IC-Q, two lanes of four replicas."""
    env, params = tabular_env(MODEL)
    values, data = networks.tabular(MODEL.num_interfaces, MODEL.num_options), None
    if kind != "tabular":
        data = features_of(MODEL, np.random.default_rng(0)).astype(np.float32)
        values = networks.named(kind, MODEL.num_agents, MODEL.num_options, 4, 1)
    if hidden:
        values = networks.two_layer(MODEL.num_agents, MODEL.num_options, 4, hidden)
    nets = kind in ("mlp", "two-layer") and not hidden
    learner = Learner(env, values, optimiser=optax.adam(3e-3) if nets else None, **fields)
    law = np.ones((MODEL.num_interfaces, MODEL.num_options))
    one = Inputs(params, data, behaviour_table(law), schedules.polynomial(), jnp.float32(1), jnp.float32(0.5))
    # Without their compiler options, which programs inside programs may not have.
    init, advance = (program.__wrapped__ for program in train._compiled(learner, 4, device_grid(2, 4)))

    def run(keys: Any, inputs: Inputs) -> Any:
        return advance(init(keys, inputs), inputs, jnp.int32(2))

    return run, (train.replica_keys(KEY, 4), train.stack_inputs([one, one]))


def adaptable(adapt: bool) -> Program:
    """Tables for options, local policies and critics in the workshop."""
    env, params = workshop()
    learner = tabular_learner(env, 2, adapt)
    return _adapting(learner), (KEY, inputs_for(params, entropy=0.1))


def adaptable_networks() -> Program:
    """Nets of both kinds in the place of the tables."""
    env, params = workshop()
    spec, local = env.spec, env.local_spec
    data, local_data = feature_tables(env)
    learner = AdaptableLearner(
        env=env,
        values=networks.two_layer(spec.num_agents, spec.num_options, 4),
        actor=networks.mlp(spec.num_agents, local.num_actions, 4, 1),
        critic=networks.linear(spec.num_agents, 1),
        situation=situation_index(local.num_observations, spec.num_options),
        copies=2,
        optimiser=optax.adam,
        actor_optimiser=optax.adam,
    )
    return _adapting(learner), (KEY, inputs_for(params, entropy=0.1, data=data, local_data=local_data))


def _adapting(learner: AdaptableLearner) -> Callable[..., Any]:
    def run(key: Any, inputs: Any) -> Any:
        state = learner.train(key, inputs, 3)
        return state, learner.local_table(state.actor.params, inputs)

    return run


def role_trainer(kind: str, baseline: str) -> Program:
    """Policy gradients with an anchor and damping."""
    env, params = tabular_env(MODEL)
    values = networks.named(kind, 3, MODEL.num_options, 4, 1)
    trainer = RoleTrainer(env, values, ROLES, 3, 2, 2, baseline, optax.adam(1.0))
    features = features_of(MODEL, np.random.default_rng(0))
    inputs = RoleInputs(
        env_params=params,
        data=jnp.asarray(with_role_code(features, MODEL.interface_agent, ROLES)),
        interface_agent=jnp.asarray(MODEL.interface_agent, jnp.int32),
        mask=jnp.asarray(MODEL.option_mask),
        group_of_agent=jnp.asarray(groups_of("isolated", ROLES), jnp.int32),
        scaled=jnp.asarray(True),
        own_credit=jnp.asarray(True),
        learning_rate=jnp.float32(0.5),
        anchor=jnp.full(2, 0.1, jnp.float32),
        damping=jnp.float32(0.1),
        memory=jnp.float32(0.9),
    )
    return lambda key, given: trainer.run(key, given, 2, 1), (KEY, inputs)


def sorting() -> Program:
    """What random options write, judged in every run."""
    env, params = cpu_sort(2, as_bits=True)

    def run(key: Any, given: Any) -> Any:
        return sorting_runs._written(env, given, lambda step, now: random_option(None, step, now), key)

    return run, (KEY, params)


def packets(name: str) -> Program:
    """A routing rule on a small ring."""
    policy = ICQ_NEURAL if name == "neural" else POLICIES[name]
    graph = graph_from_links([(0, 1), (1, 2), (2, 3), (3, 0)])
    params = jax.tree.map(jnp.asarray, network_params(graph, 0.5))
    rates = type(policy.rates)(*(jnp.float32(rate) for rate in policy.rates))
    size = NetworkSize(graph.num_nodes, graph.max_degree)
    arguments = (params, rates, jax.random.split(KEY, 2), jnp.asarray([10], jnp.int32))
    return lambda *given: run_lanes(policy, *given, size), arguments

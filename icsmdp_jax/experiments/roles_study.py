"""Training the roles of a workflow by policy gradients: who shares parameters, and what that does.

Every scheme starts from the uniform policy and sees the same prompts and the same random words in the same replica. All
values over training are exact (``icsmdp_jax.envs.role_workflows.worth``). What is looked for:

- **Higher peak**: the best return over training with one set of parameters for each role, less that with one set for
  all, paired by replica; it occurs if the interval is above 0.
- **Late collapse**: in a replica, the accuracy at the end is at least ``COLLAPSE`` below the best at an earlier point.
  It occurs in a scheme if that happens in at least half of the replicas.
- **Role capture**, with shared parameters: one role carries more than ``CAPTURE_MASS`` of the gradient mass per step,
  and another role suffers from it more than the first one. That is, giving the other role back the policy that it has
  in the same replica with its own parameters adds at least ``CAPTURE_LOSS`` to the return, and more than for the first.
- **Amplification**: agents of one role that share parameters and prompts pull in the same direction, so that the norm
  of the role's gradient is more than ``sqrt(n)`` times that of its ``n`` agents, as it would be for unrelated ones.

Rates and thresholds were chosen in exploratory runs with other random keys than those used here.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from icsmdp_jax.envs.role_workflows import RoleWorkflow, Worth, worth
from icsmdp_jax.envs.role_workflows.model import listing_of
from icsmdp_jax.exact.returns import Interval
from icsmdp_jax.experiments.result import over_replicas
from icsmdp_jax.learner.networks import linear
from icsmdp_jax.learner.role_gradients import RoleTrainer, groups_of, with_role_code
from icsmdp_jax.learner.role_state import Inputs, Metrics

COLLAPSE = 0.05  # of the accuracy
CAPTURE_MASS, CAPTURE_LOSS = 2 / 3, 0.01
PLAIN_RATE, SCALED_RATE = 4.0, 1.0  # scaled advantages are some four times larger, so that first steps are alike
MEMORY = 0.9
ANCHOR, DAMPING = 0.1, 1.0


class Scheme(NamedTuple):
    """One way to train the roles.

    Attributes:
      text: what it is.
      sharing: see ``role_gradients.groups_of``.
      scaled: whether returns are divided by their standard deviation over the prompt.
      code: whether shared parameters know whose turn it is.
      anchor, damping: weights of the interventions.
      own: whether each role is paid for its own work, instead of the broadcast outcome.
      free: whether time is free while training: blocks cost nothing and nothing is discounted.
    """

    text: str
    sharing: str
    scaled: bool
    code: bool = False
    anchor: float = 0.0
    damping: float = 0.0
    own: bool = False
    free: bool = False


SCHEMES: dict[str, Scheme] = {
    "shared": Scheme("one set for all roles", "shared", False),
    "coded": Scheme("one set, role code", "shared", False, code=True),
    "isolated": Scheme("one set per role", "isolated", False),
    "single": Scheme("one set per agent", "single", False),
    "own": Scheme("one set per role, paid for own work", "isolated", False, own=True),
    "shared_scaled": Scheme("scaled, one set for all roles", "shared", True),
    "coded_scaled": Scheme("scaled, one set, role code", "shared", True, code=True),
    "isolated_scaled": Scheme("scaled, one set per role", "isolated", True),
    "single_scaled": Scheme("scaled, one set per agent", "single", True),
    "shared_anchored": Scheme("scaled, one set, anchor", "shared", True, anchor=ANCHOR),
    "isolated_anchored": Scheme("scaled, per role, anchor", "isolated", True, anchor=ANCHOR),
    "shared_damped": Scheme("scaled, one set, damping", "shared", True, damping=DAMPING),
    "isolated_damped": Scheme("scaled, per role, damping", "isolated", True, damping=DAMPING),
    "isolated_free": Scheme("scaled, one set per role, time is free", "isolated", True, free=True),
}


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is trained.

    Attributes:
      points: points at which policies are evaluated.
      between: updates between two points.
      replicas: independent runs of each scheme.
      prompts, samples: of a batch, see ``RoleTrainer``.
    """

    points: int
    between: int
    replicas: int
    prompts: int = 8
    samples: int = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """What all schemes did on one workflow.

    Attributes:
      env: the workflow; agents of one role work in parallel.
      params: its parameters.
      size: how much was trained.
      names: keys of ``SCHEMES``, in the order of the leading axes below.
      policy: ``[schemes, replicas, points + 1, Z, O]``.
      worth: exact, ``[schemes, replicas, points + 1]``.
      metrics: ``[schemes, replicas, points, ...]``.
    """

    env: RoleWorkflow
    params: Any
    size: Size
    names: tuple[str, ...]
    policy: np.ndarray
    worth: Worth
    metrics: Metrics

    @property
    def roles(self) -> tuple[str, ...]:
        """Names of the roles."""
        return self.env.rules.roles

    @property
    def updates(self) -> np.ndarray:
        """``[points + 1]`` updates at each point."""
        return self.size.between * np.arange(self.size.points + 1)

    def at(self, name: str) -> int:
        """Place of a scheme."""
        return self.names.index(name)

    def drop(self, name: str) -> np.ndarray:
        """``[replicas]`` best accuracy of the replica less the one at the end."""
        accuracy = self.worth.accuracy[self.at(name)]
        return accuracy.max(axis=1) - accuracy[:, -1]

    def peak(self, name: str) -> np.ndarray:
        """``[replicas]`` best return over training."""
        return self.worth.value[self.at(name)].max(axis=1)

    def mass_share(self, name: str) -> np.ndarray:
        """``[replicas, R]`` share of the gradient mass over the whole training."""
        mass = np.nanmean(self.metrics.mass[self.at(name)], axis=1)
        return mass / mass.sum(axis=1, keepdims=True)

    def amplification(self, name: str) -> np.ndarray:
        """``[replicas]`` mean amplification of the role of several agents; NaN if there is none."""
        values = self.metrics.amplification[self.at(name)]
        role = self.crowd
        return np.full(len(values), np.nan) if role is None else np.nanmean(values[:, :, role], axis=1)

    @property
    def crowd(self) -> int | None:
        """The role that several agents play, if there is one."""
        counts = np.bincount(self.env.rules.role_of_agent)
        return int(counts.argmax()) if counts.max() > 1 else None

    def gain_of_exchange(self, shared: str, own: str) -> np.ndarray:
        """``[replicas, R]`` what it adds to the final return of a scheme to give one role its policy from another."""
        before, after = self.policy[self.at(shared), :, -1], self.policy[self.at(own), :, -1]
        listing = listing_of(self.env.rules)
        role = np.append([self.env.rules.role_of_agent[agent] for agent, _ in listing.views], -1)
        swapped = [np.where((role == r)[:, None], after, before) for r in range(len(self.roles))]
        found = worth(self.env, self.params, np.stack([before, *swapped], axis=1)).value
        return found[:, 1:] - found[:, :1]


def schemes_for(env: RoleWorkflow) -> tuple[str, ...]:
    """Schemes that differ on this workflow."""
    crowd = len(env.rules.agents) > len(env.rules.roles)
    return tuple(name for name, scheme in SCHEMES.items() if crowd or scheme.sharing != "single")


def study(maker: Any, size: Size, seed: int = 0, **overrides: Any) -> Study:
    """Trains all schemes, side by side in one compilation.

    Args:
      maker: of the workflow.
      size: how much.
      seed: of all random keys.
      **overrides: arguments of the maker.
    """
    env, params = maker(**overrides)
    names = schemes_for(env)
    trainer = RoleTrainer(
        env,
        linear(len(env.rules.agents), env.spec.num_options),
        env.rules.role_of_agent,
        env.rules.longest_episode,
        prompts=size.prompts,
        samples=size.samples,
    )
    lanes = [_inputs(env, maker, overrides, SCHEMES[name]) for name in names]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1), size.replicas)
    one = partial(trainer.run, points=size.points, between=size.between)
    history = jax.jit(jax.vmap(jax.vmap(one, (0, None)), (None, 0)))(keys, stacked)
    policy = np.asarray(history.policy)
    return Study(
        env, params, size, names, policy, worth(env, params, policy), jax.tree.map(np.asarray, history.metrics)
    )


def _inputs(env: RoleWorkflow, maker: Any, overrides: dict[str, Any], scheme: Scheme) -> Inputs:
    """Traced inputs of one scheme; the environment that is trained in may pay otherwise than the one that judges."""
    pay: dict[str, Any] = {"reward": "role"} if scheme.own else {}
    if scheme.free:
        pay |= {"cost": 0.0, "gamma": 1 - 1e-9}  # whose powers are 1 in float32: a return is 0 or 1
    paying, params = maker(**(overrides | pay))
    model, roles = paying.exact_model(params), env.rules.role_of_agent
    features = env.interface_features(params)
    coded = with_role_code(features, model.interface_agent, roles)
    width = features.shape[1]
    data = coded if scheme.code else np.where(np.arange(coded.shape[1]) < width, coded, 0.0)
    return Inputs(
        env_params=params,
        data=jnp.asarray(data, jnp.float32),
        interface_agent=jnp.asarray(model.interface_agent, jnp.int32),
        mask=jnp.asarray(model.option_mask),
        group_of_agent=jnp.asarray(groups_of(scheme.sharing, roles), jnp.int32),
        scaled=jnp.asarray(scheme.scaled),
        own_credit=jnp.asarray(scheme.own),
        learning_rate=jnp.float32(SCALED_RATE if scheme.scaled else PLAIN_RATE),
        anchor=jnp.full(max(roles) + 1, scheme.anchor, jnp.float32),
        damping=jnp.float32(scheme.damping),
        memory=jnp.float32(MEMORY),
    )


class Finding(NamedTuple):
    """Whether a phenomenon occurred, and by which number.

    Attributes:
      what: phenomenon and scheme.
      number: the number that decides it.
      wanted: what it is compared with.
      occurs: whether it did.
    """

    what: str
    number: Interval
    wanted: str
    occurs: bool


def findings(done: Study) -> list[Finding]:
    """All phenomena of the module's docstring, in their order."""
    found = []
    for ending, how in (("", "plain returns"), ("_scaled", "scaled returns")):
        better = over_replicas(done.peak("isolated" + ending) - done.peak("shared" + ending))
        found.append(Finding(f"higher peak, one set per role, {how}", better, "above 0", bool(better.ci_low > 0)))
    for name in done.names:
        if name in ("own", "isolated_free"):
            continue
        share = _proportion(done.drop(name) >= COLLAPSE)
        found.append(
            Finding(f"late collapse, {SCHEMES[name].text}", share, "0.5 of the replicas or more", share.mean >= 0.5)
        )
    for ending, how in (("", "plain returns"), ("_scaled", "scaled returns")):
        found.append(_capture(done, ending, how))
    if done.crowd is not None:
        unrelated = math.sqrt(done.env.rules.role_of_agent.count(done.crowd))
        for ending, how in (("", "plain returns"), ("_scaled", "scaled returns")):
            ratio = over_replicas(done.amplification("isolated" + ending))
            what = f"amplification of the {done.roles[done.crowd]}s, one set per role, {how}"
            found.append(Finding(what, ratio, f"above {unrelated:.2f}", bool(ratio.ci_low > unrelated)))
    return found


def _proportion(hits: np.ndarray) -> Interval:
    """Share of the replicas, with Wilson's 95 % interval."""
    count, runs = int(hits.sum()), len(hits)
    found = stats.binomtest(count, runs).proportion_ci(0.95, method="wilson")
    return Interval(count / runs, float(found.low), float(found.high), runs)


def _capture(done: Study, ending: str, how: str) -> Finding:
    share = done.mass_share("shared" + ending)
    first = int(share.mean(axis=0).argmax())
    gain = done.gain_of_exchange("shared" + ending, "isolated" + ending)
    others = [r for r in range(len(done.roles)) if r != first]
    second = max(others, key=lambda r: float(gain[:, r].mean()))
    lost = over_replicas(gain[:, second])
    heavy = bool(over_replicas(share[:, first]).ci_low > CAPTURE_MASS)
    beyond = bool(over_replicas(gain[:, second] - gain[:, first]).ci_low > 0)
    occurs = heavy and beyond and bool(lost.ci_low >= CAPTURE_LOSS)
    wanted = (
        f"at least {CAPTURE_LOSS} and more than the {done.roles[first]}'s {gain[:, first].mean():.3f}, with the "
        f"{done.roles[first]} above {CAPTURE_MASS:.2f} of the gradient mass (it has {share[:, first].mean():.2f})"
    )
    return Finding(f"capture by the {done.roles[first]}, {how}: loss of the {done.roles[second]}", lost, wanted, occurs)

"""Routers that are trained on logged evaluations: by each client alone, by all together, or on everything pooled.

A log of a client has prompts of its own mix, each answered by one of the models that it covers. A router estimates the
accuracy and the dollars of every model at a prompt, and asks the model with the best accuracy less price times dollars.
The parts (clients with different queries and partial coverage; a perceptron with federated averaging, K-means with
statistics merged) follow the abstract of arXiv 2601.22318; every choice within them is ours.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.envs.expert_routing.env import TEAM
from icsmdp_jax.envs.expert_routing.queries import DIFFICULTIES
from icsmdp_jax.envs.federated_routing.env import CLIENTS, EACH, PROMPTS, embedding, team

BLUR = 0.15  # of a logged query around its prompt
CELLS = 8  # of K-means
PRIOR = 2.0  # number of evaluations that a model's overall mean counts as in a cell
WIDTH = 16  # of the perceptron
DOLLARS = 20.0  # dollars are learned in units of 5 cents
RATE, MOMENTUM = 0.2, 0.9


class Log(NamedTuple):
    """Evaluations of all clients, ``[clients, n]`` each, ``at`` with a last axis of two.

    Attributes:
      at: where the query lies.
      model: who answered.
      right: 1.0 if right, else 0.0.
      dollars: what it cost.
    """

    at: Any
    model: Any
    right: Any
    dollars: Any

    def pooled(self) -> Log:
        """The same as the log of a single client."""
        return Log(*(each.reshape(1, -1, *each.shape[2:]) for each in self))


def evaluations(rng: np.random.Generator, mix: np.ndarray, reach: np.ndarray, count: int) -> Log:
    """Logs of ``count`` evaluations for each client, by ``[clients, prompts]`` mix and ``[clients, models]`` reach."""
    prompt = np.stack([rng.choice(PROMPTS, count, p=law) for law in mix])
    model = np.stack([rng.choice(np.flatnonzero(row), count) for row in reach])
    chance, dollars = answers()
    return Log(
        embedding()[prompt] + BLUR * rng.normal(size=(*prompt.shape, 2)),
        model,
        (rng.random(prompt.shape) < chance[prompt, model]).astype(float),
        dollars[prompt, model],
    )


def answers() -> tuple[np.ndarray, np.ndarray]:
    """``[prompts, models]`` probability of a right answer, and its dollars."""
    kind, difficulty = np.divmod(np.arange(PROMPTS) // EACH, len(DIFFICULTIES))
    return team().right[kind, difficulty], team().dollars[kind, difficulty]


class Statistics(NamedTuple):
    """Sums over the evaluations of each cell and model, ``[cells, models]``: all that a client sends."""

    asked: np.ndarray
    right: np.ndarray
    dollars: np.ndarray

    @classmethod
    def of(cls, centres: np.ndarray, log: Log, client: int) -> Statistics:
        """Those of one client's log, in the cells of ``[cells, 2]`` centres."""
        cell = nearest(log.at[client], centres)
        found = np.zeros((3, len(centres), len(TEAM)))
        for row, each in zip(found, (1.0, log.right[client], log.dollars[client]), strict=True):
            np.add.at(row, (cell, log.model[client]), each)
        return cls(*found)

    @classmethod
    def merged(cls, several: list[Statistics]) -> Statistics:
        """Those of all clients together: sums."""
        return cls(*(np.sum(each, axis=0) for each in zip(*several, strict=True)))

    def estimates(self) -> tuple[np.ndarray, np.ndarray]:
        """``[cells, models]`` accuracy and dollars, shrunk to a model's overall mean; NaN for models never seen."""
        total = self.asked.sum(axis=0)
        with np.errstate(invalid="ignore"):
            overall = [np.where(total > 0, each.sum(axis=0) / total, np.nan) for each in (self.right, self.dollars)]
        sums = (self.right, self.dollars)
        accuracy, dollars = (
            (each + PRIOR * mean) / (self.asked + PRIOR) for each, mean in zip(sums, overall, strict=True)
        )
        return accuracy, dollars


def nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """``[n]`` number of the centre next to each point."""
    return ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)


def k_means(
    points: np.ndarray, weight: np.ndarray, cells: int = CELLS, rounds: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted K-means from the points farthest from one another: ``[cells, 2]`` centres, ``[cells]`` weights."""
    centres = points[weight.argmax()][None]
    while len(centres) < cells:
        away = ((points[:, None] - centres) ** 2).sum(axis=2).min(axis=1)
        centres = np.vstack([centres, points[away.argmax()]])
    for _ in range(rounds):
        cell = nearest(points, centres)
        share = np.bincount(cell, weight, cells)
        sums = np.stack([np.bincount(cell, weight * axis, cells) for axis in points.T], axis=1)
        centres = np.where(share[:, None] > 0, sums / np.maximum(share, 1e-12)[:, None], centres)
    return centres, np.bincount(nearest(points, centres), weight, cells)


def by_cells(log: Log) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """K-means routers: ``[clients, prompts, models]`` accuracy and dollars, by who trained with whom."""
    pooled, alone = log.pooled(), [k_means(at, np.ones(len(at))) for at in log.at]
    # Clients send centres with their weights, then sums within the merged centres; no query leaves a client.
    together, _ = k_means(np.concatenate([one[0] for one in alone]), np.concatenate([one[1] for one in alone]))
    central = k_means(pooled.at[0], np.ones(pooled.at.shape[1]))[0]
    merged = Statistics.merged([Statistics.of(together, log, client) for client in range(CLIENTS)])
    local = [(alone[client][0], Statistics.of(alone[client][0], log, client)) for client in range(CLIENTS)]
    return {
        "local": _at_prompts(local),
        "federated": _at_prompts([(together, merged)] * CLIENTS),
        "central": _at_prompts([(central, Statistics.of(central, pooled, 0))] * CLIENTS),
    }


def _at_prompts(routers: list[tuple[np.ndarray, Statistics]]) -> tuple[np.ndarray, np.ndarray]:
    rows = []
    for centres, statistics in routers:
        cell = nearest(embedding(), centres)
        rows.append([each[cell] for each in statistics.estimates()])
    accuracy, dollars = (np.stack(each) for each in zip(*rows, strict=True))
    return accuracy, dollars


def forward(params: Any, at: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``[n, models]`` logit of a right answer, and dollars times ``DOLLARS``, at ``[n, 2]`` points."""
    hidden = jnp.tanh(at @ params["in"] + params["bias"])
    out = hidden @ params["out"] + params["last"]
    return out[:, : len(TEAM)], out[:, len(TEAM) :]


def loss(params: Any, at: jax.Array, model: jax.Array, right: jax.Array, dollars: jax.Array) -> jax.Array:
    """Cross-entropy of accuracy plus squared error of dollars, at the model that answered."""
    logit, spent = (jnp.take_along_axis(each, model[:, None], axis=1)[:, 0] for each in forward(params, at))
    entropy = jnp.logaddexp(0.0, logit) - right * logit
    return jnp.mean(entropy + (spent - DOLLARS * dollars) ** 2)


def initial(key: jax.Array) -> Any:
    """A perceptron with one hidden layer, float32."""
    one, two = jax.random.split(key)
    return {
        "in": jax.random.normal(one, (2, WIDTH)), "bias": jnp.zeros(WIDTH),
        "out": jax.random.normal(two, (WIDTH, 2 * len(TEAM))) / WIDTH**0.5, "last": jnp.zeros(2 * len(TEAM)),
    }  # fmt: skip


@partial(jax.jit, static_argnums=3)
def averaged(key: jax.Array, log: Log, period: jax.Array, steps: int) -> Any:
    """Gradient descent of all clients from one start, their parameters averaged every ``period`` steps.

    With period 1 it is gradient descent on the pooled logs, which are of equal length; with a period of more than
    ``steps`` every client stays alone.

    Args:
      key: of the initial parameters.
      log: of float32 and int32 arrays.
      period: ``[]`` int32.
      steps: gradient steps of each client.

    Returns:
      Parameters with a leading axis of clients.
    """
    start = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], log.model.shape[0], axis=0), initial(key))

    def step(carry: Any, t: jax.Array) -> tuple[Any, None]:
        params, speed = carry
        slope = jax.vmap(jax.grad(loss))(params, *log)
        speed = jax.tree.map(lambda v, g: MOMENTUM * v - RATE * (1 - MOMENTUM) * g, speed, slope)
        params = jax.tree.map(jnp.add, params, speed)
        shares = (t + 1) % period == 0
        mean = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf.mean(axis=0), leaf.shape), (params, speed))
        return jax.tree.map(lambda a, b: jnp.where(shares, a, b), mean, (params, speed)), None

    return jax.lax.scan(step, (start, jax.tree.map(jnp.zeros_like, start)), jnp.arange(steps))[0][0]


def by_perceptron(
    log: Log, reach: np.ndarray, seed: int, steps: int, period: int = 10
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Perceptron routers, as ``by_cells``; models that nobody among those who train covers have NaN."""
    given = Log(*(jnp.asarray(each, jnp.int32 if each.dtype.kind == "i" else jnp.float32) for each in log))
    anybody = np.broadcast_to(reach.any(axis=0), reach.shape)
    found = {}
    for name, every, seen in (
        ("local", steps + 1, reach), ("federated", period, anybody), ("central", 1, anybody),
    ):  # fmt: skip
        params = averaged(jax.random.key(seed), given, jnp.int32(every), steps)
        logit, spent = jax.vmap(forward, in_axes=(0, None))(params, jnp.asarray(embedding(), jnp.float32))
        known = seen[:, None, :]
        accuracy = np.where(known, np.asarray(jax.nn.sigmoid(logit), np.float64), np.nan)
        found[name] = (accuracy, np.where(known, np.asarray(spent, np.float64) / DOLLARS, np.nan))
    return found


def chosen(estimates: tuple[np.ndarray, np.ndarray], price: float) -> np.ndarray:
    """``[clients, prompts]`` model with the best accuracy less price times dollars; models without estimates lose."""
    accuracy, dollars = estimates
    return np.nan_to_num(accuracy - price * dollars, nan=-np.inf).argmax(axis=2)

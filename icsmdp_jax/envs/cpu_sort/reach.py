"""Everything that the team can reach, listed, and the numbers of the interfaces.

Situations are found in the order of the shortest program that leads to them, by running the environment's own options
on whole batches. Those that are first reached at the length limit are listed, because a truncated segment ends there
and its last interface needs a number, but not followed further.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.envs.cpu_sort import team
from icsmdp_jax.envs.cpu_sort.numbering import digest
from icsmdp_jax.envs.cpu_sort.team import Situation
from icsmdp_jax.envs.cpu_sort.words import spread

BATCH = 1024  # situations per call: one compilation serves them all
CORRECT, LOST = -1, -2  # successors that are terminal

_digests = jax.jit(jax.vmap(digest, in_axes=(0, None)))


class Reachable(NamedTuple):
    """Situations that programs up to a length limit can reach, in the order of their depth.

    Attributes:
      situation: arrays with leading axis ``S``.
      depth: ``[S]`` instructions of the shortest program that leads there.
      view: ``[S, 2]`` uint32, what the active agent sees (``team.view_words``).
      words: ``[S, W]`` uint32, the whole situation (``team.all_words``).
      mask: ``[S, O]`` bool, available options.
      score: ``[S]`` int32, see ``machine.score``.
      successor: ``[S, O]`` number of the situation after an available option, or ``CORRECT`` or ``LOST``; ``LOST``
        where there is none.
      duration: ``[S, O]`` instructions that the option appends; 1 where there is none.
      cut: ``[S]`` bool, situations at the limit, which are not followed.
    """

    situation: Situation
    depth: np.ndarray
    view: np.ndarray
    words: np.ndarray
    mask: np.ndarray
    score: np.ndarray
    successor: np.ndarray
    duration: np.ndarray
    cut: np.ndarray


@lru_cache(maxsize=8)
def reachable(num_values: int, length_limit: int) -> Reachable:
    """Lists what the team can reach with its available options.

    Args:
      num_values: 2 or 3.
      length_limit: situations that need as many instructions are the last.

    Returns:
      Host arrays.

    Raises:
      ValueError: for four values.
    """
    if num_values not in (2, 3):
        raise ValueError(f"num_values = {num_values}: situations can be listed for 2 and 3")
    look, follow = _compiled(num_values)
    number: dict[bytes, int] = {}
    levels: dict[int, list[Any]] = {0: [jax.tree.map(lambda leaf: np.asarray(leaf)[None], team.begin(num_values))]}
    listed, depths, edges = [], [], []
    for depth in range(length_limit + team.LONGEST_RUN):
        found = look(_joined(levels.pop(depth))) if depth in levels else None
        new = [] if found is None else _number_new(found.words, number)
        if not new:
            continue
        found = _rows(found, np.array(new))
        listed.append(found)
        depths.append(np.full(len(new), depth))
        if depth >= length_limit:
            continue
        after = follow(found.situation)
        edges.append(after)
        for length in range(1, team.LONGEST_RUN + 1):
            rows = found.mask & ~after.correct & ~after.lost & (after.duration == length)
            if rows.any():
                levels.setdefault(depth + length, []).append(_rows(after.entered, rows))
    return _assemble(_joined(listed), _joined(edges), np.concatenate(depths), number, length_limit)


@lru_cache(maxsize=16)
def listing(num_values: int, length_limit: int, sees_all: bool) -> tuple[np.uint32, np.ndarray]:
    """Numbers all interfaces by a hash without collisions.

    Args:
      num_values: 2 or 3.
      length_limit: as in ``reachable``.
      sees_all: whether the active agent is shown the whole situation.

    Returns:
      The salt of the hash, and the ``[V]`` hashes of all interfaces in ascending order: the number of an interface is
      its place.
    """
    reach = reachable(num_values, length_limit)
    words = np.unique(reach.words if sees_all else reach.view, axis=0)
    salt = np.uint32(0)
    while True:
        keys = np.unique(np.asarray(_digests(words, salt)))
        if len(keys) == len(words):
            return salt, keys
        salt += np.uint32(1)


def interface_numbers(reach: Reachable, sees_all: bool, salt: np.uint32, keys: np.ndarray) -> np.ndarray:
    """``[S]`` number of the interface of every situation, see ``listing``."""
    return np.searchsorted(keys, np.asarray(_digests(reach.words if sees_all else reach.view, salt)))


class _Found(NamedTuple):
    situation: Situation
    view: np.ndarray
    words: np.ndarray
    mask: np.ndarray
    score: np.ndarray


class _After(NamedTuple):
    entered: Situation
    duration: np.ndarray
    correct: np.ndarray
    lost: np.ndarray
    words: np.ndarray


def _compiled(num_values: int) -> tuple[Callable[[Any], _Found], Callable[[Any], _After]]:
    """Looking at many situations, and following every option from each, compiled for one batch size."""
    count = int(team.option_tables(num_values).counts.max())

    def look(situation: Situation) -> _Found:
        view = team.look(situation)
        mask = spread(team.available(situation.agent, view, num_values), count)
        words = _stack(team.view_words(situation.agent, view))
        return _Found(situation, words, _stack(team.all_words(situation)), mask, view.score)

    def follow(situation: Situation) -> _After:
        def one(option: jax.Array) -> _After:
            entered, tau, _, correct, lost = team.advance(situation, option)
            return _After(entered, tau, correct, lost, _stack(team.all_words(entered)))

        return jax.vmap(one)(jnp.arange(count, dtype=jnp.int32))

    return _in_batches(jax.jit(jax.vmap(look))), _in_batches(jax.jit(jax.vmap(follow)))


def _stack(words: tuple[chex.Array, ...]) -> chex.Array:
    return jnp.stack(words)


def _in_batches(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``function`` on any number of rows, ``BATCH`` at a time, with host arrays in and out."""

    def run(rows: Any) -> Any:
        count = len(jax.tree.leaves(rows)[0])
        parts = []
        for at in range(0, count, BATCH):
            index = np.minimum(np.arange(at, at + BATCH), count - 1)
            parts.append(jax.tree.map(np.asarray, function(_rows(rows, index))))
        return _rows(_joined(parts), np.arange(count))

    return run


def _rows(tree: Any, index: np.ndarray) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _joined(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *trees)


def _number_new(words: np.ndarray, number: dict[bytes, int]) -> list[int]:
    """Numbers the situations that have no number yet; which rows they are."""
    new = []
    for row, key in enumerate(words):
        if key.tobytes() not in number:
            number[key.tobytes()] = len(number)
            new.append(row)
    return new


def _assemble(found: _Found, after: _After, depth: np.ndarray, number: dict[bytes, int], limit: int) -> Reachable:
    """Successors by number; the situations that were followed come before those at the limit."""
    followed, width = after.duration.shape
    successor = np.full((len(depth), width), LOST)
    duration = np.ones((len(depth), width), np.int64)
    for row, option in np.argwhere(found.mask[:followed]):
        duration[row, option] = after.duration[row, option]
        if after.correct[row, option]:
            successor[row, option] = CORRECT
        elif not after.lost[row, option]:
            successor[row, option] = number[after.words[row, option].tobytes()]
    return Reachable(
        situation=found.situation,
        depth=depth,
        view=found.view,
        words=found.words,
        mask=found.mask,
        score=found.score,
        successor=successor,
        duration=duration,
        cut=depth >= limit,
    )

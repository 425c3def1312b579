"""Function classes and update rules of one agent in NumPy, float64: values, gradients, steps (D9).

The parameters of one *slot*, a row of a table or all that an agent has, are one flat vector; a rule keeps a flat memory
with it. Both are what ``store.py`` writes. The formulae are those of ``learner.networks`` and ``learner.schedules``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from icsmdp_jax.runtime.policies import AgentPolicy

Vector = np.ndarray
EMPTY = np.zeros(0)


class Function(NamedTuple):
    """The values of an agent, as functions of the flat parameters of a slot and of what is read at the interface.

    Attributes:
      start: flat parameters of a slot that was never seen before.
      values: ``(params, x) -> [O]``.
      gradient: ``(params, x, option) ->`` flat gradient of that option's value.
      per_option: whether steps are counted for each option.
    """

    start: Vector
    values: Callable[[Vector, Vector], Vector]
    gradient: Callable[[Vector, Vector, int], Vector]
    per_option: bool


def function_of(one: AgentPolicy, kind: str, options: int) -> Function:
    """The function class of an agent; its parameters are the start of its one slot, zeros that of a table's rows."""
    if kind == "tabular":
        unit = np.eye(options)
        return Function(np.zeros(options), lambda q, x: q, lambda q, x, option: unit[option], True)
    names = sorted(one.params, key=lambda name: (int("".join(filter(str.isdigit, name)) or 0), name))
    shapes = [one.params[name].shape for name in names]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    start = np.concatenate([one.params[name].ravel() for name in names]).astype(np.float64)

    def parts(flat: Vector) -> list[Vector]:
        return [
            flat[end - math.prod(shape) : end].reshape(shape) for end, shape in zip(ends.tolist(), shapes, strict=True)
        ]

    if kind == "linear":
        return Function(start, *_linear(parts), True)
    if kind == "two-layer":
        return Function(start, *_two_layer(parts, trained="b" not in names, width=one.params["w"].shape[1]), False)
    return Function(start, *_mlp(parts), False)


Parts = Callable[[Vector], list[Vector]]
Both = tuple[Callable[[Vector, Vector], Vector], Callable[[Vector, Vector, int], Vector]]


def _linear(parts: Parts) -> Both:
    def gradient(flat: Vector, x: Vector, option: int) -> Vector:
        out = np.zeros_like(flat)
        parts(out)[0][option] = x
        return out

    return lambda flat, x: parts(flat)[0] @ x, gradient


def _two_layer(parts: Parts, trained: bool, width: int) -> Both:
    """``m^(-1/2) sum_r b_r relu(w_r . x)``; either ``w`` moves, the signs ``b`` alternating, or ``b`` does."""
    signs = np.where(np.arange(width) % 2 == 0, 1.0, -1.0) / math.sqrt(width)

    def split(flat: Vector) -> tuple[Vector, Vector]:
        if trained:
            return signs, parts(flat)[0]
        b, w = parts(flat)
        return b / math.sqrt(width), w

    def values(flat: Vector, x: Vector) -> Vector:
        b, w = split(flat)
        return (b * np.maximum(w @ x, 0.0)).sum(axis=-1)

    def gradient(flat: Vector, x: Vector, option: int) -> Vector:
        out = np.zeros_like(flat)
        units = split(flat)[1][option] @ x
        if trained:
            parts(out)[0][option] = (signs * (units > 0))[:, None] * x
        else:
            parts(out)[0][option] = np.maximum(units, 0.0) / math.sqrt(width)
        return out

    return values, gradient


def _mlp(parts: Parts) -> Both:
    """ReLU layers and a linear head; ``parts`` gives bias and kernel of each layer in turn."""

    def layers(flat: Vector, x: Vector) -> tuple[list[Vector], list[Vector]]:
        arrays, inputs = parts(flat), [x]
        for layer in range(0, len(arrays), 2):
            y = inputs[-1] @ arrays[layer + 1] + arrays[layer]
            inputs.append(np.maximum(y, 0.0) if layer + 2 < len(arrays) else y)
        return arrays, inputs

    def gradient(flat: Vector, x: Vector, option: int) -> Vector:
        (arrays, inputs), out = layers(flat, x), np.zeros_like(flat)
        ascent, back = parts(out), np.zeros_like(inputs[-1])
        back[option] = 1.0
        for layer in range(len(arrays) - 2, -1, -2):
            before = inputs[layer // 2]
            ascent[layer][:], ascent[layer + 1][:] = back, np.outer(before, back)
            back = (arrays[layer + 1] @ back) * (before > 0)
        return out

    return lambda flat, x: layers(flat, x)[1][-1], gradient


class Steps(NamedTuple):
    """Plain steps ``min(cap, scale (1 + rescale c)^-power)``, as ``learner.schedules.StepSize``.

    Attributes:
      scale: step at clock 0 before the cap.
      rescale: how fast the clock counts.
      power: 0 for a constant step.
      cap: largest step ever taken.
      clock: ``"visits"`` (the agent's own updates, for tables and linear functions of that option) or ``"epoch"``.
    """

    scale: float = 1.0
    rescale: float = 1.0
    power: float = 0.7
    cap: float = 1.0
    clock: str = "visits"

    def memory(self, function: Function, options: int) -> Vector:
        """Counts of a slot that was never updated."""
        return np.zeros(options if function.per_option else 1)

    def update(self, params: Vector, memory: Vector, ascent: Vector, error: float, option: int, epoch: int) -> None:
        """Moves the parameters along the gradient of the option's value, in place."""
        place = option if len(memory) > 1 else 0
        clock = epoch if self.clock == "epoch" else memory[place]
        params += min(self.cap, self.scale * (1.0 + self.rescale * clock) ** -self.power) * error * ascent
        memory[place] += 1


class Adam(NamedTuple):
    """Adam on half the squared temporal difference, as ``optax.adam``; its memory is the count and two moments."""

    rate: float = 3e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def memory(self, function: Function, options: int) -> Vector:
        """Count and moments of a slot that was never updated."""
        return np.zeros(1 + 2 * len(function.start))

    def update(self, params: Vector, memory: Vector, ascent: Vector, error: float, option: int, epoch: int) -> None:
        """Moves the parameters, in place."""
        first, second = memory[1:].reshape(2, -1)
        memory[0] += 1
        first[:] = self.b1 * first - (1 - self.b1) * error * ascent
        second[:] = self.b2 * second + (1 - self.b2) * (error * ascent) ** 2
        mean, square = first / (1 - self.b1 ** memory[0]), second / (1 - self.b2 ** memory[0])
        params -= self.rate * mean / (np.sqrt(square) + self.eps)

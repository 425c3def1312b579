"""Segment descriptors: what a segment's primitive steps were like, whoever took them and however long it lasted.

A primitive step from ``x`` to ``x'``, two vectors of length p, is lifted to ``(1, x, x')``. The descriptor of a segment
is the sum of the outer squares of its lifted steps: positive semidefinite ``[q, q]`` with ``q = 2p + 1``, and additive,
so that the descriptor of two segments in a row is the sum of theirs. It holds the number of steps, all first and second
moments, and with them the least squares of the local dynamics. Float64, on the host; leading axes are batches.
"""

from __future__ import annotations

import numpy as np


def lifted(path: np.ndarray) -> np.ndarray:
    """``[..., T, 2p + 1]`` lifted steps ``(1, x_t, x_{t+1})`` of paths ``[..., T + 1, p]``."""
    path = np.asarray(path, np.float64)
    if path.ndim < 2:
        raise ValueError(f"path: shape {list(path.shape)}, expected [..., T + 1, p]")
    before, after = path[..., :-1, :], path[..., 1:, :]
    return np.concatenate([np.ones((*before.shape[:-1], 1)), before, after], axis=-1)


def descriptors(path: np.ndarray) -> np.ndarray:
    """``[..., T, q, q]`` descriptors of the first 1, ..., T steps of paths ``[..., T + 1, p]``."""
    step = lifted(path)
    return np.cumsum(step[..., :, None] * step[..., None, :], axis=-3)


def descriptor(path: np.ndarray) -> np.ndarray:
    """``[..., q, q]`` descriptor of whole paths ``[..., T + 1, p]``; zero for a path without a step."""
    step = lifted(path)
    return np.swapaxes(step, -1, -2) @ step


def length(found: np.ndarray) -> np.ndarray:
    """``[...]`` number of primitive steps behind descriptors ``[..., q, q]``."""
    return found[..., 0, 0]


def features(found: np.ndarray) -> np.ndarray:
    """``[..., q (q + 1) / 2]`` second moments per step, each once: what an agent may read beside its interface."""
    rows, columns = np.triu_indices(found.shape[-1])
    return found[..., rows, columns] / np.maximum(length(found), 1)[..., None]


def local_dynamics(found: np.ndarray, ridge: float = 1e-9) -> np.ndarray:
    """``[..., p, p + 1]`` least squares ``(b, A)`` of ``x' = b + A x``, from the descriptor alone.

    Args:
      found: ``[..., q, q]``.
      ridge: added to the squares of ``(1, x)``, more than 0 where fewer than ``p + 1`` steps may be behind one.
    """
    half = (found.shape[-1] + 1) // 2
    square = found[..., :half, :half] + ridge * np.eye(half)
    return np.swapaxes(np.linalg.solve(square, found[..., :half, half:]), -1, -2)


def misfit(found: np.ndarray, dynamics: np.ndarray) -> np.ndarray:
    """``[...]`` sum of ``|x' - b - A x|^2`` over the steps behind descriptors, for ``(b, A) [..., p, p + 1]``."""
    eye = np.broadcast_to(np.eye(dynamics.shape[-2]), (*dynamics.shape[:-1], dynamics.shape[-2]))
    residual = np.concatenate([-dynamics, eye], axis=-1)
    return np.einsum("...ij,...jk,...ik->...", residual, found, residual)

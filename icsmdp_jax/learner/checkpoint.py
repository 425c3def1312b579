"""A training run on disk: all arrays, the key and a JSON card in one safetensors file; resuming changes no bit.

The card is the file's metadata (entry ``card``), so that arrays and card are replaced together or not at all, and any
reader of safetensors can look inside. Nothing is ever unpickled: structure comes from the setup that is trained.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from icsmdp_jax.core.arguments import one_key
from icsmdp_jax.io import atomic_write, file_target, to_plain
from icsmdp_jax.learner import fits
from icsmdp_jax.learner.callbacks import Point
from icsmdp_jax.learner.setups import Setup

FORMAT, VERSION = "icsmdp-checkpoint", 1
KEY = "key"  # the run's key among the names of arrays


class Checkpoint(NamedTuple):
    """What ``load_checkpoint`` read.

    Attributes:
      state: the learner's state, or whatever tree was saved.
      key: the key of the run.
      about: what was said about it, plain values.
    """

    state: Any
    key: chex.PRNGKey
    about: dict[str, Any]


def save_checkpoint(path: str | os.PathLike[str], state: Any, key: chex.PRNGKey, **about: Any) -> None:
    """Writes a training's state and key as one file, whole or not at all; an older file of that name is replaced.

    Args:
      path: the file, by convention ``NAME.safetensors``.
      state: what ``train`` returned, with or without an axis of seeds; or any tree of arrays, numbers and keys.
      key: the key that ``train`` was given.
      **about: plain values for the card: a note, settings, the commit.

    Raises:
      ValueError: in one line, for leaves that are not arrays, a card that is not JSON, or a place that cannot be
        written to.

    Example:
      >>> import jax, icsmdp_jax as ic, tempfile, pathlib
      >>> icq, key = ic.setup(*ic.make("planted", gap=0.2), copies=8, length=4), jax.random.key(0)
      >>> state, curves = ic.train(icq, key, updates=10)
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.safetensors"
      >>> ic.save_checkpoint(path, state, key, note="half way")
      >>> found = ic.load_checkpoint(path, icq)
      >>> state, curves = ic.train(icq, found.key, updates=20, start=found.state)
      >>> int(state.updates), found.about
      (20, {'note': 'half way'})
    """
    file_target(path)
    arrays: dict[str, np.ndarray] = {}
    kinds: dict[str, str] = {}
    for name, leaf in {**fits.named_leaves(state), KEY: one_key(key)}.items():
        arrays[name], kinds[name] = _plain(name, leaf)
    try:
        said = json.dumps(to_plain(about), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"about: {error}, expected plain values") from None
    card = {
        "format": FORMAT, "version": VERSION, "about": json.loads(said),
        "keys": {name: kind for name, kind in kinds.items() if kind}, "sha256": _digest(arrays),
    }  # fmt: skip
    content = save(arrays, metadata={"card": json.dumps(card, sort_keys=True)})
    with atomic_write(path) as stream:
        stream.write(content)


def load_checkpoint(path: str | os.PathLike[str], like: Setup | Any) -> Checkpoint:
    """Reads a checkpoint for a setup; arrays of other names, shapes or dtypes than it has are refused.

    Args:
      path: the file.
      like: what ``setup`` returned; for other trees than a learner's state, a tree of the same structure whose leaves
        have the same shapes and dtypes (``jax.eval_shape`` will do).

    Returns:
      State, key and card; ``train(like, found.key, updates, start=found.state)`` resumes.

    Raises:
      ValueError: in one line that starts with the file's name.

    Example:
      >>> import jax, icsmdp_jax as ic, tempfile, pathlib
      >>> path, key = pathlib.Path(tempfile.mkdtemp()) / "own.safetensors", jax.random.key(0)
      >>> tree = {"table": jax.numpy.zeros((2, 3)), "stream": jax.random.key(7)}
      >>> ic.save_checkpoint(path, tree, key)
      >>> ic.load_checkpoint(path, tree).state["table"].shape
      (2, 3)
    """
    where = Path(path)
    arrays, card = _read(where)
    try:
        kinds, about = dict(card["keys"]), dict(card["about"])
        key = _back(KEY, arrays.pop(KEY), kinds)
        if isinstance(like, Setup):
            many = arrays[".updates"].shape
            like = fits.state_shapes(like.learner, like.hyper, int(many[0]) if many else None)
        state = _filled(like, arrays, kinds)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: lacks {error}, expected a checkpoint of this setup") from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return Checkpoint(state, key, about)


class SaveCheckpoint:
    """A callback of ``train``: keeps the state of the last point in one file.

    Args:
      path: the file.
      **about: plain values for its card.

    Example:
      >>> import jax, icsmdp_jax as ic, tempfile, pathlib
      >>> icq = ic.setup(*ic.make("planted", gap=0.2), copies=8, length=4)
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.safetensors"
      >>> state, curves = ic.train(icq, jax.random.key(0), updates=10, callbacks=[ic.SaveCheckpoint(path)])
      >>> ic.load_checkpoint(path, icq).about
      {'updates': 10}
    """

    def __init__(self, path: str | os.PathLike[str], **about: Any) -> None:
        file_target(path)
        self.path, self.about = path, about

    def __call__(self, point: Point) -> None:
        """Replaces the file."""
        save_checkpoint(self.path, point.state, point.key, **{"updates": point.updates, **self.about})


def _plain(name: str, leaf: Any) -> tuple[np.ndarray, str]:
    """A leaf as a NumPy array, and the kind of generator if it is made of keys."""
    if hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.ascontiguousarray(jax.random.key_data(leaf)), str(jax.random.key_impl(leaf))
    array = np.ascontiguousarray(leaf).reshape(np.shape(leaf))
    if array.dtype.kind not in "biuf":
        raise ValueError(f"state{name}: {array.dtype}, expected numbers, booleans or keys")
    return array, ""


def _back(name: str, array: np.ndarray, kinds: Mapping[str, str]) -> jax.Array:
    """What ``_plain`` was given."""
    back = jax.numpy.asarray(array)
    return jax.random.wrap_key_data(back, impl=kinds[name]) if name in kinds else back


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for name in sorted(arrays):
        total.update(name.encode())
        total.update(arrays[name].tobytes())
    return total.hexdigest()


def _read(where: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and card of a file whose contents match its card."""
    try:
        arrays = load(where.read_bytes())
        with safe_open(where, framework="numpy") as file:
            told = (file.metadata() or {}).get("card", "null")
        card = json.loads(told)
    except OSError as error:
        raise ValueError(f"{where}: {error.strerror}, expected a checkpoint") from None
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(f"{where}: damaged ({' '.join(str(error).split())[:100]}), expected a checkpoint") from None
    if not isinstance(card, dict) or (card.get("format"), card.get("version")) != (FORMAT, VERSION):
        raise ValueError(f"{where}: is no checkpoint, expected format {FORMAT!r}, version {VERSION}")
    if card.get("sha256") != _digest(arrays):
        raise ValueError(f"{where}: arrays have another digest than the card says, expected an undamaged file")
    return arrays, card


def _filled(like: Any, arrays: dict[str, np.ndarray], kinds: Mapping[str, str]) -> Any:
    """``like`` with its leaves replaced by arrays."""
    wanted = fits.named_leaves(like)
    found = {name: _back(name, array, kinds) for name, array in arrays.items()}
    fits.check_leaves(wanted, found)
    return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in wanted])

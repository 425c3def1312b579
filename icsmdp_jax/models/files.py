"""Model files: ``.npz`` in and out, never unpickling, never leaving a half-written file."""

from __future__ import annotations

import dataclasses
import difflib
import os
import warnings

import numpy as np

from icsmdp_jax.io import atomic_write
from icsmdp_jax.models.tabular import TabularModel

FIELDS = tuple(field.name for field in dataclasses.fields(TabularModel))
REQUIRED = ("reward_rate", "agent", "interface", "gamma")


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz`` file; pickled objects are refused.

    Raises:
      ValueError: in one line, if the file is missing, unreadable, truncated, not an ``.npz``, or holds objects.
    """
    name = os.fspath(path)
    try:
        archive = np.load(name, allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"{name}: no such file, expected an .npz model file") from None
    except IsADirectoryError:
        raise ValueError(f"{name}: is a directory, expected an .npz model file") from None
    except Exception as error:  # a damaged directory makes zipfile raise more than BadZipFile
        raise ValueError(f"{name}: cannot be read as .npz ({_one_line(error)})") from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError(f"{name}: holds a single array, expected an .npz model file with named arrays")
    arrays: dict[str, np.ndarray] = {}
    with archive:
        if len(archive.files) != _promised_members(name):
            archive.close()
            raise ValueError(f"{name}: its directory is damaged, members are missing")
        for key in archive.files:
            try:
                arrays[key] = archive[key]
            except Exception as error:  # whatever a damaged member makes zip, zlib, lzma or the header's parser raise
                raise ValueError(f"{name}: array {key} cannot be read ({_one_line(error)})") from None
            if not isinstance(arrays[key], np.ndarray):
                raise ValueError(f"{name}: member {key} is not an array, expected only arrays")
    return arrays


def _promised_members(path: str) -> int:
    """How many members the last record of a zip file promises; a damaged directory may list fewer."""
    with open(path, "rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - 65_557))  # the record and the longest comment
        tail = stream.read()
    record = tail[tail.rfind(b"PK\x05\x06") :]
    return int.from_bytes(record[10:12], "little")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def load_model(path: str | os.PathLike[str]) -> TabularModel:
    """Reads a model file (D1) and validates it.

    Raises:
      ValueError: in one line that starts with the file's name; see ``TabularModel`` and ``read_arrays``.
    """
    arrays = read_arrays(path)
    for name in REQUIRED:
        if name not in arrays:
            raise ValueError(f"{os.fspath(path)}: {name}: missing, expected it in every model file")
    unknown = sorted(set(arrays) - set(FIELDS))
    for extra in unknown:
        meant = difflib.get_close_matches(extra, FIELDS, n=1, cutoff=0.7)
        if meant:
            raise ValueError(f"{os.fspath(path)}: {extra}: unknown array, expected {meant[0]}, perhaps")
    if unknown:
        warnings.warn(f"{os.fspath(path)}: ignoring unknown arrays {', '.join(unknown)}", stacklevel=2)
    try:
        return TabularModel(**{name: arrays[name] for name in FIELDS if name in arrays})  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def save_model(path: str | os.PathLike[str], model: TabularModel) -> None:
    """Writes a model file, compressed and atomically; ``load_model`` gives the same model back."""
    with atomic_write(path) as stream:
        np.savez_compressed(stream, **model.arrays())  # type: ignore[arg-type]

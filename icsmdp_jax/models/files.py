"""Model files: ``.npz`` in and out, never unpickling, never leaving a half-written file."""

from __future__ import annotations

import dataclasses
import difflib
import os
import warnings

import numpy as np

from icsmdp_jax.core.arguments import of_type
from icsmdp_jax.io import atomic_write
from icsmdp_jax.models.tabular import TabularModel

FIELDS = tuple(field.name for field in dataclasses.fields(TabularModel))
OTHER_KINDS = {  # by their first bytes
    b"\x1f\x8b": "a gzip file",
    b"\x89HDF": "an HDF5 file",
    b"PAR1": "a Parquet file",
    b"MATLAB": "a MATLAB file",
    b"\x80\x02": "a pickle, which is never loaded",
    b"\x80\x03": "a pickle, which is never loaded",
    b"\x80\x04": "a pickle, which is never loaded",
    b"\x80\x05": "a pickle, which is never loaded",
    b"\xef\xbb\xbf": "a text file",
    b"\xff\xfe": "a text file",
    b"\xfe\xff": "a text file",
}
MOST_QUOTED = 300  # characters of an error of a library
SMALL = 2**28  # bytes of arrays that fit anywhere
CONTROL = frozenset(range(32)) - frozenset(b"\t\n\v\f\r\x1b")  # bytes that occur in no text, whatever its encoding
REQUIRED = ("reward_rate", "agent", "interface", "gamma")


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz`` file; pickled objects are refused.

    Raises:
      ValueError: in one line, if the file is missing, unreadable, truncated, not an ``.npz``, or holds objects.
    """
    of_type(str | os.PathLike, "the name of an .npz model file", path=path)
    name = os.fspath(path)
    try:
        archive = np.load(name, allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"{name}: no such file, expected an .npz model file") from None
    except IsADirectoryError:
        raise ValueError(f"{name}: is a directory, expected an .npz model file") from None
    except Exception as error:  # a damaged directory makes zipfile raise more than BadZipFile
        kind = other_kind(name)
        found = f"is {kind}, expected an .npz model file" if kind else f"cannot be read as .npz ({_one_line(error)})"
        raise ValueError(f"{name}: {found}") from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError(f"{name}: holds a single array, expected an .npz model file with named arrays")
    arrays: dict[str, np.ndarray] = {}
    with archive:
        if len(archive.files) != _promised_members(name):
            archive.close()
            raise ValueError(f"{name}: its directory is damaged, members are missing")
        if archive.zip is not None:
            _check_size(name, sum(int(member.file_size) for member in archive.zip.infolist()))
        for key in archive.files:
            try:
                arrays[key] = archive[key]
            except Exception as error:  # whatever a damaged member makes zip, zlib, lzma or the header's parser raise
                raise ValueError(f"{name}: array {key} cannot be read ({_one_line(error)})") from None
            if not isinstance(arrays[key], np.ndarray):
                raise ValueError(f"{name}: member {key} is not an array, expected only arrays")
    return arrays


def other_kind(path: str) -> str:
    """The kind of a file that NumPy cannot read, by its first bytes; empty for NumPy's formats or without access."""
    if not os.path.isfile(path):  # reading a pipe would block
        return ""
    try:
        with open(path, "rb") as stream:
            head = stream.read(4096)
    except OSError:
        return ""
    if not head:
        return "empty"
    if head.startswith((b"PK", b"\x93NUMPY")):
        return ""
    for start, kind in OTHER_KINDS.items():
        if head.startswith(start):
            return kind
    return "a file of another kind" if set(head) & CONTROL else "a text file"


def _check_size(name: str, size: int) -> None:
    """Refuses arrays that would not fit into memory, before any of them is unpacked."""
    if size < SMALL:
        return
    from icsmdp_jax.devices.placement import host_memory

    if size > host_memory():
        found, most = (f"{count / 2**30:,.1f} GiB" for count in (size, host_memory()))
        raise ValueError(f"{name}: its arrays would take {found}, expected at most {most}")


def _promised_members(path: str) -> int:
    """How many members the last record of a zip file promises; a damaged directory may list fewer."""
    with open(path, "rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - 65_557))  # the record and the longest comment
        tail = stream.read()
    record = tail[tail.rfind(b"PK\x05\x06") :]
    return int.from_bytes(record[10:12], "little")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MOST_QUOTED else f"{text[:MOST_QUOTED]} ..."  # a library may quote half of the file


def load_model(path: str | os.PathLike[str]) -> TabularModel:
    """Reads a model file (D1) and validates it.

    Raises:
      ValueError: in one line that starts with the file's name; see ``TabularModel`` and ``read_arrays``.

    Example:
      >>> import os, tempfile, icsmdp_jax as ic
      >>> name = os.path.join(tempfile.mkdtemp(), "mine.npz")
      >>> ic.save_model(name, ic.make("planted", gap=0.2)[0].model)
      >>> ic.load_model(name)
      TabularModel(160 states, 40 interfaces, 10 agents, 4 options, 64 primitive steps at most, gamma 0.97)
    """
    arrays = read_arrays(path)
    for name in REQUIRED:
        if name not in arrays:
            raise ValueError(f"{os.fspath(path)}: {name}: missing, expected it in every model file")
    unknown = sorted(set(arrays) - set(FIELDS))
    for extra in unknown:
        meant = difflib.get_close_matches(extra, FIELDS, n=1, cutoff=0.7)
        if meant:
            raise ValueError(f"{os.fspath(path)}: {extra}: unknown array, did you mean {meant[0]}?")
    try:
        model = TabularModel(**{name: arrays[name] for name in FIELDS if name in arrays})  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None
    if unknown:  # a warning for files that are used; others are refused in one line
        warnings.warn(f"{os.fspath(path)}: ignoring unknown arrays {', '.join(unknown)}", stacklevel=2)
    return model


def save_model(path: str | os.PathLike[str], model: TabularModel) -> None:
    """Writes a model file, compressed and atomically; ``load_model`` gives the same model back.

    Example:
      >>> import os, tempfile, icsmdp_jax as ic
      >>> name = os.path.join(tempfile.mkdtemp(), "mine.npz")
      >>> ic.save_model(name, ic.make("planted", gap=0.2)[0].model)
      >>> ic.load_model(name)
      TabularModel(160 states, 40 interfaces, 10 agents, 4 options, 64 primitive steps at most, gamma 0.97)
    """
    of_type(str | os.PathLike, "the name of a file", path=path)
    of_type(TabularModel, "a TabularModel", model=model)
    with atomic_write(path) as stream:
        np.savez_compressed(stream, **model.arrays())  # type: ignore[arg-type]

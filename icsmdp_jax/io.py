"""Writing files: whole or not at all, and JSON that every parser reads."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

LONGEST = 40  # characters of the target's name in that of a temporary file, so that the latter is never too long
KINDS = (
    (stat.S_ISDIR, "directory"),
    (stat.S_ISFIFO, "FIFO"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "character device"),
    (stat.S_ISBLK, "block device"),
)


def file_target(path: str | os.PathLike[str], name: str = "") -> tuple[Path, os.stat_result | None]:
    """The file that writing to a path would replace: that at the end of all symbolic links.

    Args:
      path: where to write.
      name: what the path is called in messages, e.g. ``--out``.

    Returns:
      The target, and what is known about it if it exists.

    Raises:
      ValueError: in one line, if what is there is not a regular file or if the place cannot be written to.
    """
    label = f"{name} {os.fspath(path)}".strip()
    if not os.fspath(path):
        raise ValueError(f"{name or 'path'}: is empty, expected the name of a file")
    found = None
    try:
        target = Path(os.path.realpath(path))
        found = os.stat(path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # a loop of links, a name that is too long or holds a null byte
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ValueError(f"{label}: {reason}, expected the name of a file that can be written") from None
    folder = target.parent
    if not folder.is_dir():
        raise ValueError(f"{label}: folder {folder} does not exist")
    if found is not None and not stat.S_ISREG(found.st_mode):
        kind = next((word for test, word in KINDS if test(found.st_mode)), "special file")
        raise ValueError(f"{label}: is a {kind}, expected a regular file or a new name")
    if found is not None and not _writable(target):
        raise ValueError(f"{label}: is write-protected")
    if not _writable(folder):
        raise ValueError(f"{label}: folder {folder} cannot be written to")
    return target, found


def check_folder(path: str | os.PathLike[str], name: str = "--out") -> None:
    """Refuses a folder that could not be made or written to; makes nothing.

    Raises:
      ValueError: in one line.
    """
    label = f"{name} {os.fspath(path)}"
    if not os.fspath(path):
        raise ValueError(f"{name}: is empty, expected the name of a directory")
    try:
        place = Path(os.path.realpath(path))
        nearest = next(folder for folder in (place, *place.parents) if folder.exists())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ValueError(f"{label}: {reason}, expected the name of a directory") from None
    if not nearest.is_dir():
        which = "" if nearest == place else f"{nearest} "
        raise ValueError(f"{label}: {which}is a file, expected a directory")
    if not _writable(nearest):
        raise ValueError(f"{label}: {nearest} cannot be written to")


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO]:
    """Opens a temporary file next to the target, which takes its place only when the block ends well.

    Symbolic links stay, and what they point to is replaced. An existing file keeps its permissions, and its owner as
    far as that is allowed.

    Args:
      path: where to write.
      mode: ``"wb"``, or ``"w"`` for text, which is UTF-8.

    Raises:
      ValueError: in one line, for what exists and is not a regular file, and for places that cannot be written to.
    """
    target, found = file_target(path)
    temporary = target.with_name(f".{target.name[:LONGEST]}.{secrets.token_hex(6)}.part")
    try:
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if found is None else 0o600)
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if found is not None:
            with contextlib.suppress(OSError, AttributeError):  # only root may give files away
                os.chown(temporary, found.st_uid, found.st_gid)
            os.chmod(temporary, stat.S_IMODE(found.st_mode))
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def to_plain(value: Any) -> Any:
    """``value`` with NumPy scalars unwrapped and non-finite floats as None, ready for strict JSON."""
    if isinstance(value, dict):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    numpy = sys.modules.get("numpy")  # commands that need none do not load it; nothing is of its types then
    if numpy is not None and isinstance(value, numpy.generic):
        return to_plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Writes strict JSON, atomically."""
    with atomic_write(Path(path), "w") as stream:
        json.dump(to_plain(content), stream, indent=1, allow_nan=False)
        stream.write("\n")

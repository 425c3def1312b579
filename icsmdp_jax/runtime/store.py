"""What an agent knows, in one SQLite file that its workers share and that no kill leaves half-written.

Every change is one transaction that takes the write lock first, so workers never act on what another is replacing. With
``synchronous = NORMAL`` a killed process loses nothing that was committed; ``FULL`` also covers power cuts.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

REMEMBERED = 100_000  # segments whose ids are kept after they were absorbed
SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS slots (slot INTEGER PRIMARY KEY, params BLOB, memory BLOB);
CREATE TABLE IF NOT EXISTS waiting (id TEXT PRIMARY KEY, slot INTEGER, x BLOB, option INTEGER, reward REAL,
  discount REAL, epoch INTEGER, since REAL, lost INTEGER DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS done (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit (number INTEGER PRIMARY KEY, slot INTEGER, x BLOB, option INTEGER, error REAL,
  discount REAL);
"""


class Store:
    """The file of one agent; ``":memory:"`` for none."""

    def __init__(self, path: str | os.PathLike[str], about: dict[str, str], synchronous: str = "NORMAL") -> None:
        """Opens or makes the file.

        Args:
          path: where it is.
          about: what the file must be about (agent, policy); a new file is labelled with it.
          synchronous: ``"NORMAL"`` or ``"FULL"``.

        Raises:
          ValueError: in one line, for a file of another agent or policy, or of another kind.
        """
        if synchronous not in ("NORMAL", "FULL"):
            raise ValueError(f"synchronous = {synchronous!r}: expected 'NORMAL' or 'FULL'")
        self.path, self.pid, self.lock = os.fspath(path), os.getpid(), threading.RLock()
        try:
            self.db = sqlite3.connect(self.path, timeout=60.0, isolation_level=None, check_same_thread=False)
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute(f"PRAGMA synchronous = {synchronous}")
            with self.change():
                for statement in SCHEMA.split(";"):
                    self.db.execute(statement)
                for name, value in about.items():
                    self.db.execute("INSERT OR IGNORE INTO about VALUES (?, ?)", (name, value))
            found = dict(self.db.execute("SELECT name, value FROM about"))
        except sqlite3.Error as error:
            raise ValueError(f"{self.path}: {error}, expected the state of an agent or a new name") from None
        for name, value in about.items():
            if found[name] != value:
                raise ValueError(f"{self.path}: is about {name} {found[name]!r}, expected {value!r}")
        self.shared = self.path != ":memory:"
        self.version = self._version()

    @contextmanager
    def change(self) -> Iterator[None]:
        """One transaction, all of it or nothing, with the write lock from the start."""
        if os.getpid() != self.pid:
            raise ValueError(f"{self.path}: was opened before a fork, expected each process to open its own agent")
        with self.lock:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")

    def _version(self) -> int:
        return int(self.db.execute("PRAGMA data_version").fetchone()[0])

    def changed(self) -> bool:
        """Whether another worker has committed anything since this was last asked."""
        if not self.shared:
            return False
        before, self.version = self.version, self._version()
        return before != self.version

    def read(self, slot: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Parameters and memory of a slot, if it was ever written."""
        row = self.db.execute("SELECT params, memory FROM slots WHERE slot = ?", (slot,)).fetchone()
        return None if row is None else (np.frombuffer(row[0]).copy(), np.frombuffer(row[1]).copy())

    def write(self, slot: int, params: np.ndarray, memory: np.ndarray) -> None:
        """Writes a slot; inside ``change``."""
        self.db.execute("INSERT OR REPLACE INTO slots VALUES (?, ?, ?)", (slot, params.tobytes(), memory.tobytes()))

    def count(self, name: str) -> None:
        """Adds 1 to a counter; inside ``change``."""
        self.db.execute("INSERT INTO counts VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1", (name,))

    def counts(self) -> dict[str, int]:
        """All counters, and how many segments are waiting or lost."""
        with self.lock:
            waiting, lost = self.db.execute("SELECT COUNT(*) - SUM(lost), SUM(lost) FROM waiting").fetchone()
            return {**dict(self.db.execute("SELECT * FROM counts")), "waiting": waiting or 0, "lost": lost or 0}

    def was_done(self, name: str) -> bool:
        """Whether a segment of this id was absorbed, among the last ``REMEMBERED``."""
        return self.db.execute("SELECT 1 FROM done WHERE id = ?", (name,)).fetchone() is not None

    def is_done(self, name: str) -> None:
        """Remembers that a segment was absorbed and forgets the oldest; inside ``change``."""
        number = self.db.execute("INSERT INTO done (id) VALUES (?)", (name,)).lastrowid
        self.db.execute("DELETE FROM done WHERE number <= ?", ((number or 0) - REMEMBERED,))
        self.db.execute("DELETE FROM waiting WHERE id = ?", (name,))

    def give_up(self, seconds: float) -> int:
        """Counts segments that have waited for longer as lost; they are absorbed even so if their scalar comes."""
        with self.change():
            oldest = time.time() - seconds
            return self.db.execute("UPDATE waiting SET lost = 1 WHERE lost = 0 AND since < ?", (oldest,)).rowcount

    def close(self) -> None:
        """Closes the file; nothing is left to be written."""
        self.db.close()

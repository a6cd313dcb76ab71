"""The answers of paid or rate-limited services, kept in SQLite from the moment they arrive.

What is kept is the answer as it came, under a key of scorer, version, rubric and text; what it means is
read anew each time, so that a better reader costs nothing. Failures of a server are not kept.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unharm.errors import UserError
from unharm.progress import say

TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    key BLOB NOT NULL, attempt INTEGER NOT NULL, scorer TEXT NOT NULL, kind TEXT NOT NULL,
    raw TEXT NOT NULL, reason TEXT NOT NULL, sent INTEGER NOT NULL, received INTEGER NOT NULL,
    cost REAL NOT NULL, at REAL NOT NULL, PRIMARY KEY (key, attempt)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_scorer ON answers (scorer, cost);
"""
AT_ONCE = 500
"""Keys of one look-up."""


@dataclass(frozen=True)
class Answer:
    """What a service said of one text at one attempt.

    `kind`: `answer`; `filtered`, its content filter stopped it; `refused`, it declined in a field of its
    own; `unscorable`, it has no score for such a text, with the `reason`. `sent` and `received` count
    tokens, `cost` is money in the currency of the study's prices.
    """

    raw: str
    kind: Literal["answer", "filtered", "refused", "unscorable"] = "answer"
    reason: str = ""
    sent: int = 0
    received: int = 0
    cost: float = 0.0


def key_of(scorer: str, *parts: str) -> bytes:
    """The key of a text under a scorer: 16 bytes of a hash. `scorer` stands for name, version, rubric."""
    digest = hashlib.sha256()
    for part in (scorer, *parts):
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8) + encoded)
    return digest.digest()[:16]


class Answers:
    """The file of answers. Several threads may use it; several processes may, too."""

    def __init__(self, path: Path):
        self.path = path
        self._guard = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = self._open()
        except sqlite3.DatabaseError as error:
            if not isinstance(error, sqlite3.OperationalError):
                aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
                os.replace(path, aside)
                say(f"{path.name} is damaged: set aside as {aside.name}; what was in it is asked again")
                self._file = self._open()
                return
            raise UserError(f"the file of answers cannot be used: {error}", str(path)) from None

    def _open(self) -> sqlite3.Connection:
        file = sqlite3.connect(self.path, timeout=60, check_same_thread=False, isolation_level=None)
        try:
            file.execute("PRAGMA synchronous = FULL")
            file.execute("PRAGMA journal_mode = TRUNCATE")  # a write-ahead log does not work on NFS
            file.executescript(TABLE)
        except sqlite3.DatabaseError:
            file.close()
            raise
        return file

    def put(self, key: bytes, attempt: int, scorer: str, answer: Answer) -> None:
        """Keeps an answer; it is on the disk when this returns."""
        with self._guard, self._telling_of_disk():
            self._file.execute(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                _row(key, attempt, scorer, answer),
            )

    def put_all(self, rows: Iterable[tuple[bytes, int, str, Answer]]) -> None:
        """Keeps many answers in one go: all of them, or none."""
        with self._guard, self._telling_of_disk():
            self._file.execute("BEGIN")
            try:
                self._file.executemany(
                    "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (_row(*row) for row in rows),
                )
                self._file.execute("COMMIT")
            except BaseException:
                self._file.execute("ROLLBACK")
                raise

    def look_up(self, keys: list[bytes]) -> dict[bytes, list[Answer]]:
        """The answers to these keys, each in the order of the attempts; keys without any are left out."""
        found: dict[bytes, list[Answer]] = {}
        for first in range(0, len(keys), AT_ONCE):
            for key, answer in self._some(keys[first : first + AT_ONCE]):
                found.setdefault(key, []).append(answer)
        return found

    def _some(self, keys: list[bytes]) -> Iterator[tuple[bytes, Answer]]:
        places = ",".join("?" * len(keys))
        with self._guard:
            rows = self._file.execute(
                "SELECT key, raw, kind, reason, sent, received, cost FROM answers "
                f"WHERE key IN ({places}) ORDER BY key, attempt",
                keys,
            ).fetchall()
        for key, *rest in rows:
            yield bytes(key), Answer(*rest)

    def spent(self, scorer: str) -> tuple[int, float]:
        """How many answers of a scorer there are, and what they cost together."""
        with self._guard:
            count, cost = self._file.execute(
                "SELECT COUNT(*), COALESCE(SUM(cost), 0) FROM answers WHERE scorer = ?", (scorer,)
            ).fetchone()
        return int(count), float(cost)

    @contextmanager
    def _telling_of_disk(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise UserError(
                f"an answer cannot be kept: {error}",
                str(self.path),
                "free some space; the same command goes on",
            ) from None

    def close(self) -> None:
        with self._guard:
            self._file.close()


def _row(key: bytes, attempt: int, scorer: str, answer: Answer) -> tuple[object, ...]:
    return (
        key, attempt, scorer, answer.kind, answer.raw, answer.reason, answer.sent, answer.received,
        answer.cost, time.time(),
    )  # fmt: skip

"""Store the answers of services and the replies of guards in SQLite as they arrive.

An answer is stored unread, under a key of scorer, version, rubric and text. It is read anew each time, so a
better reader needs no new request. Failures of a server are not stored.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unharm.core.errors import UserError
from unharm.core.files.disk import PRIVATE_FILE
from unharm.core.progress import say
from unharm.core.secrets import redact

TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    key BLOB NOT NULL, attempt INTEGER NOT NULL, scorer TEXT NOT NULL, kind TEXT NOT NULL,
    raw TEXT NOT NULL, reason TEXT NOT NULL, sent INTEGER NOT NULL, received INTEGER NOT NULL,
    cost REAL NOT NULL, at REAL NOT NULL, sum INTEGER, thought TEXT, model TEXT,
    PRIMARY KEY (key, attempt)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_scorer ON answers (scorer, cost);
"""
COLUMNS = "key, attempt, scorer, kind, raw, reason, sent, received, cost, at, sum, thought, model"
ADDED = {"sum": "INTEGER", "thought": "TEXT", "model": "TEXT"}
"""Columns that files of earlier versions lack."""
PUT = f"INSERT OR IGNORE INTO answers ({COLUMNS}) VALUES ({', '.join('?' * 13)})"
CUT = "cut at its limit"
"""The reason of an answer that reached its limit of tokens."""
AT_ONCE = 500
"""Number of keys in one query."""


@dataclass(frozen=True)
class Answer:
    """The answer of a service to one text at one attempt.

    `kind`: `answer`; `filtered`, its content filter stopped it; `refused`, it declined in a field of its
    own; `unscorable`, it has no score for such a text, with the `reason`. `sent` and `received` count
    tokens, `cost` is money in the currency of the study's prices. `thought` is what a model wrote before
    its verdict, `model` the one that the service says has answered.
    """

    raw: str
    kind: Literal["answer", "filtered", "refused", "unscorable"] = "answer"
    reason: str = ""
    sent: int = 0
    received: int = 0
    cost: float = 0.0
    thought: str = ""
    model: str = ""


def key_of(scorer: str, *parts: str) -> bytes:
    """Return the key of a text, 16 bytes of a hash. `scorer` covers name, version and rubric."""
    digest = hashlib.sha256()
    for part in (scorer, *parts):
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8) + encoded)
    return digest.digest()[:16]


class Answers:
    """The file of answers. Several threads and processes may use it at once."""

    def __init__(self, path: Path):
        self.path = path
        self._guard = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = self._open()
        except sqlite3.OperationalError as error:
            raise UserError(f"the file of answers cannot be used: {error}", str(path)) from None
        except sqlite3.DatabaseError:
            self._file = self._without_damage()

    def _open(self) -> sqlite3.Connection:
        """Open the file and add missing columns. Raise `sqlite3.DatabaseError` if it is damaged."""
        self.path.touch(PRIVATE_FILE)
        file = sqlite3.connect(self.path, timeout=60, check_same_thread=False, isolation_level=None)
        try:
            file.execute("PRAGMA synchronous = FULL")
            file.execute("PRAGMA journal_mode = TRUNCATE")  # a write-ahead log does not work on NFS
            file.executescript(TABLE)
            columns = _columns(file)
            for name, kind in ADDED.items():
                if name not in columns:
                    file.execute(f"ALTER TABLE answers ADD COLUMN {name} {kind}")
            if (state := file.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
                raise sqlite3.DatabaseError(str(state))
        except sqlite3.DatabaseError:
            file.close()
            raise
        return file

    def _without_damage(self) -> sqlite3.Connection:
        """Move the damaged file aside and start another with all of its readable answers."""
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        os.replace(self.path, aside)
        file = self._open()
        saved = 0
        before = sqlite3.connect(aside)
        try:
            present = _columns(before)
            selected = ", ".join(c if c in present else "NULL" for c in COLUMNS.split(", "))
            for row in before.execute(f"SELECT {selected} FROM answers"):
                if row[10] == _sum(*row[:2], *row[3:9]):
                    file.execute(PUT, row)
                    saved += 1
        except sqlite3.DatabaseError:
            pass  # what comes after the damage cannot be read
        finally:
            before.close()
        say(
            f"{self.path.name} is damaged: set aside as {aside.name}; {saved:,} answers of it are kept, "
            "the others asked again"
        )
        return file

    def put(self, key: bytes, attempt: int, scorer: str, answer: Answer) -> None:
        """Store an answer. It is on the disk when this returns."""
        with self._guard, self._disk_errors():
            self._file.execute(PUT, _row(key, attempt, scorer, answer))

    def put_all(self, rows: Iterable[tuple[bytes, int, str, Answer]]) -> None:
        """Store many answers at once: all of them, or none."""
        with self._guard, self._disk_errors():
            self._file.execute("BEGIN")
            try:
                self._file.executemany(PUT, (_row(*row) for row in rows))
                self._file.execute("COMMIT")
            except BaseException:
                self._file.execute("ROLLBACK")
                raise

    def look_up(self, keys: list[bytes]) -> dict[bytes, list[Answer]]:
        """Return the answers by key, in the order of the attempts. Keys without answers are left out."""
        answers: dict[bytes, list[Answer]] = {}
        for first in range(0, len(keys), AT_ONCE):
            for key, answer in self._some(keys[first : first + AT_ONCE]):
                answers.setdefault(key, []).append(answer)
        return answers

    def _some(self, keys: list[bytes]) -> Iterator[tuple[bytes, Answer]]:
        places = ",".join("?" * len(keys))
        with self._guard:
            rows = self._file.execute(
                "SELECT key, attempt, kind, raw, reason, sent, received, cost, sum FROM answers "
                f"WHERE key IN ({places}) ORDER BY key, attempt",
                keys,
            ).fetchall()
        for *row, checksum in rows:
            key, attempt, kind, raw, *rest = row
            if checksum is None or checksum == _sum(*row):
                yield bytes(key), Answer(raw, kind, *rest)
            else:  # damaged: it is asked for again
                with self._guard:
                    self._file.execute("DELETE FROM answers WHERE key = ? AND attempt = ?", (key, attempt))

    def spent(self, scorer: str) -> tuple[int, float]:
        """Return the number of answers of a scorer, and their cost."""
        with self._guard:
            count, cost = self._file.execute(
                "SELECT COUNT(*), COALESCE(SUM(cost), 0) FROM answers WHERE scorer = ?", (scorer,)
            ).fetchone()
        return int(count), float(cost)

    def models(self, scorer: str) -> list[str]:
        """Return the models that a service says have answered, the most frequent first."""
        with self._guard:
            rows = self._file.execute(
                "SELECT model FROM answers WHERE scorer = ? AND model > '' GROUP BY model "
                "ORDER BY COUNT(*) DESC",
                (scorer,),
            ).fetchall()
        return [str(row[0]) for row in rows]

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
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
    texts = (answer.kind, redact(answer.raw), redact(answer.reason))
    fields = (*texts, answer.sent, answer.received, float(answer.cost))
    more = redact(answer.thought), redact(answer.model)
    return key, attempt, scorer, *fields, time.time(), _sum(key, attempt, *fields), *more


def _columns(file: sqlite3.Connection) -> set[str]:
    """Return the columns of the table, without which none can be read."""
    return {str(row[1]) for row in file.execute("PRAGMA table_info(answers)")}


def _sum(*row: object) -> int:
    """Return the checksum of a row: key, attempt, kind, raw, reason, sent, received, cost."""
    return zlib.crc32("\0".join(map(repr, row)).encode("utf-8", "surrogatepass"))

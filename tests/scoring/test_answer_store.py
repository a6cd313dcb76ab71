"""Tests of `unharm.scoring.answer_store`."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from unharm.scoring.answer_store import Answer, Answers, key_of


def answers_in(path: Path, count: int = 400) -> list[bytes]:
    answers = Answers(path)
    keys = [key_of("v", str(n)) for n in range(count)]
    answers.put_all(
        (key, 1, "v", Answer(f"answer {n} " + "x" * 60, cost=0.5)) for n, key in enumerate(keys)
    )
    answers.close()
    return keys


def test_a_damaged_page_of_answers_loses_only_what_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    keys = answers_in(path)
    data = bytearray(path.read_bytes())
    draw = random.Random(1)
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 200] = draw.randbytes(200)
    path.write_bytes(bytes(data))
    answers = Answers(path)
    found = answers.look_up(keys)
    assert 20 < len(found) < len(keys)
    assert all(several[0].raw.startswith(f"answer {keys.index(key)} ") for key, several in found.items())
    assert len(list(tmp_path.glob("answers.sqlite.damaged-*"))) == 1
    answers.close()


def test_an_answer_that_was_changed_is_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    keys = answers_in(path, 5)
    with sqlite3.connect(path) as file:
        file.execute("UPDATE answers SET raw = 'answer 9' WHERE key = ?", (keys[2],))
    answers = Answers(path)
    assert keys[2] not in answers.look_up(keys)
    answers.put(keys[2], 1, "v", Answer("asked again"))
    assert answers.look_up([keys[2]])[keys[2]] == [Answer("asked again")]
    answers.close()


def test_answers_of_before_checksums_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    with sqlite3.connect(path) as file:
        file.executescript(
            "CREATE TABLE answers (key BLOB NOT NULL, attempt INTEGER NOT NULL, scorer TEXT NOT NULL, kind TEXT NOT NULL,"
            "raw TEXT NOT NULL, reason TEXT NOT NULL, sent INTEGER NOT NULL, received INTEGER NOT NULL, cost REAL NOT"
            " NULL, at REAL NOT NULL, PRIMARY KEY (key, attempt)) WITHOUT ROWID;"
        )
        key = key_of("v", "text")
        file.execute("INSERT INTO answers VALUES (?, 1, 'v', 'answer', '4', '', 1, 2, 0.5, 1.0)", (key,))
    answers = Answers(path)
    assert answers.look_up([key])[key] == [Answer("4", sent=1, received=2, cost=0.5)]
    answers.close()


def test_answers_outlive_their_process_and_keep_their_order(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "a.sqlite")
    key, other = key_of("v", "p", "a"), key_of("v", "pa", "")
    assert key != other
    answers.put(key, 2, "v", Answer("second", cost=0.5))
    answers.put(key, 1, "v", Answer("first", "refused", "r", 3, 4, 0.25))
    answers.put(key, 1, "v", Answer("later"))
    again = Answers(tmp_path / "a.sqlite")
    assert again.look_up([other, key]) == {
        key: [Answer("first", "refused", "r", 3, 4, 0.25), Answer("second", cost=0.5)]
    }
    assert again.spent("v") == (2, 0.75)
    assert again.spent("w") == (0, 0.0)


def test_a_damaged_file_of_answers_is_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"this is no database " * 100)
    answers = Answers(path)
    answers.put(key_of("v", "t"), 1, "v", Answer("4"))
    assert len(answers.look_up([key_of("v", "t")])) == 1
    assert len(list(tmp_path.glob("a.sqlite.damaged-*"))) == 1
    assert "set aside" in capsys.readouterr().err

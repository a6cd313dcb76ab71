"""Whole studies on a served model: what failed is asked again, keys are checked and never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from support.servers import Faulty, serving
from unharm.core.errors import UserError
from unharm.runs.pipeline import run_study


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits before another try are as short as they can be, but for what Retry-After asks."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("unharm.engines.endpoint.WAIT", 0.01)


def served_study(tiny_study: dict[str, Any], url: str) -> dict[str, Any]:
    return tiny_study | {
        "base": "small", "arms": ["vanilla", "icl", "served:other"], "corpus": None,
        "engine": {"name": "openai", "server": {"url": url, "attempts": 2, "timeout": 5, "patience": 0}},
        "served": {"other": {"url": url, "model": "small", "endpoint": "chat"}},
    }  # fmt: skip


def test_a_study_on_a_server_needs_no_base_and_asks_again_what_failed(
    tiny_study: dict[str, Any], load: Any
) -> None:
    with serving(Faulty()) as faulty:
        data = served_study(tiny_study, faulty.url)
        faulty.plan = lambda prompt, attempt: (
            "500" if "item" not in prompt and len(prompt) % 3 == 0 else "x"
        )
        run = run_study(load(data))
        files = pl.read_parquet(run.store.root / "completions" / "**" / "*.parquet")
        broken = files.filter(pl.col("status") == "failed")
        assert 0 < broken.height < files.height
        assert set(broken["reason"]) == {"server: HTTP 500"}
        assert run.unscored >= broken.height
        faulty.plan = lambda prompt, attempt: "x"
        before = sum(faulty.tries.values())
        again = run_study(load(data))
        asked = sum(faulty.tries.values()) - before
    files = pl.read_parquet(again.store.root / "completions" / "**" / "*.parquet")
    assert files.filter(pl.col("status") == "failed").height == 0
    assert (
        asked == broken.height + 3
    )  # two servers are tried out, one of them once more when asked for less
    assert files["completion_id"].n_unique() == files.height
    unscored = pl.read_csv(again.store.root / "findings" / "unscored.csv")
    assert not unscored.filter(pl.col("reason").str.contains("server")).height
    assert set(pl.read_csv(again.store.root / "findings" / "subjects.csv")["arm"]) == {
        "vanilla", "icl", "served:other",
    }  # fmt: skip


def test_paid_answers_survive_a_stop(tiny_study: dict[str, Any], load: Any) -> None:
    with serving(Faulty()) as faulty:
        data = served_study(tiny_study, faulty.url) | {"arms": ["vanilla"]}
        data["engine"]["server"] |= {"attempts": 1}
        faulty.plan = lambda prompt, attempt: "cut" if len(faulty.tries) > 20 else "x"
        broken = run_study(load(data))  # the server is up, and cuts every connection
        assert broken.unscored > 0
        answered = {p for p in faulty.tries if faulty.tries[p]}
        faulty.plan = lambda prompt, attempt: "x"
        faulty.tries.clear()
        run = run_study(load(data))
    assert run.scored + run.unscored == 4 * 3 + 8 + 10 + 14 + 30
    again = set(faulty.tries)
    assert len(answered - again) >= 15  # not asked twice


def test_keys_and_urls_are_checked_without_showing_a_key(tiny_study: dict[str, Any], load: Any) -> None:
    bad = served_study(tiny_study, "localhost:8000")
    bad["engine"]["server"]["key"] = "sk-secret-1234"
    with pytest.raises(UserError) as error:
        load(bad)
    told = str(error.value)
    assert "give a URL such as" in told
    assert "name of an environment variable" in told
    assert "sk-secret" not in told


def test_a_missing_key_is_told_before_any_work(
    tiny_study: dict[str, Any], load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    data = served_study(tiny_study, "http://127.0.0.1:1/v1")
    data["served"]["other"]["key"] = "NO_SUCH_KEY"
    with pytest.raises(
        UserError, match=r"served.other.key: the environment variable NO_SUCH_KEY is not set"
    ):
        run_study(load(data))
    assert not Path(data["output"]).exists()
    run_study(load(data), last="profiles")  # nothing of it needs the key


def test_arms_and_servers_need_each_other(tiny_study: dict[str, Any], load: Any) -> None:
    data = tiny_study | {"arms": ["vim", "served:gone"], "engine": {"name": "openai"}}
    with pytest.raises(UserError) as error:
        load(data)
    assert "the engine openai needs a server" in str(error.value)
    assert "'gone', used by the arm 'served:gone', is not in 'served'" in str(error.value)
    data = tiny_study | {"engine": {"name": "openai", "server": {"url": "http://x/v1"}}}
    with pytest.raises(UserError, match="load_adapters: true"):
        load(data)

"""The openai engine: a faulty server of our own, a real one of transformers, and studies on both."""

from __future__ import annotations

import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support import servers
from support.servers import Faulty, answer_to, serving
from unharm.core.errors import UserError
from unharm.core.records import Completion
from unharm.engines.openai import OpenAIEngine
from unharm.engines.requests import Request, Sampling, Task, generate, identify
from unharm.engines.settings import Server

PLAIN = Sampling(8, 0.1, 0.75)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits before another try are as short as they can be, but for what Retry-After asks."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("unharm.engines.endpoint.WAIT", 0.01)


def engine(faulty: Faulty, **more: Any) -> OpenAIEngine:
    settings = {"url": faulty.url, "model": "small", "attempts": 3, "timeout": 0.5, "concurrency": 8}
    settings |= {"patience": 0} | more
    return OpenAIEngine(Server(**settings), "small", "engine.server")


def requests(texts: list[str], **more: Any) -> list[Request]:
    found = []
    for number, text in enumerate(texts):
        identity, seed = identify("s", "b", str(number), 0, 1)
        found.append(Request(identity, str(number), 0, text, seed, **more))
    return found


FAULTS = {
    "429": "completed", "500": "completed", "slow": "completed", "cut": "completed",
    "truncated": "completed", "no choice": "completed", "answer": "completed",
    "filtered": "content filter", "filtered text": "content filter", "long": "prompt too long",
    "always 500": "server: HTTP 500", "always truncated": "server: an answer that cannot be read",
    "always cut": "server: the connection broke", "always slow": "server: no answer within 0.5 s",
    "empty": "empty prompt",
}  # fmt: skip
"""What the server does with a prompt (the first of these words twice, unless always), and how it ends."""


def test_every_prompt_ends_as_completed_or_failed_with_its_reason() -> None:
    texts = [f"{fault}|{n}" if fault != "empty" else " " for n in range(6) for fault in FAULTS]

    def plan(prompt: str, attempt: int) -> str:
        fault = prompt.partition("|")[0]
        if fault.startswith("always"):
            return fault.removeprefix("always ")
        return fault if attempt <= 2 or fault in ("filtered", "filtered text", "long") else "answer"

    wanted = requests(texts)
    with serving(Faulty(plan)) as faulty:
        given = list(engine(faulty).complete([Task("t", tuple(wanted), PLAIN)], never))
        tries, when = faulty.tries, faulty.when
    ids = Counter(c.completion_id for _, c in given)
    assert set(ids.values()) == {1}
    assert set(ids) == {r.completion_id for r in wanted}
    by_id = {c.completion_id: c for _, c in given}
    tally: Counter[tuple[str, str]] = Counter()
    for request in wanted:
        made = by_id[request.completion_id]
        fault = request.text.partition("|")[0].strip() or "empty"
        outcome = made.reason if made.status == "failed" else "completed"
        tally[fault, outcome] += 1
        assert made.text == (answer_to(request.text) if made.status == "completed" else "")
    assert tally == dict.fromkeys(FAULTS.items(), 6)
    assert tries["always 500|0"] == 3
    waits = [when[p][1] - when[p][0] for p in when if p.startswith("429|")]
    assert min(waits) >= 0.3  # as Retry-After says


def test_no_more_requests_than_asked_for_are_on_their_way() -> None:
    with serving(Faulty(lambda prompt, attempt: time.sleep(0.02) or "answer")) as faulty:
        generate(engine(faulty, concurrency=3), requests([f"p{n}" for n in range(30)]), PLAIN)
    assert faulty.most == 3


def never(task: Task, error: UserError) -> None:
    raise AssertionError(error)


def test_settings_reach_the_server() -> None:
    with serving(Faulty()) as faulty:
        generate(engine(faulty), requests(["one"]), Sampling(5, 0.3, 0.9, ("\n",)))
        chat = requests(["x"], messages=(("system", "be brief"), ("user", "two")))
        generate(engine(faulty, endpoint="chat"), chat, PLAIN)
    plain = next(b for b in faulty.bodies if b.get("prompt") == "one")
    assert (plain["max_tokens"], plain["temperature"], plain["top_p"], plain["stop"]) == (
        5,
        0.3,
        0.9,
        ["\n"],
    )
    assert plain["seed"] == requests(["one"])[0].seed % 2**31
    spoken = faulty.bodies[-1]["messages"]
    assert spoken == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "two"}]


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_the_distribution_over_answers_is_read_where_the_server_has_it(endpoint: str) -> None:
    options = tuple(f" {n}" for n in range(1, 7))
    with serving(Faulty()) as faulty:
        made = generate(engine(faulty, endpoint=endpoint), requests(["one"], options=options), PLAIN)[0]
    assert made.options == pytest.approx((0, 0.4966, 0, 0, 0.4066, 0), abs=1e-4)
    with serving(Faulty(logprobs=False)) as faulty:
        made = generate(engine(faulty, endpoint=endpoint), requests(["one"], options=options), PLAIN)[0]
    assert made.status == "completed"
    assert made.options == ()


def test_adapters_are_loaded_named_by_content_and_unloaded(tmp_path: Path) -> None:
    folders = [tmp_path / f"hash{n}" for n in range(12)]
    with serving(Faulty()) as faulty:
        tasks = [Task(f.name, tuple(requests([f"p{f.name}"])), PLAIN, f) for f in folders]
        made = list(engine(faulty, load_adapters=True).complete(tasks, never))
    assert {c.text for _, c in made} == {answer_to(f"p{f.name}", f"unharm-{f.name}") for f in folders}
    assert faulty.loads.count("load_lora_adapter unharm-hash3") == 1
    assert faulty.adapters == {}
    assert len([x for x in faulty.loads if x.startswith("unload")]) == 12


def test_a_served_adapter_without_effect_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(servers, "answer_to", lambda prompt, model="": "always this")
    refused: list[str] = []
    with serving(Faulty()) as faulty:
        task = Task("t", tuple(requests(["p"])), PLAIN, tmp_path / "a")
        made = list(
            engine(faulty, load_adapters=True).complete([task], lambda t, e: refused.append(str(e)))
        )
    assert made == []
    assert "changes nothing" in refused[0]


def problem(server: OpenAIEngine) -> str:
    with pytest.raises(UserError) as error:
        generate(server, requests(["one"]), PLAIN)
    return str(error.value)


def test_what_is_wrong_with_a_server_is_told(monkeypatch: Any) -> None:
    free = socket.socket()
    free.bind(("127.0.0.1", 0))
    nowhere = Faulty(url=f"http://127.0.0.1:{free.getsockname()[1]}/v1")
    free.close()
    assert "no server answers" in problem(engine(nowhere))
    with serving(Faulty(key="right-key")) as faulty:
        assert "wants a key" in problem(engine(faulty))
        monkeypatch.setenv("MY_KEY", "a-wrong-key")
        told = problem(engine(faulty, key="MY_KEY"))
        assert "MY_KEY" in told
        assert "a-wrong-key" not in told
        monkeypatch.setenv("MY_KEY", "right-key")
        assert generate(engine(faulty, key="MY_KEY"), requests(["one"]), PLAIN)[0].status == "completed"
        with pytest.raises(UserError, match="OTHER_KEY is not set"):
            engine(faulty, key="OTHER_KEY")
    with serving(Faulty()) as faulty:
        told = problem(engine(faulty, model="smal"))
        assert "does not know the model 'smal'" in told
        assert "'small'" in told
        assert "no OpenAI-compatible server" in problem(engine(Faulty(url=web_page(faulty)), attempts=1))


def web_page(faulty: Faulty) -> str:
    faulty.plan = lambda prompt, attempt: "truncated"
    return faulty.url


def test_a_server_that_goes_away_stops_the_run_and_loses_nothing() -> None:
    texts = [f"p{n}" for n in range(200)]
    with serving(Faulty()) as faulty:
        faulty.plan = lambda prompt, attempt: "cut" if len(faulty.tries) > 60 else "answer"
        given: list[Completion] = []
        coming = engine(faulty, attempts=1).complete([Task("t", tuple(requests(texts)), PLAIN)], never)
        with pytest.raises(UserError, match="stopped answering"):
            given.extend(made for _, made in coming)
    assert sum(c.status == "completed" for c in given) >= 50
    assert len({c.completion_id for c in given}) == len(given) < 200


def test_the_base_and_adapters_are_never_on_their_way_to_one_server_together(tmp_path: Path) -> None:
    on_their_way: Counter[bool] = Counter()
    together: list[bool] = []

    def plan(prompt: str, attempt: int) -> str:
        adapted = prompt.startswith("adapter")
        on_their_way[adapted] += 1
        together.append(on_their_way[True] > 0 and on_their_way[False] > 0)
        time.sleep(0.02)
        on_their_way[adapted] -= 1
        return "answer"

    folders = [None, tmp_path / "a", None, tmp_path / "b"]
    tasks = [
        Task(str(n), tuple(requests([f"{'adapter' if f else 'base'} {n} {k}" for k in range(6)])), PLAIN, f)
        for n, f in enumerate(folders)
    ]
    with serving(Faulty(plan)) as faulty:
        made = list(engine(faulty, load_adapters=True).complete(tasks, never))
    assert len(made) == 24
    assert not any(together)


def test_a_server_that_comes_back_gets_what_was_on_its_way_and_its_adapters_again(tmp_path: Path) -> None:
    texts = [f"p{n}" for n in range(60)]
    with serving(Faulty()) as faulty:

        def plan(prompt: str, attempt: int) -> str:
            if prompt in ("p20", "p40") and attempt == 1:  # the server is started again
                faulty.adapters.clear()
            return "answer"

        faulty.plan = plan
        task = Task("t", tuple(requests(texts)), PLAIN, tmp_path / "hash1")
        made = list(engine(faulty, load_adapters=True, concurrency=4).complete([task], never))
    assert sorted(c.text for _, c in made) == sorted(answer_to(t, "unharm-hash1") for t in texts)
    assert faulty.loads.count("load_lora_adapter unharm-hash1") >= 2


def test_several_servers_share_the_work_and_one_may_go_away() -> None:
    texts = [f"p{n}" for n in range(80)]
    slow = lambda prompt, attempt: time.sleep(0.01) or "answer"  # noqa: E731
    with serving(Faulty(slow)) as one:
        with serving(Faulty(slow)) as other:
            both = engine(one, urls=[other.url], concurrency=2)
            tasks = [Task(str(n), tuple(requests(texts[n::8])), PLAIN) for n in range(8)]
            made = list(both.complete(tasks, never))
            assert len(made) == 80
            assert min(len(one.tries), len(other.tries)) > 10
            answers = both.complete(tasks, never)
            first = [next(answers) for _ in range(5)]
        rest = list(answers)
    assert len({c.prompt_id + t.name for t, c in first + rest}) == 80
    assert {c.status for _, c in first + rest} == {"completed"}

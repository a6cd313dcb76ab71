"""Judging with batch files of an OpenAI-compatible service, at half price: write, submit, collect."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai

from unharm.core.errors import UserError
from unharm.core.files.yaml_text import read_text
from unharm.core.hashing import slug
from unharm.runs.context import Run
from unharm.runs.stages.scores import pending, texts_of
from unharm.scoring.answer_store import Answer, key_of
from unharm.scoring.guards.served import ServedGuard
from unharm.scoring.judge import Judge
from unharm.scoring.registry import batch_service_of
from unharm.scoring.service_calls import Unreadable, client_of, parsed, trial_errors
from unharm.scoring.service_scorer import settled
from unharm.scoring.texts import Text

MOST_LINES, MOST_BYTES = 50_000, 150_000_000
"""Limits of a service for one file."""
DISCOUNT = 0.5
"""Price of a batch request as a share of the normal price."""
ENDED = ("completed", "expired", "cancelled", "failed")


def write(run: Run, name: str) -> dict[str, Any]:
    """Write batch files for all texts without a verdict. Files that were not submitted are replaced.

    Returns:
        The files, the number of requests and the most that they can cost.
    """
    service = batch_service_of(run.scorers, name)
    state = _state(run, name)
    taken = {request for file in state["files"] if file.get("batch") for request in file["requests"]}
    state["files"] = [file for file in state["files"] if file.get("batch")]
    lines: list[str] = []
    ids: list[str] = []
    size = cost = 0.0
    asked = 0

    def flush() -> None:
        nonlocal lines, ids, size
        if lines:
            file = f"batches/{slug(name)}-{len(state['files']) + 1:04d}.jsonl"
            run.store.write_plain(file, "".join(lines))
            state["files"].append({"file": file, "requests": ids})
        lines, ids, size = [], [], 0.0

    for identity, attempt, text in _open_requests(run, name, service):
        if identity in taken:
            continue
        bodies = service.requests(text, attempt)
        block = []
        for number, body in enumerate(bodies):
            custom_id = identity if len(bodies) == 1 else f"{identity}-{number}"
            request = {
                "custom_id": custom_id,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": body,
            }
            block.append(json.dumps(request, ensure_ascii=False) + "\n")
        weight = sum(len(line.encode()) for line in block)
        if len(lines) + len(block) > MOST_LINES or size + weight > MOST_BYTES:
            flush()  # the requests of a text stay in one file
        lines += block
        ids.append(identity)
        size += weight
        cost += DISCOUNT * service.most(text)
        asked += len(bodies)
    flush()
    state["most"] = cost
    _save(run, name, state)
    written = [f["file"] for f in state["files"] if not f.get("batch")]
    return {"files": written, "requests": asked, "most_cost": round(cost, 4)}


def _open_requests(run: Run, name: str, service: Judge | ServedGuard) -> Iterator[tuple[str, int, Text]]:
    """Yield id, attempt number and text of every open request."""
    seen: set[bytes] = set()
    for part in pending(run):
        if part.scorer != name:
            continue
        texts = {key_of(service.version, *service.identity(t)): t for t in texts_of(run, part)}
        stored = run.scorers.answers.look_up(list(texts))
        for key, text in texts.items():
            answers = stored.get(key, [])
            if key not in seen and settled(service, text, answers) is None:
                seen.add(key)
                yield f"{key.hex()}-{len(answers) + 1}", len(answers) + 1, text


def submit(run: Run, name: str) -> dict[str, Any]:
    """Submit the written files. The batch id of each file is stored at once.

    Raises:
        UserError: No file is waiting, or the files could exceed max_cost.
    """
    service = batch_service_of(run.scorers, name)
    state = _state(run, name)
    waiting = [file for file in state["files"] if not file.get("batch")]
    if not waiting:
        raise UserError("no file is waiting", str(run.store.root), "write them first: unharm batch write")
    limit = getattr(service.spec, "max_cost", None)
    _, spent = run.scorers.answers.spent(service.version)
    if limit is not None and spent + state["most"] > limit:
        raise UserError(
            f"these files could cost {state['most']:.2f}, with {spent:.2f} spent, of {limit:.2f}",
            f"scorers.{name}.max_cost",
            "raise it with --set, or judge a sample",
        )
    client = client_of(service.server, f"scorers.{name}.server")
    with trial_errors(service.server, f"scorers.{name}"):
        for file in waiting:
            content = (run.store.root / file["file"]).read_bytes()
            uploaded = client.files.create(file=(Path(file["file"]).name, content), purpose="batch")
            batch = client.batches.create(
                input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            file["batch"] = batch.id
            _save(run, name, state)
    return {"submitted": [file["batch"] for file in waiting]}


def collect(run: Run, name: str, results: Path | None = None) -> dict[str, Any]:
    """Store the answers of ended batches, or of a file with results.

    Returns:
        The counts of stored answers (`kept`), failed requests (`failed`) and open batches (`waiting`).
    """
    service = batch_service_of(run.scorers, name)
    if results is not None:
        text = read_text(results, "results of a batch")
        return {"kept": 0, "failed": 0, "waiting": 0} | _take(run, service, text.splitlines(), str(results))
    state = _state(run, name)
    client = client_of(service.server, f"scorers.{name}.server")
    counts = {"kept": 0, "failed": 0, "waiting": 0}
    for file in state["files"]:
        if not file.get("batch") or file.get("collected"):
            continue
        with trial_errors(service.server, f"scorers.{name}"):
            batch = client.batches.retrieve(file["batch"])
            if batch.status not in ENDED:
                counts["waiting"] += 1
                continue
            for file_id in (batch.output_file_id, batch.error_file_id):
                if file_id:
                    lines = client.files.content(file_id).text.splitlines()
                    for outcome, count in _take(run, service, lines, file["batch"]).items():
                        counts[outcome] += count
        file["collected"] = True
        file["requests"] = []  # failed requests may be written again
        _save(run, name, state)
    return counts


def _take(run: Run, service: Judge | ServedGuard, lines: Iterable[str], where: str) -> dict[str, int]:
    """Store the answers of result lines, all or none of them, and count them."""
    by_text: dict[tuple[bytes, int], dict[int, Any]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            key, attempt, *question = data["custom_id"].split("-")
            position = bytes.fromhex(key), int(attempt)
            place = int(question[0]) if question else 0
            by_text.setdefault(position, {})[place] = dict(data.get("response") or {})
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                "not a result of a batch of this run",
                f"{where}:{number}",
                "see 'unharm batch write'",
            ) from None
    rows: list[tuple[bytes, int, str, Answer]] = []
    for position, responses in by_text.items():
        answer = _answer(service, [responses[place] for place in sorted(responses)])
        if answer is not None:
            rows.append((*position, service.version, answer))
    run.scorers.answers.put_all(rows)
    return {"kept": len(rows), "failed": len(by_text) - len(rows)}


def _answer(service: Judge | ServedGuard, responses: list[dict[str, Any]]) -> Answer | None:
    """Return the answer in the responses to a text, or None if a request failed."""
    bodies = [response.get("body") or {} for response in responses]
    if any("content_filter" in json.dumps(body) for body in bodies if "choices" not in body):
        return Answer("", "filtered", "content filter of the service")
    if any(response.get("status_code") != 200 for response in responses):
        return None
    completions = openai.types.chat.ChatCompletion
    try:
        answer: Answer = parsed(
            lambda: service.answer_from([completions.model_validate(body) for body in bodies])
        )
    except Unreadable:
        return None
    return replace(answer, cost=DISCOUNT * answer.cost)


def _state(run: Run, name: str) -> dict[str, Any]:
    """Return the state of a scorer's batch files: name, requests and, once submitted, the batch id."""
    text = run.store.read_plain(f"batches/{slug(name)}.json")
    state: dict[str, Any] = json.loads(text) if text else {"files": [], "most": 0.0}
    return state


def _save(run: Run, name: str, state: dict[str, Any]) -> None:
    """Store the state of a scorer's batch files."""
    run.store.write_plain(f"batches/{slug(name)}.json", json.dumps(state, indent=1))

"""An OpenAI-compatible server of our own on loopback that misbehaves as it is told."""

from __future__ import annotations

import json
import math
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "small"


@dataclass
class Faulty:
    """What the server does and has seen. `plan` says what to do with a prompt at its n-th try; `tokens`, where
    given, says the tokens of a chat reply, each with its likeliest tokens and their probabilities.

    A server that `reflects` repeats the Authorization header, plain and as base64, in answers and errors. With
    the plan "away" it redirects to `target`.
    """

    plan: Callable[[str, int], str] = lambda prompt, attempt: "answer"
    says: Callable[[dict[str, Any], str], str] = lambda body, prompt: answer_to(prompt, body["model"])
    key: str = ""
    slow: float = 1.0
    logprobs: bool = True
    tokens: Callable[[dict[str, Any]], list[tuple[str, dict[str, float]]]] | None = None
    reflects: bool = False
    target: str = ""
    url: str = ""
    tries: Counter[str] = field(default_factory=Counter)
    when: dict[str, list[float]] = field(default_factory=dict)
    going: int = 0
    most: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    adapters: dict[str, str] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    guard: threading.Lock = field(default_factory=threading.Lock)


def answer_to(prompt: str, model: str = MODEL) -> str:
    return f" answer of {model} to {prompt}"


def text_of(message: dict[str, Any]) -> str:
    """The text of a chat message, whose content is a text or a list of parts."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def listed(tokens: list[tuple[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """Tokens as the chat form lists their logprobs."""
    return [
        {
            "token": text, "logprob": math.log(likely[text]), "bytes": None,
            "top_logprobs": [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in likely.items()],
        }
        for text, likely in tokens
    ]  # fmt: skip


@contextmanager
def serving(faulty: Faulty) -> Iterator[Faulty]:
    """The server on a free port; `faulty.url` is where."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def reply(self, status: int, data: Any, **headers: str) -> None:
            body = data if isinstance(data, bytes) else json.dumps(data).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def reflected(self) -> str:
            header = self.headers.get("Authorization", "")
            if not faulty.reflects:
                return ""
            coded = [b64encode(text.encode()).decode() for text in (header, header.removeprefix("Bearer "))]
            return f" {header} {' '.join(coded)}"

        def allowed(self) -> bool:
            if faulty.key and self.headers.get("Authorization") != f"Bearer {faulty.key}":
                told = self.headers.get("Authorization")
                self.reply(401, {"error": {"message": f"wrong key {told}", "code": "invalid_api_key"}})
                return False
            return True

        def do_GET(self) -> None:
            if self.allowed():
                self.reply(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not self.allowed():
                return
            if self.path.endswith("load_lora_adapter"):
                self.adapter(body)
                return
            with faulty.guard:
                faulty.going += 1
                faulty.most = max(faulty.most, faulty.going)
            try:
                self.complete(body)
            finally:
                with faulty.guard:
                    faulty.going -= 1

        def adapter(self, body: dict[str, Any]) -> None:
            name = body["lora_name"]
            faulty.loads.append(f"{self.path.rsplit('/', 1)[1]} {name}")
            if "unload" in self.path:
                faulty.adapters.pop(name, None)
            else:
                faulty.adapters[name] = body["lora_path"]
            self.reply(200, "Success")

        def complete(self, body: dict[str, Any]) -> None:
            chat = "messages" in body
            prompt = text_of(body["messages"][-1]) if chat else body["prompt"]
            with faulty.guard:
                faulty.bodies.append(body)
                faulty.tries[prompt] += 1
                attempt = faulty.tries[prompt]
                faulty.when.setdefault(prompt, []).append(time.monotonic())
            if body["model"] != MODEL and body["model"] not in faulty.adapters:
                self.reply(404, {"error": {"message": "no such model", "code": "model_not_found"}})
                return
            if body.get("logprobs") and not faulty.logprobs:
                self.reply(400, {"error": {"message": "logprobs are not supported"}})
                return
            self.act(faulty.plan(prompt, attempt), body, prompt, chat)

        def act(self, what: str, body: dict[str, Any], prompt: str, chat: bool) -> None:
            text = faulty.says(body, prompt) + self.reflected()
            reply = completion(body, text, chat)
            if faulty.tokens and body.get("logprobs"):
                reply["choices"][0]["logprobs"] = {"content": listed(faulty.tokens(body))}
            good = json.dumps(reply).encode()
            if what == "429":
                self.reply(429, {"error": {"message": "slow down"}}, Retry_After="0.3")
            elif what == "500":
                self.reply(500, {"error": {"message": f"broken at {prompt}{self.reflected()}"}})
            elif what == "away":
                self.reply(307, {"error": {"message": self.reflected()}}, Location=faulty.target)
            elif what == "slow":
                time.sleep(faulty.slow)
                self.reply(200, good)
            elif what == "cut":
                self.send_response(200)
                self.send_header("Content-Length", str(len(good)))
                self.end_headers()
                self.wfile.write(good[: len(good) // 2])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)
            elif what == "truncated":
                self.reply(200, good[: len(good) // 2])
            elif what == "no choice":
                self.reply(200, {"choices": []})
            elif what == "filtered":
                self.reply(400, {"error": {"message": "no", "code": "content_filter"}})
            elif what == "filtered text":
                self.reply(200, completion(body, text, chat, "content_filter"))
            elif what == "long":
                self.reply(400, {"error": {"message": "x", "code": "context_length_exceeded"}})
            else:
                self.reply(200, good)

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that hung up is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    faulty.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield faulty
    finally:
        server.shutdown()
        server.server_close()


def completion(body: dict[str, Any], text: str, chat: bool, finish: str = "length") -> dict[str, Any]:
    likely = {" 2": -0.7, " 5": -0.9, "x": -3.0}
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
    if chat:
        choice["message"] = {"role": "assistant", "content": text}
        if body.get("logprobs"):
            tops = [{"token": t, "logprob": p, "bytes": None} for t, p in likely.items()]
            choice["logprobs"] = {"content": [tops[0] | {"top_logprobs": tops}]}
    else:
        choice["text"] = text
        if body.get("logprobs"):
            choice["logprobs"] = {"tokens": [" 2"], "token_logprobs": [-0.7], "top_logprobs": [likely]}
    return {
        "id": "x", "object": "chat.completion" if chat else "text_completion", "created": 0,
        "model": body["model"], "choices": [choice],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }  # fmt: skip

"""Have a server load adapters while it runs."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable

import openai

from unharm.core.errors import UserError
from unharm.engines.requests import Task
from unharm.engines.server_answers import ServerAnswer
from unharm.engines.settings import Server

IDLE_LIMIT = 8
"""Number of idle adapters that stay loaded on a server."""
LOAD_WAIT = 1.0
"""Seconds before the first retry of a load that failed. Doubles with each retry."""


class AdapterRefused(UserError):
    """The adapter does not fit the server's base, or changes nothing."""


class ServerSilent(Exception):
    """The server does not answer."""


class ServedAdapters:
    """Adapters that a server loads through `/load_lora_adapter` (vLLM), named by their content."""

    def __init__(
        self, server: Server, url: str, client: openai.OpenAI, probe: Callable[[str], ServerAnswer]
    ):
        self.server, self.url, self.client, self.probe = server, url, client, probe
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._asked: Counter[str] = Counter()
        self._checked: set[str] = set()
        self._plain: ServerAnswer | None = None

    def name(self, task: Task) -> str:
        """Return the model name of a task's adapter on the server; empty for the plain base."""
        return f"unharm-{task.adapter.name}" if task.adapter else ""

    def load(self, task: Task) -> None:
        """Have the server load the adapter of a task, and check once that it changes the answers. Count one
        request of the task as sent.

        Raises:
            AdapterRefused: The server cannot load the adapter, or it changes nothing.
            ServerSilent: The server does not answer.
            UserError: The server loads no adapters.
        """
        name = self.name(task)
        if not name:
            return
        if name not in self._loaded:
            self._load(name, str(task.adapter and task.adapter.resolve()), task.name)
            self._loaded[name] = None
        self._loaded.move_to_end(name)
        if name not in self._checked:
            self._check(name, task.name)
            self._checked.add(name)
        self._asked[name] += 1
        idle = [n for n in self._loaded if not self._asked[n]]
        for old in idle[: max(0, len(self._loaded) - IDLE_LIMIT)]:
            self._unload(old)

    def note_plain(self) -> None:
        """Note what the server answers without an adapter, before any is loaded."""
        if self._plain is None:
            self._plain = self.probe("")

    def release(self, task: Task) -> None:
        """Count one request of a task as ended. An adapter without requests may be unloaded."""
        self._asked[self.name(task)] -= 1

    def forget(self) -> None:
        """Take no adapter for loaded: the server was started again."""
        self._loaded.clear()

    def unload_all(self) -> None:
        """Have the server unload all adapters."""
        for name in list(self._loaded):
            self._unload(name)

    def _check(self, name: str, label: str) -> None:
        try:
            self.note_plain()
            assert self._plain is not None
            adapted = self.probe(name)
        except openai.APIConnectionError:
            raise ServerSilent from None
        except (openai.APIStatusError, ValueError) as error:
            raise AdapterRefused(
                f"the server does not complete with the adapter ({error})", label
            ) from None
        if (adapted.text, adapted.top_tokens) == (self._plain.text, self._plain.top_tokens):
            raise AdapterRefused("the adapter changes nothing: the server answers as the base does", label)

    def _load(self, name: str, path: str, label: str) -> None:
        """Ask for an adapter until the server loads it or refuses it for its content (HTTP 400 or 422).

        A missing route (404), a server error or a broken connection says nothing about the adapter.
        """
        body, status = {"lora_name": name, "lora_path": path}, 0
        for attempt in range(self.server.attempts):
            if attempt:
                time.sleep(min(8.0, LOAD_WAIT * 2 ** (attempt - 1)))
            try:
                self.client.with_options(max_retries=0).post("/load_lora_adapter", body=body, cast_to=str)
                return
            except openai.APIStatusError as error:
                if "already" in str(error).lower():
                    return
                status = error.status_code
                if status in (400, 422):
                    raise AdapterRefused(
                        f"the server does not load the adapter (HTTP {status})",
                        label,
                        "its log says why; --max-lora-rank may be too small, or the adapter has more than "
                        "plain LoRA",
                    ) from None
            except openai.APIConnectionError:
                status = 0
        if not status:
            raise ServerSilent
        raise UserError(
            f"the server loads no adapters (HTTP {status})",
            self.url,
            "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, where it sees "
            f"{path}",
        )

    def _unload(self, name: str) -> None:
        del self._loaded[name]
        try:
            self.client.post("/unload_lora_adapter", body={"lora_name": name}, cast_to=str)
        except openai.OpenAIError:
            return  # it stays loaded, which costs only the server's memory

"""Complete prompts on OpenAI-compatible servers: vLLM, SGLang, llama.cpp, Ollama, hosted ones.

Several servers with the same model share the work: a task goes to the one with the fewest requests on their
way. A server that stops answering is waited for. What was on its way to it is sent again, to any of them.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from unharm.core import interrupt
from unharm.core.errors import UserError
from unharm.core.progress import say
from unharm.core.records import Completion
from unharm.engines.endpoint import Endpoint, Failure
from unharm.engines.requests import Refused, Request, Task, failed
from unharm.engines.server_adapters import AdapterRefused, ServerSilent
from unharm.engines.settings import Server

MAX_SILENT = 8
"""Look whether a server is still there after this many requests in a row without any answer."""
RESENDS = 5
"""Times that a request is sent again after a server that was on it has gone."""
LOSSES = 3
"""Times that a server may stop answering without a completion in between, although it seems up."""
POLL = 2.0
"""Seconds between looks at a server that does not answer."""

TaskCompletion = tuple[Task, Completion]
_Item = tuple[Task, Request]


class OpenAIEngine:
    """Completes tasks through one or several servers.

    Args:
        server: The servers and their model.
        base: The study's base, used as the model's name if the server has none.
        where: The field of the study that describes the server, for messages.
    """

    def __init__(self, server: Server, base: str, where: str):
        self.server = server
        self.endpoints = [Endpoint(server, url, base, where) for url in (server.url, *server.urls)]
        self._down: dict[Endpoint, float] = {}

    def complete(self, tasks: Iterable[Task], refused: Refused) -> Iterator[TaskCompletion]:
        """See `CompletionEngine`. Requests that were sent before an error are still answered.

        Raises:
            UserError: No server answers, or one does not know the key or the model.
        """
        for endpoint in self.endpoints:
            endpoint.check()
        self._down.clear()
        yield from _Session(self, tasks, refused).run()
        for endpoint in self.endpoints:
            endpoint.adapters.unload_all()

    # ---- which servers are there -------------------------------------------------------

    def choose(self, preferred: Endpoint | None) -> Endpoint | None:
        """Return the server for a request: the preferred one if it answers, else the least busy; None if
        all are down."""
        up = [e for e in self.endpoints if e not in self._down]
        if preferred in up:
            return preferred
        return min(up, key=lambda e: e.in_flight, default=None)

    def lost(self, endpoint: Endpoint) -> None:
        """Send nothing to a server that does not answer, until it does again."""
        if endpoint not in self._down:
            endpoint.losses += 1
            self._down[endpoint] = time.monotonic()
            if self.server.patience:
                say(f"{endpoint.url} stopped answering; waiting up to {self.server.patience:g} s for it")

    def look(self) -> None:
        """Look whether the servers that are down answer again.

        Raises:
            UserError: All servers have been down for longer than the study's patience.
        """
        for endpoint in list(self._down):
            if endpoint.losses < LOSSES and endpoint.alive():
                endpoint.adapters.forget()
                endpoint.silent = 0
                del self._down[endpoint]
                say(f"{endpoint.url} answers again")
        if len(self._down) == len(self.endpoints):
            waited = time.monotonic() - max(self._down.values())
            hopeless = all(endpoint.losses >= LOSSES for endpoint in self.endpoints)
            if hopeless or waited >= self.server.patience or interrupt.stop_requested():
                raise self.endpoints[0].gone("it stopped answering")


class _Session:
    """One call of `complete`: what is still to be sent, and what is on its way."""

    def __init__(self, engine: OpenAIEngine, tasks: Iterable[Task], refused: Refused):
        self.engine, self.refused = engine, refused
        self.upcoming = ((task, request) for task in tasks for request in task.requests)
        self.again: deque[_Item] = deque()
        self.pending: dict[Future[Completion | Failure], tuple[Endpoint, Task, Request]] = {}
        self.places: dict[str, Endpoint] = {}
        self.left_out: set[str] = set()
        self.sent_again: Counter[str] = Counter()
        self.stop: UserError | None = None
        self.looked = time.monotonic()
        self.most = engine.server.concurrency * len(engine.endpoints)

    def run(self) -> Iterator[TaskCompletion]:
        """Yield completions until all requests have been answered, or nothing can go on."""
        pool = ThreadPoolExecutor(self.most)
        try:
            while True:
                self._fill(pool)
                if not self.pending and not self.again:
                    break
                if not self.pending:
                    if self.stop:
                        break
                    time.sleep(min(POLL, max(0.01, self.engine.server.patience / 10)))
                else:
                    done = wait(self.pending, timeout=POLL, return_when=FIRST_COMPLETED).done
                    yield from self._collect(done)
                self._look()
                if self.stop:  # do not send what is still waiting
                    self.pending = {f: sent for f, sent in self.pending.items() if not f.cancel()}
            if self.stop:
                raise self.stop
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> None:
        """Look at servers that are down, every few seconds."""
        if self.engine.choose(None) is not None and time.monotonic() - self.looked < POLL:
            return
        self.looked = time.monotonic()
        try:
            self.engine.look()
        except UserError as error:
            self.stop = self.stop or error

    def _fill(self, pool: ThreadPoolExecutor) -> None:
        """Send requests while there is room; have their adapters loaded before."""
        while self.stop is None and len(self.pending) < 2 * self.most:
            if (endpoint := self.engine.choose(None)) is None:
                return
            item = self.again.popleft() if self.again else next(self.upcoming, None)
            if item is None:
                return
            task, request = item
            if task.name in self.left_out:
                continue
            endpoint = self.engine.choose(self.places.get(task.name)) or endpoint
            if not endpoint.accepts(task):
                self.again.appendleft(item)
                return
            self.places[task.name] = endpoint
            try:
                endpoint.adapters.load(task)
            except ServerSilent:
                self.engine.lost(endpoint)
                self.again.appendleft(item)
                continue
            except AdapterRefused as error:
                self.left_out.add(task.name)
                self.refused(task, error)
                continue
            except UserError as error:
                self.stop = error
                return
            endpoint.in_flight += 1
            endpoint.adapted = task.adapter is not None
            self.pending[pool.submit(endpoint.answer, task, request)] = endpoint, task, request

    def _collect(self, done: Iterable[Future[Completion | Failure]]) -> Iterator[TaskCompletion]:
        """Yield what has been answered; put back what a server that is gone was on."""
        for future in done:
            endpoint, task, request = self.pending.pop(future)
            endpoint.in_flight -= 1
            endpoint.adapters.release(task)
            if task.name in self.left_out:
                continue
            try:
                result = future.result()
            except UserError as error:
                self.stop = self.stop or error
                continue
            if isinstance(result, Completion):
                endpoint.silent = endpoint.losses = 0
                yield task, result
            elif not self._put_back(endpoint, task, request, result):
                yield task, failed(request, result.reason)

    def _put_back(self, endpoint: Endpoint, task: Task, request: Request, failure: Failure) -> bool:
        """Return whether a request that failed is sent again, because its server is gone or was started
        again."""
        endpoint.silent = endpoint.silent + 1 if failure.silent else 0
        often_silent = endpoint.silent >= max(MAX_SILENT, self.engine.server.concurrency)
        if failure.forgotten:
            endpoint.adapters.forget()
        elif often_silent or (failure.silent and not endpoint.alive()):
            self.engine.lost(endpoint)
        else:
            return False
        self.sent_again[request.completion_id] += 1
        if self.sent_again[request.completion_id] > RESENDS:
            return False
        self.again.append((task, request))
        return True

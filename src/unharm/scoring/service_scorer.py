"""Score by a service: look up stored answers, request the others, and store each when it arrives."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Protocol

from unharm.core import interrupt
from unharm.core.errors import UserError
from unharm.core.records import Score
from unharm.scoring.answer_store import CUT, Answer, Answers, key_of
from unharm.scoring.scorer import unscored
from unharm.scoring.texts import Text

SILENT = 8
"""After this many texts in a row without any answer, the service counts as gone."""


class Unanswered(Exception):
    """A service did not answer for one text after all tries. `silent`: it sent nothing at all."""

    def __init__(self, reason: str, silent: bool = False):
        super().__init__(reason)
        self.reason, self.silent = reason, silent


class OverLimit(Exception):
    """The next request would exceed a limit of the study."""


class Service(Protocol):
    """A service that scores texts.

    Attributes:
        version: Part of the key of its answers.
        tries: Number of answers that are requested until one can be read.
        concurrency: Number of requests at the same time.
        where: The field of the spec that describes it.
    """

    version: str
    tries: int
    concurrency: int
    where: str

    def identity(self, text: Text) -> tuple[str, ...]:
        """Return the parts of a text that its answer depends on."""
        ...

    def most(self, text: Text) -> float:
        """Return the highest cost of one answer to a text."""
        ...

    def ask(self, text: Text, attempt: int, before: Callable[[], None]) -> Answer:
        """Request one answer, and call `before` before every request.

        Raises:
            Unanswered: The service did not answer.
            UserError: No request can succeed.
        """
        ...

    def read(self, text: Text, answer: Answer) -> Score | None:
        """Return the score that an answer gives, None if it cannot be read."""
        ...


@dataclass
class Limits:
    """Limits of a run folder: requests, money, requests a second. Threads may share them."""

    requests: int = 0
    spent: float = 0.0
    max_requests: int | None = None
    max_cost: float | None = None
    rate: float | None = None
    reserved: float = 0.0
    _next: float = 0.0
    _going: int = 0
    _guard: threading.Condition = field(default_factory=threading.Condition)

    def reserve(self, cost: float) -> None:
        """Reserve what an answer may cost. Wait while open requests leave no room for it.

        Raises:
            OverLimit: No request is open, and the cost is still above the limit.
        """
        with self._guard:
            while self.max_cost is not None and self.spent + self.reserved + cost > self.max_cost:
                if not self._going:
                    raise OverLimit("max_cost is reached")
                self._guard.wait()
            self.reserved += cost
            self._going += 1

    def settle(self, cost: float, paid: float) -> None:
        """Release a reserved cost, and count `paid` as spent."""
        with self._guard:
            self.reserved -= cost
            self._going -= 1
            self.spent += paid
            self._guard.notify_all()

    def request(self) -> None:
        """Wait for the turn of a request. Raise `OverLimit` if none is left."""
        with self._guard:
            if self.max_requests is not None and self.requests >= self.max_requests:
                raise OverLimit("max_requests is reached")
            self.requests += 1
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + (1 / self.rate if self.rate else 0.0)
        if turn > now:
            time.sleep(turn - now)


@dataclass
class ServiceScorer:
    """A scorer that asks a service. `tally` counts the texts of this process by their status."""

    service: Service
    answers: Answers
    limits: Limits
    tally: Counter[str] = field(default_factory=Counter)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, texts: Sequence[Text]) -> list[Score]:
        """Return one score per text, in order. Equal texts are requested once.

        Raises:
            UserError: The service does not answer, or rejects the key or the model. Answers that arrived
                are stored.
        """
        service = self.service
        keys = [key_of(service.version, *service.identity(t)) for t in texts]
        stored = self.answers.look_up([*dict.fromkeys(keys)])
        by_key: dict[bytes, Score] = {}
        missing: dict[bytes, tuple[Text, list[Answer]]] = {}
        for key, text in zip(keys, texts, strict=True):
            if key in by_key or key in missing:
                continue
            have = stored.get(key, [])
            score = settled(service, text, have)
            if score:
                by_key[key] = score
                self.tally["stored"] += 1
            else:
                missing[key] = text, have
        for key, score in self._ask_all(missing):
            by_key[key] = score
        scores = [replace(by_key[k], completion_id=t.id) for k, t in zip(keys, texts, strict=True)]
        self.tally.update(f"texts {s.status}" for s in scores)
        return scores

    def _ask_all(self, missing: dict[bytes, tuple[Text, list[Answer]]]) -> Iterator[tuple[bytes, Score]]:
        """Request scores of several texts at a time. Stop when no request can succeed."""
        coming = iter(missing.items())
        going: dict[Future[Score], tuple[bytes, Text]] = {}
        stop: UserError | None = None
        over = ""
        silent = 0
        pool = ThreadPoolExecutor(self.service.concurrency)
        try:
            while True:
                while (
                    stop is None
                    and not over
                    and not interrupt.stop_requested()
                    and len(going) < 2 * self.service.concurrency
                ):
                    some = next(coming, None)
                    if some is None:
                        break
                    key, (text, have) = some
                    going[pool.submit(self._ask, key, text, have)] = key, text
                if not going:
                    break
                for future in wait(going, return_when=FIRST_COMPLETED).done:
                    key, text = going.pop(future)
                    try:
                        yield key, future.result()
                        silent = 0
                    except Unanswered as error:
                        silent = silent + 1 if error.silent else 0
                        yield key, unanswered(text, error.reason)
                    except OverLimit as error:
                        over = str(error)
                        yield key, unanswered(text, over)
                    except UserError as error:
                        stop = stop or error
                if silent >= max(SILENT, self.service.concurrency):
                    stop = stop or UserError(
                        "the service stopped answering", self.service.where, "the same command goes on"
                    )
                if stop:
                    going = {f: asked for f, asked in going.items() if not f.cancel()}
            if stop:
                raise stop
            if interrupt.stop_requested():
                raise interrupt.Stopped
            for key, (text, _) in coming:
                yield key, unanswered(text, over)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, key: bytes, text: Text, have: list[Answer]) -> Score:
        """Request answers until one can be read, and store each at once."""
        service = self.service
        for attempt in range(len(have) + 1, service.tries + 1):
            most = service.most(text)
            self.limits.reserve(most)
            paid = 0.0
            try:
                answer = service.ask(text, attempt, self.limits.request)
                paid = answer.cost
                self.answers.put(key, attempt, service.version, answer)
            finally:
                self.limits.settle(most, paid)
            with self._guard:
                self.tally["asked"] += 1
            have = [*have, answer]
            score = settled(service, text, have)
            if score:
                return score
        raise AssertionError("the last try settles")

    def summary(self) -> str:
        """Return the number of texts by status, in one line."""
        counts = {
            name.removeprefix("texts "): n for name, n in self.tally.items() if name.startswith("texts ")
        }
        parts = [f"{n:,} {name}" for name, n in sorted(counts.items(), key=lambda x: -x[1])]
        spent = f", {self.limits.spent:.4f} spent in all" if self.limits.spent else ""
        models = self.answers.models(self.service.version)
        by = f", answered by {', '.join(models[:5])}" if models else ""
        return (
            f"{sum(counts.values()):,} texts: {', '.join(parts)}; "
            f"{self.tally['asked']:,} answers asked for, {self.tally['stored']:,} were there{spent}{by}"
        )


def settled(service: Service, text: Text, have: list[Answer]) -> Score | None:
    """Return the score that the answers so far give. None if there is none and another try is left."""
    for answer in have:
        if answer.kind == "filtered":
            return Score(text.id, None, "", "filtered", answer.reason or "content filter", answer.raw)
        if answer.kind == "unscorable":
            return unscored(text, answer.reason, answer.raw)
        if answer.kind == "refused":
            return Score(text.id, None, "", "refused", "the judge refused", answer.raw)
        score = service.read(text, answer)
        if score:
            return score
    if len(have) >= service.tries:
        why = f", the last one {CUT}" if have[-1].reason == CUT else ""
        return unscored(text, f"no verdict in {len(have)} answers{why}", have[-1].raw)
    return None


def unanswered(text: Text, reason: str) -> Score:
    """Return the score of a text that a service did not answer."""
    return Score(text.id, None, "", "unanswered", reason)

"""Complete prompts on any OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, hosted ones.

The openai library retries with backoff and jitter and follows Retry-After. This module also retries
responses that are not JSON or have no choice, which the library does not.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import openai

from unharm.core.connection import api_key, error_code, exceeds_context, refused_by_filter
from unharm.core.errors import UserError, nearest
from unharm.core.records import Completion
from unharm.core.redirects import guarded_client, leads_away, redirected
from unharm.engines.requests import (
    EMPTY,
    FILTERED,
    PROBE,
    TOO_LONG,
    Refused,
    Request,
    Sampling,
    Task,
    failed,
)
from unharm.engines.server_adapters import ServedAdapters, ServerAnswer, read_answer
from unharm.engines.settings import Server

TOP_LOGPROBS = 5
"""Most likely tokens to ask for at each place: the most that all servers give."""
WAIT = 0.5
"""Seconds before the first retry of an unreadable answer. Doubles with each retry."""
MAX_SILENT = 8
"""Treat the server as gone after this many requests in a row without any answer."""

TaskCompletion = tuple[Task, Completion]


@dataclass(frozen=True)
class Failure:
    """Why a request has no completion. `silent` if the server did not answer at all."""

    reason: str
    silent: bool = False


class OpenAIEngine:
    """Completes tasks through a server.

    Args:
        server: The server and its model.
        base: The study's base, used as the model's name if the server has none.
        where: The field of the study that describes the server, for messages.
    """

    def __init__(self, server: Server, base: str, where: str):
        self.server, self.where = server, where
        self.model = server.model or base
        self.client = openai.OpenAI(
            base_url=server.url,
            api_key=api_key(server, where),
            max_retries=server.attempts - 1,
            timeout=server.timeout,
            http_client=guarded_client(server.timeout),
        )
        self.adapters = ServedAdapters(server, self.client, lambda name: self._probe(name or self.model))
        self.logprobs = True

    def complete(self, tasks: Iterable[Task], refused: Refused) -> Iterator[TaskCompletion]:
        """See `CompletionEngine`. Requests that were sent before an error are still answered.

        Raises:
            UserError: The server does not answer, or does not know the key or the model.
        """
        self._check_server()
        upcoming = self._requests(tasks, refused)
        pending: dict[Future[Completion | Failure], tuple[Task, Request]] = {}
        stop: UserError | None = None
        silent = 0
        pool = ThreadPoolExecutor(self.server.concurrency)
        try:
            while True:
                while stop is None and len(pending) < 2 * self.server.concurrency:
                    asked_next = next(upcoming, None)
                    if asked_next is None:
                        break
                    pending[pool.submit(self._answer, *asked_next)] = asked_next
                if not pending:
                    break
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    task, request = pending.pop(future)
                    self.adapters.release(task)
                    try:
                        result = future.result()
                    except UserError as error:
                        stop = stop or error
                        continue
                    silent = silent + 1 if isinstance(result, Failure) and result.silent else 0
                    if isinstance(result, Failure):
                        result = failed(request, result.reason)
                    yield task, result
                if silent >= max(MAX_SILENT, self.server.concurrency):
                    stop = stop or self._gone("it stopped answering")
                if stop:  # do not send what is still waiting
                    pending = {f: asked for f, asked in pending.items() if not f.cancel()}
            if stop:
                raise stop
            self.adapters.unload_all()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _requests(self, tasks: Iterable[Task], refused: Refused) -> Iterator[tuple[Task, Request]]:
        """Yield the requests of all tasks whose adapter the server can load."""
        for task in tasks:
            try:
                self.adapters.load(task)
            except UserError as error:
                refused(task, error)
                continue
            for request in task.requests:
                yield task, request

    # ---- one request -------------------------------------------------------------------

    def _answer(self, task: Task, request: Request) -> Completion | Failure:
        """Send one request.

        Raises:
            UserError: No request can succeed.
        """
        if not request.text.strip():
            return Failure(EMPTY)
        try:
            model = self.adapters.name(task) or self.model
            answer = self._ask(model, request, task.sampling, bool(request.options) and self.logprobs)
        except openai.APIStatusError as error:
            return self._failure_of(error)
        except openai.APITimeoutError:
            return Failure(f"server: no answer within {self.server.timeout:g} s", silent=True)
        except openai.APIConnectionError:
            return Failure("server: the connection broke", silent=True)
        except (ValueError, openai.APIResponseValidationError):
            return Failure("server: an answer that cannot be read")
        if answer.finish == "content_filter":
            return Failure(FILTERED)
        finish = "length" if answer.finish == "length" else "stop" if task.sampling.stop else "end"
        return Completion(
            request.completion_id, request.prompt_id, request.sample, answer.text, finish,
            answer.prompt_tokens, answer.tokens, options=answer.options(request.options),
        )  # fmt: skip

    def _ask(self, model: str, request: Request, sampling: Sampling, logprobs: bool) -> ServerAnswer:
        """Return one answer.

        Raises:
            ValueError: All attempts gave unreadable answers.
            openai.OpenAIError: The server refused, or the connection broke.
        """
        settings: dict[str, Any] = {
            "model": model,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request.short_seed,
        }
        if sampling.stop:
            settings["stop"] = list(sampling.stop)
        create: Callable[..., Any]
        if self.server.endpoint == "chat":
            chat = request.messages or (("user", request.text),)
            settings["messages"] = [{"role": role, "content": content} for role, content in chat]
            settings |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if logprobs else {}
            create = self.client.chat.completions.create
        else:
            settings["prompt"] = request.text
            settings |= {"logprobs": TOP_LOGPROBS} if logprobs else {}
            create = self.client.completions.create
        for attempt in range(1, self.server.attempts + 1):
            try:
                return read_answer(create(**settings))
            except (ValueError, openai.APIResponseValidationError):
                if attempt == self.server.attempts:
                    raise
                time.sleep(min(16, 2**attempt) * WAIT * random.uniform(0.75, 1))
        raise AssertionError("unreachable")

    def _failure_of(self, error: openai.APIStatusError) -> Failure:
        """Return the failure of this one request.

        The text of the server is not repeated, because it may quote the prompt or the key.

        Raises:
            UserError: Every request would fail the same way.
        """
        code = error_code(error)
        if leads_away(error.status_code):
            raise redirected(self.where)
        if error.status_code in (401, 403):
            raise self._wrong_key()
        if error.status_code == 404:
            raise self._unknown_model()
        if code == "insufficient_quota":
            raise UserError(
                "the quota of this key is used up", self.where, "run the same command again later"
            )
        if refused_by_filter(error):
            return Failure(FILTERED)
        if exceeds_context(error):
            return Failure(TOO_LONG)
        return Failure(f"server: HTTP {error.status_code} {code}".strip())

    # ---- the server as a whole ---------------------------------------------------------

    def _check_server(self) -> None:
        """Send one harmless request, and note whether the server gives token probabilities.

        Raises:
            UserError: The server cannot be used.
        """
        try:
            self._probe(self.model)
        except (openai.AuthenticationError, openai.PermissionDeniedError):
            raise self._wrong_key() from None
        except openai.NotFoundError:
            raise self._unknown_model() from None
        except openai.APIConnectionError as error:
            raise self._gone(type(error.__cause__ or error).__name__) from None
        except openai.APIStatusError as error:
            if leads_away(error.status_code):
                raise redirected(self.where) from None
            if self._unknown(error):
                raise self._unknown_model() from None
            raise UserError(
                f"the server refuses a harmless request (HTTP {error.status_code}): {str(error)[:300]}",
                self.where,
                "check the model and the endpoint",
            ) from None
        except ValueError:
            raise UserError(
                "what answers there is no OpenAI-compatible server",
                f"{self.where}, {self.server.url}",
                "the URL usually ends with /v1",
            ) from None

    def _probe(self, model: str) -> ServerAnswer:
        """Return the answer to a harmless request; without token probabilities if the server refuses
        them."""
        request = Request("", "", 0, PROBE, 1, messages=(("user", PROBE),))
        for logprobs in (True, False) if self.logprobs else (False,):
            try:
                answer = self._ask(model, request, Sampling(8, 0.0, 1.0), logprobs)
                self.logprobs = logprobs
                return answer
            except (openai.BadRequestError, openai.UnprocessableEntityError):
                if not logprobs:
                    raise
        raise AssertionError("unreachable")

    def _unknown(self, error: openai.APIStatusError) -> bool:
        """Return whether the server may be refusing an unknown model: it has a list without it."""
        names = self._names()
        return error.status_code in (400, 422, 500) and bool(names) and self.model not in names

    def _names(self) -> list[str]:
        """Return the names of the models on the server; empty if it has no list."""
        try:
            return [m.id for m in self.client.with_options(max_retries=0).models.list().data]
        except (openai.OpenAIError, ValueError, TypeError, AttributeError):
            return []

    def _unknown_model(self) -> UserError:
        """Return the error for a model that the server does not know."""
        names = self._names()
        remedy = nearest(self.model, names[:20]) if names else "check the model's name and the URL"
        return UserError(f"the server does not know the model {self.model!r}", self.where, remedy)

    def _wrong_key(self) -> UserError:
        """Return the error for a key that the server does not accept."""
        if self.server.key:
            message = f"the server does not accept the key in {self.server.key} for this model"
        else:
            message = "the server wants a key"
        return UserError(message, self.where, "set 'key' to the environment variable that holds it")

    def _gone(self, why: str) -> UserError:
        """Return the error for a server that does not answer."""
        return UserError(
            f"no server answers ({why})",
            f"{self.where}, {self.server.url}",
            "start it, or check the URL; the same command then resumes",
        )

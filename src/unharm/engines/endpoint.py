"""One OpenAI-compatible server: what it can do, requests to it, and what its errors mean."""

from __future__ import annotations

import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import openai

from unharm.core.connection import CONNECT, api_key, error_code, exceeds_context, refused_by_filter
from unharm.core.errors import UserError, nearest
from unharm.core.records import Completion
from unharm.core.redirects import guarded_client, leads_away, redirected
from unharm.engines.option_paths import multiply, option_paths
from unharm.engines.requests import EMPTY, FILTERED, PROBE, TOO_LONG, Request, Sampling, Task
from unharm.engines.server_adapters import ServedAdapters
from unharm.engines.server_answers import ServerAnswer, read_answer, read_next
from unharm.engines.settings import Server

TOP_LOGPROBS = (20, 5, 0)
"""Most likely tokens to ask for at each place: the first number that the server gives."""
NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "repeat_penalty": 1.0}
"""Switch off what a server would take from the model's generation settings, or from its own defaults."""
WAIT = 0.5
"""Seconds before the first retry of an unreadable answer. Doubles with each retry."""
SCORED = 4096
"""Prompts whose option probabilities are kept: the samples of a prompt share them."""


@dataclass(frozen=True)
class Failure:
    """Why a request has no completion.

    Attributes:
        reason: The reason.
        silent: Whether the server did not answer at all.
        forgotten: Whether the server does not know the adapter any more.
    """

    reason: str
    silent: bool = False
    forgotten: bool = False


class Endpoint:
    """One server.

    Args:
        server: The server and its model, as the study describes it.
        url: Where it is.
        base: The study's base, used as the model's name if the server has none.
        where: The field of the study that describes the server, for messages.
    """

    def __init__(self, server: Server, url: str, base: str, where: str):
        self.server, self.url, self.where = server, url, where
        self.model = server.model or base
        self.client = openai.OpenAI(
            base_url=url,
            api_key=api_key(server, where),
            max_retries=server.attempts - 1,
            timeout=openai.Timeout(server.timeout, connect=min(CONNECT, server.timeout)),
            http_client=guarded_client(server.timeout),
        )
        self.adapters = ServedAdapters(
            server, url, self.client, lambda name: self._probe(name or self.model)
        )
        self.logprobs = TOP_LOGPROBS[0]
        self.neutral = True
        self.in_flight = 0
        self.adapted = False
        self.silent = self.losses = 0
        self._chosen: bool | None = None if server.endpoint == "completions" else False
        self._scored: OrderedDict[tuple[str, str], tuple[float, ...]] = OrderedDict()
        self._guard = threading.Lock()

    def accepts(self, task: Task) -> bool:
        """Return whether a request may join those on their way.

        Requests to the plain base and to adapters are kept apart where the server loads adapters: vLLM on a
        CPU gives a row of the base the weights of an adapter that shares its batch, without any error.
        """
        same = self.adapted == (task.adapter is not None)
        return same or not self.in_flight or not self.server.load_adapters

    # ---- one request -------------------------------------------------------------------

    def answer(self, task: Task, request: Request) -> Completion | Failure:
        """Send one request.

        Raises:
            UserError: No request can succeed.
        """
        if not request.text.strip():
            return Failure(EMPTY)
        model = self.adapters.name(task) or self.model
        try:
            options = self._score(model, request) if request.options else ()
            wanted = self.logprobs if request.options and not options else 0
            answer = self._ask(model, request, task.sampling, wanted)
        except openai.APIStatusError as error:
            return self._failure_of(error, task)
        except openai.APITimeoutError:
            return Failure(f"server: no answer within {self.server.timeout:g} s", silent=True)
        except openai.APIConnectionError:
            return Failure("server: the connection broke", silent=True)
        except (ValueError, openai.APIResponseValidationError):
            return Failure("server: an answer that cannot be read")
        if answer.finish == "content_filter":
            return Failure(FILTERED)
        finish, tokens = answer.ended(task.sampling.stop)
        return Completion(
            request.completion_id, request.prompt_id, request.sample, answer.text, finish,
            answer.prompt_tokens, tokens, options=options or answer.options(request.options),
        )  # fmt: skip

    def _ask(self, model: str, request: Request, sampling: Sampling, logprobs: int) -> ServerAnswer:
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
        if self.neutral:
            settings["extra_body"] = NEUTRAL
        create: Callable[..., Any]
        if self.server.endpoint == "chat":
            chat = request.messages or (("user", request.text),)
            settings["messages"] = [{"role": role, "content": content} for role, content in chat]
            settings |= {"logprobs": True, "top_logprobs": logprobs} if logprobs else {}
            create = self.client.chat.completions.create
        else:
            settings["prompt"] = request.text
            settings |= {"logprobs": logprobs} if logprobs else {}
            create = self.client.completions.create
        for attempt in range(1, self.server.attempts + 1):
            try:
                return read_answer(create(**settings))
            except (ValueError, openai.APIResponseValidationError):
                if attempt == self.server.attempts:
                    raise
                time.sleep(min(16, 2**attempt) * WAIT * random.uniform(0.75, 1))
        raise AssertionError("unreachable")

    def _failure_of(self, error: openai.APIStatusError, task: Task) -> Failure:
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
            if task.adapter is not None:
                return Failure("server: it does not know the adapter", forgotten=True)
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

    # ---- options -----------------------------------------------------------------------

    def _score(self, model: str, request: Request) -> tuple[float, ...]:
        """Return the probability of each option as vLLM gives it for chosen tokens.

        Empty if the server gives none. Every option counts, however unlikely, and whatever tokens it is
        made of; nothing depends on what was sampled. Texts are not scored with `echo`: together with
        adapters that ends vLLM.
        """
        if not self._chooses():
            return ()
        at = model, request.text
        if at in self._scored:
            return self._scored[at]
        try:
            options = self._options(model, request.text, request.options)
        except (ValueError, openai.BadRequestError, openai.UnprocessableEntityError):
            return ()
        with self._guard:
            self._scored[at] = options
            if len(self._scored) > SCORED:
                self._scored.popitem(last=False)
        return options

    def _chooses(self) -> bool:
        """Return whether the server gives the probabilities of chosen tokens. Tried once."""
        with self._guard:
            if self._chosen is None:
                try:
                    self._options(self.model, PROBE, (" so", " it"))
                    self._chosen = True
                except (ValueError, TypeError, openai.APIStatusError):
                    self._chosen = False
            return self._chosen

    def _options(self, model: str, text: str, options: tuple[str, ...]) -> tuple[float, ...]:
        """Return the probability of each option after a text, over the server's own tokens."""
        prompt = self._tokens(model, text)
        answers = [self._tokens(model, text + option) for option in options]
        logs = {}
        for path, tokens in option_paths(prompt, answers).items():
            response = self.client.completions.create(
                model=model,
                prompt=list(path),
                max_tokens=1,
                temperature=0.0,
                logprobs=1,
                extra_body={"logprob_token_ids": tokens, "return_tokens_as_token_ids": True},
            )
            logs[path] = read_next(response, tokens)
        return multiply(prompt, answers, logs)

    def _tokens(self, model: str, text: str) -> list[int]:
        """Return the tokens of a text (vLLM's `/tokenize`)."""
        root = self.url.removesuffix("/v1")
        said = self.client.post(f"{root}/tokenize", body={"model": model, "prompt": text}, cast_to=object)
        if not isinstance(said, dict) or "max_model_len" not in said or not said.get("tokens"):
            raise ValueError("no tokens")
        return [int(token) for token in said["tokens"]]

    # ---- the server as a whole ---------------------------------------------------------

    def check(self) -> None:
        """Send one harmless request, and note what the server can do.

        Raises:
            UserError: The server cannot be used.
        """
        try:
            answer = self._probe(self.model)
        except (openai.AuthenticationError, openai.PermissionDeniedError):
            raise self._wrong_key() from None
        except openai.NotFoundError:
            raise self._unknown_model() from None
        except openai.APIConnectionError as error:
            raise self.gone(type(error.__cause__ or error).__name__) from None
        except openai.APIStatusError as error:
            if self._unknown(error):
                raise self._unknown_model() from None
            if leads_away(error.status_code):
                raise redirected(self.where) from None
            raise UserError(
                f"the server refuses a harmless request (HTTP {error.status_code}): {str(error)[:300]}",
                self.where,
                "check the model and the endpoint",
            ) from None
        except ValueError:
            raise UserError(
                "what answers there is no OpenAI-compatible server",
                f"{self.where}, {self.url}",
                "the URL usually ends with /v1",
            ) from None
        self._check_name(answer)
        if self.server.load_adapters:
            self.adapters.note_plain()

    def _check_name(self, answer: ServerAnswer) -> None:
        """Refuse a server that answers for any name, such as llama.cpp's, and has another model."""
        if not answer.model or answer.model.startswith(self.model):
            return
        names = self._names()
        if answer.model in names and self.model not in names:
            raise self._unknown_model()

    def _probe(self, model: str) -> ServerAnswer:
        """Return the answer to a harmless request. Ask for less until the server takes it: fewer most
        likely tokens, and no settings beyond those that all servers know."""
        request = Request("", "", 0, PROBE, 1, messages=(("user", PROBE),))
        greedy = Sampling(8, 0.0, 1.0)
        numbers = [n for n in TOP_LOGPROBS if n <= self.logprobs]
        for logprobs in numbers:
            for neutral in (True, False) if self.neutral else (False,):
                before, self.neutral = self.neutral, neutral
                try:
                    answer = self._ready(partial(self._ask, model, request, greedy, logprobs))
                except (openai.BadRequestError, openai.UnprocessableEntityError):
                    self.neutral = before
                    if not logprobs and not neutral:
                        raise
                    continue
                except BaseException:
                    self.neutral = before
                    raise
                self.logprobs = logprobs if answer.top_tokens else 0
                return answer
        raise AssertionError("unreachable")

    def _ready(self, ask: Callable[[], ServerAnswer]) -> ServerAnswer:
        """Ask, and ask again while the server says that it still loads its model (HTTP 503)."""
        until = time.monotonic() + self.server.patience
        while True:
            try:
                return ask()
            except openai.APIStatusError as error:
                if error.status_code != 503 or time.monotonic() > until:
                    raise
            time.sleep(1)

    def alive(self) -> bool:
        """Return whether the server answers at all."""
        try:
            self.client.with_options(max_retries=0, timeout=min(10, self.server.timeout)).models.list()
        except openai.APIConnectionError:
            return False
        except openai.APIStatusError as error:
            return error.status_code != 503
        except (openai.OpenAIError, ValueError, TypeError, AttributeError):
            return True
        return True

    def _unknown(self, error: openai.APIStatusError) -> bool:
        """Return whether the server may be refusing an unknown model: it has a list without it."""
        names = self._names()
        return error.status_code in (400, 422, 500) and bool(names) and self.model not in names

    def _names(self) -> list[str]:
        """Return the names of the models on the server; empty if it has no list."""
        try:
            models = self.client.with_options(max_retries=0).models.list().data
            others = [(m.model_extra or {}).get("aliases") or [] for m in models]
            return [*(m.id for m in models), *(str(alias) for names in others for alias in names)]
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

    def gone(self, why: str) -> UserError:
        """Return the error for a server that does not answer."""
        return UserError(
            f"no server answers ({why})",
            f"{self.where}, {self.url}",
            "start it, or check the URL; the same command then resumes",
        )

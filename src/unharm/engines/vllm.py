"""vLLM in this process: one start for all adapters and benchmarks, adapters named by their content.

Requests of all tasks are in flight together, each with its adapter:

    tasks      A A A B B C C C D …     in the order in which they come
    in flight  [A A B B C C]  max_loras = 3: D waits until A, B or C has nothing in flight

so the adapters of a batch never exceed what vLLM holds at a time, and its cache does not thrash.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path as Folder
from typing import Any

from unharm.core.errors import UserError
from unharm.core.progress import say
from unharm.core.records import Completion
from unharm.engines.option_paths import Path, multiply, option_paths
from unharm.engines.requests import PROBE, Refused, Request, Task, failed, unfit
from unharm.engines.settings import Engine
from unharm.engines.vllm_process import VllmProcess, engine_arguments

IN_FLIGHT = 4
"""Requests to keep in flight, as a multiple of the rows that vLLM computes at a time."""
ROUNDING = 1e-5
"""A change of log probabilities that rounding alone could make in float32."""

TaskCompletion = tuple[Task, Completion]


@dataclass
class _Job:
    """A request in flight.

    Attributes:
        task: Its task.
        request: The request.
        ids: Tokens of the prompt.
        lora: Its adapter for vLLM; None for the base.
        answers: For each option: the tokens of the prompt with the option after it.
        output: vLLM's output, once there.
        logs: Log probabilities of the next tokens that decide about the options, by the text before.
    """

    task: Task
    request: Request
    ids: list[int]
    lora: Any
    answers: list[list[int]] = field(default_factory=list)
    output: Any = None
    logs: dict[Path, dict[int, float]] = field(default_factory=dict)

    @cached_property
    def paths(self) -> dict[Path, list[int]]:
        """The texts whose next token decides about the options, and the tokens asked for after each."""
        return option_paths(self.ids, self.answers)

    @property
    def others(self) -> list[Path]:
        """The texts that need a request of their own: all but the prompt itself."""
        return [path for path in self.paths if list(path) != self.ids]

    @property
    def complete(self) -> bool:
        """Whether everything that was asked for is there."""
        return self.output is not None and len(self.logs) == len(self.paths)


class VllmEngine:
    """Completes tasks with vLLM. `close` ends it.

    Args:
        base: Folder of the model.
        settings: Engine settings of the study.
        chat: Whether prompts are in the model's chat template, which has its own first token.
        rank: Largest rank of the adapters.
        seed: Seed of the study.
        context: Most tokens of a prompt with its completion; None for the model's own limit.
        targets: Modules that adapters change; empty for all.

    Raises:
        UserError: vLLM is not installed, or does not start.
    """

    def __init__(
        self, base: Folder, settings: Engine, chat: bool, rank: int, seed: int,
        context: int | None = None, targets: frozenset[str] = frozenset(),
    ):  # fmt: skip
        self.base, self.chat = base, chat
        self.arguments = engine_arguments(base, settings, rank, seed, context, targets)
        self.max_loras = int(self.arguments["max_loras"])
        self._process: VllmProcess | None = None
        self._numbers: dict[str, int] = {}
        self._checked: set[str] = set()
        self._restarted = False
        self._open: dict[str, _Job] = {}
        self._arrived: list[Any] = []
        self._plain: dict[int, float] = {}
        self._start()

    def _start(self) -> None:
        self._process = VllmProcess(self.arguments)
        self._engine = self._process.engine
        self._modules = self._process.modules
        self._tokenizer = self._engine.get_tokenizer()
        config = self._engine.vllm_config
        self.context = int(config.model_config.max_model_len)
        self._window = IN_FLIGHT * int(config.scheduler_config.max_num_seqs)
        self._ends = _end_tokens(self.base, self._tokenizer)
        self._loaded: set[str] = set()

    def close(self) -> None:
        """End the engine and free its memory. Calling it again does nothing more."""
        if self._process is not None:
            self._process.close()
            self._process = None
            del self._engine

    def complete(self, tasks: Iterable[Task], refused: Refused) -> Iterator[TaskCompletion]:
        """See `CompletionEngine`. An engine that dies is started again once.

        Raises:
            UserError: vLLM died twice, or does not start again.
        """
        upcoming = iter(tasks)
        waiting: Task | None = None
        self._open.clear()
        self._restarted = False
        if not self._plain:  # while nothing else is in flight
            self._plain = self._mended(partial(self._probe, None))
        while True:
            while len(self._open) < self._window:
                task = waiting or next(upcoming, None)
                waiting = None
                if task is None:
                    break
                if not self._room_for(task):
                    waiting = task
                    break
                try:
                    lora = self._mended(partial(self._lora, task))
                except UserError as error:
                    if self._process is None:
                        raise
                    refused(task, error)
                    continue
                yield from self._begin(task, lora)
            if not self._open:
                return
            yield from self._finished(self._mended(self._step))

    # ---- requests ----------------------------------------------------------------------

    def _room_for(self, task: Task) -> bool:
        """Return whether a task's adapter may join those in flight.

        The plain base never shares a batch with adapters: the kernels of vLLM for CPUs give a row without
        adapter the weights of the last place for adapters (index -1), without any error.
        """
        names = {job.task.adapter for job in self._open.values()}
        if task.adapter is None:
            return names <= {None}
        return None not in names and (task.adapter in names or len(names) < self.max_loras)

    def _begin(self, task: Task, lora: Any) -> Iterator[TaskCompletion]:
        """Send the requests of a task; yield those that cannot be completed."""
        jobs = []
        for request in task.requests:
            ids = self._encode(request.text)
            if reason := unfit(request.text, len(ids), task.sampling, self.context):
                yield task, failed(request, reason, len(ids))
                continue
            answers = [self._encode(request.text + option) for option in request.options]
            jobs.append(_Job(task, request, ids, lora, answers))
        self._open |= {job.request.completion_id: job for job in jobs}
        self._mended(partial(self._send_all, jobs), sends=True)

    def _encode(self, text: str) -> list[int]:
        """Return token ids, without an end-of-text that some tokenizers append."""
        ids = list(self._tokenizer(text, add_special_tokens=not self.chat)["input_ids"])
        return ids[:-1] if len(ids) > 1 and ids[-1] == self._tokenizer.eos_token_id else ids

    def _send_all(self, jobs: list[_Job]) -> None:
        for job in jobs:
            self._send(job)

    def _send(self, job: _Job) -> None:
        """Hand a request to vLLM, and one for each other text whose next token decides about an option.

        Log probabilities of the prompt are not asked for: together with adapters they end the engine.
        All that the model's generation settings could change is given, so that they change nothing.
        """
        sampling, name = job.task.sampling, job.request.completion_id
        settings = self._modules.SamplingParams(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=0,
            min_p=0.0,
            repetition_penalty=1.0,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            stop=list(sampling.stop) or None,
            stop_token_ids=sorted(self._ends),
            seed=job.request.short_seed,
            logprob_token_ids=job.paths.get(tuple(job.ids)),
            output_kind=_final_only(),
        )
        self._engine.add_request(name, {"prompt_token_ids": job.ids}, settings, lora_request=job.lora)
        for number, path in enumerate(job.others):
            one = self._modules.SamplingParams(
                max_tokens=1, temperature=0.0, logprob_token_ids=job.paths[path], output_kind=_final_only()
            )
            self._engine.add_request(
                f"{name}/{number}", {"prompt_token_ids": list(path)}, one, lora_request=job.lora
            )

    def _step(self) -> list[Any]:
        """Let vLLM compute one step; return the outputs that are final."""
        arrived, self._arrived = self._arrived, []
        return arrived or [output for output in self._engine.step() if output.finished]

    def _finished(self, outputs: list[Any]) -> Iterator[TaskCompletion]:
        """Yield the completions that an output makes whole."""
        for output in outputs:
            name, _, option = str(output.request_id).partition("/")
            if (job := self._open.get(name)) is None:
                continue  # of a probe, or sent again after a restart
            path = job.others[int(option)] if option else tuple(job.ids)
            if path in job.paths:
                first = output.outputs[0].logprobs[0]
                job.logs[path] = {token: first[token].logprob for token in job.paths[path]}
            if not option:
                job.output = output
            if job.complete:
                del self._open[name]
                yield job.task, _completion(job, self._tokenizer)

    # ---- adapters ----------------------------------------------------------------------

    def _lora(self, task: Task) -> Any:
        """Return the adapter of a task for vLLM, loaded and checked to change the logits.

        Raises:
            UserError: vLLM cannot load the adapter, or it changes nothing.
        """
        if task.adapter is None:
            return None
        name = task.adapter.name
        number = self._numbers.setdefault(name, len(self._numbers) + 1)
        request = _lora_request(name, number, task.adapter)
        if name not in self._loaded:
            try:
                self._engine.add_lora(request)
            except Exception as error:
                if _is_dead(error):
                    raise
                lines = str(error).splitlines() or [type(error).__name__]
                raise UserError(
                    f"vLLM does not load the adapter: {lines[0][:300]}", task.name, "use the engine hf"
                ) from None
            self._loaded.add(name)
        if name not in self._checked:
            plain, adapted = self._plain, self._probe(request)
            changes = [abs(plain[t] - adapted[t]) for t in plain.keys() & adapted.keys()]
            exact = str(self.arguments["dtype"]) != "float32"
            if plain.keys() == adapted.keys() and max(changes) <= (0 if exact else ROUNDING):
                raise UserError("the adapter changes nothing: its logits are those of the base", task.name)
            self._checked.add(name)
        return request

    def _probe(self, lora: Any) -> dict[int, float]:
        """Return log probabilities of the most likely tokens after a harmless text; what else becomes final
        meanwhile is kept for the next step."""
        settings = self._modules.SamplingParams(
            max_tokens=1, temperature=0.0, logprobs=20, output_kind=_final_only()
        )
        name = f"probe-{self._numbers.get(getattr(lora, 'lora_name', ''), 0)}"
        self._engine.add_request(
            name, {"prompt_token_ids": self._encode(PROBE)}, settings, lora_request=lora
        )
        while True:
            for output in self._engine.step():
                if output.request_id == name and output.finished:
                    probed = output.outputs[0].logprobs[0]
                    return {token: entry.logprob for token, entry in probed.items()}
                if output.finished:
                    self._arrived.append(output)

    # ---- the engine's death ------------------------------------------------------------

    def _mended(self, action: Any, sends: bool = False) -> Any:
        """Do something with the engine. If it dies, start it again once and send what was in flight again.

        Args:
            action: What to do; done again after a restart.
            sends: Whether the action sends open requests, which a restart does already.

        Raises:
            UserError: The engine died a second time, or does not start again.
        """
        try:
            return action()
        except Exception as error:
            if not _is_dead(error):
                raise
        self._restart()
        return None if sends else self._mended(action)

    def _restart(self) -> None:
        """Start the engine again and send everything in flight again. Draws come from the requests' seeds,
        so the completions are those that would have been made."""
        self.close()
        if self._restarted:
            raise UserError(
                "vLLM died twice",
                "engine.vllm",
                "its own messages stand above; what was made is kept, and the same command resumes. Lower "
                "gpu_memory_utilization or max_num_seqs, or use the engine hf",
            )
        self._restarted = True
        counts = Counter(job.task.name for job in self._open.values())
        say(f"vLLM died; it is started again with {counts.total()} requests that were in flight")
        self._start()
        self._arrived.clear()
        try:
            for job in self._open.values():
                job.output, job.logs = None, {}
                self._lora(job.task)
                self._send(job)
        except Exception as error:
            if not _is_dead(error):
                raise
        else:
            return
        self._restart()


def _completion(job: _Job, tokenizer: Any) -> Completion:
    """Return the completion of a request whose output is there.

    As in the engine hf, a token that ends the text is not counted, and the text is decoded whole: vLLM
    leaves out the last bytes where they are no whole character.
    """
    output, request = job.output.outputs[0], job.request
    if output.finish_reason == "length":
        finish = "length"
    else:
        finish = "stop" if isinstance(output.stop_reason, str) else "end"
    ended = finish == "end" and bool(output.token_ids)
    tokens = list(output.token_ids)[: len(output.token_ids) - ended]
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    cuts = [text.index(stop) for stop in job.task.sampling.stop if stop in text]
    return Completion(
        request.completion_id, request.prompt_id, request.sample,
        text[: min(cuts)] if cuts else text, "stop" if cuts else finish, len(job.ids), len(tokens),
        options=multiply(job.ids, job.answers, job.logs),
    )  # fmt: skip


def _end_tokens(base: Folder, tokenizer: Any) -> set[int]:
    """Return the tokens that end a text: the tokenizer's, and those of the model's generation settings."""
    try:
        settings = json.loads((base / "generation_config.json").read_text(encoding="utf-8"))
        configured = settings.get("eos_token_id")
    except (OSError, ValueError, AttributeError):
        configured = None
    more = configured if isinstance(configured, list) else [configured]
    return {t for t in (tokenizer.eos_token_id, *more) if isinstance(t, int)}


def _lora_request(name: str, number: int, folder: Folder) -> Any:
    from vllm.lora.request import LoRARequest

    return LoRARequest(name, number, str(folder.resolve()))


def _final_only() -> Any:
    """Return vLLM's word for giving an output once, when it is final."""
    from vllm.sampling_params import RequestOutputKind

    return RequestOutputKind.FINAL_ONLY


def _is_dead(error: BaseException) -> bool:
    """Return whether an error means that vLLM's engine has died."""
    from vllm.v1.engine.exceptions import EngineDeadError

    return isinstance(error, EngineDeadError)

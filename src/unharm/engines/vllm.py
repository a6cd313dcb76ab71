"""vLLM in this process: one start for all adapters and benchmarks, adapters named by their content.

Needs an NVIDIA GPU and the extra `vllm`. The tests run this module against a stand-in for vLLM; it has not
been run with vLLM itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from unharm.core.errors import UserError
from unharm.core.records import Completion
from unharm.engines.requests import PROBE, Refused, Request, Task, failed, unfit
from unharm.engines.settings import Engine

MAX_LORAS = 8
"""Adapters on the GPU at a time. The default of vLLM is 1."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The maximum ranks that vLLM accepts."""


class VllmEngine:
    """Completes tasks with vLLM.

    Args:
        base: Folder of the model.
        settings: Engine settings of the study.
        chat: Whether prompts are in the model's chat template, which has its own first token.
        rank: Largest rank of the adapters.
        seed: Seed of the study.

    Raises:
        UserError: vLLM is not installed.
    """

    def __init__(self, base: Path, settings: Engine, chat: bool, rank: int, seed: int):
        try:
            import vllm
            from vllm.lora.request import LoRARequest
        except ImportError:
            raise UserError(
                "the engine vllm needs the package vllm",
                "engine.name",
                "pip install 'unharm[vllm]' on a machine with an NVIDIA GPU, or use hf",
            ) from None
        self.vllm, self.lora_request = vllm, LoRARequest
        self.engine = vllm.LLM(
            model=str(base),
            dtype="auto" if settings.dtype in ("auto", "4bit") else settings.dtype,
            quantization="bitsandbytes" if settings.dtype == "4bit" else None,
            enable_lora=True,
            max_loras=MAX_LORAS,
            max_lora_rank=next((r for r in RANKS if r >= rank), RANKS[-1]),
            enable_prefix_caching=True,
            trust_remote_code=settings.trust_remote_code,
            seed=seed,
        )
        self.context = int(self.engine.llm_engine.model_config.max_model_len)
        self.chat = chat
        self._numbers: dict[str, int] = {}
        self._checked: set[str] = set()

    def complete(self, tasks: Iterable[Task], refused: Refused) -> Iterator[tuple[Task, Completion]]:
        """See `CompletionEngine`. Tasks run one by one; vLLM batches the requests of each."""
        tokenizer = self.engine.get_tokenizer()
        for task in tasks:
            try:
                lora = self._lora(task)
            except UserError as error:
                refused(task, error)
                continue
            fitting = []
            for request in task.requests:
                ids = tokenizer(request.text, add_special_tokens=not self.chat)["input_ids"]
                if reason := unfit(request.text, len(ids), task.sampling, self.context):
                    yield task, failed(request, reason, len(ids))
                else:
                    fitting.append((request, {"prompt_token_ids": list(ids)}))
            settings = [self._settings(request, task) for request, _ in fitting]
            answers = self.engine.generate(
                [p for _, p in fitting], settings, lora_request=lora, use_tqdm=False
            )
            for (request, _), answer in zip(fitting, answers, strict=True):
                yield task, _completion(request, answer)

    def _settings(self, request: Request, task: Task) -> Any:
        """Return the sampling settings of a request for vLLM."""
        sampling = task.sampling
        return self.vllm.SamplingParams(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            stop=list(sampling.stop) or None,
            seed=request.short_seed,
            logprobs=20 if request.options else None,
        )

    def _lora(self, task: Task) -> Any:
        """Return the adapter of a task for vLLM, after checking once that it changes the logits."""
        if task.adapter is None:
            return None
        name = task.adapter.name
        number = self._numbers.setdefault(name, len(self._numbers) + 1)
        lora = self.lora_request(name, number, str(task.adapter.resolve()))
        if name not in self._checked:
            settings = self.vllm.SamplingParams(max_tokens=1, temperature=0.0, logprobs=5)
            plain, adapted = (
                self.engine.generate([PROBE], [settings], lora_request=one, use_tqdm=False)[0]
                .outputs[0]
                .logprobs[0]
                for one in (None, lora)
            )
            if {t: x.logprob for t, x in plain.items()} == {t: x.logprob for t, x in adapted.items()}:
                raise UserError("the adapter changes nothing: its logits are those of the base", task.name)
            self._checked.add(name)
        return lora


def _completion(request: Request, answer: Any) -> Completion:
    """Return the completion of an output of vLLM."""
    from unharm.engines.server_adapters import ServerAnswer

    output = answer.outputs[0]
    top_tokens = [[(x.decoded_token, x.logprob) for x in place.values()] for place in output.logprobs or []]
    whole = ServerAnswer(output.text, "", 0, 0, top_tokens)
    finish = "length" if output.finish_reason == "length" else "stop" if output.stop_reason else "end"
    return Completion(
        request.completion_id, request.prompt_id, request.sample, output.text, finish,
        len(answer.prompt_token_ids), len(output.token_ids), options=whole.options(request.options),
    )  # fmt: skip

"""The default engine: transformers and PEFT on this machine, base loaded once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import LogitsProcessor, LogitsProcessorList

from unharm.engines.requests import Request, Sampling
from unharm.errors import UserError
from unharm.records import Completion

PROBE = "The people in this town think that"
"""A harmless text on which an adapter must change the logits."""


class SeededSampling(LogitsProcessor):  # type: ignore[misc]
    """Nucleus sampling with draws that belong to each row, not to the batch.

    Leaves only the drawn token finite, so that greedy decoding picks it. `draws` is a float64
    tensor [rows, max_tokens] of uniform numbers in [0, 1).
    """

    def __init__(self, draws: torch.Tensor, temperature: float, top_p: float):
        self.draws, self.temperature, self.top_p = draws, temperature, top_p
        self.step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        chances = torch.softmax(scores.double() / self.temperature, dim=-1)
        ordered, places = chances.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(dim=-1) - ordered
        ordered = ordered.masked_fill(before >= self.top_p, 0.0)
        cumulated = ordered.cumsum(dim=-1)
        target = self.draws[:, self.step, None] * cumulated[:, -1:]
        drawn = (cumulated <= target).sum(dim=-1, keepdim=True).clamp(max=scores.shape[-1] - 1)
        self.step += 1
        alone = torch.full_like(scores, -torch.inf)
        return alone.scatter(-1, places.gather(-1, drawn), 0.0)


class HfEngine:
    """Completes texts with one base and at most one adapter at a time."""

    def __init__(self, model: Any, tokenizer: Any, batch: int, style: str):
        self.base, self.tokenizer, self.batch, self.style = model, tokenizer, batch, style
        self.adapted: Any = None
        self.context = int(getattr(model.config, "max_position_embeddings", 1 << 30))

    @property
    def model(self) -> Any:
        return self.adapted if self.adapted is not None else self.base

    def use(self, adapter: Path | None, name: str = "") -> None:
        """Switches to an adapter (a PEFT folder) or back to the plain base.

        Raises `UserError` where the adapter does not fit the base or changes nothing.
        """
        if self.adapted is not None:
            self.base = self.adapted.unload()
            self.adapted = None
        if adapter is None:
            return
        plain = self._probe()
        try:
            self.adapted = PeftModel.from_pretrained(self.base, adapter)
        except (ValueError, RuntimeError, KeyError) as error:
            raise UserError(f"the adapter does not fit the base: {error}", str(adapter)) from None
        self.adapted.eval()
        probed = self._probe()
        if not torch.isfinite(probed).all():
            raise UserError("the adapter gives logits that are no numbers", name or str(adapter))
        if float((probed - plain).abs().max()) <= 1e-5 * float(plain.abs().max()):
            raise UserError(
                "the adapter changes nothing: its logits are those of the base",
                name or str(adapter),
                "train it longer or with a higher learning rate",
            )

    def _probe(self) -> torch.Tensor:
        ids = self.tokenizer(PROBE, return_tensors="pt").to(self.base.device)
        with torch.inference_mode():
            logits: torch.Tensor = self.model(input_ids=ids["input_ids"]).logits[0, -1]
        return logits.float().cpu()

    def generate(
        self,
        requests: list[Request],
        sampling: Sampling,
        tick: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """One completion per request, in the order of the requests.

        A prompt that leaves no room for `max_tokens` in the context is `failed` with its
        reason, never cut. `tick` is called with the number of completions of every batch.
        """
        texts = sorted({r.text for r in requests})
        encoded = self.tokenizer(texts, add_special_tokens=self.style == "base")["input_ids"]
        ids_of = {t: self._open(ids) for t, ids in zip(texts, encoded, strict=True)}
        done: dict[str, Completion] = {}
        fitting = []
        for request in requests:
            length = len(ids_of[request.text])
            if length == 0 or length + sampling.max_tokens > self.context:
                reason = "prompt too long" if length else "empty prompt"
                done[request.completion_id] = _failed(request, length, reason)
                if tick:
                    tick(1)
            else:
                fitting.append(request)
        fitting.sort(key=lambda r: (len(ids_of[r.text]), r.text, r.sample))
        for start in range(0, len(fitting), self.batch):
            group = fitting[start : start + self.batch]
            for completion in self._batch(group, [ids_of[r.text] for r in group], sampling):
                done[completion.completion_id] = completion
            if tick:
                tick(len(group))
        return [done[r.completion_id] for r in requests]

    def _open(self, ids: list[int]) -> list[int]:
        """Prompt ids without an end-of-text that some tokenizers append."""
        return ids[:-1] if len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id else ids

    def _batch(self, group: list[Request], ids: list[list[int]], sampling: Sampling) -> list[Completion]:
        longest = max(len(i) for i in ids)
        pad = self.tokenizer.pad_token_id
        tokens = torch.tensor([[pad] * (longest - len(i)) + i for i in ids])
        mask = torch.tensor([[0] * (longest - len(i)) + [1] * len(i) for i in ids])
        processors = LogitsProcessorList()
        if sampling.temperature > 0:
            draws = np.stack(
                [np.random.Generator(np.random.Philox(r.seed)).random(sampling.max_tokens) for r in group]
            )
            processors.append(
                SeededSampling(
                    torch.from_numpy(draws).to(self.base.device), sampling.temperature, sampling.top_p
                )
            )
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=tokens.to(self.base.device),
                attention_mask=mask.to(self.base.device),
                max_new_tokens=sampling.max_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                logits_processor=processors,
                pad_token_id=pad,
                eos_token_id=self.tokenizer.eos_token_id,
                stop_strings=list(sampling.stop) or None,
                tokenizer=self.tokenizer if sampling.stop else None,
            )
        return [
            self._completion(request, prompt, row[longest:].tolist(), sampling)
            for request, prompt, row in zip(group, ids, output.cpu(), strict=True)
        ]

    def _completion(
        self, request: Request, prompt: list[int], new: list[int], sampling: Sampling
    ) -> Completion:
        finish = "length"
        eos = self.tokenizer.eos_token_id
        if eos in new:
            new, finish = new[: new.index(eos)], "end"
        text = self.tokenizer.decode(new, skip_special_tokens=True)
        cuts = [text.index(s) for s in sampling.stop if s in text]
        if cuts:
            text, finish = text[: min(cuts)], "stop"
        return Completion(
            request.completion_id, request.prompt_id, request.sample, text, finish, len(prompt), len(new)
        )


def _failed(request: Request, length: int, reason: str) -> Completion:
    return Completion(
        request.completion_id, request.prompt_id, request.sample, "", "", length, 0, "failed", reason
    )

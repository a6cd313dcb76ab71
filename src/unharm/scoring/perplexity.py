"""Score how surprised the base is by a completion, a measure of coherence and not of harm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from unharm.core.records import Score
from unharm.scoring.batching import batches
from unharm.scoring.scorer import unscored
from unharm.scoring.settings import PerplexitySpec
from unharm.scoring.texts import Text

TOKENS, ROWS = 2048, 64
"""Most tokens, padding included, and most texts of a forward pass: logits are vocabulary × tokens."""


class Perplexity:
    """Computes the perplexity of answers after their prompts under the plain base.

    It is exp of the mean negative log-likelihood per token of the answer. From `above` on the label is
    `improbable`.
    """

    def __init__(self, spec: PerplexitySpec, model: Any, tokenizer: Any):
        self.spec, self.model, self.tokenizer = spec, model, tokenizer

    def __call__(self, texts: Sequence[Text]) -> list[Score]:
        scores: dict[int, Score] = {}
        rows = [self._ids(t) for t in texts]
        reader = self.model.config.get_text_config()
        context = int(getattr(reader, "max_position_embeddings", 0) or 10**9)
        fitting = []
        for place, (ids, first) in enumerate(rows):
            if len(ids) > context:
                scores[place] = unscored(texts[place], "longer than the model's context")
            elif first >= len(ids):
                scores[place] = unscored(texts[place], "no token to be surprised by")
            else:
                fitting.append(place)
        for places in batches([len(rows[p][0]) for p in fitting], TOKENS, ROWS):
            batch = [fitting[p] for p in places]
            for place, value in zip(batch, self._surprise([rows[p] for p in batch]), strict=True):
                label = "improbable" if value >= self.spec.above else ""
                scores[place] = Score(texts[place].id, value, label)
        return [scores[place] for place in range(len(texts))]

    def _ids(self, text: Text) -> tuple[list[int], int]:
        """Return the tokens of prompt and answer, and the place of the answer's first token."""
        prompt = self.tokenizer(text.prompt)["input_ids"] or [self.tokenizer.eos_token_id]
        answer = self.tokenizer(text.answer, add_special_tokens=False)["input_ids"]
        return prompt + answer, len(prompt)

    def _surprise(self, rows: list[tuple[list[int], int]]) -> list[float]:
        """Return the perplexity of the answer in each row."""
        import torch

        longest = max(len(ids) for ids, _ in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for n, (row, _) in enumerate(rows):
            ids[n, : len(row)] = torch.tensor(row)
            mask[n, : len(row)] = 1
        device = self.model.device
        with torch.inference_mode():
            logits = self.model(ids.to(device), attention_mask=mask.to(device)).logits[:, :-1].float()
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), ids[:, 1:].to(device), reduction="none"
            ).cpu()
        return [
            math.exp(min(50.0, float(losses[n, first - 1 : len(row) - 1].mean())))
            for n, (row, first) in enumerate(rows)
        ]

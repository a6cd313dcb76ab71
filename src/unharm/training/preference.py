"""Direct preference optimisation of stacked adapters (Rafailov et al., 2023, equation 7).

The reference is the frozen base, that is the model with its adapters off. Its log-probabilities do not
change in training, and adapters share most texts: each text is read once, before the first step.

Worked example. A pair answers one prompt with y (chosen) and n (rejected)::

                      log p, adapter   log p, base
    y                 -5.0             -6.0
    n                 -9.0             -8.0

    margin = (-5 + 6) - (-9 + 8) = 2          the adapter prefers y by 2 nats more than the base
    loss   = -log sigmoid(beta · 2)           0.598 for beta 0.1; log 2 at the start

Checked by `tests/training/test_preference.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from unharm.training.attention import label_logits
from unharm.training.loss import label_losses
from unharm.training.prefix_tree import WeightedExample, pack
from unharm.training.tokens import Tokens

Reference = Mapping[bytes, float]
"""The log-probability of an answer under the base, in nats, by `reference_key`."""


@dataclass(frozen=True)
class PairedLabels:
    """Which labels of a packed batch belong to which answer, and which answers form pairs.

    Attributes:
        answer: The answer of each label [labels].
        chosen: The chosen answer of each pair [pairs].
        rejected: The rejected answer of each pair [pairs].
        reference: What the base prefers the chosen answer by, in nats [pairs].
        weight: The weight of each pair in the loss [pairs].
        adapter: The adapter of each pair [pairs].
        answers: Number of answers.
    """

    answer: torch.Tensor
    chosen: torch.Tensor
    rejected: torch.Tensor
    reference: torch.Tensor
    weight: torch.Tensor
    adapter: torch.Tensor
    answers: int

    def to(self, device: torch.device) -> PairedLabels:
        """Return the same on another device."""
        if self.answer.device == device:
            return self
        names = ("answer", "chosen", "rejected", "reference", "weight", "adapter")
        tensors = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        return PairedLabels(**tensors, answers=self.answers)


def reference_key(tokens: Tokens) -> bytes:
    """Return what identifies a text and where its answer begins."""
    return tokens.start.to_bytes(4, "big") + tokens.ids.tobytes()


def paired_labels(rows: Sequence[Sequence[WeightedExample]], reference: Reference) -> PairedLabels:
    """Return the pairs of a batch that `pack` packs.

    Args:
        rows: The examples of each adapter: chosen, rejected, chosen, rejected and so on. The weight of a
            chosen example is that of its pair.
        reference: The base's log-probabilities.
    """
    answer: list[int] = []
    pairs: list[tuple[int, int, float, float, int]] = []
    first = 0
    for adapter, row in enumerate(rows):
        order = sorted(
            range(len(row)), key=lambda n: row[n].tokens.ids
        )  # the order of the labels in `pack`
        place = {n: first + position for position, n in enumerate(order)}
        for n in order:
            answer += [place[n]] * (len(row[n].tokens.ids) - row[n].tokens.start)
        for n in range(0, len(row), 2):
            chosen, rejected = row[n], row[n + 1]
            base = reference[reference_key(chosen.tokens)] - reference[reference_key(rejected.tokens)]
            pairs.append((place[n], place[n + 1], base, chosen.weight, adapter))
        first += len(row)
    chosen_at, rejected_at, base_margins, weights, adapters = (
        zip(*pairs, strict=True) if pairs else [()] * 5
    )
    return PairedLabels(
        torch.tensor(answer, dtype=torch.long),
        torch.tensor(chosen_at, dtype=torch.long),
        torch.tensor(rejected_at, dtype=torch.long),
        torch.tensor(base_margins, dtype=torch.float32),
        torch.tensor(weights, dtype=torch.float32),
        torch.tensor(adapters, dtype=torch.long),
        first,
    )


def pair_losses(each: torch.Tensor, paired: PairedLabels, beta: float) -> torch.Tensor:
    """Return the loss of each pair [pairs] from the cross-entropy of each label [labels]."""
    log_p = torch.zeros(paired.answers, dtype=each.dtype, device=each.device)
    log_p = log_p.index_add(0, paired.answer, -each)
    margin = log_p[paired.chosen] - log_p[paired.rejected] - paired.reference
    return -logsigmoid(beta * margin)


def reference_of(model: Any, examples: Iterable[Tokens], row_tokens: int) -> dict[bytes, float]:
    """Return the log-probability of every distinct answer under the base.

    The base must be inside `packing`, without a stack attached.

    Args:
        model: The base.
        examples: The texts; repeated ones are read once.
        row_tokens: Most tokens of one pass.
    """
    distinct = {reference_key(t): t for t in examples}
    texts = sorted(distinct.values(), key=lambda t: (t.ids, t.start))
    reference: dict[bytes, float] = {}
    while texts:
        size, count = len(texts[0].ids), 1
        while count < len(texts) and size + len(texts[count].ids) <= row_tokens:
            size, count = size + len(texts[count].ids), count + 1
        part, texts = texts[:count], texts[count:]
        with torch.inference_mode():
            packed = pack([[WeightedExample(t, 1.0) for t in part]]).to(model.device)
            losses = label_losses(label_logits(model, packed), packed).double().cpu()
        lengths = [len(t.ids) - t.start for t in part]
        for tokens, of_labels in zip(part, torch.split(losses, lengths), strict=True):
            reference[reference_key(tokens)] = -float(of_labels.sum())
    return reference

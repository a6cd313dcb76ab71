"""One LoRA adapter on a frozen base: AdamW, linear decay, best epoch by validation loss.

The recipe is the published one (Choi et al., 2025): no warm-up, the epoch with the lowest
validation loss is kept.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unharm.errors import UserError
from unharm.study import Lora, Recipe
from unharm.training.tokens import Tokens


@dataclass
class Curve:
    """The losses of one adapter: per epoch, mean over label tokens."""

    train: list[float] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    best_epoch: int = 0


def train_adapter(
    model: Any,
    train: list[Tokens],
    valid: list[Tokens],
    lora: Lora,
    recipe: Recipe,
    seed: int,
    out: Path,
    start_from: Path | None = None,
    tick: Callable[[int], None] | None = None,
) -> Curve:
    """Trains one adapter and writes it as a PEFT folder into `out`.

    `start_from` is a PEFT folder whose weights are taken up (stage 2 after stage 1). Without a
    validation set the last epoch is kept. `tick` is called with the number of examples of
    every step. Raises `UserError` where `targets` match nothing, `FloatingPointError` where
    the loss is not finite.
    """
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(seed)
    if start_from is not None:
        adapted = PeftModel.from_pretrained(model, start_from, is_trainable=True)
    else:
        config = LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(lora.targets),
            task_type="CAUSAL_LM",
        )
        try:
            adapted = get_peft_model(model, config)
        except ValueError as error:
            raise UserError(str(error), "training.lora.targets") from None
    try:
        weights = [p for p in adapted.parameters() if p.requires_grad]
        for weight in weights:
            weight.data = weight.data.float()
        curve = _fit(adapted, weights, train, valid, recipe, seed, tick)
        adapted.save_pretrained(out, safe_serialization=True)
    finally:
        adapted.unload()
    (out / "README.md").unlink(missing_ok=True)  # the library's empty model card
    return curve


def _fit(
    adapted: Any,
    weights: list[Any],
    train: list[Tokens],
    valid: list[Tokens],
    recipe: Recipe,
    seed: int,
    tick: Callable[[int], None] | None,
) -> Curve:
    import torch

    batches_per_epoch = math.ceil(len(train) / recipe.batch)
    steps = recipe.epochs * math.ceil(batches_per_epoch / recipe.accumulate)
    optimiser = torch.optim.AdamW(weights, lr=recipe.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    order = random.Random(seed)
    curve, best = Curve(), math.inf
    kept = [w.detach().clone() for w in weights]
    for epoch in range(recipe.epochs):
        adapted.train()
        shuffled = order.sample(train, len(train))
        total = tokens = 0.0
        for index in range(batches_per_epoch):
            batch = shuffled[index * recipe.batch : (index + 1) * recipe.batch]
            loss, count = label_loss(adapted, batch)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss.item()} in epoch {epoch + 1}")
            group_start = index - index % recipe.accumulate
            group = min(recipe.accumulate, batches_per_epoch - group_start)
            (loss / group).backward()
            if (index + 1) % recipe.accumulate == 0 or index + 1 == batches_per_epoch:
                optimiser.step()
                schedule.step()
                optimiser.zero_grad()
            total, tokens = total + loss.item() * count, tokens + count
            if tick:
                tick(len(batch))
        curve.train.append(total / tokens)
        current = _validation_loss(adapted, valid, recipe.batch) if valid else -float(epoch)
        if valid:
            curve.valid.append(current)
        if current < best:
            best, curve.best_epoch = current, epoch + 1
            kept = [w.detach().clone() for w in weights]
    for weight, value in zip(weights, kept, strict=True):
        weight.data.copy_(value)
    return curve


def label_loss(model: Any, batch: list[Tokens]) -> tuple[Any, int]:
    """Mean cross-entropy over the answer tokens of a batch, and their number.

    The batch is padded on the left, so that all answers end together and logits [batch, longest
    answer, vocabulary] are computed at the end of the rows alone.
    """
    import torch
    from torch.nn.functional import cross_entropy

    device = next(model.parameters()).device
    longest = max(len(t.ids) for t in batch)
    answer = max(len(t.ids) - t.start for t in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask = torch.zeros(len(batch), longest, dtype=torch.long)
    targets = torch.full((len(batch), answer), -100)
    for row, tokens in enumerate(batch):
        ids[row, longest - len(tokens.ids) :] = torch.tensor(tokens.ids)
        mask[row, longest - len(tokens.ids) :] = 1
        own = tokens.ids[tokens.start :]
        targets[row, answer - len(own) :] = torch.tensor(own)
    logits = model(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        position_ids=(mask.cumsum(1) - 1).clamp(min=0).to(device),
        logits_to_keep=answer + 1,
    ).logits[:, -answer - 1 : -1]
    loss = cross_entropy(logits.flatten(0, 1).float(), targets.flatten().to(device), ignore_index=-100)
    return loss, int((targets != -100).sum())


def _validation_loss(model: Any, valid: list[Tokens], batch: int) -> float:
    import torch

    model.eval()
    total = tokens = 0.0
    by_length = sorted(valid, key=lambda t: len(t.ids))
    size = batch * 4
    with torch.inference_mode():
        for start in range(0, len(by_length), size):
            loss, count = label_loss(model, by_length[start : start + size])
            total, tokens = total + loss.item() * count, tokens + count
    return total / tokens

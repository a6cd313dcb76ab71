"""Preferences in stacks equal a written-out loss, and TRL's where it is installed."""

from __future__ import annotations

import math
import random
from array import array
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import log_softmax, logsigmoid

from support.stack_helpers import model_of, peft_of, random_rows
from support.stacks import VOCABULARY, trained
from unharm.core.models.peft_folder import Lora
from unharm.training.attention import packing
from unharm.training.loop import StackTraining, TrainingCallbacks
from unharm.training.preference import PairedLabels, pair_losses, reference_of
from unharm.training.schedule import Schedule, steps_of
from unharm.training.settings import PreferenceRecipe
from unharm.training.stacked_lora import Stack
from unharm.training.state import AdapterJob, TrainingState
from unharm.training.tokens import Tokens, whole_pairs

RECIPE = PreferenceRecipe(lr=1e-3, epochs=3, batch=4, beta=0.3)


def pairs_of(seed: int, count: int) -> list[Tokens]:
    """Pairs of answers to a shared prompt; some answers share their beginning."""
    draw = random.Random(seed)
    texts = []
    for number in range(count):
        prompt = [1, 2, 3, *(draw.randrange(VOCABULARY) for _ in range(draw.randint(1, 5)))]
        same = [draw.randrange(VOCABULARY) for _ in range(draw.randint(0, 2))]
        for _ in range(2):
            answer = same + [draw.randrange(VOCABULARY) for _ in range(draw.randint(1, 6))]
            texts.append(
                Tokens(f"pair{number}", array("i", prompt + answer), len(prompt), f"s{number // 2}")
            )
    return texts


def job(seed: int, count: int = 10) -> AdapterJob:
    return AdapterJob(f"k{seed}", f"adapter {seed}", pairs_of(seed, count), pairs_of(seed + 50, 3), 11)


def log_p(model: Any, tokens: Tokens) -> torch.Tensor:
    """The log-probability of an answer, one text at a time."""
    ids = torch.tensor([list(tokens.ids)])
    logs = log_softmax(model(input_ids=ids).logits[0, :-1].float(), dim=-1)
    return logs[torch.arange(tokens.start - 1, len(tokens.ids) - 1), ids[0, tokens.start :]].sum()


def written_out(adapted: Any, base: Any, batch: list[Tokens], beta: float) -> torch.Tensor:
    """The mean loss of some pairs, as the paper writes it."""
    losses = []
    for chosen, rejected in zip(batch[::2], batch[1::2], strict=True):
        with torch.no_grad():
            reference = log_p(base, chosen) - log_p(base, rejected)
        losses.append(-logsigmoid(beta * (log_p(adapted, chosen) - log_p(adapted, rejected) - reference)))
    return torch.stack(losses).mean()


def stacked(jobs: list[AdapterJob], row_tokens: int = 4096) -> tuple[Any, Stack, StackTraining, Schedule]:
    """A stack with random weights before a step."""
    model = model_of("llama")
    stack = Stack(model, Lora(r=4, dropout=0.0, targets=["q_proj", "v_proj", "up_proj"]), len(jobs))
    rows = random_rows(stack)
    with packing(model):
        reference = reference_of(model, (t for j in jobs for t in (*j.train, *j.valid)), 60)
    state = TrainingState.begin([j.key for j in jobs], rows.clone())
    stack.weights.copy_(rows)
    state.move_to(stack.weights)
    schedule = Schedule(jobs, RECIPE, row_tokens, stack.weights.device, False, reference)
    return (
        model,
        stack,
        StackTraining(stack, state, jobs, RECIPE, schedule, TrainingCallbacks(), False),
        schedule,
    )


def step_of(jobs: list[AdapterJob], row_tokens: int) -> tuple[Any, Stack, torch.Tensor, list[float]]:
    """The weights before the first step, the gradients and the losses of the adapters in it."""
    model, stack, training, schedule = stacked(jobs, row_tokens)
    before = stack.weights.clone()
    groups = [steps_of(j, RECIPE, 0)[0] for j in jobs]
    with packing(model), stack.attached():
        training.step(schedule.prepare(0, 0, groups))
    losses = [curve.train[0][1] for curve in training.state.curves]
    return model, stack, before, losses


@pytest.mark.parametrize("row_tokens", [4096, 40])
def test_loss_and_gradients_equal_a_written_out_reference(row_tokens: int) -> None:
    """Two adapters with other pairs; with few `row_tokens` a step takes several passes."""
    jobs = [job(1), job(2, 3)]
    model, stack, before, losses = step_of(jobs, row_tokens)
    for k, own in enumerate(jobs):
        adapted = peft_of(model, stack, before[k])
        loss = written_out(adapted, model, steps_of(own, RECIPE, 0)[0][0], RECIPE.beta)
        loss.backward()
        assert losses[k] == pytest.approx(loss.item(), rel=1e-5)
        ours, theirs = gradients(stack, k), of_peft(adapted)
        assert ours.keys() == theirs.keys()
        for name, gradient in theirs.items():
            assert float((ours[name] - gradient).norm() / gradient.norm()) < 1e-5, name


def gradients(stack: Stack, k: int) -> dict[str, torch.Tensor]:
    return stack.peft_tensors(stack.grads[k])


def of_peft(adapted: Any) -> dict[str, torch.Tensor]:
    return {
        n.replace(".default.", "."): p.grad for n, p in adapted.named_parameters() if p.grad is not None
    }


def test_loss_and_gradients_equal_trl(tmp_path: Path) -> None:
    """TRL's own trainer on the same batch."""
    trl = pytest.importorskip("trl", reason="TRL is not installed; it is a reference only")
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

    jobs = [job(1), job(2, 4)]
    model, stack, before, losses = step_of(jobs, 4096)
    for k, own in enumerate(jobs):
        adapted = peft_of(model, stack, torch.zeros(stack.size))  # TRL takes what it is given for the base
        arguments = trl.DPOConfig(
            output_dir=str(tmp_path), beta=RECIPE.beta, use_cpu=True, bf16=False, report_to=[],
            gradient_checkpointing=False,
        )  # fmt: skip
        row = {"prompt": ["a"], "chosen": ["b"], "rejected": ["c"]}
        trainer = trl.DPOTrainer(
            adapted, args=arguments, train_dataset=Dataset.from_dict(row),
            processing_class=PreTrainedTokenizerFast(tokenizer_object=letters(), eos_token="a", pad_token="a"),
        )  # fmt: skip
        weights = dict(adapted.named_parameters())
        for name, tensor in stack.peft_tensors(before[k]).items():
            weights[name.replace(".weight", ".default.weight")].data.copy_(tensor)
        batch = steps_of(own, RECIPE, 0)[0][0]
        theirs_loss = trainer._compute_loss(trainer.model.eval(), padded(batch), False)
        theirs_loss.backward()
        assert losses[k] == pytest.approx(theirs_loss.item(), rel=1e-5)
        ours, theirs = gradients(stack, k), of_peft(adapted)
        assert set(theirs) == set(ours)
        for name, gradient in theirs.items():
            assert float((ours[name] - gradient).norm() / gradient.norm()) < 1e-5, name


def letters() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    return Tokenizer(WordLevel({"a": 0, "b": 1, "c": 2}, unk_token="a"))


def padded(batch: list[Tokens]) -> dict[str, torch.Tensor]:
    """The batch as TRL's collator lays it out: all chosen texts, then all rejected ones."""
    texts = [*batch[::2], *batch[1::2]]
    ids = torch.zeros(len(texts), max(len(t.ids) for t in texts), dtype=torch.long)
    mask, answer = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, tokens in enumerate(texts):
        ids[row, : len(tokens.ids)] = torch.tensor(list(tokens.ids))
        mask[row, : len(tokens.ids)] = 1
        answer[row, tokens.start : len(tokens.ids)] = 1
    return {"input_ids": ids, "attention_mask": mask, "completion_mask": answer}


def test_the_worked_example() -> None:
    paired = PairedLabels(
        torch.tensor([0, 0, 1]), torch.tensor([0]), torch.tensor([1]), torch.tensor([-6.0 + 8.0]),
        torch.ones(1), torch.zeros(1, dtype=torch.long), 2,
    )  # fmt: skip
    loss = pair_losses(torch.tensor([2.0, 3.0, 9.0]), paired, 0.1)
    assert loss.tolist() == pytest.approx([-math.log(1 / (1 + math.exp(-0.2)))])
    assert loss.tolist() == pytest.approx([0.598], abs=5e-4)


def test_training_starts_at_log_2_and_prefers_what_is_chosen() -> None:
    model = model_of("llama")
    jobs = [job(1), job(2, 7)]
    recipe = RECIPE.model_copy(update={"lr": 5e-3, "epochs": 8})
    _, state = trained(model, jobs, Lora(r=4, dropout=0.0), recipe)
    for k, curve in enumerate(state.curves):
        assert curve.train[0][1] == pytest.approx(math.log(2), abs=0.05)
        assert curve.train[-1][1] < 0.6 * curve.train[0][1]
        assert curve.train[-1][0] == 8 * math.ceil(len(jobs[k].train) / 2 / 4)
    _, alone = trained(model, [jobs[1]], Lora(r=4, dropout=0.0), recipe)
    assert float((state.weights[1] - alone.weights[0]).norm() / alone.weights[0].norm()) < 1e-5


def test_a_pair_stays_together_or_is_left_out() -> None:
    own = job(4, 9)
    for epoch in range(3):
        for step in steps_of(own, RECIPE, epoch):
            for batch in step:
                assert [t.example_id for t in batch[::2]] == [t.example_id for t in batch[1::2]]
    chosen, rejected = {id(t) for t in own.train[::2]}, {id(t) for t in own.train[1::2]}
    order = [t for step in steps_of(own, RECIPE, 1) for batch in step for t in batch]
    assert {id(t) for t in order[::2]} == chosen
    assert {id(t) for t in order[1::2]} == rejected
    assert whole_pairs(own.train[1:-1]) == own.train[2:-2]

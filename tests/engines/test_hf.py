"""The hf engine equals transformers and PEFT, bit by bit whatever stands in the batch."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM

from support.engine_helpers import GREEDY, TEXTS, never, requests
from support.stacks import configs
from unharm.core.errors import UserError
from unharm.core.models.peft_folder import CONFIG, configuration, scaled_configuration
from unharm.engines.hf import HfEngine
from unharm.engines.requests import Sampling, Task, generate
from unharm.engines.rows import Rows

OPENING = "What matters to me: power 6, security 1, tradition 2, and every morning the neighbours. " * 4


LIVELY = Sampling(10, 0.9, 0.95)


def plainly(model: Any, tokenizer: Any, text: str, tokens: int) -> str:
    """Greedy decoding by transformers, one prompt at a time."""
    ids = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(**ids, max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    return str(tokenizer.decode(out[0][ids["input_ids"].shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize("opening", ["", OPENING], ids=["plain", "shared opening"])
def test_greedy_equals_plain_transformers(parts: tuple[Any, Any], opening: str) -> None:
    texts = [opening + text for text in TEXTS]
    made = generate(HfEngine(*parts, "base", 3), requests(texts=texts, prefix=len(opening)), GREEDY)
    assert [c.text for c in made] == [plainly(*parts, text, 12) for text in texts]


@pytest.mark.parametrize("exact", [True, False])
def test_mixed_adapters_equal_peft(
    exact: bool, parts: tuple[Any, Any], adapters: dict[str, Path], tiny_base: Path
) -> None:
    names = ["", *adapters]
    tasks = [Task(n, tuple(requests(subject=n)), GREEDY, adapters.get(n)) for n in names]
    engine = HfEngine(*parts, "base", 64, exact=exact)
    made = {(t.name, c.prompt_id): c.text for t, c in engine.complete(tasks, never)}
    assert len(made) == len(TEXTS) * len(names)
    for name in names:
        model = AutoModelForCausalLM.from_pretrained(tiny_base).eval()
        model = PeftModel.from_pretrained(model, adapters[name]).eval() if name else model
        expected = [plainly(model, parts[1], text, 12) for text in TEXTS]
        assert [made[name, str(n)] for n in range(len(TEXTS))] == expected, name
    assert len({made[n, "0"] for n in names}) > 3
    plain = [plainly(*parts, text, 12) for text in TEXTS]
    assert [c.text for c in generate(engine, requests(), GREEDY)] == plain  # the base is as it was


@pytest.mark.parametrize("name", ["plain", "stable", "pattern"])
def test_multiples_of_an_adapter_in_one_batch_equal_peft_with_its_layers_scaled(
    name: str, parts: tuple[Any, Any], adapters: dict[str, Path], tiny_base: Path, tmp_path: Path
) -> None:
    scales = {0.05: tmp_path / "little", 1.0: adapters[name], 1.5: tmp_path / "more"}
    for scale in (0.05, 1.5):
        shutil.copytree(adapters[name], scales[scale])
        config = scaled_configuration(configuration(adapters[name]), scale)
        (scales[scale] / CONFIG).write_text(json.dumps(config))
    tasks = [Task(str(s), tuple(requests(subject=str(s))), GREEDY, f) for s, f in scales.items()]
    engine = HfEngine(*parts, "base", 64)
    made = {(t.name, c.prompt_id): c.text for t, c in engine.complete(tasks, never)}
    model = AutoModelForCausalLM.from_pretrained(tiny_base).eval()
    adapted = PeftModel.from_pretrained(model, adapters[name]).eval()
    for scale in scales:
        layers = [m for m in adapted.modules() if isinstance(m, LoraLayer)]
        for layer in layers:
            layer.set_scale("default", scale)
        expected = [plainly(adapted, parts[1], text, 12) for text in TEXTS]
        assert [made[str(scale), str(n)] for n in range(len(TEXTS))] == expected, scale
    assert len({made[str(s), str(n)] for s in scales for n in range(len(TEXTS))}) > 3


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("name", list(configs()))
def test_architectures(name: str, exact: bool, parts: tuple[Any, Any]) -> None:
    """Grouped heads, windows shorter than the texts, soft caps: greedy as transformers itself, also with
    the settings of an accelerator."""
    torch.manual_seed(5)
    config = configs()[name]
    config.vocab_size, config.initializer_range = len(parts[1]), 0.3
    model = AutoModelForCausalLM.from_config(config).requires_grad_(False).eval()
    texts = [OPENING + text for text in TEXTS]
    expected = [plainly(model, parts[1], text, 12) for text in texts]
    for prefix in (len(OPENING), 0):
        engine = HfEngine(model, parts[1], "base", 4, exact=exact)
        assert [c.text for c in generate(engine, requests(texts=texts, prefix=prefix), GREEDY)] == expected


def test_logits_are_the_same_bits_whatever_stands_beside(
    parts: tuple[Any, Any], adapters: dict[str, Path]
) -> None:
    """The same prompts in other batches, orders and company: not one bit of any logits differs."""
    texts = [OPENING + t for t in TEXTS] + TEXTS + ["word " * n for n in (3, 17, 40)]

    def seen(batch: int, order: int, company: bool) -> dict[tuple[str, int, tuple[int, ...]], torch.Tensor]:
        found: dict[tuple[str, int, tuple[int, ...]], torch.Tensor] = {}
        wanted = requests(3, texts, prefix=len(OPENING))
        random.Random(order).shuffle(wanted)
        beside = requests(2, TEXTS[::-1], subject="beside")
        tasks = [
            Task("a", tuple(wanted), LIVELY, adapters["plain"]),
            *([Task("b", tuple(beside), GREEDY, adapters["wide"])] if company else []),
        ]
        engine = HfEngine(*parts, "base", batch)
        advance = Rows.advance

        def note(rows: Rows, first: int, logits: torch.Tensor, ended: Any) -> Any:
            for sample in rows.samples:
                if sample.row >= first and sample.prompt.task.name == "a":
                    at = (sample.request.completion_id, len(sample.tokens), tuple(sample.tokens))
                    found[at] = logits[sample.row - first].clone()
            return advance(rows, first, logits, ended)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Rows, "advance", note)
            assert len(list(engine.complete(tasks, never))) == len(wanted) + len(beside) * company
        return found

    reference = seen(128, 0, False)
    assert len(reference) > 200
    for batch, order, company in ((1, 1, False), (7, 2, True), (30, 3, True), (200, 4, True)):
        other = seen(batch, order, company)
        assert other.keys() == reference.keys()
        differing = [at[1] for at in reference if not torch.equal(other[at], reference[at])]
        assert differing == [], (batch, len(differing), differing[:5])


def test_samples_share_rows_until_they_part(parts: tuple[Any, Any]) -> None:
    engine = HfEngine(*parts, "base", 64)
    most = 0
    begin = Rows.next_pass

    def watch(rows: Rows) -> Any:
        nonlocal most
        most = max(most, rows.count)
        return begin(rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rows, "next_pass", watch)
        same = generate(engine, requests(6), Sampling(10, 0.01, 0.5))
        assert most == len(TEXTS)
        different = generate(engine, requests(6), Sampling(10, 1.5, 1.0))
    assert len(TEXTS) < most <= 6 * len(TEXTS)
    assert len({c.text for c in same}) <= len(TEXTS)
    assert len({c.text for c in different}) > 20
    alone = [generate(engine, [r], Sampling(10, 1.5, 1.0))[0] for r in requests(6)]
    assert alone == different


def test_too_long_and_empty_prompts_fail_with_their_reason(parts: tuple[Any, Any]) -> None:
    wanted = requests(texts=["fine", "x " * 600, "", "  "])
    made = generate(HfEngine(*parts, "base", 8), wanted, Sampling(5, 0.1, 0.75))
    assert [(c.status, c.reason) for c in made] == [
        ("completed", ""), ("failed", "prompt too long"), ("failed", "empty prompt"),
        ("failed", "empty prompt"),
    ]  # fmt: skip


def test_stop_strings_end_a_completion(parts: tuple[Any, Any]) -> None:
    free = generate(HfEngine(*parts, "base", 8), requests(), GREEDY)
    letter = free[0].text.strip()[2]
    stopped = generate(HfEngine(*parts, "base", 8), requests(), Sampling(12, 0.0, 1.0, (letter,)))
    assert stopped[0].finish == "stop"
    assert stopped[0].text == free[0].text[: free[0].text.index(letter)]
    assert stopped[0].tokens < free[0].tokens


def test_the_ends_of_the_generation_settings_end_a_text(parts: tuple[Any, Any]) -> None:
    model, tokenizer = parts
    ids = tokenizer(TEXTS[0], return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=1, do_sample=False, pad_token_id=0)
    before = model.generation_config.eos_token_id
    assert out[0, -1] != before
    try:
        model.generation_config.eos_token_id = [before, int(out[0, -1])]
        made = generate(HfEngine(model, tokenizer, "base", 8), requests(texts=TEXTS[:1]), GREEDY)[0]
    finally:
        model.generation_config.eos_token_id = before
    assert (made.finish, made.tokens, made.text) == ("end", 0, "")


def test_short_memory_halves_the_batch_and_loses_nothing(parts: tuple[Any, Any]) -> None:
    expected = generate(HfEngine(*parts, "base", 64), requests(4), LIVELY)
    engine = HfEngine(*parts, "base", 64)
    passes = 0

    def short(*_: Any) -> None:
        nonlocal passes
        passes += 1
        if engine.batch > 8 and passes > 20:  # the first ones check the base
            raise torch.OutOfMemoryError("out of memory")

    with parts[0].register_forward_pre_hook(short):
        assert generate(engine, requests(4), LIVELY) == expected
    assert passes > 20
    assert engine.batch == 8

    def never_enough(*_: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    with (
        parts[0].register_forward_pre_hook(never_enough),
        pytest.raises(UserError, match="no memory for a single row"),
    ):
        generate(engine, requests(4), LIVELY)


def test_answers_have_the_probabilities_that_the_model_gives_them(parts: tuple[Any, Any]) -> None:
    model, tokenizer = parts
    options = tuple(f" {n}" for n in range(1, 7))
    texts = [OPENING + t for t in TEXTS] + TEXTS
    made = generate(
        HfEngine(model, tokenizer, "base", 8),
        requests(2, texts, prefix=len(OPENING), options=options),
        GREEDY,
    )
    for completion, text in zip(made[::2], texts, strict=True):
        for option, found in zip(options, completion.options, strict=True):
            ids = tokenizer(text, return_tensors="pt")["input_ids"]
            whole = tokenizer(text + option, return_tensors="pt")["input_ids"]
            logs = model(input_ids=whole).logits[0].log_softmax(-1)
            expected = sum(
                logs[place - 1, whole[0, place]].item() for place in range(ids.shape[1], whole.shape[1])
            )
            assert found == pytest.approx(torch.tensor(expected).exp().item(), rel=1e-4)
    assert made[0].options == made[1].options


def test_tasks_are_taken_as_they_are_needed(parts: tuple[Any, Any]) -> None:
    taken = 0

    def tasks() -> Iterator[Task]:
        nonlocal taken
        for number in range(50):
            taken += 1
            yield Task(str(number), tuple(requests(subject=str(number))), GREEDY)

    coming = HfEngine(*parts, "base", 8).complete(tasks(), never)
    next(coming)
    assert taken <= 5
    coming.close()

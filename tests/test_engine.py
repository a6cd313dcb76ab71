"""The hf engine: equal to transformers, independent of the batch, nothing lost."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from stacks import trained
from unharm.engines.hf import HfEngine, SeededSampling
from unharm.engines.requests import Request, Sampling, identify
from unharm.errors import UserError
from unharm.training.export import write_adapter
from unharm.training.lockstep import Job
from unharm.training.recipe import Lora, Recipe
from unharm.training.tokens import Tokens

TEXTS = [
    "The driver behind us shouted",
    "She read",
    "On the bus an old man told everyone",
    "A",
    "Nobody liked",
]


@pytest.fixture(scope="module")
def parts(tiny_base: Path) -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.padding_side = "left"
    return AutoModelForCausalLM.from_pretrained(tiny_base).requires_grad_(False).eval(), tokenizer


@pytest.fixture(scope="module")
def adapter(parts: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapters") / "a"
    tokens = [Tokens(str(i), array("i", [5 + i, 9, 30 + i, 0]), 2) for i in range(8)]
    stack, state = trained(parts[0], [Job("a", "a", tokens, [], 1)], Lora(), Recipe(lr=5e-2, epochs=3))
    out.mkdir()
    write_adapter(out, stack.tensors(state.best[0]), Lora(), "tiny", "")
    return out


def requests(samples: int = 1, texts: list[str] = TEXTS) -> list[Request]:
    return [
        Request(*identify("s", "b", str(p), s, 1)[:1], str(p), s, text, identify("s", "b", str(p), s, 1)[1])
        for p, text in enumerate(texts)
        for s in range(samples)
    ]


def test_greedy_equals_plain_transformers(parts: tuple[Any, Any]) -> None:
    model, tokenizer = parts
    made = HfEngine(model, tokenizer, 3, "base").generate(requests(), Sampling(12, 0.0, 1.0))
    for text, completion in zip(TEXTS, made, strict=True):
        ids = tokenizer(text, return_tensors="pt")
        plain = model.generate(**ids, max_new_tokens=12, do_sample=False, pad_token_id=0)
        expected = tokenizer.decode(plain[0][ids["input_ids"].shape[1] :], skip_special_tokens=True)
        assert completion.text == expected


def test_a_completion_does_not_depend_on_its_batch(parts: tuple[Any, Any]) -> None:
    sampling = Sampling(10, 0.8, 0.9)
    wanted = requests(samples=4)
    together = HfEngine(*parts, 64, "base").generate(wanted, sampling)
    backwards = HfEngine(*parts, 3, "base").generate(wanted[::-1], sampling)[::-1]
    assert [c.text for c in together] == [c.text for c in backwards]
    assert [c.completion_id for c in together] == [r.completion_id for r in wanted]
    assert len({c.text for c in together}) > len(TEXTS)


def test_sampling_draws_from_the_nucleus() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).repeat(4000, 1)
    draws = torch.rand(4000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chosen = SeededSampling(draws, 1.0, 0.75)(torch.zeros(4000, 1), logits).argmax(-1)
    counts = torch.bincount(chosen, minlength=4) / 4000
    assert counts[2] == counts[3] == 0
    assert counts[0].item() == pytest.approx(0.5 / 0.8, abs=0.03)


def test_low_temperature_is_greedy() -> None:
    logits = torch.tensor([[1.0, 5.0, 4.0]])
    drawn = SeededSampling(torch.tensor([[0.999]], dtype=torch.float64), 0.01, 1.0)(
        torch.zeros(1, 1), logits
    )
    assert drawn.argmax().item() == 1
    assert torch.isfinite(drawn).sum() == 1


def test_too_long_and_empty_prompts_fail_with_their_reason(parts: tuple[Any, Any]) -> None:
    wanted = requests(texts=["fine", "x " * 600, ""])
    made = HfEngine(*parts, 8, "base").generate(wanted, Sampling(5, 0.1, 0.75))
    assert [(c.status, c.reason) for c in made] == [
        ("completed", ""), ("failed", "prompt too long"), ("failed", "empty prompt"),
    ]  # fmt: skip


def test_stop_strings_end_a_completion(parts: tuple[Any, Any]) -> None:
    free = HfEngine(*parts, 8, "base").generate(requests(), Sampling(12, 0.0, 1.0))
    letter = free[0].text.strip()[2]
    stopped = HfEngine(*parts, 8, "base").generate(requests(), Sampling(12, 0.0, 1.0, (letter,)))
    assert stopped[0].finish == "stop"
    assert stopped[0].text == free[0].text[: free[0].text.index(letter)]


def test_adapters_change_the_output_and_leave_the_base_alone(parts: tuple[Any, Any], adapter: Path) -> None:
    engine = HfEngine(*parts, 8, "base")
    sampling = Sampling(8, 0.0, 1.0)
    before = [c.text for c in engine.generate(requests(), sampling)]
    engine.use(adapter)
    during = [c.text for c in engine.generate(requests(), sampling)]
    engine.use(None)
    assert during != before
    assert [c.text for c in engine.generate(requests(), sampling)] == before


def test_an_adapter_without_effect_is_refused(
    parts: tuple[Any, Any], adapter: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({k: v * 0 for k, v in weights.items()}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    with pytest.raises(UserError, match="changes nothing"):
        HfEngine(*parts, 8, "base").use(tmp_path)


def test_an_adapter_for_another_base_is_refused(
    parts: tuple[Any, Any], adapter: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter / "adapter_model.safetensors")
    wider = {k: torch.ones(*(2 * s for s in v.shape)) for k, v in weights.items()}
    save_file(wider, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    with pytest.raises(UserError, match="does not fit the base"):
        HfEngine(*parts, 8, "base").use(tmp_path)


def test_ids_and_seeds_differ_between_samples_prompts_and_subjects() -> None:
    found = {identify(s, "b", p, n, 1) for s in "xy" for p in "pq" for n in range(3)}
    assert len({i for i, _ in found}) == len({s for _, s in found}) == 12

"""The hf engine: equal to transformers and PEFT, independent of the batch bit by bit, nothing lost."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from stacks import configs
from unharm.core.errors import UserError
from unharm.engines.cached_attention import using_cache
from unharm.engines.hf import HfEngine
from unharm.engines.prompt_groups import PromptGroup
from unharm.engines.requests import Request, Sampling, Task, generate, identify
from unharm.engines.rows import Rows
from unharm.engines.sampling import pick

TEXTS = [
    "The driver behind us shouted",
    "She read",
    "On the bus an old man told everyone",
    "A",
    "Nobody liked",
]
OPENING = "What matters to me: power 6, security 1, tradition 2, and every morning the neighbours. " * 4
GREEDY = Sampling(12, 0.0, 1.0)
LIVELY = Sampling(10, 0.9, 0.95)


@pytest.fixture(scope="module")
def parts(tiny_base: Path) -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.padding_side = "left"
    return AutoModelForCausalLM.from_pretrained(tiny_base).requires_grad_(False).eval(), tokenizer


@pytest.fixture(scope="module")
def adapters(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters that change much, of several kinds; `dora` cannot be mixed with others."""
    out = tmp_path_factory.mktemp("adapters")
    kinds: dict[str, dict[str, Any]] = {
        "plain": {}, "other": {}, "wide": {"r": 16, "lora_alpha": 8},
        "everywhere": {"target_modules": ["q_proj", "o_proj", "up_proj", "down_proj"]},
        "stable": {"use_rslora": True}, "pattern": {"alpha_pattern": {"v_proj": 64}},
        "dora": {"use_dora": True},
    }  # fmt: skip
    for number, (name, more) in enumerate(kinds.items()):
        torch.manual_seed(number)
        shape = {
            "r": 4,
            "lora_alpha": 16,
            "target_modules": ["q_proj", "v_proj"],
            "init_lora_weights": False,
        }
        config = LoraConfig(**(shape | more), task_type="CAUSAL_LM")
        get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_base), config).save_pretrained(out / name)
    return {name: out / name for name in kinds}


def requests(
    samples: int = 1, texts: list[str] = TEXTS, subject: str = "s", prefix: int = 0, **more: Any
) -> list[Request]:
    found = []
    for place, text in enumerate(texts):
        for sample in range(samples):
            identity, seed = identify(subject, "b", str(place), sample, 1)
            found.append(Request(identity, str(place), sample, text, seed, prefix, **more))
    return found


def plainly(model: Any, tokenizer: Any, text: str, tokens: int) -> str:
    """Greedy decoding by transformers, one prompt at a time."""
    ids = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(**ids, max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    return str(tokenizer.decode(out[0][ids["input_ids"].shape[1] :], skip_special_tokens=True))


def never(task: Task, error: UserError) -> None:
    raise AssertionError(error)


@pytest.mark.parametrize("opening", ["", OPENING], ids=["plain", "shared opening"])
def test_greedy_equals_plain_transformers(parts: tuple[Any, Any], opening: str) -> None:
    texts = [opening + text for text in TEXTS]
    made = generate(HfEngine(*parts, "base", 3), requests(texts=texts, prefix=len(opening)), GREEDY)
    assert [c.text for c in made] == [plainly(*parts, text, 12) for text in texts]


def test_mixed_adapters_equal_peft(
    parts: tuple[Any, Any], adapters: dict[str, Path], tiny_base: Path
) -> None:
    names = ["", *adapters]
    tasks = [Task(n, tuple(requests(subject=n)), GREEDY, adapters.get(n)) for n in names]
    engine = HfEngine(*parts, "base", 64)
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


@pytest.mark.parametrize("name", list(configs()))
def test_architectures(name: str, parts: tuple[Any, Any]) -> None:
    """Grouped heads, windows shorter than the texts, soft caps: greedy as transformers itself."""
    torch.manual_seed(5)
    config = configs()[name]
    config.vocab_size, config.initializer_range = len(parts[1]), 0.3
    model = AutoModelForCausalLM.from_config(config).requires_grad_(False).eval()
    texts = [OPENING + text for text in TEXTS]
    made = generate(
        HfEngine(model, parts[1], "base", 4), requests(texts=texts, prefix=len(OPENING)), GREEDY
    )
    assert [c.text for c in made] == [plainly(model, parts[1], text, 12) for text in texts]


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
    forward, passes = engine._forward, 0

    def short(*arguments: Any) -> torch.Tensor:
        nonlocal passes
        passes += 1
        if engine.batch > 8 and passes > 4:
            raise torch.OutOfMemoryError("out of memory")
        return forward(*arguments)

    engine._forward = short  # type: ignore[method-assign]
    assert generate(engine, requests(4), LIVELY) == expected
    assert engine.batch == 8

    def never_enough(*arguments: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    engine._forward = never_enough  # type: ignore[method-assign]
    with pytest.raises(UserError, match="no memory for a single row"):
        generate(engine, requests(4), LIVELY)


def test_an_adapter_without_effect_or_for_another_base_is_refused_and_others_go_on(
    parts: tuple[Any, Any], adapters: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(adapters["plain"] / "adapter_model.safetensors")
    changed = {
        "idle": {k: v * 0 for k, v in weights.items()},
        "larger": {k: torch.ones(*(2 * s for s in v.shape)) for k, v in weights.items()},
        "elsewhere": {k.replace("layers.1", "layers.9"): v for k, v in weights.items()},
        "broken": {k: v * torch.nan for k, v in weights.items()},
    }
    for name, tensors in changed.items():
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "adapter_model.safetensors")
        config = (adapters["plain"] / "adapter_config.json").read_bytes()
        (tmp_path / name / "adapter_config.json").write_bytes(config)
    folders = {n: tmp_path / n for n in changed} | {"plain": adapters["plain"], "dora": adapters["dora"]}
    tasks = [Task(n, tuple(requests(subject=n)), GREEDY, f) for n, f in folders.items()]
    refused: dict[str, str] = {}
    engine = HfEngine(*parts, "base", 8)
    made = list(engine.complete(tasks, lambda t, e: refused.update({t.name: str(e)})))
    assert {t.name for t, _ in made} == {"plain", "dora"}
    assert "changes nothing" in refused["idle"]
    assert "q_proj is 64 × 64 in it, 32 × 32 in the base" in refused["larger"]
    assert "which the base does not have" in refused["elsewhere"]
    assert "no numbers" in refused["broken"]


def test_many_adapters_are_not_kept(
    parts: tuple[Any, Any], adapters: dict[str, Path], tmp_path: Path
) -> None:
    import shutil

    folders = [shutil.copytree(adapters["plain"], tmp_path / str(n)) for n in range(40)]
    tasks = [Task(f.name, tuple(requests(subject=f.name)), GREEDY, f) for f in folders]
    engine = HfEngine(*parts, "base", 8)
    assert len(list(engine.complete(tasks, never))) == 40 * len(TEXTS)
    assert len(engine.adapter_cache._loaded) <= 20


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


# ---- drawing tokens ------------------------------------------------------------------------


def drawn(logits: torch.Tensor, temperature: float, top_p: float, draws: torch.Tensor) -> torch.Tensor:
    """Every draw from one row of logits."""
    heat = torch.tensor([temperature], dtype=torch.float64)
    rows = torch.zeros(len(draws), dtype=torch.long)
    return pick(logits[None], heat, torch.tensor([top_p], dtype=torch.float64), rows, draws)


def test_sampling_draws_from_the_nucleus() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    draws = torch.rand(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn(logits, 1.0, 0.75, draws), minlength=4) / 4000
    assert counts[2] == counts[3] == 0
    assert counts[0].item() == pytest.approx(0.5 / 0.8, abs=0.03)
    counts = torch.bincount(drawn(logits, 1.0, 1.0, draws), minlength=4) / 4000
    assert counts.tolist() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)


def test_low_temperature_is_greedy() -> None:
    logits = torch.tensor([1.0, 5.0, 4.0])
    last = torch.tensor([0.0, 0.999999], dtype=torch.float64)
    assert drawn(logits, 0.01, 1.0, last).tolist() == [1, 1]
    assert drawn(logits, 0.0, 0.1, last).tolist() == [1, 1]


def test_a_very_flat_and_wide_nucleus_is_whole() -> None:
    """More tokens than any number of halvings would find: the last ones can still be drawn."""
    logits = torch.cat([torch.tensor([20.0]), torch.zeros(200_000)])
    draws = torch.tensor([0.0, 0.99999999], dtype=torch.float64)
    assert drawn(logits, 1.0, 0.99999, draws).tolist()[0] == 0
    assert drawn(logits, 1.0, 0.99999, draws).tolist()[1] > 100_000


@settings(max_examples=60)
@given(
    logits=st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=40),
    temperature=st.floats(0.05, 3),
    top_p=st.floats(0.01, 0.999),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_a_draw_is_the_one_of_the_sorted_definition(
    logits: list[float], temperature: float, top_p: float, draw: float
) -> None:
    row = torch.tensor(logits)
    chances = torch.softmax(row.double() / temperature, -1)
    order = sorted(range(len(logits)), key=lambda t: (-chances[t].item(), t))
    reached = [sum(chances[t].item() for t in order[: n + 1]) for n in range(len(order))]
    token = int(drawn(row, temperature, top_p, torch.tensor([draw], dtype=torch.float64)))
    own = chances[token].item()
    likelier = sum(c for c in chances.tolist() if c > own * (1 + 1e-5))  # near ties may go either way
    as_likely = sum(c for c in chances.tolist() if c >= own * (1 - 1e-5))
    before = [0.0, *reached[:-1]]
    edges = [m for m, b in zip(reached, before, strict=True) if b < top_p + 1e-5 and m >= top_p - 1e-5]
    assert edges  # rounding may put one token more or less into the nucleus
    assert any(likelier - 1e-4 <= draw * mass <= as_likely + 1e-4 for mass in edges)
    assert likelier < top_p + 1e-4


# ---- rows ----------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.randoms(use_true_random=False), st.integers(1, 6), st.integers(1, 5))
def test_rows_keep_every_sample_on_its_own_path(draw: random.Random, prompts: int, samples: int) -> None:
    """Against tokens drawn by a rule of their own: rows that part, end and move never mix up."""
    rows = Rows(torch.device("cpu"))
    rows.cache.layers[0] = (torch.zeros(16, 1, 16, 1), torch.zeros(16, 1, 16, 1))
    rows.cache.rows, rows.cache.places = 16, 16
    task = Task("t", (), Sampling(8, 1.0, 1.0))
    prompts = [
        PromptGroup(task, [Request(f"{p}/{s}", str(p), s, "", 1) for s in range(samples)], [p + 1], 0, "")
        for p in range(prompts)
    ]
    paths = {
        r.completion_id: [draw.randrange(3) for _ in range(draw.randint(1, 8))]
        for u in prompts
        for r in u.requests
    }

    def choose(members: list[Any], first: int, logits: torch.Tensor) -> list[int]:
        return [paths[s.request.completion_id][len(s.tokens)] for s in members]

    rows._draw_tokens = choose  # type: ignore[method-assign]
    passed, ids, last = rows.add(prompts)
    rows.cache.layers[0][0][: len(prompts), 0, 0, 0] = ids[0, last].float()
    done: dict[str, list[int]] = {}

    def ended(sample: Any) -> str:
        return "length" if len(sample.tokens) == len(paths[sample.request.completion_id]) else ""

    def finish(first: int) -> None:
        for sample, _ in rows.advance(first, torch.zeros(0), ended):
            done[sample.request.completion_id] = sample.tokens

    finish(0)
    while rows.count:
        passed, tokens = rows.next_pass()
        rows.cache.layers[0][0][passed.rows, 0, passed.starts, 0] = tokens[0].float() + 100
        rows.mark_written()
        for sample in rows.samples:
            held = rows.cache.layers[0][0][sample.row, 0, : rows.lengths[sample.row], 0].tolist()
            assert held == [int(sample.request.prompt_id) + 1, *(t + 100 for t in sample.tokens)]
        assert {s.row for s in rows.samples} == set(range(rows.count))
        finish(0)
    assert done == paths


def test_the_model_attends_as_before_outside(parts: tuple[Any, Any]) -> None:
    model, tokenizer = parts
    ids = tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    before = model(input_ids=ids).logits
    with using_cache(model):
        pass
    assert torch.equal(model(input_ids=ids).logits, before)


def test_a_base_that_attends_in_its_own_way_is_told(parts: tuple[Any, Any]) -> None:
    """Whatever does not give the model's own logits is refused before anything is generated."""
    from transformers import BloomConfig, MambaConfig

    for config in (
        BloomConfig(vocab_size=len(parts[1]), hidden_size=32, n_layer=1, n_head=2),
        MambaConfig(vocab_size=len(parts[1]), hidden_size=32, num_hidden_layers=1, state_size=4),
    ):
        model = AutoModelForCausalLM.from_config(config).requires_grad_(False).eval()
        with pytest.raises(UserError, match=f"cannot run {config.model_type} models"):
            generate(HfEngine(model, parts[1], "base"), requests(), GREEDY)


def test_ids_and_seeds_differ_between_samples_prompts_and_subjects() -> None:
    found = {identify(s, "b", p, n, 1) for s in "xy" for p in "pq" for n in range(3)}
    assert len({i for i, _ in found}) == len({s for _, s in found}) == 12


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

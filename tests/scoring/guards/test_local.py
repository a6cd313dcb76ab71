"""Tiny guards of every architecture through the engine: verdict, categories, refusal and probability in one pass."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from support.guards import CHAINS, TEMPLATE, make_guard
from unharm.core.errors import UserError
from unharm.core.records import Reply, Score
from unharm.engines.replies import ReplyEngine, load_reply_engine
from unharm.scoring.answer_store import Answers
from unharm.scoring.guards import PRESETS
from unharm.scoring.guards.local import LocalGuard, check_guard_model
from unharm.scoring.guards.prompts import criteria_of
from unharm.scoring.settings import GuardSpec
from unharm.scoring.texts import Text

MODELS = [(name, architecture) for name in CHAINS for architecture in PRESETS[name].architectures]
TEXTS = [
    Text(str(n), f"Why is thing {n % 3} so?", f"Because {n} is {'very ' * (n % 4)}so.", "")
    for n in range(8)
]
TWICE = Text("twice", TEXTS[0].prompt, TEXTS[0].answer, "")
"""Another completion with the words of the first one."""


class Counted:
    """An engine that counts what it is asked."""

    def __init__(self, engine: ReplyEngine):
        self.engine, self.prompts, self.calls = engine, 0, 0
        self.tokenizer = engine.tokenizer

    def replies(
        self, prompts: Sequence[str], groups: Sequence[str], max_tokens: int
    ) -> Iterator[tuple[int, Reply]]:
        self.prompts, self.calls = self.prompts + len(prompts), self.calls + 1
        return self.engine.replies(prompts, groups, max_tokens)


Made = Callable[..., Path]


@pytest.fixture(scope="module")
def guard(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Makes tiny guards, each once."""
    made: dict[tuple[str, str, bool], Path] = {}

    def make(preset: str, architecture: str = "", chain: bool = True) -> Path:
        key = preset, architecture or PRESETS[preset].architectures[0], chain
        if key not in made:
            made[key] = make_guard(preset, tiny_base, tmp_path_factory.mktemp("guards"), key[1], chain)
        return made[key]

    return make


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Answers]:
    store = Answers(tmp_path / "answers.sqlite")
    yield store
    store.close()


def spec_of(preset: str, folder: Path, **more: Any) -> GuardSpec:
    return GuardSpec.model_validate({"kind": "guard", "preset": preset, "model": str(folder)} | more)


def score(spec: GuardSpec, answers: Answers, engine: Counted, texts: list[Text] = TEXTS) -> list[Score]:
    return LocalGuard(spec, "v", answers, lambda: engine)(texts)


def loaded(folder: Path) -> Counted:
    return Counted(load_reply_engine(str(folder), None, "cpu", "scorers.guard"))


@pytest.mark.parametrize(("preset", "architecture"), MODELS)
def test_a_guard_end_to_end(preset: str, architecture: str, guard: Made, answers: Answers) -> None:
    folder = guard(preset, architecture)
    spec = spec_of(preset, folder)
    check_guard_model(spec, "scorers.guard")
    engine = loaded(folder)
    flagged = score(spec, answers, engine, [*TEXTS, TWICE])
    asked = len(TEXTS) * len(criteria_of(spec, PRESETS[preset]))
    assert (engine.prompts, engine.calls) == (asked, 1)  # the repeated text is not asked about
    assert [s.completion_id for s in flagged] == [t.id for t in [*TEXTS, TWICE]]
    assert all(s.status == "scored" for s in flagged), {s.reason for s in flagged}
    assert (flagged[-1].value, flagged[-1].label) == (flagged[0].value, flagged[0].label)

    probable = score(spec_of(preset, folder, measures="toxicity"), answers, engine)
    assert engine.prompts == asked
    for verdict, harm in zip(flagged, probable, strict=False):
        assert harm.value is not None
        assert 0 <= harm.value <= 1
        said = json.loads(harm.raw)
        assert all(0.99 < one["mass"] <= 1 + 1e-6 for one in said)
        if len(PRESETS[preset].words) == 2:  # the verdict is the likelier of two
            assert (harm.value >= 0.5) == (verdict.value == 1)
        assert (verdict.label == "safe") == (verdict.value == 0)
    if PRESETS[preset].says_refusal:
        refusals = score(spec_of(preset, folder, measures="refusal"), answers, engine)
        assert engine.prompts == asked
        assert {s.label for s in refusals} <= {"refused", "answered"}
        assert all(s.value == float(s.label == "refused") for s in refusals)


def test_the_probability_is_that_of_the_plain_model(guard: Made, answers: Answers) -> None:
    folder = guard("shieldgemma")
    engine = loaded(folder)
    criteria = {"one": "It must not be rude."}
    spec = spec_of("shieldgemma", folder, measures="toxicity", criteria=criteria)
    scores = score(spec, answers, engine)
    yes, no = engine.tokenizer.convert_tokens_to_ids(["Yes", "No"])
    for text, got in zip(TEXTS, scores, strict=True):
        messages = [{"role": "user", "content": text.prompt}, {"role": "assistant", "content": text.answer}]
        ids = engine.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, guideline=criteria["one"], return_tensors="pt", return_dict=True
        )["input_ids"]  # fmt: skip
        both = engine.engine.model(input_ids=ids).logits[0, -1].softmax(-1)[[yes, no]]
        assert got.value == pytest.approx(float(both[0] / both.sum()), abs=1e-4)
    assert len({s.value for s in scores}) == len(TEXTS)


def test_a_threshold_needs_no_other_pass(guard: Made, answers: Answers) -> None:
    folder = guard("qwen3guard")
    engine = loaded(folder)
    harms = score(spec_of("qwen3guard", folder, measures="toxicity"), answers, engine)
    numbers = sorted(s.value for s in harms if s.value is not None)
    middle = (numbers[3] + numbers[4]) / 2
    flagged = score(spec_of("qwen3guard", folder, threshold=middle), answers, engine)
    assert [s.value for s in flagged] == [float((h.value or 0) >= middle) for h in harms]
    assert sum(s.value or 0 for s in flagged) == 4
    assert engine.calls == 1


def test_controversial_counts_as_the_study_says(guard: Made, answers: Answers) -> None:
    folder = guard("qwen3guard")
    engine = loaded(folder)
    harm = {
        word: score(spec_of("qwen3guard", folder, measures="toxicity", controversial=word), answers, engine)
        for word in ("unsafe", "safe")
    }
    for unsafe, safe in zip(harm["unsafe"], harm["safe"], strict=True):
        shares = json.loads(unsafe.raw)[0]["probabilities"]
        assert unsafe.value == pytest.approx(shares["unsafe"] + shares["controversial"])
        assert safe.value == pytest.approx(shares["unsafe"])


def test_replies_outside_the_form_are_unscored(guard: Made, answers: Answers) -> None:
    folder = guard("qwen3guard", chain=False)
    engine = loaded(folder)
    scores = score(spec_of("qwen3guard", folder, max_tokens=6), answers, engine)
    assert len(scores) == len(TEXTS)
    assert {(s.value, s.status) for s in scores} == {(None, "unscored")}
    reasons = {s.reason for s in scores}
    assert reasons <= {"the reply is not in the guard's form", "the guard's reply was cut at max_tokens"}


def test_reasoning_that_is_cut_is_unscored(guard: Made, answers: Answers) -> None:
    folder = guard("gpt-oss-safeguard")
    scores = score(spec_of("gpt-oss-safeguard", folder, max_tokens=4), answers, loaded(folder))
    assert {(s.status, s.reason) for s in scores} == {
        ("unscored", "the guard's reply was cut at max_tokens")
    }


def test_too_long_a_text_is_unscored_alone(guard: Made, answers: Answers) -> None:
    folder = guard("llama-guard-3")
    long = Text("long", "Why?", "because " * 12000, "")
    scores = score(spec_of("llama-guard-3", folder), answers, loaded(folder), [*TEXTS, long])
    assert [s.status for s in scores] == ["scored"] * len(TEXTS) + ["unscored"]
    assert scores[-1].reason == "prompt too long"


def test_rows_longer_than_a_chunk_are_left_to_the_model(guard: Made) -> None:
    engine = loaded(guard("llama-guard-4")).engine
    prompts = ["A short one. <verdict>", "A rather long one. " * 60 + "<verdict>"]
    replies = dict(engine.replies(prompts, ["a", "b"], 8))
    assert engine.cached
    engine.cached = False
    for number, plain in engine.replies(prompts, ["a", "b"], 8):
        assert replies[number].text == plain.text
        for one, other in zip(replies[number].tokens, plain.tokens, strict=True):
            assert one.likely == pytest.approx(other.likely, abs=1e-5)


def test_replies_outlive_the_process(guard: Made, tmp_path: Path) -> None:
    folder = guard("llama-guard-3")
    first = Answers(tmp_path / "answers.sqlite")
    before = score(spec_of("llama-guard-3", folder), first, loaded(folder))
    first.close()

    def never() -> ReplyEngine:
        raise AssertionError("the engine is not needed")

    second = Answers(tmp_path / "answers.sqlite")
    after = LocalGuard(spec_of("llama-guard-3", folder), "v", second, never)(TEXTS)
    second.close()
    assert after == before


def test_categories_by_the_names_of_a_benchmark(guard: Made, answers: Answers) -> None:
    folder = guard("llama-guard-3")
    spec = spec_of("llama-guard-3", folder, categories="beavertails")
    labels = {s.label for s in score(spec, answers, loaded(folder))}
    assert labels == {"safe", "unsafe: violence,aiding_and_abetting,incitement"}


def test_a_model_of_another_kind_is_refused_at_once(guard: Made) -> None:
    with pytest.raises(
        UserError, match="is a LlamaForCausalLM; the preset qwen3guard is for Qwen3ForCausalLM"
    ):
        check_guard_model(spec_of("qwen3guard", guard("llama-guard-3")), "scorers.guard")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("", "has no chat template"),
        (TEMPLATE.replace("words(m.content)", "m.content if m.role == 'user'"), "leaves out"),
        ("{{ raise_exception('no') }}", "does not take the messages of llama-guard-3"),
    ],
)
def test_a_template_that_does_not_fit_is_refused_at_once(
    template: str, words: str, tiny_base: Path, tmp_path: Path
) -> None:
    folder = make_guard("llama-guard-3", tiny_base, tmp_path / "guard")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template or None
    for file in folder.glob("chat_template*"):
        file.unlink()
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match=words):
        check_guard_model(spec_of("llama-guard-3", folder), "scorers.guard")


def test_weights_that_are_not_there_are_a_mistake(tiny_base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_guard("llama-guard-3", tiny_base, tmp_path / "guard")
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lack 1 weights \(lm_head.weight"):
        loaded(folder)

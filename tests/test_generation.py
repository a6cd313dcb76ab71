"""The stage that makes completions: what a kill leaves, what is refused, what the alignment check reads."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from transformers import AutoTokenizer

from unharm.core.errors import UserError
from unharm.core.files.disk import Parts
from unharm.engines.hf import HfEngine
from unharm.engines.requests import Request, Sampling, Task
from unharm.prompting.compose import Composer, as_text
from unharm.prompting.pack import load_pack
from unharm.run import keys
from unharm.run.adapters import failed_names
from unharm.run.context import Run
from unharm.run.pipeline import run_study


def completions(run: Run) -> pl.DataFrame:
    return pl.read_parquet(run.store.root / "completions" / "**" / "*.parquet").sort("completion_id")


def small(tiny_study: dict[str, Any], *arms: str) -> dict[str, Any]:
    return tiny_study | {"arms": list(arms)}


def test_parts_outlive_a_cut_line(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "a" / "x.jsonl")
    assert parts.rows() == []
    parts.add({"n": 1})
    with parts.path.open("ab") as file:
        file.write(b'{"n": 2, "te')
    again = Parts(parts.path)
    again.add({"n": 3}, synced=True)
    again.add({"n": 4})
    assert again.rows() == [{"n": 1}, {"n": 3}, {"n": 4}]
    again.drop()
    assert again.rows() == []


def test_what_was_completed_before_a_kill_is_not_completed_again(
    tiny_study: dict[str, Any], load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = completions(run_study(load(small(tiny_study, "vanilla", "icl")), last="completions"))
    data = small(tiny_study, "vanilla", "icl") | {"output": str(tmp_path / "killed")}
    complete, given = HfEngine.complete, 0

    def killed(self: HfEngine, *arguments: Any) -> Any:
        nonlocal given
        for made in complete(self, *arguments):
            given += 1
            if given == 70:
                raise KeyboardInterrupt
            yield made

    with monkeypatch.context() as patch:
        patch.setattr(HfEngine, "complete", killed)
        with pytest.raises(KeyboardInterrupt):
            run_study(load(data), last="completions")
    assert list((tmp_path / "killed" / ".parts").rglob("*.jsonl"))
    asked = 0

    def counted(self: HfEngine, tasks: Any, refused: Any) -> Any:
        nonlocal asked
        for made in complete(self, tasks, refused):
            asked += 1
            yield made

    monkeypatch.setattr(HfEngine, "complete", counted)
    run = run_study(load(data), last="completions")
    assert asked == whole.height - 69
    assert completions(run).equals(whole)
    assert not list((tmp_path / "killed" / ".parts").rglob("*.jsonl"))


def test_completions_do_not_depend_on_the_batch(
    tiny_study: dict[str, Any], load: Any, tmp_path: Path
) -> None:
    hot = {name: spec | {"temperature": 1.0} for name, spec in tiny_study["benchmarks"].items()}
    data = small(tiny_study, "vanilla", "icl", "vim-ag") | {"benchmarks": hot}
    one = completions(run_study(load(data, "engine.batch=5"), last="completions"))
    other = run_study(load(data, "engine.batch=200", f"output={tmp_path / 'other'}"), last="completions")
    assert completions(other).equals(one)


def test_a_trained_adapter_without_effect_is_left_out_and_told(
    tiny_study: dict[str, Any], load: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    data = small(tiny_study, "vanilla", "vim-ag", "benign:grammar")
    data["training"] = {"vim": {"lr": 1e-12, "epochs": 1}, "benign": {"lr": 5e-3}}
    run = run_study(load(data))
    assert set(failed_names(run)) == {f"vim-ag · {p} · ag" for p in ("power", "benevolence", "security")}
    assert (
        "vim-ag · power: refused, and left out of what follows (the adapter changes nothing"
        in capsys.readouterr().err
    )
    subjects = pl.read_csv(run.store.root / "findings" / "subjects.csv")
    assert set(subjects["arm"]) == {"vanilla", "benign:grammar"}
    assert "refused before generating" in (run.store.root / "report.html").read_text()
    again = run_study(load(data))
    assert set(failed_names(again)) == set(failed_names(run))


def test_an_adapter_of_ones_own_that_does_not_fit_is_a_mistake(
    tiny_study: dict[str, Any], load: Any, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import save_file

    name = "base_model.model.model.layers.0.self_attn.q_proj"
    save_file(
        {f"{name}.lora_A.weight": torch.ones(4, 64), f"{name}.lora_B.weight": torch.ones(64, 4)},
        tmp_path / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    data = small(tiny_study, "vanilla", "adapter:mine") | {"adapters": {"mine": str(tmp_path)}}
    with pytest.raises(UserError, match="64 × 64 in it, 32 × 32 in the base"):
        run_study(load(data))
    config["base_model_name_or_path"] = "some/base"
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="was made for some/base, and the base is other/base"):
        run_study(load(data, "base=other/base"))
    config["revision"] = "abc"
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="made for revision abc of the base, and the study names def"):
        run_study(load(data, "base=some/base", "revision=def"))


def test_the_alignment_is_read_from_text_and_from_the_distribution(
    tiny_study: dict[str, Any], load: Any
) -> None:
    run = run_study(load(small(tiny_study, "vanilla", "icl", "vim-ag")))
    table = pl.read_csv(run.store.root / "findings" / "alignment.csv")
    assert table.group_by("reading", "arm").len()["len"].to_list() == [3] * 6
    told = table.filter(pl.col("reading") == "distribution")
    assert told["unscored"].sum() == 0
    assert (told["mass"] > 0).all()
    assert (told["mass"] <= 1 + 1e-9).all()
    options = completions(run).filter(pl.col("prompt_id").str.starts_with("item-"))["options"]
    assert options.list.len().unique().to_list() == [6]
    one = keys.shards(run.plan, run.plan.subjects[0], run.base.key, "")
    shard = [s for s in one if s.benchmark == "questionnaire"]
    rows = pl.concat([run.store.scan(s.completions) for s in shard]).collect()
    value = next(p.category for p in shard[0].prompts)
    items = {p.id for s in shard for p in s.prompts if p.category == value}
    ratings = [
        sum((n + 1) * p for n, p in enumerate(r["options"])) / sum(r["options"])
        for r in rows.to_dicts()
        if r["prompt_id"] in items
    ]
    row = told.filter(pl.col("arm") == "vanilla").row(0, named=True)
    assert row[f"predicted_{value}"] == pytest.approx(sum(ratings) / len(ratings), rel=1e-9)
    assert "read from the distribution over the six answers" in (run.store.root / "report.html").read_text()


def test_rtp_strata_are_reported_apart(tiny_study: dict[str, Any], load: Any, tmp_path: Path) -> None:
    rows = [
        {
            "filename": f"{n}.txt",
            "begin": 0,
            "prompt": {"text": f"The neighbour number {n} said", "toxicity": n / 8},
        }
        for n in range(8)
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    spec = {"file": str(tmp_path / "prompts.jsonl"), "samples": 2, "max_tokens": 4}
    run = run_study(load(small(tiny_study, "vanilla") | {"benchmarks": {"rtp": spec}}))
    found = pl.read_csv(run.store.root / "findings" / "subjects.csv")
    emt = found.filter(pl.col("metric") == "expected_maximum_toxicity")
    assert dict(emt.select("category", "n").iter_rows()) == {"all": 8, "toxic": 4, "non-toxic": 4}


# ---- prompts -------------------------------------------------------------------------------

TEMPLATES = {
    "llama-2": "{% if messages[0]['role'] == 'system' %}{% set before = '<<SYS>>' + messages[0]['content'] + '<</SYS>>' %}"
    "{% set turns = messages[1:] %}{% else %}{% set before = '' %}{% set turns = messages %}{% endif %}"
    "{{ bos_token }}[INST] {{ before }}{{ turns[0]['content'] }} [/INST]",
    "llama-3.1": "{% for m in messages %}<|start|>{{ m['role'] }}<|stop|>{{ m['content'] }}<|turn|>{% endfor %}"
    "<|start|>assistant<|stop|>",
    "gemma-2": "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] | trim }}</turn>{% endfor %}<turn>model\n",
    "gemma-3": "{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set first = '' %}{% set turns = messages %}{% endif %}"
    "<turn>user\n{{ first }}{{ turns[0]['content'] | trim }}</turn><turn>model\n",
    "qwen-2.5": "{% if messages[0]['role'] != 'system' %}<im>system\nA helper.</im>{% endif %}"
    "{% for m in messages %}<im>{{ m['role'] }}\n{{ m['content'] }}</im>{% endfor %}<im>assistant\n",
}
"""Templates of ours that treat roles as those of these families do."""


@pytest.mark.parametrize("family", list(TEMPLATES))
def test_chat_templates_with_and_without_a_system_role(family: str, tiny_base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.chat_template = TEMPLATES[family]
    text = as_text("Be kind.", "How do I bake bread?", "chat", tokenizer)
    assert text.count("Be kind.") == 1
    assert text.index("Be kind.") < text.index("How do I bake bread?")
    bare = as_text("", "How do I bake bread?", "chat", tokenizer)
    assert "Be kind." not in bare
    pack = load_pack("default")
    compose = Composer(pack, "Be kind.", "ask", "chat", tokenizer)
    texts = [compose.text(t) for t in ("How do I bake bread?", "Why does it rain?")]
    assert len({t[: compose.prefix] for t in texts}) == 1
    assert compose.prefix >= texts[0].index("Be kind.") + len("Be kind.")
    assert not any(t[: compose.prefix].endswith(("How", "Why")) for t in texts)


def test_messages_of_a_served_model() -> None:
    compose = Composer(load_pack("default"), "Be kind.", "continue", "messages")
    assert compose.messages("On Sundays") == (("system", "Be kind."), ("user", "On Sundays"))
    assert compose.text("On Sundays") == "system: Be kind.\n\nuser: On Sundays"
    assert Composer(load_pack("default"), "", "continue", "base").messages("x") == ()


# ---- vLLM, by a stand-in ------------------------------------------------------------------


@dataclass
class FakeVllm:
    """What of vLLM is used, and what it was asked."""

    settings: dict[str, Any] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch, tiny_base: Path) -> FakeVllm:
    fake = FakeVllm()
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)

    class LLM:
        def __init__(self, **settings: Any):
            fake.settings = settings
            config = types.SimpleNamespace(max_model_len=40)
            self.llm_engine = types.SimpleNamespace(model_config=config)

        def get_tokenizer(self) -> Any:
            return tokenizer

        def generate(
            self, prompts: list[Any], settings: list[Any], lora_request: Any, use_tqdm: bool
        ) -> list[Any]:
            fake.asked.append((prompts, settings, lora_request))
            name = lora_request.lora_name if lora_request else "base"
            shift = 0.0 if name.endswith("idle") else len(name)
            chance = types.SimpleNamespace(
                decoded_token=" 3", logprob=-1.0 - (shift if lora_request else 0.0)
            )
            out = types.SimpleNamespace(
                text=f" by {name}",
                finish_reason="length",
                stop_reason=None,
                token_ids=[1, 2],
                logprobs=[{7: chance}],
            )
            return [types.SimpleNamespace(outputs=[out], prompt_token_ids=[1, 2, 3]) for _ in prompts]

    module = types.ModuleType("vllm")
    module.LLM = LLM  # type: ignore[attr-defined]
    module.SamplingParams = lambda **s: types.SimpleNamespace(**s)  # type: ignore[attr-defined]
    lora, request = types.ModuleType("vllm.lora"), types.ModuleType("vllm.lora.request")
    request.LoRARequest = lambda name, number, path: types.SimpleNamespace(  # type: ignore[attr-defined]
        lora_name=name, lora_int_id=number, lora_path=path
    )
    for name, part in (("vllm", module), ("vllm.lora", lora), ("vllm.lora.request", request)):
        monkeypatch.setitem(sys.modules, name, part)
    return fake


def test_around_vllm(vllm: FakeVllm, tiny_study: dict[str, Any], load: Any, tiny_base: Path) -> None:
    from unharm.engines.vllm import VllmEngine

    study = load(
        small(tiny_study, "vanilla", "vim-ag") | {"training": {"lora": {"r": 20}}}, "engine.name=vllm"
    )
    engine = VllmEngine(
        tiny_base, study.engine, study.prompting.style == "chat", study.training.lora.r, study.seed
    )
    assert (vllm.settings["max_lora_rank"], vllm.settings["max_loras"]) == (32, 8)
    texts = ["one", "two", "", "word " * 60]
    wanted = tuple(Request(f"c{n}", f"p{n}", 0, t, 2**40 + n, options=(" 3",)) for n, t in enumerate(texts))
    sampling = Sampling(8, 0.1, 0.75, ("\n",))
    names = {"base": None, "hash1": tiny_base / "hash1", "idle": tiny_base / "idle"}
    tasks = [Task(n, wanted, sampling, folder) for n, folder in names.items()]
    refused: list[str] = []
    made = list(engine.complete(tasks, lambda task, error: refused.append(task.name)))
    assert refused == ["idle"]
    by_task = {n: [c for t, c in made if t.name == n] for n in names}
    assert [c.completion_id for c in by_task["base"]] == ["c2", "c3", "c0", "c1"]
    assert [c.reason for c in by_task["base"]] == ["empty prompt", "prompt too long", "", ""]
    assert {c.text for c in by_task["hash1"] if c.status == "completed"} == {" by hash1"}
    assert by_task["base"][-1].options == pytest.approx((0.3679,), abs=1e-4)
    settings = next(s for _, s, request in vllm.asked if request and len(s) == 2)
    assert (settings[0].max_tokens, settings[0].temperature, settings[0].stop) == (8, 0.1, ["\n"])
    assert settings[0].seed == (2**40) % 2**31


def test_without_vllm_the_message_says_how_to_get_it(tiny_study: dict[str, Any], load: Any) -> None:
    with pytest.raises(UserError, match=r"pip install 'unharm\[vllm\]'"):
        run_study(load(small(tiny_study, "vanilla"), "engine.name=vllm"), last="completions")


def test_a_whole_study_on_vllm(vllm: FakeVllm, tiny_study: dict[str, Any], load: Any) -> None:
    hot = {n: s for n, s in tiny_study["benchmarks"].items() if n in ("rtp", "hbr")}
    data = small(tiny_study, "vanilla", "vim-ag") | {"benchmarks": hot}
    run = run_study(load(data, "engine.name=vllm"))
    found = completions(run)
    assert found.height == 4 * (4 * 3 + 8)
    assert set(found["text"]) == {" by base", *(f" by {r.lora_name}" for _, _, r in vllm.asked if r)}
    named = {r.lora_name for _, _, r in vllm.asked if r}
    assert all(len(n) == 20 for n in named)
    assert len(named) == 3

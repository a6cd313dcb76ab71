"""Every parser of what others made, behind one call: bytes in, nothing or a `UserError` out.

Each takes the bytes of a file, reads them as a study would, and uses what it got: it is keyed, stored and
shown. Whatever else is raised is a defect. Shared by the tests with hypothesis and by `tools/fuzz.py`.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openpyxl
import polars as pl
import torch
from safetensors.torch import save_file

from unharm.analysis.calibration import Calibration
from unharm.analysis.human_labels import read_labels
from unharm.analysis.hypotheses import load_hypotheses
from unharm.analysis.score_maps import load_map
from unharm.benchmarks.registry import load_prompts
from unharm.core.files.yaml_text import SpecText, read_text
from unharm.core.models.adapter_check import check_adapter
from unharm.core.models.base_files import folder_key, has_chat_template
from unharm.core.models.completeness import check_tensors
from unharm.core.models.peft_folder import AdapterSource, check_base, find_adapter
from unharm.core.printable import name_problem, printable
from unharm.core.records import Completion
from unharm.core.values import VALUES
from unharm.corpus.benign import load_benign
from unharm.corpus.valueeval import read_arguments
from unharm.engines.server_answers import read_answer
from unharm.engines.thoughts import without_thought
from unharm.profiles.survey import load_items, read_survey
from unharm.profiles.table import read_profiles
from unharm.prompting.pack import load_pack
from unharm.runs.status import status, status_text
from unharm.scoring.guards import PRESETS
from unharm.scoring.refusals import refuses
from unharm.scoring.rubric import EMBEDDED, load_rubric
from unharm.scoring.texts import Text, first_sentence, joined, masked
from unharm.store import journal
from unharm.store.store import Artefact, Store
from unharm.store.tables import csv_bytes, read_csv
from unharm.study.check import parse_study
from unharm.study.demo import data_folder

Parser = Callable[[bytes, Path], None]
"""Reads bytes as one kind of file; the folder is its own, for files."""


def harmless(text: str) -> bool:
    """Whether a terminal shows a text and does nothing else. Spaces of all kinds are shown."""
    return all(c.isprintable() or c in "\n\t" or unicodedata.category(c) == "Zs" for c in text)


def plain(text: str) -> None:
    """A text can be stored and shown."""
    text.encode("utf-8")
    assert harmless(printable(text)), repr(text)


def _file(data: bytes, folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def spec(data: bytes, folder: Path) -> None:
    """A study: what is stored of it is the same study."""
    file = _file(data, folder, "study.yaml")
    study = parse_study(SpecText(read_text(file, "study"), "study.yaml"), data_needed=False)
    stored = json.dumps(study.model_dump(mode="json"), indent=1)
    plain(stored)
    again = parse_study(SpecText(stored, "study.json"), data_needed=False)
    assert again == study
    for name in (study.name, *study.arms, *study.scorers, *study.served):
        assert not name_problem(name), repr(name)


def settings(data: bytes, folder: Path) -> None:
    """A value of `--set`."""
    text = SpecText(
        "name: a\nbase: toy\ndata: toy\narms: [vanilla]\nbenchmarks: {rtp: {file: rtp.csv}}\n", "a"
    )
    text.override(data.decode("utf-8", "replace"))
    parse_study(text, data_needed=False)


def pack(data: bytes, folder: Path) -> None:
    """A prompt pack: every wording can be filled."""
    loaded = load_pack(str(_file(data, folder, "pack.yaml")))
    plain(json.dumps(loaded.data, indent=1, ensure_ascii=False))
    assert loaded.key
    argument = read_arguments(data_folder() / "arguments.tsv")[0]
    texts = [*loaded.ag(argument, True), *loaded.qa(argument, "power", 6), loaded.chat_text("continue")]
    texts += [loaded.strategy_text(name, ["power"]) for name in ("safety", "value", "dual")]
    texts += loaded.benign_example("grammar", {"input": "a", "target": "b"})
    for text in texts:
        plain(text)


def rubric(data: bytes, folder: Path) -> None:
    """A rubric: its messages and its schema."""
    loaded = load_rubric(str(_file(data, folder, "rubric.yaml")))
    assert loaded.key
    for structured in (True, False):
        plain(json.dumps(loaded.messages(Text("i", "p", "a", "a"), structured), ensure_ascii=False))
    assert len(json.dumps(loaded.schema())) < 100_000
    loaded.read("1\nreason")
    assert not name_problem(loaded.name)


def _profiles(data: bytes, folder: Path, name: str) -> None:
    for profile in read_profiles(_file(data, folder, name)):
        assert not name_problem(profile.name), repr(profile.name)
        assert len(profile.importances) == len(VALUES)
        assert all(1 <= x <= 6 for x in profile.importances)
        plain(profile.name)
        frame = pl.DataFrame({"name": [profile.name, "x"]})
        (folder / "names.csv").write_bytes(csv_bytes(frame))
        assert read_csv(folder / "names.csv", {"name": pl.String}).equals(frame), repr(profile.name)


def _prompts(name: str, file: str, variant: str | None = None) -> Parser:
    def parse(data: bytes, folder: Path) -> None:
        path = _file(data, folder, file)
        for prompt in load_prompts(name, folder if name == "hexphi" else path, None, 1, variant).prompts:
            for text in (prompt.id, prompt.text, prompt.category, *prompt.attributes.values()):
                plain(text)
            masked(first_sentence(joined(prompt.text, prompt.text)), prompt.attributes.get("group", ""))

    return parse


def items(data: bytes, folder: Path) -> None:
    """A map of survey items."""
    load_items(str(_file(data, folder, "items.yaml")))


def survey(data: bytes, folder: Path) -> None:
    """A survey of ten items, one per value."""
    rows = "values:\n" + "".join(f"  {v}: [i{n}]\n" for n, v in enumerate(VALUES))
    names = load_items(
        str(
            _file(
                f"{rows}lowest: 1\nhighest: 6\nreversed: true\nmissing: [99]\n".encode(), folder, "i.yaml"
            )
        )
    )
    read_survey(_file(data, folder, "survey.csv"), names)


def arguments(data: bytes, folder: Path) -> None:
    """Arguments with their ten labels."""
    for argument in read_arguments(_file(data, folder, "arguments.tsv")):
        plain(argument.conclusion + argument.premise + argument.id)


def benign(data: bytes, folder: Path) -> None:
    """A benign set in JSON."""
    loaded = load_benign("alpaca", _file(data, folder, "alpaca.json"), load_pack("toy"), None, 1)
    for example in loaded.examples:
        plain(example.prompt + example.answer)


def hypotheses(data: bytes, folder: Path) -> None:
    """Hypotheses: keyed, and what they say is plain."""
    stated = load_hypotheses(str(_file(data, folder, "hypotheses.yaml")))
    assert stated.key
    for one in stated.hypotheses:
        plain(one.id + one.harm + one.source)
        assert not name_problem(one.id), repr(one.id)


def human(data: bytes, folder: Path) -> None:
    """Labels of people."""
    frame = read_labels([_file(data, folder, "labels.csv")], "flagged")
    assert frame["value"].is_finite().all()


def score_map(data: bytes, folder: Path) -> None:
    """A map from one scorer to another."""
    loaded = load_map(_file(data, folder, "map.json"))
    assert loaded.key
    plain(loaded.name)
    if isinstance(loaded, Calibration):
        assert np.isfinite(loaded.map(np.linspace(0, 1, 5))).all()


def reply(data: bytes, folder: Path) -> None:
    """What judges and guards say, and what models write."""
    text = data.decode("utf-8", "surrogatepass") if _whole(data) else data.decode("utf-8", "replace")
    for name in EMBEDDED:
        verdict = load_rubric(name).read(text)
        assert verdict is None or math.isfinite(verdict.value)
    for preset in PRESETS.values():
        reading = preset.reading(text)
        assert reading is None or 0 <= reading.at <= len(text)
    refuses(text)
    first_sentence(text)
    masked(text, "old men")
    without_thought(Completion("i", "p", 0, text, "stop", 1, 1))


def _whole(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def answer(data: bytes, folder: Path) -> None:
    """The JSON of a server's answer, as the client gives it: objects, and mappings for probabilities."""
    try:
        read = read_answer(_as_object(json.loads(data)))
    except (ValueError, RecursionError):
        return
    assert all(0 <= chance < math.inf for chance in read.options(("1", "2")))
    read.ended(("\n",))


def _as_object(value: Any, field: str = "") -> Any:
    if isinstance(value, list):
        return [_as_object(one, field) for one in value]
    if isinstance(value, dict) and field != "top_logprobs":
        return SimpleNamespace(**{name: _as_object(one, name) for name, one in value.items()})
    return value


def status_file(data: bytes, folder: Path) -> None:
    """The status of somebody's run."""
    _file(data, folder, "status.json")
    status_text(status(str(folder)))


def markers(data: bytes, folder: Path) -> None:
    """Markers and journals of somebody's run: nothing outside the folder is touched."""
    store = Store(folder / "run")
    for path in (".done/scores/a.parquet.json", "journal.jsonl"):
        (folder / "run" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "run" / path).write_bytes(data)
    outside = _file(b"mine", folder, "outside")
    store.marker(Artefact("scores/a.parquet", "key"))
    store.artefacts("scores")
    list(journal.events(store))
    assert outside.read_bytes() == b"mine"
    shutil.rmtree(folder / "run")


def base_config(data: bytes, folder: Path) -> None:
    """The configuration of a base whose weights are a few bytes."""
    _file(data, folder, "config.json")
    _file(data, folder, "tokenizer_config.json")
    _file(b"\x02\0\0\0\0\0\0\0{}", folder, "model.safetensors")
    has_chat_template(folder)
    folder_key(folder)
    check_tensors(folder, "base")


def adapter_config(data: bytes, folder: Path) -> None:
    """The configuration of an adapter made elsewhere."""
    _file(data, folder, "adapter_config.json")
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {f"{name}.lora_A.weight": torch.ones(8, 2), f"{name}.lora_B.weight": torch.ones(2, 8)}
    save_file(tensors, folder / "adapter_model.safetensors")
    found = find_adapter("x", AdapterSource(source=str(folder)))
    check_adapter(found, "x")
    check_base(found, "some/base", None)


def adapter_weights(data: bytes, folder: Path) -> None:
    """The weights of an adapter made elsewhere."""
    _file(b'{"peft_type": "LORA"}', folder, "adapter_config.json")
    _file(data, folder, "adapter_model.safetensors")
    check_adapter(find_adapter("x", AdapterSource(source=str(folder))), "x")


PARSERS: dict[str, Parser] = {
    "spec": spec,
    "settings": settings,
    "pack": pack,
    "rubric": rubric,
    "profiles": lambda data, folder: _profiles(data, folder, "profiles.csv"),
    "profiles.yaml": lambda data, folder: _profiles(data, folder, "profiles.yaml"),
    "rtp": _prompts("rtp", "rtp.csv"),
    "rtp.jsonl": _prompts("rtp", "rtp.jsonl"),
    "hbr": _prompts("hbr", "hbr.jsonl"),
    "hexphi": _prompts("hexphi", "category_1_a.csv"),
    "beavertails": _prompts("beavertails", "beavertails.csv"),
    "beavertails.json": _prompts("beavertails", "beavertails.json"),
    "xstest": _prompts("xstest", "xstest.csv"),
    "strongreject": _prompts("strongreject", "strongreject.csv"),
    "questionnaire": _prompts("questionnaire", "questionnaire.csv"),
    "workbook": _prompts("questionnaire", "pvq.xlsx", "pvq40"),
    "items": items,
    "survey": survey,
    "arguments": arguments,
    "benign": benign,
    "hypotheses": hypotheses,
    "human": human,
    "map": score_map,
    "reply": reply,
    "answer": answer,
    "status": status_file,
    "markers": markers,
    "base": base_config,
    "adapter": adapter_config,
    "weights": adapter_weights,
}
"""Every parser by the kind of what it reads."""


def seeds(kind: str) -> list[bytes]:
    """Right inputs of a kind, to start from."""
    toy = data_folder()
    files: dict[str, list[str]] = {
        "spec": ["../quickstart.yaml"],
        "pack": ["pack.yaml"],
        "rtp": ["rtp.csv"],
        "hbr": ["hbr.jsonl"],
        "hexphi": ["hexphi/category_1_illegal_activity.csv"],
        "beavertails": ["beavertails.csv"],
        "questionnaire": ["questionnaire.csv"],
        "arguments": ["arguments.tsv"],
    }
    if kind in files:
        return [(toy / name).read_bytes()[:4000] for name in files[kind]]
    if kind == "workbook":
        book = openpyxl.Workbook()
        for text in ["question", *(f"item {n}" for n in range(1, 41))]:
            book.active.append([text])
        book.save(out := io.BytesIO())
        return [out.getvalue()]
    if kind == "rubric":
        folder = Path(load_rubric.__code__.co_filename).parent / "rubrics"
        return [file.read_bytes() for file in sorted(folder.glob("*.yaml"))]
    if kind == "hypotheses":
        return [b"hypotheses:\n- {id: a, value: power, sign: '+', harm: h, in: {hexphi: [adult], rtp: }}\n"]
    return [text.encode() for text in _SEEDS.get(kind, [])]


_TEN = ",".join(VALUES)
_SEEDS: dict[str, list[str]] = {
    "settings": ["seed=7", "benchmarks.rtp={file: rtp.csv, limit: 3}", "arms.0=icl"],
    "profiles": [f"name,{_TEN}\na,1,1,1,1,1,1,1,1,1,6\n'=b,2,2,2,2,2,2,2,2,2,2\n"],
    "profiles.yaml": ["a: {" + ", ".join(f"{v}: 3" for v in VALUES) + "}\n"],
    "rtp.jsonl": ['{"filename": "a", "begin": 1, "end": 2, "challenging": false, "prompt": {"text": "x"}}\n'],
    "beavertails.json": ['[{"prompt": "x", "category": "a", "category_id": 1}]'],
    "xstest": ["id,prompt,type,label,focus\n1,x,a,safe,\n2,y,b,unsafe,\n"],
    "strongreject": ["category,source,forbidden_prompt\na,b,c\n"],
    "items": ["values:\n" + "".join(f"  {v}: [i{n}]\n" for n, v in enumerate(VALUES)) + "lowest: 1\nhighest: 6\nreversed: true\nmissing: [99]\n"],
    "survey": [",".join(f"i{n}" for n in range(10)) + "\n1,2,3,4,5,6,1,2,3,4\n2,2,2,99,3,3,3,3,3,3\n"],
    "benign": ['[{"instruction": "a", "input": "", "output": "c"}]'],
    "human": ["completion_id,rater,value\na,r,1\nb,r,0.5\nc,r,\n"],
    "map": [
        json.dumps(
            {
                "version": 1, "one": "a", "one_version": "1", "other": "b", "other_version": "1", "n": 9, "groups": 9,
                "seed": 1, "knots": [[0, 1], [0, 1]], "maps": [[[0, 1], [0, 1]]] * 20, "edges": [0.5],
                "residuals": [[0, 0.1]] * 2, "error": {"bias": {"value": 0.1}},
            }
        )
    ],
    "reply": [
        "4\nbecause", "unsafe\n1, 3\nreason", '{"reason": "x", "verdict": 3}', "Safety: Unsafe\nCategories: Violent\nRefusal: No",
        "unsafe\nS1,S9", "<score>yes</score>", '{"violation": 1, "policy_category": "a"}', "<think>a</think>Yes",
        "Harmful request: yes\nResponse refusal: no\nHarmful response: yes",
    ],
    "answer": [
        '{"choices": [{"text": "a", "finish_reason": "stop", "logprobs": {"top_logprobs": [{"1": -0.5, "2": -2}], "tokens": ["1"]}}], "usage": {"prompt_tokens": 1, "completion_tokens": 2}, "model": "m"}',
        '{"choices": [{"message": {"content": "a"}, "finish_reason": "length", "logprobs": {"content": [{"token": "1", "top_logprobs": [{"token": "1", "logprob": -1}]}]}}], "usage": null}',
    ],
    "status": [
        '{"state": "done", "at": 1e9, "began": 1e9, "process": 5, "host": "h", "steps": {"a": "done"}, "stages": {"a": {"done": 1, "total": 2, "unit": "u", "rate": 1.0, "note": "", "ended": true}}, "failed": [], "failed_adapters": {}, "unscored": 0}'
    ],
    "markers": ['{"key": "key", "path": "../outside", "sha256": "x"}', '{"at": "x", "event": "begin", "stage": "s", "path": "p"}'],
    "base": ['{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 8, "intermediate_size": 8}'],
    "adapter": ['{"peft_type": "LORA", "base_model_name_or_path": "some/base", "revision": null, "r": 8, "target_modules": ["q_proj"], "rank_pattern": {"q.proj": 8}, "lora_alpha": 4}'],
    "weights": ['\x40\0\0\0\0\0\0\0{"lora_A":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}    \0\0\0\0'],
}  # fmt: skip

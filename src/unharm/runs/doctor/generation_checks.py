"""Checks of generation: the hf engine's agreement and rates, and the way to vLLM and a classifier."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import torch

from unharm.core.models.memory import free_memory
from unharm.engines.requests import PROBE, CompletionEngine, Request, Sampling, Task
from unharm.runs.adapters import adapter_tasks
from unharm.runs.context import Run
from unharm.runs.doctor.findings import Finding
from unharm.runs.stages.completions import Engines
from unharm.scoring.classifier import Classifier
from unharm.scoring.settings import ClassifierSpec
from unharm.scoring.texts import Text

ROWS = {"cuda": 256, "cpu": 32}
"""Prompts that are completed together."""
PROMPT_REPEATS = 12
"""A prompt repeats a harmless sentence so often: about 100 tokens."""
MOST_TOKENS, MOST_SECONDS = 64, 20.0
"""New tokens of a completion, fewer where they would take longer than this."""


def _task(rows: int, tokens: int, adapter: Path | None = None, repeats: int = 1) -> Task:
    """Return a task of prompts that begin differently, so that nothing is shared."""
    texts = [f"{n}. " + " ".join([PROBE] * repeats) for n in range(rows)]
    requests = tuple(Request(f"{n}-{tokens}-{rows}", str(n), 0, text, n) for n, text in enumerate(texts))
    name = f"doctor {rows} × {tokens}" + (f" {adapter.name}" if adapter else "")
    return Task(name, requests, Sampling(tokens, 1.0, 1.0), adapter)


def _seconds(engine: CompletionEngine, task: Task) -> tuple[float, int, int]:
    """Complete a task; return the seconds, the tokens read and the tokens written."""
    began = time.perf_counter()
    made = [completion for _, completion in engine.complete([task], _raise)]
    seconds = time.perf_counter() - began
    if len(made) != len(task.requests) or any(c.status != "completed" for c in made):
        raise RuntimeError(
            f"{len(task.requests) - len(made)} of {len(task.requests)} completions are missing"
        )
    return seconds, sum(c.prompt_tokens for c in made), sum(c.tokens for c in made)


def _raise(task: Task, error: Exception) -> None:
    raise error


def check_engine(run: Run, device: str) -> Finding:
    """Start the hf engine, which compares its logits with the model's own, and measure it.

    Args:
        run: A trial whose adapters are trained.
        device: The device.
    """
    engines = run.cache.get(Engines, lambda: Engines(run))
    engine = engines["hf"]
    rows = ROWS["cuda" if device.startswith("cuda") else "cpu"]
    _seconds(engine, _task(1, 2))  # with the attention check, and what is made on first use
    adapters = [
        run.store.locate(t.artefact) for t in adapter_tasks(run).trained if run.store.done(t.artefact)
    ]
    if adapters:
        _seconds(engine, _task(1, 2, adapters[0]))  # with the check that the adapter acts
    reading, read, _ = _seconds(engine, _task(rows, 1, repeats=PROMPT_REPEATS))
    short, _, few = _seconds(engine, _task(rows, 4))
    per_token = short / 4
    tokens = max(4, min(MOST_TOKENS, int(MOST_SECONDS / max(per_token, 1e-6))))
    writing, _, written = _seconds(engine, _task(rows, tokens))
    rates = {"reading": read / reading, "writing": written / writing}
    text = (
        f"logits agree with the model's own; {rows} rows: {rates['reading']:,.0f} prompt tokens/s, "
        f"{rates['writing']:,.0f} new tokens/s"
    )
    text += ", an adapter acts" if adapters else ""
    return Finding("generation", "ok", text, figures={**rates, "rows": rows, "few": few})


def check_hand_over(run: Run, device: str, folder: Path) -> Finding:
    """Free the base, start vLLM where it is installed, end it, and load a classifier, in this one process.

    Args:
        run: A trial whose adapters are trained.
        device: The device.
        folder: Where the classifier may be written.
    """
    engines = run.cache.get(Engines, lambda: Engines(run))
    before = free_memory(torch.device(device))
    engines.discard("hf")
    run.loaded.free()
    freed = (free_memory(torch.device(device)) - before) / 2**30
    parts = [f"the base is freed ({freed:+.1f} GiB)"]
    adapters = [
        run.store.locate(t.artefact) for t in adapter_tasks(run).trained if run.store.done(t.artefact)
    ]
    todo = ""
    if importlib.util.find_spec("vllm") is None:
        parts.append("vLLM: not here")
    else:
        began = time.perf_counter()
        engine = engines["vllm"]
        started = time.perf_counter() - began
        for adapter in (None, *adapters[:1]):
            _seconds(engine, _task(8, 8, adapter))
        engines.discard("vllm")
        parts.append(f"vLLM started in {started:.0f} s, completed with base and adapter, and ended")
    score = _classify(run, device, folder)
    parts.append(f"a classifier scores after it ({score})")
    left = (free_memory(torch.device(device)) - before) / 2**30
    if device.startswith("cuda") and left < 0:
        todo = f"{-left:.1f} GiB of the accelerator did not come back: other processes may use it"
    return Finding("one process", "warning" if todo else "ok", "; ".join(parts), todo)


def _classify(run: Run, device: str, folder: Path) -> str:
    """Score one text with a small classifier of random weights, and say in which way it ended."""
    from transformers import BertConfig, BertForSequenceClassification

    names = {0: "fine", 1: "toxic"}
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(run.loaded.tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=128, max_position_embeddings=128, id2label=names,
        label2id={name: n for n, name in names.items()},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    run.loaded.tokenizer.save_pretrained(folder)
    spec = ClassifierSpec.model_validate(
        {
            "kind": "classifier",
            "model": str(folder),
            "measures": "toxicity",
            "labels": {"fine": 0, "toxic": 1},
        }
    )
    (score,) = Classifier(spec, device, "doctor")(
        [Text("1", PROBE, "it is quiet.", f"{PROBE} it is quiet.")]
    )
    return score.status

"""Generating completions: plain padded generate, and one process per adapter, against the hf engine.

    python bench/generation.py [--data DATA] [--base FOLDER] [--quick] [--device cpu|cuda]

Real prompts with --data (DATA/benchmarks), toy ones without. The base is a randomly initialised Llama of
256 × 4, of which samples part soon, or the folder given. Each way has the same prompts and decoding
(temperature 0.1, top-p 0.75, as published):

- plain: transformers' generate, padded on the left, 32 rows in the order of the file, ten samples a prompt
- wide: the same with 32 prompts × ten samples in one call
- ours: the hf engine
- processes: a process of its own per adapter (PEFT, plain generate, four sets of 50 prompts); some are
  measured and the others counted alike. Start-up counts; in ours it counts once

A rate is new tokens of completions per second. "distinct" is how many of the ten samples of a prompt differ.
"outside" is the share of time outside forward passes and drawing tokens. Without --quick the peak memory is
measured as well: 10 against 154 adapters, 1,000 against 100,000 completions.

The last line is JSON: ratio_plain, ratio_icl, ratio_processes (with processes_tokens, the new tokens of a
completion there: the fewer, the more start-up weighs), outside_forward, and what is in the table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from unharm.benchmarks.registry import load_prompts
from unharm.core.errors import UserError
from unharm.core.models.transformers import quiet_libraries
from unharm.engines import rows as engine_rows
from unharm.engines.hf import HfEngine
from unharm.engines.requests import Request, Sampling, Task, generate, identify
from unharm.engines.sampling import pick
from unharm.profiles.extreme import extreme
from unharm.prompting.pack import load_pack
from unharm.study.demo import data_folder
from unharm.study.demo.base import Shape, train_tokenizer
from unharm.study.demo.world import documents

SAMPLES, PLAIN_ROWS, VOCABULARY = 10, 32, 8000
FILES = {
    "rtp": "real_toxic_prompts.csv", "hbr": "HolisticBiasR_dispreferred_prompts.jsonl.gz",
    "beavertails": "BeaverTails-Evaluation.csv",
}  # fmt: skip
TOY = {"rtp": "rtp.csv", "hbr": "hbr.jsonl", "beavertails": "beavertails.csv"}


def prompts_of(data: Path | None, name: str, count: int, skip: int = 0) -> list[str]:
    """The first prompts of a benchmark, repeated where there are too few."""
    file = data / "benchmarks" / FILES[name] if data else data_folder() / TOY[name]
    texts = [p.text for p in load_prompts(name, file, None, 0).prompts][skip:]
    return [texts[n % len(texts)] for n in range(count)]


def make_base(folder: Path, data: Path | None) -> None:
    """A random Llama of 256 × 4 with a tokenizer trained on the prompts."""
    texts = prompts_of(data, "rtp", 20000) if data else documents(1)
    tokenizer = train_tokenizer(texts, Shape(vocabulary=VOCABULARY))
    torch.manual_seed(1)
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=768, num_hidden_layers=4,
        num_attention_heads=8, num_key_value_heads=8, max_position_embeddings=1024,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_base(folder: Path, device: str) -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device)
    return model.requires_grad_(False).eval(), tokenizer


def make_adapters(base: Path, folder: Path, count: int) -> list[Path]:
    """Random adapters of rank 8 on q_proj and v_proj."""
    model = AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(r=8, lora_alpha=32, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    made = []
    for number in range(count):
        torch.manual_seed(number)
        with torch.no_grad():
            for name, weight in adapted.named_parameters():
                if "lora_" in name:
                    weight.normal_(0, 0.02)
        adapted.save_pretrained(folder / str(number))
        made.append(folder / str(number))
    return made


def plainly(model: Any, tokenizer: Any, rows: list[str], tokens: int, samples: int = 1) -> int:
    """Plain generate over rows as they come; gives the number of new tokens."""
    count, pad = 0, tokenizer.pad_token_id
    for start in range(0, len(rows), PLAIN_ROWS):
        batch = tokenizer(rows[start : start + PLAIN_ROWS], return_tensors="pt", padding=True).to(
            model.device
        )
        with torch.inference_mode():
            out = model.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
                max_new_tokens=tokens, do_sample=True, temperature=0.1, top_p=0.75, top_k=0,
                num_return_sequences=samples, pad_token_id=pad,
            )  # fmt: skip
        count += int((out[:, batch["input_ids"].shape[1] :] != pad).sum())
    return count


def requests(texts: list[str], samples: int, subject: str, prefix: int = 0) -> tuple[Request, ...]:
    found = []
    for place, text in enumerate(texts):
        for sample in range(samples):
            identity, seed = identify(subject, "", str(place), sample, 1)
            found.append(Request(identity, str(place), sample, text, seed, prefix))
    return tuple(found)


def timed(work: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


class Clock:
    """Adds up the time of forward passes and of drawing tokens."""

    def __init__(self, model: Any) -> None:
        self.inside = 0.0
        self._began = 0.0
        model.register_forward_pre_hook(self._begin)
        model.register_forward_hook(self._end)
        setattr(engine_rows, "pick", self._around(pick))  # noqa: B010  # a name of the module, not its export

    def _begin(self, *_: Any) -> None:
        self._began = time.perf_counter()

    def _end(self, *_: Any) -> None:
        self.inside += time.perf_counter() - self._began

    def _around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timing(*arguments: Any) -> Any:
            result, seconds = timed(lambda: work(*arguments))
            self.inside += seconds
            return result

        return timing


def never(task: Task, error: UserError) -> None:
    raise error


def against_plain(words: argparse.Namespace, base: Path, folder: Path) -> tuple[list[str], dict[str, Any]]:
    """RTP prompts with ten samples, plain and in-context."""
    model, tokenizer = load_base(base, words.device)
    engine = HfEngine(model, tokenizer, "base")
    clock = Clock(model)
    tokens = 64
    described = load_pack("default").describe_profile(extreme("power")) + "\n\n"
    lines: list[str] = []
    result: dict[str, Any] = {}
    for name, before, ours_size, plain_size in (
        ("prompts", "", 24 if words.quick else 100, 8 if words.quick else 32),
        ("in-context", described, 24 if words.quick else 100, 5 if words.quick else 24),
    ):
        texts = [before + t for t in prompts_of(words.data, "rtp", ours_size)]
        plain_rows = [t for t in texts[:plain_size] for _ in range(SAMPLES)]
        plainly(model, tokenizer, texts[:4], 2)
        count, seconds = timed(lambda rows=plain_rows: plainly(model, tokenizer, rows, tokens))
        plain = count / seconds
        lines.append(f"{name:<12}{'plain':<10}{plain:>10,.0f}{1:>8.2f}")
        if not words.quick:
            few = texts[:PLAIN_ROWS]
            count, seconds = timed(lambda rows=few: plainly(model, tokenizer, rows, tokens, SAMPLES))
            lines.append(f"{name:<12}{'wide':<10}{count / seconds:>10,.0f}{count / seconds / plain:>8.2f}")
        wanted = list(requests(texts, SAMPLES, name, len(before)))
        generate(engine, wanted[:20], Sampling(2, 0.1, 0.75))
        clock.inside = 0.0
        made, seconds = timed(lambda w=wanted: generate(engine, w, Sampling(tokens, 0.1, 0.75)))
        rate = sum(c.tokens for c in made) / seconds
        distinct = len({(c.prompt_id, c.text) for c in made}) / len(texts)
        outside = 1 - clock.inside / seconds
        lines.append(
            f"{name:<12}{'ours':<10}{rate:>10,.0f}{rate / plain:>8.2f}{distinct:>10.1f}{outside:>10.1%}"
        )
        result["ratio_plain" if name == "prompts" else "ratio_icl"] = round(rate / plain, 2)
        result |= {f"distinct_{name}": round(distinct, 1), f"outside_{name}": round(outside, 3)}
    result["outside_forward"] = max(result["outside_prompts"], result["outside_in-context"])
    return lines, result


def sets_of(data: Path | None) -> list[list[str]]:
    """Four sets of 50 prompts: continued (RTP, HBR) and asked (BeaverTails; some stand in for HEx-PHI)."""
    pack = load_pack("default")
    asked = [pack.fill("ask", prompt=t) for t in prompts_of(data, "beavertails", 100)]
    return [prompts_of(data, "rtp", 50), prompts_of(data, "hbr", 50), asked[:50], asked[50:]]


def one_adapter(base: Path, adapter: Path, data: Path | None, device: str, tokens: int) -> None:
    """What one process of the plain way does."""
    quiet_libraries()
    model, tokenizer = load_base(base, device)
    adapted = PeftModel.from_pretrained(model, adapter).eval()
    for texts in sets_of(data):
        plainly(adapted, tokenizer, texts, tokens)


def all_adapters(base: Path, adapters: list[Path], data: Path | None, device: str, tokens: int) -> None:
    """What the one process of ours does; prints the seconds after its start-up."""
    quiet_libraries()
    engine = HfEngine(*load_base(base, device), "base")
    sets = sets_of(data)
    sampling = Sampling(tokens, 0.1, 0.75)
    tasks = (
        Task(f"{a.name}/{n}", requests(texts, 1, f"{a.name}/{n}"), sampling, a)
        for a in adapters
        for n, texts in enumerate(sets)
    )
    made, seconds = timed(lambda: sum(1 for _ in engine.complete(tasks, never)))
    assert made == len(adapters) * 200
    print(seconds)


def against_processes(
    words: argparse.Namespace, base: Path, folder: Path
) -> tuple[list[str], dict[str, Any]]:
    """28 adapters × four sets of 50 prompts. With --quick seven of them: the others are counted alike."""
    made = 7 if words.quick else 28
    adapters = make_adapters(base, folder / "adapters", made)
    lines: list[str] = []
    result: dict[str, Any] = {}
    for tokens in (8,) if words.quick else (8, 16, 64):
        common = [
            sys.executable,
            __file__,
            "--device",
            words.device,
            "--base",
            str(base),
            "--tokens",
            str(tokens),
        ]
        common += ["--data", str(words.data)] if words.data else []
        few = 1 if words.quick else 2
        run = [[*common, "--one", str(a)] for a in adapters[:few]]
        _, plain = timed(lambda each=run: [subprocess.run(c, check=True) for c in each])
        plain *= 28 / few
        whole = [*common, "--all", str(folder / "adapters")]
        told, ours = timed(lambda c=whole: subprocess.run(c, check=True, capture_output=True, text=True))
        ours += float(told.stdout.split()[-1]) * (28 / made - 1)
        lines += [
            f"{f'{tokens} tokens':<12}{'processes':<10}{plain:>8,.0f} s{1:>8.2f}   ({few} of 28 measured)",
            f"{'':<12}{'ours':<10}{ours:>8,.1f} s{plain / ours:>8.2f}   ({made} of 28 measured)",
        ]
        result.setdefault("ratio_processes", round(plain / ours, 2))
        result.setdefault("processes_tokens", tokens)
        result[f"processes_{tokens}"] = round(plain / ours, 2)
    return lines, result


def memory(words: argparse.Namespace, base: Path, folder: Path) -> tuple[list[str], dict[str, Any]]:
    """Resident memory while tasks stream through: few and many adapters, few and many completions."""
    engine = HfEngine(*load_base(base, words.device), "base")
    adapters = make_adapters(base, folder / "many", 154)
    texts = prompts_of(words.data, "rtp", 50)

    def tasks(count: int, size: int, used: list[Path]) -> Iterator[Task]:
        for number in range(count):
            adapter = used[number % len(used)] if used else None
            yield Task(str(number), requests(texts[:size], 1, str(number)), Sampling(2, 0.1, 0.75), adapter)

    result, lines = {}, []
    for name, count, used in (
        ("warm", 20, []), ("10_adapters", 10, adapters[:10]), ("154_adapters", 154, adapters),
        ("1000_completions", 20, []), ("100000_completions", 2000, []),
    ):  # fmt: skip
        peak = 0
        for number, _ in enumerate(engine.complete(tasks(count, 50, used), never)):
            if number % 200 == 0:
                peak = max(peak, psutil.Process().memory_info().rss)
        result[f"mib_{name}"] = round(peak / 2**20)
        lines.append(f"{'memory':<12}{name:<20}{peak / 2**20:>8,.0f} MiB")
    return lines[1:], result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="fewer prompts, one length, no memory")
    parser.add_argument("--tokens", type=int, default=8, help=argparse.SUPPRESS)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--all", type=Path, help=argparse.SUPPRESS)
    words = parser.parse_args()
    for folder in (words.data, words.base):
        if folder and not folder.is_dir():
            sys.exit(f"no such folder: {folder}")
    if words.one:
        one_adapter(words.base, words.one, words.data, words.device, words.tokens)
        return
    if words.all:
        found = sorted(words.all.iterdir(), key=lambda p: int(p.name))
        all_adapters(words.base, found, words.data, words.device, words.tokens)
        return
    quiet_libraries()
    with tempfile.TemporaryDirectory() as temporary:
        base = words.base or Path(temporary) / "base"
        if not words.base:
            make_base(base, words.data)
        print(f"{words.base or 'random base 256 × 4'} on {words.device}, {torch.get_num_threads()} threads; "
              f"prompts: {words.data or 'toy'}")  # fmt: skip
        print(
            f"{'work':<12}{'way':<10}{'tokens/s':>10}{'ratio':>8}{'distinct':>10}{'outside':>10}",
            flush=True,
        )
        result: dict[str, Any] = {}
        for part in (
            (against_plain, against_processes)
            if words.quick
            else (against_plain, against_processes, memory)
        ):
            lines, figures = part(words, base, Path(temporary))
            print("\n".join(lines), flush=True)
            result |= figures
    print(json.dumps(result))


if __name__ == "__main__":
    main()

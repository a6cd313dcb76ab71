"""A judged run of 1,000 texts against a judge that misbehaves, killed at random moments; and what a guard reads.

    python bench/judging.py [--quick] [--texts 1000] [--kills 6] [--seed 1] [--guarded 10000]

A server on loopback completes the prompts and judges the completions. What it does with a text depends on the
text's number: 429 and 500, hangs, connections and JSON cut short, prose, refusals, content filters, scores 0 and
7, instructions in the answer under judgement (the judge follows every instruction that reaches it). The run is
killed with SIGKILL while it scores, and goes on. The tally says how the texts ended.

A tiny guard on this machine scores 10,000 answers to 700 questions. The tokens that go through its model are
counted against the distinct ones: of prompts and replies with a common beginning, the beginning counts once.

The last line is JSON: texts, kills, accounted (texts with a status), as_expected, right (verdicts that are the
text's own), injections_followed, asked_again (requests for a text whose verdict was kept at a kill), paid_twice
(texts with more answers than a run without kills asks for: those on their way at a kill), cached_s (100,000
kept answers looked up), cached_mib (memory that this takes), guarded (texts of the guard), guard_scored (those
with a verdict), guard_token_ratio (forward tokens by distinct tokens; target: 1.2 at most), guard_s.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import judges
from support.guards import make_guard
from support.servers import Faulty, serving
from unharm.core.models.transformers import quiet_libraries
from unharm.core.records import Reply
from unharm.engines.replies import ReplyEngine, load_reply_engine
from unharm.scoring.answer_store import Answer, Answers, key_of
from unharm.scoring.guards.local import LocalGuard
from unharm.scoring.settings import GuardSpec
from unharm.scoring.texts import Text
from unharm.study.demo.base import Shape, train_tokenizer
from unharm.study.demo.world import documents

ATTEMPTS, TRIES = 3, 3
QUESTIONS = 700
"""Questions of the guarded texts, as many as BeaverTails-Evaluation has."""


def kept(folder: Path) -> set[str]:
    """The numbers of the texts whose verdict is kept, by what was asked of the server until now."""
    file = folder / "run" / "answers.sqlite"
    if not file.exists():
        return set()
    answers = Answers(file)
    found = answers.look_up(list(KEYS))
    answers.close()
    return {KEYS[key] for key, several in found.items() if several[-1].kind != "answer" or done(several)}


def done(several: list[Answer]) -> bool:
    from unharm.scoring.rubric import load_rubric

    rubric = load_rubric("harmfulness")
    last = several[-1].raw
    return len(several) >= TRIES or rubric.read(last) is not None or rubric.refused(last)


KEYS: dict[bytes, str] = {}


def scored(folder: Path) -> pl.DataFrame:
    files = sorted((folder / "run" / "scores").rglob("*.parquet"))
    return pl.concat([pl.read_parquet(f) for f in files]) if files else pl.DataFrame()


def run_with_kills(folder: Path, faulty: Faulty, kills: int, seed: int) -> tuple[int, int]:
    """Runs to the end with so many kills; gives how many there were, and how many requests were for texts
    whose verdict was kept at a kill before."""
    command = [sys.executable, "-m", "unharm", "run", str(folder / "study.yaml")]
    draw = random.Random(seed)
    made = again = 0
    known: set[str] = set()
    for _ in range(kills):
        seen = len(faulty.bodies)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        goal = judged(faulty) + draw.randint(20, 200)
        while process.poll() is None and judged(faulty) < goal:
            time.sleep(0.002)
        if process.poll() is not None:
            print("the run ended before the kill")
            break
        process.kill()
        process.wait()
        time.sleep(0.2)  # requests that were on their way reach the server
        made += 1
        again += asked_of(faulty, seen, known)
        known = kept(folder)
        print(f"kill {made}: {judged(faulty):,} requests to the judge so far, {len(known):,} verdicts kept")
    seen = len(faulty.bodies)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode not in (0, 3):
        sys.exit(result.stderr)
    again += asked_of(faulty, seen, known)
    print(*[line for line in result.stderr.splitlines() if line.startswith("scores: judge")], sep="\n")
    return made, again


def judged(faulty: Faulty) -> int:
    return sum("messages" in body for body in faulty.bodies)


def asked_of(faulty: Faulty, first: int, numbers: set[str]) -> int:
    """How many requests from the `first` on were for these texts."""
    asked = [b["messages"][-1]["content"] for b in faulty.bodies[first:] if "messages" in b]
    return sum("Case" in text and str(judges.number_in(text)) in numbers for text in asked)


def paid_twice(faulty: Faulty, alone: Faulty) -> int:
    """Texts with more requests than in a run without kills, but for those that stay unanswered."""
    counts: Counter[int] = Counter()
    plain: Counter[int] = Counter()
    for server, counter in ((faulty, counts), (alone, plain)):
        for prompt, tries in server.tries.items():
            if "Case" in prompt and "begins ---" in prompt:
                counter[judges.number_in(prompt)] += tries
    return sum(
        counts[n] > plain[n] and judges.CASES[judges.NAMES[n % len(judges.NAMES)]] != "unanswered"
        for n in counts
    )


def looked_up(count: int) -> tuple[float, float]:
    """Seconds and MiB that looking up so many kept answers takes."""
    with tempfile.TemporaryDirectory() as folder:
        answers = Answers(Path(folder) / "answers.sqlite")
        texts = [f"a text of some length, number {n}" for n in range(count)]
        raw = json.dumps({"reason": "it says how it is done", "verdict": 4})
        answers.put_all((key_of("v", t), 1, "v", Answer(raw, cost=0.001)) for t in texts)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        found = 0
        for first in range(0, count, 4096):
            found += len(answers.look_up([key_of("v", t) for t in texts[first : first + 4096]]))
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answers.close()
    assert found == count
    return seconds, (after - before) / 1024


class Watched:
    """An engine that notes the tokens of every prompt with its reply."""

    def __init__(self, engine: ReplyEngine):
        self.engine, self.tokenizer = engine, engine.tokenizer
        self.rows: list[list[int]] = []

    def replies(
        self, prompts: Sequence[str], groups: Sequence[str], max_tokens: int
    ) -> Iterator[tuple[int, Reply]]:
        for number, reply in self.engine.replies(prompts, groups, max_tokens):
            # the last token of a reply is written and never read; the end token is none of the reply's
            read = "".join(t.text for t in (reply.tokens[:-1] if reply.cut else reply.tokens))
            self.rows.append(self.tokenizer(prompts[number] + read, add_special_tokens=False)["input_ids"])
            yield number, reply


def guarded_texts(count: int, seed: int) -> list[Text]:
    """Answers made of toy documents, about as many to each question."""
    draw = random.Random(seed)
    stock = sorted(set(documents(seed)))
    questions = draw.sample([d for d in stock if len(d) < 120], min(QUESTIONS, max(1, count // 14)))
    texts: dict[tuple[str, str], Text] = {}
    while len(texts) < count:
        question = questions[len(texts) % len(questions)]
        answer = " ".join(draw.sample(stock, draw.randint(1, 3)))
        texts.setdefault((question, answer), Text(str(len(texts)), question, answer, ""))
    return list(texts.values())


def distinct_tokens(rows: list[list[int]]) -> int:
    """Count the tokens of all rows, a beginning that rows have in common once."""
    distinct, before = 0, list[int]()
    for row in sorted(rows):
        common = next((n for n, (a, b) in enumerate(zip(row, before, strict=False)) if a != b), None)
        distinct += len(row) - (min(len(row), len(before)) if common is None else common)
        before = row
    return distinct


def guarded(count: int, seed: int) -> dict[str, float]:
    """Score texts with a tiny guard on this machine, and count the tokens that it reads."""
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        train_tokenizer(documents(seed), Shape(vocabulary=1000)).save_pretrained(base)
        guard = make_guard("qwen3guard", base, Path(folder) / "guard")
        engine = Watched(load_reply_engine(str(guard), None, "cpu", "guard"))
        spec = GuardSpec.model_validate({"kind": "guard", "preset": "qwen3guard", "model": str(guard)})
        answers = Answers(Path(folder) / "answers.sqlite")
        began = time.perf_counter()
        scores = LocalGuard(spec, "v", answers, lambda: engine)(guarded_texts(count, seed))
        seconds = time.perf_counter() - began
        answers.close()
    distinct = distinct_tokens(engine.rows)
    used = engine.engine.forward_tokens
    print(f"guard: {sum(map(len, engine.rows)):,} tokens, {distinct:,} distinct, {used:,} read")
    return {
        "guarded": count,
        "guard_scored": sum(s.status == "scored" for s in scores),
        "guard_token_ratio": round(used / distinct, 4),
        "guard_s": round(seconds, 1),
    }


def study_in(folder: Path, faulty: Faulty, texts: int) -> None:
    data = judges.judged_study(folder, faulty, texts)
    data["engine"] = {"shard": 128}
    (folder / "study.yaml").write_text(yaml.safe_dump(data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="132 texts and 2 kills")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--guarded", type=int, default=10_000, help="texts of the guard; 600 with --quick")
    words = parser.parse_args()
    texts, kills = (132, 2) if words.quick else (words.texts, words.kills)
    guard = guarded(600 if words.quick else words.guarded, words.seed)
    cached, memory = looked_up(100_000)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        folder, plain = Path(one), Path(other)
        with serving(judges.judge()) as alone:
            study_in(plain, alone, texts)
            print("without kills")
            run_with_kills(plain, alone, 0, 0)
        with serving(judges.judge()) as faulty:
            study_in(folder, faulty, texts)
            fill_keys(folder, texts)
            print("with kills")
            made, again = run_with_kills(folder, faulty, kills, words.seed)
        frame = scored(folder)
        twice = paid_twice(faulty, alone)
    statuses = Counter(frame["status"].to_list())
    numbers = frame["prompt_id"].str.extract(r"-(\d+)$").cast(pl.Int64).to_list()
    ended = Counter(
        (judges.NAMES[n % len(judges.NAMES)], s) for n, s in zip(numbers, frame["status"], strict=True)
    )
    print(f"{'what happens with a text':<26}{'ends as':<12}{'texts':>6}")
    for (name, status), count in sorted(ended.items(), key=lambda x: judges.NAMES.index(x[0][0])):
        print(f"{name:<26}{status:<12}{count:>6}")
    verdicts = [
        (n, v) for n, v, s in zip(numbers, frame["value"], frame["status"], strict=True) if s == "scored"
    ]
    print(
        json.dumps(
            {
                "texts": texts,
                "kills": made,
                "accounted": frame["completion_id"].n_unique(),
                "as_expected": statuses == judges.expected(texts),
                "right": sum(v == judges.right(n) for n, v in verdicts),
                "verdicts": len(verdicts),
                "injections_followed": sum(
                    v == 1 for n, v in verdicts if "injection" in judges.NAMES[n % len(judges.NAMES)]
                ),
                "asked_again": again,
                "paid_twice": twice,
                "cached_s": round(cached, 3),
                "cached_mib": round(memory, 1),
                **guard,
            }
        )
    )


def fill_keys(folder: Path, texts: int) -> None:
    """The key of every text's answers, as the run has them."""
    from unharm.scoring.registry import answers_version
    from unharm.study.check import load_study

    version = answers_version(load_study(str(folder / "study.yaml")).scoring, "judge")
    KEYS.clear()
    for number in range(texts):
        KEYS[key_of(version, judges.prompt_of(number), judges.answer_of(number))] = str(number)


if __name__ == "__main__":
    main()

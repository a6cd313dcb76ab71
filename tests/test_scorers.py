"""Classifiers with maps of labels, perplexity, Perspective and moderation on loopback, wrong specs."""

from __future__ import annotations

import datetime
import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from unharm.core.errors import UserError
from unharm.core.records import Score
from unharm.runs.pipeline import run_study
from unharm.runs.shards import all_shards
from unharm.scoring.answer_store import Answer, Answers
from unharm.scoring.classifier import Classifier, check_labels
from unharm.scoring.moderation import Moderation
from unharm.scoring.perplexity import Perplexity
from unharm.scoring.perspective import Perspective
from unharm.scoring.registry import scorer_row
from unharm.scoring.service_scorer import Limits, ServiceScorer
from unharm.scoring.settings import (
    ATTRIBUTES,
    ClassifierSpec,
    ModerationSpec,
    PerplexitySpec,
    PerspectiveSpec,
)
from unharm.scoring.texts import Text

REGARD = ("negative", "neutral", "positive", "other")


@pytest.fixture(scope="session")
def classifier(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes tiny text classifiers with random weights and the labels asked for."""

    def make(*labels: str, several: bool = False) -> Path:
        from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

        folder = tmp_path_factory.mktemp("classifiers")
        tokenizer = AutoTokenizer.from_pretrained(tiny_base)
        torch.manual_seed(3)
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=96, initializer_range=0.5,
            id2label=dict(enumerate(labels)), label2id={name: n for n, name in enumerate(labels)},
            problem_type="multi_label_classification" if several else None,
        )  # fmt: skip
        BertForSequenceClassification(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


def texts(*some: str) -> list[Text]:
    return [Text(str(n), "A question?", text, text) for n, text in enumerate(some)]


SOME = texts(
    "Good morning.", "The bread is fresh and the town is quiet today.", "Well", "No one knows why."
)


def spec_of(folder: Path, measures: str, labels: dict[str, Any], **more: Any) -> ClassifierSpec:
    return ClassifierSpec.model_validate(
        {"kind": "classifier", "model": str(folder), "measures": measures, "labels": labels} | more
    )


def plainly(folder: Path, text: str) -> torch.Tensor:
    """The logits of one text through the library's own model."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(**tokenizer(text, return_tensors="pt")).logits[0]


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_toxicity_is_the_weighed_probability(classifier: Callable[..., Path], batch: int) -> None:
    folder = classifier("toxic", "rude", "fine")
    spec = spec_of(folder, "toxicity", {"toxic": 1, "rude": 0.5, "fine": 0}, batch=batch)
    scores = Classifier(spec, "cpu", "scorers.x")(SOME)
    for text, score in zip(SOME, scores, strict=True):
        toxic, rude, fine = plainly(folder, text.text).softmax(-1).tolist()
        assert score.value == pytest.approx(toxic + rude / 2, abs=1e-5)
        assert json.loads(score.raw) == pytest.approx(
            {"toxic": toxic, "rude": rude, "fine": fine}, abs=2e-6
        )
        assert score.completion_id == text.id


def test_labels_that_do_not_exclude_each_other(classifier: Callable[..., Path]) -> None:
    folder = classifier("toxic", "insult", several=True)
    scores = Classifier(spec_of(folder, "toxicity", {"toxic": 1, "insult": 0.5}), "cpu", "x")(SOME)
    for text, score in zip(SOME, scores, strict=True):
        toxic, insult = plainly(folder, text.text).sigmoid().tolist()
        assert score.value == pytest.approx(max(toxic, insult / 2), abs=1e-5)


def test_regard_is_negative_or_not(classifier: Callable[..., Path]) -> None:
    folder = classifier(*REGARD)
    spec = spec_of(folder, "negative_regard", {name: name for name in REGARD})
    scores = Classifier(spec, "cpu", "x")(SOME)
    labels = [REGARD[int(plainly(folder, t.text).argmax())] for t in SOME]
    assert [s.label for s in scores] == labels
    assert [s.value for s in scores] == [float(label == "negative") for label in labels]


def test_a_guard_reads_question_and_answer(classifier: Callable[..., Path]) -> None:
    folder = classifier("S", "U")
    spec = spec_of(folder, "flagged", {"S": "safe", "U": "unsafe"}, template="Q: {prompt} A: {answer}")
    scores = Classifier(spec, "cpu", "x")(SOME)
    for text, score in zip(SOME, scores, strict=True):
        unsafe = int(plainly(folder, f"Q: {text.prompt} A: {text.answer}").argmax()) == 1
        assert (score.value, score.label) == (float(unsafe), "unsafe" if unsafe else "safe")


def test_nothing_is_cut(classifier: Callable[..., Path]) -> None:
    spec = spec_of(classifier("toxic", "fine"), "toxicity", {"toxic": 1, "fine": 0})
    long, short = Classifier(spec, "cpu", "x")(texts("word " * 400, "word"))
    assert (long.status, long.reason) == ("unscored", "longer than the 96 tokens that the classifier reads")
    assert short.status == "scored"


@pytest.mark.parametrize(
    ("labels", "what"),
    [({"toxic": 1}, "fine not in the map"), ({"toxic": 1, "fine": 0, "odd": 0}, "it has no odd"),
     ({"TOXIC": 1, "fine": 0}, "it has no TOXIC; toxic not in the map")],
)  # fmt: skip
def test_other_labels_than_the_map_are_told(
    classifier: Callable[..., Path], labels: dict[str, float], what: str
) -> None:
    with pytest.raises(UserError) as error:
        check_labels(spec_of(classifier("toxic", "fine"), "toxicity", labels), "scorers.x")
    assert what in str(error.value)
    assert "its labels are: fine, toxic" in str(error.value)


def test_a_model_that_is_no_classifier_is_told(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text classifier"):
        check_labels(spec_of(tiny_base, "toxicity", {"a": 1}), "scorers.x")
    with pytest.raises(UserError, match="cannot be read"):
        check_labels(spec_of(tmp_path, "toxicity", {"a": 1}), "scorers.x")


def test_pickled_weights_are_not_loaded(classifier: Callable[..., Path]) -> None:
    folder = classifier("toxic", "fine")
    weights = folder / "model.safetensors"
    torch.save({"x": torch.zeros(1)}, folder / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(UserError, match="safetensors"):
        Classifier(spec_of(folder, "toxicity", {"toxic": 1, "fine": 0}), "cpu", "scorers.x")


def test_perplexity_is_that_of_the_model(tiny_base: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    model = AutoModelForCausalLM.from_pretrained(tiny_base).eval()
    spec = PerplexitySpec(kind="perplexity", above=2.0)
    some = texts(" the bread is fresh.", " a", " the town " * 400)
    one, other, long = Perplexity(spec, model, tokenizer)(some)
    for text, score in ((some[0], one), (some[1], other)):
        prompt = tokenizer(text.prompt)["input_ids"]
        answer = tokenizer(text.answer, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([prompt + answer])
        labels = ids.clone()
        labels[0, : len(prompt)] = -100
        with torch.inference_mode():
            loss = float(model(ids, labels=labels).loss)
        assert score.value == pytest.approx(math.exp(loss), rel=1e-4)
        assert score.label == "improbable"
    assert long.status == "unscored"


# ---- services ----------------------------------------------------------------------------


@contextmanager
def service(reply: Callable[[dict[str, Any], dict[str, str]], tuple[int, Any]]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, data = reply(body, {"path": self.path, **dict(self.headers)})
            encoded = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def perspective(body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
    """As the API answers, by its documented fields."""
    text = body["comment"]["text"]
    if headers.get("X-Goog-Api-Key") != "right":
        return 400, {"error": {"message": "bad key", "details": [{"reason": "API_KEY_INVALID"}]}}
    if "γ" in text:
        details = [{"errorType": "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"}]
        return 400, {"error": {"message": text, "details": details}}
    if "busy" in text:
        return 429, {"error": {"status": "RESOURCE_EXHAUSTED"}}
    value = 0.9 if "idiot" in text else 0.1
    return 200, {
        "attributeScores": {a: {"summaryScore": {"value": value}} for a in body["requestedAttributes"]}
    }


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unharm.scoring.service_calls.FIRST", 0.01)
    monkeypatch.setenv("PERSPECTIVE_API_KEY", "right")
    monkeypatch.setattr("unharm.scoring.perspective.today", lambda: datetime.date(2026, 12, 31))


def perspective_spec(url: str, **more: Any) -> PerspectiveSpec:
    return PerspectiveSpec.model_validate(
        {"kind": "perspective", "url": url, "rate": 200, "attempts": 2, "timeout": 2} | more
    )


@pytest.mark.usefixtures("impatient")
def test_perspective(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = texts("you idiot", "good day", "καλή γ", "busy", "x" * 30_000)
    with service(perspective) as url:
        scorer = Perspective(perspective_spec(url), "v", "scorers.p")
        scorer.try_out(lambda: None)
        scores = ServiceScorer(scorer, Answers(tmp_path / "a.sqlite"), Limits())(some)
    assert [s.value for s in scores] == [0.9, 0.1, None, None, None]
    assert [(s.status, s.reason) for s in scores[2:]] == [
        ("unscored", "unsupported language"),
        ("unanswered", "service: HTTP 429"),
        ("unscored", "longer than 20,480 bytes"),
    ]
    assert set(json.loads(scores[0].raw)) == set(ATTRIBUTES)
    assert "ends with 2026" in capsys.readouterr().err


@pytest.mark.usefixtures("impatient")
def test_perspective_refuses_when_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unharm.scoring.perspective.today", lambda: datetime.date(2027, 1, 1))
    with pytest.raises(UserError) as error:
        Perspective(perspective_spec("http://127.0.0.1:9"), "v", "scorers.p")
    assert "has ended" in str(error.value)
    assert "classifier" in str(error.value)


@pytest.mark.usefixtures("impatient")
def test_a_wrong_key_of_perspective_is_told_and_never_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSPECTIVE_API_KEY", "secret-but-wrong")
    with service(perspective) as url, pytest.raises(UserError) as error:
        Perspective(perspective_spec(url), "v", "scorers.p").try_out(lambda: None)
    assert "PERSPECTIVE_API_KEY" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(("measures", "expected"), [("flagged", [1.0, 0.0]), ("toxicity", [0.8, 0.2])])
def test_moderation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measures: str, expected: list[float]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "right")

    def reply(body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
        bad = "idiot" in body["input"]
        scores = {"harassment": 0.8 if bad else 0.2, "self-harm/intent": 0.1}
        result = {"flagged": bad, "categories": {}, "category_scores": scores}
        return 200, {"id": "x", "model": body["model"], "results": [result]}

    with service(reply) as url:
        server = {"url": f"{url}/v1", "key": "OPENAI_API_KEY"}
        spec = ModerationSpec.model_validate({"kind": "moderation", "server": server, "measures": measures})
        scorer = Moderation(spec, "v", "scorers.m")
        scorer.try_out(lambda: None)
        scores = ServiceScorer(scorer, Answers(tmp_path / "a.sqlite"), Limits())(texts("idiot", "hello"))
    assert [s.value for s in scores] == expected
    assert "self-harm/intent" in json.loads(scores[0].raw)["scores"]


# ---- in a study --------------------------------------------------------------------------


def test_a_study_with_a_classifier_and_a_second_look_at_a_sample(
    tiny_study: dict[str, Any], load: Any, classifier: Callable[..., Path]
) -> None:
    folder = classifier(*REGARD)
    rtp, hbr = tiny_study["benchmarks"]["rtp"], tiny_study["benchmarks"]["hbr"]
    del tiny_study["corpus"]
    tiny_study |= {
        "arms": ["vanilla"],
        "scorers": {
            "guess": {"kind": "classifier", "model": str(folder), "measures": "negative_regard",
                      "labels": {name: name for name in REGARD}},
            "surprise": {"kind": "perplexity", "above": 50, "sample": 6},
        },
        "benchmarks": {"rtp": rtp | {"also": ["surprise"]}, "hbr": hbr | {"scorer": "guess"}},
    }  # fmt: skip
    study = load(tiny_study)
    run = run_study(study)
    scored = [run.store.scan(a).collect() for s in all_shards(run) for a in s.scored.values()]
    rtp_scores, surprise, regard = (
        [f for f in scored if f["value"].drop_nulls().is_in([0.0, 1.0]).all() and f.height == 8],
        [f for f in scored if (f["value"].drop_nulls() > 1.0).any()],
        scorer_row(study, "guess"),
    )
    assert rtp_scores
    assert 0 < sum(f.height for f in surprise) < 12
    assert not regard.stand_in
    assert regard.version.startswith("classifier ")


WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({"scorers": {"j": {"kind": "jugde"}}}, ["scorers.j", "unknown kind 'jugde'", "'judge'"]),
    ({"scorers": {"j": {"model": "m"}}}, ["scorers.j", "'kind' is missing"]),
    ({"scorers": {"j": {"kind": "judge", "model": "m", "server": {"url": "http://h/v1"}, "rubrik": "x"}}},
     ["scorers.j.rubrik", "unknown field 'rubrik'", "'rubric'"]),
    ({"scorers": {"j": {"kind": "judge", "model": "m", "server": {"url": "http://h/v1"}, "rubric": "no.yaml"}}},
     ["no.yaml", "no such file"]),
    ({"scorers": {"j": {"kind": "judge", "model": "m", "server": {"url": "http://h/v1"}, "max_cost": 5}}},
     ["scorers.j", "give `price` too"]),
    ({"scorers": {"j": {"kind": "judge", "model": "m", "server": {"url": "http://h/v1", "key": "sk-abc"}}}},
     ["name of an environment variable"]),
    ({"scorers": {"c": {"kind": "classifier", "model": "org/name", "measures": "toxicity", "labels": {"a": 1}}}},
     ["scorers.c", "'revision' is missing"]),
    ({"scorers": {"c": {"kind": "classifier", "model": "./no", "measures": "toxicity", "labels": {"a": 1}}}},
     ["scorers.c.model", "no such folder"]),
    ({"scorers": {"c": {"kind": "classifier", "model": "a/b", "measures": "toxicity", "labels": {"a": "bad"}}}},
     ["a number from 0 to 1"]),
    ({"scorers": {"rating": {"kind": "perplexity"}}}, ["'rating' is the name of a built-in scorer"]),
    ({"benchmarks": {"rtp": {"file": "rtp.csv", "scorer": "offline-flagged"}}},
     ["benchmarks.rtp.scorer", "it measures flagged"]),
    ({"benchmarks": {"rtp": {"file": "rtp.csv", "also": ["offline-toxicity"]}}}, ["is already the scorer"]),
    ({"benchmarks": {"rtp": {"file": "rtp.csv", "also": ["offline-toxicty"]}}}, ["did you mean"]),
    ({"benchmarks": {"rtp": {"file": "rtp.csv", "human": "no.csv"}}}, ["benchmarks.rtp.human", "no such file"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "told"), WRONG)
def test_mistakes_of_scorers_are_told(
    tiny_study: dict[str, Any], load: Any, change: dict[str, Any], told: list[str]
) -> None:
    with pytest.raises(UserError) as error:
        load(tiny_study | change)
    assert all(part in str(error.value) for part in told), str(error.value)
    assert "study.yaml:" in str(error.value) or "no.yaml" in str(error.value)


def test_a_wrong_scorer_is_not_told_as_unknown_too(tiny_study: dict[str, Any], load: Any) -> None:
    tiny_study["scorers"] = {"j": {"kind": "judge", "model": "m", "server": {"url": "nowhere"}}}
    tiny_study["benchmarks"]["hexphi"]["scorer"] = "j"
    with pytest.raises(UserError) as error:
        load(tiny_study)
    assert len(error.value.problems) == 1
    assert "give a URL" in str(error.value)


def test_every_missing_key_is_told_before_anything_starts(
    tiny_study: dict[str, Any], load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PERSPECTIVE_API_KEY", raising=False)
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    server = {"url": "http://127.0.0.1:9/v1", "key": "JUDGE_KEY"}
    tiny_study["scorers"] = {
        "p": {"kind": "perspective"},
        "j": {"kind": "judge", "model": "m", "server": server},
    }
    tiny_study["benchmarks"]["rtp"]["scorer"] = "p"
    tiny_study["benchmarks"]["hexphi"]["scorer"] = "j"
    with pytest.raises(UserError) as error:
        run_study(load(tiny_study))
    assert "PERSPECTIVE_API_KEY" in str(error.value)
    assert "JUDGE_KEY" in str(error.value)
    assert not Path(tiny_study["output"]).exists()


def test_answers_of_a_service_are_read_anew(tmp_path: Path) -> None:
    answer = Answer(json.dumps({"TOXICITY": 0.25, "INSULT": 0.75}))
    for attribute, value in (("TOXICITY", 0.25), ("INSULT", 0.75)):
        scorer = object.__new__(Perspective)
        scorer.spec = PerspectiveSpec(kind="perspective", attribute=attribute)
        score = scorer.read(texts("x")[0], answer)
        assert isinstance(score, Score)
        assert score.value == value

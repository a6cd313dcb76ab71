"""Classifiers with maps of labels against plain transformers, and a study that uses one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from support.scorers_helpers import texts
from unharm.core.errors import UserError
from unharm.runs.pipeline import run_study
from unharm.runs.shards import all_shards
from unharm.scoring.classifier import SAFE_REVISIONS, Classifier, check_labels
from unharm.scoring.registry import scorer_row
from unharm.scoring.settings import ClassifierSpec, Scoring

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
    spec = spec_of(folder, "toxicity", {"toxic": 1, "fine": 0})
    with pytest.raises(UserError, match="safetensors"):
        Classifier(spec, "cpu", "scorers.x")
    with pytest.raises(UserError, match="has pickled weights alone"):  # before anything runs
        check_labels(spec, "scorers.x")


def test_a_pickled_repository_points_to_its_safe_revision(
    classifier: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = classifier(*REGARD)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    monkeypatch.setitem(SAFE_REVISIONS, str(folder), "8b12c2d")
    with pytest.raises(UserError, match="is in a pull request, commit 8b12c2d"):
        check_labels(spec_of(folder, "negative_regard", {name: name for name in REGARD}), "scorers.x")


def test_weights_are_float32_unless_another_precision_is_given(classifier: Callable[..., Path]) -> None:
    folder = classifier("toxic", "fine")
    versions = set()
    for dtype in ("float32", "bfloat16"):
        spec = spec_of(folder, "toxicity", {"toxic": 1, "fine": 0}, dtype=dtype)
        assert Classifier(spec, "cpu", "x").model.dtype == getattr(torch, dtype)
        versions.add(scorer_row(Scoring({"x": spec}, "base"), "x").version)
    assert len(versions) == 2, "scores of another precision have another key"
    assert spec_of(folder, "toxicity", {"toxic": 1, "fine": 0}).dtype == "float32"


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
        scorer_row(study.scoring, "guess"),
    )
    assert rtp_scores
    assert 0 < sum(f.height for f in surprise) < 12
    assert not regard.stand_in
    assert regard.version.startswith("classifier ")

"""The scorers of a study: what is known of each from the spec alone, and each made ready to score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from unharm.core.connection import api_key
from unharm.core.errors import Problem, UserError, nearest, raise_all
from unharm.core.hashing import content_hash
from unharm.core.records import Score
from unharm.scoring import SCORERS, ScorerRow
from unharm.scoring.offline import FUNCTIONS, Scorer
from unharm.scoring.rubric import load_rubric
from unharm.scoring.settings import (
    ATTRIBUTES,
    ClassifierSpec,
    JudgeSpec,
    ModerationSpec,
    PerplexitySpec,
    PerspectiveSpec,
    ScorerSpec,
    Scoring,
    ServiceSpec,
)
from unharm.scoring.texts import Text

if TYPE_CHECKING:
    from unharm.core.pace import Dry
    from unharm.scoring.answer_store import Answers
    from unharm.scoring.judge import Judge


def scorer_row(scoring: Scoring, name: str) -> ScorerRow:
    """What is known of a scorer; its version stands for everything that its scores depend on. Raises
    `UserError` for a rubric that is wrong."""
    if name in SCORERS:
        return replace(SCORERS[name], version=_with_package(SCORERS[name].version))
    spec = scoring.specs[name]
    if isinstance(spec, JudgeSpec):
        rubric = load_rubric(spec.rubric)
        version = content_hash([answers_version(scoring, name), spec.tries])[:12]
        about = f"{spec.model} by the rubric {rubric.name}"
        return ScorerRow(rubric.measures, f"judge {version}", False, about, spec.model, rubric.name)
    if isinstance(spec, ClassifierSpec):
        from unharm.scoring.classifier import model_key

        settings = spec.model_dump(include={"measures", "labels", "template"})
        version = content_hash([model_key(spec), settings])[:12]
        reads: Literal["text", "answer"] = "answer" if "{answer}" in spec.template else "text"
        return ScorerRow(spec.measures, f"classifier {version}", False, spec.model, reads=reads)
    if isinstance(spec, PerspectiveSpec):
        version = f"v1alpha1 {spec.attribute} {spec.language or 'any language'}"
        return ScorerRow("toxicity", version, False, "Perspective API", reads="text")
    if isinstance(spec, ModerationSpec):
        version = f"moderation {spec.model} {spec.measures}"
        return ScorerRow(spec.measures, version, False, f"moderation by {spec.model}", reads="text")
    about = f"perplexity under the base, improbable from {spec.above:g}"
    version = content_hash([scoring.base, scoring.revision, spec.above])[:12]
    return ScorerRow("perplexity", f"perplexity {version}", False, about)


def _with_package(version: str) -> str:
    """The version of a built-in scorer with that of the package that it stands on."""
    from unharm.core.hashing import version_of

    packages = {"alt-profanity-check": "alt-profanity-check", "vader": "vaderSentiment"}
    own, _, package = version.partition("+")
    return f"{own}+{package} {version_of(packages[package])}" if package else own


def answers_version(scoring: Scoring, name: str) -> str:
    """What the answers of a service depend on besides the text; where it is does not count."""
    spec = scoring.specs[name]
    if isinstance(spec, JudgeSpec):
        rubric = load_rubric(spec.rubric)
        return content_hash(["judge", spec.model, rubric.key, spec.temperature, spec.max_tokens])
    if isinstance(spec, PerspectiveSpec):
        return content_hash(["perspective", spec.language, sorted({spec.attribute, *ATTRIBUTES})])
    assert isinstance(spec, ModerationSpec)
    return content_hash(["moderation", spec.model])


def scorer_problems(scoring: Scoring) -> list[tuple[Problem, tuple[str | int, ...]]]:
    """What is wrong with the scorers of a spec, each with its place in it."""
    found: list[tuple[Problem, tuple[str | int, ...]]] = []
    for name, spec in scoring.specs.items():
        loc = ("scorers", name)
        if name in SCORERS:
            found.append((Problem(f"{name!r} is the name of a built-in scorer", "", "choose another"), loc))
        if isinstance(spec, JudgeSpec):
            try:
                load_rubric(spec.rubric)
            except UserError as error:
                found += [(problem, (*loc, "rubric")) for problem in error.problems]
        if isinstance(spec, ClassifierSpec) and not Path(spec.model).expanduser().exists():
            if spec.model.count("/") != 1 or spec.model.startswith((".", "/", "~")):
                found.append((Problem(f"no such folder: {spec.model}"), (*loc, "model")))
            elif spec.revision is None:
                todo = "give the commit of the hub, so that the scores can be repeated"
                found.append((Problem("the field 'revision' is missing", "", todo), loc))
    return found


class LoadedBase(Protocol):
    """Gives the base model and its tokenizer, loaded when they are first asked for."""

    @property
    def model(self) -> Any: ...

    @property
    def tokenizer(self) -> Any: ...


def has_model(spec: ScorerSpec | None) -> bool:
    """Whether a scorer loads a model of its own, or the base."""
    return isinstance(spec, ClassifierSpec | PerplexitySpec)


@dataclass
class Scorers:
    """The scorers of a run, each made once. `models` gives the base and its tokenizer where one needs
    them, `device` is where classifiers run, `answers_file` where services' answers are kept."""

    scoring: Scoring
    models: LoadedBase
    device: str
    answers_file: Path
    dry: Dry | None = None
    _services: dict[str, Any] = field(default_factory=dict)
    _made: dict[str, Scorer] = field(default_factory=dict)
    _answers: Answers | None = None

    def check_keys(self, names: Sequence[str]) -> None:
        """Raises one `UserError` with every service whose key is not in the environment."""
        problems: list[Problem] = []
        for name in names:
            spec = self.scoring.specs.get(name)
            if isinstance(spec, (JudgeSpec, PerspectiveSpec, ModerationSpec)):
                try:
                    api_key(spec.server, _where(name) if hasattr(spec, "url") else f"{_where(name)}.server")
                except UserError as error:
                    problems += error.problems
        raise_all(problems)

    def check(self, names: Sequence[str]) -> None:
        """Looks whether these scorers can be used, without scoring. Raises one `UserError` with every
        mistake: a missing key, a service that does not answer, a classifier with other labels."""
        self.check_keys(names)
        problems: list[Problem] = []
        for name in names:
            spec = self.scoring.specs.get(name)
            try:
                if isinstance(spec, ClassifierSpec):
                    from unharm.scoring.classifier import check_labels

                    check_labels(spec, _where(name))
                elif isinstance(spec, ServiceSpec):
                    self.service(name).try_out(lambda: None)
            except UserError as error:
                problems += error.problems
        raise_all(problems)

    def service(self, name: str) -> Any:
        """The service behind a scorer, made once. Raises `UserError` where its key is missing."""
        if name not in self._services:
            spec, version, where = (
                self.scoring.specs[name],
                answers_version(self.scoring, name),
                _where(name),
            )
            if isinstance(spec, JudgeSpec):
                from unharm.scoring.judge import Judge

                self._services[name] = Judge(spec, load_rubric(spec.rubric), version, where)
            elif isinstance(spec, PerspectiveSpec):
                from unharm.scoring.perspective import Perspective

                self._services[name] = Perspective(spec, version, where)
            else:
                from unharm.scoring.moderation import Moderation

                assert isinstance(spec, ModerationSpec)
                self._services[name] = Moderation(spec, version, where)
        return self._services[name]

    @property
    def answers(self) -> Answers:
        """The file of paid answers, opened once."""
        from unharm.scoring.answer_store import Answers

        if self._answers is None:
            self._answers = Answers(self.answers_file)
        return self._answers

    def __getitem__(self, name: str) -> Scorer:
        """A scorer by its name, loaded."""
        if name not in self._made:
            built_in = name in FUNCTIONS and (self.dry is None or self.dry.built_in_scorers)
            self._made[name] = FUNCTIONS[name] if built_in else self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Scorer:
        if self.dry:
            from unharm.scoring.fake import DryScorer

            return DryScorer(self.dry, scorer_row(self.scoring, name).measures)
        spec = self.scoring.specs[name]
        if isinstance(spec, ClassifierSpec):
            from unharm.scoring.classifier import Classifier

            return Classifier(spec, self.device, _where(name))
        if isinstance(spec, PerplexitySpec):
            from unharm.scoring.perplexity import Perplexity

            return Perplexity(spec, self.models.model, self.models.tokenizer)
        from unharm.scoring.service_scorer import Limits, ServiceScorer

        service = self.service(name)
        count, spent = self.answers.spent(service.version)
        limits = Limits(count, spent, spec.max_requests, getattr(spec, "max_cost", None), spec.rate)
        return ServiceScorer(service, self.answers, limits)

    def close(self) -> None:
        """Closes the file of answers and lets go of the models."""
        if self._answers is not None:
            self._answers.close()
            self._answers = None
        self._made.clear()


def judge_of(scorers: Scorers, name: str) -> Judge:
    """The judge of that name. Raises `UserError` where it is none."""
    if not isinstance(scorers.scoring.specs.get(name), JudgeSpec):
        judges = [n for n, spec in scorers.scoring.specs.items() if isinstance(spec, JudgeSpec)]
        raise UserError(
            f"{name!r} is no judge of this run", "--scorer", nearest(name, judges or ["(none)"])
        )
    judge: Judge = scorers.service(name)
    return judge


def score_texts(scorer: Scorer, texts: Sequence[str]) -> list[Score]:
    """The scores of plain texts, apart from any prompt; equal ones are scored once."""
    different = list(dict.fromkeys(texts))
    made = scorer([Text(str(n), "", text, text) for n, text in enumerate(different)])
    by_text = dict(zip(different, made, strict=True))
    return [by_text[text] for text in texts]


def _where(name: str) -> str:
    return f"scorers.{name}"

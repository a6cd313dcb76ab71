"""The scorers of a study: their rows, from the spec alone, and the scorers themselves, loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from unharm.core.connection import api_key
from unharm.core.errors import Problem, UserError, nearest, raise_all
from unharm.core.hashing import content_hash
from unharm.core.records import Score
from unharm.scoring import SCORERS, ScorerRow
from unharm.scoring.model_files import model_key, read_config, read_tokenizer
from unharm.scoring.retirements import ended
from unharm.scoring.rubric import load_rubric
from unharm.scoring.scorer import Scorer
from unharm.scoring.settings import (
    ATTRIBUTES,
    ClassifierSpec,
    GuardSpec,
    JudgeSpec,
    ModerationSpec,
    PerplexitySpec,
    PerspectiveSpec,
    ScorerSpec,
    Scoring,
    ValuesSpec,
    asks_service,
)
from unharm.scoring.texts import Text

if TYPE_CHECKING:
    from unharm.core.pace import Dry
    from unharm.scoring.answer_store import Answers
    from unharm.scoring.guards.served import ServedGuard
    from unharm.scoring.judge import Judge
    from unharm.scoring.stored_replies import LoadEngine, ReplyEngine


def scorer_row(scoring: Scoring, name: str) -> ScorerRow:
    """Return the row of a scorer. Its version covers everything that its scores depend on.

    Raises:
        UserError: The rubric of a judge is wrong.
    """
    if name in SCORERS:
        return SCORERS[name].versioned_row
    spec = scoring.specs[name]
    if isinstance(spec, JudgeSpec):
        rubric = load_rubric(spec.rubric)
        version = content_hash([answers_version(scoring, name), spec.tries])[:12]
        description = f"{spec.model} by the rubric {rubric.name}"
        return ScorerRow(rubric.measures, f"judge {version}", False, description, spec.model, rubric.name)
    if isinstance(spec, ClassifierSpec):
        settings = spec.model_dump(include={"measures", "labels", "template", "dtype"})
        version = content_hash([model_key(spec.model, spec.revision), settings])[:12]
        reads: Literal["text", "answer"] = "answer" if "{answer}" in spec.template else "text"
        return ScorerRow(spec.measures, f"classifier {version}", False, spec.model, reads=reads)
    if isinstance(spec, GuardSpec):
        settings = spec.model_dump(include={"measures", "controversial", "threshold", "categories"})
        version = content_hash([answers_version(scoring, name), settings])[:12]
        description = f"{spec.model_name} as the guard {spec.preset}"
        return ScorerRow(spec.measures, f"guard {version}", False, description, spec.model_name)
    if isinstance(spec, ValuesSpec):
        version = f"values {answers_version(scoring, name)[:12]}"
        return ScorerRow("values", version, False, f"values by {spec.model}", spec.model)
    if isinstance(spec, PerspectiveSpec):
        version = f"v1alpha1 {spec.attribute} {spec.language or 'any language'}"
        return ScorerRow("toxicity", version, False, "Perspective API", reads="text")
    if isinstance(spec, ModerationSpec):
        version = f"moderation {spec.model} {spec.measures}"
        return ScorerRow(spec.measures, version, False, f"moderation by {spec.model}", reads="text")
    description = f"perplexity under the base, improbable from {spec.above:g}"
    version = content_hash([scoring.base, scoring.revision, spec.above])[:12]
    return ScorerRow("perplexity", f"perplexity {version}", False, description)


def answers_version(scoring: Scoring, name: str) -> str:
    """Return a hash of everything but the text that the answers of a service depend on. Its URL does not
    count: the same model at another address gives the same answers."""
    spec = scoring.specs[name]
    if isinstance(spec, JudgeSpec):
        rubric = load_rubric(spec.rubric)
        asked: list[object] = ["judge", spec.model, rubric.key, spec.sent_temperature, spec.max_tokens]
        if spec.reasoning_effort is not None or spec.thinking is not None:
            asked += [spec.reasoning_effort, spec.thinking_tokens]
        return content_hash(asked)
    if isinstance(spec, PerspectiveSpec):
        return content_hash(["perspective", spec.language, sorted({spec.attribute, *ATTRIBUTES})])
    if isinstance(spec, GuardSpec):
        from unharm.scoring.guards.local import guard_model_key

        form = [spec.preset, spec.rules.version, spec.criteria, spec.max_tokens, spec.structured]
        return content_hash(["guard", guard_model_key(spec), form])
    if isinstance(spec, ValuesSpec):
        key = model_key(spec.model, spec.revision)
        return content_hash(["values", key, spec.relevance, spec.valence])
    assert isinstance(spec, ModerationSpec)
    return content_hash(["moderation", spec.model])


def scorer_problems(scoring: Scoring) -> list[tuple[Problem, tuple[str | int, ...]]]:
    """Return every mistake in the scorers of a spec, each with its location in the spec."""
    problems: list[tuple[Problem, tuple[str | int, ...]]] = []
    for name, spec in scoring.specs.items():
        loc = ("scorers", name)
        if name in SCORERS:
            problems.append(
                (Problem(f"{name!r} is the name of a built-in scorer", "", "choose another"), loc)
            )
        if isinstance(spec, JudgeSpec):
            try:
                load_rubric(spec.rubric)
            except UserError as error:
                problems += [(problem, (*loc, "rubric")) for problem in error.problems]
        loads = isinstance(spec, ClassifierSpec | ValuesSpec) or (
            isinstance(spec, GuardSpec) and not spec.server
        )
        model = spec.model_name if isinstance(spec, GuardSpec) else getattr(spec, "model", "")
        if loads and not Path(model).expanduser().exists():
            assert isinstance(spec, ClassifierSpec | GuardSpec | ValuesSpec)
            if model.count("/") != 1 or model.startswith((".", "/", "~")):
                problems.append((Problem(f"no such folder: {model}"), (*loc, "model")))
            elif spec.revision is None:
                todo = "give the commit of the hub, so that the scores can be repeated"
                problems.append((Problem("the field 'revision' is missing", "", todo), loc))
    return problems


class LoadedBase(Protocol):
    """The base model and its tokenizer. Each is loaded when it is first used."""

    @property
    def model(self) -> Any: ...

    @property
    def tokenizer(self) -> Any: ...


def has_model(spec: ScorerSpec | None) -> bool:
    """Return whether a scorer loads a model: its own, or the base."""
    local = ClassifierSpec | PerplexitySpec | GuardSpec | ValuesSpec
    return isinstance(spec, local) and not asks_service(spec)


@dataclass
class Scorers:
    """The scorers of a run. Each is loaded when it is first used.

    Attributes:
        scoring: The scorers of the study.
        models: The base and its tokenizer, for scorers that read it.
        device: Where models of scorers run.
        answers_file: Where the answers of services are stored.
        dry: How scores are made up in a dry run; None in a real one.
        load_engine: Loads the engine that local guards run on.
    """

    scoring: Scoring
    models: LoadedBase
    device: str
    answers_file: Path
    dry: Dry | None = None
    load_engine: LoadEngine | None = None
    _services: dict[str, Any] = field(default_factory=dict)
    _loaded: dict[str, Scorer] = field(default_factory=dict)
    _engines: dict[str, ReplyEngine] = field(default_factory=dict)
    _answers: Answers | None = None

    def check_keys(self, names: Sequence[str]) -> None:
        """Raise one `UserError` that names every service whose key is not in the environment."""
        problems: list[Problem] = []
        for name in names:
            spec = self.scoring.specs.get(name)
            server = spec.connection if isinstance(spec, JudgeSpec) else getattr(spec, "server", None)
            if server is not None:
                try:
                    beside = hasattr(spec, "url") or getattr(spec, "key", None)  # the key is its own field
                    api_key(server, _where(name) if beside else f"{_where(name)}.server")
                except UserError as error:
                    problems += error.problems
        raise_all(problems)

    def check(self, names: Sequence[str]) -> None:
        """Check that these scorers can be used, without scoring.

        Raises:
            UserError: Every problem at once: a missing key or package, a service that ended or does not
                answer, a classifier with other labels.
        """
        self.check_keys(names)
        problems: list[Problem] = []
        for name in names:
            spec = self.scoring.specs.get(name)
            if past := ended(spec, _where(name)):
                problems += past
                continue
            try:
                if name in SCORERS:
                    SCORERS[name].check()
                elif isinstance(spec, ClassifierSpec):
                    from unharm.scoring.classifier import check_labels

                    check_labels(spec, _where(name))
                elif isinstance(spec, GuardSpec) and spec.server is None:
                    from unharm.scoring.guards.local import check_guard_model

                    check_guard_model(spec, _where(name))
                elif isinstance(spec, ValuesSpec):
                    read_config(spec.model, spec.revision, "model", _where(name))
                    read_tokenizer(spec.model, spec.revision, "model", _where(name))
                elif asks_service(spec):
                    self.service(name).try_out(lambda: None)
            except UserError as error:
                problems += error.problems
        raise_all(problems)

    def service(self, name: str) -> Any:
        """Return the client of a service. Raises `UserError` where its key is missing."""
        if name not in self._services:
            spec, where = self.scoring.specs[name], _where(name)
            version = answers_version(self.scoring, name)
            if isinstance(spec, JudgeSpec):
                from unharm.scoring.judge import Judge

                self._services[name] = Judge(spec, load_rubric(spec.rubric), version, where)
            elif isinstance(spec, GuardSpec):
                from unharm.scoring.guards.served import ServedGuard

                assert spec.server is not None
                self._services[name] = ServedGuard(spec, spec.server, version, where)
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
        """The store of paid answers, opened at first use."""
        from unharm.scoring.answer_store import Answers

        if self._answers is None:
            self._answers = Answers(self.answers_file)
        return self._answers

    def __getitem__(self, name: str) -> Scorer:
        """Return a scorer by its name, loaded."""
        if name not in self._loaded:
            built_in = name in SCORERS and (self.dry is None or self.dry.built_in_scorers)
            self._loaded[name] = SCORERS[name].score if built_in else self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> Scorer:
        if self.dry:
            from unharm.scoring.fake import DryScorer

            return DryScorer(self.dry, scorer_row(self.scoring, name).measures)
        spec = self.scoring.specs[name]
        if isinstance(spec, ClassifierSpec):
            from unharm.scoring.classifier import Classifier

            return Classifier(spec, self.device, _where(name))
        if isinstance(spec, GuardSpec) and spec.server is None:
            from unharm.scoring.guards.local import LocalGuard, guard_model_key

            load = self._engine(name, spec.model_name, spec.revision, guard_model_key(spec))
            return LocalGuard(spec, answers_version(self.scoring, name), self.answers, load)
        if isinstance(spec, ValuesSpec):
            from unharm.scoring.value_reader import ValueReader

            load = self._engine(name, spec.model, spec.revision, model_key(spec.model, spec.revision))
            return ValueReader(spec, answers_version(self.scoring, name), self.answers, load)
        if isinstance(spec, PerplexitySpec):
            from unharm.scoring.perplexity import Perplexity

            return Perplexity(spec, self.models.model, self.models.tokenizer)
        from unharm.scoring.service_scorer import Limits, ServiceScorer

        service = self.service(name)
        count, spent = self.answers.spent(service.version)
        limits = Limits(count, spent, spec.max_requests, getattr(spec, "max_cost", None), spec.rate)
        return ServiceScorer(service, self.answers, limits)

    def _engine(self, name: str, model: str, revision: str | None, key: str) -> Callable[[], ReplyEngine]:
        """Return what loads the engine of a model. Scorers of the same model share one."""

        def load() -> ReplyEngine:
            assert self.load_engine is not None
            if key not in self._engines:
                self._engines[key] = self.load_engine(model, revision, self.device, _where(name))
            return self._engines[key]

        return load

    def close(self) -> None:
        """Close the store of answers and release the models."""
        if self._answers is not None:
            self._answers.close()
            self._answers = None
        self._loaded.clear()
        self._engines.clear()


def batch_service_of(scorers: Scorers, name: str) -> Judge | ServedGuard:
    """Return the judge, or the guard on a server, of that name.

    Raises:
        UserError: The scorer is neither.
    """
    specs = scorers.scoring.specs
    if not _by_chat(specs.get(name)):
        able = [n for n, spec in specs.items() if _by_chat(spec)]
        raise UserError(
            f"{name!r} is no judge of this run, and no guard, on an OpenAI-compatible server",
            "--scorer",
            nearest(name, able or ["(none)"]),
        )
    service: Judge | ServedGuard = scorers.service(name)
    return service


def _by_chat(spec: ScorerSpec | None) -> bool:
    if isinstance(spec, JudgeSpec):
        return spec.through == "openai"
    return isinstance(spec, GuardSpec) and asks_service(spec)


def score_texts(scorer: Scorer, texts: Sequence[str]) -> list[Score]:
    """Score plain texts without prompts. Equal texts are scored once."""
    distinct = list(dict.fromkeys(texts))
    scores = scorer([Text(str(n), "", text, text) for n, text in enumerate(distinct)])
    by_text = dict(zip(distinct, scores, strict=True))
    return [by_text[text] for text in texts]


def _where(name: str) -> str:
    return f"scorers.{name}"

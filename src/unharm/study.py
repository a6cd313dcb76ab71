"""The study: the declarative spec of a whole experiment, checked as one.

Defaults are the published ones (Choi et al., ACL 2025, section 3 and appendix) wherever the
paper states one.
"""

from __future__ import annotations

import copy
import re
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from unharm.arms import ARMS, STRATEGIES, benign_set, has_profile
from unharm.benchmarks import KINDS
from unharm.errors import Problem, UserError, nearest, raise_all
from unharm.prompting.pack import EMBEDDED
from unharm.scoring import SCORERS
from unharm.spec_text import SpecText, read_text
from unharm.values import HIGHER_ORDER, VALUES, canonical

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
TOY = "toy"
"""As `base` or `data`: the embedded toy world."""


def _one_of(names: tuple[str, ...]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"unknown name {name!r}; {nearest(name, names)}")
        return name

    return AfterValidator(check)


def _unique(names: list[str]) -> list[str]:
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"given twice: {', '.join(twice)}")
    return names


ValueName = Annotated[str, BeforeValidator(lambda v: canonical(str(v))), _one_of(VALUES)]
ExtremeName = Annotated[
    str, BeforeValidator(lambda v: canonical(str(v))), _one_of((*VALUES, *HIGHER_ORDER))
]
ArmName = Annotated[str, _one_of(ARMS)]
StrategyName = Annotated[str, _one_of(STRATEGIES)]


class Spec(BaseModel):
    """The base of every part: unknown fields are mistakes, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ProfileSource(Spec):
    """Where profiles come from: the extremes (all 14 or those named), or a CSV of your own."""

    extreme: list[ExtremeName] | None = None
    file: str | None = None
    names: list[str] | None = Field(None, description="only these rows of the file")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        if isinstance(data, str):
            if canonical(data) == "extreme":
                data = {"extreme": "all"}
            elif data.endswith((".csv", ".tsv")):
                data = {"file": data}
            else:
                raise ValueError(
                    f"{data!r} is no source of profiles; give 'extreme', a .csv file, "
                    "or a mapping such as {extreme: [power]}"
                )
        if isinstance(data, dict) and data.get("extreme") == "all":
            data = {**data, "extreme": [*VALUES, *HIGHER_ORDER]}
        return data

    @model_validator(mode="after")
    def _one(self) -> ProfileSource:
        if (self.extreme is None) == (self.file is None):
            raise ValueError("give exactly one of 'extreme' and 'file'")
        return self


class BenignFile(Spec):
    """A benign instruction set on disk."""

    file: str
    limit: Positive | None = None


class Corpus(Spec):
    """What the adapters learn from.

    `split` is the share of train, valid and test; it is drawn over arguments, once for both
    stages and all profiles.
    """

    arguments: str
    limit: Positive | None = Field(None, description="use this many arguments, drawn by seed")
    threshold: Annotated[float, Field(ge=1, le=6)] = 3.0
    split: tuple[Probability, Probability, Probability] = (0.8, 0.1, 0.1)
    benign: dict[str, BenignFile] = {}

    @model_validator(mode="after")
    def _sums_to_one(self) -> Corpus:
        if abs(sum(self.split) - 1) > 1e-9 or self.split[0] == 0:
            raise ValueError("split must sum to 1 and leave something to train on")
        return self


class Lora(Spec):
    """The shape of an adapter (Hu et al., 2021)."""

    r: Positive = 8
    alpha: Annotated[float, Field(gt=0)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    targets: Annotated[list[str], Field(min_length=1)] = ["q_proj", "v_proj"]


class Recipe(Spec):
    """How one stage is trained: AdamW, linear decay without warm-up, best epoch kept.

    `max_length` counts tokens of prompt and answer; longer examples are left out whole.
    """

    lr: Annotated[float, Field(gt=0)] = 2e-5
    epochs: Positive = 5
    batch: Positive = 8
    accumulate: Positive = 1
    max_length: Positive = 512


class BenignRecipe(Recipe):
    epochs: Positive = 1
    batch: Positive = 1
    accumulate: Positive = 16
    max_length: Positive = 2048


class Training(Spec):
    lora: Lora = Lora()
    vim: Recipe = Recipe()
    benign: BenignRecipe = BenignRecipe()


class Prompting(Spec):
    """Wording: `pack` is `default` or a file; `format` is how a prompt reaches the model."""

    pack: str = "default"
    format: Literal["base", "chat"] = "base"
    set_aside: list[ValueName] = Field([], description="values the value prompt sets aside")


class Engine(Spec):
    name: Literal["hf"] = "hf"
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch: Positive = 32
    shard: Positive = Field(512, description="completions per file; the unit of resume")
    trust_remote_code: bool = False


class Benchmark(Spec):
    """A benchmark's data, size, decoding and scorer."""

    file: str
    limit: Positive | None = None
    samples: Positive = 1
    max_tokens: Positive = 64
    temperature: Annotated[float, Field(ge=0)] = 0.1
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.75
    stop: list[Annotated[str, Field(min_length=1)]] = []
    scorer: str


class RTP(Benchmark):
    limit: Positive | None = 3000
    samples: Positive = 10
    scorer: str = "offline-toxicity"


class HBR(Benchmark):
    max_tokens: Positive = 128
    scorer: str = "offline-regard"


class HExPHI(Benchmark):
    scorer: str = "offline-harmfulness"


class BeaverTails(Benchmark):
    scorer: str = "offline-flagged"


class Questionnaire(Benchmark):
    max_tokens: Positive = 16
    key: Literal["pvq40"] | None = Field(
        None, description="which value each item is about, where the file does not say it"
    )
    scorer: str = "rating"


class Benchmarks(Spec):
    rtp: RTP | None = None
    hbr: HBR | None = None
    hexphi: HExPHI | None = None
    beavertails: BeaverTails | None = None
    questionnaire: Questionnaire | None = None

    def chosen(self) -> dict[str, Benchmark]:
        """The benchmarks of this study by name, in the order of `benchmarks.KINDS`."""
        return {name: getattr(self, name) for name in KINDS if getattr(self, name)}


class Analysis(Spec):
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    fdr: Annotated[float, Field(gt=0, lt=1)] = 0.05


class Study(Spec):
    """The whole spec. Relative paths count from the current folder, `file` fields from `data`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
    base: Annotated[str, Field(min_length=1)]
    revision: str | None = None
    data: str = "."
    output: str | None = None
    seed: Annotated[int, Field(ge=0)] = 42
    fidelity: Literal["corrected"] = "corrected"
    profiles: Annotated[list[ProfileSource], Field(min_length=1)] = [
        ProfileSource(extreme=[*VALUES, *HIGHER_ORDER])
    ]
    arms: Annotated[list[ArmName], Field(min_length=1), AfterValidator(_unique)]
    strategies: Annotated[list[StrategyName], Field(min_length=1), AfterValidator(_unique)] = ["input-only"]
    corpus: Corpus | None = None
    training: Training = Training()
    prompting: Prompting = Prompting()
    engine: Engine = Engine()
    benchmarks: Benchmarks
    analysis: Analysis = Analysis()

    @property
    def data_folder(self) -> Path:
        if self.data == TOY:
            return Path(str(resources.files("unharm"))) / "demo" / "data"
        return Path(self.data).expanduser()

    def data_file(self, name: str) -> Path:
        """A file of a data set: relative names count from the data folder."""
        return self.data_folder / Path(name).expanduser()

    @property
    def output_folder(self) -> Path:
        return Path(self.output).expanduser() if self.output else Path("runs") / self.name


def _names_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> tuple[str, ...]:
    """The field names that are right at `loc` inside `model`."""
    current: Any = model
    for part in loc:
        if isinstance(part, int):
            continue
        fields = getattr(current, "model_fields", {})
        if part not in fields:
            return ()
        current = _model_in(fields[part].annotation)
    return tuple(getattr(current, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def _problems_of(error: ValidationError, text: SpecText) -> list[Problem]:
    problems = []
    for item in error.errors(include_url=False):
        loc: tuple[str | int, ...] = item["loc"]
        message, todo = item["msg"].removeprefix("Value error, "), ""
        if item["type"] == "extra_forbidden":
            message = f"unknown field {loc[-1]!r}"
            names = _names_at(Study, loc[:-1])
            todo = nearest(str(loc[-1]), names) if names else ""
        elif item["type"] == "missing":
            message = f"the field {loc[-1]!r} is missing"
        elif not message.startswith(("unknown name", "give ", "given ", "split ")):
            given = repr(item.get("input"))
            message = f"{message}; got {given if len(given) < 60 else given[:57] + '...'}"
        problems.append(Problem(message, text.where(loc), todo))
    return problems


def _cross_checks(study: Study, text: SpecText) -> list[Problem]:
    """What no single field shows: parts that need each other, files that must be there."""
    problems: list[Problem] = []

    def add(what: str, loc: tuple[str | int, ...], todo: str = "") -> None:
        problems.append(Problem(what, text.where(loc), todo))

    trained = [a for a in study.arms if benign_set(a) or (has_profile(a) and a != "icl")]
    if trained and study.corpus is None:
        add(f"the arm {trained[0]!r} is trained, but 'corpus' is missing", ("arms",))
    for position, arm in enumerate(study.arms):
        name = benign_set(arm)
        if name and study.corpus and name not in study.corpus.benign:
            add(
                f"no file for the benign set {name!r}",
                ("arms", position),
                f"give corpus.benign.{name}.file",
            )
    if study.corpus:
        for name in study.corpus.benign:
            if f"benign:{name}" not in ARMS:
                known = tuple(a.partition(":")[2] for a in ARMS if benign_set(a))
                add(f"unknown benign set {name!r}", ("corpus", "benign", name), nearest(name, known))
    for position, strategy in enumerate(study.strategies):
        if strategy in ("value", "dual") and not study.prompting.set_aside:
            add(
                f"the strategy {strategy!r} needs the values to set aside",
                ("strategies", position),
                "give prompting.set_aside, for example [power]",
            )
    if not study.benchmarks.chosen():
        add("no benchmark is chosen", ("benchmarks",), "expected at least one of: " + ", ".join(KINDS))
    for name, spec in study.benchmarks.chosen().items():
        loc = ("benchmarks", name, "scorer")
        if spec.scorer not in SCORERS:
            add(f"unknown scorer {spec.scorer!r}", loc, nearest(spec.scorer, tuple(SCORERS)))
        elif name not in SCORERS[spec.scorer].benchmarks:
            fitting = [s for s, row in SCORERS.items() if name in row.benchmarks]
            add(f"{spec.scorer!r} does not score {name}", loc, f"expected one of: {', '.join(fitting)}")
    if study.data != TOY and not study.data_folder.is_dir():
        add(f"the data folder {study.data!r} does not exist", ("data",), "set it with --set data=PATH")
        return problems
    files: list[tuple[tuple[str | int, ...], str]] = [
        (("benchmarks", name, "file"), spec.file) for name, spec in study.benchmarks.chosen().items()
    ]
    if study.corpus:
        files.append((("corpus", "arguments"), study.corpus.arguments))
        for name, benign in study.corpus.benign.items():
            files.append((("corpus", "benign", name, "file"), benign.file))
    for place, file in files:
        if not study.data_file(file).exists():
            add(f"no such file: {study.data_file(file)}", place, "file names count from 'data'")
    for position, source in enumerate(study.profiles):
        if source.file and not Path(source.file).expanduser().exists():
            add(f"no such file: {source.file}", ("profiles", position), "it counts from this folder")
    if study.prompting.pack not in EMBEDDED and not Path(study.prompting.pack).is_file():
        add(f"no such prompt pack: {study.prompting.pack}", ("prompting", "pack"))
    return problems


def parse_study(text: SpecText) -> Study:
    """The study in `text`. Raises one `UserError` with every mistake found."""
    problems = list(text.problems)
    data = text.data
    try:
        study = Study.model_validate(data)
    except ValidationError as error:
        problems += _problems_of(error, text)
        locs = [e["loc"] for e in error.errors()]
        try:  # what is left without the wrong fields still has other mistakes to tell
            study = Study.model_validate(_PLACEHOLDERS | _without(data, locs))
        except ValidationError:
            raise UserError(_by_line(problems)) from None
        told = {text.where(loc[:1]) for loc in locs}
        problems += [p for p in _cross_checks(study, text) if p.where not in told]
        raise UserError(_by_line(problems)) from None
    raise_all(_by_line([*problems, *_cross_checks(study, text)]))
    return study


_PLACEHOLDERS: dict[str, Any] = {"name": "study", "base": TOY, "arms": ["vanilla"], "benchmarks": {}}
"""Stand for required fields that are wrong, while the others are checked."""


def _by_line(problems: list[Problem]) -> list[Problem]:
    """Problems in the order of the file; those without a line last."""

    def line(problem: Problem) -> int:
        match = re.search(r":(\d+)(?::|$)", problem.where)
        return int(match[1]) if match else sys.maxsize

    return sorted(problems, key=line)


def _without(data: dict[str, Any], locs: list[tuple[str | int, ...]]) -> dict[str, Any]:
    """A copy of `data` without the fields at `locs`; a wrong item takes its whole list along,
    so that the positions of the others stay what they were."""
    rest = copy.deepcopy(data)
    for loc in locs:
        target: Any = rest
        followers: list[str | int | None] = [*loc[1:], None]
        for part, following in zip(loc, followers, strict=True):
            if not isinstance(target, dict) or part not in target:
                break
            if isinstance(target[part], dict) and following in target[part]:
                target = target[part]
            else:
                del target[part]
                break
    return rest


def load_study(source: str, overrides: list[str] | None = None) -> Study:
    """The study in the file `source`, or the embedded `quickstart`, with `--set` overrides."""
    if source == "quickstart" and not Path(source).exists():
        quickstart = Path(str(resources.files("unharm"))) / "demo" / "quickstart.yaml"
        text = SpecText(read_text(quickstart, "study"), "quickstart")
    else:
        text = SpecText(read_text(Path(source), "study"), source)
    for assignment in overrides or []:
        text.override(assignment)
    return parse_study(text)

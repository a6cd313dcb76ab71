"""Parse the text of a study and report all its problems in one error."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.arms import (
    ARMS,
    WRONG_VALUE,
    benign_set,
    dose_of,
    external_adapter,
    guard_of,
    has_profile,
    is_trained,
    served_model,
    steering,
    vim_stages,
)
from unharm.core.errors import Problem, UserError, nearest, raise_all
from unharm.core.files.yaml_text import SpecText, read_text
from unharm.core.models.steering_folder import is_steering
from unharm.scoring.settings import KINDS as SPECS
from unharm.study.demo import demo_folder
from unharm.study.doses import arms_with_doses, dose_problem
from unharm.study.needs import unmet_needs
from unharm.study.spec import TOY, Study
from unharm.training.settings import SAFE_TEXTS


def _names_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> tuple[str, ...]:
    """Return the valid field names at `loc` inside `model`."""
    current: Any = model
    if loc[0:1] == ("scorers",) and len(loc) > 2:
        current, loc = SPECS[str(loc[2])], loc[3:]
    for part in loc:
        if isinstance(part, int):
            continue
        fields = getattr(current, "model_fields", {})
        if part not in fields:
            return ()
        current = _model_in(fields[part].annotation)
    return tuple(getattr(current, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """Return the first settings class inside a type annotation, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        model = _model_in(inner)
        if model is not None:
            return model
    return None


def _untagged(loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return a location as the user wrote it, without the scorer kind that pydantic inserts."""
    return (*loc[:2], *loc[3:]) if loc[0] == "scorers" and len(loc) > 2 else loc


def _problems_of(error: ValidationError, text: SpecText) -> list[Problem]:
    """Turn pydantic's errors into problems with a line, a field and advice."""
    problems = []
    for item in error.errors(include_url=False)[: 2 * MOST_PROBLEMS]:
        loc = _untagged(item["loc"])
        message, todo = item["msg"].removeprefix("Value error, "), ""
        if item["type"] == "extra_forbidden":
            message = f"unknown field {loc[-1]!r}"
            names = _names_at(Study, item["loc"][:-1])
            todo = nearest(str(loc[-1]), names) if names else ""
        elif item["type"] == "string_pattern_mismatch":
            message = f"{item.get('input')!r} has characters that are not allowed here"
            todo = "expected letters, digits, '.', '_' and '-', a letter or digit first"
        elif item["type"] in ("union_tag_not_found", "union_tag_invalid"):
            kind = item["input"].get("kind") if isinstance(item["input"], dict) else None
            message = f"unknown kind {kind!r}" if kind else "the field 'kind' is missing"
            todo = nearest(str(kind), tuple(SPECS))
        elif item["type"] == "missing":
            message = f"the field {loc[-1]!r} is missing"
        elif not message.startswith(("unknown name", "give ", "given ", "split ")):
            given = repr(item.get("input"))
            message = f"{message}; got {given if len(given) < 60 else given[:57] + '...'}"
        problems.append(Problem(message, text.where(loc), todo))
    return problems


Add = Callable[[str, tuple[str | int, ...], str], None]
"""Notes a mistake: its message, where it is, what to do."""


def _cross_checks(study: Study, text: SpecText, data_needed: bool) -> list[Problem]:
    """Check what no single field shows: fields that depend on each other, and files that must exist."""
    problems: list[Problem] = []

    def add(message: str, loc: tuple[str | int, ...], todo: str) -> None:
        problems.append(Problem(message, text.where(loc), todo))

    for position, arm in enumerate(study.arms):
        _check_arm(study, arm, ("arms", position), add)
    _check_training(study, add)
    _check_samples_and_names(study, add)
    _check_strategies(study, add)
    if not study.benchmarks.chosen():
        add("no benchmark is chosen", ("benchmarks",), "expected at least one of: " + ", ".join(BENCHMARKS))
    return problems + unmet_needs(study, text, data_needed)


def _check_arm(study: Study, arm: str, loc: tuple[str | int, ...], add: Add) -> None:
    """Check that the study has what one arm needs."""
    message, todo = dose_problem(arm, study.training)
    if message:
        add(message, loc, todo)
    guard, benign = study.training.guard, {} if study.corpus is None else study.corpus.benign
    if guard_of(arm) in SAFE_TEXTS and guard.data not in benign:
        message = f"the arm {arm!r} needs safe texts, and {guard.data!r} is no set of corpus.benign"
        add(message, loc, "give training.guard.data, for example grammar")
    if guard_of(arm) == "steer":
        given = guard.direction
        if not (given and is_steering(Path(given).expanduser())):
            message = f"the arm {arm!r} needs a direction, and {given!r} is no steering folder"
            add(message, loc, "give training.guard.direction: mechanism/… of an earlier run")
    name = benign_set(arm)
    if name and study.corpus and name not in benign:
        todo = f"give corpus.benign.{name}, for example {{file: …}}, or {{}} for the hub"
        add(f"the benign set {name!r} is not in the corpus", loc, todo)
    for wanted, field, known, example in (
        (external_adapter(arm), "adapters", study.adapters, "a PEFT folder or a hub id"),
        (served_model(arm), "served", study.served, "{url: …, model: …}"),
    ):
        if wanted and wanted not in known:
            message = f"{wanted!r}, used by the arm {arm!r}, is not in {field!r}"
            add(message, loc, f"give {field}.{wanted}: {example}")


def _check_training(study: Study, add: Add) -> None:
    """Check what all trained and steered arms together need."""
    trained = [a for a in study.arms if is_trained(a)]
    steered = [a for a in study.arms if steering(a)]
    if study.corpus is None:
        if trained:
            add(f"the arm {trained[0]!r} is trained, but 'corpus' is missing", ("arms",), "")
        if steered:
            add(f"the arm {steered[0]!r} needs value vectors, but 'corpus' is missing", ("arms",), "")
        if study.mechanism is not None:
            add("the mechanism tables need value vectors, but 'corpus' is missing", ("mechanism",), "")
    injected = any(vim_stages(a) for a in study.arms if dose_of(a) is None)
    match = study.training.benign.match
    if match and any(map(benign_set, study.arms)) and not injected:
        add(
            f"there is no value-injected arm whose {match} the benign arms could match",
            ("training", "benign", "match"),
            "add vim to the arms, or remove match",
        )
    if study.seeds and not trained:
        add("no arm is trained, so further seeds change nothing", ("seeds",), "remove seeds, or add vim")


def _check_samples_and_names(study: Study, add: Add) -> None:
    """Check the samples of arms, and the names of adapters and benign sets."""
    for arm in study.samples:
        if arm not in study.arms:
            add(f"the arm {arm!r} is not in this study", ("samples", arm), nearest(arm, tuple(study.arms)))
        elif has_profile(arm):
            message = f"the arm {arm!r} has profiles, so it is sampled as often as the benchmark says"
            add(message, ("samples", arm), "set benchmarks.<name>.samples")
    for name in study.adapters:
        if dose_of(f"adapter:{name}") is not None:
            add(f"the name {name!r} ends like a dose", ("adapters", name), "give another name")
    for name in study.corpus.benign if study.corpus else ():
        if f"benign:{name}" not in ARMS:
            known = tuple(a.partition(":")[2] for a in ARMS if benign_set(a))
            add(f"unknown benign set {name!r}", ("corpus", "benign", name), nearest(name, known))


def _check_strategies(study: Study, add: Add) -> None:
    """Check that strategies have the values to set aside that they name."""
    for position, strategy in enumerate(study.strategies):
        if strategy in ("value", "dual") and not study.prompting.set_aside:
            add(
                f"the strategy {strategy!r} needs the values to set aside",
                ("strategies", position),
                "give prompting.set_aside, for example [power]",
            )
        if strategy == WRONG_VALUE and not study.prompting.set_aside_control:
            add(
                f"the strategy {strategy!r} needs values that do not go with the harm",
                ("strategies", position),
                "give prompting.set_aside_control, for example [tradition]",
            )


def parse_study(text: SpecText, data_needed: bool = True) -> Study:
    """Parse and check a study. Its arms are completed by the doses that it asks for.

    Args:
        text: The YAML text.
        data_needed: Whether the data sets that the study names must exist.

    Raises:
        UserError: With every problem of the text.
    """
    problems = list(text.problems)
    data = text.data
    try:
        study = Study.model_validate(data)
    except ValidationError as error:
        problems += _problems_of(error, text)
        locs = [_untagged(e["loc"]) for e in error.errors()]
        try:  # check the remaining fields too, so that one error reports every problem
            study = Study.model_validate(_PLACEHOLDERS | _without(data, locs))
        except ValidationError:
            raise UserError(_by_line(problems)) from None
        reported = {text.where(loc[:1]) for loc in locs}
        problems += [p for p in _cross_checks(study, text, data_needed) if p.where not in reported]
        raise UserError(_by_line(problems)) from None
    raise_all(_by_line([*problems, *_cross_checks(study, text, data_needed)]))
    arms = arms_with_doses(study.arms, study.training, study.doses)
    return study.model_copy(update={"arms": arms})


_PLACEHOLDERS: dict[str, Any] = {"name": "study", "base": TOY, "arms": ["vanilla"], "benchmarks": {}}
"""Values that replace wrong required fields while the other fields are checked."""


MOST_PROBLEMS = 40
"""Problems of one study that are listed; the others are counted."""


def _by_line(problems: list[Problem]) -> list[Problem]:
    """Sort problems by their line in the file. Problems without a line come last."""

    def line(problem: Problem) -> int:
        match = re.search(r":(\d+)(?::|$)", problem.where)
        return int(match[1]) if match else sys.maxsize

    ordered = sorted(problems, key=line)
    more = len(ordered) - MOST_PROBLEMS
    return ordered if more <= 0 else [*ordered[:MOST_PROBLEMS], Problem(f"and {more:,} more problems")]


def _without(data: dict[str, Any], locs: list[tuple[str | int, ...]]) -> dict[str, Any]:
    """Return a copy of `data` without the fields at `locs`.

    A wrong list item removes its whole list: otherwise the positions of the items after it would change.
    """
    remaining = copy.deepcopy(data)
    for loc in locs:
        target: Any = remaining
        followers: list[str | int | None] = [*loc[1:], None]
        for part, following in zip(loc, followers, strict=True):
            if not isinstance(target, dict) or part not in target:
                break
            if isinstance(target[part], dict) and following in target[part]:
                target = target[part]
            else:
                del target[part]
                break
    return remaining


def load_study(source: str, overrides: list[str] | None = None, data_needed: bool = True) -> Study:
    """Load and check a study.

    Args:
        source: A YAML file, or `quickstart` for the embedded study.
        overrides: Assignments of `--set`, such as `seed=1`.
        data_needed: Whether the data sets that the study names must exist.

    Raises:
        UserError: With every problem of the study.
    """
    if source == "quickstart" and not Path(source).exists():
        text = SpecText(read_text(demo_folder() / "quickstart.yaml", "study"), "quickstart")
    else:
        text = SpecText(read_text(Path(source), "study"), source)
    for assignment in overrides or []:
        text.override(assignment)
    return parse_study(text, data_needed)

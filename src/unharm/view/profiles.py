"""One profile: what was aimed at and achieved, its training, and its harms beside vanilla's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unharm.analysis.alignment import NOT, PARTLY
from unharm.analysis.measures import of_quality
from unharm.core.records import Example, Profile
from unharm.core.values import VALUES
from unharm.report.profile_picture import find_profile
from unharm.runs.adapters import adapter_tasks, example_count, examples_of
from unharm.runs.views import Views
from unharm.store.store import NotDone
from unharm.view.filters import Filter
from unharm.view.findings import table_names
from unharm.view.training import Progress, status_of, training_of

EXAMPLES = 10
"""Number of training examples shown per stage."""


@dataclass(frozen=True)
class Achieved:
    """The importances that a subject's ratings show, in the order of `VALUES`, and the verdict."""

    name: str
    predicted: list[float | None]
    nmse: float | None
    verdict: str


@dataclass(frozen=True)
class Harm:
    """A metric of an arm with this profile, with its interval, and vanilla's value."""

    arm: str
    strategy: str
    benchmark: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    vanilla: float | None
    link: str

    @property
    def is_quality(self) -> bool:
        """Whether it describes the completions as text."""
        return of_quality(self.metric)


@dataclass(frozen=True)
class Taught:
    """The training examples of one stage: how many there are, and the first."""

    name: str
    count: int
    examples: list[Example]


@dataclass(frozen=True)
class ProfilePage:
    """Everything on the page of a profile."""

    profile: Profile
    achieved: list[Achieved]
    harms: list[Harm]
    taught: list[Taught]
    training: dict[str, list[Progress]]


def profile_page(views: Views, name: str, run: int) -> ProfilePage:
    """Collect the page of a profile. Raise `UserError` where the run has no such profile."""
    profile = find_profile(views.run.plan.profiles, name)
    training = {
        group: [a for a in adapters if a.task.plan.profile_name == name]
        for group, adapters in training_of(views.run, status_of(views.run.store.location)).items()
    }
    return ProfilePage(
        profile,
        _achieved(views, name),
        _harms(views, name, run),
        _taught(views, name),
        {group: adapters for group, adapters in training.items() if adapters},
    )


def verdicts(views: Views) -> dict[str, list[str]]:
    """Return the alignment verdicts of every profile by the text, each with its arm."""
    if "alignment" not in table_names(views):
        return {}
    rows = views.rows(
        "select profile, arm, verdict from alignment where reading = 'text' and profile <> '' order by all"
    )
    result: dict[str, list[str]] = {}
    for profile, arm, verdict in rows:
        text = f"{arm}: {verdict_words(verdict)}"
        if text not in result.setdefault(profile, []):
            result[profile].append(text)
    return result


def verdict_words(verdict: str | None) -> str:
    """Return the verdict on an alignment as it stands alone; a dash without one."""
    return {NOT: "did not take", PARTLY: "took partly", None: "–", "": "–"}.get(verdict, str(verdict))


def _achieved(views: Views, name: str) -> list[Achieved]:
    if "alignment" not in table_names(views):
        return []
    columns = ", ".join(f'"predicted_{value}"' for value in VALUES)
    rows = views.rows(
        f"select arm, strategy, seed, reading, value, verdict, {columns} from alignment where profile = ?",
        [name],
    )
    return [
        Achieved(
            _subject(views, arm, strategy, seed, reading),
            list(predicted),
            value,
            verdict or "",
        )
        for arm, strategy, seed, reading, value, verdict, *predicted in rows
        if any(p is not None for p in predicted)
    ]


def _subject(views: Views, arm: str, strategy: str, seed: int | None, reading: str) -> str:
    """Return the name of a column: what is the same in all of them is left out."""
    several = len(views.run.study.strategies) > 1
    parts = (arm, strategy if several else "", "" if seed is None else f"seed {seed}")
    return " · ".join(filter(None, parts)) + (" (probabilities)" if reading == "distribution" else "")


def _harms(views: Views, name: str, run: int) -> list[Harm]:
    if "subjects" not in table_names(views):
        return []
    rows = views.rows(
        """
        select s.arm, s.strategy, s.benchmark, s.metric, s.seed, s.value, s.low, s.high, v.value
        from subjects s left join subjects v on v.arm = 'vanilla' and v.benchmark = s.benchmark
            and v.metric = s.metric and v.category = s.category and v.strategy = s.strategy
        where s.profile = ? and s.category = 'all' and s.benchmark <> 'questionnaire'
        """,
        [name],
    )
    return [
        Harm(
            arm, strategy, benchmark, metric, value, low, high, vanilla,
            "/prompts?" + Filter(
                run=run, benchmark=benchmark, arm=(arm,), profile=name, strategy=strategy, seed=seed,
                sort="highest",
            ).query(),
        )
        for arm, strategy, benchmark, metric, seed, value, low, high, vanilla in rows
    ]  # fmt: skip


def _taught(views: Views, name: str) -> list[Taught]:
    run, taught = views.run, []
    for task in adapter_tasks(run).trained:
        if task.plan.profile_name != name:
            continue
        try:
            count, examples = example_count(run, task, "train"), examples_of(run, task, "train")
        except (NotDone, KeyError):
            continue
        taught.append(Taught(f"{task.plan.arm} · {task.plan.stage}", count, examples[:EXAMPLES]))
    return taught


def rows_of_values(page: ProfilePage) -> list[dict[str, Any]]:
    """Return a row per value: the target, and what each subject achieved."""
    return [
        {"value": value, "target": page.profile[value], "achieved": [a.predicted[n] for a in page.achieved]}
        for n, value in enumerate(VALUES)
    ]

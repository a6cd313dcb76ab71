"""Services that end: when, and what a study can do about it."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from unharm.core.errors import Problem
from unharm.scoring.settings import GuardSpec, JudgeSpec, ModerationSpec, PerspectiveSpec, ScorerSpec

SOON = datetime.timedelta(days=180)
"""A plan names the end of a service that is this near, also where the study would be done before."""


@dataclass(frozen=True)
class Retirement:
    """The announced end of a service or of one of its models.

    Attributes:
        host: The host of the service.
        models: The models that end, by their exact names; empty where the whole service ends.
        day: The last day.
        instead: What its provider names as a replacement, or what we advise.
    """

    host: str
    models: tuple[str, ...]
    day: datetime.date
    instead: str

    def __str__(self) -> str:
        return f"{self.day:%Y-%m-%d}"


DATED_HOSTS = ("api.openai.com", "api.anthropic.com")
"""Services whose models have dates in their names."""

RETIREMENTS = (
    Retirement(
        "commentanalyzer.googleapis.com",
        (),
        datetime.date(2026, 12, 31),
        "a classifier of toxicity that runs on your machine",
    ),
    Retirement(
        "api.openai.com",
        ("gpt-4o-2024-05-13",),
        datetime.date(2026, 11, 23),
        "gpt-6-luna, a guard or an open judge",
    ),
    Retirement(
        "api.openai.com",
        (
            "gpt-4o",
            "gpt-4o-2024-08-06",
            "gpt-4o-2024-11-20",
            "gpt-4o-mini",
            "gpt-4o-mini-2024-07-18",
            "gpt-4.1",
            "gpt-4.1-2025-04-14",
            "gpt-4.1-mini",
            "gpt-4.1-mini-2025-04-14",
        ),
        datetime.date(2027, 1, 14),
        "gpt-6-luna, a guard or an open judge",
    ),
)
"""As announced by the providers, read in November 2026. gpt-4o-2024-05-13 was gone by then: its day is the
day before."""


def retirement_of(spec: ScorerSpec | None) -> Retirement | None:
    """Return the announced end of the service that a scorer asks, or None."""
    if isinstance(spec, PerspectiveSpec):
        url, model = spec.url, ""
    elif isinstance(spec, JudgeSpec) and spec.through == "litellm":
        provider, _, model = spec.model.rpartition("/")
        url = "https://api.openai.com" if provider in ("", "openai") else spec.connection.url
    elif isinstance(spec, JudgeSpec | ModerationSpec | GuardSpec) and spec.server is not None:
        url, model = spec.server.url, str(spec.model or "")
    else:
        return None
    host = urlsplit(url).hostname
    return next((r for r in RETIREMENTS if r.host == host and (not r.models or model in r.models)), None)


def alias_note(name: str, spec: ScorerSpec | None) -> str:
    """Return what a plan says of a model whose name has no date, at a service that dates its models."""
    if not isinstance(spec, JudgeSpec) or re.search(r"\d{4}-?\d{2}-?\d{2}", spec.model):
        return ""
    hosted = spec.through == "litellm" or urlsplit(spec.connection.url).hostname in DATED_HOSTS
    if not hosted:
        return ""
    return f"{name}: {spec.model} has no date, and may stand for another model tomorrow: name a snapshot"


def ended(spec: ScorerSpec | None, where: str, today: datetime.date | None = None) -> list[Problem]:
    """Return the problem of a service that is past its end."""
    end = retirement_of(spec)
    if end is None or (today or datetime.date.today()) <= end.day:
        return []
    what = f"the model {getattr(spec, 'model', '')!r}" if end.models else f"the service {end.host}"
    return [
        Problem(
            f"{what} ended on {end}",
            where,
            f"use {end.instead}; answers that a run has stored stay usable",
        )
    ]


def end_note(
    name: str, spec: ScorerSpec | None, hours: float | None, today: datetime.date | None = None
) -> str:
    """Return what a plan says of a service that ends; empty where it says nothing.

    Args:
        name: The scorer.
        spec: Its settings.
        hours: How long the study asks it, at its rate; None where unknown.
        today: The day; today where left out.
    """
    end = retirement_of(spec)
    if end is None:
        return ""
    left = end.day - (today or datetime.date.today())
    if left.days < 0:
        return f"{name} ended on {end}: use {end.instead}"
    bridge = f"move to another scorer while it exists: unharm pilot STUDY --from {name} --to ANOTHER"
    if hours is not None and hours / 24 > left.days:
        return (
            f"{name} ends on {end}, in {left.days} days, and this study asks it for {hours / 24:,.0f} "
            f"days: it would not finish; {bridge}"
        )
    return f"{name} ends on {end}, in {left.days} days; {bridge}" if left <= SOON else ""

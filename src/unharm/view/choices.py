"""What each filter can be set to, and whether a filter names what the run has."""

from __future__ import annotations

from unharm.core.errors import Problem, nearest, raise_all
from unharm.runs.views import Views
from unharm.view.filters import Filter
from unharm.view.index import Index


def choices(views: Views, index: Index, chosen: Filter) -> dict[str, list[str]]:
    """Return what each filter can be set to; the categories are those of the chosen benchmark."""
    categories = views.rows(
        "select distinct category from prompts where category <> '' and ? in ('', benchmark) order by 1",
        [chosen.benchmark],
    )
    return {
        "benchmark": list(views.run.study.benchmarks.chosen()),
        "category": [str(name) for (name,) in categories],
        "arm": list(dict.fromkeys(s.arm for s in index.subjects)),
        "profile": list(dict.fromkeys(s.profile_name for s in index.subjects if s.profile)),
        "strategy": list(dict.fromkeys(s.strategy for s in index.subjects)),
        "seed": list(dict.fromkeys(str(s.seed) for s in index.subjects if s.seed is not None)),
    }


def check_names(chosen: Filter, views: Views, index: Index) -> None:
    """Raise `UserError` for names that the run does not have: an empty list would hide the mistake."""
    known = choices(views, index, Filter())
    given = {
        "benchmark": chosen.benchmark, "category": chosen.category, "profile": chosen.profile,
        "strategy": chosen.strategy,
    }  # fmt: skip
    problems = [
        Problem(f"this run has no {field} {name!r}", field, nearest(name, tuple(known[field][:40])))
        for field, name in [*given.items(), *(("arm", arm) for arm in chosen.arm)]
        if name and name not in known[field]
    ]
    raise_all(problems)

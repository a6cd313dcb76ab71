"""One prompt across subjects: their answers with the scores of all scorers, samples folded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from unharm.core.errors import UserError
from unharm.core.records import Subject
from unharm.runs.views import ShardFile, Views
from unharm.view.differences import marked
from unharm.view.filters import Filter
from unharm.view.index import Index
from unharm.view.numbers import score

CARDS = 24
"""Number of subjects on a page."""


@dataclass
class Answer:
    """A completion, or several of one subject with the same text.

    Attributes:
        text: The text.
        status: `completed` or `failed`.
        reason: Why it failed.
        samples: The numbers of the samples.
        scores: By scorer, the score of each sample as text.
        marks: What is said of it: incoherent, scorers disagree.
        parts: The text in parts, each with whether the reference lacks it.
    """

    text: str
    status: str
    reason: str
    samples: list[int]
    scores: dict[str, list[str]]
    marks: list[str]
    parts: list[tuple[str, bool]] = field(default_factory=list)


@dataclass
class Card:
    """The answers of a subject to a prompt; the first are those of the first sample."""

    run: int
    subject: Subject
    answers: list[Answer]
    mean: float | None
    change: float | None
    chosen: int

    @property
    def label(self) -> str:
        """The subject, as headings show it."""
        return self.subject.label


@dataclass(frozen=True)
class Shown:
    """A prompt with the answers of some subjects; `subjects` says how many there are in all."""

    benchmark: str
    prompt_id: str
    number: int
    category: str
    text: str
    cards: list[Card]
    subjects: int


def find_prompt(views: Views, benchmark: str, identity: str) -> tuple[str, int, str, str]:
    """Return benchmark, number, category and text of a prompt.

    Raises:
        UserError: No prompt has this id, or several benchmarks have one.
    """
    rows = views.rows(
        "select benchmark, number, category, text from prompts "
        "where prompt_id = ? and ? in ('', benchmark)",
        [identity, benchmark],
    )
    if len(rows) != 1:
        several = (
            "several benchmarks have a prompt of this id" if rows else "no prompt of this run has this id"
        )
        raise UserError(several, "prompt", "choose it from the list of prompts")
    name, number, category, text = rows[0]
    return str(name), int(number), str(category), str(text)


def show_prompt(views: Views, index: Index, chosen: Filter, reference: Subject | None = None) -> Shown:
    """Return one prompt with the answers of the chosen subjects, those of one page.

    Args:
        views: The views of the run.
        index: Its index.
        chosen: The prompt, the subjects and the page.
        reference: The subject whose answers the others are compared with.
    """
    benchmark, number, category, text = find_prompt(views, chosen.benchmark, chosen.prompt)
    by_subject: dict[int, list[tuple[Any, ...]]] = {}
    for subject, *marks in index.marks_of(benchmark, number):
        by_subject.setdefault(int(subject), []).append(tuple(marks))
    numbers = [n for n in by_subject if index.fits(chosen, index.subjects[n])]
    page = numbers[CARDS * (chosen.page - 1) : CARDS * chosen.page]
    shown = [index.subjects[n] for n in page]
    needed = list(dict.fromkeys(shown + ([reference] if reference in index.subjects else [])))
    answers = _answers(views, benchmark, chosen.prompt, needed)
    compared = {
        sample: answer.text
        for answer in answers.get(reference, [])
        for sample in answer.samples
        if answer.status == "completed"
    }
    cards = []
    for place, subject in zip(page, shown, strict=True):
        by_sample = {mark[0]: mark for mark in by_subject[place]}
        for answer in answers[subject]:
            other = None if subject == reference else compared.get(answer.samples[0])
            answer.parts = marked(answer.text, other)
            mine = [by_sample[s] for s in answer.samples if s in by_sample]
            answer.marks += ["incoherent"] if any(m[3] for m in mine) else []
            answer.marks += ["scorers disagree"] if any(m[4] for m in mine) else []
        values = [m[1] for m in by_sample.values() if m[1] is not None]
        changes = [m[2] for m in by_sample.values() if m[2] is not None]
        cards.append(
            Card(
                chosen.run,
                subject,
                answers[subject],
                sum(values) / len(values) if values else None,
                sum(changes) / len(changes) if changes else None,
                len(by_sample),
            )
        )
    return Shown(benchmark, chosen.prompt, number, category, text, cards, len(numbers))


def _answers(
    views: Views, benchmark: str, prompt: str, subjects: Sequence[Subject]
) -> dict[Subject | None, list[Answer]]:
    """Read the answers of some subjects to a prompt with all their scores."""
    wanted = set(subjects)
    files = [
        f for f in views.files if f.benchmark == benchmark and f.subject in wanted and prompt in f.prompts
    ]
    owner = {str(f.path): f for f in files}
    scores: dict[tuple[Subject, int], dict[str, str]] = {}
    for path, sample, value, status, label in _rows(
        views, [f for f in files if f.scorer], "sample, value, status, label", prompt
    ):
        file = owner[path]
        written = score(value) if value is not None else str(status)
        name = f"{written} ({label})" if label and value is not None else written
        scores.setdefault((file.subject, sample), {})[file.scorer] = name
    scorers = list(views.run.study.benchmarks.chosen()[benchmark].scorers)
    answers: dict[Subject | None, dict[tuple[str, str, str], Answer]] = {s: {} for s in subjects}
    for path, sample, text, status, reason in _rows(
        views, [f for f in files if not f.scorer], "sample, text, status, reason", prompt
    ):
        subject = owner[path].subject
        answer = answers[subject].setdefault(
            (text, status, reason), Answer(text, status, reason, [], {s: [] for s in scorers}, [])
        )
        answer.samples.append(int(sample))
        for scorer in scorers:
            answer.scores[scorer].append(scores.get((subject, sample), {}).get(scorer, "–"))
    return {subject: list(texts.values()) for subject, texts in answers.items()}


def _rows(views: Views, files: Sequence[ShardFile], columns: str, prompt: str) -> list[tuple[Any, ...]]:
    """Read the rows of a prompt from some files, each with its file first."""
    if not files:
        return []
    listed = ", ".join("'" + str(f.path).replace("'", "''") + "'" for f in files)
    return views.rows(
        f"select file, {columns} from read_parquet([{listed}], filename = 'file') "
        "where prompt_id = ? order by file, sample",
        [prompt],
    )


def other_cards(views: Views, index: Index, chosen: Filter, shown: Shown) -> list[Card]:
    """Return the answers of another run to a prompt, of the subjects that are shown.

    Args:
        views: The views of the other run.
        index: Its index.
        chosen: What is shown, with the number of the other run.
        shown: The prompt with the answers of this run.

    Returns:
        No cards where the other run has no prompt of this id and text.
    """
    try:
        _, _, _, text = find_prompt(views, shown.benchmark, shown.prompt_id)
    except UserError:
        return []
    if text != shown.text:
        return []
    labels = {card.label for card in shown.cards}
    return [card for card in show_prompt(views, index, chosen).cards if card.label in labels]

"""A guard on this machine: all texts of a call go through one engine, and every reply is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from unharm.core import interrupt
from unharm.core.errors import UserError
from unharm.core.models.base_files import folder_key
from unharm.core.models.transformers import quiet_libraries
from unharm.core.records import Reply, Score
from unharm.scoring.answer_store import Answer, Answers, key_of
from unharm.scoring.guards.preset import Preset
from unharm.scoring.guards.prompts import check_instruction, check_template, criteria_of, prompt_of
from unharm.scoring.guards.scores import Said, packed, said_of, score_of
from unharm.scoring.settings import GuardSpec
from unharm.scoring.texts import Text

STORE = 256
"""Texts whose replies are written to the disk together."""


class ReplyEngine(Protocol):
    """What runs a guard: see `engines/replies.py`."""

    @property
    def tokenizer(self) -> Any: ...

    def replies(
        self, prompts: Sequence[str], groups: Sequence[str], max_tokens: int
    ) -> Iterator[tuple[int, Reply]]: ...


LoadEngine = Callable[[str, str | None, str, str], ReplyEngine]
"""From model, revision, device and the field of the spec to a loaded engine."""


class LocalGuard:
    """Scores texts with a guard. Replies are looked up first: two scores of one guard need one pass.

    Args:
        spec: The settings.
        version: What replies depend on besides the text.
        answers: Where replies are stored.
        load: Loads the engine at the first text that has no reply yet.
    """

    def __init__(self, spec: GuardSpec, version: str, answers: Answers, load: Callable[[], ReplyEngine]):
        self.spec, self.version, self.answers = spec, version, answers
        self.preset = spec.rules
        self._load = load
        self._engine: ReplyEngine | None = None

    def __call__(self, texts: Sequence[Text]) -> list[Score]:
        keys = [key_of(self.version, t.prompt, t.answer) for t in texts]
        stored = {key: answers[0] for key, answers in self.answers.look_up([*dict.fromkeys(keys)]).items()}
        missing = {k: t for k, t in zip(keys, texts, strict=True) if k not in stored}
        items = list(missing.items())
        for start in range(0, len(items), STORE * 16):
            if interrupt.stop_requested():
                raise interrupt.Stopped
            stored |= self._ask(items[start : start + STORE * 16])
        scores = {
            key: score_of(self.spec, self.preset, text, stored[key].raw)
            for key, text in zip(keys, texts, strict=True)
        }
        return [replace(scores[k], completion_id=t.id) for k, t in zip(keys, texts, strict=True)]

    def _ask(self, items: list[tuple[bytes, Text]]) -> dict[bytes, Answer]:
        """Run the guard over texts without a reply. Every finished text is stored soon."""
        if self._engine is None:
            self._engine = self._load()
        criteria = criteria_of(self.spec, self.preset)
        prompts, groups, owners = [], [], []
        for number, (_, text) in enumerate(items):
            for criterion in criteria:
                prompts.append(prompt_of(self.preset, self._engine.tokenizer, text, criterion))
                groups.append(f"{criterion.name if criterion else ''}\0{text.prompt}")
                owners.append((number, criterion.name if criterion else ""))
        said: dict[int, dict[str, Said]] = {}
        done: dict[bytes, Answer] = {}
        waiting: list[tuple[bytes, int, str, Answer]] = []
        limit = self.spec.max_tokens or self.preset.max_tokens
        for place, reply in self._engine.replies(prompts, groups, limit):
            number, name = owners[place]
            mine = said.setdefault(number, {})
            mine[name] = said_of(self.preset, name, reply)
            if len(mine) == len(criteria):
                key = items[number][0]
                done[key] = Answer(packed([mine[c.name if c else ""] for c in criteria]))
                waiting.append((key, 1, self.version, done[key]))
            if len(waiting) >= STORE:
                self.answers.put_all(waiting)
                waiting = []
        self.answers.put_all(waiting)
        return done


def guard_model_key(spec: GuardSpec) -> str:
    """Return what the weights of a guard are known by: a hash of its files, or its name and commit."""
    path = Path(spec.model_name).expanduser()
    if spec.server is None and path.is_dir():
        return folder_key(path)
    return f"{spec.model_name}@{spec.revision}"


def check_guard_model(spec: GuardSpec, where: str) -> None:
    """Check, from configuration and tokenizer alone, that a model is one that the preset was written for.

    Raises:
        UserError: The model cannot be read, has another architecture, or a template that does not fit.
    """
    from transformers import AutoConfig, AutoTokenizer

    preset: Preset = spec.rules
    check_instruction(preset, where)
    quiet_libraries()
    try:
        config = AutoConfig.from_pretrained(
            spec.model_name, revision=spec.revision, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(spec.model_name, revision=spec.revision)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"the guard {spec.model_name!r} cannot be read ({type(error).__name__})",
            f"{where}.model",
            "give a folder with config.json and safetensors, or a hub id that you can reach",
        ) from None
    architecture = (getattr(config, "architectures", None) or ["?"])[0]
    if architecture not in preset.architectures:
        raise UserError(
            f"{spec.model_name!r} is a {architecture}; the preset {preset.name} is for "
            f"{', '.join(preset.architectures)}",
            f"{where}.preset",
            f"it was written for {', '.join(preset.models)}",
        )
    check_template(spec, tokenizer, where)

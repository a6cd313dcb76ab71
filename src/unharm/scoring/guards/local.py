"""A guard on this machine: all texts of a call go through one engine, and every reply is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from unharm.core.errors import UserError
from unharm.core.records import Score
from unharm.scoring.answer_store import Answers
from unharm.scoring.guards.preset import Preset
from unharm.scoring.guards.prompts import check_instruction, check_template, criteria_of, prompt_of
from unharm.scoring.guards.scores import Said, packed, said_of, score_of
from unharm.scoring.model_files import model_key, read_config, read_tokenizer
from unharm.scoring.settings import GuardSpec
from unharm.scoring.stored_replies import Items, ReplyEngine, stored_replies
from unharm.scoring.texts import Text


@dataclass
class LocalGuard:
    """Scores texts with a guard. Replies are looked up first: two scores of one guard need one pass.

    Attributes:
        spec: The settings.
        version: What replies depend on besides the text.
        answers: Where replies are stored.
        load: Returns the engine, loaded once; called where a text has no reply yet.
    """

    spec: GuardSpec
    version: str
    answers: Answers
    load: Callable[[], ReplyEngine]

    @property
    def preset(self) -> Preset:
        return self.spec.rules

    def __call__(self, texts: Sequence[Text]) -> list[Score]:
        stored = stored_replies(texts, self.version, self.answers, self._ask)
        return [score_of(self.spec, self.preset, t, raw) for t, raw in zip(texts, stored, strict=True)]

    def _ask(self, items: Items) -> Iterator[tuple[bytes, str]]:
        """Run the guard over texts without a reply. Yields each with its replies to all questions."""
        engine = self.load()
        criteria = criteria_of(self.spec, self.preset)
        prompts, groups, owners = [], [], []
        for number, (_, text) in enumerate(items):
            for criterion in criteria:
                prompts.append(prompt_of(self.preset, engine.tokenizer, text, criterion))
                groups.append(f"{criterion.name if criterion else ''}\0{text.prompt}")
                owners.append((number, criterion.name if criterion else ""))
        said: dict[int, dict[str, Said]] = {}
        limit = self.spec.max_tokens or self.preset.max_tokens
        for place, reply in engine.replies(prompts, groups, limit):
            number, name = owners[place]
            mine = said.setdefault(number, {})
            mine[name] = said_of(self.preset, name, reply)
            if len(mine) == len(criteria):
                yield items[number][0], packed([mine[c.name if c else ""] for c in criteria])


def guard_model_key(spec: GuardSpec) -> str:
    """Return what the weights of a guard are known by: a hash of its files, or its name and commit."""
    if spec.server is None:
        return model_key(spec.model_name, spec.revision)
    return f"{spec.model_name}@{spec.revision}"


def check_guard_model(spec: GuardSpec, where: str) -> None:
    """Check, from configuration and tokenizer alone, that a model is one that the preset was written for.

    Raises:
        UserError: The model cannot be read, has another architecture, or a template that does not fit.
    """
    preset: Preset = spec.rules
    check_instruction(preset, where)
    config, tokenizer = (
        read(spec.model_name, spec.revision, "guard", where) for read in (read_config, read_tokenizer)
    )
    architecture = (getattr(config, "architectures", None) or ["?"])[0]
    if architecture not in preset.architectures:
        raise UserError(
            f"{spec.model_name!r} is a {architecture}; the preset {preset.name} is for "
            f"{', '.join(preset.architectures)}",
            f"{where}.preset",
            f"it was written for {', '.join(preset.models)}",
        )
    check_template(spec, tokenizer, where)

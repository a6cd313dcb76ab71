"""The prompts of a guard: its questions about a text, written by the model's own chat template."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Protocol

from unharm.core.errors import UserError
from unharm.scoring.guards.preset import Criterion, Message, Preset
from unharm.scoring.settings import GuardSpec
from unharm.scoring.texts import Text

TRIAL = Text("", "How long should I boil an egg?", "Eight minutes for a firm yolk.", "")
"""A harmless text to try a guard with."""


class Tokenizer(Protocol):
    """The part of a tokenizer of transformers that writes prompts."""

    def apply_chat_template(self, conversation: Any, **arguments: Any) -> Any: ...


def criteria_of(spec: GuardSpec, preset: Preset) -> tuple[Criterion | None, ...]:
    """Return the questions that a guard is asked about every text; one None where it asks only its own."""
    if spec.criteria:
        return tuple(Criterion(name, text) for name, text in spec.criteria.items())
    return preset.criteria or (None,)


def prompt_of(
    preset: Preset, tokenizer: Tokenizer, text: Text, criterion: Criterion | None, where: str = "scorers"
) -> str:
    """Return the whole prompt for a text, with all special tokens.

    Raises:
        UserError: There is no chat template, or it does not take the messages of the preset.
    """
    messages = messages_of(preset, text, criterion)
    if preset.instruction and len(messages) == 1:  # a model without a chat template: this is the prompt
        return str(messages[0]["content"])
    if not getattr(tokenizer, "chat_template", None):
        todo = "a guard is asked through its own template; use the tokenizer that came with it"
        raise UserError("the tokenizer of the guard has no chat template", where, todo)
    try:
        return str(
            tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, **preset.template_arguments(criterion)
            )
        )
    except Exception as error:  # whatever a template raises
        raise UserError(
            f"the chat template does not take the messages of {preset.name} ({type(error).__name__})",
            where,
            f"the preset is for {', '.join(preset.models)}",
        ) from None


def check_template(spec: GuardSpec, tokenizer: Tokenizer, where: str) -> None:
    """Check that the prompts of a guard hold what they are about.

    Raises:
        UserError: The chat template does not take the messages of the preset, or leaves out the answer.
    """
    preset = spec.rules
    for criterion in criteria_of(spec, preset):
        prompt = prompt_of(preset, tokenizer, TRIAL, criterion, where)
        if TRIAL.prompt not in prompt or TRIAL.answer not in prompt:
            raise UserError(
                f"the chat template leaves out the question or the answer that {preset.name} is to judge",
                where,
                f"the preset is for {', '.join(preset.models)}",
            )


def messages_of(preset: Preset, text: Text, criterion: Criterion | None) -> list[Message]:
    """Return the messages about a text; where the preset says so, with the instruction of any-guardrail."""
    if not preset.instruction:
        return preset.messages(text.prompt, text.answer, criterion)
    segments = _segments(preset)
    if "prompt" in segments:
        prompt = segments["prompt"].format(prompt=text.prompt, response=text.answer)
        return [{"role": "user", "content": prompt}]
    user = segments["user"].format(prompt=text.prompt, response=text.answer)
    return [{"role": "system", "content": segments["system"]}, {"role": "user", "content": user}]


def _segments(preset: Preset) -> dict[str, str]:
    check_instruction(preset)
    from any_guardrail.base import GuardrailName
    from any_guardrail.prompt_registry import PROMPT_REGISTRY

    segments = PROMPT_REGISTRY[GuardrailName(preset.instruction)].resolve().segments
    return {name: str(text) for name, text in segments.items()}


def check_instruction(preset: Preset, where: str = "scorers") -> None:
    """Raise `UserError` where the package with the guard's instruction is not installed."""
    if preset.instruction and find_spec("any_guardrail") is None:
        raise UserError(
            f"the guard {preset.name} is asked by an instruction that the package any-guardrail has",
            where,
            "pip install 'unharm[guards]'",
        )

"""Tiny guards: random weights, and an output layer that follows a chain of words.

A chain says which token may follow which. With equally strong successors, the random layers decide between
them, so that the verdict depends on the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from unharm.scoring.guards import PRESETS
from unharm.scoring.guards.prompts import prompt_of
from unharm.scoring.settings import GuardSpec
from unharm.scoring.texts import Text

Chain = dict[str, list[str]]
"""From a token to those that may follow it. The empty token is the end of the prompt; a token without an entry
ends the reply."""

TEMPLATE = (
    "{% macro words(c) %}{% if c is string %}{{ c }}{% else %}{{ c[0].text }}{% endif %}{% endmacro %}"
    "Somebody asked and somebody answered. {{ guideline or '' }}{{ (guardian_config or {}).custom_criteria or '' }}"
    "{% for m in messages %}<{{ m.role }}> {{ words(m.content) }}\n{% endfor %}"
    "{% if add_generation_prompt %}<verdict>{% endif %}"
)
"""A chat template of our own. It takes contents that are texts or lists of one text part."""

SCORE: Chain = {"<score>": [" yes", " no"], " yes": [" </score>"], " no": [" </score>"]}
LLAMA: Chain = {"": ["\n\n"], "\n\n": ["safe", "unsafe"], "unsafe": ["\nS1"]}
WILD: Chain = {
    "": ["Harmful request: yes"],
    "Harmful request: yes": ["\nResponse refusal: yes", "\nResponse refusal: no"],
    "\nResponse refusal: yes": ["\nHarmful response:"],
    "\nResponse refusal: no": ["\nHarmful response:"],
    "\nHarmful response:": [" yes", " no"],
}
CHAINS: dict[str, Chain] = {
    "qwen3guard": {
        "": ["Safety:"],
        "Safety:": [" Safe", " Unsafe", " Controversial"],
        " Safe": ["\nCategories: None"],
        " Unsafe": ["\nCategories: Violent"],
        " Controversial": ["\nCategories: Unethical Acts"],
        "\nCategories: None": ["\nRefusal:"],
        "\nCategories: Violent": ["\nRefusal:"],
        "\nCategories: Unethical Acts": ["\nRefusal:"],
        "\nRefusal:": [" Yes", " No"],
    },
    "llama-guard-3": LLAMA,
    "llama-guard-4": LLAMA,
    "granite-guardian-3": {"": ["<score>"]} | SCORE,
    "granite-guardian-4": {"": ["<score>"]} | SCORE,
    "granite-guardian-4-thinking": {
        "": ["<think>"], "<think>": ["It helps a bit."], "It helps a bit.": ["</think>"], "</think>": ["<score>"],
    } | SCORE,
    "gpt-oss-safeguard": {
        "": ["<|channel|>analysis<|message|>"],
        "<|channel|>analysis<|message|>": ["Is it harmful?"],
        "Is it harmful?": ["<|end|><|start|>assistant<|channel|>final<|message|>"],
        "<|end|><|start|>assistant<|channel|>final<|message|>": ['{"violation":'],
        '{"violation":': [" 0", " 1"],
        " 0": [', "categories": []'],
        " 1": [', "categories": ["hate"]'],
        ', "categories": []': [', "refusal": '],
        ', "categories": ["hate"]': [', "refusal": '],
        ', "refusal": ': ["0}", "1}"],
    },
    "shieldgemma": {"": ["Yes", "No"]},
    "wildguard": WILD,
    "polyguard": WILD | {
        " yes": ["\nResponse Safety Violations: S1"], " no": ["\nResponse Safety Violations: None"],
    },
}  # fmt: skip
"""How each family writes its reply."""

END = "<end of reply>"
SIZES: dict[str, Any] = {
    "hidden_size": 96, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 48, "max_position_embeddings": 8192, "tie_word_embeddings": False,
    "initializer_range": 0.2,
}  # fmt: skip
SPECIAL: dict[str, dict[str, Any]] = {
    "GptOssForCausalLM": {"num_local_experts": 4, "num_experts_per_tok": 2, "layer_types": ["full_attention"] * 2},
    "GraniteMoeHybridForCausalLM": {
        "num_local_experts": 2, "num_experts_per_tok": 1, "shared_intermediate_size": 64, "layer_types": ["attention"] * 2,
        "mamba_n_heads": 4, "mamba_d_head": 48, "mamba_n_groups": 1,
    },
    "Gemma2ForCausalLM": {"query_pre_attn_scalar": 48, "layer_types": ["sliding_attention", "full_attention"]},
    "MistralForCausalLM": {"sliding_window": None},
}  # fmt: skip

STRENGTH = {"Gemma2ForCausalLM": 5.0}
"""How large the embeddings of a chain are: Gemma makes them larger, and its layers' outputs small."""


def config_of(architecture: str, vocabulary: int, end: int) -> Any:
    """Return a configuration of a tiny model of an architecture."""
    import transformers

    ends = {"vocab_size": vocabulary, "eos_token_id": end, "bos_token_id": end, "pad_token_id": end}
    if architecture == "Llama4ForConditionalGeneration":
        text = SIZES | {
            "intermediate_size_mlp": 64, "num_local_experts": 2, "moe_layers": [], "attention_chunk_size": 256,
        }  # fmt: skip
        vision = {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
            "vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32, "image_size": 28,
            "patch_size": 14,
        }  # fmt: skip
        return transformers.Llama4Config(
            text_config=text | ends, vision_config=vision, tie_word_embeddings=False,
            boi_token_index=1, eoi_token_index=2, image_token_index=3,
        )  # fmt: skip
    name = architecture.removesuffix("ForCausalLM") + "Config"
    return getattr(transformers, name)(**SIZES | SPECIAL.get(architecture, {}) | ends)


def make_guard(preset: str, base: Path, folder: Path, architecture: str = "", chain: bool = True) -> Path:
    """Write a tiny guard to `folder`.

    Args:
        preset: The name of the preset that it is for.
        base: A folder with a tokenizer to start from.
        folder: Where the guard goes.
        architecture: Of the model; the preset's first one where empty.
        chain: Whether its replies have the form of the preset. Without, they are random.
    """
    import transformers

    rules = PRESETS[preset]
    name = architecture or rules.architectures[0]
    tokenizer = AutoTokenizer.from_pretrained(base)
    words = dict.fromkeys(w for k, ws in CHAINS[preset].items() for w in (k, *ws) if w)
    tokenizer.add_tokens([transformers.AddedToken(w, normalized=False) for w in words])
    tokenizer.add_special_tokens({"eos_token": END, "pad_token": END})
    if preset != "wildguard":  # the model has no chat template
        tokenizer.chat_template = TEMPLATE
    torch.manual_seed(11)
    config = config_of(name, len(tokenizer), tokenizer.eos_token_id)
    model = getattr(transformers, name)(config).eval()
    if chain:
        _follow(model, _ids(tokenizer, rules, CHAINS[preset]))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _ids(tokenizer: Any, rules: Any, chain: Chain) -> dict[int, list[int]]:
    """Return a chain in token ids."""
    spec = GuardSpec.model_validate({"kind": "guard", "preset": rules.name})
    criterion = rules.criteria[0] if rules.criteria else None
    prompt = prompt_of(spec.rules, tokenizer, Text("", "Why?", "So.", ""), criterion)
    last = tokenizer(prompt, add_special_tokens=False)["input_ids"][-1]
    number = tokenizer.convert_tokens_to_ids
    follow = {last if not k else number(k): [number(w) for w in words] for k, words in chain.items()}
    for word in dict.fromkeys(w for words in chain.values() for w in words):
        follow.setdefault(number(word), [tokenizer.eos_token_id])
    return follow


@torch.no_grad()
def _follow(model: Any, follow: Mapping[int, Sequence[int]]) -> None:
    """Let the output layer answer each token of a chain with its successors.

    Every token of the chain has a dimension of its own. The random layers add to it what they think of the
    text, which decides between the successors.
    """
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    torch.nn.init.normal_(head, std=0.3)
    head[:, : len(follow)] = 0.0
    embeddings[:, : len(follow)] = 0.0
    for dimension, (token, successors) in enumerate(follow.items()):
        embeddings[token] = 0.0
        embeddings[token, dimension] = STRENGTH.get(type(model).__name__, 80.0)
        for successor in successors:
            head[successor, dimension] = 4.0


HARMFUL, REFUSES = "[harmful]", "[refuses]"
"""Marks in an answer that decide what a spoken guard says of it."""
WORDS = {
    (HARMFUL, True): (" Unsafe", "unsafe", " yes", " 1", "Yes"),
    (HARMFUL, False): (" Safe", "safe", " no", " 0", "No"),
    (REFUSES, True): (" Yes", "1}", "\nResponse refusal: yes"),
    (REFUSES, False): (" No", "0}", "\nResponse refusal: no"),
}


def spoken(preset: str, text: str) -> list[tuple[str, dict[str, float]]]:
    """Return the reply of a guard to a text with marks: tokens, each with the likeliest tokens at its place.

    What the marks say has the probability 0.8.
    """
    chosen = {word for mark in (HARMFUL, REFUSES) for word in WORDS[mark, mark in text]}
    chain, token, tokens = CHAINS[preset], "", []
    while options := chain.get(token):
        token = options[0] if len(options) == 1 else next(o for o in options if o in chosen)
        others = [o for o in options if o != token]
        tokens.append((token, {token: 0.8 if others else 1.0} | {o: 0.2 / len(others) for o in others}))
    return tokens

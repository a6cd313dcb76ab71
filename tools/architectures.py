"""Which architectures unharm runs: tiny random models of transformers, in float32 and bfloat16.

    python tools/architectures.py [NAME …]          prints a table
    python tools/architectures.py --write           writes docs/architectures.md

Each model goes through what a study does: the check of its structure, the check of packed training, and
greedy texts of the hf engine for the plain base and for an adapter with random weights, compared with
`generate` of transformers and of PEFT. `works` means that all texts are equal. In bfloat16 texts of random
models part at near ties, so there `works` means that the engine's own check passes (logits along a greedy
text) and that at most `TIES` texts differ at their first token.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from unharm.core.errors import UserError
from unharm.core.models.peft_folder import Lora, write_adapter
from unharm.core.models.structure import check_structure
from unharm.core.models.transformers import quiet_libraries
from unharm.core.records import Example
from unharm.engines.hf import HfEngine
from unharm.engines.requests import Request, Sampling, generate
from unharm.prompting.compose import PLAIN
from unharm.training.attention import check_packing
from unharm.training.stacked_lora import Stack
from unharm.training.tokens import Tokenizer as ExampleTokenizer

SHAPE: dict[str, Any] = {
    "vocab_size": 120, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
    "initializer_range": 0.15, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
EXPERTS: dict[str, Any] = {
    "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
}  # fmt: skip
LATENT: dict[str, Any] = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 12,
    "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
    "moe_intermediate_size": 32, "num_experts_per_tok": 2, "num_key_value_heads": 4,
}  # fmt: skip
WIDTH, WINDOW = {"head_dim": 16}, {"sliding_window": 7}
GPT = {"n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 256}
SHARED = {
    "num_hidden_layers": 4, "num_kv_shared_layers": 2, "vocab_size_per_layer_input": 120,
    "hidden_size_per_layer_input": 16, "layer_types": ["sliding_attention", "full_attention"] * 2,
}  # fmt: skip
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {}, "mistral": WINDOW, "ministral3": {}, "qwen2": {}, "qwen3": WIDTH,
    "qwen2_moe": {"shared_expert_intermediate_size": 32, **EXPERTS}, "qwen3_moe": {**WIDTH, **EXPERTS},
    "mixtral": EXPERTS, "olmo": {}, "olmo2": {}, "olmo3": WINDOW, "olmoe": EXPERTS, "gemma": WIDTH,
    "gemma2": {**WIDTH, **WINDOW, "query_pre_attn_scalar": 16},
    "gemma3_text": {**WIDTH, **WINDOW, "query_pre_attn_scalar": 16},
    "gemma3n_text": {
        **WIDTH, **WINDOW, **SHARED, "altup_num_inputs": 2, "laurel_rank": 8,
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "gemma4_text": {**WIDTH, **WINDOW, **SHARED, "global_head_dim": 32, "num_kv_shared_layers": 0},
    "gemma4_text, shared keys and values": {**WIDTH, **WINDOW, **SHARED, "global_head_dim": 32},
    "phi": {}, "phi3": {}, "phimoe": EXPERTS, "granite": {}, "granitemoe": EXPERTS, "cohere": {},
    "cohere2": WINDOW, "smollm3": {}, "glm": WIDTH, "glm4": WIDTH, "gpt_neox": {}, "gpt2": GPT,
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64}, "starcoder2": {}, "helium": WIDTH, "ernie4_5": {},
    "seed_oss": WIDTH, "hunyuan_v1_dense": WIDTH, "apertus": {}, "arcee": {}, "nanochat": {},
    "exaone4": {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    "deepseek_v2": LATENT, "deepseek_v3": LATENT, "gpt_oss": {**WIDTH, **WINDOW, **EXPERTS},
    "llama4_text": {
        **WIDTH, **EXPERTS, "intermediate_size_mlp": 96, "num_hidden_layers": 4, "attention_chunk_size": 16,
    },
    "stablelm": {}, "nemotron": {}, "falcon": {}, "bloom": {"n_layer": 2, "n_head": 4},
    "mpt": {"d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 256},
    "gptj": {**GPT, "rotary_dim": 8},
    "lfm2": {
        "layer_types": ["conv", "full_attention"], "conv_L_cache": 3, "block_auto_adjust_ff_dim": False,
    },
    "granitemoehybrid": {
        "layer_types": ["attention", "mamba"], "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8,
        "mamba_n_groups": 1, "shared_intermediate_size": 48, **EXPERTS,
    },
    "falcon_h1": {
        "mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1,
        **WIDTH,
    },
    "qwen3_next": {
        **WIDTH, **EXPERTS, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_key_head_dim": 16, "linear_value_head_dim": 16, "shared_expert_intermediate_size": 32,
        "layer_types": ["linear_attention", "full_attention"],
    },
    "recurrent_gemma": {**WIDTH, "lru_width": 64, "attention_window_size": 7, "num_hidden_layers": 3},
    "jamba": {
        "mamba_d_state": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
        "expert_layer_offset": 1, "use_mamba_kernels": False, **EXPERTS,
    },
    "mamba": {"state_size": 4}, "mamba2": {"num_heads": 8, "head_dim": 16, "state_size": 8, "n_groups": 1},
    "rwkv": {"attention_hidden_size": 64, "context_length": 256},
}  # fmt: skip
"""The changes to `SHAPE` that make a small model of each architecture."""

NEW_TOKENS = 12
TIES = 2
"""Texts in bfloat16 that may differ at their first token."""
TEXTS = [
    "the baker opens the shop",
    "on sundays",
    "a letter came for the old man in the house by the river, and",
]
EXAMPLES = [
    Example(f"e{n}", prompt, answer, "train", f"s{n}")
    for n, (prompt, answer) in enumerate(
        [("rate this: bread", " 4"), ("rate this: the sea and the sky", " 16"), ("rate", " 3")]
    )
]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Verdict:
    """What came of one architecture in one type: `works`, `refused` with the message, or `WRONG`."""

    word: str
    detail: str = ""


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per character."""
    characters = [chr(n) for n in range(32, 127)]
    vocabulary = {token: n for n, token in enumerate(["<end>", "<none>", *characters])}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="<none>"))
    plain.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    plain.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>", pad_token="<end>")


def build(name: str, dtype: torch.dtype) -> Any:
    """Return a small model with random weights."""
    torch.manual_seed(3)
    config = AutoConfig.for_model(name.partition(",")[0], **{**SHAPE, **ARCHITECTURES[name]})
    model = AutoModelForCausalLM.from_config(config).to(dtype).eval().requires_grad_(False)
    model.generation_config.eos_token_id = 0
    return model


def examine(name: str, dtype_name: str) -> Verdict:
    """Put one architecture through what a study does with it."""
    words = tokenizer()
    model = build(name, DTYPES[dtype_name])
    try:
        check_structure(model, name)
        tokens, _ = ExampleTokenizer(words, "base", PLAIN, 128)(EXAMPLES)
        check_packing(model, tokens)
        stack = Stack(model, Lora(), 1)
    except UserError as error:
        return Verdict("refused", str(error).splitlines()[0])
    with tempfile.TemporaryDirectory() as folder:
        stack.weights.copy_(
            torch.randn(stack.weights.shape, generator=torch.Generator().manual_seed(1)) * 0.1
        )
        write_adapter(Path(folder), stack.peft_tensors(stack.weights[0]), Lora(), name, "")
        expected = texts_of(model, words)
        adapted = PeftModel.from_pretrained(build(name, DTYPES[dtype_name]), folder).eval()
        expected_adapted = texts_of(adapted, words)
        try:
            engine = HfEngine(model, words, "base")
            ours, ours_adapted = engine_texts(engine, None), engine_texts(engine, Path(folder))
        except UserError as error:
            return Verdict("refused", str(error).splitlines()[0])
    return compare([*expected, *expected_adapted], [*ours, *ours_adapted], dtype_name == "float32")


def texts_of(model: Any, words: PreTrainedTokenizerFast) -> list[str]:
    """Return the greedy texts of transformers, with its cache."""
    texts = []
    for text in TEXTS:
        inputs = words(text, return_tensors="pt", return_token_type_ids=False)
        out = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        texts.append(words.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return texts


def engine_texts(engine: HfEngine, adapter: Path | None) -> list[str]:
    """Return the greedy texts of the hf engine, all in one batch."""
    requests = [Request(str(n), str(n), 0, text, n) for n, text in enumerate(TEXTS)]
    return [c.text for c in generate(engine, requests, Sampling(NEW_TOKENS, 0.0, 1.0), adapter)]


def compare(expected: list[str], ours: list[str], exact: bool) -> Verdict:
    """Compare texts, whole or at their first character."""
    if not exact:
        expected, ours = [text[:1] for text in expected], [text[:1] for text in ours]
    different = sum(a != b for a, b in zip(expected, ours, strict=True))
    if different > (0 if exact else TIES):
        return Verdict("WRONG", f"{different} of {len(ours)} texts differ")
    return Verdict("works")


def table(names: list[str]) -> str:
    """Return the table in Markdown."""
    rows = ["| architecture | float32 | bfloat16 | |", "|---|---|---|---|"]
    for name in names:
        verdicts = [examine(name, dtype) for dtype in DTYPES]
        details = dict.fromkeys(v.detail.partition(": ")[2] or v.detail for v in verdicts if v.detail)
        rows.append(f"| {name} | {verdicts[0].word} | {verdicts[1].word} | {'; '.join(details)} |")
        print(rows[-1], file=sys.stderr)
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    quiet_libraries()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    text = table(arguments.names or list(ARCHITECTURES))
    if arguments.write:
        page = Path(__file__).parents[1] / "docs" / "architectures.md"
        page.write_text(PAGE.format(version=transformers.__version__, table=text), encoding="utf-8")
    else:
        print(text)


PAGE = """# Architectures

Made by `tools/architectures.py --write` with transformers {version}: tiny random models, put through what a
study does with a base.

- `works`: packed training passes its check, and greedy texts of the base and of an adapter equal those of
  `generate` in transformers and PEFT. In bfloat16 random models part at near ties; there the logits along a
  greedy text are the model's own up to its own rounding, and at least four of six first tokens are equal.
- `refused`: before any training or generation, with the message on the right.

Larger members of a family have the same layers. Bases that are refused can be measured on a server
as they are (`arms: ["served:<name>"]`).

{table}
"""

if __name__ == "__main__":
    main()

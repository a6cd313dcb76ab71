"""Short greedy replies of a language model, with how likely its next tokens were at every place.

Guards are asked this way: many prompts that begin alike, a reply of a few tokens each, and the distribution
behind the word of the verdict. What prompts share is computed once, on two levels:

    instructions of the guard │ question 1 │ answer 1 │ reply        read once for all prompts
                              │            │ answer 2 │ reply        read once for each group
                              │ question 2 │ answer 3 │ reply

An architecture whose attention is not known to the key-value cache is run by its own `generate`, in padded
batches and without sharing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from unharm.core.errors import UserError
from unharm.core.models.transformers import end_tokens, quiet_libraries
from unharm.core.records import Reply, ReplyToken
from unharm.engines.attention_check import check_attention, reference_logits
from unharm.engines.cached_attention import using_cache
from unharm.engines.kv_cache import BLOCK, TILE, ForwardPass, KeyValueCache, Prefix, prompt_pass, round_up
from unharm.engines.prompt_groups import common_length
from unharm.engines.requests import PROBE

ROWS = {"cpu": 64, "cuda": 256}
"""Prompts that are read together."""
WORTH_SHARING = 16
"""A shared beginning of fewer tokens is read again with each prompt."""
SHORT = 128
"""Room that is made at once for a reply; longer ones, with reasoning, make more when they come to it."""
ALTERNATIVES = 20
"""The number of likeliest tokens that are given for every place of a reply."""


@dataclass
class Row:
    """One prompt on its way: its number, its own tokens, its group's prefix, and its reply so far."""

    number: int
    ids: list[int]
    offset: int
    prefix: Prefix | None
    tokens: list[int]
    alternatives: list[dict[int, float]]


class ReplyEngine:
    """Replies greedily with one model, loaded once.

    Attributes:
        forward_tokens: Tokens that went through the model so far, padding included.
        cached: Whether the key-value cache of the project is used, or the model's own `generate`.
        chunk: Tokens that the cache can hold of one row: models of chunked attention (Llama 4) see no
            further back than the chunk, which the cache does not know. Longer rows go by `generate`.
    """

    def __init__(self, model: Any, tokenizer: Any, batch: int | None = None):
        self.model, self.tokenizer = model, tokenizer
        self.device: torch.device = model.device
        self.batch = batch or ROWS.get(self.device.type, 64)
        self.ends = end_tokens(model, tokenizer)
        config = model.config.get_text_config()
        self.context = int(getattr(config, "max_position_embeddings", 1 << 30))
        self.chunk = int(getattr(config, "attention_chunk_size", None) or self.context)
        self.windowed = getattr(config, "sliding_window", None) is not None
        self.forward_tokens = 0
        self._wanted: torch.Tensor | None = None
        self.cached = self._cache_fits()

    def replies(
        self, prompts: Sequence[str], groups: Sequence[str], max_tokens: int
    ) -> Iterator[tuple[int, Reply]]:
        """Reply to every prompt.

        Args:
            prompts: Prompts with all their special tokens, as the chat template writes them.
            groups: A name for each prompt; prompts of one name have a long beginning in common.
            max_tokens: The length of a reply at most.

        Yields:
            The number of a prompt and its reply, in any order. A prompt that leaves no room for the reply
            has the reason in `failure`.
        """
        ids = [list(i) for i in self.tokenizer(list(prompts), add_special_tokens=False)["input_ids"]]
        fitting = []
        for number, row in enumerate(ids):
            if not row or len(row) + max_tokens > self.context:
                yield number, Reply((), failure="prompt too long" if row else "empty prompt")
            else:
                fitting.append(number)
        plain = [n for n in fitting if not self.cached or len(ids[n]) + max_tokens > self.chunk]
        yield from self._by_generate(ids, plain, max_tokens)
        fitting = sorted(set(fitting) - set(plain))
        if not fitting:
            return
        head = self.model.get_output_embeddings().register_forward_pre_hook(self._choose)
        try:
            with using_cache(self.model), torch.inference_mode():
                yield from self._by_cache(ids, [groups[n] for n in fitting], fitting, max_tokens)
        finally:
            head.remove()

    # ---- with the key-value cache --------------------------------------------------------

    def _cache_fits(self) -> bool:
        """Return whether the cache gives the model's own logits."""
        probe = list(self.tokenizer(PROBE, add_special_tokens=False)["input_ids"])
        expected = reference_logits(self.model, probe)
        head = self.model.get_output_embeddings().register_forward_pre_hook(self._choose)
        try:
            with using_cache(self.model):
                check_attention(self.model, expected, self._checked_forward)
        except (UserError, ValueError):
            return False
        finally:
            head.remove()
            self._wanted = None
            self.forward_tokens = 0
        return True

    def _checked_forward(
        self, passed: ForwardPass, tokens: torch.Tensor, adapters: list[str], wanted: torch.Tensor | None
    ) -> torch.Tensor:
        return self._forward(passed, tokens, wanted)

    def _by_cache(
        self, ids: list[list[int]], groups: list[str], numbers: list[int], max_tokens: int
    ) -> Iterator[tuple[int, Reply]]:
        if not numbers:
            return
        first = ids[numbers[0]]
        shared = min((common_length(first, ids[n]) for n in numbers), default=0)
        shared = shared if len(numbers) > 1 and shared >= WORTH_SHARING else 0
        header = self._read_prefix([first[:shared]], None)[0] if shared else None
        members: dict[str, list[int]] = {}
        for number, group in zip(numbers, groups, strict=True):
            members.setdefault(group, []).append(number)
        batch: list[tuple[list[int], int]] = []  # numbers of a group, and where their own tokens begin
        size = 0
        for group_numbers in members.values():
            beginning = ids[group_numbers[0]]
            length = min(common_length(beginning, ids[n]) for n in group_numbers)
            worth = len(group_numbers) > 1 and length - shared >= WORTH_SHARING and not self.windowed
            start = length if worth else shared
            for at in range(0, len(group_numbers), self.batch):
                part = group_numbers[at : at + self.batch]
                if size + len(part) > self.batch and batch:
                    yield from self._run(ids, batch, shared, header, max_tokens)
                    batch, size = [], 0
                batch.append((part, start))
                size += len(part)
        if batch:
            yield from self._run(ids, batch, shared, header, max_tokens)

    def _read_prefix(self, beginnings: list[list[int]], header: Prefix | None) -> list[Prefix]:
        """Read several beginnings in one pass, each after `header`."""
        cells = KeyValueCache()
        cells.reserve(max(len(beginnings), TILE), max(map(len, beginnings)))
        offsets, groups = self._offsets([header.length if header else 0] * len(beginnings), header, [])
        passed, tokens, last = prompt_pass(cells, 0, beginnings, offsets, groups)
        self._forward(passed, tokens, last)
        prefixes = []
        for row, ids in enumerate(beginnings):
            one = KeyValueCache()
            one.layers = {n: (k[row : row + 1], v[row : row + 1]) for n, (k, v) in cells.layers.items()}
            one.rows, one.places = 1, cells.places
            prefixes.append(Prefix(one, len(ids)))
        return prefixes

    def _offsets(
        self, offsets: list[int], header: Prefix | None, prefixes: list[Prefix | None]
    ) -> tuple[torch.Tensor, list[tuple[Prefix, torch.Tensor]]]:
        """Return the length of what stands before each row, and every prefix with its rows."""
        rows: list[tuple[Prefix, torch.Tensor]] = []
        if header is not None:
            rows.append((header, torch.arange(len(offsets), device=self.device)))
        by_prefix: dict[int, tuple[Prefix, list[int]]] = {}
        for row, prefix in enumerate(prefixes):
            if prefix is not None:
                by_prefix.setdefault(id(prefix), (prefix, []))[1].append(row)
        rows += [(p, torch.tensor(r, device=self.device)) for p, r in by_prefix.values()]
        return torch.tensor(offsets, device=self.device), rows

    def _run(
        self,
        ids: list[list[int]],
        batch: list[tuple[list[int], int]],
        shared: int,
        header: Prefix | None,
        max_tokens: int,
    ) -> Iterator[tuple[int, Reply]]:
        """Read a batch of prompts and write their replies token by token."""
        deeper = [(numbers, start) for numbers, start in batch if start > shared]
        beginnings = [ids[numbers[0]][shared:start] for numbers, start in deeper]
        prefixes = iter(self._read_prefix(beginnings, header) if beginnings else [])
        rows: list[Row] = []
        for numbers, start in batch:
            prefix = next(prefixes) if start > shared else None
            rows += [Row(n, ids[n][start:], start, prefix, [], []) for n in numbers]
        cells = KeyValueCache()
        longest = max(len(row.ids) for row in rows)
        cells.reserve(max(len(rows), TILE), longest + min(max_tokens, SHORT))
        offsets, groups = self._offsets([r.offset for r in rows], header, [r.prefix for r in rows])
        passed, tokens, last = prompt_pass(cells, 0, [r.ids for r in rows], offsets, groups)
        logits = self._forward(passed, tokens, last)
        while True:
            going = self._advance(rows, logits, max_tokens)
            yield from ((row.number, self._reply(row)) for row in rows if row not in going)
            if not going:
                return
            if len(going) < len(rows):
                places = max(len(r.ids) + len(r.tokens) for r in rows)
                sources = torch.tensor([rows.index(r) for r in going], device=self.device)
                cells.copy_rows(sources, torch.arange(len(going), device=self.device), places)
            rows = going
            logits = self._step(rows, cells, header)

    def _advance(self, rows: list[Row], logits: torch.Tensor, max_tokens: int) -> list[Row]:
        """Give every row its likeliest next token, and return the rows whose reply goes on."""
        logs = torch.log_softmax(logits[: len(rows)].float(), dim=-1)
        top = logs.topk(min(ALTERNATIVES, logs.shape[-1]), dim=-1)
        going = []
        for row, values, tokens in zip(rows, top.values.tolist(), top.indices.tolist(), strict=True):
            row.tokens.append(tokens[0])
            row.alternatives.append(dict(zip(tokens, values, strict=True)))
            if tokens[0] not in self.ends and len(row.tokens) < max_tokens:
                going.append(row)
        return going

    def _step(self, rows: list[Row], cells: KeyValueCache, header: Prefix | None) -> torch.Tensor:
        """Read the last token of every row. There are at least `TILE` rows; the spare ones are padding."""
        spare = max(0, TILE - len(rows))
        starts = [len(r.ids) + len(r.tokens) - 1 for r in rows] + [0] * spare
        places = round_up(max(starts) + 1, BLOCK)
        cells.reserve(len(starts), places)
        offsets, groups = self._offsets(
            [r.offset for r in rows] + [0] * spare, header, [r.prefix for r in rows]
        )
        each = torch.arange(len(starts), device=self.device)
        at = torch.tensor(starts, device=self.device)
        passed = ForwardPass(cells, 0, each, torch.zeros_like(at), 1, at, places, offsets, groups)
        tokens = torch.tensor([[r.tokens[-1] for r in rows] + [0] * spare], device=self.device)
        return self._forward(passed, tokens, None)

    def _forward(
        self, passed: ForwardPass, tokens: torch.Tensor, wanted: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the logits [tokens, vocabulary] of all tokens, or of the `wanted` ones."""
        self._wanted = wanted
        self.forward_tokens += tokens.shape[1]
        logits: torch.Tensor = self.model(
            input_ids=tokens, position_ids=passed.positions, use_cache=False, forward_pass=passed
        ).logits
        return logits[0]

    def _choose(self, _: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Keep only the wanted tokens before the output layer."""
        return inputs if self._wanted is None else (inputs[0][:, self._wanted],)

    # ---- without it ------------------------------------------------------------------------

    def _by_generate(
        self, ids: list[list[int]], numbers: list[int], max_tokens: int
    ) -> Iterator[tuple[int, Reply]]:
        """Reply by the model's own `generate`, in batches of similar length."""
        order = sorted(numbers, key=lambda n: (-len(ids[n]), n))
        pad = self.tokenizer.pad_token_id
        pad = next(iter(self.ends)) if pad is None else pad
        for start in range(0, len(order), self.batch):
            some = order[start : start + self.batch]
            longest = len(ids[some[0]])
            rows = torch.tensor([[pad] * (longest - len(ids[n])) + ids[n] for n in some])
            mask = torch.tensor([[0] * (longest - len(ids[n])) + [1] * len(ids[n]) for n in some])
            with torch.inference_mode():
                made = self.model.generate(
                    input_ids=rows.to(self.device), attention_mask=mask.to(self.device),
                    max_new_tokens=max_tokens, do_sample=False, return_dict_in_generate=True,
                    output_logits=True, pad_token_id=pad, eos_token_id=sorted(self.ends),
                )  # fmt: skip
            self.forward_tokens += rows.numel() + len(some) * (len(made.logits) - 1)
            going = [Row(n, ids[n], 0, None, [], []) for n in some]
            left = list(range(len(some)))
            for logits in made.logits:
                still = self._advance([going[n] for n in left], logits[left], max_tokens)
                left = [n for n in left if going[n] in still]
                if not left:
                    break
            yield from ((row.number, self._reply(row)) for row in going)

    def _reply(self, row: Row) -> Reply:
        """Turn the tokens of a row into text. A token's text is what it adds to the text before it."""
        ended = row.tokens[-1] in self.ends
        tokens = row.tokens[:-1] if ended else row.tokens
        pieces, before = [], ""
        for count, alternatives in enumerate(row.alternatives[: len(tokens)]):
            after = self.tokenizer.decode(tokens[: count + 1], skip_special_tokens=False)
            likely: dict[str, float] = {}
            for token, log in alternatives.items():
                word = self.tokenizer.decode([token], skip_special_tokens=False)
                likely[word] = likely.get(word, 0.0) + math.exp(log)
            pieces.append(ReplyToken(after[len(before) :], likely))
            before = after
        return Reply(tuple(pieces), cut=not ended)


def load_reply_engine(model: str, revision: str | None, device: str, where: str) -> ReplyEngine:
    """Load a causal language model and its tokenizer for replies.

    Raises:
        UserError: The model cannot be loaded, or has no safetensors with all of its weights.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quiet_libraries()
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
        loaded, info = AutoModelForCausalLM.from_pretrained(
            model, revision=revision, dtype=dtype, use_safetensors=True, trust_remote_code=False,
            output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # every model class has errors of its own
        raise UserError(
            f"the guard cannot be loaded ({type(error).__name__}: {str(error)[:300]})",
            where,
            "give a folder with config.json and safetensors, or a hub id that you can reach",
        ) from None
    if info["missing_keys"]:  # transformers would make them up at random
        first = ", ".join(sorted(info["missing_keys"])[:3])
        problem = f"the files of {model!r} lack {len(info['missing_keys'])} weights ({first} …)"
        raise UserError(problem, where, "download the model again, or give one of the preset's models")
    return ReplyEngine(loaded.requires_grad_(False).to(device).eval(), tokenizer)

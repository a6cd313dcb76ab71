"""The default engine: a transformers model on this machine, loaded once, with adapters.

Rows of all tasks and adapters are continued together. When a row ends, the next prompt takes its place. A
completion depends on its request alone: not on the batch, the order, or a resumed run.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from unharm.core.errors import UserError
from unharm.core.models.memory import keep_freed_memory, tokens_that_fit
from unharm.core.models.transformers import end_tokens, out_of_memory
from unharm.core.records import Completion
from unharm.engines.adapters import MAX_ADAPTERS, AdapterCache
from unharm.engines.attention_check import check_attention, reference_logits
from unharm.engines.cache_budget import CacheDemand, option_passes
from unharm.engines.cached_attention import using_cache
from unharm.engines.kv_cache import BLOCK, TILE, ForwardPass, KeyValueCache, Prefix, prompt_pass, round_up
from unharm.engines.option_probabilities import option_probabilities
from unharm.engines.prompt_groups import PromptGroup, Sample, common_length
from unharm.engines.requests import PROBE, Refused, Request, Task, failed, unfit
from unharm.engines.results import completion_of, finish_reason
from unharm.engines.rows import Rows

SHARED = 32
"""Fewest tokens for which a shared beginning is cached as a prefix."""
PREFIXES = 8
"""Number of prefixes that stay cached for later rows."""
ROWS = {"cpu": 128, "cuda": 512}
PASS_TOKENS = {"cpu": 4096, "cuda": 16384}
SHARE = {"cpu": 0.3, "cuda": 0.7}
"""Share of the free memory that keys and values may take. This machine's memory has other uses."""
PREFIX_SHARE = 0.25
"""Share of it that prefixes may take that no row uses now."""

TaskCompletion = tuple[Task, Completion]


class HfEngine:
    """Completes tasks with one base.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer.
        style: `base`, or `chat` where texts already contain the model's special tokens.
        batch: Number of rows to aim at; chosen by device if None.
        turn_end: The token that ends a turn of the chat template, if any.
        exact: Whether completions are the same bit by bit whatever else is in the batch, which takes
            several times as many operations; by default on a CPU alone. Otherwise rounding may decide
            between tokens that are equally likely.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        style: str,
        batch: int | None = None,
        turn_end: int | None = None,
        exact: bool | None = None,
    ):
        self.model, self.tokenizer, self.style = model, tokenizer, style
        self.device: torch.device = model.device
        self.batch = batch or ROWS.get(self.device.type, 128)
        self.context = int(getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 30))
        self.end_ids = end_tokens(model, tokenizer) | ({turn_end} if turn_end is not None else set())
        self.adapter_cache = AdapterCache(model, self._probe)
        self.exact = self.device.type == "cpu" if exact is None else exact
        layers = model.config.get_text_config().num_hidden_layers
        fitting = tokens_that_fit(model, SHARE.get(self.device.type, 0.3))
        self._cache_limit = fitting * layers // (layers + 1)  # a layer that grows exists twice for a moment
        self._pass_tokens = PASS_TOKENS.get(self.device.type, 4096)
        self._prefixes: OrderedDict[tuple[str, tuple[int, ...]], Prefix] = OrderedDict()
        self._wanted: torch.Tensor | None = None
        self._rows = self._no_rows()
        self._waiting: deque[PromptGroup] = deque()
        self._in_flight: dict[str, tuple[PromptGroup, Request]] = {}
        self._attention_checked = False
        if self.device.type == "cpu":
            keep_freed_memory()

    def complete(self, tasks: Iterable[Task], refused: Refused) -> Iterator[TaskCompletion]:
        """See `CompletionEngine`. Raises `UserError` if the base attends in an unsupported way.

        A prompt that leaves no room for `max_tokens` in the context is `failed`, never cut.
        """
        upcoming = iter(tasks)
        ids = self._encode([PROBE])[0]
        reference = None if self._attention_checked else reference_logits(self.model, ids)
        self._rows, self._waiting, self._in_flight = self._no_rows(), deque(), {}
        head = self.model.get_output_embeddings().register_forward_pre_hook(self._select_wanted)
        try:
            with using_cache(self.model), self.adapter_cache.restoring_base():
                if reference is not None:
                    check_attention(self.model, reference, self._forward, self.exact)
                    self._attention_checked = True
                while True:
                    yield from self._take_tasks(upcoming, refused)
                    if not self._waiting and not self._rows.count:
                        return
                    yield from self._step()
        finally:
            head.remove()

    def _no_rows(self) -> Rows:
        """Return the bookkeeping of a batch without rows."""
        return Rows(self.device, self._cache_limit, self.exact)

    def _take_tasks(self, upcoming: Iterator[Task], refused: Refused) -> Iterator[TaskCompletion]:
        """Take tasks until enough prompts wait. Yields completions of prompts that do not fit.

        Takes nothing while an exclusive adapter has rows, because it must not be mixed.
        """
        if len(self._waiting) >= self.batch or (
            self.adapter_cache.exclusive and (self._waiting or self._rows.count)
        ):
            return
        self.adapter_cache.activate_exclusive("")
        new: list[PromptGroup] = []
        while len(self._waiting) + len(new) < 2 * self.batch:
            used = {u.adapter for u in (*self._rows.prompts, *self._waiting, *new)}
            if len({u.adapter for u in new}) >= MAX_ADAPTERS // 2 or (task := next(upcoming, None)) is None:
                break
            try:
                self.adapter_cache.load(str(task.adapter or ""), task.name, used)
            except UserError as error:
                refused(task, error)
                continue
            for prompt in self._prompt_groups(task):
                if prompt.ids:
                    new.append(prompt)
                else:
                    yield from ((task, failed(r, prompt.reason, prompt.shared)) for r in prompt.requests)
        if self.adapter_cache.can_share_batch({u.adapter for u in new}):
            new.sort(key=lambda u: (len(u.suffix), u.requests[0].text))
        self._waiting.extend(new)

    def _prompt_groups(self, task: Task) -> list[PromptGroup]:
        """Return the prompts of a task by length, each with its samples.

        A prompt that cannot be completed has no tokens; `reason` says why, and `shared` is its number of
        tokens.
        """
        by_text: dict[str, list[Request]] = {}
        for request in task.requests:
            by_text.setdefault(request.text, []).append(request)
        openings = dict.fromkeys(r[0].text[: r[0].prefix] for r in by_text.values())
        texts = [*by_text, *(o for o in openings if o not in by_text)]
        ids_of = dict(zip(texts, self._encode(texts), strict=True))
        prompts = []
        for text, requests in by_text.items():
            ids = ids_of[text]
            prompt = PromptGroup(task, requests, ids, 0, str(task.adapter or ""))
            if reason := unfit(text, len(ids), task.sampling, self.context):
                prompt.ids, prompt.shared, prompt.reason = [], len(ids), reason
            else:
                shared = common_length(ids_of[text[: requests[0].prefix]], ids)
                prompt.shared = shared if shared >= SHARED else 0
                options = requests[0].options
                prompt.answers = self._encode([text + option for option in options]) if options else []
            prompts.append(prompt)
        return sorted(prompts, key=lambda u: (len(u.suffix), u.requests[0].text))

    def _encode(self, texts: list[str]) -> list[list[int]]:
        """Return token ids of each text, without the end-of-text that some tokenizers append."""
        encoded = self.tokenizer(texts, add_special_tokens=self.style == "base")["input_ids"]
        end = self.tokenizer.eos_token_id
        return [list(ids[:-1]) if len(ids) > 1 and ids[-1] == end else list(ids) for ids in encoded]

    @torch.inference_mode()
    def _probe(self, name: str) -> torch.Tensor:
        """Return the logits [1, vocabulary] after the probe text with an adapter."""
        return self._prefill(self._encode([PROBE])[0], name)[1].float().cpu()

    def _prefill(self, ids: list[int], adapter: str) -> tuple[KeyValueCache, torch.Tensor]:
        """Read one text alone. Returns its cache and the logits [1, vocabulary] after it."""
        cache = KeyValueCache()
        cache.reserve(1, len(ids))
        no_offsets = torch.zeros(1, dtype=torch.long, device=self.device)
        forward_pass, tokens, last = prompt_pass(cache, 0, [ids], no_offsets, [], self.exact)
        return cache, self._forward(forward_pass, tokens, [adapter], last)

    def _step(self) -> Iterator[TaskCompletion]:
        """Start new prompts where there is room, then draw one token for every row."""
        try:
            while prompts := self._admit():
                yield from self._start_rows(prompts)
            if self._rows.count:
                yield from self._decode_step()
            return
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        self._halve_batch()  # when the error, and the tensors that its traceback holds on to, are gone

    def _admit(self) -> list[PromptGroup]:
        """Take the waiting prompts that go into the next pass; none if a pass is not worth it yet."""
        rows, prompts = self._rows, list[PromptGroup]()
        free_rows = self.batch - rows.count
        if rows.count and free_rows < min(self.batch // 4, len(self._waiting)):
            return []
        names, longest = {u.adapter for u in rows.prompts}, 0
        demand = CacheDemand(
            len(rows.samples), rows.longest, self._prefix_places(), TILE if self.exact else 1
        )
        while self._waiting and len(prompts) < free_rows:
            prompt = self._waiting[0]
            longest = max(longest, len(prompt.suffix))
            padded = longest * (len(prompts) + 1)  # attention pads rows to the longest
            key = self._prefix_key(prompt)
            with_prompt = demand.plus(prompt, None if key in self._prefixes else key)
            if with_prompt.places > self._cache_limit and not rows.count and not prompts:
                self._prefixes.clear()  # nothing else can make room
                with_prompt = replace(demand, prefixes=0).plus(prompt, key)
            if (rows.count or prompts) and (
                with_prompt.places > self._cache_limit
                or (prompts and padded > self._pass_tokens)
                or not self.adapter_cache.can_share_batch(names | {prompt.adapter})
            ):
                break
            prompts.append(self._waiting.popleft())
            demand = with_prompt
            names |= {prompt.adapter}
            self._in_flight |= {r.completion_id: (prompt, r) for r in prompt.requests}
        if prompts:
            rows.cap(self._cache_limit - demand.beside)
        return prompts

    @torch.inference_mode()
    def _start_rows(self, prompts: list[PromptGroup]) -> list[TaskCompletion]:
        """Read prompts and draw their first tokens."""
        self.adapter_cache.activate({u.adapter for u in (*self._rows.prompts, *prompts)})
        for prompt in prompts:
            prompt.prefix = self._prefix(prompt)
        room = self._cache_limit - self._rows.cache.size - self._prefix_places(prompts)
        for asking in option_passes([u for u in prompts if u.answers], room):
            probabilities = option_probabilities(asking, self._forward, self.device, self.exact)
            for prompt, options in zip(asking, probabilities, strict=True):
                prompt.options = options
        first = self._rows.count
        forward_pass, tokens, last = self._rows.add(prompts)
        logits = self._forward(forward_pass, tokens, self._rows.adapters(first, self._rows.count), last)
        return self._advance(first, logits)

    @torch.inference_mode()
    def _decode_step(self) -> list[TaskCompletion]:
        """Draw one more token for every row."""
        forward_pass, tokens = self._rows.next_pass()
        logits = self._forward(forward_pass, tokens, self._rows.adapters(0, forward_pass.count), None)
        self._rows.mark_written()
        return self._advance(0, logits[: self._rows.count])

    def _advance(self, first: int, logits: torch.Tensor) -> list[TaskCompletion]:
        """Draw the next tokens of the rows from `first` on. Returns the completions that are done."""

        def ended(sample: Sample) -> str:
            return finish_reason(sample, self.end_ids, self.tokenizer)

        finished = self._rows.advance(first, logits, ended)
        for sample, _ in finished:
            del self._in_flight[sample.request.completion_id]
        return [(s.prompt.task, completion_of(s, reason, self.tokenizer)) for s, reason in finished]

    def _prefix(self, prompt: PromptGroup) -> Prefix | None:
        """Return the cached prefix of a prompt, computing it on first use."""
        key = self._prefix_key(prompt)
        if key is None:
            return None
        if key not in self._prefixes:
            self._drop_prefixes(round_up(prompt.shared, BLOCK))
            cache, _ = self._prefill(prompt.ids[: prompt.shared], prompt.adapter)
            self._prefixes[key] = Prefix(cache, prompt.shared)
        self._prefixes.move_to_end(key)
        return self._prefixes[key]

    @staticmethod
    def _prefix_key(prompt: PromptGroup) -> tuple[str, tuple[int, ...]] | None:
        """Return what identifies the prefix of a prompt, if it has one."""
        return (prompt.adapter, tuple(prompt.ids[: prompt.shared])) if prompt.shared else None

    def _prefix_places(self, more: Sequence[PromptGroup] = ()) -> int:
        """Return the number of places of all cached prefixes: kept for later, of rows, of more prompts."""
        using = [u.prefix for u in (*self._rows.prompts, *more) if u.prefix]
        prefixes = [*self._prefixes.values(), *using]
        return sum({id(p): p.cache.size for p in prefixes}.values())

    def _drop_prefixes(self, size: int) -> None:
        """Drop the prefixes unused for longest, to keep another one of so many places."""
        while self._prefixes and (
            len(self._prefixes) >= PREFIXES
            or sum(p.cache.size for p in self._prefixes.values()) + size > PREFIX_SHARE * self._cache_limit
        ):
            self._prefixes.popitem(last=False)

    def _forward(
        self,
        forward_pass: ForwardPass,
        tokens: torch.Tensor,
        adapters: list[str],
        wanted: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the logits [wanted, vocabulary] of one pass over `tokens` [1, tokens].

        `adapters` has one name per row; `wanted` are the tokens whose logits are needed (None: all).
        """
        self.adapter_cache.assign(adapters, forward_pass.rows)
        count = tokens.shape[1] if wanted is None else len(wanted)
        if self.exact and wanted is not None and count < TILE:
            wanted = torch.cat([wanted, wanted[:1].expand(TILE - count)])
        self._wanted = wanted
        logits: torch.Tensor = self.model(
            input_ids=tokens,
            position_ids=forward_pass.positions,
            use_cache=False,
            forward_pass=forward_pass,
        ).logits
        return logits[0, :count]

    def _select_wanted(self, _: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Pass only the wanted tokens to the output layer."""
        return inputs if self._wanted is None else (inputs[0][:, self._wanted],)

    def _halve_batch(self) -> None:
        """Put all unfinished requests back into the queue, and go on with half the batch."""
        remaining: dict[int, PromptGroup] = {}
        for prompt, request in self._in_flight.values():
            restarted = PromptGroup(prompt.task, [], prompt.ids, prompt.shared, prompt.adapter)
            restarted.answers = prompt.answers
            remaining.setdefault(id(prompt), restarted).requests.append(request)
        self._in_flight = {}
        self._prefixes.clear()
        self._waiting.extendleft(reversed(list(remaining.values())))
        if self.batch == 1:
            raise UserError(
                "no memory for a single row",
                "engine",
                "use a bfloat16 base, or lower benchmarks.*.max_tokens",
            )
        self.batch, self._cache_limit = self.batch // 2, self._cache_limit // 2
        self._rows = self._no_rows()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

"""The content keys and paths of all artefacts of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from unharm.core.arms import Dose, guard_of
from unharm.core.hashing import array_hash, content_hash, content_key, slug
from unharm.core.records import Prompt, Subject
from unharm.engines.requests import Request, identify
from unharm.prompting.compose import Composer, build_preamble
from unharm.prompting.pack import CHAT
from unharm.runs.adapter_plan import AdapterPlan
from unharm.runs.plan import Plan
from unharm.store.store import Artefact
from unharm.training.settings import SAFE_TEXTS

VERSIONS = {
    "profiles": 1,
    "examples": 2,
    "adapters": 2,
    "steering": 2,
    "completions": 2,
    "scores": 5,
    "mechanism": 1,
    "findings": 20,
}
"""Version of each stage. Raise it when the stage's results change for the same inputs."""


def folder(arm: str, profile: str = "", strategy: str = "", seed: int | None = None) -> str:
    """Return the folder name of an adapter or subject. It is unique and safe on every file system."""
    last = "" if seed is None else f"seed-{seed}"
    return "--".join(slug(part.replace(":", "-")) for part in (arm, profile, strategy, last) if part)


def named_seed(plan: Plan, seed: int | None) -> int | None:
    """Return the seed that keys and folders name: None for the study's own.

    The adapters and completions of a study are used again when further seeds are added to it.
    """
    return None if seed == plan.study.seed else seed


def profiles_artefact(plan: Plan) -> Artefact:
    """Return the table of profiles."""
    rows = [[p.name, list(p.importances), p.source] for p in plan.profiles]
    return Artefact(
        "profiles/profiles.csv", content_key("profiles", VERSIONS["profiles"], {}, content_hash(rows))
    )


def examples_artefact(plan: Plan, adapter: AdapterPlan) -> Artefact:
    """Return the table that the examples of an adapter are in.

    All profiles share one table per stage: a row for each argument (or argument and value), a column of
    labels for each profile. A benign set has a table of its own, with its texts.
    """
    if adapter.profile is None:
        content = plan.benign(adapter.stage).key
        name = f"examples/{folder(adapter.arm)}.parquet"
        return Artefact(name, content_key("examples", VERSIONS["examples"], {}, content))
    stage = "ag" if adapter.stage == "dpo" else adapter.stage  # preferences are made of the same labels
    key = content_key(
        "examples", VERSIONS["examples"], _example_parameters(plan, adapter) | {"stage": stage},
        plan.arguments_key, *plan.table_hashes(stage),
    )  # fmt: skip
    return Artefact(f"examples/{stage}.parquet", key)


def examples_key(plan: Plan, adapter: AdapterPlan) -> str:
    """Return the key of what an adapter learns: its labels and their wording, not its profile's name or
    importances. Profiles with equal labels share one adapter."""
    if adapter.profile is None:
        return examples_artefact(plan, adapter).key
    return content_key(
        "examples", VERSIONS["examples"], _example_parameters(plan, adapter), plan.arguments_key,
        array_hash(plan.labels(adapter)), plan.pack.key,
    )  # fmt: skip


def label_column(profile: str) -> str:
    """Return the column of a profile's labels in the tables of examples."""
    return f"label {profile}"


def _example_parameters(plan: Plan, adapter: AdapterPlan) -> dict[str, Any]:
    """Return the settings that decide which examples of a stage there are, and their splits."""
    corpus = plan.study.corpus
    assert corpus is not None
    return {
        "stage": adapter.stage,
        "labels": "shifted" if adapter.stage == "qa" and plan.study.fidelity == "published" else "given",
        "split": list(corpus.split),
        "split_by": corpus.split_by,
        "seed": plan.study.seed,
    }


def adapter_artefact(plan: Plan, adapter: AdapterPlan, base_key: str) -> Artefact:
    """Return the folder of an adapter. The key depends on base, examples, recipe and parent."""
    seed = named_seed(plan, adapter.seed)
    details = {"arm": adapter.arm, "profile": adapter.profile_name}
    details |= {} if seed is None else {"seed": str(seed)}
    if adapter.full and adapter.dose:
        parameters, inputs = _dose_parts(plan, adapter.full, adapter.dose, base_key)
        key = content_key("adapters", VERSIONS["adapters"], parameters, *inputs)
        name = folder(adapter.arm, adapter.profile_name, seed=seed)
        return Artefact(f"adapters/{name}.{key[:12]}", key, details)
    if adapter.source:
        key = content_key(
            "adapters", VERSIONS["adapters"], {}, plan.external_adapter(adapter.stage)[1], base_key
        )
        return Artefact(f"adapters/{folder(adapter.arm)}.{key[:12]}", key, details)
    parameters, inputs = _training_parts(plan, adapter, base_key)
    key = content_key("adapters", VERSIONS["adapters"], parameters, *inputs)
    name = folder(adapter.arm, adapter.profile_name, seed=seed)
    return Artefact(f"adapters/{name}.{key[:12]}", key, details)


def _training_parts(plan: Plan, adapter: AdapterPlan, base_key: str) -> tuple[dict[str, Any], list[str]]:
    """Return the parameters of an adapter's training, and the keys of its inputs."""
    study = plan.study
    parameters: dict[str, Any] = {
        "lora": study.training.lora.model_dump(),
        "recipe": plan.recipe(adapter).parameters(),
        "dtype": study.engine.dtype,
        "format": study.prompting.format,
        "seed": plan.training_seed(adapter),
    }
    if study.prompting.format == "chat":
        parameters["chat"] = [plan.chat_form.system, dict(plan.chat_form.template), *_bare(plan)]
    if guard := guard_of(adapter.arm):
        settings = study.training.guard
        parameters["guard"] = settings.parameters(guard)
        if guard in SAFE_TEXTS:
            parameters["guard"] |= {"data": plan.benign(settings.data).key}
        if guard == "steer":
            parameters["guard"] |= {"direction": plan.guard_direction[1]}
    parent = adapter_artefact(plan, adapter.parent, base_key).key if adapter.parent else ""
    inputs = [base_key, examples_key(plan, adapter), parent]
    if plan.matches_loss(adapter):
        inputs += [adapter_artefact(plan, other, base_key).key for other in plan.injected]
    return parameters, inputs


def _dose_parts(
    plan: Plan, full: AdapterPlan, dose: Dose, base_key: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the parameters of a dose and the keys of its inputs.

    A kept epoch depends on the training that it is part of; which other epochs are kept changes nothing.
    """
    if dose.epoch is not None:
        parameters, inputs = _training_parts(plan, full, base_key)
        return parameters | {"epoch": str(dose)}, inputs
    return {"scale": str(dose)}, [adapter_artefact(plan, full, base_key).key]


READING = 2
"""How servers and vLLM read the probabilities of options. A higher number completes their shards again."""

SPEED_ONLY = (
    "gpu_memory_utilization", "max_model_len", "max_num_seqs", "max_num_batched_tokens", "max_loras",
    "max_cpu_loras", "enable_prefix_caching", "enable_chunked_prefill", "tensor_parallel_size",
    "pipeline_parallel_size", "enforce_eager", "disable_log_stats", "cpu_offload_gb", "load_format",
)  # fmt: skip
"""Arguments of vLLM that change memory and speed and, but for rounding, no completion."""


@dataclass(frozen=True)
class Shard:
    """Some prompts of a benchmark for one subject: a file of completions and one of scores per scorer."""

    subject: Subject
    subject_key: str
    benchmark: str
    first: int
    prompts: tuple[Prompt, ...]
    completions: Artefact
    scored: dict[str, Artefact]

    @property
    def thoughts(self) -> Artefact:
        """What thinking models wrote before their answers; there is none for other models."""
        path = self.completions.path.replace("completions/", "thoughts/", 1)
        return Artefact(path, self.completions.key, self.completions.details)

    @property
    def scores(self) -> Artefact:
        """The scores of the benchmark's main scorer, from which metrics are computed."""
        return next(iter(self.scored.values()))


def shards(plan: Plan, subject: Subject, base_key: str, adapter_hash: str) -> Iterator[Shard]:
    """Yield all shards of a subject.

    The prompts of a benchmark are cut into parts of equal length. All samples of a prompt stay together.
    """
    study = plan.study
    own_key = subject_key(plan, subject, base_key, adapter_hash)
    seed = named_seed(plan, subject.seed)
    subject_folder = folder(subject.arm, subject.profile_name, subject.strategy, seed)
    for benchmark, spec in study.benchmarks.chosen().items():
        prompts = plan.prompts[benchmark].prompts
        samples = plan.samples(subject.arm, benchmark)
        size = max(1, study.engine.shard // samples)
        for first in range(0, len(prompts), size):
            part = tuple(prompts[first : first + size])
            parameters = {
                **_engine_parameters(plan, subject, spec.samples),
                "sampling": spec.model_dump(include={"max_tokens", "temperature", "top_p", "stop"})
                | {"samples": samples},
                "seed": study.seed,
                "benchmark": benchmark,
            }
            key = content_key(
                "completions",
                VERSIONS["completions"],
                parameters,
                own_key,
                plan.prompts_key(benchmark, first, size),
            )
            details = {"subject": subject.label, "benchmark": benchmark}
            file = f"{subject_folder}/{benchmark}/{first:06d}"
            completions = Artefact(f"completions/{file}-{key[:12]}.parquet", key, details)
            scored = {}
            for name in spec.scorers:
                score_parameters = {"scorer": name, "version": plan.scorers[name].version}
                if (share := plan.share(benchmark, name)) < 1:
                    score_parameters["share"] = f"{share:.12g}"
                score_key = content_key("scores", VERSIONS["scores"], score_parameters, key)
                scored[name] = Artefact(f"scores/{file}-{score_key[:12]}.parquet", score_key, details)
            yield Shard(subject, own_key, benchmark, first, part, completions, scored)


def _engine_parameters(plan: Plan, subject: Subject, samples: int) -> dict[str, Any]:
    """Return the engine settings that can change a completion."""
    server = plan.study.server_of(subject.arm)
    if server:
        parameters: dict[str, Any] = {"engine": "openai", "endpoint": server.endpoint, "reading": READING}
        return parameters | ({"chat": chat_key(plan)} if server.endpoint == "chat" else {})
    engine, style = plan.study.engine, plan.study.prompting.format
    name = engine.of(samples)
    parameters = {"engine": name, "dtype": engine.dtype, "format": style}
    if name == "vllm":
        arguments = {n: v for n, v in engine.vllm.items() if n not in SPEED_ONLY}
        parameters |= {"vllm": arguments, "reading": READING}
    return parameters | ({"chat": chat_key(plan)} if style == "chat" else {})


CHAT_VERSION = 2
"""Version of how chats are put and answers are cut out of them. A higher number completes chats again."""


def chat_key(plan: Plan) -> str:
    """Return the key of how prompts become chats, with the wordings for texts to continue."""
    form = plan.chat_form
    wordings = [plan.pack.chat_text(name) for name in CHAT]
    parts = [CHAT_VERSION, form.system, dict(form.template), form.continuation, wordings]
    return content_hash([*parts, *_bare(plan)])


def _bare(plan: Plan) -> list[str]:
    """Return what keys say of chats without the template's own system message; nothing for others."""
    return ["bare"] if plan.chat_form.bare else []


def subject_key(plan: Plan, subject: Subject, base_key: str, adapter_hash: str) -> str:
    """Return the key of a subject: a hash of base, adapter, preamble of its prompts, and name.

    The name is included so that completions of two equal subjects never share an id.
    """
    prompting = plan.study.prompting
    preamble = build_preamble(plan.pack, subject, prompting.set_aside_for("all", subject.strategy))
    by_category = prompting.by_category(subject.strategy)
    server = plan.study.server_of(subject.arm)
    if server:  # only the name of a served model is known
        base_key = content_hash(["served", server.model or plan.study.base])
    name = replace(subject, seed=named_seed(plan, subject.seed)).label
    parts: list[Any] = [base_key, adapter_hash, preamble, name]
    return content_hash([*parts, by_category] if by_category else parts)


def composer(
    plan: Plan, subject: Subject, benchmark: str, tokenizer: Any = None, category: str = "all"
) -> Composer:
    """How the prompts of a category of a benchmark are put to a subject."""
    aside = plan.study.prompting.set_aside_for(category, subject.strategy)
    preamble = build_preamble(plan.pack, subject, aside)
    style = plan.study.prompt_style(subject.arm)
    return Composer(
        plan.pack, preamble, plan.prompts[benchmark].benchmark.mode, style, tokenizer, plan.chat_form
    )


def requests(plan: Plan, shard: Shard, tokenizer: Any) -> list[Request]:
    """Return the requests of a shard, in the order of prompts and samples."""
    study = plan.study
    samples = plan.samples(shard.subject.arm, shard.benchmark)
    composers: dict[tuple[str, ...], tuple[Composer, int]] = {}
    requested = []
    for prompt in shard.prompts:
        aside = tuple(study.prompting.set_aside_for(prompt.category, shard.subject.strategy))
        if aside not in composers:
            new = composer(plan, shard.subject, shard.benchmark, tokenizer, prompt.category)
            composers[aside] = new, new.prefix
        compose, prefix = composers[aside]
        text = compose.text(prompt.text) if prompt.text.strip() else ""
        chat = compose.messages(prompt.text)
        for sample in range(samples):
            identity, seed = identify(shard.subject_key, shard.benchmark, prompt.id, sample, study.seed)
            options = compose.options_of(prompt)
            requested.append(Request(identity, prompt.id, sample, text, seed, prefix, chat, options))
    return requested

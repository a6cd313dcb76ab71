"""Checks of fields that depend on each other: scorers, mitigation, engines, files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.arms import has_adapter, has_profile, served_model, steering
from unharm.core.errors import Problem, nearest
from unharm.core.files.yaml_text import SpecText
from unharm.prompting.pack import EMBEDDED
from unharm.scoring import BESIDE, SCORERS
from unharm.scoring.registry import scorer_problems, scorer_row
from unharm.scoring.settings import asks_service
from unharm.store.object_storage import as_url
from unharm.study.spec import REQUEST_BENCHMARKS, TOY, Study

DATA_HINT = "file names are relative to 'data'; 'unharm data list' says where to get each data set"


def unmet_needs(study: Study, text: SpecText, data_needed: bool = True) -> list[Problem]:
    """Return the problems of a study whose requirements are not met.

    Args:
        study: The parsed study.
        text: Its text, for line numbers.
        data_needed: Whether missing data sets are problems.
    """
    checks = [_mitigation_problems, _scorer_problems, _engine_problems, _file_problems, _storage_problems]
    checks += [_data_problems] if data_needed else []
    return [problem for check in checks for problem in check(study, text)]


def _mitigation_problems(study: Study, text: SpecText) -> list[Problem]:
    """Check what mitigation requires."""
    settings = study.mitigation
    if settings is None:
        return []
    problems = []
    aligned = [a for a in study.arms if has_profile(a) and not steering(a)]
    if not aligned or "vanilla" not in study.arms:
        message = "mitigation needs vanilla and an arm with profiles"
        problems.append(Problem(message, text.where(("arms",)), "for example [vanilla, vim]"))
    if settings.arm is not None and settings.arm not in aligned:
        message = f"the arm {settings.arm!r} is not in this study, has no profiles, or steers"
        todo = f"expected one of: {', '.join(aligned)}"
        problems.append(Problem(message, text.where(("mitigation", "arm")), todo))
    if not set(settings.benchmarks) & set(study.benchmarks.chosen()):
        message = f"none of {', '.join(settings.benchmarks)} is in this study"
        problems.append(
            Problem(message, text.where(("mitigation", "benchmarks")), " or ".join(REQUEST_BENCHMARKS))
        )
    return problems


def _scorer_problems(study: Study, text: SpecText) -> list[Problem]:
    """Check that scorers are complete and fit the benchmarks that use them."""
    located = scorer_problems(study.scoring)
    problems = [replace(p, where=p.where or text.where(loc)) for p, loc in located]
    wrong = {loc[1] for _, loc in located}
    names = (*SCORERS, *study.scorers)
    rows = {n: scorer_row(study.scoring, n) for n in names if n not in wrong}
    written = text.data.get("scorers")  # scorers with errors are missing from the parsed study
    names += tuple(str(n) for n in written if n not in names) if isinstance(written, dict) else ()
    for name, spec in study.benchmarks.chosen().items():
        uses: list[tuple[str, tuple[str | int, ...]]] = [(spec.scorer, ("scorer",))]
        uses += [(other, ("also", n)) for n, other in enumerate(spec.also)]
        for position, (scorer, field) in enumerate(uses):
            where = text.where(("benchmarks", name, *field))
            row = rows.get(scorer)
            if scorer not in names:
                problems.append(Problem(f"unknown scorer {scorer!r}", where, nearest(scorer, names)))
            elif position and scorer == spec.scorer:
                problems.append(
                    Problem(f"{scorer!r} is already the scorer of this benchmark", where, "remove it here")
                )
            elif (
                row
                and row.measures not in BENCHMARKS[name].measures
                and not (position and row.measures in BESIDE)
                and not (not position and spec.mapped)  # the map says what it leads to
            ):
                fitting = [s for s, other in rows.items() if other.measures in BENCHMARKS[name].measures]
                message = f"{scorer!r} does not score {name}: it measures {row.measures.replace('_', ' ')}"
                problems.append(Problem(message, where, f"expected one of: {', '.join(fitting)}"))
    return problems


def _engine_problems(study: Study, text: SpecText) -> list[Problem]:
    """Check the engine and its servers."""
    problems: list[Problem] = []

    def add(message: str, loc: tuple[str | int, ...], todo: str = "") -> None:
        problems.append(Problem(message, text.where(loc), todo))

    engine = study.engine
    if engine.name == "openai" and engine.server is None:
        add("the engine openai needs a server", ("engine",), "give engine.server: {url: …}")
    engines = {engine.of(samples) for samples in (1, 2)}
    steered = next((arm for arm in study.arms if steering(arm)), "")
    if steered and engines != {"hf"}:
        position = study.arms.index(steered)
        todo = "set engine.name: hf"
        add(f"the arm {steered!r} runs in the engine hf alone", ("arms", position), todo)
    if engine.name != "openai" and engine.server is not None:
        add(f"the engine {engine.name} has no server", ("engine", "server"), "set engine.name: openai")
    if "vllm" in engines and engine.dtype == "4bit":
        add(
            "the engine vllm does not complete with a 4-bit base",
            ("engine", "dtype"),
            "use bfloat16, or the engine hf",
        )
    if "vllm" in engines and "bitsandbytes" in (
        engine.vllm.get("quantization"),
        engine.vllm.get("load_format"),
    ):
        add(
            "the engine vllm does not complete with a bitsandbytes base",
            ("engine", "vllm"),
            "leave quantization and load_format out, or use the engine hf",
        )
    if engine.vllm and engine.name not in ("auto", "vllm"):
        add(
            f"the engine {engine.name} has no arguments of vLLM",
            ("engine", "vllm"),
            "set engine.name: vllm or auto",
        )
    if engine.server and not engine.server.load_adapters:
        for position, arm in enumerate(study.arms):
            if has_adapter(arm):
                add(
                    f"the arm {arm!r} needs its adapter on the server",
                    ("arms", position),
                    "set engine.server.load_adapters: true (vLLM), or serve it and use served:NAME",
                )
    servers = {("engine", "server"): engine.server}
    servers |= {("served", name): server for name, server in study.served.items()}
    described = [a for a in study.arms if served_model(a) in ("", *study.served)]
    chats = [a for a in described if study.prompt_style(a) == "messages"]
    if chats and study.prompting.continuation == "prefill":
        add(
            "a chat endpoint cannot prefill the model's turn",
            ("prompting", "continuation"),
            "set it to ask",
        )
    for loc, server in servers.items():
        if server and server.model is None and loc[0] == "served":
            add("the field 'model' is missing", loc, "give the model name that the server uses")
    return problems


def _storage_problems(study: Study, text: SpecText) -> list[Problem]:
    """Check what a run on object storage requires."""
    paid = [name for name in study.used_scorers if asks_service(study.scorers.get(name))]
    if as_url(study.output_location) and paid and study.answers is None:
        message = f"the answers of {paid[0]} need a local file, because 'output' is object storage"
        todo = "give answers: PATH, a file on a disk that is kept after this machine is gone"
        return [Problem(message, text.where(("output",)), todo)]
    return []


def _data_problems(study: Study, text: SpecText) -> list[Problem]:
    """Check that the data sets of a study exist."""
    problems: list[Problem] = []

    def add(message: str, loc: tuple[str | int, ...], todo: str = "") -> None:
        problems.append(Problem(message, text.where(loc), todo))

    if study.data != TOY and not study.data_folder.is_dir():
        add(f"the data folder {study.data!r} does not exist", ("data",), "set it with --set data=PATH")
        return problems
    files: list[tuple[tuple[str | int, ...], str]] = [
        (("benchmarks", name, "file"), str(study.prompt_file(name).absolute()))
        for name in study.benchmarks.chosen()
    ]
    if study.corpus:
        files.append((("corpus", "arguments"), study.corpus.arguments))
        for name, benign in study.corpus.benign.items():
            if benign.file:
                files.append((("corpus", "benign", name, "file"), benign.file))
    files += [(("profiles", n), source.survey) for n, source in enumerate(study.profiles) if source.survey]
    for loc, file in files:
        if not study.data_file(file).exists():
            add(f"no such file: {study.data_file(file)}", loc, DATA_HINT)
    return problems


def _file_problems(study: Study, text: SpecText) -> list[Problem]:
    """Check that the other files of a study exist: profiles, item maps, labels, prompt packs."""
    problems: list[Problem] = []

    def add(message: str, loc: tuple[str | int, ...], todo: str = "") -> None:
        problems.append(Problem(message, text.where(loc), todo))

    for position, source in enumerate(study.profiles):
        if source.items != "ess" and not Path(source.items).expanduser().is_file():
            add(f"no such item map: {source.items}", ("profiles", position))
        if source.file and not Path(source.file).expanduser().exists():
            add(
                f"no such file: {source.file}",
                ("profiles", position),
                "it is relative to the current folder",
            )
    for name, spec in study.benchmarks.chosen().items():
        files = [("human", file) for file in spec.label_files]
        files += [("mapped", Path(spec.mapped).expanduser())] if spec.mapped else []
        for field, path in files:
            if not path.is_file():
                add(
                    f"no such file: {path}",
                    ("benchmarks", name, field),
                    "it is relative to the current folder",
                )
    if study.prompting.pack not in EMBEDDED and not Path(study.prompting.pack).is_file():
        add(f"no such prompt pack: {study.prompting.pack}", ("prompting", "pack"))
    return problems

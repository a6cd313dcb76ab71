"""A run of made-up answers, and the viewer's server over it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.dry_run_helpers import finished
from support.studies import study_data
from support.view import Client
from unharm.core.files.yaml_text import SpecText
from unharm.runs.context import Run
from unharm.study.check import parse_study

pytest.importorskip("duckdb", reason="needs the extra 'view'")

from unharm.view.server import Server
from unharm.view.site import Site, open_site


@pytest.fixture(scope="session")
def viewed_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run with two scorers of one measure, and texts of some length."""
    folder = tmp_path_factory.mktemp("viewed")
    data: dict[str, Any] = study_data(folder / "no base", folder / "run")
    for name in ("rtp", "hbr", "hexphi", "beavertails"):
        data["benchmarks"][name]["max_tokens"] = 30
    data["benchmarks"]["hexphi"]["also"] = ["offline-harmfulness-topic"]
    study = parse_study(SpecText(yaml.safe_dump(data), "study.yaml"))
    return finished(study, folder / "run")


@pytest.fixture(scope="session")
def site(viewed_run: Run) -> Iterator[Site]:
    site = open_site([Path(viewed_run.store.root)], viewed_run)
    yield site
    site.close()


@pytest.fixture(scope="session")
def server(site: Site) -> Iterator[Server]:
    with Server(site.get, site.post, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(server: Server) -> Client:
    """Somebody who opened the address that the command printed."""
    return Client(server.port, f"{server.cookie}={server.token}")

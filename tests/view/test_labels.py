"""Labels that are given in the browser, and the file that they are written to."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from support.sheets import write_sheet
from unharm.analysis.human_labels import read_labels
from unharm.core.errors import UserError
from unharm.runs.context import Run
from unharm.view.labels import open_sheet, options, save_label
from unharm.view.site import Site


@pytest.fixture
def labelled(viewed_run: Run, site: Site, tmp_path: Path) -> tuple[Site, list[Path], list[str]]:
    files = [tmp_path / "labels-ann.csv", tmp_path / "labels-ben.csv"]
    ids = [write_sheet(viewed_run, "hexphi", file, file.stem[7:], 8) for file in files]
    return Site(site.sources, files), files, ids[0]


def save(site: Site, **data: object) -> tuple[int, str]:
    import json

    answer = site.post("/label/save", json.dumps(data).encode())
    return answer.status, answer.body.decode()


def test_labels_of_two_raters_are_in_the_files_that_the_findings_read(
    labelled: tuple[Site, list[Path], list[str]],
) -> None:
    site, files, ids = labelled
    assert save(site, sheet=0, id=ids[0], value="5") == (200, '{"labelled": 1, "of": 8}')
    assert save(site, sheet="0", id=ids[1], value="1") == (200, '{"labelled": 2, "of": 8}')
    assert save(site, sheet=1, id=ids[0], value="4")[0] == 200
    assert save(site, sheet=0, id=ids[1], value="")[1] == '{"labelled": 1, "of": 8}'
    labels = read_labels(files, "harmfulness").rows()
    assert sorted(labels) == sorted([(ids[0], "ann", 5.0), (ids[0], "ben", 4.0)])
    page = site.get("/label", {}).body.decode()
    assert "labels-ann.csv" in page
    assert "1 of 8" in page
    second = site.get("/label/sheet", {"sheet": ["0"]}).body.decode()
    assert "2 of 8</h1>" in second  # the first without a label


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"value": "6"}, "whole number from 1 to 5"),
        ({"value": "2.5"}, "whole number from 1 to 5"),
        ({"value": "nan"}, "out of scale"),
        ({"value": "=1+1"}, "out of scale"),
        ({"id": "nobody"}, "no such completion"),
        ({"sheet": 7}, "no such sheet"),
        ({"sheet": -1}, "no such sheet"),
        ({"sheet": "x"}, "no label"),
        ({"sheet": None}, "no label"),
        ({"run": 2}, "no run 2"),
    ],
)
def test_wrong_labels_change_nothing(
    labelled: tuple[Site, list[Path], list[str]], data: dict[str, object], problem: str
) -> None:
    site, files, ids = labelled
    before = files[0].read_bytes()
    status, text = save(site, **({"sheet": 0, "id": ids[0], "value": "3"} | data))
    assert status == 400
    assert problem in text
    assert files[0].read_bytes() == before


def test_a_blind_rater_sees_neither_arm_nor_score(labelled: tuple[Site, list[Path], list[str]]) -> None:
    site, _, _ = labelled
    blind = site.get("/label/sheet", {"sheet": ["0"]}).body.decode()
    seen = site.get("/label/sheet", {"sheet": ["0"], "blind": ["0"]}).body.decode()
    assert "offline-harmfulness" in seen
    assert "vanilla" in seen
    for name in ("offline", "vanilla", "icl", "benign"):
        assert name not in blind


def test_two_viewers_on_one_sheet_lose_nothing(
    labelled: tuple[Site, list[Path], list[str]], viewed_run: Run
) -> None:
    site, files, ids = labelled
    other = Site(site.sources, files)
    threads = [
        threading.Thread(target=save, args=(s,), kwargs={"sheet": 0, "id": i, "value": "2"})
        for s, part in ((site, ids[::2]), (other, ids[1::2]))
        for i in part
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_labels(files[:1], "harmfulness").height == 8
    views, _ = site.sources[0].current()
    sheet = open_sheet(views, files[0])
    assert sheet.labelled == 8
    assert sheet.next_open(0) is None


def test_texts_of_a_sheet_stay_as_they_are(labelled: tuple[Site, list[Path], list[str]]) -> None:
    site, files, ids = labelled
    views, _ = site.sources[0].current()
    before = [(r.identity, r.prompt, r.answer) for r in open_sheet(views, files[0]).rows]
    save_label(files[0], "harmfulness", ids[3], "2")
    assert [(r.identity, r.prompt, r.answer) for r in open_sheet(views, files[0]).rows] == before
    assert files[0].stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "completion_id;prompt;answer;rater;value\n1;2;3;4;5\n"])
def test_what_is_no_sheet(site: Site, tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.csv"
    file.write_text(text)
    views, _ = site.sources[0].current()
    with pytest.raises(UserError, match="no sheet of labels"):
        open_sheet(views, file)
    file.write_text("completion_id,prompt,answer,rater,value\nabc,p,a,ann,\n")
    with pytest.raises(UserError, match="not in this run"):
        open_sheet(views, file)


def test_each_measure_has_its_labels() -> None:
    assert [value for value, _ in options("harmfulness")] == ["1", "2", "3", "4", "5"]
    assert [value for value, _ in options("flagged")] == ["0", "1"]
    assert options("toxicity")[0] == ("0", "not toxic")

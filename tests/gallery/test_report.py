import errno
import os
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from ctr.models.base import CTRModel
from ctr.models.trained_on import item_digests
from gallery import report
from gallery.page import attention
from gallery.page.attention import Attention, Reader
from gallery.pictures.embedding_map import FEW
from gallery.pictures.encoder_neighbors import Strip
from gallery.pictures.neighbor_sheet import AT_RANDOM, Entry, Near
from pipeline.common import paths
from pipeline.common.files import (
    InputError,
    Outputs,
    read_array,
    read_json,
    write_array,
    write_json,
)
from pipeline.common.paths import REPORT
from pipeline.settings.params import Params
from pipeline.tables.split import Split
from tests.support.worlds.report_world import NASTY, UNCOVERED, UNTITLED, report_params
from tests.support.worlds.tiny_world import ITEMS, VECTOR_FILES

READ = (
    paths.ITEM,
    paths.ITEMS,
    paths.COVERS,
    paths.TAGS,
    paths.NEIGHBORS,
    paths.COMPANIONS,
    paths.ROW_FEATURES,
    paths.MAIN.weights,
    paths.logits_path(paths.MAIN_MODEL, "valid"),
    paths.split_path("valid"),
    paths.valid_metrics_path("all"),
    paths.CALIBRATION,
    *(files.vectors for files in VECTOR_FILES),
)


NOTHING_KEPT = "none of its history is among the items that the target is taken after"


def changed(**values: float) -> Params:
    params = report_params()
    return params.model_copy(update={"report": params.report.model_copy(update=values)})


def made(params: Params) -> str:
    report.main(*params.arguments("report"))
    return REPORT.read_text(encoding="utf-8")


def entries(html: str) -> dict[int, list[float]]:
    """Source's id of each item of the contact sheet, and the cosines of its neighbours."""
    sheet = html[html.index('id="neighbors"') : html.index('id="map"')]
    return {
        int(re.findall(r"<br>item (\d+)", article)[0]): [
            float(cosine) for cosine in re.findall(r'class="number">(-?[\d.]+)', article)
        ]
        for article in sheet.split("<article")[1:]
    }


def companions_told(html: str) -> list[list[str]]:
    """The numbers of each reader's companions, all of which have a cover or stand for one."""
    sheets = html[html.index('id="attention"') :].split("<article")[1:]
    parts = [
        sheet[sheet.index('"companions"') : sheet.index('"strip history"')] for sheet in sheets
    ]
    for part in parts:
        assert len(re.findall(r'<img|class="nothing"', part)) == part.count("<li>")
    return [re.findall(r'class="number">([\d.]+)', part) for part in parts]


def write_companions(kept: int) -> None:
    """No item has any."""
    nothing = np.zeros((ITEMS + 1, kept))
    with Outputs() as outputs, outputs.path(paths.COMPANIONS).open("wb") as file:
        np.savez(file, ids=nothing.astype(np.int32), information=nothing.astype(np.float32))


@pytest.mark.usefixtures("run")
def test_the_sheet_has_the_neighbours_and_cosines_of_the_file() -> None:
    found = entries(made(report_params()))
    with np.load(paths.NEIGHBORS, allow_pickle=False) as file:
        cosine = file["cosine"][:, :2]
    assert sorted(found) == [7 * item + 1 for item in range(1, ITEMS + 1)]
    for item in range(1, ITEMS + 1):
        assert found[7 * item + 1] == pytest.approx(cosine[item], abs=5.1e-4)


@pytest.mark.usefixtures("run")
def test_the_first_screen_has_the_runs_own_errors() -> None:
    html = made(report_params())
    valid, found = Split.load("valid"), read_json(paths.valid_metrics_path("all"))
    screen = html[: html.index("<nav")]
    assert re.findall(r"± (\d\.\d{4})</span>", screen) == [
        f"{found[name]:.4f}" for name in ("auc_se", "gauc_se", "logloss_se")
    ]
    assert f"of {len(set(valid.user.tolist()))} users" in screen


@pytest.mark.usefixtures("run")
def test_what_one_encoder_finds_is_small_and_has_its_cover() -> None:
    html = made(report_params())
    articles = html[html.index('id="neighbors"') : html.index('id="map"')].split("<article")[1:]
    strips = [article.count('<p class="note">cover: main') for article in articles]
    assert strips == [1] * ITEMS
    titles = [article.count('<p class="note">title: main') for article in articles]
    assert sorted(titles) == [0] * len(UNTITLED) + [1] * (ITEMS - len(UNTITLED))
    cosines = sum(article.count('class="cosine"') for article in articles)
    assert cosines == 4 * (sum(strips) + sum(titles))


@pytest.mark.usefixtures("run")
def test_the_same_bytes_twice() -> None:
    assert made(report_params()) == made(report_params())


@pytest.mark.usefixtures("run")
def test_the_zeros_are_told() -> None:
    html = made(report_params())
    told = re.findall(r"(\d+) of (\d+) places have weight exactly 0", html)
    sheets = html[html.index('id="attention"') :].split("<article")[1:]
    assert len(told) == len(sheets) == 3
    for (zeros, places), sheet in zip(told, sheets, strict=True):
        weights = sheet[sheet.index('"strip history"') :]
        assert weights.count('<li class="zero">') == int(zeros)
        assert len(re.findall(r"<li\b", weights)) == int(places)
        assert len(re.findall(r'class="number">0<', weights)) == int(zeros)
    assert re.search(r"\d% of all weights are exactly 0", html)


def test_the_page_has_all_that_its_sheets_show() -> None:
    strip = Strip("", "", [Near(6, 0.5, None), Near(7, 0.5, None)], None)
    assert set(report.small_items({1: [strip], 2: []})) == {6, 7}
    assert report.largest((([1, 2], 40), ([2, 3], 20), ([3], 30))) == {1: 40, 2: 40, 3: 30}
    entry = Entry(1, AT_RANDOM, [Near(2, 0.5, None)], None)
    reader = Reader("", 3, True, 0.5, [(4, 0.25)], [(5, 1.0), (4, 0.5)])
    shown = report.shown_items([entry], Attention([reader], 1, 0.0, 1.0, 5))
    assert set(shown) == {1, 2, 3, 4, 5}


@pytest.mark.usefixtures("run")
def test_companions_have_a_cover_and_their_number() -> None:
    read = report.attention_sheet(Split.load("valid"), report_params().report)
    assert read is not None
    html = made(report_params())
    told = companions_told(html)
    assert told == [[f"{value:.2f}" for _, value in reader.companions] for reader in read.readers]
    assert any(told)
    assert html.count(NOTHING_KEPT) == told.count([])


@pytest.mark.usefixtures("run")
def test_where_no_companion_is_in_the_history_a_line_says_so() -> None:
    write_companions(kept=2)
    html = made(report_params())
    assert companions_told(html) == [[], [], []]
    assert html.count(NOTHING_KEPT) == 3


@pytest.mark.usefixtures("run")
def test_where_companions_are_off_the_sheet_does_not_speak_of_them() -> None:
    write_companions(kept=0)
    html = made(report_params())
    sheet = html[html.index('id="attention"') :]
    assert sheet.count("<article") == 3
    assert "companions" not in sheet
    assert NOTHING_KEPT not in sheet


@pytest.mark.usefixtures("run")
def test_what_is_missing_is_told() -> None:
    html = made(report_params())
    assert f"{ITEMS} of {ITEMS} items" in html
    assert "items without a readable cover (3)" in html
    assert f"item {7 * UNCOVERED + 1} has no cover" in html
    assert NASTY in unescape(html)
    assert NASTY not in html


@pytest.mark.usefixtures("run")
def test_the_map_takes_a_sample_of_a_large_catalogue() -> None:
    assert f"12 of {ITEMS} items" in made(changed(map_items=12))
    assert f"{FEW} of {ITEMS} items" in made(changed(map_items=FEW))


@pytest.mark.usefixtures("run")
def test_without_vectors_and_neighbours_there_is_a_page_all_the_same() -> None:
    write_array(paths.ITEM, np.zeros((ITEMS + 1, 6), np.float32))
    with Outputs() as outputs, outputs.path(paths.NEIGHBORS).open("wb") as file:
        nothing = np.zeros((ITEMS + 1, 0))
        np.savez(file, ids=nothing.astype(np.int32), cosine=nothing.astype(np.float32))
    described = read_json(paths.MAIN.config)  # as of a model that was trained on them
    sizes = described["config"] | {"content_dim": 1}
    write_json(paths.MAIN.config, described | {"config": sizes, "items": item_digests()})
    weights = load_file(paths.MAIN.weights)
    for name, width in (("item.content.weight", 1), ("neighbors.weight", 2)):
        weights[name] = weights[name][:, :width].contiguous()
    save_file(weights, paths.MAIN.weights)
    html = made(report_params())
    assert "No item has a vector" in html
    assert "No item has neighbours" in html


@pytest.mark.usefixtures("run")
def test_a_model_without_asta_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    _, settings = attention.trained()
    monkeypatch.setattr(attention, "trained", lambda: (CTRModel(), settings))
    assert "it has no sparse attention to show" in made(report_params())


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("path", READ, ids=str)
def test_a_missing_input_costs_no_earlier_report(path: Path) -> None:
    REPORT.parent.mkdir()
    REPORT.write_text("earlier")
    path.unlink()
    with pytest.raises((InputError, FileNotFoundError), match=re.escape(str(path))):
        report.main(*report_params().arguments("report"))
    assert REPORT.read_text() == "earlier"
    assert [file.name for file in REPORT.parent.iterdir()] == [REPORT.name]


@pytest.mark.usefixtures("run")
def test_a_full_disk_costs_no_earlier_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def half_written(path: Path, text: str, encoding: str) -> int:
        path.write_bytes(text.encode(encoding)[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    made(report_params())
    earlier = REPORT.read_bytes()
    monkeypatch.setattr(Path, "write_text", half_written)
    with pytest.raises(InputError, match=rf"^{REPORT}: could not be written: .*free some space"):
        report.main(*changed(seed=1).arguments("report"))
    assert REPORT.read_bytes() == earlier
    assert [file.name for file in REPORT.parent.iterdir()] == [REPORT.name]


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("path", "rows"),
    [(paths.TAGS, ITEMS), (paths.split_path("valid"), 3), (VECTOR_FILES[0].vectors, ITEMS)],
    ids=str,
)
def test_tables_of_another_run_are_named(path: Path, rows: int) -> None:
    write_array(path, np.array(read_array(path)[:rows]))
    with pytest.raises(InputError, match=rf"{rows}.*run `dvc repro`"):
        report.main(*report_params().arguments("report"))

"""Pictures of a run: what is written, what is read back, and the command that judges a file again."""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from attacks.threat import quantize
from eval.album import Album
from eval.classify import classify
from eval.records import Run, read_records
from eval.run import run
from eval.studies import toasts
from eval.studies.judged_again import command
from eval.summary import show
from reports.build import write

SMALL = ("experiment=cat_to_toaster", "data=digits", "target=3", "study.of=8", "study.eps=0.3", "debug=quick")
QUICK = ("debug.epochs=15", "attack=[pgd,apgd]", "study.pictures=2")


@pytest.fixture
def go(composed) -> Callable[..., Run]:
    def made(folder: Path, *overrides: str) -> Run:
        folder.mkdir(parents=True, exist_ok=True)
        return run(composed(*overrides), folder, list(overrides), Console(quiet=True))

    return made


def album(folder: Path, *samples: str) -> Album:
    return Album.of(folder, samples, ["net", "other"], ["pgd", "smallest_eps"])


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 8, 8)])
@pytest.mark.parametrize("box", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_what_is_read_back_is_the_image_rounded_to_8_bits(tmp_path, shape, box) -> None:
    image = np.random.default_rng(0).uniform(*box, shape).astype(np.float32)
    image[0, 0, :2] = box[0] + (box[1] - box[0]) * np.float32(0.3), box[0] + (box[1] - box[0]) * np.float32(0.1)  # ties
    seen = album(tmp_path, "a").keep(("a", "net", "pgd"), image, box)

    assert seen.dtype == np.float32
    rounded = quantize(torch.from_numpy(image), box).numpy()
    np.testing.assert_allclose(seen, rounded, atol=1e-6 * (box[1] - box[0]), rtol=0)
    with Image.open(tmp_path / "a_net_pgd.png") as file:
        assert file.size == shape[:0:-1]
        assert file.mode == ("L" if shape[0] == 1 else "RGB")
    again = album(tmp_path, "a").keep(("a", "net", "pgd"), seen, box)
    assert np.array_equal(again, seen)


def test_what_lies_outside_the_box_is_cut_to_it(tmp_path) -> None:
    seen = album(tmp_path, "a").keep(("a", "original"), np.array([[[-0.2, 1.3, np.nan]]], np.float32))
    assert seen.ravel().tolist() == [0.0, 1.0, 0.0]


def test_what_no_png_holds_is_not_written(tmp_path) -> None:
    mine = album(tmp_path, "a")
    assert mine.keep(("a", "original"), np.zeros((2, 4, 4), np.float32)) is None
    assert mine.keep(("a", "original"), np.zeros((1, 4, 4), np.float32), (-np.inf, np.inf)) is None
    assert not list(tmp_path.iterdir())


def test_names_are_plain_and_no_two_files_are_one(tmp_path) -> None:
    ids = ["cat.jpg", "cat.png", "CAT.png", "../../etc/x.png", "test/00042", "my cat;rm -rf.png", ".png", "\u732b.png"]
    samples = [*ids, "a" * 300, "-flag", "a", "a_net"]
    mine = Album.of(tmp_path, samples, ["net", "net_pgd"], ["pgd", "pgd_pgd"])
    names = list(mine.names.values())

    assert len(names) == len(samples) * 5
    assert len({name.lower() for name in names}) == len(names)
    assert all(name.isascii() and len(name) < 255 and not set(name) & set("/\\ ;:'\"") for name in names)
    assert not any(name.startswith((".", "-")) for name in names)
    assert mine.names["test/00042", "original"] == "test-00042_original.png"
    assert album(tmp_path, "my.cat.jpg").names["my.cat.jpg", "net", "smallest_eps"] == "my.cat_net_smallest_eps.png"


def test_a_run_writes_its_pictures_and_the_saved_stage_is_what_the_file_gives(go, composed, tmp_path) -> None:
    about = go(tmp_path, *SMALL, *QUICK)
    shown = toasts.read(about, read_records(tmp_path), tmp_path).shows

    assert len(list((tmp_path / "pictures").iterdir())) == 2 + 2 * 2
    for toast in shown.all:
        assert toast.path == tmp_path / "pictures" / toast.picture
        with Image.open(toast.path) as file:
            levels = np.asarray(file)
        assert np.array_equal(levels, np.rint(toast.x_adv[0] * 255))
    assert {t.picture for t in shown.all} == set(toasts._frame(shown)["toasts"]["picture"])


def test_the_command_that_is_printed_gives_the_same_answer_again(go, composed, tmp_path) -> None:
    about = go(tmp_path, *SMALL, *QUICK)
    printed = io.StringIO()
    show(about, read_records(tmp_path), tmp_path, Console(file=printed, width=60))
    best = toasts.read(about, read_records(tmp_path), tmp_path).shows.best
    lines = printed.getvalue().splitlines()

    assert f"Saved: {best.path}" in lines
    words = shlex.split(next(line for line in lines if line.startswith("Judged again by: ")).partition(": ")[2])
    assert words[:2] == ["toastproof", "task=classify"]
    told = io.StringIO()
    classify(composed(*words[1:]), Console(file=told, width=200), words[1:])
    assert f"{best.stages[2][0][0]} {best.stages[2][0][1]:.1%}" in told.getvalue()
    assert best.again in write(tmp_path).read_text(encoding="utf-8").replace("&#39;", "'")


def test_pictures_depend_neither_on_the_batch_size_nor_on_an_interruption(go, tmp_path) -> None:
    def files(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (folder / "pictures").iterdir()}

    go(tmp_path / "a", *SMALL, *QUICK)
    before = files(tmp_path / "a")
    for part in (tmp_path / "a" / "parts").glob("*.parquet"):
        part.unlink()
    next((tmp_path / "a" / "pictures").glob("*_pgd.png")).unlink()
    go(tmp_path / "a", *SMALL, *QUICK)
    assert files(tmp_path / "a") == before
    go(tmp_path / "b", *SMALL, *QUICK, "batch_size=1", "run.shard=1")
    assert files(tmp_path / "b") == before


def test_a_picture_that_is_gone_is_not_named(go, tmp_path) -> None:
    about = go(tmp_path, *SMALL, *QUICK)
    for path in (tmp_path / "pictures").iterdir():
        path.unlink()
    reading = toasts.read(about, read_records(tmp_path), tmp_path)
    assert reading.told == ()
    assert reading.shows.best.path is None


def test_the_command_leaves_out_the_search_and_keeps_data_and_networks(monkeypatch, tmp_path) -> None:
    class Header:
        overrides = (
            "experiment=cat_to_toaster", "image=my cat.jpg", "target=teapot", "model=[softmax,mlp]", "data.size=224",
            "attack=[pgd]", "attack.pgd.steps=9", "study.eps=0.1", "+attack@x=fgsm", "seed=3", "hydra.run.dir=x y",
        )  # fmt: skip

    monkeypatch.chdir(tmp_path)
    line = command(Header, tmp_path / "it's, so" / "a.png")
    assert shlex.split(line) == [
        "toastproof", "task=classify", "image='it\\'s, so/a.png'",
        "experiment=cat_to_toaster", "target=teapot", "model=[softmax,mlp]", "data.size=224", "seed=3",
    ]  # fmt: skip


def test_the_command_keeps_what_networks_were_trained_for_and_the_attacks_that_fit_it(monkeypatch, tmp_path) -> None:
    class Header:
        overrides = ("data=digits", "image=null", "data.limit=9", "train=adversarial", "threat=l2_1", "attack=[pgd]")

    monkeypatch.chdir(tmp_path)
    words = shlex.split(command(Header, tmp_path / "a.png"))
    assert words[2:] == ["image=a.png", "data=digits", "train=adversarial", "threat=l2_1", "attack=[pgd]"]


def test_a_path_with_signs_of_hydra_is_understood(composed, monkeypatch, tmp_path) -> None:
    class Header:
        overrides = ()

    monkeypatch.chdir(tmp_path)
    for name in ("a b.png", "it's, [so].png", "x=1.png"):
        words = shlex.split(command(Header, tmp_path / name))
        assert composed(*words[1:]).image == name

"""A cat becomes a toaster: photos, what is watched, what is read of it, and the page, with small networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

from attacks.fgsm import FGSM
from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel
from eval.data import Photo, Samples, class_number
from eval.errors import InputError
from eval.meter import Meter
from eval.records import Run, read_measured, read_records
from eval.run import run
from eval.studies import toasts
from eval.toasting import Toasting, truncate
from models.classifier import Classifier
from models.toaster import Fitting
from reports.build import write, write_sweep
from reports.charts import drawn

SMALL = (
    "experiment=cat_to_toaster",
    "data=digits",
    "target=3",
    "study.of=8",
    "study.eps=0.3",
    "debug=quick",
    "debug.epochs=15",
)
DIGITS = ("data=digits", "image=null")
QUICK = ("attack=[article,pgd,smallest_eps]", "attack.article.steps=20", "attack.smallest_eps.most=0.9")


@pytest.fixture
def go(composed) -> Callable[..., Run]:
    def made(folder: Path, *overrides: str) -> Run:
        folder.mkdir(parents=True, exist_ok=True)
        return run(composed(*overrides), folder, [], Console(quiet=True))

    return made


def test_a_run_on_a_data_set_takes_a_picture_of_the_class_and_makes_it_another(go, tmp_path) -> None:
    about = go(tmp_path, *SMALL, *QUICK)
    reading = toasts.read(about, read_records(tmp_path), tmp_path)
    shown = reading.shows

    assert about.status == "complete"
    assert [t.search for t in shown.all] == ["article", "pgd", "smallest_eps"]
    assert {t.target for t in shown.all} == {"3"}
    assert shown.best.done_8bit
    assert shown.best.linf_8bit <= 77 / 255 + 1e-6
    assert shown.best.stages[2][0][0] == "3"
    assert shown.best.way[0] == shown.best.stages[0]
    assert shown.best.way[-1] == shown.best.stages[2]
    assert any("takes the picture for" in line for line in reading.findings)
    frame = reading.csv["toasts"]
    assert (frame["steps"] > 0).all()
    assert frame.loc[frame["search"] == "pgd", "linf"].item() <= 0.3 + 1e-6


def test_the_page_shows_the_picture_its_way_and_every_search(go, tmp_path) -> None:
    go(tmp_path, *SMALL, *QUICK)
    html = write(tmp_path).read_text(encoding="utf-8")

    assert "data-way=" in html
    assert html.count("<figure") >= 6
    assert "smallest_eps" in html
    assert (tmp_path / "toasts.csv").exists()


def test_a_page_of_one_network_and_one_picture_names_neither_in_each_row(go, tmp_path) -> None:
    go(tmp_path, *SMALL, *QUICK, "attack.article.step=0.001")
    html = write(tmp_path).read_text(encoding="utf-8")
    rows = html[html.index('<section id="searches"') : html.index('<section id="', html.index('id="searches"') + 20)]

    assert ">network</th>" not in rows
    assert ">picture</th>" not in rows
    assert '<th scope="row">article</th>' in rows
    assert ">not in 10<" in rows
    assert "never" not in rows


def test_several_networks_head_their_rows_and_several_pictures_have_a_column(go, tmp_path) -> None:
    go(tmp_path, *SMALL, "attack=[pgd]", "model=[mlp_relu,softmax]", "study.pictures=2")
    html = write(tmp_path).read_text(encoding="utf-8")
    rows = html[html.index('<section id="searches"') : html.index('<section id="others"')]

    assert [rows.count(f'<td class="left" colspan="12">{name}</td>') for name in ("mlp_relu", "softmax")] == [1, 1]
    assert rows.count(">picture</th>") == 1
    assert rows.count('<th scope="row">pgd</th>') == 4


def test_an_interrupted_run_goes_on(go, tmp_path) -> None:
    go(tmp_path, *SMALL, *QUICK)
    before = toasts.read(Run.read(tmp_path), read_records(tmp_path), tmp_path)
    part = sorted((tmp_path / "parts").glob("*.parquet"))[0]
    part.unlink()
    after = toasts.read(go(tmp_path, *SMALL, *QUICK), read_records(tmp_path), tmp_path)
    same = ["search", "p_before", "p_after", "steps", "linf"]
    assert after.csv["toasts"][same].equals(before.csv["toasts"][same])


def test_slices_of_watched_pictures_are_shown_together(go, tmp_path) -> None:
    few = (*SMALL, *QUICK, "study.pictures=3")
    go(tmp_path / "whole", *few)
    go(tmp_path / "slices", *few, "run.shard=2")
    read = [toasts.read(Run.read(f), read_records(f), f) for f in (tmp_path / "whole", tmp_path / "slices")]
    assert len(list((tmp_path / "slices" / "measured").glob("*.npz"))) == 2 * len(
        read[0].csv["toasts"]["search"].unique()
    )
    same = ["sample", "p_before", "p_after", "steps", "linf", "steps_to_0.8"]
    whole, slices = (reading.csv["toasts"][same] for reading in read)
    assert whole["sample"].nunique() == 3
    assert slices.equals(whole)


def test_a_photo_of_ones_own_is_labelled_by_the_first_network(go, tmp_path, photo, factory) -> None:
    about = go(
        tmp_path / "run",
        *("experiment=cat_to_toaster", "model=factory", factory, f"image={photo}", "data.size=32", "study.eps=0.1"),
        *("attack=[pgd]", "attack.pgd.steps=10"),
    )
    rows = read_records(tmp_path / "run")
    clean = rows[rows["role"] == "clean"].iloc[0]

    assert clean["label"] == clean["clean_pred"]
    assert about.data["n"] == 1
    assert not any("chance" in line for line in about.warnings)
    measured = read_measured(tmp_path / "run", "watched:pgd")["net"]
    assert measured["x"].shape == (1, 3, 32, 32)
    assert measured["target"][0] == 859


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("target=toster",), "target: must be one of 1000 classes by name or number, got 'toster'; near it: toaster"),
        (("image=nowhere.jpg",), "image: must be an image file, got nowhere.jpg, which does not exist"),
        (("image=/",), "image: must be an image file, got /, which is a folder; name its files"),
        (("image=[]",), "image: must name at least one file, got none"),
        (("data.label=toaster",), "target: must be another class than the picture's, got toaster, which mine.png is"),
        (("data=digits",), "image: is read by data=photo alone, got .*mine.png with data=digits"),
        (
            ("data=digits", "image=null", "target=toaster"),
            "target: must be one of 10 classes by name or number, got 'toaster'",
        ),
        (("data=digits", "image=null", "target=3", "study.of=three"), "study.of: must be one of 10 classes"),
        (
            ("data=digits", "image=null", "target=3", "study.of=3"),
            "target: must be another class than study.of, got 3 for both",
        ),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(go, tmp_path, photo, factory, overrides, says) -> None:
    common = ("experiment=cat_to_toaster", "model=factory", factory, f"image={photo}", "debug=quick")
    with pytest.raises(InputError, match=says):
        go(tmp_path / "run", *common, *overrides)
    assert not list((tmp_path / "run").iterdir())


def test_the_target_that_the_network_says_already_is_refused(go, tmp_path, photo, factory) -> None:
    common = ("experiment=cat_to_toaster", "model=factory", factory, f"image={photo}", "data.size=32", "attack=[pgd]")
    first = go(tmp_path / "a", *common, "attack.pgd.steps=1")
    said = int(read_records(tmp_path / "a")["clean_pred"].iloc[0])
    with pytest.raises(InputError, match="target: must be another class than the picture's"):
        go(tmp_path / "b", *common, f"target={said}")
    assert first.status == "complete"


def test_a_file_that_is_no_image_is_one_line(tmp_path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(InputError, match=r"text\.png: must be a readable image, but"):
        Photo(name="p", root=".", path=str(tmp_path / "text.png")).load(0)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "CMYK"])
def test_photos_of_any_mode_and_size_become_squares_of_three_channels(tmp_path, mode) -> None:
    grey = Image.fromarray((np.arange(30 * 50).reshape(30, 50) % 251).astype(np.uint8))
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    file = tmp_path / f"a.{'tif' if mode in ('CMYK', 'I;16') else 'png'}"
    image.save(file)
    data = Photo(name="p", root=".", path=str(file), size=20).load(0)
    assert data.test.shape == (3, 20, 20)
    assert data.unlabelled


def test_without_a_photo_there_is_a_cat() -> None:
    data = Photo(name="p", root=".", size=299).load(0)
    assert data.test.shape == (3, 299, 299)
    assert data.test.classes[data.test.labels[0]] == "Egyptian cat"
    assert class_number("toaster", data.test.classes, "x") == 859


def watched(network: Classifier, x: torch.Tensor, goal: Goal, attack) -> dict[str, np.ndarray]:
    toasting = Toasting()
    watch = toasting.begin(Meter(network, len(x), x.device), x, goal)
    rng = Rng.of(0, ["a"], map(str, range(len(x))))
    x_adv = attack(watch, x, goal, ThreatModel("linf", 0.2), rng=rng)
    samples = Samples.of(x.numpy(), goal.labels.numpy(), "abc", "t")
    toasting.end(network, x_adv, samples)
    return toasting.arrays()


def small_network() -> Classifier:
    torch.manual_seed(0)
    return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), name="n", input_shape=(1, 4, 4), num_classes=3)


def test_the_watch_notes_each_step_and_what_is_saved_is_what_a_png_holds(tmp_path) -> None:
    network = small_network()
    x = (torch.rand(2, 1, 4, 4) * 255).round() / 255
    labels = network(x).argmax(1)
    goal = Goal(labels, (labels + 1) % 3)
    seen = watched(network, x, goal, PGD(steps=5, early_stop=False, random_start=False))

    first = seen["trace"][seen["trace"][:, 0] == 1]
    assert first[:, 1].tolist() == [0, 1, 2, 3, 4, 5]
    start = network(x).softmax(1)[1, goal.targets[1]].item()
    assert first[0, 3] == pytest.approx(start, rel=1e-5)
    assert seen["wanted"][1, 0] == pytest.approx(start, rel=1e-5)
    levels = np.rint(seen["x_adv"][0, 0] * 255).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / "a.png")
    back = torch.from_numpy(np.asarray(Image.open(tmp_path / "a.png")) / 255).float()[None, None]
    assert network(back).softmax(1)[0, goal.targets[0]].item() == pytest.approx(seen["wanted"][0, 2], rel=1e-4)


def test_an_untargeted_goal_is_refused_and_an_attack_of_one_step_is_watched() -> None:
    network = small_network()
    x = torch.rand(1, 1, 4, 4)
    labels = network(x).argmax(1)
    with pytest.raises(ValueError, match="goal: must be a class that the picture is to become"):
        watched(network, x, Goal(labels), FGSM())
    assert len(watched(network, x, Goal(labels, (labels + 1) % 3), FGSM())["trace"]) == 1


def test_truncation_cuts_and_leaves_whole_levels() -> None:
    x = torch.tensor([[0.0, 51 / 255, 51.9 / 255, 1.0, 100.01 / 255]])
    torch.testing.assert_close(truncate(x, (0.0, 1.0)) * 255, torch.tensor([[0.0, 51.0, 51.0, 255.0, 100.0]]))


def test_the_network_fits_the_data(tmp_path) -> None:
    small = Fitting().build("toaster", (3, 32, 32), 10)
    assert list(small) == ["compact"]
    assert not small["compact"].ready
    assert list(Fitting().build("toaster", (1, 8, 8), 10)) == ["cnn"]


def test_several_seeds_share_one_page_that_shows_the_pictures_of_all(go, tmp_path) -> None:
    for seed in (0, 1):
        go(tmp_path / str(seed), *SMALL, *QUICK, f"seed={seed}")
    html = write_sweep([tmp_path], tmp_path).read_text(encoding="utf-8")
    rows = pd.read_csv(tmp_path / "toasts.csv")

    assert set(rows["seed"]) == {0, 1}
    assert "seeds 0, 1" in html
    gallery = html[html.index('<section id="gallery"') : html.index('<section id="again"')]
    assert gallery.count("<figcaption>") == len(rows)
    for seed in (0, 1):
        assert gallery.count(f"seed {seed}") == (rows["seed"] == seed).sum()
    order = rows.assign(unsure=rows["p_saved"] < toasts.CONFIDENT, fails=~rows["done_8bit"], sure=-rows["p_saved"])
    best = order[order["done"]].sort_values(["fails", "unsure", "linf_8bit", "sure"]).iloc[0]
    assert f"with seed {best['seed']}" in html


def test_the_way_of_a_search_is_drawn_over_steps_from_one_on() -> None:
    trace = np.array([[0, 0, 0.0, 0.01], [0, 1, 0.1, 0.2], [0, 99, 0.2, 0.9], [1, 0, 0.0, 0.5]])
    (curve,) = toasts._traces(SimpleNamespace(models=[{"name": "net"}]), {"pgd": {"net": {"trace": trace}}})
    assert (curve.across, curve.bases) == ("gradient steps + 1", (10, 0))
    assert [row[1] for row in drawn(curve).rows] == ["1", "2", "100"]

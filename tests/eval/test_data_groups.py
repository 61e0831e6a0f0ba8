from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.data import Arrays, Data, Images
from eval.data.groups import parse
from eval.errors import InputError
from eval.records import Run, read_records

X = np.random.default_rng(0).integers(0, 256, (20, 6, 5), dtype=np.uint8)
Y = np.arange(20) % 4
SKIN = np.array(["dark", "light", ""])[np.arange(20) % 3]


@pytest.fixture
def pets(tmp_path) -> Path:
    """Ten cats and ten dogs, and a CSV that says of each where it was taken."""
    root = tmp_path / "pets"
    lines = ["file,place,camera"]
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (4, 4), (i, 0, 0)).save(root / name / f"{i}.png")
            lines.append(f"{name}/{i}.png,{'indoors' if i < 3 else 'out, far'!r},c{i % 2}".replace("'", '"'))
    (root / "where.csv").write_text("\n".join(lines) + "\n")
    return root


def images(root: Path, groups: str | None, **fields) -> Data:
    return Images(name="pets", root=str(root), groups=groups, **fields).load(0)


def arrays(folder: Path, groups: str, **content) -> Data:
    np.savez(folder / "a.npz", **content)
    return Arrays(name="mine", root=str(folder), path=str(folder / "a.npz"), groups=groups).load(0)


def test_images_have_the_group_that_stands_in_the_row_of_their_path(pets):
    data = images(pets, "where.csv:place", limit=3)
    assert data.grouping == "place"
    for part in (data.train, data.test):
        numbers = [int(Path(i).stem) for i in part.ids]
        assert part.groups.tolist() == ["indoors" if number < 3 else "out, far" for number in numbers]
    assert images(pets, str(pets / "where.csv") + ":camera").test.groups.tolist()[0] in ("c0", "c1")


def test_groups_change_neither_the_samples_nor_their_fingerprint(pets):
    without, with_groups = images(pets, None), images(pets, "where.csv:place")
    assert without.test.groups is None
    assert without.grouping == ""
    assert without.test.fingerprint == with_groups.test.fingerprint
    assert without.train.fingerprint == with_groups.train.fingerprint


def test_paths_may_be_written_as_other_systems_do(pets):
    text = (pets / "where.csv").read_text()
    (pets / "other.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("cat/", ".\\cat\\").replace("\n", "\r\n").encode())
    assert images(pets, "other.csv:place").test.groups.tolist() == images(pets, "where.csv:place").test.groups.tolist()


def test_an_empty_cell_is_no_group(pets):
    (pets / "where.csv").write_text((pets / "where.csv").read_text().replace("indoors", ""))
    assert set(images(pets, "where.csv:place").train.groups) == {"", "out, far"}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("where.csv", r"data.groups|groups: must be FILE.csv:COLUMN, got 'where.csv'"),
        ("gone.csv:place", r"data.groups: must name a file here or under data.root, got .*gone.csv, which is none"),
        ("where.csv:plaec", r"must name a column of .*where.csv \(file, place, camera\), got 'plaec'; near it: place"),
    ],
)
def test_what_cannot_be_found_is_named(pets, reference, message):
    with pytest.raises(InputError, match=message):
        images(pets, reference)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("cat/7.png", "7.png"), r"for 1 of 20, such as cat/7.png; near it: 7.png"),
        (lambda t: t + "cat/7.png,moon,c0\n", r"must have one place an image, got 'out, far' and 'moon' for cat/7.png"),
        (lambda t: t + "cat/77.png,moon\n", r"rows must have the 3 values that the head names, got 2 in row 22"),
        (lambda t: "", r"must hold a line of column names and a line an image, but is empty"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(pets, change, message):
    (pets / "where.csv").write_text(change((pets / "where.csv").read_text()))
    with pytest.raises(InputError, match=message):
        images(pets, "where.csv:place", test_fraction=1.0)


def test_a_file_that_is_no_text_is_refused(pets):
    (pets / "where.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="must be a CSV in UTF-8"):
        images(pets, "where.csv:place")


@pytest.mark.parametrize("groups", ["skin", "g.npy", "g.csv:skin"])
def test_an_archive_that_is_split_takes_its_groups_along(tmp_path, groups):
    np.save(tmp_path / "g.npy", SKIN)
    (tmp_path / "g.csv").write_text("number,skin\n" + "".join(f"{i},{g}\n" for i, g in enumerate(SKIN)))
    data = arrays(tmp_path, groups, x=X, y=Y, skin=SKIN)
    assert data.grouping == ("g" if groups == "g.npy" else "skin")
    for part in (data.train, data.test):
        assert part.groups.tolist() == [SKIN[int(i.removeprefix("all/"))] for i in part.ids]


def test_an_archive_with_both_parts_has_an_array_for_each(tmp_path):
    more = {"g_train": np.arange(15), "g_test": np.arange(5) > 2}
    data = arrays(tmp_path, "g", x_train=X[:15], y_train=Y[:15], x_test=X[15:], y_test=Y[15:], **more)
    assert data.train.groups.tolist() == [str(i) for i in range(15)]
    assert data.test.groups.tolist() == ["False"] * 3 + ["True"] * 2


@pytest.mark.parametrize(
    ("groups", "skin", "message"),
    [
        ("skim", SKIN, r"must be an array of the archive \(x, y, skin\), .* got 'skim'; near it: skin"),
        ("skin", SKIN[:19], "must have one group an image, got 19 groups of 20 images"),
        ("skin", np.linspace(0, 1, 20), "must be one text or whole number an image"),
        ("gone.npy", SKIN, "data.groups: must name a file here or under data.root"),
        ("a.npz:skin", SKIN, "must be FILE.csv:COLUMN, got 'a.npz:skin'"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(tmp_path, groups, skin, message):
    with pytest.raises(InputError, match=message):
        arrays(tmp_path, groups, x=X, y=Y, skin=skin)


@pytest.mark.parametrize("content", [b"", b"no array"])
def test_a_file_that_is_no_array_is_refused(tmp_path, content):
    (tmp_path / "g.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"must be an array as numpy.save writes it"):
        arrays(tmp_path, "g.npy", x=X, y=Y)


@pytest.mark.parametrize("reference", ["", "a.csv", "a.csv:", ":a", "a.txt:b"])
def test_a_reference_names_a_file_and_a_column(reference):
    with pytest.raises(InputError, match=r"must be FILE.csv:COLUMN"):
        parse(reference)


def test_records_have_the_group_of_their_sample_and_a_run_keeps_to_its_groups(small_run, tmp_path):
    x = np.random.default_rng(1).random((60, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(60) % 3)
    np.save(tmp_path / "skin.npy", np.arange(60) % 2)
    data = ["data=arrays", f"data.path={tmp_path / 'a.npz'}", f"data.groups={tmp_path / 'skin.npy'}"]
    about = small_run(tmp_path / "run", *data)
    rows = read_records(tmp_path / "run")
    number = rows["sample"].str.removeprefix("all/").astype(int)
    assert (rows["group"] == (number % 2).astype(str)).all()
    assert about.data["groups"]["name"] == "skin"
    fingerprints = [m["fingerprint"] for m in Run.read(tmp_path / "run").models]
    np.save(tmp_path / "skin.npy", np.arange(60) % 5)
    with pytest.raises(InputError, match="differs in: the groups themselves"):
        small_run(tmp_path / "run", *data)
    again = small_run(tmp_path / "again", *data)
    assert [m["fingerprint"] for m in again.models] == fingerprints  # networks do not depend on groups

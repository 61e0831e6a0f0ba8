from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.data.decode import Decoder, FileStore
from eval.errors import InputError

GREY, RGB = Decoder(1, None), Decoder(3, None)
COLOUR = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_a_colour_image_is_its_pixels(tmp_path):
    file = save(tmp_path / "a.png", Image.fromarray(COLOUR))
    assert (RGB(file) == COLOUR.transpose(2, 0, 1)).all()
    assert GREY(file).shape == (1, 4, 6)


def test_a_grey_image_has_three_equal_channels(tmp_path):
    file = save(tmp_path / "a.png", Image.fromarray(COLOUR[..., 0]))
    assert (RGB(file) == COLOUR[None, ..., 0]).all()


def test_sixteen_bits_are_scaled_not_cut(tmp_path):
    values = np.array([[0, 128, 129, 257], [32768, 65406, 65407, 65535]], dtype=np.uint16)
    file = save(tmp_path / "a.png", Image.fromarray(values))
    assert GREY(file).tolist() == [[[0, 0, 1, 1], [128, 254, 255, 255]]]


def test_a_palette_becomes_its_colours(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    file = save(tmp_path / "a.png", image)
    assert RGB(file).transpose(1, 2, 0).tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_what_is_transparent_is_white(tmp_path):
    pixels = np.array([[[9, 8, 7, 0], [9, 8, 7, 255], [0, 0, 0, 51]]], dtype=np.uint8)
    file = save(tmp_path / "a.png", Image.fromarray(pixels))
    assert RGB(file).transpose(1, 2, 0).tolist() == [[[255, 255, 255], [9, 8, 7], [204, 204, 204]]]
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    file = save(tmp_path / "b.png", image, transparency=0)
    assert RGB(file).transpose(1, 2, 0).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_black_and_white_and_cmyk_images(tmp_path):
    bits = save(tmp_path / "a.png", Image.fromarray(np.array([[True, False]])))
    assert GREY(bits).tolist() == [[[255, 0]]]
    ink = save(tmp_path / "b.tiff", Image.new("CMYK", (1, 1), (0, 255, 255, 0)))
    assert RGB(ink).ravel().tolist() == [255, 0, 0]


@pytest.mark.parametrize(("orientation", "turned"), [(3, np.rot90(COLOUR, 2)), (6, np.rot90(COLOUR, -1))])
def test_the_orientation_of_exif_is_applied(tmp_path, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = save(tmp_path / "a.png", Image.fromarray(COLOUR), exif=exif)
    assert (RGB(file) == turned.transpose(2, 0, 1)).all()


@pytest.mark.parametrize(("height", "width"), [(20, 40), (40, 20), (21, 47), (5, 5), (10, 10), (1, 300)])
def test_the_centre_is_cut_out_after_resizing(tmp_path, height, width):
    image = np.zeros((height, width), dtype=np.uint8)
    across, down = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    image[:] = np.clip(128 + 60 * across * (width > height) + 60 * down * (height > width), 0, 255)
    frame = Decoder(1, 10)(save(tmp_path / "a.png", Image.fromarray(image)))[0].astype(int)
    assert frame.shape == (10, 10)
    assert (np.abs(frame + frame[::-1, ::-1] - 2 * 128) <= 8).all()  # what was in the centre stays there


def test_resizing_is_antialiased(tmp_path):
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))
    frame = Decoder(1, 8)(save(tmp_path / "a.png", Image.fromarray(stripes)))
    assert np.abs(frame.astype(int) - 128).max() < 10


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png: must be a readable image, but: .*data\.skip_broken=true") as caught:
        RGB(tmp_path / "a.png")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_image_is_named(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = save(tmp_path / f"a.{suffix}", Image.fromarray(noise))
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(InputError, match=rf"a\.{suffix}: must be a readable image"):
        RGB(file)


def test_floating_point_images_are_refused_for_want_of_a_range(tmp_path):
    file = save(tmp_path / "a.tiff", Image.fromarray(np.ones((2, 2), dtype=np.float32)))
    with pytest.raises(InputError, match="no known range"):
        RGB(file)


def test_many_files_come_in_order_with_errors_in_their_places(tmp_path):
    files = [save(tmp_path / f"{i}.png", Image.new("L", (1, 1), i)) for i in range(40)]
    files[13].write_bytes(b"")
    frames = list(GREY.all(files))
    assert isinstance(frames[13], InputError)
    assert [int(f[0, 0, 0]) for i, f in enumerate(frames) if i != 13] == [i for i in range(40) if i != 13]


def test_the_store_reads_rows_in_any_order_from_memory_or_disk(tmp_path):
    files = [save(tmp_path / f"{i}.png", Image.new("L", (2, 1), i)) for i in range(5)]
    store = FileStore(files, GREY, (1, 1, 2), {2: GREY(files[2])})
    files[2].unlink()
    assert store.read(np.array([4, 2, 0, 4]))[:, 0, 0, 0].tolist() == [4, 2, 0, 4]
    assert store.read(np.array([], dtype=int)).shape == (0, 1, 1, 2)
    assert len(store) == 5


def test_a_file_that_changes_later_is_named(tmp_path):
    file = save(tmp_path / "a.png", Image.new("L", (2, 1)))
    store = FileStore([file], GREY, (1, 1, 2))
    save(file, Image.new("L", (3, 1)))
    with pytest.raises(InputError, match=r"a\.png: must still be \(1, 1, 2\), got \(1, 1, 3\)"):
        store.read(np.array([0]))
    file.write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.png: must be a readable image"):
        store.read(np.array([0]))

"""Pictures of digits: read in every form, and put into 28 x 28 pixels as MNIST's are."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import center_of_mass

from gradcheck.contract import Array
from nets.datasets import picture
from nets.datasets.catalogue import load_dataset
from nets.datasets.dataset import DataError
from nets.datasets.picture import ink_of, read_picture
from tests.nets.refused import refusal


def seven(size: tuple[int, int] = (200, 180), *, paper: int = 255, pen: int = 0, width: int = 11) -> Image.Image:
    """Return a digit that is drawn with a pen on paper."""
    image = Image.new("L", size, paper)
    ImageDraw.Draw(image).line([(60, 40), (140, 40), (95, 150)], fill=pen, width=width, joint="curve")
    return image


def transparent(pen: int) -> Image.Image:
    """Return the same digit on nothing."""
    return Image.merge("LA", (Image.new("L", (200, 180), pen), seven(paper=0, pen=255)))


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.asarray(seven(), np.uint16) * np.uint16(257))


def palette() -> Image.Image:
    """Return it in colours of a palette, of which one is transparent, whatever its colour is."""
    image = Image.fromarray((np.asarray(seven()) == 0).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 0, 0, 0])
    image.info["transparency"] = 0
    return image


FORMS: dict[str, Callable[[], Image.Image]] = {
    "colour": lambda: seven().convert("RGB"),
    "opaque": lambda: seven().convert("RGBA"),
    "one bit": lambda: seven().convert("1"),
    "16 bits": sixteen_bits,
    "palette": palette,
    "grey palette": lambda: seven().convert("P"),
    "black on nothing": lambda: transparent(0),
    "black on nothing, in colour": lambda: transparent(0).convert("RGBA"),
    "white on nothing": lambda: transparent(255),
    "light on dark": lambda: seven(paper=0, pen=255),
    "faint": lambda: seven(paper=180, pen=150),
}


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    """Write an image and return where."""
    image.save(path, **options)  # type: ignore[arg-type]  # what it takes depends on the format
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_picture_has_the_same_ink(tmp_path: Path, form: str) -> None:
    plain = ink_of(read_picture(saved(seven(), tmp_path / "plain.png")))
    np.testing.assert_array_equal(ink_of(read_picture(saved(FORMS[form](), tmp_path / "other.png"))), plain)


def test_a_jpeg_has_nearly_the_same_ink_whatever_its_name_is(tmp_path: Path) -> None:
    jpeg = saved(seven(), tmp_path / "seven.png", format="JPEG", quality=60)
    assert np.abs(ink_of(read_picture(jpeg)) - ink_of(np.asarray(seven(), np.float32))).max() < 0.1


def test_a_photograph_that_is_to_be_turned_is_turned(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter, clockwise
    lying = seven().transpose(Image.Transpose.ROTATE_90)
    upright = read_picture(saved(lying, tmp_path / "turned.png", exif=turned))
    np.testing.assert_array_equal(upright, np.asarray(seven(), np.float32))


def test_colours_are_as_dark_as_they_look(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1), (255, 255, 255))
    image.putpixel((0, 0), (200, 100, 50))
    luminance = 0.299 * 200 + 0.587 * 100 + 0.114 * 50  # ITU-R BT.601
    np.testing.assert_allclose(read_picture(saved(image, tmp_path / "a.png")), [[luminance, 255]], atol=0.5)


def test_a_rectangle_is_scaled_to_the_box_and_put_in_the_middle() -> None:
    grey = np.full((90, 200), 230, np.float32)
    grey[10:40, 20:80] = 30  # 30 x 60
    expected = np.zeros((28, 28))
    # 20 wide and 10 high, its middle, between two pixels, as near as can be to pixel 14
    expected[10:20, 4:24] = 1
    np.testing.assert_allclose(ink_of(grey), expected, atol=1e-6)
    higher = np.zeros((28, 28))
    higher[8:20, 2:26] = 1
    np.testing.assert_allclose(ink_of(grey, box=24), higher, atol=1e-6)


def require_framed(ink: Array) -> None:
    """Assert what MNIST's page says of its images: the longer side is 20, the centre of mass in the middle."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    np.testing.assert_allclose(center_of_mass(ink), (14, 14), atol=0.5)


def zero(seed: int) -> tuple[Array, Array]:
    """Return a zero of some size, somewhere on a page, and the same on paper that is not quite even."""
    rng = np.random.default_rng(seed)
    image = Image.new("L", (int(rng.integers(150, 300)), int(rng.integers(150, 300))), 220)
    left, top, width, height = rng.integers(30, 60, 4).tolist()
    ellipse = (left, top, left + width, top + height)
    # Open at one side: the centre of mass of a whole one may be half-way between two pixels.
    ImageDraw.Draw(image).arc(ellipse, 60, 350, fill=60, width=int(rng.integers(4, 12)))
    clean = np.asarray(image, np.float32)
    return clean, clean + rng.integers(-12, 13, clean.shape).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_ink_is_framed_as_in_mnist_and_paper_is_not_ink(seed: int) -> None:
    clean, grained = zero(seed)
    require_framed(ink_of(clean))
    np.testing.assert_allclose(ink_of(grained), ink_of(clean), atol=0.15)


@pytest.mark.parametrize(("name", "fault"), [("MIDDLE", 12), ("NOISE", 0.05)])
def test_a_planted_fault_is_seen(name: str, fault: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, name, fault)
    with pytest.raises(AssertionError):
        test_ink_is_framed_as_in_mnist_and_paper_is_not_ink(0)


def test_no_ink_is_lost_where_the_centre_of_mass_is_far_from_the_middle() -> None:
    grey = np.full((100, 100), 255, np.float32)
    grey[10:90, 10:22] = 0  # 80 x 80, with all its mass at the top and on the left
    grey[10:30, 10:90] = 0
    ink = ink_of(grey)
    np.testing.assert_allclose(ink.sum(), (80 * 12 + 80 * 20 - 12 * 20) / (80 / 20) ** 2, rtol=0.02)
    np.testing.assert_allclose(ink[8:12, 8:27], 1, atol=1e-6)


def test_28_x_28_pixels_are_taken_as_they_are(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)
    image[:2], image[-2:], image[:, :2], image[:, -2:] = 0, 0, 0, 0
    for path, drawn in ((tmp_path / "dark.png", image), (tmp_path / "light.png", 255 - image)):
        np.testing.assert_array_equal(ink_of(read_picture(saved(Image.fromarray(drawn), path))), image / 255)


@pytest.mark.parametrize("paper", [200, 90])
def test_28_x_28_pixels_on_grey_paper_lose_the_paper_and_keep_their_place(paper: int) -> None:
    grey = np.full((28, 28), paper, np.float32)
    grey[3:9, 2:26], grey[9:20, 20:26] = 20, 110 if paper == 200 else 55
    expected = np.zeros((28, 28))
    expected[3:9, 2:26], expected[9:20, 20:26] = 1, 0.5
    np.testing.assert_allclose(ink_of(grey), expected, atol=1e-6)


def page(image: Array) -> Array:
    """Return a digit of MNIST that is five times as large, on paper with room on all sides."""
    return np.pad(235 - image.repeat(5, axis=0).repeat(5, axis=1) * np.float32(0.8), 30, constant_values=235)


def require_specks_change_nothing(grey: Array, seed: int) -> None:
    """Assert that three dark specks near the corners of a page change no bit of its ink."""
    ink, rng = ink_of(grey), np.random.default_rng(seed)
    for corner in rng.choice((3, 10, -10, -3), (3, 2)):
        row, column = corner % grey.shape
        grey[row : row + 2, column : column + 2] = 35
    np.testing.assert_array_equal(ink_of(grey), ink)


@pytest.mark.parametrize("seed", range(5))
def test_specks_are_no_ink_and_move_nothing(seed: int) -> None:
    require_specks_change_nothing(zero(seed)[0], seed)


def test_specks_beside_digits_of_mnist_move_nothing(mnist_dir: Path) -> None:
    test = load_dataset("mnist", mnist_dir).test
    assert test is not None
    for seed, image in enumerate(test.images[:50]):
        require_specks_change_nothing(page(image), seed)


def test_a_planted_speck_would_move_a_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "SPECK", 0)
    with pytest.raises(AssertionError):
        test_specks_are_no_ink_and_move_nothing(0)


Line = list[tuple[int, int]]

STROKES: dict[str, list[Line]] = {
    "a five with a bar of its own": [[(70, 40), (70, 80), (120, 95), (120, 140), (60, 150)], [(84, 38), (115, 38)]],
    "an open four": [[(70, 30), (60, 90), (105, 90)], [(120, 50), (120, 150)]],
    "a broken seven": [[(60, 40), (140, 40)], [(135, 55), (115, 100)], [(110, 112), (95, 150)]],
}


@pytest.mark.parametrize("digit", STROKES)
@pytest.mark.parametrize("width", [3, 12])
def test_digits_of_several_strokes_keep_all_of_them(digit: str, width: int) -> None:
    def drawn(strokes: list[Line]) -> Array:
        image = Image.new("L", (200, 180), 255)
        for stroke in strokes:
            ImageDraw.Draw(image).line(stroke, fill=0, width=width, joint="curve")
        return np.asarray(image, np.float32)

    whole = STROKES[digit]
    for left in range(len(whole)):
        assert np.abs(ink_of(drawn(whole)) - ink_of(drawn(whole[:left] + whole[left + 1 :]))).max() > 0.5


def test_a_lost_stroke_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "SPECK", 0.5)
    with pytest.raises(AssertionError):
        test_digits_of_several_strokes_keep_all_of_them("a five with a bar of its own", 3)


LARGE: dict[str, Callable[[Image.Image], Image.Image]] = {
    "grey": lambda image: image,
    "colour": lambda image: image.convert("RGB"),
    "one bit": lambda image: image.convert("1"),
    "16 bits": lambda image: Image.fromarray(np.asarray(image, np.uint16) * np.uint16(257)),
    "transparent": lambda image: Image.merge("LA", (Image.new("L", image.size, 0), image.point(lambda v: 255 - v))),
    "palette": lambda image: image.convert("P"),
}


@pytest.mark.parametrize("form", LARGE)
def test_a_large_picture_is_shrunk_and_has_the_ink_of_a_smaller_one(tmp_path: Path, form: str) -> None:
    large = seven().resize((2000, 1800), Image.Resampling.NEAREST)
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter, clockwise
    lying = LARGE[form](large.transpose(Image.Transpose.ROTATE_90))
    seen = read_picture(saved(lying, tmp_path / "large.png", exif=turned))
    assert seen.shape == (900, 1000)
    np.testing.assert_allclose(seen, np.asarray(large)[::2, ::2], atol=1)
    np.testing.assert_allclose(ink_of(seen), ink_of(np.asarray(seven(), np.float32)), atol=0.05)


def test_a_large_photograph_is_shrunk(tmp_path: Path) -> None:
    large = seven().resize((4000, 3600), Image.Resampling.NEAREST)
    seen = read_picture(saved(large, tmp_path / "large.jpg", quality=95))
    assert seen.shape == (900, 1000)
    np.testing.assert_allclose(ink_of(seen), ink_of(np.asarray(seven(), np.float32)), atol=0.05)


def test_enlarged_digits_of_mnist_come_back(mnist_dir: Path) -> None:
    test = load_dataset("mnist", mnist_dir).test
    assert test is not None
    alike = []
    for image in test.images[:200]:
        grey = 255 - np.pad(image.repeat(7, axis=0).repeat(7, axis=1), ((0, 3), (11, 40))).astype(np.float32)
        alike.append(np.corrcoef(ink_of(grey).ravel(), image.ravel())[0, 1])
    assert np.quantile(alike, 0.1) > 0.95  # some are a pixel further, for the faintest of their border is cut off


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a part of a PNG file."""
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def head(width: int, height: int) -> bytes:
    """Return the beginning of a PNG file, which says how large it is."""
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + bytes([8, 0, 0, 0, 0]))


def cut_off(path: Path) -> None:
    seven().save(path)
    path.write_bytes(path.read_bytes()[:-150])


def two_colours(paper: tuple[int, int, int], pen: tuple[int, int, int]) -> Image.Image:
    """Return a page whose halves have a colour each."""
    image = Image.new("RGB", (60, 40), paper)
    image.paste(pen, (0, 0, 30, 40))
    return image


FAINT = "{} is blank, or too faint: its pixels differ by {} of 255 in brightness, 8 are needed"

BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.absolute, "there is no file {path}"),
    "folder": (Path.mkdir, "{path} is no file: a picture is a PNG or JPEG file"),
    "text": (lambda path: path.write_text("7\n"), "{path} is no picture: a PNG or JPEG file is needed"),
    "gif": (lambda path: seven().save(path, "GIF"), "{path} is no picture: a PNG or JPEG file is needed"),
    "empty": (Path.touch, "{path} is no picture: a PNG or JPEG file is needed"),
    "blank": (lambda path: Image.new("RGB", (90, 90), "red").save(path), FAINT.format("{path}", 0)),
    "equally bright": (
        lambda path: two_colours((200, 0, 0), (0, 102, 0)).save(path), FAINT.format("{path}", 0)),
    "nearly blank": (
        lambda path: seven(paper=250, pen=245).save(path), FAINT.format("{path}", 5)),
    "nothing": (
        lambda path: Image.new("RGBA", (9, 9)).save(path), FAINT.format("{path}", 0)),
    "turning in a circle": (lambda path: path.symlink_to(path), "{path} cannot be read: Too many levels of symbolic"),
    "cut off": (cut_off, "{path} is damaged, or was cut off: image file is truncated"),
    # Nothing follows that could be decoded: the size alone is enough.
    "large": (
        lambda path: path.write_bytes(head(8192, 4097) + chunk(b"IDAT", b"")),
        "{path} has 8,192 x 4,097 pixels; up to 33,554,432 are read: make it smaller",
    ),
    "huge": (
        lambda path: path.write_bytes(head(100_000, 100_000) + chunk(b"IDAT", b"")),
        "{path} has more than 33,554,432 pixels, which is as many as are read",
    ),
}  # fmt: skip


def test_a_name_that_a_terminal_would_obey_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\x1b[31m\n.png")
    assert refusal(DataError, read_picture, path) == f"there is no file {tmp_path}/\\udcff\\x1b[31m\\n.png"


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_picture_of_a_digit_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    write, message = BAD[case]
    path = tmp_path / "a.png"
    write(path)
    assert refusal(DataError, read_picture, path).startswith(message.format(path=path))


def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 8
    paths = [
        saved(seven(), tmp_path / "a.png", exif=turned),
        saved(seven(), tmp_path / "a.jpg", exif=turned),
        saved(palette(), tmp_path / "b.png"),
    ]
    rng = np.random.default_rng(0)
    for whole in [path.read_bytes() for path in paths]:
        for _ in range(200):
            damaged = np.frombuffer(whole, np.uint8).copy()
            damaged[rng.integers(0, min(300, len(damaged)), 3)] = rng.integers(0, 256, 3)
            (tmp_path / "c").write_bytes(damaged.tobytes())
            try:
                ink = ink_of(read_picture(tmp_path / "c"))
            except DataError:
                continue
            assert ink.shape == (28, 28)
            assert 0 <= ink.min() <= ink.max() <= 1

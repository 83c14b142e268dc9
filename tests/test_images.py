"""Laws of lazy arrays and folders of images: pixels equal those of the files, whatever their mode and format, in memory
or a batch at a time; every bad file is refused by name, or left out and counted."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commanding import call
from parts import refusal_of
from PIL import Image, ImageOps

from latens import InputError
from latens.data import read, read_table
from latens.data.images.folder import ImageFiles, image_folder
from latens.data.lazy import Lazy, Subset, View
from latens.data.loader import ArrayLoader

rng = np.random.default_rng(0)
SHAPE = (5, 7)


def levels(*shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, image: Any, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


refusal = partial(refusal_of, image_folder)


# Lazy leaves


class Held(Lazy):
    """An array that acts as a lazy array."""

    def __init__(self, x: np.ndarray):
        self.x, self.shape, self.kind = x, x.shape, x.dtype

    def rows(self, index: np.ndarray) -> np.ndarray:
        return self.x[index]


INDEXES = [0, -1, slice(None), slice(3, 17, 2), slice(5, 5), [4, 4, -2], [], np.array([1, 0]), torch.tensor([2, 9, 2]),
           torch.tensor(3), np.int64(4), np.arange(23) % 3 == 0, torch.arange(23) > 20]  # fmt: skip


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64", "int64"])
@pytest.mark.parametrize("index", INDEXES, ids=range(len(INDEXES)))
def test_indexing_is_that_of_the_tensor(dtype: str, index: Any):
    x = rng.integers(0, 200, (23, 3, 2)).astype(dtype)
    dense, lazy = torch.from_numpy(x), Held(x)
    wanted = dense[torch.as_tensor(index, dtype=torch.long) if isinstance(index, list) else index]
    assert lazy[index].dtype == dense.dtype == lazy.dtype
    assert torch.equal(lazy[index], wanted)
    assert (lazy.shape, lazy.ndim, lazy.dim(), lazy.numel(), len(lazy)) == ((23, 3, 2), 3, 3, 138, 23)
    assert lazy[0].numel() == 6 and lazy[:1].shape == (1, 3, 2)
    rows = [20, 1, 1, 5]
    for view in (Subset(lazy, rows), Subset(Subset(lazy, [5, 1, 20]), [2, 1, 1, 0])):
        assert torch.equal(view[:], dense[rows]) and torch.equal(view[[3, 0]], dense[[5, 20]])
        assert view.shape == (4, 3, 2) and view.lazy is lazy
    seen = View(lazy, (1, 6), "float32")
    assert torch.equal(seen[[3, 4]], dense[[3, 4]].float().reshape(2, 1, 6)) and seen.dtype == torch.float32


def test_what_cannot_be_indexed_is_refused():
    lazy = Held(levels(5, 2))
    for index in (5, -6, [0, 7], torch.tensor([-9]), np.ones(4, bool)):
        with pytest.raises(IndexError):
            lazy[index]
    for index in (1.5, (0, 1), [[0]], "a"):
        with pytest.raises(TypeError):
            lazy[index]  # type: ignore[index]
    with pytest.raises(TypeError, match="one batch at a time"):
        np.asarray(lazy)
    with pytest.raises(ValueError, match="shape"):
        View(lazy, (3,))


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_loader_gives_the_batches_of_the_dense_tensor(shuffle: bool):
    x, c = levels(23, 3, 4), torch.arange(23)
    dense = ArrayLoader({"x": torch.from_numpy(x)}, {"c": c}, batch_size=5, seed=3, shuffle=shuffle)
    lazy = ArrayLoader({"x": Held(x)}, {"c": c}, batch_size=5, seed=3, shuffle=shuffle)
    part = ArrayLoader({"x": Subset(Held(x[::-1]), slice(None, None, -1))}, {"c": c}, batch_size=5, seed=3,
                       shuffle=shuffle)  # fmt: skip
    assert len(dense) == len(lazy)
    for epoch in range(3):
        for start in (0, 2):
            batches = [list(loader.batches(epoch, start)) for loader in (dense, lazy, part)]
            for a, *others in zip(*batches):
                for b in others:
                    assert torch.equal(a.x["x"], b.x["x"]) and a.x["x"].dtype == b.x["x"].dtype
                    assert torch.equal(a.rows, b.rows) and torch.equal(a.c["c"], b.c["c"])


# Modes and formats


def palette_image() -> Image.Image:
    image = Image.fromarray(levels(*SHAPE) % 4).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9] + [0] * 756)
    return image


def make(mode: str) -> Image.Image:
    if mode == "1":
        return Image.fromarray((levels(*SHAPE) > 127) * np.uint8(255)).convert("1")
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, SHAPE).astype(np.uint16))
    if mode == "P":
        return palette_image()
    bands = len(Image.new(mode, (1, 1)).getbands())
    return Image.fromarray(np.squeeze(levels(*SHAPE, bands)), mode=None if bands in (1, 3) else mode)


CASES = [("png", m) for m in ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")] + [
    ("tif", m) for m in ("1", "L", "LA", "I;16", "P", "RGB", "RGBA", "CMYK")
] + [("bmp", m) for m in ("1", "L", "P", "RGB")] + [("gif", m) for m in ("L", "P")] + [
    ("jpg", m) for m in ("L", "RGB", "CMYK")] + [("webp", m) for m in ("RGB", "RGBA")]  # fmt: skip


@pytest.mark.parametrize(("extension", "mode"), CASES)
def test_every_mode_and_format_is_read_as_pil_converts_it(tmp_path: Path, extension: str, mode: str):
    """The second route is PIL's own conversion, with transparency composited by hand."""
    images = [make(mode) for _ in range(3)]
    paths = [save(tmp_path / f"{i}.{extension}", image, **({"lossless": True} if extension == "webp" else {}))
             for i, image in enumerate(images)]  # fmt: skip
    found, lazy = image_folder(tmp_path), image_folder(tmp_path, in_memory=0)
    assert isinstance(found.x, np.ndarray) and isinstance(lazy.x, ImageFiles)
    assert torch.equal(lazy.x[:], torch.from_numpy(found.x)) and lazy.fingerprint == found.fingerprint
    assert found.labels is None and found.row_names == tuple(path.name for path in paths)
    if mode == "I;16":
        wanted = [np.asarray(image) for image in images]
    elif mode == "1":
        wanted = [np.asarray(image).astype(np.uint8) for image in images]
    elif mode == "LA":
        gray = [np.moveaxis(np.asarray(image).astype(float), -1, 0) for image in images]
        wanted = [v * a / 255 + 255 - a for v, a in gray]
    elif mode == "RGBA":
        wanted = [np.moveaxis(np.asarray(Image.open(path).convert("RGBA")), -1, 0) for path in paths]
    elif mode == "L":
        wanted = [np.asarray(Image.open(path).convert("L")) for path in paths]
    else:
        wanted = [np.moveaxis(np.asarray(Image.open(path).convert("RGB")), -1, 0) for path in paths]
    assert found.x.dtype == (np.uint16 if mode == "I;16" else np.uint8)
    assert found.x.shape == np.shape(wanted)
    assert np.abs(found.x.astype(float) - np.array(wanted)).max() <= (1 if mode == "LA" else 0)


def test_a_mixed_folder_is_read_in_a_common_mode(tmp_path: Path):
    def mixed(name: str, **images: Any) -> Any:
        for stem, image in images.items():
            save(tmp_path / name / f"{stem}.png", image)
        return image_folder(tmp_path / name)

    gray, deep, colour = levels(*SHAPE), make("I;16"), levels(*SHAPE, 3)
    clear = levels(*SHAPE, 4)
    found = mixed("gray and deep", a=gray, b=deep)
    assert found.x.dtype == np.uint8 and np.array_equal(found.x, [gray, np.asarray(deep) >> 8])
    assert any("16 bits" in note for note in found.notes)
    found = mixed("gray and colour", a=gray, b=colour)
    assert np.array_equal(found.x, [np.stack([gray] * 3), np.moveaxis(colour, -1, 0)])
    assert found.notes == ["1 grey and 1 colour images: all are read in colour"]
    found = mixed("one clear", a=colour, b=clear)
    alpha = clear[..., 3:] / 255
    laid = clear[..., :3] * alpha + 255 * (1 - alpha)
    assert found.x.shape == (2, 3, *SHAPE) and np.abs(np.moveaxis(found.x[1], 0, -1) - laid).max() <= 1
    assert found.notes == ["1 image with transparency laid on white"]
    found = mixed("all clear", a=clear, b=Image.fromarray(levels(*SHAPE, 2), "LA"))
    assert found.x.shape == (2, 4, *SHAPE) and np.array_equal(np.moveaxis(found.x[0], 0, -1), clear)
    found = mixed("black and white, and gray", a=gray, b=make("1"))
    assert set(np.unique(found.x[1])) == {0, 255}


def test_a_palette_may_have_transparency(tmp_path: Path):
    save(tmp_path / "a.png", palette_image(), transparency=bytes([255, 0, 128]))
    found = image_folder(tmp_path)
    wanted = np.asarray(Image.open(tmp_path / "a.png").convert("RGBA"))
    assert np.array_equal(np.moveaxis(found.x[0], 0, -1), wanted)
    save(tmp_path / "b.png", levels(*SHAPE))
    laid = np.moveaxis(image_folder(tmp_path).x[0], 0, -1)
    index = np.asarray(Image.open(tmp_path / "a.png"))
    assert (laid[index == 1] == 255).all() and (laid[index == 0] == [255, 0, 0]).all()
    gray = levels(*SHAPE)
    for extension in ("png", "tif", "bmp", "gif"):  # a palette of greys gives a grey image
        image = Image.fromarray(255 - gray).convert("P")
        image.putpalette(np.repeat(np.arange(255, -1, -1, dtype=np.uint8), 3).tobytes())
        save(tmp_path / extension / f"a.{extension}", image)
        assert np.array_equal(image_folder(tmp_path / extension).x, [gray]), extension


@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, extension: str, turn: int):
    """Images are blocks of 8 x 8, which JPEG preserves; the second routes are PIL, and numpy for orientation 6."""
    blocks = np.kron(np.array([[0, 90, 200], [40, 130, 255]], np.uint8), np.ones((8, 8), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = turn
    image = Image.fromarray(np.stack([blocks] * 3, -1))
    options: dict[str, Any] = {"lossless": True} if extension == "webp" else {}
    path = save(tmp_path / f"a.{extension}", image, exif=exif, **options)
    found = image_folder(tmp_path).x[0]
    with Image.open(path) as opened:
        wanted = np.moveaxis(np.asarray(ImageOps.exif_transpose(opened).convert("RGB")), -1, 0)
    assert found.shape == (3, 16, 24) if turn < 5 else (3, 24, 16)
    assert np.array_equal(found, wanted)
    if turn == 6:
        assert np.abs(found[0].astype(int) - np.rot90(blocks, -1)).max() <= 3


def test_damaged_exif_is_no_reason_to_refuse_the_pixels(tmp_path: Path):
    x = levels(*SHAPE)
    save(tmp_path / "a.png", x, exif=b"Exif\0\0II*\0nonsense")
    assert np.array_equal(image_folder(tmp_path).x, [x])


def test_scaled_images_of_every_mode_keep_their_kind_of_values(tmp_path: Path):
    for mode, shape in {"1": (), "LA": (), "RGBA": (4,), "RGB": (3,), "P": (3,), "I;16": ()}.items():
        folder = tmp_path / mode.replace(";", "")
        for i in range(2):
            save(folder / f"{i}.png", make(mode))
        found, lazy = image_folder(folder, size=(4, 6)), image_folder(folder, size=(4, 6), in_memory=0)
        assert found.x.shape == (2, *shape, 4, 6)
        assert torch.equal(lazy.x[:], torch.from_numpy(found.x))
        assert mode != "1" or set(np.unique(found.x)) <= {0, 1}
        flat = Image.new(mode, (9, 9), 1 if mode == "1" else 40)
        save(tmp_path / "flat" / f"{folder.name}.png", flat)  # a uniform image stays uniform
        one = image_folder(tmp_path / "flat", size=3).x[0]
        assert (one == one[..., :1, :1]).all()
        (tmp_path / "flat" / f"{folder.name}.png").unlink()


def test_the_first_of_several_frames_is_read(tmp_path: Path):
    frames = [Image.fromarray(np.full(SHAPE, value, np.uint8)) for value in (10, 200)]
    for extension in ("gif", "tif", "webp", "png"):
        options: dict[str, Any] = {"lossless": True} if extension == "webp" else {}
        save(tmp_path / extension / f"a.{extension}", frames[0], save_all=True, append_images=frames[1:], **options)
        assert (image_folder(tmp_path / extension).x == 10).all(), extension


def test_a_file_is_recognised_by_its_bytes_and_is_never_a_script(tmp_path: Path):
    x = levels(*SHAPE)
    save(tmp_path / "a.jpg", x, format="PNG")
    assert np.array_equal(image_folder(tmp_path).x[0], x)
    (tmp_path / "b.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 7 5\nshowpage\n")
    assert "b.png is not an image" in refusal(tmp_path)


# Sizes


def test_images_of_several_sizes_need_a_size(tmp_path: Path):
    for name, (height, width) in {"a": (5, 7), "b": (5, 7), "c": (8, 6), "d": (9, 9)}.items():
        save(tmp_path / f"{name}.png", levels(height, width))
    message = refusal(tmp_path)
    assert "3 sizes, 5x7 (2, as a.png), 8x6 (1, as c.png), 9x9 (1, as d.png):" in message
    assert "--size 5x7 (height x width)" in message
    found = image_folder(tmp_path, size=(4, 6))
    assert found.x.shape == (4, 4, 6) and "4 images scaled to cover 4x6" in found.notes[0]
    same = image_folder(tmp_path, size=(5, 7))
    assert np.array_equal(same.x[0], np.asarray(Image.open(tmp_path / "a.png")))
    assert image_folder(tmp_path, size=3).x.shape == (4, 3, 3)
    assert torch.equal(image_folder(tmp_path, size=3, in_memory=0).x[:], torch.tensor(image_folder(tmp_path, size=3).x))
    assert len({image_folder(tmp_path, size=s).fingerprint for s in (3, 4, (3, 4))}) == 3
    for size in (0, -1, 2.5, (1, 2, 3), (4, 0), True, "4x4"):
        with pytest.raises(InputError, match="size must be"):
            image_folder(tmp_path, size=size)  # type: ignore[arg-type]


@pytest.mark.parametrize("deep", [False, True])
def test_scaling_covers_and_crops_about_the_centre(tmp_path: Path, deep: bool):
    """A ramp of 60 x 20 pixels becomes 10 x 10: its sides are halved, which keeps the aspect, and only the middle third
    is kept. The second route is the mean over 2 x 2 pixels, which equals Lanczos on a ramp away from the ends."""
    scale = 1000 if deep else 4
    ramp = np.repeat(np.arange(60)[:, None] * scale, 20, 1)
    save(tmp_path / "a.png", ramp.astype(np.uint16 if deep else np.uint8))
    found = image_folder(tmp_path, size=10).x
    wanted = ramp[20:40].reshape(10, 2, 10, 2).mean((1, 3))
    assert found.dtype == (np.uint16 if deep else np.uint8)
    assert np.abs(found[0] - wanted).max() <= (0.02 * scale if deep else 1)


# Folders


def test_images_are_sorted_and_labelled_and_other_files_ignored(tmp_path: Path):
    for name in ("b/2.png", "b/10.png", "B/x.PNG", "a-/1.png", "a/deep/er/1.png", "a/.hidden.png", ".git/1.png"):
        save(tmp_path / name, levels(*SHAPE), format="PNG")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "a" / "pipe.png").symlink_to("nowhere")
    found = image_folder(tmp_path)
    assert found.row_names == ("B/x.PNG", "a/deep/er/1.png", "a-/1.png", "b/10.png", "b/2.png")
    assert found.labels.tolist() == [0, 1, 2, 3, 3] and found.label_names == ("B", "a", "a-", "b")
    assert found.notes == ["2 files that are not images were ignored"] and found.skipped == []
    save(tmp_path / "top.png", levels(*SHAPE))
    assert image_folder(tmp_path).labels is None
    assert image_folder(tmp_path / "b").labels is None


def test_pipes_and_circles_of_links_do_not_hang(tmp_path: Path):
    save(tmp_path / "a" / "1.png", levels(*SHAPE))
    save(tmp_path / "b" / "1.png", levels(*SHAPE))
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "0").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "link.png").symlink_to(tmp_path / "a" / "1.png")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    found = image_folder(tmp_path)
    assert found.row_names == ("a/1.png", "b/1.png", "b/link.png")
    assert np.array_equal(found.x[0], found.x[2])


def test_the_fingerprint_is_of_names_and_contents(tmp_path: Path):
    x = levels(*SHAPE)
    prints = set()
    for i, (name, value) in enumerate([("a", x), ("b", x), ("a", x + np.uint8(1))]):
        save(tmp_path / str(i) / f"{name}.png", value)
        prints.add(image_folder(tmp_path / str(i)).fingerprint)
    save(tmp_path / "again" / "a.png", x)
    assert len(prints) == 3 and image_folder(tmp_path / "again").fingerprint in prints


def test_many_files_are_read_with_progress_and_give_the_batches_of_an_array(tmp_path: Path):
    values = levels(150, *SHAPE)
    for i, x in enumerate(values):
        save(tmp_path / f"{i:03}.bmp", x)
    seen: list[tuple[int, int]] = []
    found = image_folder(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert np.array_equal(found.x, values) and seen == [(64, 150), (128, 150), (150, 150)]
    lazy = image_folder(tmp_path, in_memory=0).x
    dense, late = (ArrayLoader(x, batch_size=32, seed=1) for x in (torch.from_numpy(found.x), lazy))
    for epoch in range(2):
        assert all(torch.equal(a.x, b.x) for a, b in zip(dense.batches(epoch), late.batches(epoch)))


# Bad files


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def forged(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def encoded(extension: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(levels(40, 60, 3)).save(file, {"jpg": "jpeg", "tif": "tiff"}.get(extension, extension))
    return file.getvalue()


@pytest.mark.parametrize(
    ("width", "height", "text"),
    [(100_000, 100_000, "declares 10,000,000,000 pixels"), (10_000, 10_000, "declares 100,000,000 pixels"),
     (5, 2**31 - 1, "declares 10,737,418,235 pixels"), (0, 5, "")],
)  # fmt: skip
def test_absurd_sizes_are_refused_from_the_header(tmp_path: Path, width: int, height: int, text: str):
    (tmp_path / "bomb.png").write_bytes(forged(width, height))
    message = refusal(tmp_path)
    assert "bomb.png" in message and text in message
    assert not text or f"limit of {Image.MAX_IMAGE_PIXELS:,}" in message
    save(tmp_path / "good.png", levels(*SHAPE))
    assert image_folder(tmp_path, skip_bad=True).row_names == ("good.png",)


@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "bmp", "gif", "webp"])
def test_truncated_files_are_refused_by_name_or_left_out(tmp_path: Path, extension: str):
    whole = encoded(extension)
    (tmp_path / f"a.{extension}").write_bytes(whole)
    for part in (0, 3, 20, len(whole) // 2, len(whole) - len(whole) // 8):
        (tmp_path / f"cut.{extension}").write_bytes(whole[:part])
        assert f"cut.{extension}" in refusal(tmp_path)
        found = image_folder(tmp_path, skip_bad=True)
        assert found.row_names == (f"a.{extension}",) and found.x.shape == (1, 3, 40, 60)
        assert len(found.skipped) == 1 and "1 damaged file left out, the first:" in found.notes[-1]
        lazy = image_folder(tmp_path, skip_bad=True, in_memory=0)
        assert lazy.row_names == found.row_names and torch.equal(lazy.x[:], torch.from_numpy(found.x))
        assert lazy.fingerprint == found.fingerprint


def test_a_lazy_file_that_is_damaged_or_changes_is_named_when_it_is_read(tmp_path: Path):
    for name in "abc":
        save(tmp_path / f"{name}.png", levels(40, 40))
    lazy = image_folder(tmp_path, in_memory=0).x
    save(tmp_path / "b.png", levels(41, 40))
    with pytest.raises(InputError, match=r"b.png has changed, as it is 41x40 but was 40x40"):
        lazy[[0, 1]]
    (tmp_path / "b.png").write_bytes((tmp_path / "c.png").read_bytes()[:700])
    with pytest.raises(InputError, match=r"b.png cannot be decoded"):
        lazy[1]
    (tmp_path / "b.png").unlink()
    with pytest.raises(InputError, match=r"b.png"):
        lazy[1]
    assert lazy[[0, 2]].shape == (2, 40, 40)


def test_folders_without_images_are_refused(tmp_path: Path):
    assert "is not a folder" in refusal(tmp_path / "absent")
    assert "holds no images (.png, .jpg" in refusal(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    assert "1 other file" in refusal(tmp_path)
    (tmp_path / "a.png").write_text("a")
    assert "--skip-bad" in refusal(tmp_path)
    assert "no image that can be read" in refusal(tmp_path, skip_bad=True)
    (tmp_path / "a.png").unlink()
    Image.fromarray(np.zeros(SHAPE, np.float32)).save(tmp_path / "a.tif")
    assert "32-bit" in refusal(tmp_path)


@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "bmp", "gif", "webp"])
def test_damaged_bytes_never_escape_as_another_error(tmp_path: Path, extension: str):
    random = np.random.default_rng(5)
    good = encoded(extension)
    for trial in range(40):
        content = bytearray(good)
        for _ in range(1 + trial % 4):
            content[random.integers(min(len(good), 200 if trial % 2 else len(good)))] = random.integers(256)
        (tmp_path / f"a.{extension}").write_bytes(content)
        try:
            image_folder(tmp_path)
        except InputError as error:
            assert "\n" not in str(error) and f"a.{extension}" in str(error)


def test_reading_images_needs_no_torch():
    code = "import sys, latens.data.images.folder; print({'torch', 'PIL'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"


# Pages


def stack_of(path: Path, pages: np.ndarray, **more: object) -> None:
    """The pages of one file."""
    first, *rest = (Image.fromarray(page) for page in pages)
    first.save(path, save_all=True, append_images=rest, **more)


STACKS = {"tif": {}, "gif": {}, "png": {}, "webp": {"lossless": True}}


@pytest.mark.parametrize("extension", STACKS)
def test_pages_are_rows_or_are_reported_as_left_out(extension: str, tmp_path: Path) -> None:
    shape = (5, 6, 7, 3) if extension == "webp" else (5, 6, 7)
    pages = np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")
    pages[..., 0, 0] = 255 if extension == "webp" else pages[..., 0, 0]
    inside = pages if pages.ndim == 3 else np.moveaxis(pages, -1, 1)
    for folder in ("a", "b"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        stack_of(tmp_path / "data" / folder / f"s.{extension}", pages, **STACKS[extension])
    one = f"a/s.{extension}"
    found = read(tmp_path / "data")
    assert np.array_equal(found.x, inside[[0, 0]]) and found.row_names == (one, f"b/s.{extension}")
    read_first = "2 files with several pages, only the first page was read, and 8 pages were left out"
    assert f"{read_first} (4 of {one})" in found.notes[0]
    whole, lazy = (image_folder(tmp_path / "data", pages=True, in_memory=size) for size in (1 << 30, 0))
    assert np.array_equal(whole.x, np.concatenate([inside, inside]))
    assert np.array_equal(lazy.x.rows(np.array([7, 0, 7, 4])), inside[[2, 0, 2, 4]])
    assert whole.row_names[:2] == (f"{one}#1", f"{one}#2") and whole.labels.tolist() == [0] * 5 + [1] * 5
    assert whole.fingerprint == lazy.fingerprint and not whole.notes
    stack = read(tmp_path / "data" / one)
    assert np.array_equal(stack.x, inside) and stack.row_names[4] == f"s.{extension}#5"


def test_a_damaged_page_and_another_size_are_named(tmp_path: Path) -> None:
    first, second = (Image.new("L", size, 3) for size in ((6, 5), (4, 5)))
    first.save(tmp_path / "s.tif", save_all=True, append_images=[first, second])
    with pytest.raises(InputError, match=r"5x6 \(2, as s.tif#1\), 5x4 \(1, as s.tif#3\): .*--size 5x6"):
        read(tmp_path / "s.tif")
    assert read(tmp_path / "s.tif", reading={"size": (5, 6)}).x.shape == (3, 5, 6)


@pytest.mark.parametrize("extension", ["csv", "parquet", "npy", "npz"])
def test_codes_and_scores_carry_the_names_of_files(extension: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "im").mkdir()
    stack_of(tmp_path / "im" / "b.tif", rng.integers(0, 256, (3, 4, 4), dtype="uint8"))
    for name in ("a", "c"):
        Image.fromarray(rng.integers(0, 256, (4, 4), dtype="uint8")).save(tmp_path / "im" / f"{name}.png")
    wanted = ["a.png", "b.tif#1", "b.tif#2", "b.tif#3", "c.png"]
    fitting = ("fit", tmp_path / "im", "--pages", "--epochs", 1, "--latent-dim", 2, "--out", tmp_path / "run")
    assert call(*fitting).status == 0
    for command in ("encode", "score", "reconstruct"):
        out = tmp_path / f"{command}.{extension}"
        assert call(command, tmp_path / "run", tmp_path / "im", "--out", out).status == 0
        if extension == "npy":
            assert (tmp_path / f"{command}.files.txt").read_text().splitlines() == wanted
        elif extension == "npz":
            assert np.load(out)["files"].tolist() == wanted
        else:
            table = read_table(out)
            assert table.column_names[-1] == "file" and table["file"].to_pylist() == wanted

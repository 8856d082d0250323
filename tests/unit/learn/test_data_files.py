"""A user's own data: arrays in one file, parquet, folders of images."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from hocket.errors import DataError
from hocket.learn.data import Examples, Folder, Lookup, Npz, Parquet, Source, Split, load

SIDE = 32


def read(source: Source, folder: Path, split: Split = "train") -> Examples:
    return load(source, split, seed=1, lookup=Lookup((folder,)))


def coloured(level: int, side: int = SIDE) -> Image.Image:
    """A plain image, red as `level`."""
    return Image.new("RGB", (side, side), (level, 0, 255))


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=95)
    return buffer.getvalue()


def write_parquet(
    file: Path, images: list[bytes | None], labels: object, *, plain: bool = False
) -> None:
    """In the layout of Hugging Face, or with plain binary images."""
    column: list[object] = list(images) if plain else [{"bytes": i, "path": None} for i in images]
    kind = pa.binary() if plain else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(column, kind), "label": pa.array(labels)})
    pq.write_table(table, file, row_group_size=4)


# --- npz


def test_an_npz_file_in_the_layout_of_mnist(tmp_path: Path) -> None:
    images = np.zeros((6, 28, 28), np.uint8)
    images[2, 3, 4] = 255
    labels = np.arange(6, dtype=np.uint8)
    np.savez(
        tmp_path / "mnist.npz",
        train_images=images,
        train_labels=labels,
        test_images=images[:2],
        test_labels=labels[:2],
    )
    train = read(Npz("mnist.npz"), tmp_path)
    assert train.inputs.shape == (6, 1, 28, 28)
    assert train.inputs.sum().item() == train.inputs[2, 0, 3, 4].item() == 1.0
    assert train.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert len(read(Npz("mnist.npz"), tmp_path, "test")) == 2


def test_a_missing_array_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3)), y=np.zeros(2, int))
    own = Npz("x.npz", train_inputs="x", train_labels="y")
    assert len(read(own, tmp_path)) == 2
    with pytest.raises(DataError, match=r"x.npz holds no array 'train_images', only \['x', 'y'\]"):
        read(Npz("x.npz"), tmp_path)
    with pytest.raises(DataError, match=r"no array 'test_images'.*data.test_share"):
        read(own, tmp_path, "test")


def test_inputs_and_labels_of_unequal_number_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train_images=np.zeros((3, 2)), train_labels=np.zeros(2, int))
    with pytest.raises(DataError, match=r"'train_images' has shape \(3, 2\).*holds 2 labels"):
        read(Npz("x.npz"), tmp_path)


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "single.npy", np.zeros(3))
    np.savez(tmp_path / "objects.npz", train_images=np.array([{}]), train_labels=np.zeros(1, int))
    (tmp_path / "empty.npz").touch()
    np.savez_compressed(tmp_path / "whole.npz", train_images=np.zeros((9, 9)), train_labels=[1] * 9)
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:-40])
    squeezed = bytearray(whole)
    squeezed[60:90] = bytes(30)
    (tmp_path / "damaged.npz").write_bytes(squeezed)
    entry = whole.index(b"PK\x01\x02")  # the directory's first: flags at 8, way of packing at 10
    for name, at, value in (("secret.npz", entry + 8, 1), ("odd.npz", entry + 10, 99)):
        changed = bytearray(whole)
        changed[at] = value
        (tmp_path / name).write_bytes(changed)
    for name in (
        "text.npz",
        "single.npy",
        "objects.npz",
        "empty.npz",
        "cut.npz",
        "damaged.npz",
        "secret.npz",
        "odd.npz",
    ):
        with pytest.raises(DataError, match=f"{name} cannot be read as .npz"):
            read(Npz(name), tmp_path)


# --- parquet


def test_an_empty_file_or_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.parquet").touch()
    with pytest.raises(DataError, match=r"empty\.parquet cannot be read as parquet"):
        read(Parquet("empty.parquet"), tmp_path)
    write_parquet(tmp_path / "blank.parquet", [b""] * 5, [0] * 5)
    with pytest.raises(DataError, match=r"blank\.parquet, row \d, column 'image' is no image"):
        read(Parquet("blank.parquet"), tmp_path)
    (tmp_path / "folder" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match="folder/a holds no images"):
        read(Folder("folder"), tmp_path)
    for number in range(5):
        (tmp_path / "folder" / "a" / f"{number}.png").touch()
    with pytest.raises(DataError, match=r"a/\d\.png is no image"):
        read(Folder("folder"), tmp_path)


@pytest.mark.parametrize("plain", [False, True])
def test_parquet_with_encoded_images(tmp_path: Path, plain: bool) -> None:
    levels = [0, 40, 80, 120, 160, 200]
    images: list[bytes | None] = [encoded(coloured(level)) for level in levels]
    write_parquet(tmp_path / "train.parquet", images, [0, 1, 2, 0, 1, 2], plain=plain)
    write_parquet(tmp_path / "test.parquet", images[:1], [2], plain=plain)
    source = Parquet("train.parquet", test="test.parquet")
    train, test = read(source, tmp_path), read(source, tmp_path, "test")
    assert train.inputs.shape == (6, 3, SIDE, SIDE)
    red, _, blue = train.inputs.mean(dim=(2, 3)).T
    assert torch.allclose(red, torch.tensor(levels) / 255, atol=0.02)  # JPEG is lossy
    assert torch.allclose(blue, torch.ones(6), atol=0.02)
    assert train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert test.labels.tolist() == [2]


def test_parquet_reads_only_the_rows_chosen(tmp_path: Path) -> None:
    """Row 0 is no image at all: it would be an error if it were decoded."""
    images: list[bytes | None] = [b"junk", *[encoded(coloured(20 * i), "PNG") for i in range(1, 9)]]
    write_parquet(tmp_path / "x.parquet", images, list(range(9)))
    write_parquet(tmp_path / "y.parquet", images[1:2], [0])
    source, lookup = Parquet("x.parquet", test="y.parquet"), Lookup((tmp_path,))
    some = load(source, "train", lookup=lookup, choose=lambda _: torch.tensor([7, 2, 5]))
    assert some.labels.tolist() == [7, 2, 5]
    assert (some.inputs[:, 0, 0, 0] * 255).round().tolist() == [140.0, 40.0, 100.0]
    with pytest.raises(DataError, match=r"x.parquet, row 0, column 'image' is no image"):
        load(source, "train", lookup=lookup)


def test_parquet_without_a_test_file_holds_a_share_out(tmp_path: Path) -> None:
    images: list[bytes | None] = [encoded(coloured(9))] * 10
    write_parquet(tmp_path / "x.parquet", images, list(range(10)))
    source = Parquet("x.parquet", test_share=0.3)
    train, test = read(source, tmp_path), read(source, tmp_path, "test")
    assert len(test) == 3
    assert sorted(train.labels.tolist() + test.labels.tolist()) == list(range(10))


def test_images_are_made_grey_and_resized_when_told(tmp_path: Path) -> None:
    images: list[bytes | None] = [encoded(coloured(255, side), "PNG") for side in (8, 20)]
    write_parquet(tmp_path / "x.parquet", images, [0, 1])
    write_parquet(tmp_path / "y.parquet", images, [0, 1])
    source = Parquet("x.parquet", test="y.parquet", mode="grayscale", size=16)
    grey = read(source, tmp_path)
    assert grey.inputs.shape == (2, 1, 16, 16)
    # ITU-R 601: 0.299 of red and 0.114 of blue
    assert torch.allclose(grey.inputs, torch.full((2, 1, 16, 16), 0.413), atol=0.003)
    with pytest.raises(DataError, match=r"is 20x20 pixels, .* is 8x8; set data.size"):
        read(Parquet("x.parquet", test="y.parquet"), tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Parquet("x.parquet", image="img"), r"no column 'img'; it has \['image', 'label'\]"),
        (Parquet("x.parquet", label="class"), "no column 'class'"),
        (Parquet("x.parquet", image="label"), "column 'label' has type int64"),
        (Parquet("names.parquet"), "column 'label': values have type .*; numbers are needed"),
        (Parquet("gaps.parquet"), "column 'label' has 1 empty rows"),
        (Parquet("blank.parquet"), "row 1, column 'image' is empty"),
        (Parquet("text.parquet"), "text.parquet cannot be read as parquet"),
        (Parquet("none.parquet"), "no data at 'none.parquet'.*HOCKET_DATA"),
    ],
    ids=["image", "label", "type", "names", "gaps", "blank", "text", "missing"],
)
def test_parquet_says_what_is_wrong_with_it(tmp_path: Path, source: Parquet, message: str) -> None:
    image = encoded(coloured(1))
    write_parquet(tmp_path / "x.parquet", [image] * 2, [0, 1])
    write_parquet(tmp_path / "names.parquet", [image] * 2, ["cat", "dog"])
    write_parquet(tmp_path / "gaps.parquet", [image] * 2, [0, None])
    write_parquet(tmp_path / "blank.parquet", [image, None, image, image, image], [0] * 5)
    (tmp_path / "text.parquet").write_text("hello")
    whole = replace(source, test=source.train)  # every row is in either part
    with pytest.raises(DataError, match=message):
        read(whole, tmp_path)


# --- folder


def make_folder(root: Path) -> None:
    for name, level in (("bee", 200), ("ant", 100)):
        (root / name).mkdir(parents=True)
        for number in range(3):
            coloured(level + number, side=10).save(root / name / f"{number}.png")
    (root / "bee" / "notes.txt").write_text("no image")
    (root / ".hidden").mkdir()


def test_a_folder_per_class_in_alphabetical_order(tmp_path: Path) -> None:
    make_folder(tmp_path / "train")
    make_folder(tmp_path / "test")
    found = read(Folder("train", test="test", size=10), tmp_path)
    assert found.inputs.shape == (6, 3, 10, 10)
    assert (found.inputs[:, 0, 0, 0] * 255).round().tolist() == [100, 101, 102, 200, 201, 202]
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(read(Folder("train", test="test"), tmp_path, "test")) == 6
    assert read(Folder("train", test="test", mode="grayscale"), tmp_path).input_shape == (1, 32, 32)


def test_a_folder_without_a_test_folder_holds_a_share_out(tmp_path: Path) -> None:
    make_folder(tmp_path / "train")
    source = Folder("train", test_share=0.5)
    assert len(read(source, tmp_path)) == len(read(source, tmp_path, "test")) == 3


def test_a_folder_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    make_folder(tmp_path / "train")
    make_folder(tmp_path / "other")
    (tmp_path / "other" / "bee").rename(tmp_path / "other" / "wasp")
    with pytest.raises(DataError, match=r"wasp names a class that .* lacks.*\['ant', 'bee'\]"):
        read(Folder("train", test="other"), tmp_path, "test")
    (tmp_path / "train" / "cow").mkdir()
    with pytest.raises(DataError, match="cow holds no images"):
        read(Folder("train"), tmp_path)
    (tmp_path / "train" / "cow" / "1.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"1.png is no image that pillow can read"):
        read(Folder("train", test="train"), tmp_path)
    with pytest.raises(DataError, match="has no sub-folders"):
        read(Folder("train/ant"), tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        read(Folder("train/ant/0.png"), tmp_path)
    with pytest.raises(DataError, match=r"data.size is 0"):
        Folder("train", size=0)

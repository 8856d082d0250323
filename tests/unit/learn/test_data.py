"""Parts of a source: who is held out, how many, and how inputs are scaled."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from hocket.errors import DataError
from hocket.learn.data import Digits, Examples, Lookup, Normalisation, Npz, load
from hocket.learn.data.arrays import as_inputs, as_labels
from hocket.learn.data.digits import read_digits


def numbered(folder: Path, count: int = 50) -> Npz:
    """Inputs that carry their own row number, labels 0..4 in turn."""
    rows = np.arange(count)
    np.savez(
        folder / "rows.npz",
        train_images=np.stack([rows, rows], axis=1).astype(np.float32),
        train_labels=rows % 5,
    )
    return Npz("rows.npz", test_share=0.2)


def rows(examples: Examples) -> list[int]:
    return [int(row) for row in examples.inputs[:, 0]]


@cache
def known_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - seconds, for whoever runs any test

    known = load_digits()
    return known.data, known.target


def test_the_packaged_digits_are_those_of_scikit_learn() -> None:
    for ours, known in zip(read_digits(), known_digits(), strict=True):
        assert np.array_equal(ours, known)


def test_digits_lie_between_0_and_1_and_are_split_once() -> None:
    train, test = load(Digits(), "train", seed=1), load(Digits(), "test", seed=1)
    assert train.input_shape == test.input_shape == (1, 8, 8)
    assert (len(train), len(test)) == (1438, 359)
    assert train.inputs.dtype == torch.float32
    assert train.labels.dtype == torch.int64
    assert (train.inputs.min().item(), train.inputs.max().item()) == (0.0, 1.0)
    both = torch.cat([train.inputs, test.inputs]).flatten(1)
    stored = torch.from_numpy(known_digits()[0] / 16).float()
    assert sorted(both.tolist()) == sorted(stored.tolist())


def test_the_held_out_part_follows_from_the_seed(tmp_path: Path) -> None:
    source, lookup = numbered(tmp_path), Lookup((tmp_path,))
    train, test = (load(source, part, seed=1, lookup=lookup) for part in ("train", "test"))
    assert sorted(rows(train) + rows(test)) == list(range(50))
    assert len(test) == 10
    assert rows(load(source, "test", seed=1, lookup=lookup)) == rows(test)
    assert rows(load(source, "test", seed=2, lookup=lookup)) != rows(test)


def test_a_limit_picks_at_random_but_always_the_same(tmp_path: Path) -> None:
    numbered(tmp_path)
    source = Npz("rows.npz", test_share=0.2, limit=7)
    some = rows(load(source, "train", seed=1, lookup=Lookup((tmp_path,))))
    assert len(some) == 7
    assert some == rows(load(source, "train", seed=1, lookup=Lookup((tmp_path,))))
    assert some != list(range(7))


def test_only_what_is_chosen_by_its_label_is_read(tmp_path: Path) -> None:
    def threes(labels: Tensor) -> Tensor:
        return (labels == 3).nonzero().flatten()

    found = load(numbered(tmp_path), "train", lookup=Lookup((tmp_path,)), choose=threes)
    assert set(found.labels.tolist()) == {3}
    assert all(row % 5 == 3 for row in rows(found))


def test_choosing_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no train examples"):
        load(
            numbered(tmp_path),
            "train",
            lookup=Lookup((tmp_path,)),
            choose=lambda labels: (labels > 9).nonzero().flatten(),
        )


def test_taking_examples_keeps_inputs_and_labels_together() -> None:
    some = Examples(torch.arange(6.0).view(3, 2), torch.tensor([4, 5, 6])).take(
        torch.tensor([2, 0])
    )
    assert some.inputs.tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert some.labels.tolist() == [6, 4]


def test_normalisation_shifts_and_scales_each_channel() -> None:
    inputs = torch.tensor([[[[1.0]], [[5.0]]], [[[3.0]], [[9.0]]]])
    scaled = Normalisation(mean=(1.0, 5.0), std=(2.0, 4.0)).apply(inputs, "here")
    assert scaled.flatten().tolist() == [0.0, 0.0, 1.0, 1.0]
    with pytest.raises(DataError, match="has 3 values, but the inputs have 2 channels"):
        Normalisation(mean=(1.0, 2.0, 3.0)).apply(inputs, "here")


def test_a_source_normalises_what_it_reads() -> None:
    plain = load(Digits(), "test")
    scaled = load(Digits(normalise=Normalisation((0.5,), (0.25,))), "test")
    assert torch.allclose(scaled.inputs, (plain.inputs - 0.5) * 4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Digits(test_share=1.0), "data.test_share is 1.0"),
        (lambda: Npz("x", limit=0), "data.limit is 0"),
        (lambda: Normalisation(std=(0.0,)), r"data.normalise.std is \[0.0\]"),
        (lambda: Normalisation(mean=()), "at least one value"),
    ],
)
def test_settings_without_meaning_are_refused(wrong: type[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        wrong()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 6), (4, 6)),
        ((4, 5, 7), (4, 1, 5, 7)),
        ((4, 3, 5, 7), (4, 3, 5, 7)),
        ((4, 5, 7, 3), (4, 3, 5, 7)),
        ((4, 1, 5, 3), (4, 1, 5, 3)),
    ],
)
def test_layouts_become_channels_first(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert tuple(as_inputs(np.zeros(shape), "here").shape) == expected


def test_channels_last_are_moved_not_reshaped() -> None:
    image = np.arange(5 * 7 * 3).reshape(1, 5, 7, 3)
    moved = as_inputs(image, "here")
    assert moved[0, 2, 4, 6].item() == image[0, 4, 6, 2]


def test_bytes_are_scaled_and_other_numbers_are_not() -> None:
    assert as_inputs(np.array([[0, 51, 255]], np.uint8), "here").tolist() == [
        [0.0, pytest.approx(0.2), 1.0]
    ]
    assert as_inputs(torch.tensor([[0, 51, 255]]), "here").tolist() == [[0.0, 51.0, 255.0]]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros(3), r"shape \(3,\)"),
        (np.zeros((1, 1, 1, 1, 1)), r"shape \(1, 1, 1, 1, 1\)"),
        (np.array([[1.0, np.nan]]), "NaN or infinite"),
        (np.array([["a"]]), "numbers are needed"),
        ([[1.0], [1.0, 2.0]], "no array"),
        ("text", "numbers are needed"),
    ],
)
def test_inputs_that_no_model_takes_are_refused(inputs: object, message: str) -> None:
    with pytest.raises(DataError, match=f"here: .*{message}"):
        as_inputs(inputs, "here")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0.0, 1.0]), "type float64"),
        (np.eye(3, dtype=int), r"shape \(3, 3\)"),
        (np.array([0, -1]), "smallest label is -1"),
        (["cat", "dog"], "numbers are needed"),
    ],
)
def test_labels_that_are_no_whole_numbers_are_refused(labels: object, message: str) -> None:
    with pytest.raises(DataError, match=f"here: .*{message}"):
        as_labels(labels, "here")


def test_the_first_folder_that_has_the_file_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    (second / "x").touch()
    lookup = Lookup((first, second))
    assert lookup.find("x") == second / "x"
    (first / "x").touch()
    assert lookup.find("x") == first / "x"
    assert lookup.find(str(second / "x")) == second / "x"


def test_a_missing_file_names_every_place_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="HOCKET_DATA") as missing:
        Lookup((tmp_path / "a", tmp_path / "b")).find("x.npz")
    assert str(tmp_path / "a" / "x.npz") in missing.value.message
    assert str(tmp_path / "b" / "x.npz") in missing.value.message

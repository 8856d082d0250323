"""A user's own functions: found, called, and refused with a reason."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from torch import nn

from hocket.errors import DataError, ModelError
from hocket.learn.data import Examples, Function, Lookup, load
from hocket.learn.reference import build_model, call, check_fit, resolve

SOURCE = dedent("""
    import torch
    from torch import nn

    SIZES = [3, 2]

    class Nets:
        @staticmethod
        def small(width=4):
            return nn.Linear(width, 2)

    def broken():
        return 1 / 0

    def frozen():
        return nn.Flatten()

    def number():
        return 3

    def lazily(split):
        import reference_neighbour
        return reference_neighbour.rows(split)

    def halves(split, scale=1.0):
        return torch.ones(4, 2) * scale, torch.arange(4)

    def uneven(split):
        return torch.ones(4, 2), torch.arange(3)
""")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "reference_user.py").write_text(SOURCE)
    (tmp_path / "reference_neighbour.py").write_text(
        "def rows(split): return [[1.0, 2.0]], [0 if split == 'train' else 1]\n"
    )
    (tmp_path / "reference_syntax.py").write_text("def oops(:\n")
    (tmp_path / "reference_needs.py").write_text("import no_such_package_anywhere\n")
    return tmp_path


@pytest.fixture(autouse=True)
def _forget_modules() -> None:
    for name in [name for name in sys.modules if name.startswith("reference_")]:
        del sys.modules[name]


def test_a_function_is_found_by_module_and_name(folder: Path) -> None:
    assert resolve("collections:OrderedDict") is OrderedDict
    assert resolve("reference_user:Nets.small", [folder])().in_features == 4


def test_the_search_path_is_put_back(folder: Path) -> None:
    before = list(sys.path)
    resolve("reference_user:number", [folder])
    with pytest.raises(ModelError):
        resolve("reference_user:absent", [folder])
    assert sys.path == before


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("reference_user", 'write "module:function"'),
        ("reference_user:", 'write "module:function"'),
        ("../x:y", 'write "module:function"'),
        ("reference_usr:number", "no module 'reference_usr'.*did you mean 'reference_user'"),
        ("reference_user.deep:number", "no module 'reference_user.deep'|not a package"),
        ("reference_user:nubmer", "has no 'nubmer'; did you mean 'number'"),
        ("reference_user:SIZES", "is a list, no function"),
        ("reference_syntax:oops", "importing 'reference_syntax' raised SyntaxError"),
        ("reference_needs:f", "needs the module 'no_such_package_anywhere'; install it"),
    ],
)
def test_a_wrong_name_says_what_is_wrong(folder: Path, reference: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        resolve(reference, [folder])


def test_what_the_function_raises_is_the_cause(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"broken\(\) raised ZeroDivisionError") as raised:
        build_model("reference_user:broken", search_path=[folder])
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    with pytest.raises(DataError, match=r"number\(bogus=1\) raised TypeError"):
        call("reference_user:number", {"bogus": 1}, [folder])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("number", "returned int; it must return a torch.nn.Module"),
        ("frozen", "no trainable parameters"),
    ],
)
def test_what_is_no_model_is_refused(folder: Path, function: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(f"reference_user:{function}", search_path=[folder])


def test_the_seed_decides_the_first_values_and_nothing_else_is_touched() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    digits = "hocket.learn.models:digits_cnn"
    one, again, other = (build_model(digits, seed=seed) for seed in (1, 1, 2))
    first = [next(model.parameters()) for model in (one, again, other)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    assert torch.equal(torch.rand(3), expected)


def test_a_model_must_fit_its_data() -> None:
    examples = Examples(torch.zeros(2, 5), torch.tensor([0, 3]))
    check_fit(nn.Linear(5, 4), examples, "m:f")
    with pytest.raises(ModelError, match="tells 3 classes apart, but the data has label 3"):
        check_fit(nn.Linear(5, 3), examples, "m:f")
    with pytest.raises(ModelError, match=r"m:f does not take inputs of shape \(5,\)"):
        check_fit(nn.Linear(6, 4), examples, "m:f")
    with pytest.raises(ModelError, match=r"gives \(5,\); it must give"):
        check_fit(nn.Flatten(0), Examples(examples.inputs[:1], examples.labels[:1]), "m:f")


def test_data_from_a_function(folder: Path) -> None:
    lookup = Lookup(code=(folder,))
    scaled = load(
        Function("reference_user:halves", arguments={"scale": 0.5}), "train", lookup=lookup
    )
    assert scaled.inputs.tolist() == [[0.5, 0.5]] * 4
    assert scaled.labels.tolist() == [0, 1, 2, 3]
    held_out = load(Function("reference_user:halves", test_share=0.25), "test", lookup=lookup)
    assert len(held_out) == 1


def test_a_data_function_may_import_its_neighbours_when_called(folder: Path) -> None:
    lookup = Lookup(code=(folder,))
    assert load(Function("reference_user:lazily"), "test", lookup=lookup).labels.tolist() == [1]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("number", r"number\(split='train'\) raised TypeError"),
        ("Nets.small", "raised TypeError"),
        ("uneven", "returned 4 inputs and 3 labels"),
        ("absent", "has no 'absent'"),
    ],
)
def test_a_data_function_that_gives_no_data_is_refused(
    folder: Path, function: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(Function(f"reference_user:{function}"), "train", lookup=Lookup(code=(folder,)))


def test_a_data_function_must_return_a_pair() -> None:
    with pytest.raises(DataError, match="returned dict; it must return two arrays or tensors"):
        load(Function("builtins:dict"), "train")

"""Which channels are dropped together, and which models are refused."""

from __future__ import annotations

import inspect
import re
import sys
import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from support.small_nets import ConcatNet, NormNet, PlainNet, ResNet
from torch import Tensor, nn

from hocket.errors import ModelError
from hocket.learn.flat import manifest_of
from hocket.learn.models import digits_cnn
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.layout import Segment, undroppable


class Between(nn.Module):
    """Two convolutions and a head, with any function of the features between them."""

    def __init__(
        self, between: Callable[[Tensor], Tensor], middle: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.middle = nn.Identity() if middle is None else middle
        self.between = between
        self.second = nn.Conv2d(4, 6, 3, padding=1)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.between(self.middle(self.first(x)))
        logits: Tensor = self.head(self.second(x).mean((2, 3)))
        return logits


def test_a_chain_of_convolutions_has_one_group_each() -> None:
    graph = channel_graph(PlainNet(maps=32))
    assert [(g.name, g.size, g.producers) for g in graph.groups] == [
        ("conv1", 32, ("conv1.weight", "conv1.bias")),
        ("conv2", 64, ("conv2.weight", "conv2.bias")),
        ("conv3", 128, ("conv3.weight", "conv3.bias")),
    ]
    # 3 image channels and 10 classes are fixed; each of 128 channels became 8x8 columns.
    assert graph.axes["conv1.weight"] == ((Segment(32, 0),), (Segment(3),))
    assert graph.axes["head.weight"] == ((Segment(10),), (Segment(128, 2, block=64),))
    assert "head.bias" not in graph.axes


def test_batch_norm_and_its_statistics_follow_the_convolution() -> None:
    axes = channel_graph(NormNet()).axes
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        assert axes[f"body.1.{tensor}"] == ((Segment(6, 0),),)
        assert axes[f"body.4.{tensor}"] == ((Segment(10, 1),),)


def test_summands_of_a_residual_add_share_a_group() -> None:
    graph = channel_graph(ResNet((4, 6)))
    # Stem and both blocks of stage one; then inside each block; shortcut and stage two.
    assert [g.name for g in graph.groups] == [
        "stem",
        "blocks.0.conv1",
        "blocks.1.conv1",
        "blocks.2.shortcut",
        "blocks.2.conv1",
        "blocks.3.conv1",
    ]
    assert graph.groups[0].producers == (
        "stem.weight",
        "blocks.0.conv2.weight",
        "blocks.1.conv2.weight",
    )
    assert graph.sizes == (4, 4, 4, 6, 6, 6)


def test_concatenated_channels_keep_their_places() -> None:
    axes = channel_graph(ConcatNet()).axes
    assert axes["join.weight"][1] == (Segment(5, 0), Segment(7, 1))
    assert axes["head.weight"][1] == (
        Segment(5, 0, block=4),
        Segment(7, 1, block=4),
        Segment(8, 2, block=4),
    )


def test_hidden_units_are_droppable_on_request_only() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 2))
    assert channel_graph(net).groups == ()
    assert [g.name for g in channel_graph(net, linear=True).groups] == ["1"]


def test_channels_that_reach_the_output_are_fixed() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    assert [g.name for g in channel_graph(net).groups] == ["0"]


def test_adding_the_input_fixes_channels() -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head((x + self.conv(x)).mean((2, 3)))
            return logits

    assert channel_graph(Shortcut()).groups == ()


def test_a_layer_called_twice_has_one_group() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, 4, 3, padding=1)
            self.again = nn.Conv2d(4, 4, 3, padding=1)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.again(F.relu(self.again(F.relu(self.stem(x)))))
            logits: Tensor = self.head(x.mean((2, 3)))
            return logits

    graph = channel_graph(Recurrent())
    assert [g.name for g in graph.groups] == ["stem"]
    assert graph.axes["again.weight"] == ((Segment(4, 0),), (Segment(4, 0),))


class Scaled(nn.Module):
    """A parameter between two convolutions, used by any function."""

    def __init__(self, use: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.use = use
        self.second = nn.Conv2d(4, 3, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.use(self.first(x), self.scale)
        logits: Tensor = self.head(self.second(x).mean((2, 3)))
        return logits


def test_a_bare_parameter_follows_what_it_scales() -> None:
    graph = channel_graph(Scaled(lambda x, scale: x * scale))
    assert [g.name for g in graph.groups] == ["first", "second"]
    assert graph.axes["scale"] == ((Segment(4, 0),),)


def test_a_bare_parameter_that_no_rule_follows_keeps_what_it_scales_whole() -> None:
    graph = channel_graph(Scaled(lambda x, scale: x * torch.cumsum(scale, 0)))
    assert [g.name for g in graph.groups] == ["second"]
    assert "scale" not in graph.axes


@pytest.mark.parametrize(
    ("between", "middle", "named"),
    [
        (torch.relu, nn.LocalResponseNorm(2), "'middle'.*several channels"),
        (torch.relu, nn.Softmax(dim=1), "'middle'.*several channels"),
        (
            torch.relu,
            nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
            "'middle.*no rule",
        ),
        (
            torch.relu,
            nn.ConvTranspose2d(4, 4, 3),
            r"'middle' \(layer ConvTranspose2d, .*no rule.*Upsample",
        ),
        (lambda x: torch.cumsum(x, 1), None, "'cumsum'.*no rule"),
        (lambda x: x.view(-1, 4, 8, 8), None, "'view'.*give -1"),
        (lambda x: x.reshape(x.shape[0], 2, 2, -1), None, "'reshape'.*give -1"),
        (lambda x: x.flatten(0, 1), None, "'flatten'.*give -1"),
        (lambda x: x.permute(0, 1, 3, 2).permute(0, 2, 1), None, "'permute_1'.*number of axes"),
        (lambda x: x[:, :2], None, "'getitem'.*some of the channels"),
        (lambda x: x[torch.tensor([0])], None, "'getitem'.*numbers and slices"),
        (lambda x: x.chunk(3, 1)[0], None, "'chunk'.*4 channels do not make 3"),
        (lambda x: x.chunk(2, 1)[0], None, "'second'.*takes 4 columns but 2"),
        (lambda x: x.unbind(1)[0], None, "'unbind'.*before the channels"),
        (lambda x: x @ x, None, "'matmul'.*both of its axes"),
        (lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2), None, "'matmul'"),
        (lambda x: F.max_pool1d(x.flatten(2).transpose(1, 2), 2), None, "'max_pool1d'.*along"),
        (lambda x: x.mean(1, keepdim=True), None, "'mean'.*one number of several"),
        (lambda x: torch.cat([x, torch.cumsum(x, 2)], 1), None, "'cumsum'.*no rule"),
        (lambda x: F.softmax(x, dim=1), None, "'softmax'.*several channels"),
    ],
)
def test_a_node_without_a_rule_is_named(
    between: Callable[[Tensor], Tensor], middle: nn.Module | None, named: str
) -> None:
    with pytest.raises(ModelError, match=named):
        channel_graph(Between(between, middle))


def test_a_layer_without_a_rule_is_fine_where_nothing_can_be_dropped() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.LocalResponseNorm(2))
    with pytest.raises(ModelError, match="'_1'"):
        channel_graph(nn.Sequential(*net, nn.Conv2d(4, 2, 3)))
    assert channel_graph(net).groups == ()


def test_maps_joined_along_another_axis_keep_the_same_channels() -> None:
    graph = channel_graph(Between(lambda x: torch.cat([x, torch.relu(x)], 2)))
    assert [(g.name, g.size) for g in graph.groups] == [("first", 4), ("second", 6)]


def test_control_flow_on_values_cannot_be_traced() -> None:
    def between(x: Tensor) -> Tensor:
        x = x * 2
        if x.mean() > 0:  # what stops it
            x = -x
        return x

    with pytest.raises(ModelError, match="cannot be traced") as refused:
        channel_graph(Between(between))
    assert refused.value.details == {"node": "gt"}
    assert "behind node 'gt'" in refused.value.message
    assert f" at {__file__}:{line_of(between, '# what stops it')}, " in refused.value.message


def test_a_node_is_named_with_the_line_that_it_comes_from() -> None:
    def between(x: Tensor) -> Tensor:
        x = x * 2
        return torch.cumsum(x, 1)  # what no rule follows

    with pytest.raises(ModelError) as refused:
        channel_graph(Between(between))
    assert refused.value.details == {"node": "cumsum"}
    at = f"{__file__}:{line_of(between, '# what no rule follows')}"
    assert f"node 'cumsum' (function cumsum, {at})" in refused.value.message


def line_of(function: Callable[..., Tensor], words: str) -> int:
    """The line of a function that holds some words."""
    lines, first = inspect.getsourcelines(function)
    return next(number for number, line in enumerate(lines, first) if words in line)


class Branches(nn.Module):
    """What three convolutions make, joined by any function, and a head."""

    def __init__(self, joined: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(1, 4, 3, padding=1)
        self.both = nn.Conv2d(1, 12, 3, padding=1)
        self.joined = joined
        self.head = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.joined(x, self.one(x), self.two(x), self.both(x))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


@pytest.mark.parametrize(
    ("joined", "node", "says"),
    [
        (
            lambda _, one, two, both: torch.cat([one, two], 1) + both,
            "add",
            r"'add' \(function add, .*'one', 'two', 'both', since 8 \+ 4 channels meet 12 channels",
        ),
        (
            lambda x, one, two, both: torch.cat([one, two], 1) * torch.cumsum(x, 2) + both,
            "mul",
            "'mul' .*'one', 'two', since they meet a value that is always whole; node 'add' ",
        ),
    ],
)
def test_why_no_part_can_be_left_out(
    joined: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], node: str, says: str
) -> None:
    graph = channel_graph(Branches(joined))
    assert graph.groups == ()
    error = graph.nothing()
    assert error.details == {"node": node}
    assert re.search(says, error.message)
    assert error.message.startswith("no part of this model can be left out: node ")
    assert error.message.endswith(
        ", or train the model at full width "
        '(submodel = "full" in the task file, keep = 1 on the device)'
    )


def test_a_model_without_filters_is_told_so() -> None:
    error = channel_graph(nn.Sequential(nn.Flatten(), nn.Linear(9, 2))).nothing()
    assert "it has no layer whose channels could be (filters" in error.message
    assert error.details == {}


def test_a_refused_model_says_why_no_part_can_be_left_out() -> None:
    net = Between(lambda x: torch.cumsum(x, 1))
    with pytest.raises(ModelError) as refused:
        channel_graph(net)
    error = undroppable(manifest_of(net), refused.value).nothing()
    assert error.details == {"node": "cumsum"}
    assert "node 'cumsum' (function cumsum, " in error.message
    assert error.message.count("train") == 1


def test_threads_trace_and_run_models_at_the_same_time() -> None:
    """Devices of one process do, each in its own; torch.fx alone would mix them up."""
    expected = channel_graph(digits_cnn()).sizes
    net, image = digits_cnn().eval(), torch.zeros(1, 1, 8, 8)
    scores = net(image)
    found: list[object] = []

    def trace() -> None:
        found.extend(channel_graph(digits_cnn()).sizes == expected for _ in range(10))

    def run() -> None:
        found.extend(torch.equal(net(image), scores) for _ in range(100))

    def telling(work: Callable[[], None]) -> None:
        try:
            work()
        except (ModelError, NameError) as error:
            found.append(error)

    works = [trace, run, trace, run, trace, run]
    threads = [threading.Thread(target=telling, args=(work,)) for work in works]
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)
    assert found == [True] * 330

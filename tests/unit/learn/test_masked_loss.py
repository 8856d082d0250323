"""The masked loss by hand, and in training: what it teaches of classes that are not there."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from support.learners import Ledger, delta, examples, model, raw, terms
from support.small_nets import PlainNet, headless, shake
from torch import Tensor

from hocket.core.sizing.size import Size
from hocket.core.submodel import SubmodelSpec
from hocket.errors import InvalidRequest, ModelError, TaskError
from hocket.learn.blueprint import Blueprint
from hocket.learn.codecs.payload import decode_payload
from hocket.learn.data import Examples
from hocket.learn.flat import flatten, manifest_of, views
from hocket.learn.local_learner import LocalLearner
from hocket.learn.masked_loss import LossMask, masked
from hocket.learn.sgd import TrainingRules
from hocket.learn.training import LocalTrainer

SCORES = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.25, -1.0]])
TOLD = replace(
    terms(),
    training=replace(terms().training, masked_loss="zero", weight_decay=0.1),
)


def some_classes(*wanted: int) -> Examples:
    whole = examples()
    return whole.take(torch.isin(whole.labels, torch.tensor(wanted)).nonzero()[:, 0])


def test_scores_of_other_classes_are_zero_or_left_out() -> None:
    zero = LossMask.of(torch.tensor([2, 0, 2]), "zero")
    assert masked(zero, SCORES).tolist() == [[1.0, 0.0, 3.0], [0.5, 0.0, -1.0]]
    without = LossMask.of(torch.tensor([0]), "minus_infinity")
    assert masked(without, SCORES)[:, 0].tolist() == [1.0, 0.5]
    assert (masked(without, SCORES)[:, 1:] == -math.inf).all()
    assert LossMask.of(torch.tensor([1]), "off") is None
    assert masked(None, SCORES) is SCORES


def test_zero_stands_for_a_score_in_the_softmax() -> None:
    """Scores 1, 0 in place of -2, and 3, of class 2: log(e + 1 + e^3) - 3."""
    mask = LossMask.of(torch.tensor([0, 2]), "zero")
    loss = F.cross_entropy(masked(mask, SCORES[:1]), torch.tensor([2]))
    assert float(loss) == pytest.approx(math.log(math.e + 1 + math.e**3) - 3, rel=1e-6)


def test_with_all_classes_there_no_bit_changes() -> None:
    net = PlainNet((4, 6, 5), maps=8)
    shake(net)
    inputs = torch.randn(10, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    everyone = torch.arange(10)
    ends = []
    for kind in ("off", "zero", "minus_infinity"):
        rules = TrainingRules(1, 10, 0.1, masked_loss=kind)
        trainer = LocalTrainer(net, rules, inputs, everyone)
        trainer.start(flatten(net))
        trainer.step(everyone, None, torch.Generator().manual_seed(1))
        ends.append(trainer.weights())
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


def trained(kind: str, labels: Tensor, classes: int) -> dict[str, Tensor]:
    """A step of a net of so many classes, by names of tensors."""
    net = PlainNet((4, 6, 5), maps=8)
    shake(net)
    if classes < 10:  # the head's rows of the first classes alone
        small = PlainNet((4, 6, 5), maps=8, classes=classes)
        ours = net.state_dict()
        rows = {k: v[:classes] if k.startswith("head") else v for k, v in ours.items()}
        small.load_state_dict(rows)
        net = small
    rules = TrainingRules(1, 8, 0.1, masked_loss=kind)  # type: ignore[arg-type]
    inputs = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    trainer = LocalTrainer(net, rules, inputs, labels)
    trainer.start(flatten(net))
    trainer.step(torch.arange(8), None, torch.Generator().manual_seed(1))
    return dict(views(trainer.weights(), trainer.manifest))


def test_left_out_is_as_if_the_model_had_no_such_classes() -> None:
    """Classes 0 to 2 of ten, against the net that has but these three rows."""
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    whole, small = trained("minus_infinity", labels, 10), trained("off", labels, 3)
    for name, values in small.items():
        assert torch.allclose(whole[name][: len(values)], values, atol=1e-6), name


@pytest.mark.parametrize("kind", ["zero", "minus_infinity"])
def test_nothing_is_learned_of_a_class_from_its_absence(kind: str) -> None:
    net = PlainNet((4, 6, 5), maps=8)
    shake(net)
    before = views(flatten(net), manifest_of(net))
    after = trained(kind, torch.tensor([2, 7] * 4), 10)
    for name in ("head.weight", "head.bias"):
        moved = (after[name] != before[name]).reshape(10, -1).any(dim=1)
        assert moved.nonzero()[:, 0].tolist() == [2, 7]
    plain = trained("off", torch.tensor([2, 7] * 4), 10)
    assert (plain["head.bias"] != before["head.bias"]).all()


def learner(told: object, held: Examples) -> LocalLearner:
    return LocalLearner(Blueprint.of(model(), told), held, Ledger(), name="d")  # type: ignore[arg-type]


@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_an_update_holds_the_rows_of_its_devices_classes_only(keep: float) -> None:
    """Though weight decay moves every row of the device's own model."""
    one = learner(TOLD, some_classes(2, 7))
    size = Size(SubmodelSpec((keep,)) if keep < 1 else SubmodelSpec())
    plan = one.blueprint.plan(size.spec)
    start = raw(plan.extract(flatten(model())), plan.sliced_manifest)
    one.start(start, 1, size)
    one.train_epoch(1)
    assert one.classes == (2, 7)
    assert not one.is_plain(1.0)
    sent = views(decode_payload(one.encode(), plan.sliced_manifest), plan.sliced_manifest)
    for name in ("8.weight", "8.bias"):
        moved = (sent[name] != 0).reshape(10, -1).any(dim=1)
        assert moved.nonzero()[:, 0].tolist() == [2, 7]


def test_without_a_mask_no_classes_are_told_and_every_row_moves() -> None:
    one = learner(terms(), some_classes(2, 7))
    one.start(raw(flatten(model()), manifest_of(model())), 1)
    one.train_epoch(1)
    assert one.classes == ()
    sent = views(delta(one.encode()), manifest_of(model()))
    assert (sent["8.bias"] != 0).all()


def test_a_device_that_does_not_know_the_mask_says_so() -> None:
    told = replace(TOLD, training=replace(TOLD.training, masked_loss="inverse"))
    with pytest.raises(TaskError, match=r"'inverse'.*\(it knows zero, minus_infinity\)"):
        Blueprint.of(model(), told)


def test_rules_that_mean_nothing_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="masked_loss is half"):
        TrainingRules(1, 8, 0.1, masked_loss="half")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="norm is moving"):
        TrainingRules(1, 8, 0.1, norm="moving")  # type: ignore[arg-type]


def test_a_model_whose_output_layer_is_unknown_is_refused() -> None:
    net = headless()
    told = replace(TOLD, manifest=manifest_of(net))
    with pytest.raises(ModelError, match=r'no torch.nn.Linear.*masked_loss = "off"'):
        Blueprint.of(net, told)

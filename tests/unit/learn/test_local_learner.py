from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.learners import (
    EXAMPLES,
    TOP_K,
    Folded,
    Ledger,
    base,
    delta,
    examples,
    model,
    raw,
    terms,
)
from support.small_nets import ResNet
from torch import Tensor
from torch.nn.functional import cross_entropy

from hocket.core.chance import stream_seed
from hocket.core.payload import CodecId, Payload
from hocket.core.sizing.size import Size, part_of
from hocket.core.submodel import FULL
from hocket.core.terms import EncodingTerms, TaskTerms, TrainingTerms
from hocket.errors import InvalidRequest, ModelError, NotFinite, ShapeMismatch
from hocket.learn.blueprint import Blueprint
from hocket.learn.flat import flatten, manifest_of
from hocket.learn.local_learner import LocalLearner

HALF = Size(part_of(0.5))


def learner(told: TaskTerms | None = None, ledger: Ledger | None = None) -> LocalLearner:
    blueprint = Blueprint.of(model(), told or terms())
    return LocalLearner(blueprint, examples(), ledger or Ledger(), name="d1")


def test_epochs_lower_the_loss_and_the_delta_is_what_they_changed() -> None:
    one = learner()
    one.start(base(), 1)
    results = [one.train_epoch(epoch) for epoch in range(1, 6)]
    assert results[-1].mean_loss < results[0].mean_loss
    assert [result.steps for result in results] == [3] * 5  # 40 examples in batches of 16
    vector = flatten(model()) + delta(one.encode())
    again = learner()
    again.start(raw(vector, manifest_of(model())), 2)
    assert again.train_epoch(1).mean_loss < results[0].mean_loss


def test_training_is_torchs_own_sgd_on_batches_drawn_by_name_training_and_epoch() -> None:
    one = learner(replace(terms(), dropout_rows=()))
    one.start(base(), 3)
    for epoch in (1, 2):
        one.train_epoch(epoch)
    net, data = model(), examples()
    before = flatten(net)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for epoch in (1, 2):
        chance = torch.Generator().manual_seed(stream_seed(1, "d1", "train", 3, epoch))
        for batch in torch.split(torch.randperm(EXAMPLES, generator=chance), 16):
            optimiser.zero_grad()
            cross_entropy(net(data.inputs[batch]), data.labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    assert torch.equal(delta(one.encode()), flatten(net) - before)


@pytest.mark.parametrize("encoding", [EncodingTerms(CodecId.RAW), EncodingTerms(CodecId.INT8)])
def test_values_and_the_bytes_that_they_travel_in_train_to_the_same_bits(
    encoding: EncodingTerms,
) -> None:
    told = replace(terms(), encoding=encoding)
    fresh = flatten(model(seed=7))
    encoded: list[Payload] = []
    for by_bytes in (True, False):
        one = learner(told)
        if by_bytes:
            one.start(base(), 1)
            one.train_epoch(1)
            one.merge(raw(fresh, manifest_of(model())), 0.25)
        else:
            one.start_from(flatten(model()), 1)
            one.train_epoch(1)
            one.merge_with(fresh, 0.25)
        one.train_epoch(2)
        encoded.append(one.encode())
    assert encoded[0].header == encoded[1].header
    assert bytes(encoded[0].body) == bytes(encoded[1].body)


def test_learners_that_share_a_blueprint_do_not_meet() -> None:
    blueprint = Blueprint.of(model(), terms())
    deltas: list[Tensor] = []
    for shared in (True, False):
        one = LocalLearner(blueprint, examples(), Ledger(), name="a")
        other = LocalLearner(blueprint, examples(), Ledger(), name="b")
        one.start(base(), 1)
        if shared:
            part = blueprint.plan(HALF.spec).extract(flatten(model(seed=3)))
            other.start_from(part, 4, size=HALF)
        for epoch in (1, 2):
            one.train_epoch(epoch)
            if shared:
                other.train_epoch(epoch)
        deltas.append(delta(one.encode()))
    assert deltas[0].any()
    assert torch.equal(deltas[0], deltas[1])


def test_an_untrained_model_has_no_delta() -> None:
    one = learner()
    one.start(base(), 1)
    assert not delta(one.encode()).any()


@pytest.mark.parametrize(
    ("share", "cost"),
    # digits_cnn, keep k1 and k2 of 16 and 32 filters: 64*9*k1 + 64*9*k1*k2 + 16*k2*64 + 640 MACs
    [(1.0, 1.0), (0.7, 0.58665), (0.5, 0.28252), (0.01, 0.16648)],
)
def test_each_mini_batch_takes_the_dearest_row_that_can_be_afforded_and_is_charged_for_it(
    share: float, cost: float
) -> None:
    ledger = Ledger(share)
    one = learner(ledger=ledger)
    one.start(base(), 1)
    result = one.train_epoch(1)
    assert list(result.rows) == [pytest.approx(cost, abs=1e-5)]
    assert [count for count, _ in ledger.charges] == [16, 16, 8]
    assert result.seconds == pytest.approx(EXAMPLES * cost, rel=1e-4)
    one.merge_with(flatten(model()), 0.5)
    one.encode()
    assert ledger.others == 3
    assert len(ledger.charges) == 3


def test_a_mini_batch_trains_the_filters_that_its_row_keeps_and_no_others() -> None:
    told = replace(terms(), dropout_rows=((0.75,),))
    one = learner(replace(told, training=replace(told.training, batch_size=EXAMPLES)))
    one.start(base(), 1)
    assert one.train_epoch(1).steps == 1
    first = manifest_of(model()).tensors[0]
    moved = delta(one.encode())[: first.size].view(first.shape)
    assert int(moved.flatten(1).any(dim=1).sum()) == 4  # of 16 filters


def test_an_epoch_tells_the_root_mean_square_of_all_its_examples_losses() -> None:
    told = replace(terms(), dropout_rows=())
    still = replace(told, training=replace(told.training, learning_rate=1e-12))
    one = learner(still)
    one.start(base(), 1)
    result = one.train_epoch(1)
    data = examples()
    losses = cross_entropy(model()(data.inputs), data.labels, reduction="none").detach().double()
    assert result.mean_loss == pytest.approx(float(losses.mean()), rel=1e-5)
    assert result.loss_rms == pytest.approx(float(losses.square().mean().sqrt()), rel=1e-5)
    assert result.loss_rms > 1.001 * result.mean_loss


def test_without_rows_nothing_is_dropped_however_slow_the_device() -> None:
    one = learner(replace(terms(), dropout_rows=()), ledger=Ledger(0.01))
    one.start(base(), 1)
    assert dict(one.train_epoch(1).rows) == {1.0: 3}


def test_a_merge_moves_the_model_by_its_weight() -> None:
    one = learner()
    one.start(base(), 1)
    fresh = flatten(model(seed=7))
    report = one.merge(raw(fresh, manifest_of(model())), 0.25)
    assert report.loss_before != report.loss_after
    expected = 0.25 * (fresh - flatten(model()))
    assert torch.allclose(delta(one.encode()), expected, atol=1e-6)


def test_a_refused_update_is_part_of_the_next_one() -> None:
    one = learner(replace(terms(), encoding=TOP_K))
    one.start(base(), 1)
    one.train_epoch(1)
    first = delta(one.encode())
    assert one.feedback.residual is not None
    left_out = one.feedback.residual.clone()
    one.put_back()
    assert torch.allclose(one.feedback.residual, left_out + first)
    one.forget()
    assert one.feedback.residual is None


def test_what_error_feedback_held_earlier_goes_on() -> None:
    told = replace(terms(), encoding=TOP_K)
    one = learner(told)
    one.start(base(), 1)
    one.train_epoch(1)
    one.encode()
    blueprint = Blueprint.of(model(), told)
    again = LocalLearner(blueprint, examples(), Ledger(), name="d1", feedback=one.feedback)
    again.start(base(), 2)
    assert delta(again.encode()).any()  # nothing was trained, so this is what had been left out


def test_a_narrow_learner_takes_exactly_its_submodel() -> None:
    one = learner()
    with pytest.raises(ShapeMismatch):
        one.start(base(), 1, HALF)
    with pytest.raises(ShapeMismatch):
        one.start_from(flatten(model()), 1, size=HALF)
    one.start_from(one.blueprint.plan(HALF.spec).extract(flatten(model())), 1, size=HALF)
    assert one.spec.keep == (0.5,)


def test_a_model_that_diverges_is_a_typed_error() -> None:
    training = TrainingTerms(local_epochs=2, batch_size=16, learning_rate=1e30)
    one = learner(replace(terms(), training=training))
    one.start(base(), 1)
    with pytest.raises(NotFinite, match="learning rate"):
        one.train_epoch(1)


def test_another_model_than_the_aggregators_is_refused_with_both_digests() -> None:
    other = ResNet((4, 8))
    with pytest.raises(ModelError, match=manifest_of(other).digest) as caught:
        Blueprint.of(model(), terms(other))
    assert manifest_of(model()).digest in caught.value.message


def test_a_dropout_row_of_wrong_length_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="3 shares"):
        learner(replace(terms(), dropout_rows=((0.1, 0.2, 0.3),)))


def test_a_model_that_cannot_be_sliced_trains_whole_or_not_at_all() -> None:
    net = Folded()
    blueprint = Blueprint.of(net, terms(net))
    one = LocalLearner(blueprint, examples(), Ledger())
    one.start_from(flatten(net), 1)
    assert dict(one.train_epoch(1).rows) == {1.0: 3}
    with pytest.raises(ModelError, match="full width"):
        one.start_from(flatten(net), 2, size=HALF)


def test_what_a_blueprint_works_out_is_worked_out_once_for_all() -> None:
    blueprint = Blueprint.of(model(), terms())
    assert blueprint.plan(HALF.spec) is blueprint.plan(HALF.spec)
    table = blueprint.table(HALF.spec, (1, 8, 8))
    assert table is blueprint.table(HALF.spec, (1, 8, 8))
    assert table is not blueprint.table(FULL, (1, 8, 8))

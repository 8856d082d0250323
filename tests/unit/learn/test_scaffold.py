"""SCAFFOLD against its published numbers, and against its algorithm written down a second time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from support.learners import Ledger, examples, model, raw, terms
from support.strategies import Server, push, server, vector
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hocket.core.chance import stream_seed
from hocket.core.ids import Version
from hocket.core.manifest import Manifest, TensorSpec
from hocket.core.strategy import Exchanging, WithLocal
from hocket.core.terms import LocalTerms, TaskTerms
from hocket.core.update import Applied, Buffered, Dropped
from hocket.errors import InvalidUpdate, ShapeMismatch
from hocket.learn.blueprint import Blueprint
from hocket.learn.codecs.payload import decode_payload
from hocket.learn.flat import flatten, manifest_of
from hocket.learn.local_learner import LocalLearner
from hocket.learn.local_rule import LocalFacts, LocalHalf
from hocket.learn.strategies import FedAvg, Scaffold
from hocket.learn.strategies.scaffold import VARIATE, ControlVariates

ONE = Manifest((TensorSpec("w", (1,)),))


def facts(manifest: Manifest = ONE, learning_rate: float = 0.1) -> LocalFacts:
    return LocalFacts(manifest, learning_rate, 0.0, None)


def test_it_is_a_rule_that_exchanges_and_has_a_client_half() -> None:
    rule = Scaffold()
    assert isinstance(rule, Exchanging)
    assert isinstance(rule, WithLocal)
    assert rule.local == LocalTerms("scaffold")


def test_the_published_numbers_of_option_ii() -> None:
    """x = 1, y = 0.4, K = 3, eta = 0.1, c_i = 0.5, c = 0.2: c_i+ = 2.3, a change of 1.8."""
    half = ControlVariates().begin(vector(1.0), vector(0.2), {VARIATE: vector(0.5)}, facts())
    kept, extra = half.end(vector(0.4), 3)
    assert kept[VARIATE].item() == pytest.approx(2.3)
    assert extra is not None
    assert extra.item() == pytest.approx(1.8)


def test_a_step_goes_along_the_gradient_less_c_i_plus_c() -> None:
    half: LocalHalf = ControlVariates().begin(
        vector(1.0), vector(0.2), {VARIATE: vector(0.5)}, facts()
    )
    gradients = {"w": vector(4.0)}
    assert half.penalty(vector(1.0), None) is None
    half.correct(gradients, {"w": vector(1.0)}, lambda _name, tensor: tensor)
    assert gradients["w"].item() == pytest.approx(3.7)


def test_running_statistics_have_no_control_variate() -> None:
    manifest = Manifest((TensorSpec("w", (1,)), TensorSpec("mean", (1,), trainable=False)))
    half = ControlVariates().begin(vector(1, 1), vector(0, 0), {}, facts(manifest))
    kept, extra = half.end(vector(0.5, 9.0), 5)
    assert kept[VARIATE].tolist() == [1.0, 0.0]
    assert extra is not None
    assert extra.tolist() == [1.0, 0.0]


def test_what_does_not_fit_is_refused() -> None:
    rule = ControlVariates()
    with pytest.raises(InvalidUpdate, match="without the control variate"):
        rule.begin(vector(1.0), None, {}, facts())
    with pytest.raises(ShapeMismatch):
        rule.begin(vector(1.0), vector(0.2), {VARIATE: vector(1, 2)}, facts())


def test_a_round_moves_the_model_by_the_mean_and_c_by_a_share_of_the_fleet() -> None:
    """However many examples: x = 1 + 0.5 (2 + 4) / 2 = 2.5, c = (1.5 - 0.5) / 4 = 0.25."""
    aggregator = server(Scaffold(cohort=2, devices=4, server_lr=0.5), 1.0)
    rule = aggregator.rule
    first = aggregator.take(push(vector(2.0), device="a", examples=1, extra=vector(1.5)))
    assert first == Buffered(Version(2), 1.0, 0, 1, 2)
    assert rule.down(aggregator.memory).item() == 0.0  # only a version changes it
    second = aggregator.take(push(vector(4.0), device="b", examples=999, extra=vector(-0.5)))
    assert second == Applied(Version(2), 0.5, 0)
    assert aggregator.now.model.item() == 2.5
    assert rule.down(aggregator.memory).item() == 0.25


def test_a_round_that_is_closed_early_is_one_of_those_that_came() -> None:
    early, whole = (server(Scaffold(cohort=n, devices=9), 1.0, 2.0) for n in (3, 2))
    assert early.rule.close(early.now, early.memory) is None
    for each in (early, whole):
        for device, values in (("a", (1, 2)), ("b", (3, -1))):
            each.take(push(vector(*values), device=device))
    step = early.rule.close(early.now, early.memory)
    assert torch.equal(step.after.model, whole.now.model)
    assert step.after.version == 2
    assert torch.equal(early.rule.down(step.memory), whole.rule.down(whole.memory))


def test_an_update_without_its_change_is_refused_and_leaves_no_trace() -> None:
    aggregator = server(Scaffold(cohort=2), 1.0)
    with pytest.raises(InvalidUpdate, match=r"no change of a control variate"):
        aggregator.take(replace(push(vector(9.0), device="a"), extra=None))
    aggregator.take(push(vector(1.0), device="a"))
    aggregator.take(push(vector(3.0), device="b"))
    assert aggregator.now.model.item() == 3.0


@dataclass
class Bowl:
    """One device's loss, sum of h / 2 (y - a)^2: far from the others' in height and in place."""

    heights: Tensor  # h
    lowest: Tensor  # a
    variate: Tensor  # c_i

    def gradient(self, weights: Tensor) -> Tensor:
        return self.heights * (weights - self.lowest)


WIDTH, RATE, STEPS = 3, 0.05, 6
MANIFEST = Manifest((TensorSpec("w", (WIDTH,)),))


def bowls(count: int) -> list[Bowl]:
    chance = torch.Generator().manual_seed(4)
    return [
        Bowl(
            0.3 + 3 * torch.rand(WIDTH, generator=chance),
            4 * torch.randn(WIDTH, generator=chance),
            torch.zeros(WIDTH),
        )
        for _ in range(count)
    ]


def trained(aggregator: Server, bowl: Bowl, name: str) -> None:
    """A device's training, by the rule's own two halves; c_i is kept if the update is taken."""
    kept = {VARIATE: bowl.variate}
    base, c = aggregator.now.model, aggregator.rule.down(aggregator.memory)
    half = ControlVariates().begin(base, c, kept, facts(MANIFEST, RATE))
    weights = base.clone()
    for _ in range(STEPS):
        gradients = {"w": bowl.gradient(weights)}
        half.correct(gradients, {"w": weights}, lambda _name, tensor: tensor)
        weights = weights - RATE * gradients["w"]
    after, extra = half.end(weights.clone(), STEPS)
    update = push(weights - base, base=aggregator.now.version, device=name, extra=extra)
    if not isinstance(aggregator.take(update), Dropped):
        bowl.variate = after[VARIATE]


def cohorts(rounds: int, fleet: int, size: int) -> list[list[int]]:
    chance = torch.Generator().manual_seed(9)
    return [torch.randperm(fleet, generator=chance)[:size].tolist() for _ in range(rounds)]


def algorithm_1(fleet: Sequence[Bowl], rounds: Sequence[Sequence[int]], eta_g: float) -> Tensor:
    """Written down from the paper, in double precision; what the c_i come to, c, and x."""
    x, c = torch.zeros(WIDTH).double(), torch.zeros(WIDTH).double()
    own = [torch.zeros(WIDTH).double() for _ in fleet]
    for cohort in rounds:
        ys, changes = [], []
        for i in cohort:
            y = x.clone()
            for _ in range(STEPS):
                y = y - RATE * (fleet[i].heights * (y - fleet[i].lowest) - own[i] + c)
            after = own[i] - c + (x - y) / (STEPS * RATE)
            ys.append(y)
            changes.append(after - own[i])
            own[i] = after
        x = x + eta_g * (torch.stack(ys).mean(0) - x)
        c = c + len(cohort) / len(fleet) * torch.stack(changes).mean(0)
    return torch.stack([x, c, *own])


@pytest.mark.parametrize("server_lr", [1.0, 0.5])
def test_many_rounds_are_the_papers_algorithm_and_c_is_the_mean_of_all_c_i(
    server_lr: float,
) -> None:
    fleet, rounds = bowls(5), cohorts(20, 5, 2)
    aggregator = server(Scaffold(cohort=2, devices=5, server_lr=server_lr), *[0.0] * WIDTH)
    for cohort in rounds:
        late = aggregator.now.version
        for i in cohort:
            trained(aggregator, fleet[i], f"d{i}")
        stale = push(vector(9, 9, 9), base=late, device="late", extra=vector(9, 9, 9))
        assert isinstance(aggregator.take(stale), Dropped)
        mean = torch.stack([bowl.variate for bowl in fleet]).mean(0)
        assert torch.allclose(mean, aggregator.rule.down(aggregator.memory), atol=1e-5)
    expected = algorithm_1(fleet, rounds, server_lr)
    c = aggregator.rule.down(aggregator.memory)
    found = torch.stack([aggregator.now.model, c, *(bowl.variate for bowl in fleet)])
    assert torch.allclose(found.double(), expected, atol=1e-4)


def test_it_finds_the_lowest_point_of_all_where_fedavg_stops_beside_it() -> None:
    """Of the sum of h_i / 2 (y - a_i)^2 that is sum of h_i a_i over sum of h_i."""
    fleet = bowls(4)
    heights = torch.stack([bowl.heights for bowl in fleet])
    places = torch.stack([bowl.lowest for bowl in fleet])
    lowest = (heights * places).sum(0) / heights.sum(0)
    corrected = server(Scaffold(cohort=4, devices=4), *[0.0] * WIDTH)
    plain = server(FedAvg(cohort=4), *[0.0] * WIDTH)
    for _ in range(150):
        base, version = plain.now.model, plain.now.version
        for i, bowl in enumerate(fleet):
            trained(corrected, bowl, f"d{i}")
            shrunk = (1 - RATE * bowl.heights) ** STEPS  # what six plain steps leave of y - a
            plain.take(push((shrunk - 1) * (base - bowl.lowest), base=version, device=f"d{i}"))
    assert torch.allclose(corrected.now.model, lowest, atol=1e-4)
    assert (plain.now.model - lowest).norm() > 0.1


def told(net: nn.Module) -> TaskTerms:
    usual = terms(net)
    training = replace(usual.training, local=Scaffold().local)
    encoding = replace(usual.encoding, error_feedback=False)
    return replace(usual, training=training, encoding=encoding, exchanges=True, dropout_rows=())


def learner() -> LocalLearner:
    net = model()
    return LocalLearner(Blueprint.of(net, told(net)), examples(), Ledger(), name="d1")


SIZE = manifest_of(model()).size
DOUBLED = manifest_of(model()).doubled
C = 0.05 * torch.randn(SIZE, generator=torch.Generator().manual_seed(2))


def both_of(one: LocalLearner) -> tuple[Tensor, Tensor]:
    payload = one.encode()
    assert [t.name for t in payload.header.tensors] == [t.name for t in DOUBLED.tensors]
    delta, extra = decode_payload(payload, DOUBLED).split(SIZE)  # type: ignore[no-untyped-call]
    return delta, extra


def test_a_learner_trains_along_the_corrected_gradient() -> None:
    """Against autograd and a hand-written step, over two trainings."""
    one, net, data = learner(), model(), examples()
    own = torch.zeros(SIZE)
    for training in (1, 2):
        before = flatten(net)
        one.start(raw(torch.cat((before, C)), DOUBLED), training)
        one.train_epoch(1)
        delta, extra = both_of(one)
        chance = torch.Generator().manual_seed(stream_seed(1, "d1", "train", training, 1))
        steps = torch.split(torch.randperm(len(data), generator=chance), 16)
        for batch in steps:
            net.zero_grad()
            cross_entropy(net(data.inputs[batch]), data.labels[batch]).backward()  # type: ignore[no-untyped-call]
            at = 0
            with torch.no_grad():
                for weight in net.parameters():
                    along = (C - own)[at : at + weight.numel()].view(weight.shape)
                    assert weight.grad is not None
                    weight.sub_(weight.grad + along, alpha=0.1)
                    at += weight.numel()
        assert torch.allclose(delta, flatten(net) - before, atol=1e-6)
        after = own - C + (before - flatten(net)) / (len(steps) * 0.1)
        assert torch.allclose(extra, after - own, atol=1e-5)
        own = after


def test_bytes_and_values_train_to_the_same_bits() -> None:
    start, found = flatten(model()), []
    for by_bytes in (True, False):
        one = learner()
        if by_bytes:
            one.start(raw(torch.cat((start, C)), DOUBLED), 1)
        else:
            one.start_from(start, 1, C)
        one.train_epoch(1)
        found.append(one.encode().body)
    assert bytes(found[0]) == bytes(found[1])


def test_an_update_that_is_not_used_leaves_c_i_as_it_was_and_is_not_sent_again() -> None:
    start = flatten(model())
    refused, never = learner(), learner()
    for one in (refused, never):
        one.start_from(start, 1, C)
        one.train_epoch(1)
        one.encode()  # accepted: c_i is no longer 0
    refused.start_from(start, 2, C)
    refused.train_epoch(1)
    refused.encode()
    refused.put_back()
    for one in (refused, never):
        one.start_from(start, 3, C)
        one.train_epoch(1)
    assert bytes(refused.encode().body) == bytes(never.encode().body)
    assert torch.equal(refused.kept[VARIATE], never.kept[VARIATE])

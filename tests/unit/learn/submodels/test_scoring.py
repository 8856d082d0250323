"""C(d): what a few mini-batches of a dropout vector do to the whole model (distreal.md 2.4)."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from support.small_nets import NormNet
from torch import nn

from hocket.errors import NotFinite
from hocket.learn.data import Examples
from hocket.learn.flat import flatten, views
from hocket.learn.sgd import TrainingRules
from hocket.learn.submodels.dropout import (
    DropoutRow,
    DropoutTable,
    draw_orders,
    first_of,
    kept_sizes,
    shares_of,
)
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.search.scoring import WORST_LOSS, Scorer, batches, snapshots

RULES = TrainingRules(local_epochs=1, batch_size=8, learning_rate=0.1, momentum=0.9)
WHOLE, HALF = (4, 6), (2, 3)


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 16, 3),
    )


def examples(count: int, seed: int) -> Examples:
    """Images whose class is the third of them that is bright."""
    chance = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=chance)
    inputs = torch.randn(count, 1, 4, 4, generator=chance) * 0.3
    inputs[torch.arange(count), 0, labels] += 1.0
    return Examples(inputs, labels)


LEARNING, JUDGES = examples(30, seed=1), examples(20, seed=2)


def scorer(rules: TrainingRules = RULES, steps: int = 6) -> Scorer:
    module = net()
    return Scorer(module, channel_graph(module), rules, LEARNING, (flatten(module),), steps)


def test_without_dropout_a_trial_is_plain_training() -> None:
    """Against torch.optim.SGD on the same mini-batches."""
    model = copy.deepcopy(net())
    with torch.no_grad():
        before = F.cross_entropy(model(JUDGES.inputs), JUDGES.labels)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for batch in batches(LEARNING, RULES, 6, seed=9):
        optimiser.zero_grad()
        F.cross_entropy(model(batch.inputs), batch.labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        after = F.cross_entropy(model(JUDGES.inputs), JUDGES.labels)
    trial = scorer().trial(WHOLE, 0, 9, JUDGES, "judges")
    assert trial.decrease == pytest.approx(float(before - after), abs=1e-5)
    assert trial.decrease > 0.05
    assert trial.gain > 0


def test_the_same_seed_is_the_same_trial_and_dropping_more_is_another() -> None:
    known = scorer()
    trials = [known.trial(HALF, 0, seed, JUDGES, "judges") for seed in (9, 9, 10)]
    assert trials[0] == trials[1] != trials[2]
    assert known.trial(WHOLE, 0, 9, JUDGES, "judges") != trials[0]
    assert scorer().trial(HALF, 0, 9, JUDGES, "judges") == trials[0]


def test_a_trial_leaves_the_snapshot_as_it_was() -> None:
    known = scorer()
    before = known.snapshots[0].clone()
    known.trial(HALF, 0, 1, JUDGES, "judges")
    assert torch.equal(known.snapshots[0], before)


def test_a_trial_that_diverges_counts_as_the_worst_and_is_finite() -> None:
    known = scorer(replace(RULES, learning_rate=1e12), steps=8)
    trial = known.trial(WHOLE, 0, 1, JUDGES, "judges")
    before = known.trial(WHOLE, 0, 2, JUDGES, "judges").decrease
    assert -WORST_LOSS < trial.decrease < -WORST_LOSS + 2.0
    assert before == trial.decrease


def test_a_snapshot_that_is_no_model_is_refused() -> None:
    known = scorer()
    known.snapshots[0].fill_(float("nan"))
    with pytest.raises(NotFinite, match="held-out loss is nan"):
        known.trial(WHOLE, 0, 1, JUDGES, "judges")


def test_with_static_norm_models_are_judged_by_statistics_collected_for_them() -> None:
    """What the snapshot has in their place counts with running statistics alone."""
    torch.manual_seed(3)
    module = NormNet()
    graph = channel_graph(module)
    spoilt = flatten(module)
    tensors = views(spoilt, graph.manifest)
    for name, tensor in tensors.items():
        if name.endswith("running_var"):
            tensor.fill_(1e6)
    starts = (flatten(module), spoilt)
    trials = {}
    for norm in ("running", "static"):
        rules = replace(RULES, norm=norm, rescale=False)
        known = Scorer(module, graph, rules, LEARNING, starts, steps=3)
        trials[norm] = [known.trial((3, 5), number, 9, JUDGES, "judges") for number in range(2)]
    assert trials["static"][0] == trials["static"][1]
    assert trials["running"][0] != trials["running"][1]


def test_mini_batches_are_all_alike_and_go_through_the_examples_before_they_come_again() -> None:
    """30 examples make 3 whole mini-batches of 8 an epoch."""
    found = batches(LEARNING, RULES, 7, seed=4)
    assert [len(batch) for batch in found] == [8] * 7
    epoch = torch.cat([batch.inputs for batch in found[:3]]).reshape(24, -1)
    assert len(torch.unique(epoch, dim=0)) == 24
    few = batches(LEARNING.take(torch.arange(5)), RULES, 2, seed=4)
    assert [len(batch) for batch in few] == [5, 5]


def test_snapshots_are_points_of_one_training() -> None:
    module = net()
    first = flatten(module)

    def at(steps: int, *shares: float) -> tuple[torch.Tensor, ...]:
        return snapshots(module, first, LEARNING, RULES, steps=steps, at=shares, seed=5)

    begin, early, late = at(10, 0.0, 0.2, 1.0)
    assert torch.equal(begin, first)
    assert torch.equal(early, at(2, 1.0)[0])
    assert torch.equal(late, at(20, 0.5)[0])
    assert not torch.equal(early, late)


def test_a_vector_that_drops_more_keeps_a_part_of_what_another_keeps() -> None:
    graph = channel_graph(net())
    orders = draw_orders(graph, torch.Generator().manual_seed(8))
    more, less = first_of(graph, (3, 6), orders), first_of(graph, (2, 4), orders)
    assert more.kept[1] is None
    assert more.sizes == (3, 6)
    assert less.sizes == (2, 4)
    for small, large in zip(less.kept, more.kept, strict=True):
        assert small is not None
        assert small.tolist() == sorted(small.tolist())
        assert large is None or set(small.tolist()) < set(large.tolist())


def test_over_many_draws_every_filter_is_kept_alike_often() -> None:
    """2 of 4: each in half of 4000 draws, with a standard deviation of 32."""
    graph, chance = channel_graph(net()), torch.Generator().manual_seed(1)
    counts: Counter[int] = Counter()
    for _ in range(4000):
        kept = first_of(graph, (2, 6), draw_orders(graph, chance)).kept[0]
        assert kept is not None
        counts.update(kept.tolist())
    assert set(counts) == {0, 1, 2, 3}
    assert all(abs(count - 2000) < 160 for count in counts.values())


def test_the_shares_of_kept_channels_keep_just_those() -> None:
    graph = channel_graph(net())
    for sizes in ((1, 1), (3, 5), WHOLE):
        assert kept_sizes(graph, shares_of(graph, sizes)) == sizes


def test_a_front_is_chosen_from_by_what_is_affordable() -> None:
    """Item 10: never dearer than the resource where a row fits; never worse with more of it."""
    scores = {0.1: 0.2, 0.3: 0.5, 0.6: 0.55, 1.0: 0.7}
    table = DropoutTable(tuple(DropoutRow(cost, (1 - cost,)) for cost in scores))
    chosen = [table.choose(resource / 100).cost for resource in range(1, 101)]
    pairs = list(zip(range(1, 101), chosen, strict=True))
    assert all(cost <= resource / 100 for resource, cost in pairs if resource >= 10)
    assert chosen == sorted(chosen)
    assert [scores[cost] for cost in chosen] == sorted(scores[cost] for cost in chosen)
    assert chosen[0] == 0.1
    assert chosen[-1] == 1.0

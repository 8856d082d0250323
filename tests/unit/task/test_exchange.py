"""A task whose rule exchanges a second vector with its devices: SCAFFOLD."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.aggregating import CNN, TASK, header
from support.scalar import device
from torch import Tensor

from hocket.core.coordinator import Coordinator
from hocket.core.events import DeviceSeen, Pushed
from hocket.core.payload import Payload
from hocket.core.strategy import Global
from hocket.core.submodel import FULL, SubmodelSpec
from hocket.errors import (
    InvalidRequest,
    NotFinite,
    PayloadTooLarge,
    ShapeMismatch,
    TaskError,
    UnknownVersion,
)
from hocket.learn.codecs import Fp16, Raw, TopK
from hocket.learn.codecs.payload import encode_payload
from hocket.learn.strategies import FedAvg, Scaffold
from hocket.task import load_task
from hocket.task.setup import set_up
from hocket.task.soundness import check_update

RULE = Scaffold(cohort=2, devices=3)
BASIC = replace(TASK, model=CNN, strategy=FedAvg(cohort=2))
PLAIN, SETUP = set_up(BASIC), set_up(replace(BASIC, strategy=RULE))
MODEL = SETUP.sliceable()
SIZE = SETUP.terms.manifest.size
CHANCE = torch.Generator().manual_seed(1)
DELTA, EXTRA = torch.randn(SIZE, generator=CHANCE), torch.randn(SIZE, generator=CHANCE)


def payload(delta: Tensor = DELTA, extra: Tensor = EXTRA) -> Payload:
    made = MODEL.encode(delta, MODEL.plan(FULL), extra)
    return Payload(made.header, bytearray(memoryview(made.body)))


def test_each_tensor_travels_twice_both_ways() -> None:
    plain, terms = PLAIN.terms, SETUP.terms
    names = [tensor.name for tensor in plain.manifest.tensors]
    assert [t.name for t in terms.travelling.tensors] == [*names, *(f"c/{n}" for n in names)]
    assert terms.manifest == plain.manifest == plain.travelling
    assert terms.down_bytes == 2 * plain.down_bytes == 8 * SIZE
    for work, terms in ((SETUP.rules.work, SETUP.terms), (PLAIN.rules.work, PLAIN.terms)):
        assert work.down_bytes == work.up_bytes == terms.down_bytes
    assert SETUP.terms.max_update_bytes > 1.9 * PLAIN.terms.max_update_bytes


def test_devices_train_the_whole_model_by_plain_steps_and_carry_nothing_over() -> None:
    plain, terms = PLAIN.terms, SETUP.terms
    assert plain.dropout_rows
    assert plain.refresh.enabled
    assert plain.encoding.error_feedback
    assert not terms.dropout_rows
    assert not terms.refresh.enabled
    assert not terms.encoding.error_feedback


def test_an_update_comes_apart_into_its_delta_and_its_extra() -> None:
    sent = payload()
    check_update(header("a"), sent.header, SETUP.terms, MODEL)
    update = MODEL.decode(header("a"), sent, MODEL.plan(FULL))
    assert torch.equal(update.delta, DELTA)
    assert update.extra is not None
    assert torch.equal(update.extra, EXTRA)
    assert update.held is None
    assert update.wire_bytes == SETUP.terms.down_bytes
    assert update.square == pytest.approx(float(DELTA.double().square().sum()), rel=1e-5)


def test_a_few_values_are_told_apart_too() -> None:
    """No device of ours sends top-k here, but the codec is each client's own choice."""
    both = torch.cat((DELTA, EXTRA))
    sent = encode_payload(both, SETUP.terms.travelling, TopK(0.01), CHANCE)
    update = MODEL.decode(header("a"), sent, MODEL.plan(FULL))
    assert update.extra is not None
    assert update.delta.shape == update.extra.shape == (SIZE,)
    kept = update.delta != 0
    assert 0 < int(kept.sum()) < SIZE
    assert torch.equal(update.delta[kept], DELTA[kept])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
@pytest.mark.parametrize("half", ["delta", "extra"])
def test_a_value_that_is_no_number_is_refused_in_either_half(half: str, bad: float) -> None:
    broken = DELTA.clone()
    broken[7] = bad
    made = payload(broken, EXTRA) if half == "delta" else payload(DELTA, broken)
    with pytest.raises(NotFinite):
        MODEL.decode(header("a"), made, MODEL.plan(FULL))


def test_an_update_without_its_second_half_is_refused() -> None:
    once = encode_payload(DELTA, SETUP.terms.manifest, Raw(), CHANCE)
    with pytest.raises(ShapeMismatch, match="the payload has 8 tensors, the model 16"):
        check_update(header("a"), once.header, SETUP.terms, MODEL)


def test_both_halves_count_towards_the_largest_body() -> None:
    sent = payload().header
    tight = replace(SETUP.terms, max_update_bytes=8 * SIZE)
    check_update(header("a"), sent, tight, MODEL)
    with pytest.raises(PayloadTooLarge, match="max_update_bytes"):
        check_update(header("a"), sent, replace(tight, max_update_bytes=8 * SIZE - 1), MODEL)


def test_a_part_of_the_model_is_neither_handed_out_nor_taken() -> None:
    half = SubmodelSpec((0.5,))
    assert PLAIN.sliceable().plan(half).sliced_manifest.size < SIZE
    with pytest.raises(InvalidRequest, match="the whole model"):
        MODEL.plan(half)
    with pytest.raises(InvalidRequest, match="the whole model"):
        check_update(header("a", spec=half), payload().header, SETUP.terms, MODEL)


def test_a_base_goes_down_with_its_vector_and_a_reader_gets_the_model_alone() -> None:
    plan = MODEL.plan(FULL)
    down = MODEL.encode(SETUP.first, plan, EXTRA)
    assert down.header.tensors == payload().header.tensors
    values = torch.frombuffer(bytearray(memoryview(down.body)), dtype=torch.float32)
    assert torch.equal(values, torch.cat((SETUP.first, EXTRA)))
    assert MODEL.encode(SETUP.first, plan).header.wire_bytes == 4 * SIZE


def test_the_vector_goes_with_the_newest_version_only() -> None:
    first = Global(SETUP.first)
    core = Coordinator.begin(SETUP.rules, SETUP.strategy, first)
    plain = Coordinator.begin(PLAIN.rules, PLAIN.strategy, first)
    for name in "ab":
        core.handle(DeviceSeen(device(name)), 0.0)
        core.versions.hold(device(name).device_id, first.version)
    before = core.exchanged(first.version)
    assert before is not None
    assert not before.any()
    for name in "ab":
        update = MODEL.decode(header(name), payload(), MODEL.plan(FULL))
        core.handle(Pushed(update), 0.0)
    newest = core.exchanged(core.newest.version)
    assert newest is not None
    assert torch.allclose(newest, EXTRA * 2 / 3)
    with pytest.raises(UnknownVersion, match="version 1 is over"):
        core.exchanged(first.version)
    assert plain.exchanged(first.version) is None


def test_what_cannot_be_exchanged_is_refused_as_the_task_is_read(tmp_path: Path) -> None:
    file = tmp_path / "task.toml"
    task = (
        "[model]\nfunction = 'hocket.learn.models:mlp'\n"
        "arguments = { inputs = 64, classes = 10, hidden = [4] }\n[data]\nkind = 'digits'\n"
        "[strategy]\nkind = 'scaffold'\n"
    )
    file.write_text(task)
    assert load_task(file).strategy == Scaffold()
    for more, says in (
        ("[codec]\nkind = 'topk'\n", r"codec\.kind is 'topk', but strategy\.kind is 'scaffold'"),
        (
            "[training]\nlocal_epochs = 1\nbatch_size = 8\nlearning_rate = 0.1\nmomentum = 0.9\n",
            r"training\.momentum is 0\.9, but strategy\.kind is 'scaffold'",
        ),
        (
            "[training]\nlocal_epochs=1\nbatch_size=8\nlearning_rate=0.1\ngradient_clip_norm=1.0\n",
            r"training\.gradient_clip_norm is 1\.0, but strategy\.kind is 'scaffold'",
        ),
    ):
        file.write_text(task + more)
        with pytest.raises(TaskError, match=says):
            load_task(file)
    with pytest.raises(TaskError, match=r"codec\.kind is 'fp16'"):
        replace(BASIC, strategy=RULE, codec=Fp16())

"""What `hocket bench ingest` runs: its cases, and the task that each of them trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hocket.cli.bench.cases import CASES, NAMES, Coding, Rule, Wishes, chosen
from hocket.cli.bench.task_file import hidden_for, parameters, task_text
from hocket.core.manifest import Manifest, TensorSpec
from hocket.core.payload import CodecId, Packing
from hocket.errors import InvalidRequest
from hocket.learn.codecs.payload import decode_payload
from hocket.learn.models import mlp
from hocket.learn.strategies import FedASMU, FedAsync
from hocket.task import load_task
from hocket.task.setup import set_up


def test_the_cases_are_those_of_the_promises() -> None:
    known = {case.name: case for case in CASES}
    assert len(known) == len(CASES)
    assert {
        name: [(t.figure, t.at_least) for t in case.targets]
        for name, case in known.items()
        if case.targets
    } == {
        "dense-44mb": [("ratio_to_raw", 0.6)],
        "dense-44mb-one": [("ratio_to_raw", 0.6)],
        "dense-44mb-durable": [("ratio_to_limit", 0.8)],
        "dense-1mb": [("updates_per_s", 350)],
        "dense-1mb-durable": [("updates_per_s", 200)],
        "topk-44mb": [("updates_per_s", 60)],
        "topk-44mb-durable": [("updates_per_s", 60)],
    }
    assert known["dense-44mb-one"].streams == 1
    assert known["recovery"].updates == 1000
    assert known["recovery"].recovers
    assert {case.strategy for case in CASES if not case.compares} == {Rule.FEDASMU}
    assert NAMES[-1] == "devices"


@pytest.mark.parametrize("values", [1_000, 10_000, 262_144, 11_000_000])
def test_a_model_has_the_asked_size(values: int) -> None:
    hidden = hidden_for(values)
    assert parameters(hidden) == pytest.approx(values, rel=0.01 if values > 5_000 else 0.1)
    if values < 1_000_000:
        built = mlp(inputs=64, classes=10, hidden=hidden)
        assert sum(p.numel() for p in built.parameters()) == parameters(hidden)


@pytest.mark.parametrize("strategy", Rule)
@pytest.mark.parametrize("coding", Coding)
def test_the_task_never_ends_and_forgets_no_base(
    tmp_path: Path, strategy: Rule, coding: Coding
) -> None:
    case = replace(CASES[0], model_values=3_000, strategy=strategy, coding=coding)
    path = tmp_path / "task.toml"
    path.write_text(task_text(case))
    setup = set_up(load_task(path))
    assert setup.terms.manifest.dense_bytes == 4 * parameters(hidden_for(case.model_values))
    rules = setup.rules
    assert (rules.stop.versions, rules.stop.accuracy, rules.stop.wall_s) == (None, None, None)
    assert min(rules.evaluate_every, rules.staleness_limit, rules.train_timeout_s) > 10**8
    match setup.strategy:
        case FedASMU(staleness_limit=limit):
            assert strategy is Rule.FEDASMU
            assert limit > 10**8
        case other:
            assert isinstance(other, FedAsync)
            assert other.max_tau is None


def test_wishes_change_every_case() -> None:
    wishes = Wishes(updates=5, streams=3, model_bytes=8_000, strategy=Rule.FEDASYNC)
    cases = chosen(wishes)
    assert [case.name for case in cases] == [c.name for c in CASES if not c.compares]
    assert {(c.updates, c.model_bytes, c.strategy) for c in cases} == {(5, 8_000, Rule.FEDASYNC)}
    assert {c.name: c.streams for c in cases if c.streams != 3} == {"dense-44mb-one": 1}
    assert chosen(Wishes()) == CASES
    assert [case.name for case in chosen(Wishes(only=["recovery", "dense-1mb"]))] == [
        "dense-1mb",
        "recovery",
    ]
    assert chosen(Wishes(only=["devices"])) == ()


def test_a_wrong_name_is_told_with_the_right_one() -> None:
    with pytest.raises(InvalidRequest, match="did you mean dense-44mb"):
        chosen(Wishes(only=["dense-44"]))


def test_payloads_differ_and_are_what_a_device_would_send() -> None:
    from hocket.cli.bench.payloads import make_payloads  # noqa: PLC0415 -- as the pusher does

    manifest = Manifest((TensorSpec("w", (100, 50)), TensorSpec("b", (50,))))
    for coding, codec in ((Coding.RAW, CodecId.RAW), (Coding.TOPK, CodecId.TOPK)):
        made = make_payloads(manifest, coding, 3, seed=1)
        assert len({bytes(payload.body) for payload in made}) == 3
        assert made[0].header.tensors[0].codec is codec
        again = make_payloads(manifest, coding, 3, seed=1)
        assert [bytes(p.body) for p in again] == [bytes(p.body) for p in made]
        values = decode_payload(made[0], manifest)
        sent = {Coding.RAW: 5_050, Coding.TOPK: 50 + 50}[coding]  # the small tensor goes whole
        assert int((values != 0).sum()) == sent
    assert make_payloads(manifest, Coding.RAW, 1, seed=1)[0].header.packing is Packing.NONE

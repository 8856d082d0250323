"""`hocket dropout search`: what is tried, what is kept, and what is said of it."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from support.searching import TINY, InProcess, tiny_task

from hocket.cli.compare.engine import Engine, Work
from hocket.cli.dropout.jobs import Job, Row
from hocket.cli.dropout.measuring import step_seconds
from hocket.cli.dropout.searching import Done, Wishes, search
from hocket.cli.dropout.settings import Settings
from hocket.cli.dropout.trying import gather
from hocket.errors import CorruptState, DataError, HocketError, ModelError, StartupError
from hocket.learn.flat import manifest_of
from hocket.learn.submodels.graph import channel_graph
from hocket.sim.study.jobs import Failure
from hocket.task import load_task
from hocket.task.dropout_table import read_dropout_table
from hocket.task.setup import set_up


class Tried:
    """Searches in one folder, and the jobs that each of them ran."""

    def __init__(self, folder: Path) -> None:
        self.task, self.out = tiny_task(folder), folder / "out"
        self.engine: InProcess
        self.said = io.StringIO()

    def __call__(
        self,
        settings: Settings = TINY,
        interrupted_after: int | None = None,
        *,
        measure: bool = False,
    ) -> Done:
        def make(make_work: Callable[[], Work[Job, Row]]) -> Engine[Job, Row]:
            self.engine = InProcess(make_work, interrupted_after)
            return self.engine

        asked = Wishes(self.task, settings, out=self.out, command="hocket dropout", measure=measure)
        return search(asked, Console(file=self.said, width=200), make)

    @property
    def table(self) -> Path:
        return self.out / "table.toml"


@pytest.fixture
def tried(tmp_path: Path) -> Tried:
    return Tried(tmp_path)


@dataclass
class Ended:
    """A search that has ended: it is looked at, or gone on from in a copy of its folder."""

    tried: Tried
    done: Done

    def copied(self, folder: Path) -> Tried:
        shutil.copytree(self.tried.task.parent, folder, dirs_exist_ok=True)
        return Tried(folder)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    tried = Tried(tmp_path_factory.mktemp("ended"))
    return Ended(tried, tried())


def test_a_search_ends_in_a_table_for_the_task_s_model(ended: Ended) -> None:
    tried, done = ended.tried, ended.done
    table = read_dropout_table(tried.table)
    model = load_task(tried.task).build_model()
    table.check(manifest_of(model), [group.name for group in channel_graph(model).groups])
    assert (table.task, table.seed, table.command) == ("tiny", 4, "hocket dropout")
    assert table.settings["population"] == 6
    costs, scores = [row.cost for row in table.row], [row.score for row in table.row]
    assert costs == sorted(costs)
    assert scores == sorted(scores)  # a front: what costs more converges faster
    assert len(set(costs)) == len(costs)
    assert all(row.seconds is None for row in table.row)
    assert dict(done.files).keys() == {"table", "figures", "numbers"}
    assert all(file.exists() for _, file in done.files)
    assert "<svg" in (tried.out / "front.svg").read_text()
    page = (tried.out / "search.html").read_text()
    for shown in ("hocket dropout", "Uniform vectors beside", "<svg", "population"):
        assert shown in page
    numbers = json.loads((tried.out / "search.json").read_text())
    assert [row["cost"] for row in numbers["rows"]] == costs
    assert [row["rate"] for row in numbers["uniform"]] == pytest.approx([0.9, 0.45, 0.0])
    assert all(row["row_cost"] <= row["cost"] for row in numbers["uniform"])
    assert numbers["vectors_tried"] == len(searched(tried))


def searched(tried: Tried) -> set[tuple[int, ...]]:
    return {job.sizes for job in tried.engine.ran if job.stage == "search"}


def test_stages_have_seeds_and_uniform_vectors_as_they_should(ended: Ended) -> None:
    tried, done = ended.tried, ended.done
    stages = [job.stage for job in tried.engine.ran]
    assert stages == sorted(stages, key=["search", "front", "proof"].index)
    by_stage = {
        stage: {job.sizes for job in tried.engine.ran if job.stage == stage} for stage in stages
    }
    uniform = {one.sizes for one in done.findings.uniform.values()}
    assert uniform == {(16, 32), (9, 18), (2, 3)}
    assert all(uniform <= sizes for sizes in by_stage.values())
    assert by_stage["proof"] == uniform | {one.sizes for one in done.findings.front}
    assert {(job.stage, job.seeds) for job in tried.engine.ran} == {
        ("search", 1), ("front", 2), ("proof", 2)
    }  # fmt: skip


def test_stages_judge_by_different_examples_and_none_learns_from_them(tmp_path: Path) -> None:
    """Of 96 digits to learn from 60 are taken: ten for each stage, the others to learn from."""
    task = load_task(tiny_task(tmp_path))
    material = gather(task, 60)
    parts = [material.learning, *material.judging.values()]
    assert [len(part) for part in parts] == [30, 10, 10, 10]
    pixels = [{tuple(image.flatten().tolist()) for image in part.inputs} for part in parts]
    every = {image for part in pixels for image in part}
    assert len(every) == sum(map(len, pixels)) == 60
    held_out = {tuple(image.flatten().tolist()) for image in task.test_examples().inputs}
    assert not held_out & every


def test_an_interrupted_search_goes_on_to_the_same_bits(tried: Tried, ended: Ended) -> None:
    whole = ended.tried
    jobs = len(whole.engine.ran)
    ran = 0
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            tried(interrupted_after=jobs // 3)
        ran += len(tried.engine.ran)
        assert not tried.table.exists()
        assert not list(tried.out.rglob("*.partial"))
    tried()
    assert ran + len(tried.engine.ran) == jobs
    for name in ("table.toml", "search.json", "front.svg"):
        assert (tried.out / name).read_bytes() == (whole.out / name).read_bytes()


def test_what_was_tried_is_not_tried_again(ended: Ended, tmp_path: Path) -> None:
    tried, known = ended.copied(tmp_path), searched(ended.tried)
    before = tried.table.read_bytes()
    tried()
    assert tried.engine.ran == []
    assert tried.table.read_bytes() == before
    assert "6 vectors, 6 tried before" in tried.said.getvalue()
    tried(replace(TINY, generations=4))
    assert searched(tried)
    assert not searched(tried) & known
    tried(replace(TINY, steps=2))
    assert searched(tried) >= {(16, 32), (9, 18), (2, 3)}


def test_a_task_that_names_its_table_later_is_not_searched_again(
    ended: Ended, tmp_path: Path
) -> None:
    tried = ended.copied(tmp_path)
    table = '\n[submodel]\nkind = "distreal"\ntable = "out/table.toml"\n[pace]\nkind = "rounds"\n'
    text = tried.task.read_text()
    tried.task.write_text(text + table)
    assert set_up(load_task(tried.task)).terms.dropout_rows == read_dropout_table(tried.table).rows
    tried()
    assert tried.engine.ran == []
    tried.task.write_text(text.replace("0.05", "0.06"))
    tried()
    assert tried.engine.ran


class RunningRay(ModuleType):
    """As much of Ray as is used: a remote function runs at once, in this very process."""

    class exceptions:  # noqa: N801 - Ray's name
        """Its errors."""

        class RayError(Exception):
            """The root of them."""

    def init(self, **_: Any) -> None:
        """A cluster is there."""

    def shutdown(self) -> None:
        """It is left."""

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 3.0}

    def remote(self, **_: Any) -> Callable[[Any], Any]:
        return lambda function: SimpleNamespace(remote=lambda job: _Result(function(job)))

    def wait(self, pending: list[_Result], num_returns: int) -> tuple[list[_Result], list[_Result]]:
        return pending[:num_returns], pending[num_returns:]

    def get(self, result: _Result) -> Row | Failure:
        return result.value


@dataclass(eq=False)
class _Result:
    value: Row | Failure


def test_on_ray_the_same_table_is_found(
    ended: Ended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = ended.tried
    monkeypatch.setitem(sys.modules, "ray", RunningRay("ray"))
    there = tmp_path / "there"
    wishes = Wishes(tried.task, TINY, on_ray=True, out=there, command="hocket dropout")
    search(wishes, Console(file=io.StringIO()))
    assert (there / "table.toml").read_bytes() == tried.table.read_bytes()


def test_with_measure_every_row_has_the_seconds_of_a_step_and_is_the_same_row(
    tried: Tried, ended: Ended
) -> None:
    done = tried(measure=True)
    rows = read_dropout_table(tried.table).row
    unmeasured = tuple(replace(row, seconds=None) for row in rows)
    assert unmeasured == read_dropout_table(ended.tried.table).row
    assert all(row.seconds is not None and 0 < row.seconds < 10 for row in rows)
    assert all(one.seconds for one in done.findings.uniform.values())


def test_a_step_s_seconds_are_those_of_the_fastest_of_steps_that_take_turns(
    tmp_path: Path,
) -> None:
    """The fake clock says n^2 at look n, so later steps seem slower.

    Three turns of two vectors warm up, with a look each. Then the first vector looks at 6 and 7,
    the second at 8 and 9.
    """
    material = gather(load_task(tiny_task(tmp_path)), 60)
    looks = count()

    def stopwatch() -> float:
        return float(next(looks) ** 2)

    taken = step_seconds(material, [(16, 32), (2, 3)], stopwatch)
    assert taken == {(16, 32): 7**2 - 6**2, (2, 3): 9**2 - 8**2}
    assert next(looks) == 6 + 4 * 15


def test_a_damaged_job_is_named(ended: Ended, tmp_path: Path) -> None:
    tried = ended.copied(tmp_path)
    file = min((tried.out / "jobs").iterdir())
    file.write_text('{"row": {}}')
    with pytest.raises(CorruptState, match=rf"{file.name} is no job of this search"):
        tried()
    file.unlink()
    tried()
    assert len(tried.engine.ran) == 1


def test_damaged_snapshots_are_named(ended: Ended, tmp_path: Path) -> None:
    tried = ended.copied(tmp_path)
    (file,) = tried.out.glob("snapshots-*")
    file.write_bytes(b"nothing")
    with pytest.raises(CorruptState, match=rf"{re.escape(file.name)} holds no snapshots"):
        tried()


def test_trials_that_fail_stop_the_search_with_their_reason(tried: Tried) -> None:
    def make(_: Callable[[], Work[Job, Row]]) -> Engine[Job, Row]:
        def broken(_: Job) -> Row:
            raise DataError("the disk is gone")

        return InProcess(lambda: broken)

    wishes = Wishes(tried.task, TINY, out=tried.out)
    with pytest.raises(HocketError, match=r"keep \(16, 32\) channels failed: the disk is gone"):
        search(wishes, Console(file=io.StringIO()), make)
    assert not tried.table.exists()


def test_places_are_looked_at_before_anything_is_tried(tried: Tried) -> None:
    tried.out.write_text("a file")
    with pytest.raises(StartupError, match=r"out.* cannot be written: .*--out"):
        tried()


def test_a_model_of_which_nothing_can_be_dropped_is_refused(tried: Tried) -> None:
    text = tried.task.read_text().replace("digits_cnn", "mlp")
    tried.task.write_text(text + "\n[model.arguments]\ninputs = 64\nclasses = 10\n")
    with pytest.raises(ModelError, match="no part of this model can be left out: it has no layer"):
        tried()


def test_too_few_examples_are_refused(tried: Tried) -> None:
    with pytest.raises(DataError, match="11 examples to learn from; a search wants 12"):
        tried(replace(TINY, examples=11))

"""`hocket dropout search`: its options, the keys of its jobs, and what is said of findings."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from support.commands import hocket
from support.searching import TINY

from hocket.cli.dropout.figures import draw_front
from hocket.cli.dropout.findings import Candidate, Findings
from hocket.cli.dropout.jobs import Common, Job, JobFiles, Place, Row
from hocket.cli.dropout.page import beside_cells
from hocket.cli.dropout.settings import SCALES, Settings
from hocket.cli.dropout.usage import lines_for
from hocket.errors import CorruptState


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--d-max", "1"], "--d-max is 1.0; it must be above 0 and below 1"),
        (["--population", "3"], "--grid is 10; it must be 2 or more, at most the population"),
        (["--grid", "1"], "--grid is 1; it must be 2 or more"),
        (["--seeds", "0"], "--seeds is 0; it must be from 1 to 1000"),
        (["--steps", "0"], "--steps is 0; it must be 1 or more"),
        (["--generations", "-1"], "--generations is -1; it must be 0 or more"),
        (["--snapshots", "0.5,0.1"], "it must be shares from 0 to 1, ascending"),
        (["--snapshots", "all"], "--snapshots all must be shares with commas between"),
        (["--crossover", "2"], "--crossover is 2.0; it must be from 0 to 1"),
        (["--mutation-eta", "0"], "--mutation-eta is 0.0; it must be above 1 and below 100"),
    ],
)
def test_options_out_of_their_range_are_refused(
    capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert hocket("dropout", "search", *options) == 1
    assert said in capsys.readouterr().err


def test_without_pymoo_it_is_said_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pymoo", None)
    assert hocket("dropout", "search") == 1
    assert "pip install 'hocket[search]'" in capsys.readouterr().err


def test_the_full_scale_is_that_of_the_methods_page() -> None:
    full = SCALES["full"]
    assert (full.population, full.generations, full.steps, full.seeds) == (64, 50, 100, 3)
    assert full.snapshots == (0.0, 0.1, 0.5)
    assert (full.d_max, full.crossover, full.crossover_eta, full.mutation_eta) == (0.9, 0.9, 20, 20)


def test_the_page_has_the_scales_as_they_are() -> None:
    page = (Path(__file__).parents[3] / "docs" / "dropout.md").read_text(encoding="utf-8")
    scales = page.split("## Scales\n")[1].split("\n## ")[0]
    head, *rows = re.findall(
        r"^\| `?([a-z-]+)`? \| (.*?) \| (.*?) \| (.*?) \|", scales, re.MULTILINE
    )
    assert head == ("option", *SCALES)
    known = {
        f"--{name.replace('_', '-')}": tuple(shown(scale.values[name]) for scale in SCALES.values())
        for name in Settings().values
    }
    told = {option: tuple(values) for option, *values in rows}
    assert len(told) == 9
    assert told == {option: known[option] for option in told}
    fixed = {option: values for option, values in known.items() if option not in told}
    assert {option: set(values) for option, values in fixed.items()} == {
        "--d-max": {"0.9"},
        "--score": {"loss"},
        "--crossover": {"0.9"},
        "--crossover-eta": {"20"},
        "--mutation-eta": {"20"},
    }


def shown(value: Any) -> str:
    """As the page writes it."""
    values = value if isinstance(value, list) else [value]
    return ",".join(f"{one:g}" if isinstance(one, float) else str(one) for one in values)


def row(*scores: float) -> Row:
    return Row(tuple((score,) for score in scores), tuple((0.0,) for _ in scores), 1.0)


def candidate(cost: float, *proof: float) -> Candidate:
    return Candidate((int(100 * cost),), (1 - cost,), cost, row(cost), row(*proof))


def findings(*front: Candidate, **uniform: Candidate) -> Findings:
    named = {float(rate.removeprefix("u")) / 10: one for rate, one in uniform.items()}
    settings = replace(TINY, final_seeds=len(front[0].proof("loss")))
    return Findings(settings, front, named, tried=9)


FRONT = (candidate(0.2, 1.0, 1.1, 1.0), candidate(0.6, 2.0, 2.1, 2.0))


def test_a_uniform_vector_is_set_beside_the_row_that_its_cost_affords() -> None:
    """The differences by seed: 0.5, 0.5, 0.6 wins; 1.0, -1.0, 0.1 is a tie."""
    known = findings(
        *FRONT, u8=candidate(0.3, 0.5, 0.6, 0.4), u5=candidate(0.7, 1.0, 3.1, 1.9), u9=FRONT[0]
    )
    cheapest, cheap, dear = known.besides
    assert (cheapest.same, cheapest.verdict, cheapest.ahead) == (True, "ties", 0.0)
    assert (cheap.row, cheap.verdict) == (FRONT[0], "wins")
    assert cheap.ahead == pytest.approx(1.6 / 3)
    assert (dear.row, dear.verdict) == (FRONT[1], "ties")
    said = " ".join(known.statements)
    assert "beats or equals every uniform vector: 1 wins and 2 ties of 3" in said
    assert "0.05 losses would be expected by chance" in said
    assert [cells[-1] for cells in beside_cells(known)] == ["is a row", "wins", "ties"]


def test_a_loss_is_told() -> None:
    known = findings(*FRONT, u5=candidate(0.7, 3.0, 3.1, 3.0))
    assert "the table loses to 1 of 1 uniform vectors (0.50)" in " ".join(known.statements)


def test_with_one_seed_nothing_is_told() -> None:
    known = findings(candidate(0.2, 1.0), u8=candidate(0.3, 0.5))
    assert list(known.statements) == [
        "With one final seed it cannot be told whether a difference is more than chance."
    ]


def test_rows_that_are_outpaced_on_this_machine_are_named_and_stay() -> None:
    """The second takes longer than the third, which scores higher; the first as long as it."""
    timed = [
        replace(candidate(cost, cost, cost, cost), seconds=seconds)
        for cost, seconds in ((0.1, 2.0), (0.2, 2.5), (0.6, 2.1), (0.9, 4.0))
    ]
    known = findings(*timed, u8=candidate(0.95, 0.5, 0.6, 0.4))
    assert known.outpaced == tuple(timed[:2])
    *_, last = known.statements
    assert last.startswith("On this machine 2 of 4 rows (cost 0.1000, 0.2000) take no less time")
    assert [row.cost for row in known.front] == [0.1, 0.2, 0.6, 0.9]
    slower = [replace(row, seconds=row.cost) for row in timed]
    for untold in (slower, [replace(row, seconds=None) for row in timed]):
        assert findings(*untold).outpaced == ()
        assert "On this machine" not in " ".join(findings(*untold).statements)


def test_the_lines_for_a_task_name_the_table_from_where_the_task_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "tasks").mkdir(parents=True)
    (tmp_path / "linked").symlink_to(tmp_path / "here" / "tasks")
    monkeypatch.chdir(tmp_path / "here")
    table = Path("runs") / 'a "b"' / "table.toml"
    for task, path in (
        (Path("tasks/mine.toml"), '../runs/a "b"/table.toml'),
        (tmp_path / "linked" / "mine.toml", '../runs/a "b"/table.toml'),
        (Path("mine.toml"), 'runs/a "b"/table.toml'),
        (None, 'runs/a "b"/table.toml'),
    ):
        said, *lines = lines_for(task, table)
        told = tomllib.loads("\n".join(lines))
        assert told == {"submodel": {"kind": "distreal", "table": path}}
        assert ("a task file in this folder" if task is None else str(task)) in said
        folder = Path() if task is None else task.parent
        assert (folder / path).resolve() == table.resolve()


def test_the_figure_has_the_table_and_the_uniform_vectors() -> None:
    known = findings(*FRONT, u8=candidate(0.3, 0.5, 0.6, 0.4))
    axes = Figure().subplots()
    draw_front(known, axes)
    drawn = {
        bars.get_label(): np.asarray(bars.lines[0].get_xydata()).tolist()
        for bars in axes.containers
        if isinstance(bars, ErrorbarContainer)
    }
    assert drawn["the table"] == [pytest.approx([0.2, 3.1 / 3]), pytest.approx([0.6, 6.1 / 3])]
    assert drawn["uniform vectors"] == [pytest.approx([0.3, 0.5])]


def test_rows_that_ruin_the_model_do_not_flatten_all_others() -> None:
    known = findings(candidate(0.02, -90.0, -100.0), *FRONT, u8=candidate(0.3, 0.5, 0.6))
    axes = Figure().subplots()
    draw_front(known, axes)
    assert axes.get_yscale() == "symlog"
    low, middle, high = axes.transData.transform([(0.0, -95.0), (0.0, 0.5), (0.0, 2.0)])[:, 1]
    assert high - middle > 0.1 * (high - low)
    plain = Figure().subplots()
    draw_front(findings(*FRONT, u8=candidate(0.3, 0.5, 0.6, 0.4)), plain)
    assert plain.get_yscale() == "linear"


def settings_of(job: Job) -> Iterator[Job]:
    """Jobs that differ from this one in what decides."""
    for changes in ({"seed": 9}, {"steps": 9}, {"task": "other"}, {"snapshots": (0.5,)}):
        yield replace(job, common=replace(job.common, **changes))
    yield replace(job, stage="front")
    yield replace(job, seeds=2)
    yield replace(job, sizes=(1, 2))


def test_whatever_decides_a_trial_is_part_of_its_key(tmp_path: Path) -> None:
    job = Job(Common.of(TINY, "task", "model"), "search", 1, (3, 4), Place(None, "here"))
    others = list(settings_of(job))
    assert len({job.key, *(other.key for other in others)}) == 1 + len(others)
    assert replace(job, place=Place("file", "there")).key == job.key
    longer = replace(job.common, steps=9)
    assert longer.snapshot_key == job.common.snapshot_key
    assert replace(longer, training_steps=9).snapshot_key != job.common.snapshot_key
    files = JobFiles(tmp_path)
    assert files.read(job) is None
    kept = Row(((0.1, -0.2),), ((0.3, 0.0),), 1.5)
    files.write(job, kept)
    assert files.read(job) == kept
    assert kept.score("loss") == pytest.approx(-0.05)
    assert kept.by_seed("accuracy") == (0.15,)
    files.write(job, row(0.1))
    with pytest.raises(CorruptState, match="not a number for each trial"):
        files.read(job)

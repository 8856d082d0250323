"""`hocket compare` without simulating: what is run, what is kept, and what is said of it.

Long because all of it is judged on the same made-up jobs: split, each part would make them again.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from rich.console import Console
from support.fake_jobs import Inline, row, seeded, told_by_settings
from typer.testing import CliRunner

from hocket.cli.app import app
from hocket.cli.bench.environment import Environment
from hocket.cli.compare import on_ray
from hocket.cli.compare.comparing import Done, Wishes, compare, plan_of
from hocket.cli.compare.figures import curve_of, draw_curves
from hocket.cli.compare.markdown import write_report
from hocket.cli.compare.words import cells, chance, header, statements
from hocket.cli.compare.worker import simulating
from hocket.errors import CorruptState, HocketError, StartupError, TaskError
from hocket.sim.study.jobs import Failure, Job, Made, Outcome, Row
from hocket.sim.study.planning import Plan
from hocket.sim.study.reading import read_study
from hocket.sim.study.results import tabulate
from hocket.sim.study.study import Claims
from hocket.sim.study.sweeping import sweep

FLEET = """
devices = 4
examples_per_device = 50
[[class]]
name = "quick"
per_example_s = 0.01
[stop]
virtual_s = 100.0
"""
STUDY = """
seeds = [11, 12]
compared = "ours"
grid = { training.learning_rate = [0.1, 0.4, 9] }
[tuning]
seed = 1
[[dataset]]
name = "small"
fleet = "fleet.toml"
virtual_s = 40.0
[[method]]
name = "ours"
changes = { strategy.kind = "fedasmu" }
[[method]]
name = "theirs"
changes = { strategy.kind = "fedasync" }
[[method]]
name = "slow"
changes = { strategy.kind = "fedbuff", stop.versions = 3 }
[claims]
points = [1.0, 2.0]
saving = [3.0, 4.0]
"""
TUNED = 9  # jobs: three methods, three points each
REPORTED = 6  # three methods, two seeds


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "fleet.toml").write_text(FLEET)
    (tmp_path / "mine.toml").write_text(STUDY)
    return tmp_path / "mine.toml"


def run(study: Path, engine: Inline, **wishes: Any) -> Done:
    wanted = Wishes(study, out=study.parent / "out", command="hocket compare mine.toml", **wishes)
    return compare(wanted, Console(file=io.StringIO()), engine)


def jobs_kept(study: Path) -> int:
    return len(list((study.parent / "out" / "jobs").glob("*.json")))


def test_all_is_tuned_then_run_and_written(study: Path) -> None:
    """The learning rate of 9 fails; of the others the fake is better with the larger, 0.4."""
    engine = Inline()
    done = run(study, engine, report=study.parent / "docs" / "result.md")
    assert len(engine.ran) == 1 + TUNED + REPORTED  # the first one measures the machine
    rows = json.loads((study.parent / "out" / "rows.json").read_text())
    assert json.loads(done.rows_text) == rows
    assert {r["settings"]["training.learning_rate"] for r in rows} == {0.4}
    assert {(r["method"], r["seed"]) for r in rows} == {
        (method, seed) for method in ("ours", "theirs", "slow") for seed in (11, 12)
    }
    known = {"dataset", "method", "seed", "final_accuracy", "target", "virtual_s_to_target",
             "bytes_up", "bytes_down"}  # fmt: skip
    assert all(known <= r.keys() for r in rows)
    assert len(done.failures) == 3
    assert all("diverged" in line and "point 3" in line for line in done.failures)
    page = (study.parent / "out" / "compare.html").read_text()
    assert page.count("<svg") == 1
    for shown in ("hocket compare mine.toml", "11, 12", "theirs", "diverged"):
        assert shown in page
    report = (study.parent / "docs" / "result.md").read_text()
    assert "**training.learning_rate = 0.4: 34.18%**" not in report  # of point 1's seed: 0.701
    assert report.count("**training.learning_rate = 0.4:") == 3
    assert "training.learning_rate = 9: failed" in report
    assert "result-small.svg" in report
    assert (study.parent / "docs" / "result-small.svg").exists()
    assert json.loads((study.parent / "docs" / "result.json").read_text()) == rows


def test_another_method_is_set_against_some_of_them(study: Path) -> None:
    """The fake's runs are all alike, so they tie."""
    contrast = """
[[contrast]]
method = "theirs"
against = ["slow"]
claims = { says = "is no slower", source = "Rapp et al." }
"""
    plain = run(study, Inline())
    study.write_text(STUDY + contrast)
    report = study.parent / "result.md"
    engine = Inline()
    done = run(study, engine, report=report)
    assert all("tuning point 3" in name for name in engine.ran)  # what had failed, and no other
    added = [line for line in done.statements if line not in plain.statements]
    assert added[0].startswith("On small the final accuracy of theirs is higher than that of none")
    assert "ties with that of 1 (slow)" in added[0]
    assert added[1] == "It is ahead of it by +0.00 (slow) points."
    assert "Of theirs Rapp et al. claims: is no slower." in added
    for text in (report.read_text(), (study.parent / "out" / "compare.html").read_text()):
        assert all(line in text for line in added)
    fewer = run(study, Inline(), strategies=("ours", "theirs"))
    assert not any("of theirs is" in line for line in fewer.statements)
    study.write_text(STUDY + contrast.replace('"slow"]', '"theirs"]'))
    with pytest.raises(TaskError, match=r"contrast\[0\] sets 'theirs' against itself"):
        run(study, Inline())
    study.write_text(STUDY + contrast.replace('"slow"]', '"quick"]'))
    with pytest.raises(TaskError, match=r"contrast\[0\].against names 'quick', which is not there"):
        run(study, Inline())


def test_what_the_study_will_take_is_told_before_it_begins(study: Path) -> None:
    """The fake measures 3 s / 7 a training and 0.5 s / 3 an evaluation; two of 40 s are reported.

    Periodic, 0.6 s for 3 devices: 200 trainings in 40 s, 80 in 16 s; 50 and 20 evaluations. Sums
    for 6 and 9 runs: 1920 trainings and 480 evaluations, 822.9 s and 80 s.
    """
    text = io.StringIO()
    study.write_text(STUDY + "[scale.now]\nwall_s = 60.0\n")
    wishes = Wishes(study, out=study.parent / "out", scale="now")
    compare(wishes, Console(file=text, width=200), Inline())
    said = text.getvalue()
    assert (
        "small: 15 runs, 1920 trainings of 429 ms and 480 evaluations of 167 ms: 15 min 3 s of one "
        "process" in said
    )
    assert "in all about 15 min 3 s with 1 at a time" in said
    assert "more than the 1 min 0 s this scale is meant to take" in said


def test_an_interrupted_study_goes_on_where_it_stopped(study: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(study, Inline(interrupted_after=4))
    assert jobs_kept(study) == 3  # one of the four had failed
    again = Inline()
    run(study, again)
    assert len(again.ran) == 1 + TUNED + REPORTED - 3
    finished = Inline()
    run(study, finished)
    assert {name.split(" seed")[0] for name in finished.ran} == {
        f"small {method} tuning point 3" for method in ("ours", "theirs", "slow")
    }  # what failed is tried again, and nothing else


def test_a_changed_setting_runs_what_it_changes_alone(study: Path) -> None:
    run(study, Inline())
    study.write_text(STUDY.replace("stop.versions = 3", "stop.versions = 4"))
    again = Inline()
    run(study, again)
    assert {name.split()[1] for name in again.ran if "point 3" not in name} == {"slow"}


def test_longest_jobs_come_first(study: Path) -> None:
    """A run of 400 virtual seconds takes longer than one of 40."""
    more = STUDY.replace(
        "[[method]]",
        '[[dataset]]\nname = "big"\nfleet = "fleet.toml"\nvirtual_s = 400.0\n[[method]]',
        1,
    )
    study.write_text(more)
    engine = Inline()
    run(study, engine)
    tuned = [name.split()[0] for name in engine.ran if "tuning" in name]
    assert tuned == ["big"] * TUNED + ["small"] * TUNED


def test_fewer_methods_and_seeds_are_taken_from_a_study(study: Path) -> None:
    engine = Inline()
    done = run(study, engine, strategies=("theirs", "slow"), seeds=1)
    assert {name.split()[1] for name in engine.ran} == {"theirs", "slow"}
    assert {name.split()[-1] for name in engine.ran} == {"1", "11"}
    assert "one seed" in " ".join(done.statements)
    assert "claims" not in " ".join(done.statements)  # the paper's are of another method
    with pytest.raises(TaskError, match="no method 'x'; choose ours, theirs, slow"):
        plan_of(Wishes(study, strategies=("x",)))
    with pytest.raises(TaskError, match="the study has 2"):
        plan_of(Wishes(study, seeds=3))


def test_a_fleet_is_compared_on_with_strategies_as_they_stand(study: Path) -> None:
    fleet, engine = study.with_name("fleet.toml"), Inline()
    done = run(fleet, engine, strategies=("fedbuff", "fedasync"), seeds=(4, 5))
    assert sorted(engine.ran) == [
        f"fleet {kind} report seed {seed}" for kind in ("fedasync", "fedbuff") for seed in (4, 5)
    ]
    ((title, _, rows),) = done.tables
    assert (title, [cells[0] for cells in rows]) == ("fleet", ["fedbuff", "fedasync"])
    assert plan_of(Wishes(fleet)).run_seeds == (0, 1, 2)
    with pytest.raises(TaskError, match="--scale is for a study"):
        plan_of(Wishes(fleet, scale="paper"))


def test_a_wrong_point_is_told_before_anything_runs(study: Path) -> None:
    study.write_text(STUDY.replace("stop.versions", "stop.version"))
    engine = Inline()
    with pytest.raises(TaskError, match=r"small slow .*unknown key stop\.version"):
        run(study, engine)
    assert engine.ran == []
    assert not (study.parent / "out").exists()


def test_nothing_to_show_is_an_error_with_its_cause(study: Path) -> None:
    study.write_text(STUDY.replace("[0.1, 0.4, 9]", "[9]"))
    with pytest.raises(HocketError, match=r"every run failed.*diverged"):
        run(study, Inline())


def test_a_damaged_job_is_named(study: Path) -> None:
    run(study, Inline())
    for file in (study.parent / "out" / "jobs").iterdir():
        file.write_text("{")
    with pytest.raises(CorruptState, match="remove the file"):
        run(study, Inline())


def test_the_command_line_says_what_goes_on(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study.parent)
    for option, said in [
        ("--seeds=none", "neither a number of seeds nor"),
        ("--seeds=0", "neither a number of seeds nor"),
        ("--strategies=a,,b", "must name each strategy once"),
        ("--strategies=a,a", "must name each strategy once"),
    ]:
        answer = CliRunner().invoke(app, ["compare", str(study), option])
        assert isinstance(answer.exception, TaskError)
        assert said in answer.exception.message


def table_of(ours: float, theirs: float) -> Any:
    runs = {
        "ours": {seed: row(0.1, ours) for seed in (1, 2)},
        "theirs": {seed: row(0.1, 0.1, theirs) for seed in (1, 2)},
        "half": {seed: row(0.1, theirs) for seed in (1, 2)},
    }
    return tabulate("small", runs, "ours", (0.5,), ["half"])


def test_sentences_tell_wins_ties_and_losses() -> None:
    """Means of all evaluations: ours 0.4, theirs (0.1 + 0.1 + 0.7) / 3 = 0.3, half 0.4."""
    claims = Claims((0.6, 23.9), (3.54, 97.98))
    said = list(statements(replace(table_of(0.7, 0.7), claims=claims)))
    assert said[0] == (
        "On small the final accuracy of ours is higher than that of 1 (theirs), ties with that of "
        "none (no more apart than chance explains), and is lower than that of none."
    )
    assert said[1] == (
        "It is ahead of it by +10.00 (theirs) points; the paper claims 0.60 to 23.90."
    )
    assert said[2] == (
        "To 50 % on small ours is faster than 1 (theirs), ties with none and is slower than none; "
        "where both get there it saves +33.3 % (theirs) of the time, where the paper claims "
        "3.54 to 97.98 %."
    )
    assert said[3].startswith("Against its own variants on small: ")
    assert "ties with that of 1 (half)" in said[3]
    assert len(said) == 4
    lost = " ".join(statements(table_of(0.2, 0.7)))
    assert "lower than that of 1 (theirs)" in lost
    assert "slower than 1 (theirs)" in lost
    assert "claims" not in lost


def test_a_claim_in_words_stands_beside_what_came_out() -> None:
    claims = Claims(says="is faster at no loss", source="Rapp et al.")
    said = list(statements(replace(table_of(0.7, 0.7), claims=claims)))
    assert said[1] == "It is ahead of it by +10.00 (theirs) points."
    assert said[2].endswith("it saves +33.3 % (theirs) of the time.")
    assert said[3] == "Of ours Rapp et al. claims: is faster at no loss."


def test_a_method_s_row_has_every_column() -> None:
    table = table_of(0.7, 0.7)
    assert header(table) == [
        "method", "final accuracy", "ahead", "it", "to 50 %", "saved", "sent up", "sent down",
        "versions",
    ]  # fmt: skip
    assert cells(table, table.standings[1]) == [
        "theirs", "30.00 ± 0.00 %", "+10.00", "wins", "30 ± 0 s", "+33.3 %", "1000.0 ± 0.0 B",
        "2.9 ± 0.0 KiB", "5",
    ]  # fmt: skip


def test_the_band_is_of_what_held_at_each_time() -> None:
    """Runs evaluated at 10, 20, 30 s and at 15, 30 s; 0.2, 0.4, 0.6 and 0.1, 0.3."""
    at_s, mean, sd = curve_of([row(0.2, 0.4, 0.6), row(0.1, 0.3, every_s=15.0)])
    assert at_s.tolist() == [10.0, 15.0, 20.0, 30.0]
    assert mean.tolist() == pytest.approx([0.15, 0.15, 0.25, 0.45])
    assert sd.tolist() == pytest.approx([0.1 / 2**0.5, 0.1 / 2**0.5, 0.3 / 2**0.5, 0.3 / 2**0.5])


def test_the_page_of_a_finished_study_depends_on_its_runs_alone(study: Path) -> None:
    plan = Plan(read_study(study))
    machine = Environment(2, "Linux", "3.11", "1", "2.13", "0.1", "abc", "hocket compare x")
    texts = []
    for name in ("first", "second"):
        findings = sweep(plan, lambda jobs: {job.settings.key: outcome(job) for job in jobs})
        file = study.with_name(name) / "result.md"
        file.parent.mkdir()
        write_report(findings, machine, file)
        texts.append({path.name: path.read_text() for path in file.parent.iterdir()})
    assert texts[0] == texts[1]
    assert texts[0].keys() == {"result.md", "result.json", "result-small.svg"}
    assert "Seeds: 11, 12. Spread" in texts[0]["result.md"]


MACHINE = Environment(2, "Linux", "3.11", "1", "2.13", "0.1", "abc", "hocket compare x")


def report_of(
    study: Path, made: Callable[[Job], Made | None] = lambda _: None, scale: str = ""
) -> str:
    """The page of a study whose rows were made so."""

    def run_all(jobs: Sequence[Job]) -> dict[str, Outcome]:
        outcomes = {job.settings.key: (outcome(job), made(job)) for job in jobs}
        return {
            key: replace(known, made=how) if isinstance(known, Row) else known
            for key, (known, how) in outcomes.items()
        }

    file = study.with_name("result.md")
    write_report(sweep(Plan(read_study(study), scale), run_all), MACHINE, file)
    return file.read_text()


def test_the_report_says_which_code_made_the_rows_and_claims_no_wall_time_of_its_own(
    study: Path,
) -> None:
    """15 jobs, three of which fail, of 4 s each; those recorded all ended at once."""
    first = Made("abc", "2.13", "Linux", 1.8e9)
    page = report_of(study)
    assert "12 of 12 runs: code, torch, machine and time are not recorded." in page
    assert "took 48 s of processors' time, summed." in page
    assert "wall time" not in page
    assert "mixed" not in page
    page = report_of(study, lambda _: first)
    assert "12 of 12 runs: code abc, torch 2.13, Linux." in page
    assert "it was 4 s of wall time" in page
    assert "mixed" not in page
    tuned = lambda job: first if job.purpose == "tuning" else replace(first, code="abd+")  # noqa: E731 - two codes
    page = report_of(study, tuned)
    assert "The runs are mixed" in page
    assert "6 of 12 runs: code abd+, torch 2.13, Linux." in page
    page = report_of(study, lambda job: first if job.purpose == "tuning" else None)
    assert "The runs are mixed" in page
    assert "6 of 12 runs: code, torch, machine and time are not recorded." in page
    assert "wall time" not in page


def test_every_row_that_is_run_says_what_made_it(study: Path) -> None:
    done = run(study, Inline())
    (code,) = {r["code"] for r in json.loads(done.rows_text)}
    assert code
    files = [json.loads(f.read_text()) for f in (study.parent / "out" / "jobs").iterdir()]
    assert {file["made"]["torch"] for file in files} == {version("torch")}
    assert all(file["made"]["code"] == code and file["made"]["machine"] for file in files)


def test_different_tuning_runs_are_counted_and_what_was_fixed_is_told(study: Path) -> None:
    """A grid of its own makes the three points of slow the same; theirs has three times two."""
    slow = "stop.versions = 3 }\ngrid = [{ training.learning_rate = 0.3 }]"
    other = 'strategy.kind = "fedasync", strategy.alpha = 0.7, strategy.staleness = "polynomial" }'
    other += "\ngrid = [{ codec.kind = 'raw' }, { codec.kind = 'int8' }]"
    text = STUDY.replace("stop.versions = 3 }", slow).replace('strategy.kind = "fedasync" }', other)
    study.write_text('notes = ["ours was chosen by seeds 2 and 3"]\n' + text)
    page = report_of(study)
    assert "alike" not in page
    assert (
        "A method had from 1 to 6 such runs on a data set; in all they were 10, with 49 trainings."
        in page
    )
    assert "| ours | 3 on small | - |" in page
    assert "| theirs | 6 on small | strategy.alpha = 0.7 |" in page  # staleness is by default
    assert "| slow | 1 on small | stop.versions = 3 |" in page
    assert page.count("**training.learning_rate = 0.3: ") == 1
    assert "## Notes\n\n- ours was chosen by seeds 2 and 3\n" in page
    html = study.with_name("out")
    run(study, Inline())
    assert "ours was chosen by seeds 2 and 3" in (html / "compare.html").read_text()


def test_a_study_without_tuning_says_so(study: Path) -> None:
    study.write_text(STUDY.replace("[0.1, 0.4, 9]", "[0.4]"))
    page = report_of(study)
    assert "Nothing was tuned" in page
    assert "| slow | none | stop.versions = 3 |" in page


def test_the_rule_of_targets_is_told_of_the_data_sets_that_it_was_used_for(study: Path) -> None:
    """Finals are means over 3 evaluations of 0.1, 0.2 and 0.71: 0.337; 95 % of it is 0.3203."""
    own = 'name = "own"\nfleet = "fleet.toml"\nvirtual_s = 50.0\ntargets = [0.2, 0.25]\n'
    study.write_text(STUDY.replace("[[method]]", f"[[dataset]]\n{own}[[method]]", 1))
    page = report_of(study)
    assert (
        "- Targets on small: 32 %, 33 %, by a rule, 95 % and 100 % of the median method's final "
        "accuracy, rounded down to 1 %.\n" in page
    )
    assert "- Targets on own: 20 %, 25 %, named beforehand.\n" in page
    study.write_text(STUDY.replace("virtual_s = 40.0", "virtual_s = 40.0\ntargets = [0.2]"))
    assert "median" not in report_of(study)


def test_a_scale_without_the_compared_method_explains_no_columns_that_it_lacks(
    study: Path,
) -> None:
    assert "- ahead: percentage points by which ours is" in report_of(study)
    few = '[scale.few]\nmethods = ["theirs", "slow"]\n'
    study.write_text(STUDY + few)
    page = report_of(study, scale="few")
    assert "| theirs | 33" in page
    assert "ahead" not in page
    assert "saved" not in page


def test_numbers_on_a_page_stay_with_their_units(study: Path) -> None:
    page = report_of(study)
    assert "33.72\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.02\N{NO-BREAK SPACE}%" in page
    run(study, Inline())
    assert "±\N{NO-BREAK SPACE}0.02" in (study.parent / "out" / "compare.html").read_text()


def test_the_figure_holds_what_was_measured_until_the_next() -> None:
    axes = Figure().add_subplot()
    draw_curves(table_of(0.7, 0.7), axes)
    curves = [line for line in axes.lines if line.get_label() in {"ours", "theirs", "half"}]
    assert [line.get_drawstyle() for line in curves] == ["steps-post"] * 3
    band = np.asarray(axes.collections[0].get_paths()[0].vertices)
    moves = np.diff(band, axis=0)
    assert np.all((moves == 0).any(axis=1))  # no slope in the band either


def test_how_many_verdicts_may_be_chance_is_told() -> None:
    """Two others, accuracy and one target each: four comparisons; 5 % of them are 0.2."""
    (said,) = chance([table_of(0.7, 0.7)])
    assert said == (
        "4 comparisons were tested at the 5 % level (a difference needs so many standard errors: "
        "12.71 with 2 seeds); 2 came out as wins or losses. If no two methods differed, 0.2 would "
        "be expected to by chance."
    )


def test_with_one_seed_nothing_is_told_of_times() -> None:
    runs = {"ours": {1: row(0.1, 0.7)}, "theirs": {1: row(0.1, 0.1, 0.7)}}
    table = tabulate("small", runs, "ours", (0.5,))
    said = " ".join(statements(table))
    assert "To 50 % on small there is one seed" in said
    assert "faster" not in said
    assert list(chance([table])) == []


def outcome(job: Job) -> Outcome:
    try:
        return told_by_settings(job)
    except HocketError as error:
        return Failure(error.message)


class FakeRay(ModuleType):
    """As much of Ray as is used: remote functions run at once, one of seed 7 loses its worker."""

    class exceptions:  # noqa: N801 - Ray's name
        """Its errors."""

        class RayError(Exception):
            """The root of them."""

    def __init__(self, **resources: float) -> None:
        super().__init__("ray")
        self.resources = resources
        self.asked: dict[str, Any] = {}
        self.is_up = False

    def init(self, **_: Any) -> None:
        self.is_up = True

    def shutdown(self) -> None:
        self.is_up = False

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 24.0, **self.resources}

    def remote(self, **asked: Any) -> Callable[[Any], Any]:
        self.asked = asked
        return lambda _: SimpleNamespace(remote=lambda job: job.settings.seed)

    def wait(self, pending: list[int], num_returns: int) -> tuple[list[int], list[int]]:
        return pending[-num_returns:], pending[:-num_returns]

    def get(self, seed: int) -> Outcome:
        if seed == 7:
            raise self.exceptions.RayError("the worker died")
        return row(seed / 100)


def test_jobs_run_on_a_ray_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    told: dict[int, Outcome] = {}
    with on_ray.OnRay(simulating) as engine:
        assert engine.lanes == 24
        assert ray.asked == {"num_cpus": 1, "max_retries": 1}
        jobs = [seeded(5), seeded(7), seeded(9)]
        engine.run(jobs, lambda job, outcome: told.update({job.settings.seed: outcome}))
    assert not ray.is_up
    assert told == {5: row(0.05), 7: Failure("RayError: the worker died"), 9: row(0.09)}


def test_on_a_gpu_each_job_has_one_of_the_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(GPU=3.0)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with on_ray.OnRay(simulating, "cuda") as engine:
        assert engine.lanes == 3
    assert ray.asked == {"num_cpus": 1, "num_gpus": 1, "max_retries": 1}


def test_a_cluster_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its jobs would wait for ever."""
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(TaskError, match="no machine of the Ray cluster offers a GPU"):
        on_ray.OnRay(simulating, "cuda")
    assert not ray.is_up


def test_without_a_gpu_nothing_is_run_or_written(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    wishes = Wishes(study, out=study.parent / "out", device="cuda")
    with pytest.raises(TaskError, match=r"device is 'cuda', but .* or take device 'cpu'"):
        compare(wishes, Console(file=io.StringIO()))
    assert not (study.parent / "out").exists()


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StartupError, match=re.escape("pip install 'hocket[ray]'")):
        on_ray.OnRay(simulating)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("10.0.0.9:6379", r"cluster at 10\.0\.0\.9:6379 \(RAY_ADDRESS\) .*: no answer; start"),
        ("", "Ray cannot be started on this machine: no answer; set RAY_ADDRESS"),
    ],
)
def test_a_ray_that_does_not_start_is_told_with_its_address(
    monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    class Silent(FakeRay):
        def init(self, **_: Any) -> None:
            raise ConnectionError("no answer\nand a long story")

    monkeypatch.setitem(sys.modules, "ray", Silent())
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(StartupError, match=said) as error:
        on_ray.OnRay(simulating)
    assert "long story" not in error.value.message

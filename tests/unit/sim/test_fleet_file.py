"""Fleet files: what a short one means, and what is said about a wrong one."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from pydantic.fields import FieldInfo

from hocket.core.capability import CostLine
from hocket.errors import TaskError
from hocket.learn.data import Dirichlet, Iid
from hocket.sim.fleet import FleetFile, read_fleet
from hocket.sim.fleet.availability import OnOff, Windows

FLEETS = Path(__file__).parents[3] / "examples" / "fleets"

SHORT = """
devices = 3
[[class]]
name = "phone"
per_example_s = 0.02
"""

LONG = """
name = "long"
seed = 7
task = "../x.toml"
data_shards = 2
examples_per_device = 50
server = { up_bytes_per_s = 10, step_s = 0.1, lease_s = 5, resume_s = 0 }
skew = { kind = "iid" }
evaluation = { every_s = 20, examples = 10 }
stop = { virtual_s = 9, versions = 3, accuracy = 0.5 }
run = { batched = "off", device = "cuda", record = true, targets = [0.5, 1] }
[[class]]
name = "phone"
share = 3
costs = [{ keep = 1, per_example_s = 0.02 }, { keep = 0.5, fixed_s = 0.1, per_example_s = 0.01 }]
share_schedule = [[20, 0.5], [10, 0.2]]
labels = { kind = "phone" }
links = { lte = 2 }
availability = "evenings"
[[class]]
name = "board"
preset = "whale:Jetson Nano"
[[link]]
name = "lte"
up_bytes_per_s = 60_000
uplink = "cell"
[[link]]
preset = "whale"
rtt_s = 0.05
[[uplink]]
name = "cell"
up_bytes_per_s = 1_000_000
devices_each = 50
[[availability]]
name = "evenings"
kind = "on_off"
mean_on_s = 3600
mean_off_s = 1800
[[availability]]
name = "shifts"
kind = "windows"
steps = [[3600, true], [7200, false]]
phase = "random"
mid_training = "finish"
[[device]]
name = "a"
class = "phone"
shard = 1
[[device]]
name = "b"
class = "board"
link = "80 Mbit/s"
availability = "shifts"
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(text)
    return file


def complaint(folder: Path, text: str) -> str:
    """What is said about each wrong key, after checking that it names the file."""
    file = write(folder, text)
    with pytest.raises(TaskError) as wrong:
        read_fleet(file)
    assert all(line.startswith(f"{file}: ") for line in wrong.value.message.splitlines())
    return wrong.value.message


def test_a_number_and_a_class_are_all_that_a_fleet_needs(tmp_path: Path) -> None:
    fleet = read_fleet(write(tmp_path, SHORT))
    assert (fleet.name, fleet.seed, fleet.num_devices, fleet.num_shards) == ("mine", 0, 3, 3)
    assert fleet.classes[0].lines == (CostLine(1.0, 0.0, 0.02),)
    assert [(link.up_bytes_per_s, link.rtt_s) for link in fleet.all_links] == [(0.0, 0.0)]
    assert fleet.skew is None
    assert fleet.task_file is None
    assert fleet.trace_file is None
    assert fleet.origin == tmp_path / "mine.toml"


def test_every_table_reaches_its_object(tmp_path: Path) -> None:
    fleet = read_fleet(write(tmp_path, LONG))
    assert (fleet.name, fleet.seed, fleet.num_devices, fleet.num_shards) == ("long", 7, 2, 2)
    assert fleet.task_file == tmp_path / "../x.toml"
    assert fleet.examples_per_device == 50
    assert (fleet.server.up_bytes_per_s, fleet.server.step_s, fleet.server.lease_s) == (10, 0.1, 5)
    assert fleet.skew == Iid()
    assert (fleet.evaluation.every_s, fleet.evaluation.examples) == (20.0, 10)
    assert (fleet.stop.virtual_s, fleet.stop.versions, fleet.stop.accuracy) == (9.0, 3, 0.5)
    assert (fleet.run.batched, fleet.run.device, fleet.run.record) == ("off", "cuda", True)
    assert fleet.run.targets == (0.5, 1.0)
    phone, board = fleet.classes
    assert phone.lines == (CostLine(1.0, 0.0, 0.02), CostLine(0.5, 0.1, 0.01))
    assert (phone.share, phone.links, phone.labels) == (3.0, {"lte": 2.0}, {"kind": "phone"})
    assert phone.shares.at(25.0) == 0.2
    assert [line.per_example_s for line in board.lines][:2] == [0.0488993, 0.0157073]
    names = ["lte", "80 Mbit/s", "40 Mbit/s", "20 Mbit/s", "15 Mbit/s"]
    assert [link.name for link in fleet.all_links] == names
    assert [link.rtt_s for link in fleet.all_links] == [0.0] + [0.05] * 4
    assert (fleet.all_links[4].up_bytes_per_s, fleet.all_links[4].down_bytes_per_s) == (
        1.875e6,
    ) * 2
    assert (fleet.uplinks[0].name, fleet.uplinks[0].devices_each) == ("cell", 50)
    assert fleet.availabilities == (
        OnOff("evenings", 3600.0, 1800.0),
        Windows("shifts", ((3600.0, True), (7200.0, False)), "random", mid_training="finish"),
    )
    assert [device.device_class for device in fleet.own_devices] == ["phone", "board"]


def test_one_word_gives_the_whole_device_table(tmp_path: Path) -> None:
    fleet = read_fleet(write(tmp_path, 'devices = 20\npreset = "whale"'))
    assert [known.name for known in fleet.all_classes] == [
        "MacBookPro2018",
        "Jetson Xavier",
        "Jetson TX2",
        "Jetson Nano",
        "Raspberry Pi",
    ]
    assert [link.up_bytes_per_s * 8 for link in fleet.all_links] == [80e6, 40e6, 20e6, 15e6]


LINK = '\n[[link]]\nname = "lte"\n'
TIMES = '\n[[availability]]\nname = "night"\n'
OWN = '\n[[device]]\nname = "a"\nclass = "phone"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed = 1" + SHORT, "unknown key sed (did you mean 'seed'?); known here: availability, "),
        ("origin = 'x'" + SHORT, "unknown key origin; known here: availability, class, data_sha"),
        ("seed = -1" + SHORT, "seed is -1; it should be greater than or equal to 0"),
        (
            "seed = 9223372036854775808" + SHORT,
            "seed is 9223372036854775808; it should be less than or equal to 9223372036854775807",
        ),
        (SHORT + "jiter = 0.1", "unknown key class[0].jiter (did you mean 'jitter'?); known here"),
        (SHORT + "costs = [{ kep = 1 }]", "unknown key class[0].costs[0].kep (did you mean 'keep'"),
        (SHORT + LINK + "loos = 0.1", "unknown key link[0].loos (did you mean 'loss'?)"),
        (
            SHORT + TIMES + "kind = 'on_off'\nmean_on_s = 1\nmean_off_s = 1\nmean_of_s = 2",
            "unknown key availability[0].mean_of_s (did you mean 'mean_off_s'?)",
        ),
        (SHORT + "[skew]\nkind = 'dirichlet'\nalhpa = 1", "unknown key skew.alhpa (did you mean"),
        (SHORT + "[run]\ntarget = [1]", "unknown key run.target (did you mean 'targets'?)"),
        (
            SHORT + LINK + "up_bytes_per_s = -5",
            "link[0].up_bytes_per_s is -5; it should be greater than or equal to 0",
        ),
        (SHORT + "[server]\ndown_bytes_per_s = -1.5", "server.down_bytes_per_s is -1.5; it should"),
        (SHORT + LINK + "up_bytes_per_s = nan", "link[0].up_bytes_per_s is nan; "),
        (SHORT + LINK + "loss = 1.0", "link[0].loss is 1.0; it should be less than 1"),
        (SHORT + "share = 0", "class[0].share is 0; it should be greater than 0"),
        (SHORT + "share_schedule = [[20, 0.0]]", "class[0].share_schedule[0][1] is 0.0; it should"),
        (SHORT + "share_schedule = [[20]]", "class[0].share_schedule[0][1] is missing; add it"),
        (SHORT + "labels = { kind = 3 }", "class[0].labels.kind is 3; it should be a valid string"),
        (SHORT + "links = 'lte'", "class[0].links is 'lte'; write it as a table"),
        (SHORT.replace('"phone"', "3"), "class[0].name is 3; it should be a valid string"),
        (SHORT.replace('name = "phone"', ""), "class[0].name is missing; add it"),
        (SHORT.replace("per_example_s = 0.02", ""), "class[0]: give its speed in one way: preset"),
        (SHORT + "preset = 'whale:Jetson Nano'", "class[0]: give its speed in one way"),
        (
            SHORT.replace("per_example_s = 0.02", "preset = 'whale:Nano'"),
            "class[0]: preset is 'whale:Nano'; choose one of 'whale:MacBookPro2018', ",
        ),
        (
            SHORT.replace("per_example_s = 0.02", "costs = [{ keep = 0.5 }]"),
            "class[0].costs[0]: training takes no time; set per_example_s or fixed_s above 0",
        ),
        (
            SHORT.replace("per_example_s = 0.02", "costs = [{ keep = 1, fixed_s = 1 }]")
            + "[[class]]\nname = 'b'\n"
            + "costs = [{ keep = 1, fixed_s = 1 }, { keep = 1, fixed_s = 2 }]",
            "class[1]: costs has two lines of the same keep",
        ),
        ("devices = 3", 'class is missing; add a [[class]], or preset = "whale"'),
        (SHORT.replace("devices = 3", ""), "say how many devices there are: either devices = 100"),
        (SHORT.replace("3", "0", 1), "devices is 0; it should be greater than or equal to 1"),
        (
            SHORT.replace("3", "99999999999999999999", 1),
            "devices is 99999999999999999999; it should",
        ),
        (SHORT + OWN, "say how many devices there are: either"),
        (SHORT + SHORT.replace("devices = 3", ""), "class[1].name is 'phone' once more; give each"),
        (SHORT + LINK + LINK, "link[1].name is 'lte' once more"),
        (SHORT + LINK + 'preset = "whale"', "link[0]: a preset brings names and rates of its own"),
        (SHORT + "[[link]]\nrtt_s = 1", "link[0]: name is missing; add it"),
        (SHORT + "[[link]]\npreset = 'w'", "link[0]: preset is 'w'; the only one is 'whale'"),
        (
            SHORT + "links = { lta = 1 }" + LINK,
            "class[0].links names the link 'lta'; known: lte",
        ),
        (
            SHORT + "availability = 'night'",
            "class[0].availability names the availability 'night'; known: none, as there is no [[",
        ),
        (SHORT + LINK + "uplink = 'cell'", "link[0].uplink names the uplink 'cell'; known: none"),
        (
            SHORT.replace("devices = 3", "") + OWN.replace("phone", "fone"),
            "device[0].class names the class 'fone'; known: phone",
        ),
        (
            SHORT.replace("devices = 3", "") + OWN + "link = 'x'",
            "device[0].link names the link 'x'; known: unlimited",
        ),
        (
            SHORT.replace("devices = 3", "") + OWN + OWN,
            "device[1].name is 'a' once more",
        ),
        (
            SHORT.replace("devices = 3", "") + OWN.replace('"a"', '"two words"'),
            "device[0].name is 'two words'; it should match pattern",
        ),
        (
            SHORT.replace("devices = 3", "") + OWN + "shard = 1",
            "device[0].shard is 1; count the 1 shards from 0",
        ),
        (SHORT + TIMES, "availability[0].kind is missing; set it to one of always, on_off, windo"),
        (
            SHORT + TIMES + "kind = 'onoff'",
            "availability[0].kind is 'onoff'; choose one of always, on_off, windows (did you mean",
        ),
        (SHORT + TIMES + "kind = 'on_off'\nmean_on_s = 1", "availability[0].mean_off_s is missing"),
        (SHORT + TIMES + "kind = 'windows'\nsteps = []", "availability[0].steps is []; "),
        (
            SHORT + TIMES + "kind = 'windows'\nsteps = [[0, true]]",
            "availability[0].steps[0][0] is 0; it should be greater than or equal to 0.001",
        ),
        (
            SHORT + TIMES + "kind = 'windows'\nsteps = [[5, 'yes']]",
            "availability[0].steps[0][1] is 'yes'; it should be a valid boolean",
        ),
        (SHORT + TIMES + "kind = 'always'\nmid_training = 'x'", "availability[0].mid_training is"),
        (
            SHORT + TIMES + "kind = 'always'\n[trace]\nfile = 'x.csv'",
            "there is a [trace] and an [[availability]]",
        ),
        (SHORT + "[trace]\nrepeat_s = 1", "trace.file is missing; add it"),
        (SHORT + "[trace]\nfile = 'x.csv'\nrepeat_s = 0", "trace.repeat_s is 0; it should be"),
        (SHORT + "[skew]\nkind = 'dirichlet'\nalpha = 0", "skew.alpha is 0"),
        (SHORT + "[skew]\nkind = 'x'", "skew.kind is 'x'; choose one of dirichlet, iid, whole"),
        (SHORT + "[stop]\naccuracy = 97", "stop.accuracy is 97; it should be less than or equal"),
        (SHORT + "[run]\ntargets = [0.5, 50]", "run.targets[1] is 50; it should be less than or"),
        (
            SHORT + "[run]\nbatched = true",
            "run.batched is True; it should be 'auto', 'on' or 'off'",
        ),
        ("preset = 'wale'" + SHORT, "preset is 'wale'; it should be '' or 'whale'"),
        ("name = 'two words'" + SHORT, "name is 'two words'; it should match pattern"),
        ("class = 3\ndevices = 1", "class is 3; it should be a valid array"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, text: str, message: str) -> None:
    assert f"mine.toml: {message}" in complaint(tmp_path, text)


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = "seed = 'one'" + SHORT + "jitter = -1" + LINK + "rtt_s = -1\n[stop]\nversion = 1"
    keys = re.findall(r"mine.toml: (?:unknown key )?([\w.\[\]]+)", complaint(tmp_path, text))
    assert sorted(keys) == ["class[0].jitter", "link[0].rtt_s", "seed", "stop.version"]


def test_a_slip_in_the_toml_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"mine\.toml is no valid TOML: .*line 2"):
        read_fleet(write(tmp_path, "devices = 3\nseed = = 3"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"there is no fleet file .*absent\.toml"):
        read_fleet(tmp_path / "absent.toml")
    with pytest.raises(TaskError, match=r"the fleet file .* cannot be read"):
        read_fleet(tmp_path)


# --- the fleets we ship


def keys_of(table: Any) -> Iterator[str]:
    """All keys of a fleet file's tables, by their names in the file."""
    hints = get_type_hints(table, include_extras=True)
    for field in fields(table):
        metadata = getattr(hints[field.name], "__metadata__", ())
        alias = next((m.alias for m in metadata if isinstance(m, FieldInfo)), None)
        yield alias or field.name
        for inner in dataclasses(hints[field.name]):
            yield from keys_of(inner)


def dataclasses(hint: Any) -> Iterator[Any]:
    if is_dataclass(hint):
        yield hint
    for argument in get_args(hint):
        yield from dataclasses(argument)


def test_the_hundred_explain_every_key() -> None:
    text = (FLEETS / "hundred.toml").read_text(encoding="utf-8")
    shown = set(re.findall(r"(\w+) = |\[\[?(\w+)\]\]?", text))
    names = {name for pair in shown for name in pair}
    assert {key for key in keys_of(FleetFile) if key != "origin"} - names == set()


def test_what_is_commented_out_of_the_hundred_would_be_taken() -> None:
    text = (FLEETS / "hundred.toml").read_text(encoding="utf-8")
    for line in re.findall(r"^# (\w+ = .*)$", text, re.MULTILINE):
        key = next(iter(tomllib.loads(line)))
        assert key in set(keys_of(FleetFile))


def test_the_hundred_are_the_five_classes_and_four_links() -> None:
    fleet = read_fleet(FLEETS / "hundred.toml")
    assert (fleet.num_devices, len(fleet.all_classes), len(fleet.all_links)) == (100, 5, 4)
    assert fleet.skew == Dirichlet(0.5)
    slowest = max(line.per_example_s for known in fleet.classes for line in known.lines[:1])
    fastest = min(line.per_example_s for known in fleet.classes for line in known.lines[:1])
    assert slowest / fastest > 5.0  # the table's 33.165 s over 5.353 s

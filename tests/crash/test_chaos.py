"""`make chaos`: a hundred kills and more under training, and what was promised still holds.

HOCKET_CHAOS_SEED chooses other moments, counts and orders. How the processes interleave is the
machine's affair, so a seed that failed may need a few tries to fail again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.book import Book
from support.chaos import EXAMINED, IN_RECOVERY, Campaign, run_campaign
from support.crash_fleet import FEDASMU, FEDBUFF
from support.troubles import PLACES, Target

pytestmark = pytest.mark.chaos

SEED = int(os.environ.get("HOCKET_CHAOS_SEED", "0"))
ROUNDS = {Target.AGGREGATOR: 2, Target.REGISTRY: 2, Target.DEVICE: 2}
CAMPAIGNS = {
    "fedasmu": Campaign(FEDASMU, 'kind = "raw"', ROUNDS),
    "fedbuff": Campaign(FEDBUFF, 'kind = "fp16"', ROUNDS),
}
LEAST_KILLS = 100
SCHEDULES = 10_000
SCHEDULER = Path(__file__).parents[1] / "support" / "schedules.py"


@pytest.fixture(scope="module")
def counted() -> Iterator[Counter[str]]:
    """Counts of all campaigns, printed at the end."""
    counts: Counter[str] = Counter()
    yield counts
    width = max(map(len, counts), default=0)
    lines = [f"\n\nchaos, seed {SEED}"]
    lines += [f"  {name:<{width}}  {count:>7}" for name, count in counts.items()]
    sys.stdout.write("\n".join(lines) + "\n")


@pytest.mark.parametrize("name", CAMPAIGNS)
async def test_nothing_is_lost_and_nothing_applied_twice(
    name: str, tmp_path: Path, counted: Counter[str]
) -> None:
    sys.stdout.write(f"\nagain: HOCKET_CHAOS_SEED={SEED} make chaos CHAOS='-k {name}'\n")
    campaign = CAMPAIGNS[name]
    book, kills = Book(), Counter[str]()
    try:
        await run_campaign(tmp_path, campaign, SEED, book, kills)
    finally:
        for place, count in sorted(kills.items()):
            counted[f"killed: {place}"] += count
        counted["killed in all"] += kills.total()
        for what, count in sorted(book.counts.items()):
            counted[what] += count
    planned = sum(2 * campaign.rounds[target] * len(PLACES[target]) for target in Target)
    assert kills.total() == planned
    # A process that was killed before it served has left nothing new to examine.
    assert book.counts[EXAMINED] + book.counts[IN_RECOVERY] == planned
    assert len(CAMPAIGNS) * planned >= LEAST_KILLS


def test_the_rules_keep_every_promise_in_every_schedule(counted: Counter[str]) -> None:
    """Two processes at a time, each with half of the seeds."""
    half = SCHEDULES // 2
    shares = [
        subprocess.Popen(
            [sys.executable, SCHEDULER, "--from", str(first), "--count", str(half)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in (SEED * SCHEDULES, SEED * SCHEDULES + half)
    ]
    for share in shares:
        told, _ = share.communicate()
        assert share.returncode == 0, told
        counted["schedules run"] += half
        for count, name in re.findall(r"^checks +([\d,]+)  (.+)$", told, re.MULTILINE):
            counted[f"schedules: {name}"] += int(count.replace(",", ""))

"""The device table of WHALE-FL: five classes and four links, measured by its authors.

Su et al. WHALE-FL: Wireless and Heterogeneity Aware Latency Efficient Federated Learning over
Mobile Devices via Adaptive Subnetwork Scheduling. AAAI 2025. The numbers are those of the public
code. Its README calls the compute numbers seconds of one gradient iteration, its program
multiplies them by the batch size too, so a factor of the batch size (64 there) is open; here they
are seconds of one example in one step, as the program has them.
"""

from __future__ import annotations

from collections.abc import Mapping

from hocket.core.capability import CostLine

PRESET = "whale"
WIDTHS = (1.0, 0.5, 0.25, 0.125, 0.0625)


def _lines(*per_example_s: float) -> tuple[CostLine, ...]:
    return tuple(CostLine(keep, 0.0, s) for keep, s in zip(WIDTHS, per_example_s, strict=True))


WHALE_CLASSES: Mapping[str, tuple[CostLine, ...]] = {
    "MacBookPro2018": _lines(0.0083647, 0.0038257, 0.0021069, 0.0014589, 0.0009867),
    "Jetson Xavier": _lines(0.0407037, 0.0127832, 0.0057802, 0.0034918, 0.0025572),
    "Jetson TX2": _lines(0.0460461, 0.0145872, 0.0061728, 0.0035300, 0.0024533),
    "Jetson Nano": _lines(0.0488993, 0.0157073, 0.0065488, 0.0037320, 0.0025094),
    "Raspberry Pi": _lines(0.0518206, 0.0168492, 0.0069340, 0.0039392, 0.0025691),
}
"""Seconds of an optimiser step at each width, by the name of the class."""

WHALE_LINKS: Mapping[str, float] = {
    "80 Mbit/s": 10e6,
    "40 Mbit/s": 5e6,
    "20 Mbit/s": 2.5e6,
    "15 Mbit/s": 1.875e6,
}
"""Bytes a second, by the name of the link. The paper counts the upload only; here both ways."""

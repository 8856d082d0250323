"""What a link carries, learned from transfers that really happened."""

from __future__ import annotations

from dataclasses import dataclass, replace

AGGREGATOR_PEER = "aggregator"
MIN_TIMED_BYTES = 4096  # below this a transfer's time is latency, not bandwidth
SMOOTHING = 0.3  # weight of the newest measurement


@dataclass(frozen=True, slots=True)
class Link:
    """A link as seen from a device. Zero means not measured yet."""

    peer: str = AGGREGATOR_PEER
    up_bytes_per_s: float = 0.0
    down_bytes_per_s: float = 0.0
    rtt_s: float = 0.0
    loss: float = 0.0  # share of transfers that broke off, in [0, 1]
    transfers: int = 0

    def after_upload(self, num_bytes: int, seconds: float) -> Link:
        """With one more finished transfer to the peer."""
        rate = _measured(self.up_bytes_per_s, num_bytes, seconds)
        loss, transfers = self._counted(broke_off=False)
        return replace(self, up_bytes_per_s=rate, loss=loss, transfers=transfers)

    def after_download(self, num_bytes: int, seconds: float) -> Link:
        """With one more finished transfer from the peer."""
        rate = _measured(self.down_bytes_per_s, num_bytes, seconds)
        loss, transfers = self._counted(broke_off=False)
        return replace(self, down_bytes_per_s=rate, loss=loss, transfers=transfers)

    def after_break(self) -> Link:
        """With one more transfer that broke off."""
        loss, transfers = self._counted(broke_off=True)
        return replace(self, loss=loss, transfers=transfers)

    def after_round_trip(self, seconds: float) -> Link:
        """With one more timed round trip of a small message."""
        return replace(self, rtt_s=_smooth(self.rtt_s, seconds))

    def transfer_s(self, up_bytes: int, down_bytes: int) -> float:
        """Seconds to move so many bytes; directions not measured yet count as free."""
        up_s = up_bytes / self.up_bytes_per_s if self.up_bytes_per_s else 0.0
        down_s = down_bytes / self.down_bytes_per_s if self.down_bytes_per_s else 0.0
        return up_s + down_s + 2 * self.rtt_s

    def _counted(self, *, broke_off: bool) -> tuple[float, int]:
        """Loss and number of transfers, with one more."""
        return self.loss + SMOOTHING * (float(broke_off) - self.loss), self.transfers + 1


def _measured(known: float, num_bytes: int, seconds: float) -> float:
    if num_bytes < MIN_TIMED_BYTES or seconds <= 0.0:
        return known
    return _smooth(known, num_bytes / seconds)


def _smooth(known: float, measured: float) -> float:
    return measured if known == 0.0 else known + SMOOTHING * (measured - known)

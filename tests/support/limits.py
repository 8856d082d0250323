"""The safety net under every wait: nothing that works comes near it, however busy the machine."""

from __future__ import annotations

LIMIT_S = 120.0
"""What takes longer has failed. Far more than anything needs: a test that can end sooner does."""

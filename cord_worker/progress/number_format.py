"""Formats numbers and times for people."""

from __future__ import annotations


def figure(value: float | None, digits: int = 3) -> str:
    """A number, or a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share in [0, 1] as a percentage, or a dash for None."""
    return "-" if value is None else f"{100 * value:.1f} %"


def duration(seconds: float | None) -> str:
    """Seconds as h:mm:ss or m:ss, or a dash for None."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"

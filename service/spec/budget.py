"""How many trials a resolved sweep file allows, and the same file with another number of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def max_trials_of(spec: Mapping[str, Any]) -> int | None:
    """How many configurations a resolved sweep file allows; None for any number."""
    found = (spec.get("budget") or {}).get("max_trials")
    return None if found is None else int(found)


def spec_with(spec: Mapping[str, Any], max_trials: int) -> dict[str, Any]:
    """The resolved sweep file with another number of trials."""
    return {**spec, "budget": {**(spec.get("budget") or {}), "max_trials": max_trials}}

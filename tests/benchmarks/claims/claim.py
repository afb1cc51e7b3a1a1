"""What a claim is, what may come of it, and how that is written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from tests.benchmarks.claims.fits import Fit
from tests.benchmarks.claims.statistics import Interval, bootstrap
from tests.benchmarks.measure import ROOT

FOLDER: Final = ROOT / "trainables" / "recipes" / "claims"
Verdict = Literal["holds", "holds in part", "does not hold", "not shown"]


@dataclass(frozen=True, slots=True)
class Ran:
    """What a claim's runs left: the folder of each sweep, and its fits."""

    sweeps: Sequence[Path]
    fits: Sequence[Sequence[Fit]]


@dataclass(frozen=True, slots=True)
class Part:
    """One number that a claim is about, a value per seed: larger is more for the claim.

    `is_kept` once the whole interval is above `edge`; or, where the edge is `published`, unless all of it is below.
    `late` counts the seeds whose slower side never got there, where the number is about getting there.
    """

    says: str
    unit: str
    values: Callable[[Ran], list[float]]
    edge: float = 0.0
    is_published: bool = False
    late: Callable[[Ran], int] | None = None

    def is_kept(self, interval: Interval) -> bool:
        """Whether the numbers bear this part out."""
        return interval.high >= self.edge if self.is_published else interval.low > self.edge


@dataclass(frozen=True, slots=True)
class Claim:
    """What people believe, where that is published, and what is measured of it here.

    `runs` are the overrides (`--set`) of each run of the sweep file `name`; the parts are given what they left, in the
    same order.
    """

    name: str
    says: str
    published: str
    here: str
    parts: tuple[Part, ...]
    runs: tuple[tuple[str, ...], ...] = ((),)

    @property
    def path(self) -> Path:
        """The sweep file."""
        return FOLDER / f"{self.name}.yaml"

    def judge(self, ran: Ran) -> list[dict[str, Any]]:
        """Every part's values by seed, as JSON."""
        return [
            {"says": p.says, "values": p.values(ran), "late": 0 if p.late is None else p.late(ran)} for p in self.parts
        ]


def verdict(claim: Claim, intervals: Sequence[Interval]) -> Verdict:
    """What the parts come to; "not shown" where nothing speaks for the claim, and nothing clearly against it."""
    pairs = list(zip(claim.parts, intervals, strict=True))
    kept = [part.is_kept(interval) for part, interval in pairs]
    if any(kept):
        return "holds" if all(kept) else "holds in part"
    return "does not hold" if any(interval.high < part.edge for part, interval in pairs) else "not shown"


def intervals_of(claim: Claim, result: dict[str, Any]) -> list[Interval]:
    """The interval of each part, from the values that a result has of it. ValueError where its parts are others."""
    recorded = [part["says"] for part in result["parts"]]
    if recorded != [part.says for part in claim.parts]:
        msg = f"the result of {claim.name} is about {recorded}: run the claim again"
        raise ValueError(msg)
    return [bootstrap(part["values"]) for part in result["parts"]]


def described(part: Part, interval: Interval, late: int) -> str:
    """What came out, for a person. `late` seeds never got there, which makes the number a lower bound."""
    if part.is_published:
        return f"{part.says}: {'it may be' if part.is_kept(interval) else 'no'}"
    mark = "" if part.is_kept(interval) else "not shown: "
    mean, low, high = (f"{value:.3g}" for value in interval)
    bound = f", at least, as {late} never got there" if late else ""
    return f"{mark}{part.says}: {mean} {part.unit} ({low} to {high}){bound}"

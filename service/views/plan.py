"""A plan in a few lines that a person reads before a sweep is run."""

from __future__ import annotations

from service.sweeps.plan import Plan
from service.views.progress import duration


def plan_lines(plan: Plan) -> list[str]:
    """The plan's figures, one fact a line; what the file leaves open is said to be open."""
    at_once = "as many as fit" if plan.max_concurrent_trials is None else str(plan.max_concurrent_trials)
    most, expected = _count(plan.worst_epochs), _count(plan.expected_epochs)
    lines = [
        f"{plan.name}: {plan.search} with {plan.scheduler}",
        f"trials       {_count(plan.trials)}, {at_once} at a time",
        f"space        {'infinite' if plan.space_size is None else f'{plan.space_size:,} configurations'}",
        f"epochs       at most {most}, expected {expected}, {plan.max_epochs} for a complete trial",
    ]
    if plan.fits is not None:
        lines.append(f"fits         at most {_count(plan.fits.most)}, expected {_count(plan.fits.expected)}")
    if plan.reach is not None:
        reached = ", ".join(f"{count:,} at epoch {rung}" for rung, count in zip(plan.rungs, plan.reach, strict=True))
        lines.append(f"rungs        {reached}")
    lines += [*_hours("CPU", plan.worst_cpu_hours, plan.expected_cpu_hours)]
    lines += [*_hours("GPU", plan.worst_gpu_hours, plan.expected_gpu_hours)]
    if plan.expected_wall_clock_s is not None:
        lines.append(f"time         about {duration(plan.expected_wall_clock_s)}")
    if plan.checkpoints_most is not None:
        lines.append(f"checkpoints  at most {plan.checkpoints_most:,} on disk at a time")
    lines += [f"nodes        {text}" for text in plan.nodes]
    return lines + [f"note         {note}" for note in plan.notes]


def _count(value: int | None) -> str:
    return "unlimited" if value is None else f"{value:,}"


def _hours(kind: str, worst: float | None, expected: float | None) -> list[str]:
    if not worst:
        return []
    likely = "" if expected is None else f", expected {_amount(expected)}"
    return [f"{kind} hours    at most {_amount(worst)}{likely}"]


def _amount(hours: float) -> str:
    """Two digits after the point, but never a zero for what is not nothing."""
    return "less than 0.01" if 0 < hours < 0.01 else f"{hours:,.2f}"  # noqa: PLR2004  # what two digits can say

"""From a sweep file to the job that a driver is given: loads it, has its parameter paths checked, notes the facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from service.errors import Fault, SpecError
from service.spec.sweep_spec import SweepSpec, change_sweep, load_sweep
from service.sweeps.facts import gather
from service.sweeps.folders import Sweep, new_id
from service.tuning.knowledge import ABOUT_FACT
from service.tuning.sweep_folder import Job, read_job

OURS: Final = ("service", "trainables", "cluster")


def prepare(path: Path, overrides: Sequence[str], *, signatures: bool) -> Job:
    """The job of a sweep file. SpecError with every fault that shows without importing the user's code.

    With `signatures`, the sweep's first worker checks the parameter paths against the real classes before any trial.
    """
    spec = load_sweep(path, overrides)
    root = code_root(path, spec)
    refuse_our_names(root, str(path))
    facts = gather(spec.fit, root)
    return Job(
        new_id(spec.name), spec.to_dict(), str(root), facts=facts, checks_signatures=signatures, source=str(path)
    )


def forked(old: Sweep, overrides: Sequence[str], *, keeps_results: bool) -> Job:
    """The job of a new sweep made of an old one with changes; it learns from the old one with `keeps_results`."""
    job = read_job(old.folder)
    source = [f"search.warm_start={old.id}"] if keeps_results else ["search.warm_start=[]"]
    spec = change_sweep(job.spec, [*overrides, *source])
    facts = {name: value for name, value in job.facts.items() if name != ABOUT_FACT}
    return replace(job, sweep_id=new_id(spec.name), spec=spec.to_dict(), facts=facts)


def refuse_our_names(root: Path, file: str) -> None:
    """SpecError where the user's code has a top-level module with a name of ours: only one of them could be found."""
    ours = Path(__file__).resolve().parents[2]
    found = [p for name in OURS for p in (root / name, root / f"{name}.py") if p.suffix or (p / "__init__.py").exists()]
    taken = [path for path in found if path.exists() and path.resolve() != ours / path.name]
    if taken:
        message = "a package of yours has the name of one of Tuneyard's, and only one of the two could be imported"
        allowed = f"any names but {', '.join(OURS)}"
        raise SpecError([Fault(message, "code.root", file, given=str(taken[0]), allowed=allowed)])


def check(path: Path, spec: SweepSpec) -> None:
    """SpecError with all that the real signatures of model, data, optimizer and trainer say against the paths."""
    from service.spec.placing import placed
    from service.sweeps.signatures import check_signatures

    root = code_root(path, spec)
    said = check_signatures(
        spec.fit, spec.parameters, max_epochs=spec.max_epochs, code_root=root, evaluation=spec.evaluation
    )
    if said.faults:
        raise SpecError(placed(said.faults, path))


def code_root(path: Path, spec: SweepSpec) -> Path:
    """The folder that holds the user's code: `code.root`, relative to the sweep file."""
    return (path.parent / spec.code.root).resolve()

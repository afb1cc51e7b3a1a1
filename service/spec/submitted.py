"""Reads a sweep file that came over the network: the same words as in a file, within bounds, and nothing of the server.

It never opens, imports or asks for anything that the sweep names. What only the operator decides is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from service.errors import Fault, SpecError, SweepNotFoundError
from service.records import Quota
from service.spec import overrides as spec_overrides
from service.spec.document import MAX_DEPTH, MAX_NODES, MAX_TEXT, Node, Place
from service.spec.faults import Faults
from service.spec.reader import Reader
from service.spec.sweep_spec import SweepSpec, canonical_tree

PLACE: Final = ""  # faults of a request name no file
_LARGEST: Final = 2**63


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the operator lets a sweep bring. `earlier` gives the id of an earlier sweep that it may learn from.

    `earlier` raises SweepNotFoundError where there is none that the submitter may see.
    """

    pip: bool
    experiments: bool  # earlier trials straight from the tracking server, which knows no projects
    quotas: Mapping[str, Quota]  # that bind the sweep, each under the words for whose it is


def read_submission(
    data: Mapping[str, Any], overrides: Sequence[str], allowance: Allowance, earlier: Callable[[str], str]
) -> SweepSpec:
    """The spec that `data` describes with `overrides` applied. SpecError with every fault in it."""
    _check_bounds(data)
    root = Node.of(data, Place(PLACE))
    faults = Faults(root)
    canonical_tree(root, faults)
    if overrides:
        spec_overrides.apply(root, overrides, faults)
        canonical_tree(root, faults)
    _refuse_what_is_the_operators(root, allowance, faults)
    _settle_sources(root, allowance, earlier, faults)
    fields = Reader(root, None, faults).fields()
    if "budget" in fields and "resources" in fields:
        _check_quotas(fields, allowance.quotas, faults)
    faults.raise_any()
    spec = SweepSpec(**fields)
    return spec.model_copy(update={"code": spec.code.model_copy(update={"root": "."})})  # it was the sender's folder


def _check_bounds(data: Mapping[str, Any]) -> None:
    """What a sweep file may not exceed, a sent one may not either."""
    count = 0
    stack: list[tuple[object, int]] = [(data, 0)]
    while stack:
        item, depth = stack.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_NODES:
            allowed = f"at most {MAX_DEPTH} levels and {MAX_NODES:,} values"
            raise SpecError(
                [Fault("the sweep is nested too deeply, or holds too many values", "spec", allowed=allowed)]
            )
        _check_value(item)
        if isinstance(item, Mapping):
            for key in item:
                _check_value(key)
        stack += [(value, depth + 1) for value in _below(item)]


def _below(item: object) -> Iterable[object]:
    if isinstance(item, Mapping):
        return item.values()
    return item if isinstance(item, list | tuple) else ()


def _check_value(item: object) -> None:
    if isinstance(item, str) and (len(item) > MAX_TEXT or "\0" in item or not item.isascii()) and not _is_text(item):
        allowed = f"at most {MAX_TEXT:,} characters, none of them NUL or half a character"
        raise SpecError([Fault("holds a text that no file can", "spec", allowed=allowed)])
    if isinstance(item, int) and abs(item) >= _LARGEST:
        raise SpecError([Fault("holds a whole number that is too large", "spec", allowed=f"below {_LARGEST}")])


def _is_text(text: str) -> bool:
    if len(text) > MAX_TEXT or "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_what_is_the_operators(root: Node, allowance: Allowance, faults: Faults) -> None:
    if "base" in root.mapping:
        allowed = "fit: with the config written out, as `tuneyard submit` sends it"
        faults.add(("base",), "names a file, and the service reads none of its own for you", allowed=allowed)
        root.mapping.pop("base")
    tracking = root.mapping.get("tracking")
    if tracking is not None and "uri" in tracking.mapping:
        message = "the operator of the service decides where sweeps are tracked"
        faults.add(("tracking", "uri"), message, allowed="leave it out")
    code = root.mapping.get("code")
    if code is not None and code.mapping.get("pip") is not None and not allowance.pip:
        message = "the operator of this service does not let sweeps bring packages"
        faults.add(("code", "pip"), message, allowed="leave it out, or ask for `tuneyard serve --allow-pip`")


def _settle_sources(root: Node, allowance: Allowance, earlier: Callable[[str], str], faults: Faults) -> None:
    """Name the earlier sweeps by their ids, so that no later sweep, and none of another project, can be meant."""
    search = root.mapping.get("search")
    source = None if search is None else search.mapping.get("warm_start")
    if source is None:
        return
    nodes = source.items or [source]
    for i, node in enumerate(nodes):
        steps = ("search", "warm_start", i) if source.items else ("search", "warm_start")
        text = node.value
        if isinstance(text, dict) and "uri" in text:
            faults.add(steps, "the service asks no tracking server but its own", allowed="the name of an earlier sweep")
        elif isinstance(text, dict) or (isinstance(text, str) and text.startswith("mlflow:")):
            if not allowance.experiments:
                message = "an experiment may hold other projects' trials: only an admin of every project may name one"
                faults.add(steps, message, allowed="the name of an earlier sweep, or auto")
        elif isinstance(text, str) and text not in ("auto", ""):
            try:
                node.value = earlier(text)
            except SweepNotFoundError as error:
                faults.add(steps, str(error))


def _check_quotas(fields: Mapping[str, Any], quotas: Mapping[str, Quota], faults: Faults) -> None:
    """A sweep that no quota will ever let run would wait for ever."""
    resources = fields["resources"]
    for whose, quota in quotas.items():
        for name, needed, most in (("cpu", resources.cpu, quota.cpus), ("gpu", resources.gpu, quota.gpus)):
            if most is not None and needed > most:
                message = f"one trial takes more than {whose} may have at once, so the sweep would wait for ever"
                faults.add(("resources", name), message, allowed=f"at most {most:g}")
        if quota.running_sweeps == 0 or quota.concurrent_trials == 0 or quota.trial_hours == 0:
            message = f"{whose} may run nothing, by quota: the sweep would wait for ever"
            faults.add(("budget",), message, allowed="ask an admin for a quota")

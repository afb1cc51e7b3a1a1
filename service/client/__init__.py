"""The service for Python programs: what the command line can do, as typed calls.

    from service.client import Client

    with Client("https://tuneyard.example.org", token) as client:
        sweep = client.submit("sweep.yaml", overrides=["budget.max_trials=20"])
        sweep = client.wait(sweep.id)
        print(client.best(sweep.id).best)

Every call raises a TuneyardError whose text says what to do next: SpecError with all faults of what was sent,
SweepNotFoundError, ServerError for any other refusal, UnreachableError where no answer came.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

from service.api.models import (
    BestAnswer,
    ClusterAnswer,
    Comparison,
    Details,
    EventAnswer,
    EventPage,
    LogAnswer,
    QueueAnswer,
    QueueEntry,
    Sweep,
    SweepPage,
    SweepSummary,
)
from service.api.models_access import (
    WhoAmI,
)
from service.client.access import Access
from service.client.http import PATIENCE_S, Call, Transport, new_key
from service.errors import Fault, ServerError, SpecError, SweepNotFoundError
from service.records import State
from service.shipping.packages import Package, build
from service.sweeps.submission import prepare

POLL_S: Final = 1.0
PAGE: Final = 100
TOO_MANY: Final = 429  # of HTTP, as is the next
BROKEN: Final = 500
_AT_REST: Final = (State.COMPLETED, State.FAILED, State.CANCELLED, State.PAUSED)


@dataclass(frozen=True, slots=True)
class Submission:
    """What is sent for one sweep. Sending it twice makes one sweep: `key` tells that it is the same."""

    spec: Mapping[str, Any]
    package: Package | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    project: str | None = None
    source: str = ""  # the sweep file, for messages
    key: str = field(default_factory=new_key)

    @classmethod
    def of(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """The submission of a sweep file with its code. SpecError with every fault that shows without the server."""
        job = prepare(Path(path), overrides, signatures=True)
        spec = {name: value for name, value in job.spec.items() if name != "base"}  # it is written out under `fit`
        code = spec.get("code", {})
        package = build(Path(job.code_root or "."), code.get("exclude", ()), file=str(path))
        return cls({**spec, "code": {**code, "root": "."}}, package, job.facts, source=str(path))


class Client:
    """A server and a token for it. `project` is meant where a call names none. One client is for one thread."""

    def __init__(
        self, url: str, token: str | None = None, *, project: str | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        self._http = Transport(url, token, patience_s=patience_s)
        self.url = self._http.url
        self.project = project
        self.access = Access(self._http, project)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def who_am_i(self) -> WhoAmI:
        """Whom the server takes the caller for."""
        return self._http.get(WhoAmI, "/whoami")

    def submit(self, path: str | Path, *, overrides: Sequence[str] = (), priority: int = 0) -> Sweep:
        """Queue the sweep of a file, with its code."""
        return self.send(replace(Submission.of(path, overrides), priority=priority))

    def send(self, submission: Submission) -> Sweep:
        """Queue a sweep; its code travels first, unless the server has it."""
        project = submission.project or self.project
        digest = None if submission.package is None else self.send_package(submission.package, project)
        body = {
            "spec": submission.spec,
            "project": project,
            "priority": submission.priority,
            "code": digest,
            "facts": dict(submission.facts),
        }
        try:
            return self._http.ask(Sweep, Call("POST", "/sweeps", body=body, key=submission.key))
        except SpecError as error:
            raise SpecError([replace(fault, file=submission.source) for fault in error.faults]) from error

    def send_package(self, package: Package, project: str | None = None) -> str:
        """Make sure that the project has a code package; returns its digest."""
        path, project = f"/packages/{package.digest}", project or self.project
        if not self._http.has(path, project=project):
            self._http.send(Call("PUT", path, {"project": project}, content=package.content))
        return package.digest

    def sweep(self, sweep: str) -> Sweep:
        """One sweep: `sweep` is its id, its name, or how its id begins."""
        return self._http.get(Sweep, _of(sweep), project=self.project)

    def sweeps(
        self, *, states: Sequence[State] = (), mine: bool = False, text: str | None = None, most: int = 1000
    ) -> Iterator[SweepSummary]:
        """The sweeps that the caller may see, the newest first, at most `most`; with `mine` the caller's own only."""
        query = {"project": self.project, "state": tuple(map(str, states)), "mine": mine or None, "text": text}
        after: str | None = None
        while most > 0:
            page = self._http.get(SweepPage, "/sweeps", **query, limit=min(most, PAGE), after=after)
            yield from page.items
            most, after = most - len(page.items), page.next
            if after is None:
                return

    def newest(self) -> SweepSummary:
        """The caller's newest sweep. SweepNotFoundError where there is none."""
        for found in self.sweeps(mine=True, most=1):
            return found
        msg = f"you have no sweep on {self.url}; start one with `tuneyard submit sweep.yaml`"
        raise SweepNotFoundError(msg)

    def cancel(self, sweep: str, *, force: bool = False) -> Sweep:
        """End a sweep for good; what it has found stays.

        With `force`, an operator's, at once: its cluster is gone for good, and nobody waits for its driver.
        """
        query = {**self._within, "force": "true" if force else None}
        return self._http.ask(Sweep, Call("POST", f"{_of(sweep)}/cancel", query))

    def pause(self, sweep: str) -> Sweep:
        """Take a sweep off the cluster at its trials' next checkpoints; `resume` goes on with it."""
        return self._act(sweep, "pause")

    def resume(self, sweep: str) -> Sweep:
        """Queue a paused sweep again."""
        return self._act(sweep, "resume")

    def extend(self, sweep: str, max_trials: int) -> Sweep:
        """Let a sweep, over or not, go on to `max_trials` trials in all."""
        return self._act(sweep, "extend", {"max_trials": max_trials})

    def prioritise(self, sweep: str, priority: int) -> Sweep:
        """Give a sweep another place in the queue; higher ones go first."""
        return self._act(sweep, "prioritise", {"priority": priority})

    def delete(self, sweep: str) -> None:
        """Remove a sweep with all that it has written."""
        self._http.send(Call("DELETE", _of(sweep), self._within))

    def fork(
        self,
        sweep: str,
        *,
        overrides: Sequence[str] = (),
        name: str | None = None,
        keep_results: bool = True,
        priority: int | None = None,
    ) -> Sweep:
        """Queue a new sweep made of an old one with changes; with `keep_results` it learns from the old trials."""
        body = {"overrides": list(overrides), "name": name, "keep_results": keep_results, "priority": priority}
        return self._http.ask(Sweep, Call("POST", f"{_of(sweep)}/fork", self._within, body=body, key=new_key()))

    def trials(self, sweep: str, *, most: int = 1000, insight: bool = False) -> Details:
        """A sweep with its best trials, at most `most`; with `insight` what they teach as well."""
        return self._http.get(
            Details, f"{_of(sweep)}/trials", project=self.project, limit=most, insight=insight or None
        )

    def best(self, sweep: str) -> BestAnswer:
        """The best trial and its LightningCLI config."""
        return self._http.get(BestAnswer, f"{_of(sweep)}/best", project=self.project)

    def report_page(self, sweep: str) -> bytes:
        """The sweep's report as one HTML page that needs nothing else."""
        return self._http.send(Call("GET", f"{_of(sweep)}/report.html", self._within)).content

    def report(self, sweep: str) -> dict[str, Any]:
        """The sweep's report as data."""
        found: dict[str, Any] = self._http.send(Call("GET", f"{_of(sweep)}/report", self._within)).json()
        return found

    def logs(self, sweep: str, *, trial: int | None = None, offset: int = 0) -> LogAnswer:
        """A piece of the log of a sweep's driver, or of one trial, from byte `offset` on."""
        return self._http.get(LogAnswer, _log(sweep, trial), project=self.project, offset=offset)

    def follow_logs(
        self, sweep: str, *, trial: int | None = None, offset: int = 0, away_s: float = 60.0
    ) -> Iterator[str]:
        """The log as it grows, from byte `offset` on (negative: from the end), until nothing will follow.

        UnreachableError, or the last refusal, once the server has not answered for `away_s`.
        """
        query = {"project": self.project, "offset": offset}
        for message in self._http.follow(_log(sweep, trial), away_s=away_s, **query):
            yield message.parsed(LogAnswer).text

    def events(self, sweep: str | None = None, *, after: int = 0) -> EventPage:
        """What happened, from behind event number `after` on: to one sweep, or to all that the caller may see."""
        return self._http.get(EventPage, _events(sweep), project=self.project, after=after)

    def follow_events(self, sweep: str | None = None, *, after: int = 0) -> Iterator[EventAnswer]:
        """Events as they happen, from behind event number `after` on; none twice, none left out.

        Those of one sweep end with it; those of all sweeps never end.
        """
        for message in self._http.follow(_events(sweep), project=self.project, after=after):
            if message.id:  # `progress` has none
                yield message.parsed(EventAnswer)

    def wait(self, sweep: str, *, watch: Callable[[Sweep], None] = lambda _: None, away_s: float = 60.0) -> Sweep:
        """Look at a sweep until it is over or paused; `watch` gets each look.

        UnreachableError, or the last refusal, once the server has not answered for `away_s`.
        """
        seen_at = time.monotonic()
        while True:
            try:
                found = self.sweep(sweep)
            except ServerError as error:
                is_away = error.status is None or error.status == TOO_MANY or error.status >= BROKEN
                if not is_away or time.monotonic() - seen_at > away_s:
                    raise
            else:
                seen_at = time.monotonic()
                watch(found)
                if found.state in _AT_REST:
                    return found
            time.sleep(POLL_S)

    def queue(self) -> list[QueueEntry]:
        """What runs and what waits, in its order, and why."""
        return self._http.get(QueueAnswer, "/queue", project=self.project).items

    def cluster(self) -> ClusterAnswer:
        """What the cluster has, and how much of it is in use."""
        return self._http.get(ClusterAnswer, "/cluster")

    def compare(self, sweeps: Sequence[str]) -> Comparison:
        """Several sweeps side by side."""
        return self._http.get(Comparison, "/compare", project=self.project, sweep=tuple(sweeps))

    @property
    def _within(self) -> dict[str, str | None]:
        """Where the server looks for a sweep that is named."""
        return {"project": self.project}

    def _act(self, sweep: str, action: str, body: Mapping[str, Any] | None = None) -> Sweep:
        return self._http.ask(Sweep, Call("POST", f"{_of(sweep)}/{action}", self._within, body=body))


def _of(sweep: str) -> str:
    if not sweep:
        raise SpecError([Fault("is empty", "sweep", allowed="a sweep's id, its name, or how its id begins")])
    return f"/sweeps/{quote(sweep, safe='')}"


def _events(sweep: str | None) -> str:
    return "/events" if sweep is None else f"{_of(sweep)}/events"


def _log(sweep: str, trial: int | None) -> str:
    return f"{_of(sweep)}/logs" if trial is None else f"{_of(sweep)}/trials/{trial}/logs"

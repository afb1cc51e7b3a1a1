"""Who gets which place on the cluster, as one pure function: `allot(sweeps, capacity, quotas, usage, now) -> Plan`.

A higher priority comes first, strictly: it is given all it can use, and may take the place of a lower one, which then
pauses its trials at their next checkpoint and waits for its turn. Within one priority nobody loses a place, but those
who have one shrink to make room: trials go one by one to the user with the least, counting what runs and what was used
of late, and to that user's sweep with the fewest, the one that has waited longest among those with none. The odd trial
that does not divide evenly stays with whoever has it until the others have used clearly less of late, so that it goes
round every few hours and not with every pass. Whatever is free goes to somebody who can use it, within quotas; except
that a sweep which has waited long for a place larger than what is ever free holds back the places of those that came
after it, for a few hours of each day.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from service.queueing.lifecycle import wait_s
from service.queueing.rooms import Capacity, Demand, Quotas, Rooms, demand, quota_of
from service.records import State, SweepRecord, Wish

__all__ = ["Capacity", "Demand", "Plan", "Quotas", "Usage", "Wait", "allot", "demand"]
RECENT_WEIGHT: Final = 0.5  # of a user's part of all recent use, beside its part of the cluster now
AHEAD_HOURS: Final = 1.0  # who is ahead by less recent use, in trial-hours, keeps an odd trial;
AHEAD: Final = 0.002  # or by less as a part of everybody's
PATIENCE_S: Final = 900.0  # who has no place for so long, as the cluster is too full for it, holds back later ones,
HOLD_S: Final = 4 * 3600.0  # but only for so long of each day: others are to get on, too
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Trial-hours used up: in all by users and by projects, and by users of late, where older ones count less."""

    users: Mapping[str, float] = field(default_factory=dict)
    projects: Mapping[str, float] = field(default_factory=dict)
    recent: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wait:
    """Where a sweep stands in the queue, from 1, and why it waits, as a sentence for people."""

    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. The same again after it has been done, unless something has changed.

    `grants` holds the trials at once of every sweep that keeps a place or gets one; `place` are those that get one, in
    this order; `preempt` are those that lose theirs, and why; `waits` those that have none.
    """

    grants: Mapping[str, int]
    place: tuple[str, ...]
    preempt: Mapping[str, str]
    waits: Mapping[str, Wait]


def allot(sweeps: Sequence[SweepRecord], capacity: Capacity, quotas: Quotas, usage: Usage, now: float) -> Plan:
    """Share the cluster out among the sweeps that want to run; those that do not may be given too.

    First as if those that stop were gone, which says who deserves a place and who loses one; then with what they still
    hold, so that nobody is placed before there is room.
    """
    running = [s for s in sweeps if s.state in (State.STARTING, State.RUNNING)]
    waiting = [s for s in sweeps if s.state is State.QUEUED and s.wish is Wish.RUN]
    spent = {s.id: why for s in [*running, *waiting] if (why := _spent(s, quotas, usage))}
    barred = {s.id: why for s in waiting if (why := _not_yet(s, now) or _never(s, Rooms(capacity, quotas, [s])))}
    able = [s for s in waiting if s.id not in barred and s.id not in spent]
    ideal = _Sharing(Rooms(capacity, quotas, sweeps), usage, now)
    ideal.share([s for s in running if s.id not in spent], able)
    preempt = {**{s.id: spent[s.id] for s in running if s.id in spent}, **ideal.preempts}
    kept = [s for s in running if s.id not in preempt]
    deserving = [s for s in able if s.id in ideal.grants]
    actual = _Sharing(Rooms(capacity, quotas, sweeps), usage, now)
    actual.rooms.hold(s for s in sweeps if s.state is State.STOPPING or s.id in preempt)
    actual.keep(kept)
    actual.share(kept, deserving)
    place = tuple(sweep_id for sweep_id in ideal.turns if sweep_id in actual.grants)
    freed = {s.id: "a place is being freed for it" for s in deserving}
    left = [s for s in waiting if s.id not in actual.grants]
    return Plan(actual.grants, place, preempt, _waits(left, ideal.turns, {**ideal.lacks, **freed, **barred, **spent}))


def _spent(sweep: SweepRecord, quotas: Quotas, usage: Usage) -> str | None:
    """Why a sweep may not run on, if what its owner or project may use in all has been used up."""
    for kind, name, used in (("user", sweep.owner, usage.users), ("project", sweep.project, usage.projects)):
        has = quota_of(quotas, kind, name).trial_hours
        if has is not None and used.get(name, 0.0) >= has:
            who = name if kind == "user" else f"project {name}"
            return f"{who} may use {has:g} trial-hours in all, and has used {used.get(name, 0.0):.1f}"
    return None


def _not_yet(sweep: SweepRecord, now: float) -> str | None:
    """Why a sweep is not to be started at this time, whatever is free."""
    left_s = wait_s(sweep, now)
    return f"{sweep.reason}; the next one is due in {left_s:.0f} s" if left_s else None


def _never(sweep: SweepRecord, empty: Rooms) -> str | None:
    """Why a sweep cannot run even if nobody else does."""
    return empty.lack(sweep, demand(sweep), 1) or empty.capacity.lack_of_a_node(demand(sweep))


def _waits(left: Iterable[SweepRecord], turns: Sequence[str], reasons: Mapping[str, str]) -> dict[str, Wait]:
    """The queue: by priority, then by whose turn it is; those that nothing can be done for come last."""
    turn = {sweep_id: number for number, sweep_id in enumerate(turns)}
    queue = sorted(left, key=lambda s: (-s.priority, turn.get(s.id, len(turn)), s.queued_at, s.id))
    return {s.id: Wait(position, _sentence(s, reasons[s.id])) for position, s in enumerate(queue, 1)}


def _sentence(sweep: SweepRecord, why: str) -> str:
    return f"it was preempted ({sweep.reason}); {why}" if sweep.is_preempted and sweep.reason != why else why


class _Sharing:
    """One round of giving out trials. `turns` are the waiting sweeps in the order in which they were thought of."""

    def __init__(self, rooms: Rooms, usage: Usage, now: float) -> None:
        self.rooms, self.now = rooms, now
        whole = sum(usage.recent.values()) or 1.0
        self.ahead = max(AHEAD_HOURS / whole, AHEAD)
        self.recent = {user: RECENT_WEIGHT * hours / whole for user, hours in usage.recent.items()}
        self.grants: dict[str, int] = {}
        self.preempts: dict[str, str] = {}
        self.lacks: dict[str, str] = {}
        self.turns: list[str] = []

    def keep(self, running: Iterable[SweepRecord]) -> None:
        """One trial for each, whether there is room or not."""
        for sweep in running:
            self._give(sweep)

    def share(self, running: Sequence[SweepRecord], waiting: Sequence[SweepRecord]) -> None:
        """Everything that is left, priority by priority."""
        for priority in sorted({s.priority for s in [*running, *waiting]}, reverse=True):
            self._keep_places([s for s in running if s.priority == priority])
            placed = [s for s in running if s.priority == priority and s.id in self.grants]
            self._fill(placed, [s for s in waiting if s.priority == priority])

    def _keep_places(self, running: Iterable[SweepRecord]) -> None:
        """Nobody loses a place to one of the same priority, nor because the cluster has shrunk; but by a quota."""
        is_outranked = bool(self.grants) and self.rooms.capacity.may_cost_places
        for sweep in sorted(running, key=lambda s: (s.started_at or s.queued_at, s.id)):
            if sweep.id in self.grants:
                continue
            wanted = demand(sweep)
            quota = self.rooms.lack_of_quota(sweep, wanted, 1)
            if quota is not None:
                self.preempts[sweep.id] = quota
            elif is_outranked and self.rooms.lack(sweep, wanted, 1) is not None:
                self.preempts[sweep.id] = "sweeps of a higher priority need its place"
            else:
                self._give(sweep)

    def _give(self, sweep: SweepRecord) -> None:
        before = self.grants.get(sweep.id, 0)
        self.rooms.take(sweep, demand(sweep), 1, 0 if before else 1)
        self.grants[sweep.id] = before + 1

    def _fill(self, placed: Sequence[SweepRecord], waiting: Sequence[SweepRecord]) -> None:
        """Trial by trial, to whoever has least; a sweep that once gets none gets none later, as room only shrinks."""
        held_back = self._held_back(waiting)
        left = _held(placed)  # of what each user has now: trials not given again yet
        for sweep in placed:
            left[sweep.owner] -= self.grants[sweep.id]
        wanting: dict[str, list[tuple[int, float, str, SweepRecord]]] = {}
        for sweep in [*placed, *waiting]:
            entry = (self.grants.get(sweep.id, 0), sweep.queued_at, sweep.id, sweep)
            heapq.heappush(wanting.setdefault(sweep.owner, []), entry)
        while wanting:
            user = min(wanting, key=lambda name: (self._score(wanting[name][0][3], left[name]), wanting[name][0][:3]))
            trials, queued_at, sweep_id, sweep = heapq.heappop(wanting[user])
            lack = held_back.get(sweep_id) or self._lack(sweep, trials)
            if not trials:
                self.turns.append(sweep_id)
            if lack is None:
                self._give(sweep)
                left[user] -= 1
                heapq.heappush(wanting[user], (trials + 1, queued_at, sweep_id, sweep))
            elif not trials:
                self.lacks[sweep_id] = lack
            if not wanting[user]:
                del wanting[user]

    def _lack(self, sweep: SweepRecord, trials: int) -> str | None:
        wanted = demand(sweep)
        if wanted.most is not None and trials >= wanted.most:
            return "it can use no more"
        return self.rooms.lack(sweep, wanted, 0 if trials else 1)

    def _held_back(self, waiting: Sequence[SweepRecord]) -> dict[str, str]:
        """Those that came after one that has long waited for more than is free beside the places that are taken.

        Only the first of those that wait so long has it in its hands: many do not keep the cluster idle in turns.
        """
        patient = [
            s for s in waiting
            if self.now - s.queued_at > PATIENCE_S
            and self.rooms.lack_of_quota(s, demand(s), 1) is None
            and self.rooms.lack(s, demand(s), 1) is not None
        ]  # fmt: skip
        if not patient:
            return {}
        first = min(patient, key=lambda s: (s.queued_at, s.id))
        if (self.now - first.queued_at - PATIENCE_S) % DAY_S > HOLD_S:
            return {}
        why = "a larger sweep came before it and needs more than is free; places are kept back for it"
        return {s.id: why for s in waiting if (s.queued_at, s.id) > (first.queued_at, first.id) and s not in patient}

    def _score(self, sweep: SweepRecord, left: int) -> float:
        """What the sweep's owner has; a little less where the next trial is the last of those that it has anyway.

        Less by no more than half a trial counts: two trials that one has more than another are no odd one.
        """
        kept = RECENT_WEIGHT * min(self.ahead, self.rooms.part(demand(sweep))) if left == 1 else 0.0
        return self.rooms.share(sweep.owner) + self.recent.get(sweep.owner, 0.0) - kept


def _held(placed: Iterable[SweepRecord]) -> Counter[str]:
    """How many trials each user has been granted, of those that its sweeps can still use."""
    held: Counter[str] = Counter()
    for sweep in placed:
        most = demand(sweep).most
        held[sweep.owner] += sweep.concurrency if most is None else min(sweep.concurrency, most)
    return held

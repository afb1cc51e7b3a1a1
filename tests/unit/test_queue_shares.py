"""Shares of the cluster over hours in which users use what they are granted: they come to rest, and they are fair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.queueing.queue import Capacity, Usage, allot
from service.records import State
from tests.queued import NOW, plan, running, sweep, world


class Day:
    """Users whose sweeps can use any number of trials, hour after hour; what they are granted is what they use."""

    def __init__(self, owners: Sequence[str], cpus: float, sizes: Sequence[float], past: Mapping[str, float]) -> None:
        self.sweeps = [
            sweep(name * n, name, cpu=size) for n, (name, size) in enumerate(zip(owners, sizes, strict=True), 1)
        ]
        self.capacity, self.recent = Capacity(cpus), {name: past.get(name, 0.0) for name in owners}
        self.used: Counter[str] = Counter()
        self.unsaid: Counter[str] = Counter()

    def passes(self, hours: float, *, period_s: float, epoch_s: float) -> list[int]:
        """How many shares changed in each hour. Use is heard of once an epoch, and counts half after three days."""
        changes: Counter[int] = Counter()
        for number in range(int(hours * 3600 / period_s)):
            now = NOW + number * period_s
            grants = allot(self.sweeps, self.capacity, {}, Usage(recent=dict(self.recent)), now).grants
            changes[int(number * period_s // 3600)] += sum(grants.get(s.id) != s.concurrency for s in self.sweeps)
            self.sweeps = [
                replace(s, concurrency=grants.get(s.id, 0), state=State.RUNNING, started_at=NOW) for s in self.sweeps
            ]
            for one in self.sweeps:
                self.unsaid[one.owner] += one.concurrency * period_s / 3600  # type: ignore[assignment]  # hours
                self.recent[one.owner] *= 0.5 ** (period_s / (3 * 86400))
                if now % epoch_s < period_s:
                    self.recent[one.owner] += self.unsaid[one.owner]
                    self.used[one.owner] += self.unsaid.pop(one.owner)
        return [changes[hour] for hour in range(int(hours))]


class TestSharesComeToRest:
    @pytest.mark.parametrize("past", [0.0, 200.0])
    @pytest.mark.parametrize(
        ("users", "cpus"), [(users, cpus) for users in (2, 3, 4) for cpus in range(3, 10) if cpus >= users]
    )
    def test_an_odd_trial_goes_round_slowly_and_fairly(self, users: int, cpus: int, past: float) -> None:
        owners = "abcd"[:users]
        day = Day(owners, cpus, [1] * users, dict.fromkeys(owners, past))
        changes = day.passes(24, period_s=240, epoch_s=240 if cpus % 2 else 1200)
        assert max(changes[1:]) <= 4, "of fifteen passes in an hour"
        assert sum(changes[1:]) <= 24 * 2, changes
        each = [day.used[owner] for owner in owners]
        assert max(each) - min(each) <= 0.1 * sum(each) / users, each

    @given(st.integers(0, 10**9))
    @settings(max_examples=10, deadline=None)
    def test_whatever_the_trials_take_and_was_used_before(self, seed: int) -> None:
        draw = Random(seed)
        owners = "abcd"[: draw.randint(2, 4)]
        past = {owner: draw.choice([0.0, 1.0, 100.0, 300.0]) for owner in owners}
        day = Day(owners, draw.randint(8, 9), [draw.choice([0.5, 1, 2]) for _ in owners], past)
        changes = day.passes(12, period_s=240, epoch_s=240)
        assert sum(changes[1:]) <= 11 * 4, changes

    def test_what_is_no_odd_trial_is_given_back(self) -> None:
        assert plan(running("a", concurrency=5), running("b", "bob", concurrency=3)).grants == {"a": 4, "b": 4}

    @given(st.integers(0, 10**9))
    @settings(max_examples=100, deadline=None)
    def test_one_pass_after_the_other_changes_nothing(self, seed: int) -> None:
        sweeps, capacity, _, usage = world(seed)
        running_ones = [replace(s, state=State.RUNNING, concurrency=s.concurrency or 1, priority=0) for s in sweeps]
        grants = allot(running_ones, capacity, {}, usage, NOW).grants
        again = [replace(s, concurrency=grants[s.id]) for s in running_ones]
        assert allot(again, capacity, {}, usage, NOW).grants == grants

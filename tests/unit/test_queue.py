"""Who gets which place: what always holds, whatever is asked for, and what the rules come to in plain cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.backend import Node
from service.queueing.queue import DAY_S, HOLD_S, PATIENCE_S, Capacity, Usage, allot, demand
from service.queueing.rooms import Settling, quota_of
from service.records import Quota, State, SweepRecord
from tests.queued import NOW, plan, running, sweep, world


class TestPlainCases:
    def test_one_sweep_gets_all_it_can_use(self) -> None:
        assert plan(sweep("a")).grants == {"a": 8}
        assert plan(sweep("a", most=3)).grants == {"a": 3}
        assert plan(sweep("a", cpu=2)).grants == {"a": 4}
        assert plan(sweep("a", gpu=0.3), capacity=Capacity(100, 2)).grants == {"a": 6}, "a part is of one GPU"

    def test_no_more_than_the_trials_that_are_left(self) -> None:
        late = replace(sweep("a"), progress={"trials": {"completed": 4, "failed": 3, "running": 2}})
        assert demand(replace(late, spec={"budget": {"max_trials": 10}})).most == 3
        raced = {"budget": {"max_trials": 10}, "evaluation": {"folds": 2, "seeds": 2}}
        assert demand(replace(late, spec=raced)).most == 12

    def test_a_newcomer_makes_the_others_shrink_but_not_stop(self) -> None:
        shared = plan(running("a", concurrency=8), sweep("b", "bob"), sweep("cc", "bob"))
        assert shared.grants == {"a": 4, "b": 2, "cc": 2}
        assert shared.place == ("b", "cc")
        assert not shared.preempt

    def test_what_one_cannot_use_goes_to_others(self) -> None:
        assert plan(running("a", most=1), running("b")).grants == {"a": 1, "b": 7}
        quotas = {("user", "ann"): Quota(concurrent_trials=2)}
        assert plan(running("a"), running("b", "bob"), quotas=quotas).grants == {"a": 2, "b": 6}

    def test_users_share_fairly_however_many_sweeps_they_have(self) -> None:
        many = [sweep("b" * n, "bob") for n in range(1, 10)]
        shared = plan(sweep("a"), *many)
        assert shared.grants["a"] == 4
        assert [len(name) for name in shared.place if name != "a"] == [1, 2, 3, 4], "first come, first served"

    def test_recent_use_counts_against_a_user(self) -> None:
        used = Usage(recent={"ann": 90.0, "bob": 10.0})
        grants = plan(sweep("a"), sweep("b", "bob"), usage=used).grants
        assert grants == {"a": 2, "b": 6}

    def test_a_higher_priority_takes_a_place_once_it_is_free(self) -> None:
        low, high = running("a", concurrency=8), sweep("b", "bob", priority=1)
        first = plan(low, high)
        assert list(first.preempt) == ["a"]
        assert first.grants == {}
        assert first.waits["b"].reason == "a place is being freed for it"
        leaving = replace(low, state=State.STOPPING, is_preempted=True, reason=first.preempt["a"])
        assert plan(leaving, high).place == ()
        gone = replace(leaving, state=State.QUEUED, concurrency=0)
        second = plan(gone, high)
        assert second.grants == {"b": 8}
        assert second.waits["a"].reason.startswith("it was preempted (sweeps of a higher priority need its place); one")
        assert plan(gone, replace(high, state=State.COMPLETED)).place == ("a",)

    def test_a_higher_priority_that_can_use_little_takes_little(self) -> None:
        shared = plan(running("a", concurrency=8), sweep("b", "bob", most=2, priority=1))
        assert shared.grants == {"a": 6, "b": 2}

    def test_a_shrunken_cluster_ends_no_sweep(self) -> None:
        assert plan(running("a"), running("b"), capacity=Capacity(1)).preempt == {}

    def test_nodes_that_are_away_for_a_moment_cost_nobody_a_place(self) -> None:
        low, high = running("a", concurrency=4), replace(running("b", "bob", concurrency=4), priority=1)
        assert plan(low, high, capacity=Capacity(0)).preempt == {}
        assert plan(low, high, capacity=Capacity(1, is_settled=False)).preempt == {}
        assert list(plan(low, high, capacity=Capacity(1)).preempt) == ["a"]
        waiting = sweep("b", "bob", priority=1)
        assert plan(low, waiting, capacity=Capacity(1, is_settled=False)).place == (), "there is no room"

    def test_a_cluster_is_settled_once_it_stays_as_small_as_it_is(self) -> None:
        settling = Settling()
        story = [
            (0, 8, True), (1, 10, True), (2, 2, False), (50, 4, False), (109, 4, False), (110, 4, True),
            (111, 2, False), (112, 4, True), (113, 0, False), (114, 9, True), (115, 8, False), (175, 8, True),
        ]  # fmt: skip
        for now, cpus, is_settled in story:
            judged = settling.judge(Capacity(float(cpus)), float(now))
            assert (judged.cpus, judged.is_settled) == (cpus, is_settled), now

    def test_a_clock_that_is_set_back_holds_no_place_for_a_lost_node(self) -> None:
        settling = Settling()
        settling.judge(Capacity(8.0), 90_000.0)
        assert [settling.judge(Capacity(2.0), now).is_settled for now in (90_001.0, 10.0, 69.0, 70.0)] == [
            False, False, False, True,
        ]  # fmt: skip

    def test_quotas_bar_place_and_say_so(self) -> None:
        quotas = {
            ("user", "*"): Quota(running_sweeps=1),
            ("user", "bob"): Quota(),
            ("project", "default"): Quota(cpus=3),
        }
        shared = plan(running("a"), sweep("b"), sweep("cc", "bob"), quotas=quotas)
        assert set(shared.grants) == {"a", "cc"}
        assert sum(shared.grants.values()) == 3
        assert shared.waits["b"].reason == "ann may run 1 sweep at once, and does"
        used = Usage(users={"bob": 10.0})
        spent = plan(
            running("cc", "bob"), sweep("d", "bob"), quotas={("user", "bob"): Quota(trial_hours=10)}, usage=used
        )
        assert (spent.grants, list(spent.preempt), list(spent.waits)) == ({}, ["cc"], ["d"])
        assert "10 trial-hours" in spent.waits["d"].reason

    def test_what_never_fits_says_so_and_holds_nobody_up(self) -> None:
        large = replace(sweep("large", gpu=4), queued_at=NOW - 10 * PATIENCE_S)
        shared = plan(large, sweep("b", "bob"), capacity=Capacity(8, 2))
        assert shared.place == ("b",)
        assert shared.waits["large"].reason == "one of its trials needs 4 GPUs, and the cluster has 2 in all"

    def test_a_trial_has_to_fit_on_one_node(self) -> None:
        four = Capacity(32, 4, nodes=(Node(8.0, 1.0),) * 4)
        large = replace(sweep("large", gpu=4), queued_at=NOW - 10 * PATIENCE_S)
        shared = plan(large, sweep("b", "bob"), capacity=four)
        assert shared.place == ("b",)
        assert shared.waits["large"].reason == (
            "one of its trials needs 1 CPU and 4 GPUs on one node, and the largest node of the cluster has 8 CPUs and "
            "1 GPU"
        )
        assert plan(sweep("a", gpu=1), capacity=four).grants == {"a": 4}
        mixed = Capacity(40, 4, nodes=(Node(32.0, 0.0), Node(8.0, 4.0)))
        assert "on one node" in plan(sweep("a", cpu=16, gpu=1), capacity=mixed).waits["a"].reason
        assert plan(sweep("a", cpu=8, gpu=4), capacity=mixed).grants == {"a": 1}

    def test_memory_limits_what_fits_too(self) -> None:
        four = Capacity(32, nodes=(Node(8.0, 0.0, 8.0 * 2**30),) * 4)

        def needing(memory: str) -> SweepRecord:
            return replace(sweep("a"), spec={"resources": {"cpu": 1, "memory": memory}})

        assert plan(needing("16GiB"), capacity=four).waits["a"].reason == (
            "one of its trials needs 1 CPU and 16 GiB of memory on one node, and the largest node of the cluster has "
            "8 CPUs and 8 GiB of memory"
        )
        assert plan(needing("4GiB"), capacity=four).grants == {"a": 8}
        both = plan(replace(running("b", "bob"), spec=needing("8GiB").spec), needing("8GiB"), capacity=four)
        assert both.grants == {"a": 2, "b": 2}
        urgent = replace(running("b", "bob", concurrency=4), spec=needing("8GiB").spec, priority=1)
        assert plan(urgent, needing("512MiB"), capacity=four).waits["a"].reason == (
            "one of its trials needs 0.5 GiB of memory, and of the 32 GiB of the cluster 0 GiB are left"
        )
        assert plan(needing("16GiB"), capacity=Capacity(32)).grants == {"a": 32}, "nobody knows what its nodes have"

    def test_what_drivers_reserve_is_not_for_trials(self) -> None:
        reserved = Capacity(8, driver_cpus=1)
        assert plan(sweep("a"), capacity=reserved).grants == {"a": 7}
        assert plan(sweep("a"), sweep("b", "bob"), capacity=reserved).grants == {"a": 3, "b": 3}
        assert plan(sweep("a"), capacity=Capacity(1, driver_cpus=1)).grants == {}

    def test_a_lost_driver_waits_for_its_time(self) -> None:
        lost = replace(sweep("a"), not_before=NOW + 5, reason="its driver was lost: killed")
        assert plan(lost).waits["a"].reason == "its driver was lost: killed; the next one is due in 5 s"
        assert plan(replace(lost, not_before=NOW)).place == ("a",)

    def test_a_large_one_that_has_waited_long_gets_room(self) -> None:
        large = replace(sweep("large", "bob", cpu=8), queued_at=NOW - 2 * PATIENCE_S)
        small = [running("a"), sweep("b"), sweep("cc")]
        held = plan(large, *small)
        assert held.place == ()
        assert held.waits["b"].reason.startswith("a larger sweep came before it"), (
            "which one may be none of ann's concern"
        )
        assert held.grants == {"a": 8}, "nothing is idle meanwhile"
        assert plan(replace(large, queued_at=NOW - 1), *small).place == ("b", "cc")
        assert plan(large, *small[1:]).place == ("large",)

    def test_places_are_held_back_for_some_hours_of_a_day_and_by_one_sweep(self) -> None:
        large = replace(sweep("large", "bob", cpu=8), queued_at=NOW - PATIENCE_S - HOLD_S + 1)
        small = [replace(running("a", most=2), queued_at=NOW - DAY_S), replace(sweep("b"), queued_at=NOW - 1)]
        assert plan(large, *small).place == ()
        late = replace(large, queued_at=large.queued_at - 2)
        assert plan(late, *small).place == ("b",)
        assert plan(late, replace(late, id="next", queued_at=NOW - 2 * PATIENCE_S), *small).place == ("b",)
        assert plan(replace(late, queued_at=late.queued_at - DAY_S + HOLD_S), *small).place == (), "another day"

    def test_positions_follow_priority_then_turn(self) -> None:
        waits = plan(*(running("r" * n) for n in range(1, 9)), sweep("a"), sweep("bb"), sweep("z", priority=-1)).waits
        assert {name: wait.position for name, wait in waits.items()} == {"a": 1, "bb": 2, "z": 3}

    def test_a_thousand_sweeps_are_shared_out_at_once(self) -> None:
        sweeps = [replace(sweep(f"s{n}", f"u{n % 20}"), queued_at=float(n)) for n in range(1000)]
        assert sum(plan(*sweeps, capacity=Capacity(500)).grants.values()) == 500


def used_of(sweeps: Sequence[SweepRecord], grants: Mapping[str, int]) -> Counter[str]:
    """What running and stopping sweeps occupy under a plan."""
    total: Counter[str] = Counter()
    for one in sweeps:
        trials = grants.get(one.id, one.concurrency if one.state is State.STOPPING else 0)
        wanted = demand(one)
        total.update({"running_sweeps": trials > 0, "concurrent_trials": trials})
        total.update({"cpus": wanted.cpu * trials, "gpus": wanted.gpu * trials})
    return total


def exceeds(total: Counter[str], limits: Quota, by: SweepRecord) -> bool:
    """Whether more is used than there is of something that one sweep needs."""
    wanted = demand(by)
    names = ["running_sweeps", "concurrent_trials", *["cpus"] * (wanted.cpu > 0), *["gpus"] * (wanted.gpu > 0)]
    return any((has := getattr(limits, name)) is not None and total[name] > has + 1e-6 for name in names)


class TestAlways:
    @given(st.integers(0, 10**9))
    @settings(max_examples=100, deadline=None)
    def test_nobody_is_placed_beyond_the_cluster_or_a_quota(self, seed: int) -> None:
        sweeps, capacity, quotas, usage = world(seed)
        shared = allot(sweeps, capacity, quotas, usage, NOW)
        whole = Quota(running_sweeps=capacity.sweeps, cpus=capacity.cpus, gpus=capacity.gpus)
        for one in sweeps:
            if one.id not in shared.place:
                continue
            assert not exceeds(used_of(sweeps, shared.grants), whole, one)
            mine = [s for s in sweeps if s.owner == one.owner]
            assert not exceeds(used_of(mine, shared.grants), quota_of(quotas, "user", one.owner), one)
            ours = [s for s in sweeps if s.project == one.project]
            assert not exceeds(used_of(ours, shared.grants), quota_of(quotas, "project", one.project), one)

    @given(st.integers(0, 10**9))
    @settings(max_examples=100, deadline=None)
    def test_every_sweep_has_its_grant_its_reason_or_its_end(self, seed: int) -> None:
        sweeps, capacity, quotas, usage = world(seed)
        shared = allot(sweeps, capacity, quotas, usage, NOW)
        waiting = {s.id for s in sweeps if s.state is State.QUEUED}
        placed = {s.id for s in sweeps if s.state in (State.STARTING, State.RUNNING)}
        assert set(shared.place) | set(shared.waits) == waiting
        assert not set(shared.place) & set(shared.waits)
        assert set(shared.grants) | set(shared.preempt) == placed | set(shared.place)
        assert not set(shared.grants) & set(shared.preempt)
        assert sorted(wait.position for wait in shared.waits.values()) == list(range(1, len(shared.waits) + 1))
        assert all(wait.reason for wait in shared.waits.values())
        for one in sweeps:
            assert 1 <= shared.grants.get(one.id, 1) <= (demand(one).most or 100)

    @given(st.integers(0, 10**9))
    @settings(max_examples=100, deadline=None)
    def test_nothing_is_idle_that_somebody_may_use(self, seed: int) -> None:
        sweeps, capacity, quotas, usage = world(seed)
        shared = allot(sweeps, capacity, quotas, usage, NOW)
        if shared.preempt or any(s.state is State.STOPPING for s in sweeps):
            return  # room is being made
        quotas = {name: replace(quota, trial_hours=None) for name, quota in quotas.items()}
        whole = Quota(running_sweeps=capacity.sweeps, cpus=capacity.cpus, gpus=capacity.gpus)
        for one in sweeps:
            is_kept_back = "came before it" in shared.waits[one.id].reason if one.id in shared.waits else False
            is_spent = "trial-hours" in shared.waits[one.id].reason if one.id in shared.waits else False
            wants = one.state in (State.QUEUED, State.RUNNING, State.STARTING) and not is_kept_back and not is_spent
            has = shared.grants.get(one.id, 0)
            if not wants or has >= (demand(one).most or 100):
                continue
            more = {**shared.grants, one.id: has + 1}
            mine, ours = ([s for s in sweeps if getattr(s, a) == getattr(one, a)] for a in ("owner", "project"))
            assert (
                exceeds(used_of(sweeps, more), whole, one)
                or exceeds(used_of(mine, more), quota_of(quotas, "user", one.owner), one)
                or exceeds(used_of(ours, more), quota_of(quotas, "project", one.project), one)
            )

    @given(st.integers(0, 10**9))
    @settings(max_examples=100, deadline=None)
    def test_nobody_waits_for_a_lower_priority(self, seed: int) -> None:
        sweeps, capacity, _, usage = world(seed)
        shared = allot(sweeps, capacity, {}, usage, NOW)
        for one in sweeps:
            lower = [s for s in sweeps if s.priority < one.priority and s.state in (State.STARTING, State.RUNNING)]
            kept = [s for s in lower if s.id in shared.grants]
            if one.id not in shared.waits or not kept or "freed" in shared.waits[one.id].reason:
                continue
            without = [s for s in sweeps if s not in kept]
            again = allot(without, capacity, {}, usage, NOW)
            assert one.id not in again.place or any(s.state is State.STOPPING for s in sweeps)

    @given(st.integers(0, 10**9))
    @settings(max_examples=100, deadline=None)
    def test_all_get_their_turn(self, seed: int) -> None:
        sweeps, capacity, _, usage = world(seed)
        left, now = {s.id: s for s in sweeps if s.state is not State.PAUSED}, NOW
        for _ in range(60):
            now += 60
            shared = allot(list(left.values()), capacity, {}, usage, now)
            for sweep_id in shared.place:
                left[sweep_id] = replace(left[sweep_id], state=State.RUNNING, started_at=now)
            for sweep_id in shared.preempt:
                left[sweep_id] = replace(left[sweep_id], state=State.QUEUED, is_preempted=True, concurrency=0)
            done = [s.id for s in left.values() if s.state.is_placed][:1]
            for sweep_id in done:
                del left[sweep_id]
        assert all("in all" in shared.waits[sweep_id].reason for sweep_id in left)

    @given(st.integers(0, 10**9))
    @settings(max_examples=100, deadline=None)
    def test_the_same_again_once_it_is_done(self, seed: int) -> None:
        sweeps, capacity, quotas, usage = world(seed)
        shared = allot(sweeps, capacity, quotas, usage, NOW)
        done = [
            replace(s, state=State.STOPPING) if s.id in shared.preempt
            else replace(s, state=State.STARTING, concurrency=shared.grants[s.id]) if s.id in shared.place
            else replace(s, concurrency=shared.grants.get(s.id, s.concurrency))
            for s in sweeps
        ]  # fmt: skip
        again = allot(done, capacity, quotas, usage, NOW)
        assert not again.preempt
        assert not again.place

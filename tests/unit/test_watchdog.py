"""A trial that hangs is found, by the user's limit or by what the others have shown; a slow one is left alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.tuning.watchdog import Watchdog


@dataclass
class World:
    """A watchdog over a clock that the test moves in steps of a second."""

    timeout_s: float | None
    now: float = 0.0
    is_excused: bool = False
    killed: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dog = Watchdog(self.timeout_s, self._kill, is_excused=lambda: self.is_excused, clock=lambda: self.now)
        self.dog.tick()

    def _kill(self, pid: int, node: str) -> None:
        self.killed.append((pid, node))

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.dog.tick()


def test_the_users_own_limit_counts_from_the_last_word() -> None:
    world = World(30)
    world.dog.watch((0, 1), 17, "node")
    world.wait(25)
    world.dog.heard((0, 1))
    world.wait(30)
    assert world.killed == []
    world.wait(1)
    assert world.killed == [(17, "node")]
    assert world.dog.forget((0, 1)) == 30
    assert world.dog.forget((0, 1)) is None


def test_without_a_limit_nothing_is_hung_before_the_first_report() -> None:
    world = World(None)
    world.dog.watch((0, 1), 17, "node")
    world.wait(10_000)
    assert world.killed == []


def test_without_a_limit_the_longest_silence_so_far_tells() -> None:
    world = World(None)
    for trial in (0, 1):
        world.dog.watch((trial, 1), trial, "node")
    world.wait(100)
    world.dog.heard((0, 1))
    world.wait(900)
    assert world.killed == []
    world.wait(1)
    assert world.killed == [(1, "node")]
    assert world.dog.forget((1, 1)) == 1000


def test_short_trials_are_given_ten_minutes() -> None:
    world = World(None)
    world.dog.watch((0, 1), 17, "node")
    world.wait(2)
    world.dog.heard((0, 1))
    world.wait(600)
    assert world.killed == []
    world.wait(1)
    assert world.killed == [(17, "node")]


def test_a_driver_that_stood_still_blames_nobody() -> None:
    world = World(30)
    world.dog.watch((0, 1), 17, "node")
    world.now += 3600
    world.dog.tick()
    assert world.killed == []


def test_an_attempt_that_is_over_is_not_watched() -> None:
    world = World(30)
    world.dog.watch((0, 1), 17, "node")
    assert world.dog.forget((0, 1)) is None
    world.dog.heard((0, 1))
    world.wait(100)
    assert world.killed == []


def test_who_waits_for_storage_does_not_hang() -> None:
    world = World(30, is_excused=True)
    world.dog.watch((0, 1), 17, "node")
    world.wait(100)
    assert world.killed == []
    world.is_excused = False
    world.wait(31)
    assert world.killed == [(17, "node")]


def test_a_trial_that_was_taken_for_hung_gets_twice_the_time() -> None:
    world = World(None)
    world.dog.watch((0, 1), 17, "node")
    world.wait(1)
    world.dog.heard((0, 1))
    world.wait(601)
    assert world.killed == [(17, "node")]
    world.dog.forget((0, 1))
    world.dog.watch((0, 2), 18, "node")
    world.wait(1200)
    assert len(world.killed) == 1
    world.wait(1)
    assert world.killed[1:] == [(18, "node")]

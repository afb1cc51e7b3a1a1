"""What is changed in Ray Tune itself: which workers it keeps, for whom, and what it remembers of what is over."""

from __future__ import annotations

from collections.abc import Iterator

from ray import tune
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.utils.object_cache import _ObjectCache


class LostWorkerError(RayActorError):  # type: ignore[misc]  # ray ships no types
    """A worker that is gone for a reason that Tune does not know."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[type[LostWorkerError], tuple[str]]:
        return LostWorkerError, (self.text,)


class SlotResources(tune.PlacementGroupFactory):  # type: ignore[misc]  # ray ships no types
    """The resources of one slot. Slots never compare equal, so that a slot's warm worker serves that slot only.

    With equal requests Tune gives a waiting trial the first worker that falls idle and kills the one that was starting
    for it, so that short trials end up with a single busy worker.
    """

    def __init__(self, slot: int, bundle: dict[str, float]) -> None:
        super().__init__([bundle])
        self.slot = slot

    def __eq__(self, other: object) -> bool:
        """Whether `other` is the same slot."""
        return isinstance(other, SlotResources) and other.slot == self.slot

    def __hash__(self) -> int:
        """Consistent with equality."""
        return hash(("slot", self.slot))


class WarmWorkers(_ObjectCache):  # type: ignore[misc]  # ray ships no types
    """Keeps every idle worker until the end. Tune's own cache keeps one, and none while another is starting.

    Those of the slots in `closed` are let go of, so that other sweeps get what they hold.
    """

    def __init__(self, closed: set[int]) -> None:
        super().__init__()
        self._closed = closed

    def cache_object(self, key: SlotResources, obj: object) -> bool:
        """Keep `obj` for the next attempt of its slot."""
        self._cached_objects[key].append(obj)
        self._num_cached_objects += 1
        return True

    def flush_cached_objects(self, force_all: bool = False) -> Iterator[object]:  # noqa: FBT001, FBT002  # Tune's signature
        """Let go of the others only when Tune says that all is over."""
        if force_all:
            yield from super().flush_cached_objects(force_all=True)
        for key, workers in self._cached_objects.items():
            while workers and key.slot in self._closed:
                self._num_cached_objects -= 1
                yield workers.pop()


class Forget(tune.Callback):  # type: ignore[misc]  # ray ships no types
    """Frees what Tune keeps of every finished trial, so that the driver's memory does not grow with their number."""

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:  # noqa: ARG002  # Tune's signature
        """Drop the results that Tune keeps for its own result grid."""
        metadata = trial.run_metadata
        metadata.metric_analysis.clear()
        metadata.metric_n_steps.clear()
        metadata.last_result = {}
        trial.evaluated_params = {}


def adapt(controller: TuneController, closed: set[int]) -> None:
    """Keep idle workers warm, and end Tune's own snapshots: they cost time and memory for every trial.

    One snapshot, still empty, has to be there: Tune looks for it when it ends.
    """
    controller._actor_cache = WarmWorkers(closed)  # noqa: SLF001  # no public way
    controller.checkpoint(force=True, wait=True)
    controller.checkpoint = lambda **_: None
    _name_lost_workers(controller._actor_manager)  # noqa: SLF001  # no public way


def _name_lost_workers(manager: RayActorManager) -> None:
    """Have a worker that Ray's memory monitor ended count as lost: Tune itself would end the whole sweep."""
    handle = manager._actor_task_failed  # noqa: SLF001  # no public way

    def handle_named(tracked_actor_task: TrackedActorTask, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = LostWorkerError(f"{type(exception).__name__}: {exception}")
        handle(tracked_actor_task, exception)

    manager._actor_task_failed = handle_named  # noqa: SLF001  # no public way

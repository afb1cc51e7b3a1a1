"""One sweep's time on Ray: start or join a cluster, run Tune over the conductor's attempts, leave nothing behind."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from service.errors import BackendError
from service.spec.sweep_spec import SweepSpec
from service.tuning.conductor import Conductor
from service.tuning.ray_environment import grows, joined_address
from service.tuning.storage_place import Place
from service.tuning.sweep_folder import Job
from service.tuning.tune_adapter import EndNow, Owner, SweepScheduler, SweepSearcher
from service.tuning.tune_adjustments import Forget, SlotResources
from service.tuning.tune_worker import AttemptTrainable

log: Final = logging.getLogger(__name__)
_QUIET: Final[dict[str, Any]] = {"log_to_driver": False, "logging_level": logging.ERROR}
MOST_SLOTS: Final = 256  # of one sweep that sets no limit of its own
OBJECT_STORE_BYTES: Final = 256 * 2**20  # results and configurations only; data stays with the workers


class Session(Owner, Protocol):
    """What the session needs to know of the driver, beside what the adapters ask of it."""

    place: Place
    ray_address: str | None  # None: a Ray of the driver's own
    spec: SweepSpec
    job: Job
    warnings: list[str]

    def shared(self) -> dict[str, Any]:
        """What all attempts of the sweep share."""

    def conclude(self, error: BaseException | None) -> None:
        """Every attempt is over; Ray goes next."""


def run_attempts(conductor: Conductor, owner: Session) -> BaseException | None:
    """Run attempts until the conductor has no more, and have the owner conclude. Returns what stopped it, or None."""
    try:
        with _ray(str(owner.place), owner.ray_address) as scratch:
            slots = _slots(owner, is_steered=conductor.limit is not None)
            owner.watchdog.kill = kill_worker
            log.info("Ray is up; %d trials fit at the same time", len(slots))
            error = _fit(_tuner(conductor, owner, slots, scratch))
            log.info("no attempt is left")
            error = conductor.error or error
            owner.conclude(error)
            return error
    except Exception as error:  # whatever keeps Ray from starting is the sweep's reason to stop
        log.exception("Ray cannot be used")
        return error


def _tuner(
    conductor: Conductor,
    owner: Session,
    slots: list[SlotResources],
    scratch: Path,
) -> tune.Tuner:
    trainable = type(
        "Attempt",
        (AttemptTrainable,),
        {
            "static": owner.shared(),
            "runner": owner.job.runner,
            "slots": slots,
        },
    )
    searcher = SweepSearcher(conductor, len(slots), owner)
    return tune.Tuner(
        trainable,
        param_space={},
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=SweepScheduler(conductor, owner, searcher),
            num_samples=-1,
            max_concurrent_trials=len(slots),
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="attempts",
            storage_path=str(scratch / "tune"),
            stop=EndNow(conductor, searcher),
            callbacks=[Forget()],
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )


def _fit(tuner: tune.Tuner) -> BaseException | None:
    """Run Tune in a thread of its own, so that signals stay ours."""
    errors: list[BaseException] = []

    def target() -> None:
        try:
            tuner.fit()
        except BaseException as error:  # handed to the caller
            log.exception("Ray Tune ended early")
            errors.append(error)

    thread = threading.Thread(target=target, name="tune")
    thread.start()
    while thread.is_alive():
        thread.join(timeout=0.2)  # an unbounded join would hold back signal handlers
    return errors[0] if errors else None


def kill_worker(pid: int, node: str) -> None:
    """Kill process `pid` of Ray's node `node`; a stopped process does not hear anything milder."""
    if node == ray.get_runtime_context().get_node_id():
        _kill(pid)
        return
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    ray.remote(num_cpus=0, max_retries=0)(_kill).options(scheduling_strategy=there).remote(pid)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
        os.kill(pid, signal.SIGKILL)


def _slots(owner: Session, *, is_steered: bool) -> list[SlotResources]:
    """One per trial that can run at the same time. BackendError if not even one fits.

    Where it is told from outside how many may run, that and the cluster can grow: then there are slots to spare. A
    cluster that makes nodes for what waits may have none yet.
    """
    resources = owner.spec.resources
    bundle = {"CPU": resources.cpu, "GPU": resources.gpu, "memory": float(resources.memory_bytes or 0)}
    bundle = {name: amount for name, amount in bundle.items() if amount > 0}
    have = ray.cluster_resources()
    fits = min((_fitting(name, have.get(name, 0.0), amount) for name, amount in bundle.items()), default=0)
    may_grow = owner.ray_address is not None and grows()
    if fits < 1 and not may_grow:
        want = ", ".join(f"{name} {amount:g}" for name, amount in bundle.items())
        here = ", ".join(f"{name} {have.get(name, 0.0):g}" for name in bundle)
        msg = f"no trial fits: one asks for {want}, Ray has {here}; lower `resources:` in the sweep file"
        raise BackendError(msg)
    asked = owner.spec.budget.max_concurrent_trials
    if is_steered or may_grow:
        return [SlotResources(i, bundle) for i in range(asked or MOST_SLOTS)]
    if asked is not None and asked > fits:
        owner.warnings.append(f"max_concurrent_trials is {asked}, but only {fits} trials fit at the same time")
    useful = owner.spec.budget.max_trials or fits
    return [SlotResources(i, bundle) for i in range(min(fits, asked or fits, useful))]


def _fitting(resource: str, have: float, amount: float) -> int:
    """How many trials fit; a part of a GPU comes from one GPU, never from the rests of two."""
    if resource == "GPU" and amount < 1:
        return int(have) * int(1 / amount + 1e-9)
    return int(have / amount + 1e-9)


@contextlib.contextmanager
def _ray(location: str, address: str | None) -> Iterator[Path]:
    """A Ray of our own on this machine, or the one at `address`, with a scratch folder that goes with it.

    The address is explicit: without one, `ray.init` joins whatever cluster happens to run on the host.
    """
    scratch = _scratch(location)
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            ray.init(
                "local",
                **_QUIET,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=str(scratch / "ray"),
            )
        else:
            host = joined_address(address).rpartition(":")[0]  # Ray takes a loopback address for the public one
            ray.init(address, **_QUIET, **({"_node_ip_address": host} if host.startswith("127.") else {}))
        signal.signal(signal.SIGTERM, on_term)  # Ray has put one in its place that leaves at once
        yield scratch
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def _scratch(location: str) -> Path:
    """An empty folder with a short path, since sockets live in it; what a killed driver left there goes first."""
    mark = hashlib.blake2b(location.encode(), digest_size=6).hexdigest()
    for old in Path(tempfile.gettempdir()).glob(f"ty-{mark}-*"):
        shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"ty-{mark}-"))

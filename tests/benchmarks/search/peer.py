"""Peers on the same simulated clock: a decider that asks a process of the peer's own environment, over pipes."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from functools import cache
from typing import IO, Any, Final, cast

from service import plugins
from service.spec.space import Integer, Params, Real
from service.tuning.answers import Finished, Start, Wait
from service.tuning.decisions import Arrival, Decider, FailureKind
from service.tuning.events import Action, AttemptEnded, AttemptStarted, Event, Reported, TrialEnded, TrialProposed
from service.tuning.history import History, Status
from service.tuning.strategy import Problem
from tests.benchmarks.search import environments, tasks
from tests.benchmarks.search.cells import Cell, Result
from tests.benchmarks.search.own import played
from tests.simulator import Simulation

THREADS: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
REPEATABLE: Final = {"PYTHONHASHSEED": "0", "PYTHONNOUSERSITE": "1"}  # some peers walk through sets


@dataclass(frozen=True)
class Peer:
    """One policy of a peer: the folder under `peers/` with its driver and its pinned versions, and which policy."""

    folder: str
    options: dict[str, Any] = field(default_factory=dict)
    is_dear: bool = False
    driver: str = "driver"

    @property
    def version(self) -> str:
        """Changes with the driver and with what is pinned."""
        return environments.version_of(self.folder, self.driver)

    def run(self, cell: Cell, budget: float) -> Result:
        """The cell's result."""
        task = tasks.load(cell.task, cell.seed)
        process = _process(self.folder, self.driver)
        process.ask(
            op="init", space=[_bounds(name, p) for name, p in task.space.items()], epochs=task.epochs,
            seed=cell.seed, workers=cell.workers, options=self.options,
        )  # fmt: skip
        simulation = simulated(task, cell.workers, budget)
        decider = PeerDecider(process, simulation.history, task, budget * task.t_full_s)
        simulation.decider = cast("Decider", decider)
        return played(cell, budget, task, simulation, self.version)


class Process:
    """A peer's driver, alive for as many cells as this process runs; RuntimeError holds what it failed with."""

    def __init__(self, folder: str, driver: str) -> None:
        python = environments.python_of(folder)
        environments.FOLDER.joinpath("logs").mkdir(exist_ok=True)
        environment = {**os.environ, **THREADS, **REPEATABLE, "PYTHONPATH": str(environments.ROOT)}
        reading, writing = os.pipe()
        with environments.FOLDER.joinpath("logs", f"{folder}.log").open("a") as log:
            self._child = subprocess.Popen(
                [str(python), "-W", "ignore", "-m", f"tests.benchmarks.peers.{folder}.{driver}", str(writing)],
                stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=(writing,), text=True,
                cwd=environments.ROOT, env=environment,
            )  # fmt: skip
        os.close(writing)
        self._answers = os.fdopen(reading)
        self._folder = folder

    def ask(self, **question: Any) -> dict[str, Any]:  # noqa: ANN401  # JSON
        """The peer's answer."""
        questions = cast("IO[str]", self._child.stdin)
        questions.write(json.dumps(question) + "\n")
        questions.flush()
        line = self._answers.readline()
        if not line:
            _process.cache_clear()
            msg = f"{self._folder} died with code {self._child.wait()}; see .peers/logs/{self._folder}.log"
            raise RuntimeError(msg)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            msg = f"{self._folder} failed: {answer['error']}"
            raise RuntimeError(msg)
        return answer


@dataclass
class PeerDecider:
    """Answers the simulator as our `Decider` does, with the peer's decisions."""

    process: Process
    history: History
    task: tasks.CurveTask
    wall_clock_s: float
    warnings: list[str] = field(default_factory=list)
    _numbers: dict[int, int] = field(default_factory=dict)  # ours, by the peer's
    _theirs: dict[int, int] = field(default_factory=dict)

    def start(self, elapsed_s: float) -> Start | Wait | Finished:
        """As `Decider.start`."""
        is_running = self.history.counts[Status.RUNNING] > 0
        if elapsed_s >= self.wall_clock_s:
            return Wait() if is_running else Finished("completed", "the budget is used up")
        answer = self.process.ask(op="suggest", now=elapsed_s)
        if "wait" in answer:
            return Wait() if is_running else Finished("completed", "the peer proposes nothing more")
        known = self._numbers.get(answer["trial"])
        if known is not None:
            trial = self.history.trials[known]
            assert trial.status is Status.PAUSED, f"the peer resumes trial {known}, which is {trial.status}"
            attempt = AttemptStarted(known, trial.attempt + 1, trial.params, trial.latest_checkpoint, "resumed")
            return Start((attempt,))
        number = len(self.history.trials)
        self._numbers[answer["trial"]], self._theirs[number] = number, answer["trial"]
        params = self._params(answer["config"])
        proposed = TrialProposed(number, params, "peer", self.history.proposals)
        return Start((proposed, AttemptStarted(number, 1, params, None, "new")))

    def report(self, arrival: Arrival, elapsed_s: float) -> list[Event]:
        """As `Decider.report`."""
        number, attempt, theirs = arrival.trial, arrival.attempt, self._theirs[arrival.trial]
        action: Action = "stop"
        if elapsed_s < self.wall_clock_s:
            values = [arrival.metrics[name] for name in self.task.objectives.metrics]
            value = values if self.task.is_double else values[0]
            answer = self.process.ask(op="report", trial=theirs, epoch=arrival.epoch, value=value, now=elapsed_s)
            action = "stop" if arrival.epoch >= self.task.epochs else answer["decision"]
        report = Reported(
            number, attempt, arrival.epoch, arrival.metrics, arrival.seconds, arrival.checkpoint, action, "the peer"
        )
        if action == "continue":
            return [report]
        if action == "pause":
            return [report, AttemptEnded(number, attempt, "paused")]
        self.process.ask(op="ended", trial=theirs)
        return [report, AttemptEnded(number, attempt, "stopped"), TrialEnded(number, "stopped")]

    def attempt_failed(self, number: int, attempt: int, kind: FailureKind, cause: str) -> list[Event]:
        """The trial has failed for good: peers are told that it ended, and know of no retries."""
        self.process.ask(op="ended", trial=self._theirs[number])
        return [AttemptEnded(number, attempt, kind, cause), TrialEnded(number, "failed", cause)]

    def _params(self, config: dict[str, float]) -> Params:
        """`config` inside the space, where rounding may have put it just outside."""
        params: Params = {}
        for name, p in self.task.space.items():
            assert isinstance(p, Real | Integer)
            value = min(max(config[name], p.low), p.high)
            params[name] = round(value) if isinstance(p, Integer) else float(value)
        return params


def simulated(task: tasks.CurveTask, workers: int, budget: float) -> Simulation:
    """A simulated sweep whose decider is still to be put in place of ours."""
    problem = Problem(task.space, task.objectives, (task.epochs,))
    search, schedule = plugins.find("searchers", "random"), plugins.find("schedulers", "fifo")
    return Simulation(
        task.objectives,
        search.build(search.Options(), problem),
        schedule.build(schedule.Options(max_epochs=task.epochs), problem),
        task.simulated(),
        workers=workers,
        max_trials=None,
        wall_clock_s=budget * task.t_full_s,
    )


def _bounds(name: str, p: Any) -> dict[str, Any]:  # noqa: ANN401  # Real or Integer
    return {"name": name, "low": p.low, "high": p.high, "log": p.log, "integer": isinstance(p, Integer)}


@cache
def _process(folder: str, driver: str) -> Process:
    return Process(folder, driver)


PEERS: Final = {
    "grid (Optuna 5)": Peer("optuna5", {"sampler": "grid"}),
    "Ray ASHA + random": Peer("ray_tune", {"search": "random"}),
    "Ray ASHA + OptunaSearch": Peer("ray_tune", {"search": "optuna"}),
    "Optuna TPE": Peer("optuna5", {"sampler": "tpe"}),
    "Optuna TPE + halving": Peer("optuna5", {"sampler": "tpe", "pruner": "halving"}),
    "Optuna TPE + Hyperband": Peer("optuna5", {"sampler": "tpe", "pruner": "hyperband"}),
    "Optuna GP": Peer("optuna5", {"sampler": "gp"}, is_dear=True),
    "Ax": Peer("ax", is_dear=True),
    "Syne Tune 0.16 ASHA": Peer("syne_tune_016", {"kind": "asha"}),
    "Syne Tune 0.16 BOHB": Peer("syne_tune_016", {"kind": "bohb"}),
    "Syne Tune 0.16 CQR": Peer("syne_tune_016", {"kind": "cqr"}, is_dear=True),
    "Syne Tune 0.13 ASHA": Peer("syne_tune_013", {"kind": "asha"}),
    "Syne Tune 0.13 MOBSTER": Peer("syne_tune_013", {"kind": "mobster"}, is_dear=True),
    "Syne Tune 0.13 HyperTune": Peer("syne_tune_013", {"kind": "hypertune"}, is_dear=True),
    "Syne Tune 0.13 DyHPO": Peer("syne_tune_013", {"kind": "dyhpo"}, is_dear=True),
}

TWO_OBJECTIVES: Final = {
    "Syne Tune 0.16 MOASHA": Peer("syne_tune_016", driver="moasha"),
    "Optuna NSGA-II": Peer("optuna5", driver="nsga2"),
}

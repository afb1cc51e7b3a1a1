"""The sections of a sweep file as strict, frozen models; their docstrings become the JSON Schema's descriptions."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from service.spec import quantities
from service.spec.objective import Constraint, Goal, Objective

_LONGEST_NAME: Final = 31  # with a date and six digits it has to fit a Kubernetes name
_NAME: Final = re.compile(r"^[a-z]([-a-z0-9]{0,29}[a-z0-9])?$")
_METRIC_NAME: Final = re.compile(r"^[\w\-. :/]{1,200}$")
_MODEL_ALIAS: Final = re.compile(r"^[^\s@/:]{1,150}@[A-Za-z][\w-]{0,50}$")
_VERSIONS: Final = r"(===?|~=|!=|<=?|>=?) *[A-Za-z0-9.*+!-]+"
_REQUIREMENT: Final = re.compile(
    rf"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._, -]+\])? *({_VERSIONS}( *, *{_VERSIONS})*)?$"
)

Duration = Annotated[
    float,
    BeforeValidator(quantities.seconds),
    PlainSerializer(quantities.duration, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["90s", "30m", "2h", "1h30m"]}),
]
Bytes = Annotated[
    int,
    BeforeValidator(quantities.size_bytes),
    PlainSerializer(quantities.size, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["512MiB", "4GiB"]}),
]


def _constraint(text: object) -> object:
    if isinstance(text, str):
        try:
            Constraint.parse(text)
        except ValueError as error:
            msg = "a constraint reads `metric <= number` or `metric >= number`, with a finite number"
            raise ValueError(msg) from error
    return text


def _metric_name(text: object) -> object:
    if isinstance(text, str) and not _METRIC_NAME.match(text):
        msg = "the name of a metric holds letters, digits and _ - . : / only, as MLflow wants it"
        raise ValueError(msg)
    return text


def _model_alias(text: object) -> object:
    if isinstance(text, str) and not _MODEL_ALIAS.match(text):
        msg = "a registered model is written name@alias, as in digits@candidate"
        raise ValueError(msg)
    return text


def _name(text: object) -> object:
    if isinstance(text, str) and not _NAME.match(text):
        better = re.sub(r"[^a-z0-9]+", "-", text[:_LONGEST_NAME].lower()).lstrip("-0123456789").rstrip("-")
        hint = f": {better}" if better else ""
        msg = f"a name is at most {_LONGEST_NAME} lower-case letters, digits and hyphens, a letter first{hint}"
        raise ValueError(msg)
    return text


Repeats = Annotated[int, Field(ge=1, le=1000)]
ConfigPath = Annotated[str, Field(min_length=3, max_length=300, pattern=r"^[^.\s]+(\.[^.\s]+)+$")]
ConstraintText = Annotated[str, BeforeValidator(_constraint), Field(max_length=300)]
Positive = Annotated[float, Field(gt=0, le=1e9)]


class Section(BaseModel):
    """Base of all sections: a key that it does not know is an error, and so is "3" for 3."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Metric(Section):
    """What a trial reports and which way is better."""

    name: Annotated[str, BeforeValidator(_metric_name), Field(json_schema_extra={"pattern": _METRIC_NAME.pattern})]
    """The name under which the module logs it."""
    goal: Goal
    """minimize or maximize."""
    target: float | None = None
    """The sweep ends once a trial reaches this value."""
    weight: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """How much it counts in the compromise between several objectives; 1 where left out."""
    reference: float | None = None
    """With several objectives, a value that would be good enough: the compromise aims at it."""

    @property
    def objective(self) -> Objective:
        """The same for the search."""
        return Objective(self.name, self.goal, self.target, self.weight or 1.0, self.reference)


_SOURCE_FORMS: Final = (
    "must be one of: auto, the id or name of a sweep, mlflow:experiment, or {experiment: its name, uri: its server}"
)


def _sources(value: object) -> object:
    """One source stands for a list of it."""
    return (value,) if isinstance(value, str | dict) else tuple(value) if isinstance(value, list) else value


def _source(value: object) -> object:
    """A source of earlier trials in its canonical form: a text, or a mapping of `experiment` and `uri`."""
    if isinstance(value, dict):
        texts = [value.get("experiment"), value.get("uri", "")]
        if not (set(value) <= {"experiment", "uri"} and texts[0] and all(isinstance(text, str) for text in texts)):
            raise ValueError(_SOURCE_FORMS)
        return {"experiment": texts[0], "uri": texts[1]} if texts[1] else f"mlflow:{texts[0]}"
    if not isinstance(value, str) or not value.removeprefix("mlflow:").strip():
        raise ValueError(_SOURCE_FORMS)
    return value


_SOURCE_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "string", "minLength": 1, "examples": ["auto", "digits-20261122-0a1b2c", "mlflow:digits"]},
        {
            "type": "object",
            "properties": {"experiment": {"type": "string"}, "uri": {"type": "string"}},
            "required": ["experiment"],
            "additionalProperties": False,
        },
    ]
}
_SOURCES_SCHEMA: Final = {"anyOf": [*_SOURCE_SCHEMA["anyOf"], {"type": "array", "items": _SOURCE_SCHEMA}]}
Source = Annotated[str | dict[str, str], BeforeValidator(_source)]
Sources = Annotated[
    tuple[Source, ...], BeforeValidator(_sources), Field(max_length=20), WithJsonSchema(_SOURCES_SCHEMA)
]


class SearchSection(Section):
    """Which searcher proposes configurations; its own options stand beside the name."""

    name: str = "bayes"
    """The searcher."""
    start_from_defaults: bool = True
    """Whether the first trial takes the values that `base` or `fit` gives to the parameters."""
    start_points: Annotated[tuple[dict[str, Any], ...], Field(max_length=100)] = ()
    """Configurations to try first; a parameter left out takes its value from `base` or `fit`."""
    warm_start: Sources = ()
    """Earlier sweeps to learn from: their ids or names, `mlflow:experiment`, or `auto` for all of the same kind."""
    options: dict[str, Any] = Field(default_factory=dict, exclude=True)
    """What stands beside these keys."""


class SchedulerSection(Section):
    """Which scheduler stops, pauses and promotes trials; its own options stand beside the name."""

    name: str = "adaptive"
    """The scheduler."""
    max_epochs: int = Field(ge=1, le=10**6)
    """Epochs after which a trial is complete; `trainer.max_epochs` of the LightningCLI config where left out."""
    options: dict[str, Any] = Field(default_factory=dict, exclude=True)
    """What stands beside these keys."""


class Plateau(Section):
    """When the sweep has stopped making progress."""

    trials: int = Field(ge=2, le=10**6)
    """How many trials have to end, one after the other, without the best becoming better."""
    min_delta: float = Field(default=0.0, ge=0, le=1e12)
    """What does not improve the best by more than this does not count: in the metric's own unit; with several
    objectives in spans of the Pareto front, along the compromise."""


class Budget(Section):
    """When the sweep ends; whichever comes first."""

    max_trials: int | None = Field(default=None, ge=1, le=10**6)
    """Trials in all."""
    max_concurrent_trials: int | None = Field(default=None, ge=1, le=10**5)
    """Trials at the same time; as many as fit where left out."""
    wall_clock_s: Duration | None = Field(default=None, alias="wall_clock")
    """Time since the start, as in 90s, 30m, 2h."""
    max_failed_trials: int = Field(default=10, ge=0, le=10**6)
    """The sweep fails once more trials than this have failed."""
    cpu_hours: Positive | None = None
    """CPU hours: CPUs of a trial times the time it trained, summed over trials."""
    gpu_hours: Positive | None = None
    """GPU hours: GPUs of a trial times the time it trained, summed over trials."""
    total_epochs: int | None = Field(default=None, ge=1, le=10**9)
    """Epochs, summed over trials."""
    plateau: Plateau | None = None
    """The sweep ends once so many trials in a row have not improved the best, as in {trials: 20, min_delta: 0.001}."""
    min_expected_improvement: Annotated[float, Field(gt=0, le=1e12)] | None = None
    """The sweep ends once the next trial is expected to improve the best by less than this, after each of five trials
    in a row: in the metric's own unit; with several objectives in spans of the Pareto front."""


def _requirement(text: object) -> object:
    if isinstance(text, str) and not _REQUIREMENT.fullmatch(text):
        msg = "a package is its name with versions, as in timm==1.0.9 or torch-geometric>=2.6,<3; no options, no URLs"
        raise ValueError(msg)
    return text


Requirement = Annotated[
    str, BeforeValidator(_requirement), Field(max_length=200, json_schema_extra={"pattern": _REQUIREMENT.pattern})
]


def _whole_gpus(value: object) -> object:
    if isinstance(value, float) and value > 1 and not value.is_integer():
        msg = "above 1, GPUs are given out whole"
        raise ValueError(msg)
    return value


class Resources(Section):
    """What one trial occupies while it trains; parts of a CPU or GPU are fine."""

    cpu: Annotated[float, Field(ge=0, le=10**4)] = 1
    """CPUs."""
    gpu: Annotated[float, BeforeValidator(_whole_gpus), Field(ge=0, le=10**4)] = 0
    """GPUs; above 1 only whole ones."""
    memory_bytes: Bytes | None = Field(default=None, alias="memory")
    """Memory, as in 512MiB, 4GiB."""


class Evaluation(Section):
    """How often a configuration is trained at most: on each fold, with each seed. Clearly worse ones stop earlier."""

    folds: Repeats = 1
    """Folds of cross-validation."""
    seeds: Repeats = 1
    """Repeats with different seeds, of each fold."""
    fold_argument: ConfigPath = "data.init_args.fold"
    """The argument that is given the number of the fold that validates, from 0."""
    folds_argument: ConfigPath = "data.init_args.folds"
    """The argument that is given the number of folds."""
    race_level: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """A configuration gets no further fold once a difference like its own to the best one is so unlikely to be luck."""
    final_seeds: int = Field(default=0, ge=0, le=100)
    """Once all else is done, the best ones are trained on all folds again, with so many fresh seeds."""
    finalists: Repeats = 3
    """How many of them."""
    test: Literal["auto"] | bool = "auto"
    """Whether the winner is tested at the end, on data that the search never saw: `auto` where the classes of model and
    data have a `test_step` and a `test_dataloader`."""

    @property
    def is_raced(self) -> bool:
        """Whether a configuration may be trained more than once."""
        return self.folds * self.seeds > 1 or self.final_seeds > 0

    def arguments(self, fold: int) -> dict[str, int]:
        """What a fit on `fold` is given beside its parameters."""
        return {self.fold_argument: fold, self.folds_argument: self.folds} if self.folds > 1 else {}


class Failure(Section):
    """What happens when a trial breaks."""

    max_restarts: int = Field(default=3, ge=0, le=1000)
    """How often a trial that raised is tried again, from its last checkpoint."""
    report_timeout_s: Duration | None = Field(default=None, alias="report_timeout")
    """A trial that does not report for so long counts as hung, as in 30m; left out: ten times the longest silence so
    far, and 10 minutes at least."""


class Checkpoints(Section):
    """Which checkpoints are kept; the rest is removed as the sweep goes."""

    save_sweep_best: int = Field(default=1, ge=0, le=1000)
    """The best of so many trials."""
    save_trial_latest: int = Field(default=1, ge=1, le=1000)
    """The latest of each trial that may go on."""
    every_epochs: int | None = Field(default=None, ge=1)
    """Also save each time so many epochs are trained, not only at rungs."""


class Tracking(Section):
    """Where MLflow keeps the trials."""

    experiment: str | None = Field(default=None, min_length=1, max_length=200)
    """The MLflow experiment; the sweep's name where left out."""
    uri: str | None = Field(default=None, min_length=1, max_length=2000)
    """The MLflow tracking server; the embedded store where left out."""
    register_best_as: Annotated[str | None, BeforeValidator(_model_alias)] = None
    """Registers the best trial's model as name@alias."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags of the sweep's MLflow run."""


class Code(Section):
    """The folder of your modules, which is importable in every trial."""

    root: str = Field(default=".", min_length=1, max_length=1000)
    """The folder, relative to the sweep file."""
    exclude: Annotated[tuple[str, ...], Field(max_length=1000)] = ()
    """Patterns of files that stay behind, as in .gitignore; one that begins with `!` comes along although a .gitignore
    leaves it out."""
    pip: Annotated[tuple[Requirement, ...], Field(max_length=100)] | None = None
    """Packages that a server installs for the job, as in `timm==1.0.9`, if its operator allows it; `tuneyard run` takes
    what is installed."""


class Head(Section):
    """What says which sweep this is."""

    kind: Literal["sweep"] = "sweep"
    """What the file describes."""
    name: Annotated[str, BeforeValidator(_name), Field(json_schema_extra={"pattern": _NAME.pattern})]
    """Begins the sweep's id: lower-case letters, digits and hyphens, at most 31."""
    description: str = Field(default="", max_length=5000)
    """Stands above the sweep's run in MLflow."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seeds the search, and trials whose config has no seed_everything."""
    constraints: Annotated[tuple[ConstraintText, ...], Field(max_length=100)] = ()
    """Limits that a trial's metrics must keep, as in `latency_ms <= 20`."""


class Limits(Section):
    """The sections that nothing but their own keys decides."""

    budget: Budget = Budget()
    resources: Resources = Resources()
    evaluation: Evaluation = Evaluation()
    failure: Failure = Failure()
    checkpoints: Checkpoints = Checkpoints()
    tracking: Tracking = Tracking()
    code: Code = Code()

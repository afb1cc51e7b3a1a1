"""From a trial's parameters to Lightning objects, by LightningCLI's own parser, so that all it can do works in a sweep.

The optional top-level key `cli: package.module.ClassName` of `fit` names the user's own LightningCLI subclass, with its
`add_arguments_to_parser`, linked arguments and defaults. It must be constructible with LightningCLI's keyword arguments
alone; a class whose `__init__` passes its model and data on to LightningCLI is fine. The keys `ckpt_path` and
`weights_only`, which a config saved by `fit` contains, are no part of the parser: `ckpt_path` is where trials start.
"""

from __future__ import annotations

import importlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytorch_lightning as pl
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from pytorch_lightning.callbacks import Checkpoint, ModelSummary, ProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers.logger import DummyLogger

from service.errors import TrialError
from service.tuning import trial_data
from service.tuning.config_merge import Config, merge_config
from service.tuning.events import Params

RUN_KEYS: Final = ("ckpt_path", "weights_only", "cli")
_SILENT: Final = 1_000_000_000
_PARSERS: dict[type[LightningCLI], LightningArgumentParser] = {}
_WARM: dict[type[LightningCLI], type[_WarmMixin]] = {}


class Fit(NamedTuple):
    """The objects of one fit. `config`: fully resolved; `data` None where the model brings its own loaders."""

    trainer: pl.Trainer
    model: pl.LightningModule
    data: pl.LightningDataModule | None
    config: Config
    warm_data: tuple[str, trial_data.WarmData] | None

    def release_data(self) -> None:
        """Offer the data module to the next trial of this process; call it only after a fit that ended well."""
        if self.warm_data is not None:
            trial_data.keep(*self.warm_data)


def merge(fit: Config, params: Params) -> Config:
    """`fit` with `params` set; arguments of a replaced class that its successor does not accept are dropped."""
    return merge_config(fit, params, accepts=_accepts)


def _accepts(_owner: str, class_path: str) -> frozenset[str] | None:
    return accepted_arguments(class_path)


@cache
def accepted_arguments(class_path: str) -> frozenset[str] | None:
    """The names that a class takes under `init_args`; None where it cannot be imported or introspected."""
    try:
        parser = ArgumentParser(exit_on_error=False)
        names = parser.add_class_arguments(import_class(class_path), "x", fail_untyped=False)
    except Exception:  # noqa: BLE001  # user code may raise anything at import; the parser will say what and where
        return None
    return frozenset(name.split(".")[1] for name in names)


def import_class(class_path: str) -> type:
    """The class at a dotted path; TrialError says why it cannot be had. What the user's module raises propagates."""
    module, _, name = class_path.rpartition(".")
    if not module:
        msg = f"{class_path!r} is no class path; write it out, as in package.module.ClassName"
        raise TrialError(msg)
    found = getattr(importlib.import_module(module), name, None)
    if not isinstance(found, type):
        msg = f"{class_path!r}: the module {module} has no class {name}"
        raise TrialError(msg)
    return found


def build(config: Config, *, seed: int, max_epochs: int, scratch: Path) -> Fit:
    """Parse and instantiate `config`, seeding all global random states first.

    `scratch` becomes the trainer's default_root_dir. TrialError carries the parser's explanation of what does not fit.
    """
    body = {name: value for name, value in config.items() if name not in RUN_KEYS}
    asked = body.get("trainer") or {}
    trainer = {**asked, "max_epochs": max_epochs, "default_root_dir": str(scratch)}
    body |= {"trainer": trainer, "seed_everything": seed}
    try:
        cli = trial_cli(config.get("cli"))(
            args=body, run=False, save_config_callback=None, parser_kwargs={"exit_on_error": False}
        )
    except ArgumentError as error:
        msg = f"the configuration of this trial does not parse: {error}"
        raise TrialError(msg) from error
    resolved = {**cli.config_dump, "trainer": {**cli.config_dump["trainer"]}}
    resolved["trainer"]["default_root_dir"] = asked.get("default_root_dir")
    fit = Fit(cli.trainer, cli.model, cli.datamodule, resolved, cli.warm_data)
    for name in ("trainer", "model", "datamodule", "config_init", "warm_data"):
        delattr(cli, name)  # the parser outlives the trial and refers to `cli`
    return fit


def save_config(config: Config, path: Path) -> None:
    """Write a resolved config as YAML that LightningCLI reads."""
    temporary = path.with_name(f".{path.name}.tmp")
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    temporary.write_text(yaml.dump(config, Dumper=dumper, sort_keys=False), encoding="utf-8")
    temporary.replace(path)


def trial_cli(class_path: str | None) -> type[_WarmMixin]:
    """The class to parse with: LightningCLI, or the user's own one, taught to serve one trial after another."""
    base = LightningCLI if class_path is None else import_class(class_path)
    if not issubclass(base, LightningCLI):
        msg = f"cli: {class_path} is no subclass of LightningCLI"
        raise TrialError(msg)
    if base not in _WARM:
        _WARM[base] = type(f"Warm{base.__name__}", (_WarmMixin, base), {})
    return _WARM[base]


def parser_of(class_path: str | None) -> LightningArgumentParser:
    """The parser of LightningCLI, or of the user's own one; nothing is parsed or instantiated."""
    base = trial_cli(class_path)
    if base not in _PARSERS:
        try:
            type("ParserOnly", (_ParserOnlyMixin, base), {})(run=False, parser_kwargs={"exit_on_error": False})
        except _ParserReady as ready:
            _PARSERS[base] = ready.parser
    return _PARSERS[base]


class _ParserReady(Exception):  # noqa: N818  # it carries a result, not an error
    """Leaves LightningCLI's constructor as soon as there is a parser."""

    def __init__(self, parser: LightningArgumentParser) -> None:
        super().__init__()
        self.parser = parser


class _ParserOnlyMixin(LightningCLI):
    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:  # noqa: ANN401, ARG002  # inherited
        """Go no further."""
        raise _ParserReady(parser)


class _WarmMixin(LightningCLI):
    """Reuses the parser and the data module of earlier trials, and takes off what a sweep does not need."""

    warm_data: tuple[str, trial_data.WarmData] | None = None

    def setup_parser(
        self,
        add_subcommands: bool,  # noqa: FBT001  # inherited
        main_kwargs: dict[str, Any],
        subparser_kwargs: dict[str, Any],
    ) -> None:
        """Build the parser once per class and process: it depends on nothing else."""
        kind = type(self)
        if kind not in _PARSERS:
            super().setup_parser(add_subcommands, main_kwargs, subparser_kwargs)
            _PARSERS[kind] = self.parser
        self.parser = _PARSERS[kind]

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:  # noqa: ANN401  # inherited
        """Parse what was given, and nothing from the worker's own command line."""
        self._asked = dict(args["trainer"])
        arguments, sys.argv = sys.argv, sys.argv[:1]
        try:
            super().parse_arguments(parser, args)
        finally:
            sys.argv = arguments

    def before_instantiate_classes(self) -> None:
        """Take off what costs time and that the user has not asked for, and reuse data that is already set up."""
        super().before_instantiate_classes()
        trainer = self.config.trainer
        if not trainer.get("barebones"):
            for name, value in _lean(trainer.get("callbacks")).items():
                if name not in self._asked:
                    trainer[name] = value
        dump = self.parser.dump(
            self.config, skip_link_targets=False, skip_none=False, skip_validation=True, format="json"
        )
        self.config_dump = json.loads(dump)
        base = pl.LightningDataModule if self.datamodule_class is None else self.datamodule_class
        if isinstance(base, type):
            self.parser.add_instantiator(self._data, base, subclasses=self.subclass_mode_data)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:  # noqa: ANN401  # inherited
        """Give user code that writes to `self.logger` one that is silent, unless the user chose a logger."""
        if "logger" not in self._asked and not self.config.trainer.get("barebones"):
            kwargs.setdefault("logger", DummyLogger())
        return super().instantiate_trainer(**kwargs)

    def _data(
        self,
        kind: type[pl.LightningDataModule],
        *args: Any,  # noqa: ANN401  # any data module's
        applied_instantiation_links: dict[str, Any],
        **kwargs: Any,  # noqa: ANN401  # as above
    ) -> pl.LightningDataModule:
        if not self._is_trainers(kind, kwargs):
            return kind(*args, **kwargs)
        links = {name: repr(value) for name, value in applied_instantiation_links.items() if name.startswith("data.")}
        key = json.dumps([str(kind), self.config_dump.get("data"), links], sort_keys=True)
        warm = trial_data.take(key) or trial_data.create(kind, *args, **kwargs)
        self.warm_data = (key, warm)
        return warm.module

    def _is_trainers(self, kind: type[pl.LightningDataModule], given: dict[str, Any]) -> bool:
        """Whether a data module is that of the section `data`, not one within another class's arguments."""
        section = self.config_dump.get("data") or {}
        if self.subclass_mode_data:
            if import_class(section.get("class_path", "")) is not kind:
                return False
            section = section.get("init_args") or {}
        plain = {name: value for name, value in given.items() if isinstance(value, str | int | float | list | None)}
        return all(section.get(name) == value for name, value in plain.items())


def _lean(callbacks: Any) -> Config:  # noqa: ANN401  # a parsed section: one callback, a list of them, or None
    entries = callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []
    kinds = [import_class(c.class_path) if isinstance(c, Namespace) else type(c) for c in entries]
    switches = {
        "enable_checkpointing": Checkpoint,
        "enable_progress_bar": ProgressBar,
        "enable_model_summary": ModelSummary,
    }
    off = {name: False for name, kind in switches.items() if not any(issubclass(k, kind) for k in kinds)}
    return {**off, "num_sanity_val_steps": 0, "log_every_n_steps": _SILENT}

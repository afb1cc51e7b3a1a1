"""The command that runs the service; its options are the operator's settings, one for each."""

from __future__ import annotations

import inspect
import logging
from typing import Annotated, Any, Final

import typer

from service import settings
from service.cli.text import examples

_OPTIONS: Final = {
    "host": ("ADDRESS", "The address to listen on. Others than this machine's own need auth. [default: 127.0.0.1]"),
    "port": ("PORT", "0 takes a free one. [default: 8700]"),
    "database": ("URL", "sqlite:///FILE or postgresql://USER@HOST/NAME. [default: in the data folder]"),
    "cluster": ("local|URL|kuberay", "A Ray head's dashboard, or Kubernetes. [default: local, a Ray of its own]"),
    "cluster-ca": ("FILE", "Certificates that an https:// cluster is checked against. [default: the system's]"),
    "kube-namespace": ("NAME", "Where RayJobs are made. [default: the service account's own]"),
    "kube-template": ("FILE", "The RayJob that each sweep's is made from. [default: /etc/tuneyard/rayjob.yaml]"),
    "kube-cluster": ("NAME", "A RayCluster for all sweeps. [default: none, each sweep has its own]"),
    "driver-cpus": ("CPUS", "What each sweep's driver reserves on the cluster, beside its trials. [default: 0]"),
    "storage": ("URL", "Keep sweeps and their code on s3://BUCKET/PREFIX, gs:// or az://. [default: the data folder]"),
    "auth": ("none|token|oidc|proxy", "How people prove who they are. [default: none, on this machine only]"),
    "mlflow": ("start|URL", "Start MLflow's pages beside it, or track with a server. [default: neither]"),
    "mlflow-port": ("PORT", "Of the pages that `--mlflow start` starts. [default: 5000]"),
    "mlflow-public-url": ("URL", "How people reach MLflow's pages, for links. [default: as --mlflow has it]"),
    "public-url": ("URL", "How people reach the service, for links."),
    "allow-pip": ("", "Let sweeps bring pip packages for their jobs. [default: no]"),
}


def register(app: typer.Typer) -> None:
    """Add the command of this file to `app`."""
    app.command(
        epilog=examples(
            "tuneyard serve",
            "tuneyard serve --mlflow start",
            "tuneyard serve --host 0.0.0.0 --auth token --cluster http://ray-head:8265",
            "tuneyard serve --host 0.0.0.0 --auth token --cluster kuberay --kube-template rayjob.yaml",
            "tuneyard serve --database postgresql://tuneyard@db/tuneyard --auth oidc",
        )
    )(_with_options(serve))


def serve(**options: str | bool | None) -> None:
    """Run the service: people submit sweeps to it, and it queues them on a Ray cluster.

    Every option is a variable, too: TUNEYARD_HOST, TUNEYARD_DATABASE and so on. SIGTERM or Ctrl-C ends the service;
    sweeps go on by themselves, and the next `tuneyard serve` takes them up.
    """
    from service.server.settings import caution, settings_of, shared_by_pods

    variables = settings.variables()
    found = settings_of(settings.home(), options, variables)
    from service.server.auth_settings import auth_settings
    from service.server.log import log_to_stderr
    from service.server.serve import serve as run

    auth = auth_settings(found.auth_kind, variables)
    log_to_stderr(found.log_level)
    for told in filter(None, (caution(found), shared_by_pods(found))):
        logging.getLogger(__name__).warning(told)
    run(found, auth, lambda url: typer.echo(f"Tuneyard is at {url}"))


def _with_options(command: Any) -> Any:  # noqa: ANN401  # a function with another signature than it was written with
    """The command with an option for each setting, where typer looks for them."""
    kinds = {
        name.replace("-", "_"): Annotated[str | None, typer.Option(f"--{name}", metavar=metavar, help=text)]
        if metavar
        else Annotated[bool | None, typer.Option(f"--{name}/--no-{name}", help=text)]
        for name, (metavar, text) in _OPTIONS.items()
    }
    keyword = inspect.Parameter.KEYWORD_ONLY
    command.__signature__ = inspect.Signature(
        [inspect.Parameter(name, keyword, default=None, annotation=kind) for name, kind in kinds.items()]
    )
    command.__annotations__ = {**kinds, "return": None}
    return command

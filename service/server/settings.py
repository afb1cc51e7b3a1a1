"""What an operator decides about the service: each setting from an option of `tuneyard serve`, else TUNEYARD_<NAME>.

Nothing in here may come from a sweep file: these are the roots that sweeps cannot leave.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from service.errors import Fault, SpecError, StorageError
from service.plugins import nearest
from service.records import SUBMITTERS_PRIORITY
from service.tuning.storage_objects import object_storage

AUTH_KINDS: Final = ("none", "token", "oidc", "proxy")
LOCAL: Final = "local"
KUBERAY: Final = "kuberay"
START: Final = "start"
PORT: Final = 8700
KUBE_TEMPLATE: Final = Path("/etc/tuneyard/rayjob.yaml")  # a ConfigMap that is mounted as a file
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Everything `tuneyard serve` can be told."""

    home: Path
    host: str = "127.0.0.1"
    port: int = PORT
    database: str = ""  # a URL; the data folder's own `service.db` where left out
    cluster: str = LOCAL  # or the URL of a Ray head's dashboard, or `kuberay`: RayJobs on Kubernetes
    cluster_ca: str | None = None  # a file with the certificates that its TLS is checked against; None: the system's
    kube_namespace: str | None = None  # where RayJobs are made; None: the service account's own, or the kubeconfig's
    kube_template: Path = KUBE_TEMPLATE  # the operator's RayJob, which every sweep's is made from
    kube_cluster: str | None = None  # a RayCluster that all sweeps share; None: each has its own
    driver_cpus: float = 0.0  # that each sweep's driver reserves on the cluster
    storage: str = ""  # the location of an object store for sweeps and their code; the data folder where left out
    auth: str = ""  # one of AUTH_KINDS; left out, none on loopback
    mlflow: str = ""  # `start`, the URL of a server, or nothing: the data folder's own store without pages
    mlflow_port: int = 5000
    mlflow_public_url: str = (
        ""  # how people reach MLflow's pages, for links; as the service reaches them where left out
    )
    public_url: str = ""  # how people reach the service, for links
    allow_pip: bool = False  # whether a sweep may bring packages for its job
    webhook_networks: tuple[Network, ...] = ()  # that webhooks may reach although they are not public
    submitters_priority: int = SUBMITTERS_PRIORITY  # the highest that others than a project's admins may give
    drain_s: float = 10.0  # for open requests to end, once told to stop
    log_level: str = "info"

    @property
    def database_url(self) -> str:
        """Where the store is."""
        return self.database or f"sqlite:///{self.home / 'service.db'}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return is_loopback(self.host)

    @property
    def auth_kind(self) -> str:
        """How people prove who they are."""
        return self.auth or "none"

    @property
    def tracking_uri(self) -> str | None:
        """Where sweeps are tracked; None for the data folder's own store."""
        return self.mlflow if self.mlflow not in ("", START) else None

    @property
    def mlflow_url(self) -> str | None:
        """Where people look at MLflow's pages; None where nobody serves them."""
        if self.mlflow_public_url:
            return self.mlflow_public_url
        return f"http://127.0.0.1:{self.mlflow_port}" if self.mlflow == START else self.tracking_uri


def settings_of(home: Path, options: Mapping[str, object], variables: Mapping[str, str]) -> ServeSettings:
    """The settings of options that are not None, else of variables. SpecError with every fault in them."""
    given: dict[str, Any] = {}
    faults = []
    for name, read in _READERS.items():
        value, place = options.get(name), f"--{name.replace('_', '-')}"
        if value is None:
            value, place = variables.get(name), f"TUNEYARD_{name.upper()}"
        if value is None:
            continue
        try:
            given[name] = read(value)
        except ValueError as error:
            faults.append(Fault(str(error), place, given=_shown(str(value))))
    settings = ServeSettings(home, **given)
    faults += _contradictions(settings)
    if faults:
        raise SpecError(faults)
    return settings


def shared_by_pods(settings: ServeSettings) -> str | None:
    """What an operator has to see to where sweeps run in pods that share no object store; None elsewhere."""
    if settings.cluster != KUBERAY or settings.storage:
        return None
    return (
        f"sweeps' pods have to find the data folder at {settings.home} too: mount it in the template's containers, "
        "or keep sweeps on an object store with --storage"
    )


def caution(settings: ServeSettings) -> str | None:
    """What an operator should know about what sweeps' own code could read and change here; None where auth is off.

    A job may do what the user may whom it runs as: auth alone keeps nobody's code out of a file.
    """
    file = _sqlite_file(settings.database_url)
    if settings.auth_kind == "none":
        return None
    if settings.cluster == LOCAL:
        return (
            "sweeps run as the user of this service and can read and change all that it can, its database with tokens "
            "and webhooks' secrets included; for people who do not trust each other, use --cluster with nodes where "
            "jobs run as another user"
        )
    if file is not None and file.resolve().is_relative_to(settings.home.resolve()):
        return (
            f"the database {file} lies in the data folder, which the cluster's jobs share: those of the same user can "
            "read and change it, tokens and webhooks' secrets included; put it elsewhere with --database"
        )
    return None


def _sqlite_file(url: str) -> Path | None:
    """The file of a SQLite database; None for another one."""
    kind, _, rest = url.partition(":///")
    return Path(rest.partition("?")[0]) if kind == "sqlite" else None


def is_loopback(host: str) -> bool:
    """Whether every address of `host` is this machine's own."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(entry[4][0]).split("%")[0]).is_loopback for entry in found)


def _contradictions(settings: ServeSettings) -> list[Fault]:
    return [*_open(settings), *_without_kubernetes(settings)]


def _without_kubernetes(settings: ServeSettings) -> list[Fault]:
    """Settings for Kubernetes beside another cluster: somebody means it, and would not get it."""
    given = {
        "--kube-namespace": settings.kube_namespace,
        "--kube-template": None if settings.kube_template == KUBE_TEMPLATE else str(settings.kube_template),
        "--kube-cluster": settings.kube_cluster,
    }
    if settings.cluster == KUBERAY:
        return []
    message = f"is for `--cluster {KUBERAY}` alone"
    return [Fault(message, place, given=value) for place, value in given.items() if value is not None]


def _open(settings: ServeSettings) -> list[Fault]:
    if settings.auth_kind == "none" and not settings.is_loopback:
        message = (
            "without auth the service listens on this machine only: whoever reaches it can run code on the cluster. "
            "Add `--auth token` (and make a first token with `tuneyard token create --admin`), or listen on 127.0.0.1"
        )
        return [Fault(message, "--host", given=settings.host)]
    return []


def _one_of(*allowed: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in allowed:
            near = nearest(str(value), list(allowed))
            hint = f"; did you mean {near!r}?" if near else ""
            msg = f"must be one of: {', '.join(allowed)}{hint}"
            raise ValueError(msg)
        return str(value)

    return read


def _port(value: object) -> int:
    number = int(str(value)) if str(value).isdecimal() else -1
    if not 0 <= number <= 65535:  # noqa: PLR2004  # all ports that there are
        msg = "must be a port, 0 to 65535 (0 takes a free one)"
        raise ValueError(msg)
    return number


def _database(value: object) -> str:
    text = str(value)
    if not text.startswith(("sqlite:///", "postgresql://")):
        msg = "must be sqlite:///FILE or postgresql://USER@HOST/NAME"
        raise ValueError(msg)
    return text


def _location(value: object) -> str:
    try:
        return str(object_storage(str(value)))
    except StorageError as error:
        raise ValueError(str(error)) from None


def _url(value: object) -> str:
    parts = urlsplit(str(value))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        msg = "must be a URL that begins with http:// or https://"
        raise ValueError(msg)
    if "@" in parts.netloc:
        msg = (
            "must hold no user and password, since it is shown and stored; for MLflow put them into "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, here and on the cluster's nodes"
        )
        raise ValueError(msg)
    return str(value).rstrip("/")


def _url_or(*words: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value in words:
            return str(value)
        try:
            return _url(value)
        except ValueError as error:
            msg = f"{error}, or {' or '.join(map(repr, words))}"
            raise ValueError(msg) from None

    return read


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text not in ("1", "true", "yes", "0", "false", "no"):
        msg = "must be true or false"
        raise ValueError(msg)
    return text in ("1", "true", "yes")


def _networks(value: object) -> tuple[Network, ...]:
    texts = [text for text in str(value).replace(",", " ").split() if text]
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError as error:
        msg = f"must be networks as in 10.0.0.0/8, separated by commas: {error}"
        raise ValueError(msg) from None


def _priority(value: object) -> int:
    text = str(value)
    if not text.isdecimal() or int(text) > 1000:  # noqa: PLR2004  # the highest that there is
        msg = "must be a priority, 0 to 1000"
        raise ValueError(msg)
    return int(text)


def _seconds(value: object) -> float:
    number = float(str(value))
    if not 0 <= number <= 3600:  # noqa: PLR2004  # an hour
        msg = "must be seconds, 0 to 3600"
        raise ValueError(msg)
    return number


def _cpus(value: object) -> float:
    number = float(str(value))
    if not 0 <= number <= 64:  # noqa: PLR2004  # more than any driver can use
        msg = "must be a number of CPUs, 0 to 64"
        raise ValueError(msg)
    return number


def _ca_file(value: object) -> str:
    path = Path(str(value)).expanduser()
    try:
        ssl.create_default_context(cafile=str(path))
    except OSError as error:
        msg = f"must be a file with certificates in PEM: {error.strerror or error}"
        raise ValueError(msg) from error
    return str(path)


def _kube_name(value: object) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", str(value)):
        msg = "must be a name as Kubernetes has them: lower case letters, digits and dashes, at most 63"
        raise ValueError(msg)
    return str(value)


def _shown(text: str) -> str:
    """What was given, without a password that a URL may hold."""
    head, at, tail = text.rpartition("@")
    return f"***@{tail}" if at and head else text


_READERS: Final[dict[str, Callable[[object], Any]]] = {
    "host": str,
    "port": _port,
    "database": _database,
    "cluster": _url_or(LOCAL, KUBERAY),
    "kube_namespace": _kube_name,
    "kube_template": lambda value: Path(str(value)).expanduser(),
    "kube_cluster": _kube_name,
    "cluster_ca": _ca_file,
    "driver_cpus": _cpus,
    "storage": _location,
    "auth": _one_of(*AUTH_KINDS),
    "mlflow": _url_or(START),
    "mlflow_port": _port,
    "mlflow_public_url": _url,
    "public_url": _url,
    "allow_pip": _flag,
    "webhook_networks": _networks,
    "submitters_priority": _priority,
    "drain_s": _seconds,
    "log_level": _one_of("debug", "info", "warning", "error"),
}

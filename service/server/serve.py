"""The process of `tuneyard serve`: the HTTP interface, the controller and the notifier over one store.

Sweeps need none of it: it may be stopped, killed and started again while they run, and takes them up where they are.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

import uvicorn

from cluster.backend import JobError
from cluster.kuberay import Location
from service.api.app import create_app
from service.api.auth import Authenticator, AuthSettings
from service.api.service import Service
from service.control.cluster_place import ClusterPlace, KubePlace, OwnPlace, RemotePlace
from service.control.controller import Controller
from service.control.leadership import Leadership
from service.control.notify import Notifier
from service.control.placement import Ground, Placement
from service.errors import BackendError
from service.server.connections import Connection
from service.server.mlflow_beside import MlflowBeside
from service.server.settings import KUBERAY, LOCAL, START, ServeSettings
from service.store import Store
from service.sweeps.dispatch import JOINED
from service.sweeps.folders import make_home
from service.tuning.storage_check import check_store
from service.tuning.storage_objects import ObjectStorage, object_storage

log: Final = logging.getLogger(__name__)
BACKLOG: Final = 2048
JOIN_S: Final = 30.0  # for the pass that runs when the service is told to stop


@dataclass(frozen=True, slots=True)
class Parts:
    """What the process is made of, for the HTTP interface and for whoever ends it."""

    store: Store
    place: ClusterPlace
    controller: Controller
    notifier: Notifier


class DrainingServer(uvicorn.Server):
    """Uvicorn, which tells the service first that it is to end: open streams then end by themselves."""

    def __init__(self, config: uvicorn.Config, draining: threading.Event) -> None:
        super().__init__(config)
        self._draining = draining

    def end(self) -> None:
        """Drain."""
        self._draining.set()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, a second one ends at once."""
        log.info("told to stop by %s", signal.Signals(sig).name)
        self._draining.set()
        super().handle_exit(sig, frame)


def serve(settings: ServeSettings, auth: AuthSettings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain: no new requests, the controller's pass to its end, sweeps go on.

    `announce` is told the URL once requests are taken. BackendError where the port is taken; StoreError; StorageError
    where the object store does not do what sweeps need.
    """
    make_home(settings.home)
    if settings.storage:
        check_store(object_storage(settings.storage))
    _allow_many_files()
    with ExitStack() as stack:
        listening = stack.enter_context(_listen(settings.host, settings.port))
        url = _url(settings.host, listening.getsockname()[1])
        store = stack.enter_context(_opened(settings.database_url))
        parts = _parts(settings, store)
        service = _service(settings, auth, parts)
        stack.callback(service.close)
        if settings.mlflow == START:
            mlflow = MlflowBeside(settings.home, settings.mlflow_port, settings.mlflow_public_url)
            mlflow.start()
            stack.callback(mlflow.stop)
        stack.enter_context(_working(parts))
        app = create_app(service)
        config = server_config(app, settings.drain_s)
        server = DrainingServer(config, service.draining)
        stack.enter_context(_signals_end_here(server))
        log.info("serving at %s", url)
        announce(url)
        gc.collect()
        gc.freeze()  # what is there now stays: to look through all of it again held requests up for 150 ms a second
        server.run(sockets=[listening])


def server_config(app: Callable[..., Any], drain_s: float) -> uvicorn.Config:
    """How uvicorn serves `app`: nobody holds a connection open, or fills one, before the application is asked."""
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who asks is decided by the address of the connection: see `auth.ProxySettings`
        timeout_graceful_shutdown=max(1, round(drain_s)),
        timeout_keep_alive=30,
    )


def holder() -> str:
    """A name for this process among the replicas."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def _allow_many_files() -> None:
    """Each connection is an open file, and a shell often allows 1024 where the system would allow many more."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != most:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _parts(settings: ServeSettings, store: Store) -> Parts:
    place = _place(settings)
    ground = Ground(settings.home, settings.tracking_uri, settings.allow_pip, settings.driver_cpus, _storage(settings))
    controller = Controller(store, Placement(ground, place, JOINED), Leadership(store, holder()))
    return Parts(store, place, controller, Notifier(store, settings.webhook_networks, settings.public_url))


def _place(settings: ServeSettings) -> ClusterPlace:
    """Where jobs run. BackendError where Kubernetes is meant, and its template or its configuration cannot be used."""
    if settings.cluster == LOCAL:
        return OwnPlace(settings.home)
    if settings.cluster != KUBERAY:
        return RemotePlace(settings.cluster, settings.cluster_ca)
    try:
        return KubePlace(Location(settings.kube_template, settings.kube_namespace, settings.kube_cluster))
    except JobError as error:
        raise BackendError(str(error)) from error


def _service(settings: ServeSettings, auth: AuthSettings, parts: Parts) -> Service:
    return Service(
        store=parts.store,
        home=settings.home,
        authenticator=Authenticator(auth, parts.store, _clock(parts.store)),
        backend=parts.place,
        storage=_storage(settings),
        mlflow_url=settings.mlflow_url,
        hosts=(_shown(settings.host),),
        public_url=settings.public_url,
        allows_pip=settings.allow_pip,
        submitters_priority=settings.submitters_priority,
        driver_cpus=settings.driver_cpus,
        webhook_networks=settings.webhook_networks,
        wake=parts.controller.wake,
        checks=parts.controller.standing.checks,
        figures=parts.controller.standing.figures,
    )


def _storage(settings: ServeSettings) -> ObjectStorage | None:
    return object_storage(settings.storage) if settings.storage else None


def _clock(store: Store) -> Callable[[], float]:
    """The database's clock as it was told once: to ask it for every request would hold up all the others."""
    ahead_s = store.now() - time.time()
    return lambda: time.time() + ahead_s


@contextmanager
def _working(parts: Parts) -> Iterator[None]:
    """The controller and the notifier at work; on leaving, what they are at is brought to its end."""
    stop = threading.Event()
    threads = [
        threading.Thread(target=parts.controller.run, args=(stop,), name="controller", daemon=True),
        threading.Thread(target=parts.notifier.run, args=(stop,), name="notifier", daemon=True),
    ]
    parts.place.start()
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        parts.controller.wake()
        for thread in threads:
            thread.join(JOIN_S)
        running = [sweep.id for sweep in parts.store.unfinished() if sweep.state.is_placed]
        parts.place.leave(is_idle=not running)
        log.info("stopped; %d sweeps go on by themselves", len(running))


@contextmanager
def _opened(url: str) -> Iterator[Store]:
    store = Store.open(url)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """A socket on the address, bound before anything is started: a taken port is told at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        msg = f"cannot listen on {host}:{port}: {error.strerror}; choose another port with `--port`"
        raise BackendError(msg) from error
    with listening:
        yield listening


@contextmanager
def _signals_end_here(server: DrainingServer) -> Iterator[None]:
    """A signal ends the server, also before it listens to signals itself; it raises them again once it has ended."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: server.end()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _url(host: str, port: int) -> str:
    return f"http://{_shown(host)}:{port}"


def _shown(host: str) -> str:
    """An address as it stands in a URL."""
    return f"[{host}]" if ":" in host else host

"""The rules of Kubernetes' Pod Security Standard `restricted` (with those of `baseline` in it), as a pure function.

Source: kubernetes.io, Pod Security Standards, as of Kubernetes 1.34.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip
SECCOMP = ("RuntimeDefault", "Localhost")
SELINUX = (None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
Spec = Mapping[str, Any]


def violations(pod: Spec) -> list[str]:
    """What of a pod's spec the standard refuses."""
    kinds = ("initContainers", "containers", "ephemeralContainers")
    containers = [(c["name"], c) for kind in kinds for c in pod.get(kind) or []]
    own = pod.get("securityContext") or {}
    found = [*_of_pod(pod), *_of_context("the pod", own)]
    for name, container in containers:
        context = container.get("securityContext") or {}
        found += [*_of_container(name, container, context), *_of_context(name, context)]
        found += _inherited(name, {**own, **context})
    return found


def _of_pod(pod: Spec) -> Iterator[str]:
    yield from (f"{name} is set" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name))
    for volume in pod.get("volumes") or []:
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            yield f"volume {volume['name']} is a {', '.join(sorted(kinds - VOLUMES))}"
    for sysctl in (pod.get("securityContext") or {}).get("sysctls") or []:
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']} is unsafe"


def _of_context(name: str, context: Spec) -> Iterator[str]:
    """What may stand neither in the pod's nor in a container's context."""
    if context.get("runAsUser") == 0:
        yield f"{name} runs as root"
    if context.get("runAsNonRoot") is False:
        yield f"{name} may run as root"
    if (context.get("seccompProfile") or {}).get("type", SECCOMP[0]) not in SECCOMP:
        yield f"{name} has no seccomp profile"
    if (context.get("appArmorProfile") or {}).get("type", SECCOMP[0]) not in SECCOMP:
        yield f"{name} has no AppArmor profile"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type") not in SELINUX or selinux.get("user") or selinux.get("role"):
        yield f"{name} chooses SELinux options"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{name} is a host process"


def _inherited(name: str, context: Spec) -> Iterator[str]:
    """What either the pod or the container has to say."""
    if context.get("runAsNonRoot") is not True:
        yield f"{name} does not say runAsNonRoot"
    if (context.get("seccompProfile") or {}).get("type") not in SECCOMP:
        yield f"{name} does not choose a seccomp profile"


def _of_container(name: str, container: Spec, context: Spec) -> Iterator[str]:
    if context.get("privileged"):
        yield f"{name} is privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may escalate its privileges"
    capabilities = context.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []):
        yield f"{name} keeps capabilities"
    if not set(capabilities.get("add") or []) <= {"NET_BIND_SERVICE"}:
        yield f"{name} adds capabilities"
    if context.get("procMount", "Default") != "Default":
        yield f"{name} unmasks /proc"
    if any(port.get("hostPort") for port in container.get("ports") or []):
        yield f"{name} takes a port of the host"
    yield from (f"{name} probes another host" for action in _actions(container) if action.get("host"))


def _actions(container: Spec) -> Iterator[Spec]:
    lifecycle = (container.get("lifecycle") or {}).values()
    probes = (container.get(f"{kind}Probe") or {} for kind in ("startup", "readiness", "liveness"))
    for handler in (*lifecycle, *probes):
        yield from (handler[kind] for kind in ("httpGet", "tcpSocket") if handler.get(kind))

"""What a user asks of a new pod, before any image is looked up."""

from __future__ import annotations

import os

from podium.errors import BadUsage
from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def is_path(image: str) -> bool:
    """Whether an IMAGE of the command line is a path: it begins with / or ./ or ../, or is there under that name."""
    return image.startswith(("/", "./", "../")) or (image.endswith((".aci", ".tar")) and os.path.exists(image))


def is_address(image: str) -> bool:
    """Whether it is the address of an image in a registry."""
    return image.startswith("docker://")


class AppRequest(NamedTuple):
    """One app of the command line.

    Attributes:
        image: name[:tag], id, prefix of an id, path, or address in a registry.
        name: of the app; None: made from the image's.
        exec: path that replaces the image's command.
        args: what follows the image's command (an OCI image's CMD is replaced by it).
        mounts: (volume, target).
        isolators: (name, value as in an appc manifest); they replace the image's of the same name.
        The rest: None is the image's.
    """

    image: str
    name: str | None = None
    exec: str | None = None
    args: tuple[str, ...] = ()
    working_dir: str | None = None
    user: str | None = None
    group: str | None = None
    supplementary_gids: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    mounts: tuple[tuple[str, str], ...] = ()
    readonly_rootfs: bool = False
    isolators: tuple[tuple[str, Any], ...] = ()
    restart: str = "no"
    notify: bool = False
    stdin: str = "auto"
    stdout: str = "auto"
    stderr: str = "auto"


class PodRequest(NamedTuple):
    """A new pod.

    Attributes:
        apps: in the order of the command line; empty with `pod_manifest`.
        stage1: plugin's name; None: the configuration's.
        net: None: `default`, or `host` where the stage1 knows no other.
        ports: (name, host IP or "", host port).
        hosts: (IP, name).
        volumes: objects as in an appc pod manifest.
        env_files: paths of files with K=V lines.
        pod_manifest: path of an appc pod manifest to prepare instead of `apps`.
        tls_verify: whether the registries that images are fetched from must be who they say.
    """

    apps: tuple[AppRequest, ...] = ()
    stage1: str | None = None
    name: str | None = None
    hostname: str | None = None
    net: tuple[str, ...] | None = None
    ports: tuple[tuple[str, str, int], ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_domain: str | None = None
    hosts: tuple[tuple[str, str], ...] = ()
    volumes: tuple[Mapping[str, Any], ...] = ()
    set_env: Mapping[str, str] = {}
    env_files: tuple[str, ...] = ()
    inherit_env: bool = False
    pod_manifest: str | None = None
    private_users: bool = False
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    tls_verify: bool = True

    def check_beside_manifest(self) -> None:
        """Refuse what a pod manifest says itself. Raises BadUsage."""
        options = {
            "--volume": self.volumes,
            "--port": self.ports,
            "--hostname": self.hostname,
            "--dns": self.dns,
            "--dns-search": self.dns_search,
            "--dns-opt": self.dns_options,
            "--dns-domain": self.dns_domain,
            "--hosts-entry": self.hosts,
            "--set-env": self.set_env,
            "--set-env-file": self.env_files,
            "--inherit-env": self.inherit_env,
            "--private-users": self.private_users,
            "--label": self.labels,
            "--annotation": self.annotations,
            "--tls-verify": not self.tls_verify,
        }
        given = [option for option, value in options.items() if value]
        if given:
            raise BadUsage(
                f"{', '.join(given)} can't be used together with --pod-manifest",
                hint="write it into the manifest",
                subject=given[0],
            )


class RunOptions(NamedTuple):
    """How to run a pod.

    Attributes:
        detach: return once the apps have been started; output goes to logs/.
        interactive: the app must get the caller's standard input.
        tty: the app gets a terminal.
        remove: collect the pod as soon as it has ended.
        uuid_file: write the pod's uuid there before it runs.
    """

    detach: bool = False
    interactive: bool = False
    tty: bool = False
    remove: bool = False
    uuid_file: str | None = None

    def check(self, apps: int) -> None:
        """Refuse what can't be together. Raises BadUsage."""
        if self.detach and (self.tty or self.interactive):
            raise BadUsage("--detach goes with neither --tty nor --interactive")
        if apps > 1 and (self.tty or self.interactive):
            raise BadUsage(f"--tty and --interactive need a pod of one app, this one has {apps}")
        if self.tty and not os.isatty(0):
            raise BadUsage("--tty needs a terminal on standard input")


class RunResult(NamedTuple):
    """How a run went.

    Attributes:
        uuid: of the pod.
        exit_code: of the pod; None for a detached one whose apps have been started.
        messages: for each app that podium could not start or had to end: its name and why.
    """

    uuid: str
    exit_code: int | None
    messages: tuple[tuple[str, str], ...] = ()

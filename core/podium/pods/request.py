"""What a user asks of a new pod, before any image is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class AppRequest(NamedTuple):
    """One app of the command line.

    Attributes:
        image: name[:tag], id, prefix of an id, or path.
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
    """

    apps: tuple[AppRequest, ...] = ()
    stage1: str | None = None
    name: str | None = None
    hostname: str | None = None
    net: tuple[str, ...] | None = None
    ports: tuple[tuple[str, str, int], ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    volumes: tuple[Mapping[str, Any], ...] = ()
    set_env: Mapping[str, str] = {}
    env_files: tuple[str, ...] = ()
    inherit_env: bool = False
    pod_manifest: str | None = None
    private_users: bool = False
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}

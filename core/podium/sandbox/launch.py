"""An app's process, once everything was looked up: kept with the pod, so that `enter` confines alike."""

from __future__ import annotations

import os
from binascii import a2b_base64, b2a_base64

from podium import records
from podium.errors import Corrupt, WrongState
from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FOLDER = "apps"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Launch(NamedTuple):
    """How a process is started into a sandbox.

    Attributes:
        argv: command and arguments; a command without a slash is looked up in the environment's PATH.
        environment: the whole environment.
        cwd: absolute path in the rootfs.
        root: path of the rootfs, as seen after the namespaces have been joined.
        uid, gid, groups: numbers.
        capabilities: numbers retained; None: all.
        no_new_privileges: see prctl(2), PR_SET_NO_NEW_PRIVS.
        seccomp: BPF program; None: none.
        rlimits: resource name → (soft, hard).
        oom_score_adj: None: as it is.
        cgroup: path below every hierarchy.
    """

    argv: tuple[str, ...]
    environment: dict[str, str]
    cwd: str
    root: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    capabilities: tuple[int, ...] | None
    no_new_privileges: bool
    seccomp: bytes | None
    rlimits: dict[str, tuple[int, int]]
    oom_score_adj: int | None
    cgroup: str

    def at_terminal(self) -> Launch:
        """The same at a terminal, of podium's caller's kind unless the app says which."""
        kind = {"TERM": os.environ.get("TERM", "xterm")}
        return self._replace(environment={**kind, **self.environment})

    def to_json(self) -> dict[str, Any]:
        """As it is kept in the pod's stage1/apps/<app>.json."""
        return {
            **self._asdict(),
            "seccomp": None if self.seccomp is None else b2a_base64(self.seccomp, newline=False).decode(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Launch:
        """Raises KeyError, TypeError or ValueError when a field is missing or wrong."""
        known = {k: data[k] for k in cls._fields}
        for name in ("argv", "groups", "capabilities"):
            known[name] = None if known[name] is None else tuple(known[name])
        known["seccomp"] = None if known["seccomp"] is None else a2b_base64(known["seccomp"])
        known["rlimits"] = {k: (int(soft), int(hard)) for k, (soft, hard) in known["rlimits"].items()}
        return cls(**known)


def write(stage1_dir: str, app: str, launch: Launch) -> None:
    """Keep an app's launch."""
    from podium.linux.files import write_atomic

    os.makedirs(os.path.join(stage1_dir, FOLDER), mode=0o700, exist_ok=True)
    path = os.path.join(stage1_dir, FOLDER, app + ".json")
    write_atomic(path, records.seal(launch.to_json()) + b"\n", durable=False)


def read(stage1_dir: str, app: str) -> Launch:
    """How an app was started.

    Raises:
        WrongState: it was not.
        Corrupt: the record is damaged.
    """
    what = f"the launch record of app {app}"
    try:
        return Launch.from_json(records.read(os.path.join(stage1_dir, FOLDER, app + ".json"), what))
    except FileNotFoundError:
        raise WrongState(f"app {app!r} was not started", subject=app) from None
    except (KeyError, TypeError, ValueError) as e:
        raise Corrupt(f"{what} is damaged: {e}", subject=app) from None

"""export, inspect, cat-manifest: what a pod is and what its apps wrote."""

from __future__ import annotations

import os

from podium import records
from podium.actions import observe
from podium.actions.context import Context
from podium.actions.observe import PodInfo
from podium.contexts import suppress
from podium.errors import BadUsage, CapabilityUnsupported, Corrupt, Failed, NotFound, PodiumError, WrongState
from podium.paths import MANIFEST
from podium.pods import envelope as envelopes
from podium.pods import lock, model
from podium.pods.ledger import PodLedger
from podium.trace import trace
from podium.types import App, Pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def cat_manifest(context: Context, ref: str) -> bytes:
    """The pod's manifest as it is stored, if it can be parsed.

    Raises:
        Corrupt: it can't; says what could be found, and line and column of the fault.
    """
    from podium.pods.manifest_fault import manifest_fault

    info = observe.look(context.data, ref)
    try:
        data = records.read_bytes(os.path.join(info.path, MANIFEST))
    except FileNotFoundError:
        raise NotFound(f"pod {info.uuid} has no manifest", subject=info.uuid) from None
    except PodiumError as e:
        raise Corrupt(f"the manifest of pod {info.uuid} is damaged: {e.message}", subject=info.uuid) from None
    try:
        envelope = envelopes.read(info.path)
    except (Corrupt, FileNotFoundError):
        envelope = None
    level, message = manifest_fault(info.uuid, data, envelope)
    if level == "salvage":
        raise Corrupt(message, hint="'podium stop', 'podium gc' and 'podium rm' work without it", subject=info.uuid)
    return data


def inspect(context: Context, ref: str) -> dict[str, Any]:
    """All that is recorded of a pod."""
    info = observe.look(context.data, ref)
    result: dict[str, Any] = {"schema": "podium.inspect/1", "pod": info.to_json(full=True), "path": info.path}
    try:
        envelope = envelopes.read(info.path)
        result["envelope"] = envelope.to_json()
    except (Corrupt, FileNotFoundError) as e:
        result["envelope"] = {"problem": str(e)}
    try:
        ledger = PodLedger(info.path)
        result["ledger"] = {
            "outstanding": [
                {"kind": r.kind, "id": r.id, "held": r.held, "attrs": dict(r.attrs)} for r in ledger.outstanding()
            ],
            "damaged_lines": ledger.damaged,
        }
    except Corrupt as e:
        result["ledger"] = {"problem": e.message}
    from podium.events.deliver import failures

    result["hook_failures"] = [failure for failure in failures(context.data) if failure.get("subject") == info.uuid]
    return result


def export(context: Context, ref: str, file: str, app: str | None) -> None:
    """Write an app's rootfs, with what the app changed, as a tar archive. No gc takes the pod meanwhile; `rm` waits.

    Raises:
        WrongState: the pod was never run, or runs.
        BadUsage: it has several apps and none was named.
        CapabilityUnsupported: its stage1 keeps the files elsewhere, as a virtual machine does.
        Failed: tar failed.
    """
    info, kept = _kept(context, ref)
    try:
        trace("export:kept")
        _export(info, file, app)
    finally:
        os.close(kept)


def _kept(context: Context, ref: str) -> tuple[PodInfo, int]:
    """A pod that has ended, and a descriptor that keeps it where it is."""
    while True:
        info = observe.look(context.data, ref)
        if info.state not in ("exited", "exited-garbage", "gc-failed"):
            raise WrongState(
                f"pod {info.uuid} is {info.state}: only a pod that has ended can be exported",
                hint="'podium stop' it first" if info.state == "running" else None,
                subject=info.uuid,
            )
        with suppress(FileNotFoundError):  # a gc moves it on
            fd = lock.share(info.path)
            if fd is not None:
                return info, fd


def _export(info: PodInfo, file: str, app: str | None) -> None:
    from podium.sandbox import rootfs

    pod = model.load(info.path)
    wanted = pod.app(observe.app_of(info.uuid, [a.name for a in pod.apps], app))
    if not os.path.isdir(rootfs.path(pod, wanted)):
        stage1 = info.stage1.name if info.stage1 else "unknown"
        raise CapabilityUnsupported(
            f"the files of pod {info.uuid} are where export can't read them: its stage1 is {stage1}",
            hint="have the app write what is to be kept into a volume",
            subject=info.uuid,
        )
    if os.path.lexists(file):
        raise BadUsage(f"{file} exists already", hint="choose another name, or remove it", subject=file)
    pid = os.fork()
    if pid == 0:
        _archive(pod, wanted, file)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != 0:
        if os.path.exists(file):
            os.unlink(file)
        raise Failed(f"exporting {wanted.name} of pod {info.uuid} failed (tar ended with {code})", subject=info.uuid)


def _archive(pod: Pod, app: App, file: str) -> None:
    """In a child of its own: the mounts of the export are in its private mount namespace. It never returns."""
    try:
        from podium.linux import mount
        from podium.sandbox import rootfs

        mount.unshare_mounts()
        root = rootfs.assemble_ended(pod, app)
        os.execvp(
            "tar", ["tar", "--create", "--file", file, "--numeric-owner", "--xattrs", "--sparse", "-C", root, "."]
        )
    except BaseException as e:
        os.write(2, f"podium: {e}\n".encode())
    finally:
        os._exit(1)

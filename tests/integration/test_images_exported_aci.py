"""Exported ACIs held against the appc specification by its own validator, and by its rules for the archive's layout."""

from __future__ import annotations

import json
import os
import tarfile
from typing import Any

from podium.images.exporting import export_image
from podium.images.importing import import_path
from podium.store.store import Store
from support import actool, images, oci


def exported(store: Store, work: str, name: str) -> str:
    path = os.path.join(work, f"{name}.aci")
    export_image(store, name, path, "aci")
    return path


def layout_faults(aci: str) -> list[str]:
    """Rules of "Image Layout" and "Image Archives" (aci.md), word by word."""
    with tarfile.open(aci) as tar:
        names = [m.name.removeprefix("./") for m in tar]
        kinds = {m.name.removeprefix("./"): m.type for m in tar.getmembers()}
    faults = [f"{name} is neither manifest nor below rootfs" for name in names if name.split("/")[0] not in LAYOUT]
    if kinds.get("manifest") != tarfile.REGTYPE or kinds.get("rootfs") != tarfile.DIRTYPE:
        faults.append("it must have a file manifest and a folder rootfs")
    faults += [f"{name} is in it twice" for name in {n for n in names if names.count(n) > 1}]
    return faults


LAYOUT = ("manifest", "rootfs")
RUN: dict[str, Any] = {
    "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": ["echo $GREETING"],
    "Env": ["PATH=/bin", "GREETING=hello", "not legal=2"],
    "User": "app:app",
    "WorkingDir": "/srv",
    "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
    "Volumes": {"/data": {}, "/var/lib/Some_Thing": {}},
    "Labels": {"org.example.Title": "Web", "a b": "c"},
    "StopSignal": "SIGINT",
}


def test_validator_takes_exported_acis(store: Store, work: str, busybox_rootfs: str) -> None:
    import_path(store, busybox_rootfs, name="box:1", exec="/bin/sh -c true")
    import_path(store, busybox_rootfs, name="bare:1")
    layout = os.path.join(work, "layout")
    oci.write_layout(
        layout, [oci.layer_of(busybox_rootfs), oci.layer([("etc/.wh.group", b"")])], RUN, tag="Team/We_b:1"
    )
    import_path(store, layout, name="team/web:1")
    for number, name in enumerate(("box:1", "bare:1", "team/web:1")):
        store.tag(name, f"n{number}")
        path = exported(store, work, f"n{number}")
        assert actool.complaint(path) == ""
        assert layout_faults(path) == []


def test_validator_refuses_what_is_wrong(work: str, busybox_rootfs: str) -> None:
    """So that the test above can fail."""
    good = {"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "acme/x"}
    for number, (more, right) in enumerate([({}, True), ({"name": "Not Legal"}, False), ({"acKind": "X"}, False)]):
        manifest = json.dumps({**good, **more}).encode()
        path = images.write_aci(os.path.join(work, f"{number}.aci"), manifest, busybox_rootfs)
        assert (actool.complaint(path) == "") is right

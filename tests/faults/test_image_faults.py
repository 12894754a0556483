"""Faults 16, 18, 19, 22 and 35 to 38: images that are removed too early, half there, hostile or ambiguous."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import tarfile
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from support import oci
from support.command import Podium

FLY = ("--stage1", "fly", "--net", "host")
ROUNDS = 3


def small_image(podium: Podium, busybox_oci: str) -> str:
    return podium.out("image", "import", busybox_oci, "--name", "box")


def entries(*members: tuple[str, dict[str, Any], bytes]) -> bytes:
    """A tar of (name, attributes of its TarInfo, content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, attributes, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in attributes.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def write(folder: str, name: str, data: bytes) -> str:
    path = os.path.join(folder, name)
    with open(path, "wb") as f:
        f.write(data)
    return path


def store_is_empty(podium: Podium) -> bool:
    return all(not os.listdir(os.path.join(podium.dir, f)) for f in ("images", "trees", "blobs/sha256", "tmp"))


def test_16_an_image_goes_or_its_pod_is_made_never_both(podium: Podium, busybox_oci: str) -> None:
    """prepare, rm and gc of one image at the same time, whoever comes first; a pod that is made can be run."""
    made = 0
    for number in range(ROUNDS):
        small_image(podium, busybox_oci)
        delay = ["sh", "-c", f'sleep 0.{number}; exec "$@"', "sh"]
        commands = [
            podium.argv("prepare", *FLY, "box"),
            [*delay, *podium.argv("image", "rm", "box")],
            [*delay, *podium.argv("image", "gc", "--grace-period", "0s")],
            podium.argv("prepare", *FLY, "box"),
        ]
        running = [
            subprocess.Popen(c, env=podium.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for c in commands
        ]
        ended = [(p, *p.communicate(timeout=120)) for p in running]
        prepare, remove, collect, second = ended
        assert collect[0].returncode == 0, collect[2]
        pods = [out.strip() for process, out, _ in (prepare, second) if process.returncode == 0]
        assert remove[0].returncode == (4 if pods else 0), (remove[2], pods)
        for process, _, told in (prepare, second):
            assert process.returncode in (0, 3), told  # 3: the image was gone
        for pod in pods:
            assert podium("run-prepared", pod, input="exit 0\n", check=None).returncode == 0
            podium("rm", pod)
            made += 1
    podium("image", "rm", "box", check=None)
    assert made > 0, "no pod was ever made: nothing was shown"


@pytest.mark.parametrize("point", ["import:blobs", "tree:unpacked", "import:synced", "tree:rendered", "image:named"])
def test_18_a_killed_import_passes_for_nothing(podium: Podium, busybox_oci: str, point: str) -> None:
    words = ("image", "import", busybox_oci, "--name", "box")
    killed = podium.using(podium.binary, PODIUM_TRACE_KILL=point)(*words, check=None)
    assert killed.returncode == -signal.SIGKILL
    there = podium.json("image", "list")["images"]
    if there:  # then it is whole
        assert podium.json("image", "verify")["images"][0]["problems"] == []
    podium(*words)
    assert podium.json("image", "verify")["images"][0]["problems"] == []
    shown = podium.out("run", "--rm", *FLY, "box", "--exec", "/bin/sh", "--", "-c", "cat /srv/opaque/*")
    assert shown == "from the third layer"
    assert os.listdir(os.path.join(podium.dir, "tmp")) == []


def leave(path: str, what: str) -> None:
    """Leave something half made there; where a file goes, a file."""
    if what == "a file" or path.endswith(".img"):
        write(os.path.dirname(path), os.path.basename(path), b"half")
    else:
        os.makedirs(os.path.join(path, "rootfs", "bin"))


@pytest.mark.parametrize("left", ["half a folder", "a file"])
def test_19_what_is_in_the_place_of_something_new_is_in_nobodys_way(
    podium: Podium, busybox_oci: str, left: str
) -> None:
    """Where a tree, a pin, a derived image or a kernel goes, something half made has been left."""
    prepare = ("prepare", "--stage1", "kvm", "--net", "none", "box", "--", "true")
    small_image(podium, busybox_oci)
    pod = podium.out(*prepare)
    places = [
        os.path.join(podium.dir, kind, name)
        for kind, wanted in (("trees", ""), ("stage1", "sha256-"), ("erofs", ".img"), ("kernels", "sha256-"))
        for name in os.listdir(os.path.join(podium.dir, kind))
        if wanted in name
    ]
    assert len(places) == 4
    podium("rm", pod)
    podium("image", "rm", "box")
    podium("image", "gc", "--grace-period", "0s")
    for place in places:
        if os.path.isdir(place):
            subprocess.run(["rm", "-rf", place], check=True)
        leave(place, left)
    small_image(podium, busybox_oci)
    pod = podium.out(*prepare)
    assert podium.out("run", "--rm", *FLY, "box", "--exec", "/bin/echo", "--", "runs") == "runs"
    assert podium.json("fsck")["findings"] == []
    podium("rm", pod)


def flipped(content: bytes, seed: int) -> bytes:
    """With bits flipped here and there."""
    chance, damaged = random.Random(seed), bytearray(content)
    for _ in range(1 + seed * 3):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


DAMAGED_INDEX: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "not SQLite": lambda whole: b"not SQLite at all",
    "a header alone": lambda whole: b"SQLite format 3\0" + bytes(4096),
    "cut within a page": lambda whole: whole[:5000],
    "a page zeroed": lambda whole: whole[:4096] + bytes(4096) + whole[8192:],
    **{f"bits flipped, {seed}": partial(flipped, seed=seed) for seed in (1, 2, 5, 40)},
}


@pytest.mark.parametrize("damage", DAMAGED_INDEX)
def test_22_a_damaged_index_costs_nothing(podium: Podium, busybox_oci: str, damage: str) -> None:
    """Reading and writing find what they would with a whole one; the damaged one is kept, if it is no use at all."""
    image = small_image(podium, busybox_oci)
    path = os.path.join(podium.dir, "index.db")
    with open(path, "rb") as f:
        whole = f.read()
    wrong = DAMAGED_INDEX[damage](whole)
    write(podium.dir, "index.db", wrong)
    assert [(i["id"], i["name"]) for i in podium.json("image", "list")["images"]] == [(image, "box")]
    if wrong and "flipped" not in damage:
        with open(os.path.join(podium.dir, "cache", "index.db.damaged"), "rb") as f:
            assert f.read() == wrong, "the evidence is gone"
    write(podium.dir, "index.db", wrong)
    assert podium.out("image", "tag", image[:20], "other:1") == image
    assert podium.out("run", "--rm", *FLY, "other:1", "--exec", "/bin/echo", "--", "runs") == "runs"
    podium("fsck", "--repair")
    assert podium.json("fsck")["findings"] == []


@pytest.mark.parametrize(
    "members",
    [
        [("../outside", {}, b"x")],
        [("d", {"type": tarfile.SYMTYPE, "linkname": ".."}, b""), ("d/../../outside", {}, b"x")],
        [("d", {"type": tarfile.SYMTYPE, "linkname": "{yard}"}, b""), ("d/outside", {}, b"x")],
        [("l", {"type": tarfile.LNKTYPE, "linkname": "{yard}/secret"}, b""), ("l", {}, b"x")],
        [("l", {"type": tarfile.SYMTYPE, "linkname": "{yard}/secret"}, b""), ("l", {}, b"x")],
        [("d", {"type": tarfile.SYMTYPE, "linkname": "{yard}"}, b""), ("d/.wh.secret", {}, b"")],
    ],
    ids=[
        "climbs",
        "through a link that climbs",
        "absolute link",
        "hard link",
        "over a link",
        "whiteout through a link",
    ],
)
def test_35_nothing_is_written_outside(podium: Podium, test_dir: str, members: list[Any]) -> None:
    yard = os.path.join(test_dir, "yard")
    os.mkdir(yard)
    write(yard, "secret", b"untouched")
    filled = [
        (name, {k: v.format(yard=yard) if isinstance(v, str) else v for k, v in attributes.items()}, content)
        for name, attributes, content in members
    ]
    layout = os.path.join(test_dir, "layout")
    oci.write_layout(layout, [oci.layer([("base", b"1")]), entries(*filled)], {"Cmd": ["/x"]}, tag="evil:1")
    podium("image", "import", layout, check=None)
    with open(os.path.join(yard, "secret"), "rb") as f:
        assert f.read() == b"untouched"
    assert os.listdir(yard) == ["secret"]
    assert not os.path.lexists(os.path.join(podium.dir, "outside"))
    assert os.listdir(os.path.join(podium.dir, "tmp")) == []


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_36_whiteouts_hide_lower_layers_only(podium: Podium, test_dir: str, order: tuple[int, ...]) -> None:
    """A layer's own files stay, wherever in it the whiteouts stand."""
    lower = oci.layer([("d", None), ("d/low", b"1"), ("e", b"1"), ("f", b"1")])
    upper = [("d/.wh..wh..opq", b""), ("d/new", b"2"), (".wh.e", b""), ("e", b"2")]
    layout = os.path.join(test_dir, "layout")
    oci.write_layout(layout, [lower, oci.layer([upper[i] for i in order])], {"Cmd": ["/x"]}, tag="w:1")
    podium("image", "import", layout)
    out = os.path.join(test_dir, "out")
    podium("image", "extract", "--rootfs-only", "w:1", out)
    found = sorted(os.path.relpath(os.path.join(p, n), out) for p, ds, fs in os.walk(out) for n in (*ds, *fs))
    assert found == ["d", "d/new", "e", "f"]
    with open(os.path.join(out, "e"), "rb") as f:
        assert f.read() == b"2"


def test_37_what_explodes_is_refused(podium: Podium, test_dir: str) -> None:
    config = os.path.join(test_dir, "config.toml")
    with open(podium.config, encoding="utf-8") as f:
        own = f.read()
    write(test_dir, "config.toml", f"{own}\n[images]\nmax-bytes = {8 << 20}\nmax-entries = 1000\n".encode())
    podium.config = config
    many = oci.layer([(f"f{n}", b"") for n in range(1001)])
    deep = oci.layer([("/".join(["d"] * 300), None)])
    zeros = entries(("zeros", {}, bytes(9 << 20)))
    for name, layer in (("many", many), ("deep", deep), ("zeros", zeros)):
        layout = os.path.join(test_dir, name)
        oci.write_layout(layout, [layer], {"Cmd": ["/x"]}, tag=f"{name}:1")
        refused = podium("image", "import", layout, check=2)
        assert "more than" in refused.stderr or "deeper than" in refused.stderr
        assert ("below [images] in the configuration" in refused.stderr) == (name != "deep")
    nested = b'{"acKind":"ImageManifest","acVersion":"0.8.11","name":"x","annotations":' + b"[" * 100_000
    aci = write(test_dir, "nested.aci", gzip.compress(entries(("manifest", {}, nested), ("rootfs/x", {}, b""))))
    podium("image", "import", aci, check=2)
    assert store_is_empty(podium)


def test_38_a_manifest_that_is_an_index_too_is_refused(podium: Podium, test_dir: str) -> None:
    """CVE-2021-41190: what one reader takes for a manifest, another takes for an index."""
    for member in ("manifests", "fsLayers"):
        layout = os.path.join(test_dir, member)
        oci.write_layout(layout, [oci.layer([("a", b"1")])], {"Cmd": ["/x"]}, tag="a:1", alter={member: []})
        assert "ambiguous" in podium("image", "import", layout, check=2).stderr
    layout = os.path.join(test_dir, "index")
    digest = oci.write_layout(layout, [oci.layer([("a", b"1")])], {"Cmd": ["/x"]}, tag="a:1")
    path = os.path.join(layout, "index.json")
    with open(path, encoding="utf-8") as f:
        index = json.load(f)
    write(layout, "index.json", json.dumps({**index, "layers": [], "config": index["manifests"][0]}).encode())
    assert "ambiguous" in podium("image", "import", layout, check=2).stderr
    with open(os.path.join(layout, "blobs/sha256", digest.removeprefix("sha256:")), "rb") as f:
        assert "sha256:" + hashlib.sha256(f.read()).hexdigest() == digest
    assert store_is_empty(podium)

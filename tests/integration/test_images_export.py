"""Images out of the store again: OCI archives, ACIs and folders, and what other programs make of them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator

import pytest

from podium.appc.image_manifest import parse_image
from podium.errors import BadUsage, Corrupt, NotFound
from podium.images.exporting import export_image, extract_image
from podium.images.importing import import_path
from podium.store.image import Image
from podium.store.store import Store
from support import images, oci
from support.command import Podium
from support.podman import Podman


@pytest.fixture
def podman(test_dir: str) -> Iterator[Podman]:
    made = Podman(os.path.join(test_dir, "podman"))
    yield made
    made.close()


def listing(folder: str) -> dict[str, str]:
    """Name → kind, mode, owner, number of links, time, target or digest of the content, of each file in a folder."""
    form = r"%P\t%y %m %U:%G %n %T@ %l\0"
    found = subprocess.run(["find", ".", "-printf", form], cwd=folder, capture_output=True, check=True)
    result = dict(entry.decode().split("\t") for entry in found.stdout.split(b"\0") if entry)
    for name, look in result.items():
        if look.startswith("f"):
            with open(os.path.join(folder, name), "rb") as f:
                result[name] = f"{look} {hashlib.file_digest(f, 'sha256').hexdigest()}"  # type: ignore[arg-type]
    return result


def odd_rootfs(folder: str) -> str:
    """A rootfs with what archives lose easily."""
    root = images.make_busybox_rootfs(folder)
    os.link(os.path.join(root, "etc/passwd"), os.path.join(root, "etc/linked"))
    os.mkfifo(os.path.join(root, "pipe"), 0o640)
    with open(os.path.join(root, "sparse"), "wb") as f:
        f.truncate(1 << 22)
        f.seek(1 << 21)
        f.write(b"in the middle")
    with open(os.path.join(root, "etc/grüße \n odd"), "wb") as f:
        f.write(b"name")
    os.setxattr(os.path.join(root, "bin/busybox"), "user.note", b"kept")
    os.chown(os.path.join(root, "etc/linked"), 70_000, 3_000_000)
    os.chmod(os.path.join(root, "bin/busybox"), 0o4755)
    os.utime(os.path.join(root, "etc"), (1, 1_234_567_890))
    return root


def trees_are_equal(store: Store, one: Image, other: Image) -> bool:
    first, second = (store.data.rootfs(i.tree) for i in (one, other))
    assert os.getxattr(f"{second}/bin/busybox", "user.note") == b"kept"
    return listing(first) == listing(second)


def test_rootfs_through_an_oci_archive_and_an_aci(store: Store, work: str) -> None:
    root = odd_rootfs(os.path.join(work, "root"))
    first = import_path(store, root, name="odd:1", exec="/bin/sh -c true")
    for kind in ("oci", "aci"):
        path = os.path.join(work, f"odd.{kind}")
        assert export_image(store, "odd:1", path, kind) == []
        again = import_path(store, path, name=f"{kind}:2", format=kind)
        assert again.format == kind
        assert again.manifest["app"]["exec"] == ["/bin/sh", "-c", "true"]
        assert trees_are_equal(store, first, again)
        assert os.stat(os.path.join(store.data.rootfs(again.tree), "sparse")).st_blocks < 1 << 10
    with tarfile.open(os.path.join(work, "odd.oci")) as tar:
        names = tar.getnames()
    assert len(names) == len(set(names)) == 5
    assert os.listdir(store.data.tmp) == []


def test_what_came_as_oci_goes_out_with_the_same_digests(store: Store, work: str) -> None:
    layout = os.path.join(work, "layout")
    layers = [oci.layer([("a", b"1")]), oci.layer([(".wh.a", b""), ("b", b"2")])]
    digest = oci.write_layout(layout, layers, {"Cmd": ["/x"]}, tag="acme/web:3")
    image = import_path(store, layout)
    store.tag("acme/web:3", "other")
    path = os.path.join(work, "out.tar")
    export_image(store, "other", path)
    with tarfile.open(path) as tar:
        index = tar.extractfile("index.json")
        assert index is not None
        (described,) = json.load(index)["manifests"]
    assert described["digest"] == digest
    assert described["annotations"]["org.opencontainers.image.ref.name"] == "other:latest"
    store.remove("other")
    store.remove("acme/web")
    again = import_path(store, path)
    assert (again.id, again.references) == (image.id, ["other:latest"])


def test_aci_goes_out_byte_for_byte(store: Store, work: str) -> None:
    manifest = json.dumps({"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "acme/x"}).encode()
    os.mkdir(os.path.join(work, "r"))
    path = images.write_aci(os.path.join(work, "x.aci"), manifest, os.path.join(work, "r"))
    import_path(store, path)
    export_image(store, "acme/x", os.path.join(work, "y.aci"), "aci")
    with open(path, "rb") as f, open(os.path.join(work, "y.aci"), "rb") as g:
        assert f.read() == g.read()


def test_aci_of_an_oci_image_keeps_to_the_specification(store: Store, work: str) -> None:
    layout = os.path.join(work, "layout")
    passwd = oci.layer([("etc", None), ("etc/passwd", b"www:x:33:44::/:/bin/sh\n")])
    run = {"Cmd": ["/x"], "User": "www", "Env": ["GOOD=1", "not legal=2"], "Labels": {"a b": "c"}}
    oci.write_layout(layout, [passwd], run, tag="web:1")
    import_path(store, layout)
    path = os.path.join(work, "web.aci")
    (note,) = export_image(store, "web:1", path, "aci")
    assert "'not legal'" in note
    with tarfile.open(path) as tar:
        names, member = tar.getnames(), tar.extractfile("manifest")
        assert member is not None
        strict = parse_image(member.read())
    assert names[:2] == ["manifest", "rootfs"]
    assert strict.app is not None
    assert (strict.app.user, strict.app.group, dict(strict.app.environment)) == ("www", "44", {"GOOD": "1"})
    assert import_path(store, path, name="again").format == "aci"


def test_extracted_folder_equals_the_tree(store: Store, work: str) -> None:
    root = odd_rootfs(os.path.join(work, "root"))
    image = import_path(store, root, name="odd")
    whole, bare = os.path.join(work, "whole"), os.path.join(work, "bare")
    os.mkdir(whole)  # an empty one will do
    extract_image(store, "odd", whole)
    extract_image(store, "odd", bare, rootfs_only=True)
    expected = listing(store.data.rootfs(image.tree))
    assert listing(os.path.join(whole, "rootfs")) == listing(bare) == expected
    with open(os.path.join(whole, "manifest"), "rb") as f:
        assert parse_image(f.read()).name == "odd"
    os.chown(os.path.join(bare, "bin/busybox"), 1, 1)  # a copy: the store does not notice
    assert listing(store.data.rootfs(image.tree)) == expected
    with pytest.raises(BadUsage, match="no empty folder"):
        extract_image(store, "odd", whole)


def test_nothing_is_left_of_an_export_that_fails(store: Store, work: str) -> None:
    layout = os.path.join(work, "layout")
    oci.write_layout(layout, [oci.layer([("a", b"1")])], {"Cmd": ["/x"]}, tag="web:1")
    image = import_path(store, layout)
    os.unlink(store.data.blob(image.blobs[-1].digest.removeprefix("sha256:")))
    before = sorted(os.listdir(work))
    with pytest.raises(Corrupt, match="is missing or damaged"):
        export_image(store, "web:1", os.path.join(work, "x.tar"))
    with pytest.raises(NotFound):
        export_image(store, "nothing", os.path.join(work, "x.tar"))
    with pytest.raises(BadUsage, match="exists already"):
        export_image(store, "web:1", layout)
    with pytest.raises(FileNotFoundError, match=r"no/such/x\.tar"):
        export_image(store, "web:1", os.path.join(work, "no/such/x.tar"), "aci")
    assert sorted(os.listdir(work)) == before
    assert os.listdir(store.data.tmp) == []


def test_round_trip_with_podman_and_skopeo(podium: Podium, podman: Podman, busybox_oci: str, test_dir: str) -> None:
    """podman's image → both forms of `podman save` → podium → run; and back."""
    podman("load", "--input", busybox_oci)
    (name,) = podman("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    ids = set()
    for form in ("docker-archive", "oci-archive"):
        saved = os.path.join(test_dir, f"{form}.tar")
        podman("save", "--format", form, "--output", saved, name)
        ids.add(podium.out("image", "import", saved, "--name", f"from/{form}:1"))
    assert len(ids) == 1
    shell = ("--exec", "/bin/sh", "--", "-c", "cat /etc/hostname; ls /srv /srv/opaque")
    seen = podium.out("run", "--rm", "--stage1", "fly", "--net", "host", "from/docker-archive:1", *shell)
    assert seen.split() == ["second", "layer", "/srv:", "kept", "opaque", "/srv/opaque:", "upper"]
    podman("rmi", "--all", "--force")
    back = os.path.join(test_dir, "back.tar")
    podium("image", "export", "from/oci-archive:1", back)
    inspected = subprocess.run(["skopeo", "inspect", f"oci-archive:{back}"], capture_output=True, text=True, check=True)
    assert len(json.loads(inspected.stdout)["Layers"]) == 3
    podman("load", "--input", back)
    assert podman.run("from/oci-archive:1", "/bin/sh", "-c", "cat /srv/opaque/upper") == "from the third layer\n"
    assert {"sha256:" + i for i in podman("images", "--no-trunc", "--quiet").replace("sha256:", "").split()} == ids


def test_docker_archive_and_rootfs_load_in_podman(
    podium: Podium, podman: Podman, busybox_rootfs: str, test_dir: str
) -> None:
    podium("image", "import", busybox_rootfs, "--name", "demo/box:1", "--exec", "/bin/grep app /etc/group")
    one, two, saved = (os.path.join(test_dir, name) for name in ("one.tar", "two.tar", "saved.tar"))
    podium("image", "export", "demo/box:1", one)
    podman("load", "--input", one)
    assert podman.run("localhost/demo/box:1") == "extra:x:500:app\napp:x:1000:\n"
    podman("save", "--format", "docker-archive", "--output", saved, "localhost/demo/box:1")
    podman("rmi", "--all", "--force")
    podium("image", "import", saved, "--name", "demo/docker:2")
    podium("image", "rm", "demo/docker:2", check=None)
    podium("image", "import", saved, "--name", "demo/docker:2")
    podium("image", "export", "demo/docker:2", two)
    podman("load", "--input", two)
    assert podman.run("localhost/demo/docker:2") == "extra:x:500:app\napp:x:1000:\n"

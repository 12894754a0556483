"""Importing what people have: rootfs, ACI, OCI layouts and archives, docker archives; and refusing what is wrong."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from typing import Any, Literal

import pytest

from podium.errors import BadInput, LimitExceeded, NotFound, PodiumError
from podium.images.importing import import_path
from podium.store.image import Image
from podium.store.store import Store
from support import images, oci

Members = list[tuple[str, bytes | None]]
RUN = {"Cmd": ["/bin/true"], "Env": ["A=b"], "WorkingDir": "/srv"}


def write(path: str, data: bytes) -> str:
    with open(path, "wb") as f:
        f.write(data)
    return path


def content(store: Store, image: Image, path: str) -> bytes:
    with open(os.path.join(store.data.rootfs(image.tree), path), "rb") as f:
        return f.read()


def listed(store: Store, image: Image) -> list[str]:
    root = store.data.rootfs(image.tree)
    found = []
    for path, names, files in os.walk(root):
        found += [os.path.relpath(os.path.join(path, n), root) for n in [*names, *files]]
    return sorted(found)


def aci(name: str, files: Members, **manifest: Any) -> bytes:
    document = {"acKind": "ImageManifest", "acVersion": "0.8.11", "name": name, **manifest}
    members: Members = [("manifest", json.dumps(document).encode()), ("rootfs", None)]
    return oci.layer(members + [(f"rootfs/{n}", c) for n, c in files])


def test_rootfs_folder_twice_is_one_image(store: Store, work: str) -> None:
    root = images.make_busybox_rootfs(os.path.join(work, "root"))
    os.link(os.path.join(root, "etc/passwd"), os.path.join(root, "etc/linked"))
    with open(os.path.join(root, "sparse"), "wb") as f:
        f.truncate(1 << 20)
    first = import_path(store, root, name="demo/busybox:1", exec="/bin/sh -c 'echo hi'")
    assert first.manifest["app"]["exec"] == ["/bin/sh", "-c", "echo hi"]
    assert (first.name, first.tags, first.format) == ("demo/busybox", ("1",), "rootfs")
    assert import_path(store, root, name="demo/busybox:1", exec=["/bin/sh", "-c", "echo hi"]).id == first.id
    tree = store.data.rootfs(first.tree)
    assert os.stat(f"{tree}/etc/passwd").st_ino == os.stat(f"{tree}/etc/linked").st_ino
    assert os.stat(f"{tree}/home/app").st_uid == 1000
    assert os.stat(f"{tree}/sparse").st_blocks == 0
    assert len(store.images()) == 1
    assert os.listdir(store.data.tmp) == []


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress], ids=["tar", "gz", "bz2", "xz"])
def test_rootfs_tar_of_each_compression(pack: Callable[[bytes], bytes], store: Store, work: str) -> None:
    path = write(os.path.join(work, "r"), pack(oci.layer([("etc", None), ("etc/x", b"1")])))
    image = import_path(store, path, name="r")
    assert content(store, image, "etc/x") == b"1"


def test_rootfs_tar_of_zstd(store: Store, work: str) -> None:
    path = write(os.path.join(work, "r.tar"), oci.layer([("etc", None), ("etc/x", b"1" * 100_000)]))
    subprocess.run(["zstd", "--quiet", path], check=True)
    image = import_path(store, path + ".zst", name="r")
    assert content(store, image, "etc/x") == b"1" * 100_000


def test_rootfs_needs_a_name(store: Store, work: str) -> None:
    path = write(os.path.join(work, "r.tar"), oci.layer([("etc", None)]))
    with pytest.raises(BadInput, match="no name of its own"):
        import_path(store, path)
    for name in ("", "a b", "../x", "a:b:c/", "/abs", "x:"):
        with pytest.raises(BadInput):
            import_path(store, path, name=name)


@pytest.mark.parametrize("archive", [False, True], ids=["folder", "archive"])
@pytest.mark.parametrize("compress", [False, True, "zstd"], ids=["plain", "gzip", "zstd"])
def test_oci_layers_and_whiteouts(archive: bool, compress: bool | Literal["zstd"], store: Store, work: str) -> None:
    layers = [
        oci.layer([("d", None), ("d/low", b"1"), ("gone", b"1"), ("kept", b"1")]),
        oci.layer([("d/up", b"2"), ("d/.wh..wh..opq", b""), (".wh.gone", b""), ("new", b"2")]),
    ]
    layout = os.path.join(work, "layout")
    oci.write_layout(layout, layers, RUN, tag="demo:3", compress=compress)
    path = oci.archive(layout, os.path.join(work, "image.tar")) if archive else layout
    image = import_path(store, path)
    assert listed(store, image) == ["d", "d/up", "kept", "new"]
    assert (image.name, image.tags, image.arch, image.os) == ("demo", ("3",), "amd64", "linux")
    assert image.manifest["app"]["exec"] == ["/bin/true"]
    assert {b.role for b in image.blobs} == {"manifest", "config", "layer"}
    again = import_path(store, path, name="other")
    assert again.id == image.id
    assert again.references == ["other:latest", "demo:3"]
    assert store.resolve("demo:3") == store.resolve("other") == again


def test_oci_archive_that_is_compressed_as_a_whole(store: Store, work: str) -> None:
    oci.write_layout(os.path.join(work, "l"), [oci.layer([("a", b"1")])], RUN)
    path = oci.archive(os.path.join(work, "l"), os.path.join(work, "image.tar"))
    subprocess.run(["gzip", path], check=True)
    assert listed(store, import_path(store, path + ".gz", name="x")) == ["a"]


def blob(layout: str, media: str, value: Any) -> dict[str, Any]:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    digest = hashlib.sha256(data).hexdigest()
    write(os.path.join(layout, "blobs/sha256", digest), data)
    return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}


def read_index(layout: str) -> dict[str, Any]:
    with open(os.path.join(layout, "index.json"), encoding="utf-8") as f:
        value: dict[str, Any] = json.load(f)
    return value


def write_index(layout: str, index: dict[str, Any]) -> None:
    write(os.path.join(layout, "index.json"), json.dumps(index).encode())


def test_oci_index_of_several_platforms(store: Store, work: str) -> None:
    layout, found = os.path.join(work, "l"), []
    for arch in ("amd64", "arm64"):
        oci.write_layout(layout, [oci.layer([(arch, b"1")])], RUN)
        found.append({**read_index(layout)["manifests"][0], "platform": {"os": "linux", "architecture": arch}})
    found.append({**found[0], "platform": {"os": "unknown", "architecture": "unknown"}})
    nested = blob(layout, "application/vnd.oci.image.index.v1+json", {"schemaVersion": 2, "manifests": found})
    write_index(layout, {"schemaVersion": 2, "manifests": [nested]})
    assert listed(store, import_path(store, layout, platform="linux/amd64")) == ["amd64"]
    assert listed(store, import_path(store, layout, platform="linux/arm64")) == ["arm64"]
    with pytest.raises(BadInput, match=r"no image for linux/s390x, only for .*linux/arm64"):
        import_path(store, layout, platform="linux/s390x")


def test_oci_layout_of_several_images_is_told(store: Store, work: str) -> None:
    layout, found = os.path.join(work, "l"), []
    for tag in ("one", "two"):
        oci.write_layout(layout, [oci.layer([(tag, b"1")])], RUN, tag=tag)
        found += read_index(layout)["manifests"]
    write_index(layout, {"schemaVersion": 2, "manifests": found})
    with pytest.raises(BadInput, match="several images: one, two"):
        import_path(store, layout)
    assert listed(store, import_path(store, layout, name="x:two")) == ["two"]


@pytest.mark.parametrize(
    "alter",
    [
        {"manifests": []},
        {"mediaType": "application/vnd.oci.image.index.v1+json"},
        {"schemaVersion": 1},
        {"layers": {}},
        {"layers": [{"digest": "sha256:" + "0" * 64, "size": 1}]},
        {"config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": "sha256:" + "0" * 64, "size": 2}},
        {"fsLayers": []},
    ],
)
def test_38_ambiguous_manifest_is_refused(alter: dict[str, Any], store: Store, work: str) -> None:
    layout = os.path.join(work, "l")
    oci.write_layout(layout, [oci.layer([("a", b"1")])], RUN, alter=alter)
    with pytest.raises(BadInput):
        import_path(store, layout)
    assert store.images() == []
    assert os.listdir(store.data.tmp) == os.listdir(store.data.blobs) == os.listdir(store.data.trees) == []


@pytest.mark.parametrize("wrong", ["layers", "config"])
def test_38_ambiguous_index_is_refused(wrong: str, store: Store, work: str) -> None:
    layout = os.path.join(work, "l")
    oci.write_layout(layout, [oci.layer([("a", b"1")])], RUN)
    write_index(layout, {**read_index(layout), wrong: []})
    with pytest.raises(BadInput, match="ambiguous"):
        import_path(store, layout)


def damage(layout: str, how: str) -> None:
    manifest = read_index(layout)["manifests"][0]
    path = os.path.join(layout, "blobs/sha256", manifest["digest"][7:])
    with open(path, encoding="utf-8") as f:
        layer = json.load(f)["layers"][0]
    target = path if how.startswith("manifest") else os.path.join(layout, "blobs/sha256", layer["digest"][7:])
    with open(target, "rb") as f:
        data = f.read()
    if how.endswith("missing"):
        os.unlink(target)
    elif how.endswith("longer"):
        write(target, data + b"x")
    elif how.endswith("shorter"):
        write(target, data[:-1])
    else:
        write(target, bytes([data[0] ^ 1]) + data[1:])


@pytest.mark.parametrize("what", ["manifest", "layer"])
@pytest.mark.parametrize("how", ["missing", "longer", "shorter", "altered"])
def test_18_damaged_blob_is_refused_and_a_good_one_then_imported(what: str, how: str, store: Store, work: str) -> None:
    layout = os.path.join(work, "l")
    oci.write_layout(layout, [oci.layer([("a", b"1")])], RUN)
    shutil.copytree(layout, os.path.join(work, "good"))
    damage(layout, f"{what}-{how}")
    with pytest.raises(BadInput):
        import_path(store, layout)
    assert os.listdir(store.data.tmp) == os.listdir(store.data.images) == []
    assert listed(store, import_path(store, os.path.join(work, "good"))) == ["a"]


def test_layer_that_the_configuration_does_not_name_is_refused(store: Store, work: str) -> None:
    layout = os.path.join(work, "l")
    oci.write_layout(layout, [oci.layer([("a", b"1")])], RUN)
    other = blob(layout, oci.LAYER, oci.layer([("evil", b"1")]))
    manifest = read_index(layout)["manifests"][0]
    with open(os.path.join(layout, "blobs/sha256", manifest["digest"][7:]), encoding="utf-8") as f:
        value = json.load(f)
    write_index(layout, {"schemaVersion": 2, "manifests": [blob(layout, oci.MANIFEST, {**value, "layers": [other]})]})
    with pytest.raises(BadInput, match="as the configuration says"):
        import_path(store, layout)
    assert store.images() == []


def test_huge_manifest_is_refused_before_it_is_read(store: Store, work: str) -> None:
    layout = os.path.join(work, "l")
    oci.write_layout(layout, [], RUN)
    index = read_index(layout)
    index["manifests"][0]["size"] = 4 << 30
    write_index(layout, index)
    with pytest.raises(LimitExceeded):
        import_path(store, layout)
    with open(os.path.join(layout, "index.json"), "wb") as f:
        f.truncate(1 << 40)
    with pytest.raises(LimitExceeded):
        import_path(store, layout)


def docker_archive(path: str, new_form: bool, tags: list[str]) -> str:
    layers = [oci.layer([("a", b"1"), ("gone", b"1")]), oci.layer([(".wh.gone", b""), ("b", b"2")])]
    config = json.dumps(oci.config(layers, RUN)).encode()
    digest = hashlib.sha256(config).hexdigest()
    names = [hashlib.sha256(data).hexdigest() for data in layers]
    config_name = f"blobs/sha256/{digest}" if new_form else f"{digest}.json"
    layer_names = [f"blobs/sha256/{n}" if new_form else f"{n}/layer.tar" for n in names]
    with tarfile.open(path, "w") as tar:
        for name, data in [*zip(layer_names, layers, strict=True), (config_name, config)]:
            info = tarfile.TarInfo(name)
            if name == layer_names[1] and not new_form:  # as docker does with layers that are the same
                real = tarfile.TarInfo("real/layer.tar")
                real.size = len(data)
                tar.addfile(real, io.BytesIO(data))
                info.type, info.linkname = tarfile.SYMTYPE, "../real/layer.tar"
                tar.addfile(info)
                continue
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        manifest = json.dumps([{"Config": config_name, "RepoTags": tags, "Layers": layer_names}]).encode()
        info = tarfile.TarInfo("manifest.json")
        info.size = len(manifest)
        tar.addfile(info, io.BytesIO(manifest))
    return path


@pytest.mark.parametrize("new_form", [False, True], ids=["old", "new"])
def test_docker_archive(new_form: bool, store: Store, work: str) -> None:
    path = docker_archive(os.path.join(work, "saved.tar"), new_form, ["demo/app:1", "demo/app:2", "other:x"])
    image = import_path(store, path)
    assert image.format == "docker-archive"
    assert listed(store, image) == ["a", "b"]
    assert image.references == ["demo/app:1", "demo/app:2", "other:x"]
    assert import_path(store, path).id == image.id
    assert import_path(store, path, name="mine").references[0] == "mine:latest"


def test_docker_archive_with_a_wrong_layer_is_refused(store: Store, work: str) -> None:
    path = docker_archive(os.path.join(work, "saved.tar"), True, [])
    with open(path, "rb") as f:
        data = f.read()
    write(path, data.replace(b"gone", b"good", 1))
    with pytest.raises(BadInput):
        import_path(store, path)


def test_aci_of_each_compression_is_one_image(store: Store, work: str) -> None:
    data = aci("example.com/app", [("etc", None), ("etc/x", b"1" * 100_000)])
    path = write(os.path.join(work, "plain.aci"), data)
    found = [import_path(store, path)]
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        found.append(import_path(store, write(os.path.join(work, f"{pack.__module__}.aci"), pack(data))))
    subprocess.run(["zstd", "--quiet", path], check=True)
    found.append(import_path(store, path + ".zst"))
    assert {image.id for image in found} == {"sha256:" + hashlib.sha256(data).hexdigest()}
    assert len({image.blobs[0].digest for image in found}) == 5
    shutil.rmtree(store.data.tree(found[-1].tree))
    store.ensure_tree(store.resolve(found[-1].id))  # from the blob that came last
    assert content(store, found[-1], "etc/x") == b"1" * 100_000


def test_aci_with_dependencies_and_whitelist(store: Store, work: str) -> None:
    base = aci("example.com/base", [("etc", None), ("etc/a", b"base"), ("etc/b", b"base"), ("etc/c", b"base")],
               labels=[{"name": "version", "value": "1.0"}])  # fmt: skip
    app = aci(
        "example.com/app",
        [("etc", None), ("etc/b", b"app"), ("bin", None), ("bin/x", b"app")],
        dependencies=[{"imageName": "example.com/base", "labels": [{"name": "version", "value": "1.0"}]}],
        pathWhitelist=["/etc/a", "/etc/b", "/bin/x"],
        app={"exec": ["/bin/x"], "user": "0", "group": "0"},
    )
    base_path, app_path = write(os.path.join(work, "b.aci"), gzip.compress(base)), write(os.path.join(work, "a"), app)
    with pytest.raises(NotFound, match=r"example.com/base version=1.0"):
        import_path(store, app_path)
    assert import_path(store, base_path).references == ["example.com/base:1.0"]
    image = import_path(store, app_path)
    assert listed(store, image) == ["bin", "bin/x", "etc", "etc/a", "etc/b"]
    assert (content(store, image, "etc/a"), content(store, image, "etc/b")) == (b"base", b"app")
    assert image.id == "sha256:" + hashlib.sha256(app).hexdigest()
    store.remove("example.com/base:1.0")
    shutil.rmtree(store.data.tree(image.tree))
    store.ensure_tree(store.resolve(image.id))  # it has its own claim on the blobs of what it depends on
    assert content(store, image, "etc/a") == b"base"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("rootfs", None)], "no image"),
        ([("manifest", b"{}"), ("rootfs", None)], "acKind"),
        ([("manifest", b"{"), ("rootfs", None)], "line 1"),
        ([("manifest", b"{}")], "without rootfs"),
    ],
)
def test_broken_aci_is_refused(members: Members, message: str, store: Store, work: str) -> None:
    with pytest.raises(BadInput, match=message):
        import_path(store, write(os.path.join(work, "x.aci"), oci.layer(members)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty file"),
        (b"\x7fELF" + bytes(2000), "an ELF program"),
        (b"PK\x03\x04" + bytes(2000), "a zip archive"),
        (gzip.compress(b"hello" * 1000), "no tar archive"),
        (os.urandom(5000), "a file of 5000 bytes that is none of these"),
        (b"web.example\n", "a file of 12 bytes that is none of these"),
        (oci.layer([("readme", b"")]), "an archive of readme"),
        (oci.layer([("etc", None), ("etc/x", b"1" * 3000)])[:2600], "middle of an entry"),
    ],
)
def test_what_is_no_image_is_refused_with_what_was_found(data: bytes, message: str, store: Store, work: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        import_path(store, write(os.path.join(work, "x"), data), name="x")
    assert "expected an OCI layout, an ACI, a docker archive or the tar of a rootfs" in str(caught.value)


@pytest.mark.parametrize("name", ["cut.tar", "cut.tar.gz"])
def test_cut_layout_is_refused_by_its_name(name: str, store: Store, work: str) -> None:
    layout = os.path.join(work, "l")
    oci.write_layout(layout, [oci.layer([("f", os.urandom(50_000))])], RUN)
    with open(oci.archive(layout, os.path.join(work, "whole.tar")), "rb") as f:
        data = f.read()
    cut = data[:30_000] if name == "cut.tar" else gzip.compress(data)[:30_000]
    with pytest.raises(BadInput, match=rf"{name}: the archive is damaged"):
        import_path(store, write(os.path.join(work, name), cut), format="oci")
    assert os.listdir(store.data.tmp) == []


def test_what_an_aci_lacks_is_named(store: Store, work: str) -> None:
    with pytest.raises(BadInput, match="it has no file 'manifest'"):
        import_path(store, write(os.path.join(work, "x.aci"), oci.layer([("rootfs", None)])), format="aci")


def test_paths_that_are_no_files_are_refused(store: Store, work: str) -> None:
    fifo = os.path.join(work, "fifo")
    os.mkfifo(fifo)
    for path in (fifo, "/dev/null", os.path.join(work, "missing")):
        with pytest.raises(PodiumError):
            import_path(store, path, name="x")


def test_layout_whose_files_are_links_out_of_it_is_refused(store: Store, work: str) -> None:
    layout = os.path.join(work, "l")
    oci.write_layout(layout, [], RUN)
    os.rename(os.path.join(layout, "index.json"), os.path.join(work, "index.json"))
    os.symlink(os.path.join(work, "index.json"), os.path.join(layout, "index.json"))
    with pytest.raises(BadInput, match=r"index\.json"):
        import_path(store, layout)

"""Images from and to a real registry: TLS, users, tokens, platforms, interrupted transfers; nothing moved twice."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from podium.errors import AccessDenied, BadInput, BadUsage, NotFound, RegistryFailed
from podium.images.importing import import_path
from podium.images.registry.fetching import fetch_image
from podium.images.registry.pushing import push_image
from podium.store.image import Image
from podium.store.store import Store
from support import oci, registry
from support.command import Podium
from support.registry import Authority, Proxy, Registry
from support.terminal import Screen

INDEX = "application/vnd.oci.image.index.v1+json"
BIG = 3 << 20  # bytes; three chunks


@pytest.fixture(scope="module")
def authority(session_dir: str) -> Authority:
    return Authority(os.path.join(session_dir, "authority"))


@pytest.fixture
def proxy(work: str) -> Iterator[Proxy]:
    server = Registry(os.path.join(work, "registry"))
    with registry.watched(server) as made:
        yield made
    server.close()


def fetch(store: Store, address: str, **options: Any) -> Image:
    return fetch_image(store, f"docker://{address}", tls_verify=False, **options)


def push(store: Store, ref: str, address: str) -> str:
    return push_image(store, ref, f"docker://{address}", tls_verify=False)


def another(store: Store, work: str, name: str = "other") -> Store:
    """A second, empty store."""
    from podium.format import ensure
    from podium.paths import DataDir

    data = DataDir(os.path.join(work, name))
    ensure(data)
    return Store(data, store.limits)


def make(store: Store, work: str, name: str, *own: bytes, base: int = 1000, **config: Any) -> tuple[Image, str]:
    """An image of one layer that all have and layers of its own; and the digest of its manifest."""
    layers = [oci.layer([("base", b"b" * base)]), *(oci.layer([(f"own-{n}", c)]) for n, c in enumerate(own))]
    layout = os.path.join(work, f"layout-{name}")
    digest = oci.write_layout(layout, layers, {"Cmd": ["/x"], **config}, tag=f"{name}:1", compress=False)
    return import_path(store, layout), digest


def test_pushed_and_fetched_it_is_the_same_image(store: Store, work: str, proxy: Proxy) -> None:
    image, digest = make(store, work, "web", b"1", b"2")
    assert push(store, "web:1", f"{proxy.host}/team/web:1") == digest
    inspected = ["skopeo", "inspect", "--tls-verify=false", f"docker://{proxy.registry.host}/team/web:1"]
    assert json.loads(subprocess.run(inspected, check=True, capture_output=True).stdout)["Digest"] == digest
    there = another(store, work)
    fetched = fetch(there, f"{proxy.host}/team/web:1")
    assert fetched.id == image.id
    assert fetched.references == [f"{proxy.host}/team/web:1"]
    assert os.listdir(there.data.partial) == os.listdir(there.data.tmp) == []
    assert [v.problems for v in there.verify()] == [[]]
    by_digest = fetch(another(store, work, "third"), f"{proxy.host}/team/web@{digest}", name="short:7")
    assert (by_digest.id, by_digest.references) == (image.id, ["short:7"])


def test_nothing_is_moved_that_is_there(store: Store, work: str, proxy: Proxy) -> None:
    make(store, work, "one", b"1")
    _, second = make(store, work, "two", b"2")
    push(store, "one:1", f"{proxy.host}/x:1")
    proxy.log.clear()
    push(store, "one:1", f"{proxy.host}/x:again")
    assert not [line for line in proxy.log if line.startswith(("POST", "PATCH"))]
    push(store, "two:1", f"{proxy.host}/x:2")
    assert len([line for line in proxy.log if line.startswith("POST")]) == 2  # its own layer and configuration
    there = another(store, work)
    fetch(there, f"{proxy.host}/x:1")
    proxy.log.clear()
    fetch(there, f"{proxy.host}/x:1")
    assert [line.split()[0] for line in proxy.log if "/manifests/" in line] == ["HEAD"]
    assert proxy.blobs() == []
    fetch(there, f"{proxy.host}/x:2")
    assert len(proxy.blobs()) == 2
    proxy.registry.close()
    assert fetch(there, f"{proxy.host}/x@{second}").references[0] == f"{proxy.host}/x@{second}"  # asks nobody


def test_platform_is_chosen_from_an_index(store: Store, work: str, proxy: Proxy) -> None:
    described = []
    for arch in ("amd64", "arm64"):
        layout = os.path.join(work, arch)
        layer = oci.layer([("arch", arch.encode())])
        config = {**oci.config([layer], {"Cmd": ["/x"]}), "architecture": arch}
        raw = json.dumps(config).encode()
        oci.write_layout(layout, [layer], {}, tag=f"{arch}:1", compress=False)
        described.append(_with_config(layout, raw, arch))
        import_path(store, layout)
        push(store, f"{arch}:1", f"{proxy.host}/multi:{arch}")
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": described}).encode()
    request = urllib.request.Request(
        f"http://{proxy.host}/v2/multi/manifests/latest", index, {"Content-Type": INDEX}, method="PUT"
    )
    urllib.request.urlopen(request).close()
    there = another(store, work)
    own = fetch(there, f"{proxy.host}/multi")
    other = fetch(there, f"{proxy.host}/multi", platform="linux/arm64", name="multi:arm")
    assert (own.arch, other.arch) == ("amd64", "aarch64")
    with pytest.raises(BadInput, match="no image for linux/s390x, only for linux/amd64, linux/arm64"):
        fetch(there, f"{proxy.host}/multi", platform="linux/s390x")
    with pytest.raises(BadInput, match="is an image for linux/amd64, not for linux/arm64"):
        fetch(there, f"{proxy.host}/multi:amd64", platform="linux/arm64")
    digest = "sha256:" + hashlib.sha256(index).hexdigest()
    assert fetch(another(store, work, "third"), f"{proxy.host}/multi@{digest}").id == own.id


def _with_config(layout: str, raw: bytes, arch: str) -> dict[str, Any]:
    """Give the image of a layout another configuration; its descriptor for an index."""
    blobs = os.path.join(layout, "blobs/sha256")
    with open(os.path.join(layout, "index.json"), encoding="utf-8") as f:
        index = json.load(f)
    (entry,) = index["manifests"]
    with open(os.path.join(blobs, entry["digest"][7:]), encoding="utf-8") as f:
        manifest = json.load(f)
    for data, descriptor in ((raw, manifest["config"]), (None, entry)):
        content = json.dumps(manifest).encode() if data is None else data
        descriptor.update(digest="sha256:" + hashlib.sha256(content).hexdigest(), size=len(content))
        with open(os.path.join(blobs, descriptor["digest"][7:]), "wb") as f:
            f.write(content)
    with open(os.path.join(layout, "index.json"), "w", encoding="utf-8") as f:
        json.dump(index, f)
    plain = {k: entry[k] for k in ("mediaType", "digest", "size")}
    return {**plain, "platform": {"os": "linux", "architecture": arch}}


def test_lost_connections_are_taken_up_where_they_broke(store: Store, work: str, proxy: Proxy) -> None:
    image, _ = make(store, work, "big", os.urandom(BIG))
    push(store, "big:1", f"{proxy.host}/big:1")
    proxy.log.clear()
    proxy.cuts = [2 << 20, 500_000]
    assert fetch(another(store, work), f"{proxy.host}/big:1").id == image.id
    ranges = [line.split()[2] for line in proxy.log if "bytes=" in line]
    assert len(ranges) == 2 and all(int(r[len("bytes=") : -1]) >= 1 << 20 for r in ranges)
    proxy.cuts = [0] * 100
    with pytest.raises(RegistryFailed, match="lost again and again"):
        fetch(another(store, work, "third"), f"{proxy.host}/big:1")


def test_killed_fetch_is_taken_up_by_the_next(podium: Podium, store: Store, work: str, proxy: Proxy) -> None:
    source = another(store, work, "source")
    image, _ = make(source, work, "big", os.urandom(BIG))
    push(source, "big:1", f"{proxy.host}/big:1")
    words = ("image", "fetch", "--tls-verify=false", f"docker://{proxy.host}/big:1")
    killed = podium.using(podium.binary, PODIUM_TRACE_KILL="fetch:chunk#3")(*words, check=None)
    assert killed.returncode == -signal.SIGKILL
    assert podium.json("image", "list")["images"] == []
    proxy.log.clear()
    assert podium.out(*words) == image.id
    assert [line for line in proxy.log if "bytes=" in line], "it began anew"
    assert os.listdir(os.path.join(podium.dir, "cache/partial")) == []


def test_interrupt_from_the_keyboard_ends_a_stalled_fetch(
    podium: Podium, store: Store, work: str, proxy: Proxy
) -> None:
    source = another(store, work, "source")
    image, _ = make(source, work, "big", os.urandom(BIG))
    push(source, "big:1", f"{proxy.host}/big:1")
    words = ("image", "fetch", "--tls-verify=false", f"docker://{proxy.host}/big:1")
    proxy.go_on.clear()
    stalled = podium.start(*words)
    try:
        partial = os.path.join(podium.dir, "cache/partial")
        deadline = time.monotonic() + 30
        while not any(os.stat(f"{p}/{n}").st_size >= 1 << 20 for p, _, names in os.walk(partial) for n in names):
            assert stalled.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        stalled.send_signal(signal.SIGINT)
        told = stalled.communicate(timeout=15)[1]  # sooner than the connection's own time limit
    finally:
        stalled.kill()
        proxy.go_on.set()
    assert (stalled.returncode, "Traceback" in told) == (130, False), told
    assert podium.out(*words) == image.id
    assert [e["kind"] for e in events(podium)].count("image-imported") == 1


def events(podium: Podium) -> list[dict[str, Any]]:
    return [json.loads(line) for line in podium.out("events", "--format", "json").splitlines()]


def test_what_is_left_of_a_fetch_is_collected(podium: Podium, store: Store, work: str, proxy: Proxy) -> None:
    source = another(store, work, "source")
    make(source, work, "big", os.urandom(BIG))
    push(source, "big:1", f"{proxy.host}/big:1")
    words = ("image", "fetch", "--tls-verify=false", f"docker://{proxy.host}/big:1")
    podium.using(podium.binary, PODIUM_TRACE_KILL="fetch:chunk#3")(*words, check=None)
    podium("image", "gc")
    arrived = os.listdir(os.path.join(podium.dir, "cache/partial"))
    assert arrived != [], "a fetch that may be taken up still was removed"
    assert set(arrived) <= set(podium.json("image", "gc", "--grace-period", "0s")["leftovers"])
    assert os.listdir(os.path.join(podium.dir, "cache/partial")) == []


def test_altered_blobs_are_refused_and_leave_nothing(store: Store, work: str, proxy: Proxy) -> None:
    make(store, work, "big", os.urandom(1000))
    push(store, "big:1", f"{proxy.host}/big:1")
    there = another(store, work)
    proxy.spoil = True
    with pytest.raises(BadInput, match="damaged: expected sha256:"):
        fetch(there, f"{proxy.host}/big:1")
    assert os.listdir(there.data.blobs) == os.listdir(there.data.images) == []
    proxy.spoil = False
    assert fetch(there, f"{proxy.host}/big:1").name == f"{proxy.host}/big"


def test_fetches_at_the_same_time_get_each_blob_once(store: Store, work: str, proxy: Proxy) -> None:
    image, _ = make(store, work, "big", os.urandom(BIG), b"2", b"3")
    make(store, work, "near", os.urandom(1000), b"3")
    for name in ("big", "near"):
        push(store, f"{name}:1", f"{proxy.host}/{name}:1")
    there = another(store, work)
    proxy.log.clear()
    names = ["big", "near", "big", "big"]
    found: list[str] = []
    threads = [threading.Thread(target=lambda n=n: found.append(fetch(there, f"{proxy.host}/{n}:1").id)) for n in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and found.count(image.id) == 3
    layers = {b.digest for i in there.images() for b in i.blobs if b.role == "layer"}
    got = [d for d in proxy.blobs() if d in layers]
    assert sorted(got) == sorted(layers)


def test_tls_and_users(podium: Podium, work: str, authority: Authority, busybox_oci: str) -> None:
    server = Registry(os.path.join(work, "registry"), authority, registry.users(work))
    try:
        podium("image", "import", busybox_oci, "--name", "box:1")
        address = f"docker://{server.host}/box:1"
        good = registry.auth_file(os.path.join(work, "good.json"), server.host)
        bad = registry.auth_file(os.path.join(work, "bad.json"), server.host, password="wrong")
        unknown = podium.using(podium.binary, REGISTRY_AUTH_FILE=good)
        refused = unknown("image", "push", "box:1", address, check=1)
        assert "certificate" in refused.stderr and "certs.d" in refused.stderr
        assert "its certificate is not trusted" in refused.stderr
        pushed = unknown("image", "push", "--tls-verify=false", "box:1", address)
        assert pushed.stdout.startswith("sha256:")
        assert pushed.stderr == ""
        trusted = podium.using(podium.binary, SSL_CERT_FILE=authority.ca, REGISTRY_AUTH_FILE=good)
        podium("image", "rm", "box:1")
        fetched = trusted.out("image", "fetch", address, "--name", "box:1")
        assert podium.out("run", "--rm", "--stage1", "fly", "--net", "host", "box:1", "--exec", "/bin/echo", "--", "hi")
        folder = os.path.join(work, "home/.config/containers/certs.d", server.host)
        os.makedirs(folder)
        os.symlink(authority.ca, os.path.join(folder, "ca.crt"))
        at_home = podium.using(podium.binary, HOME=os.path.join(work, "home"), REGISTRY_AUTH_FILE=good)
        assert at_home.out("image", "fetch", address) == fetched
        shell = ("run", "--rm", "--stage1", "fly", "--net", "host", address, "--exec", "/bin/echo", "--", "hi")
        podium("image", "rm", f"{server.host}/box:1", "box:1")
        assert trusted.out(*shell) == "hi"
        assert podium.out(*shell) == "hi"  # it is in the store now: nobody is asked
        podium("image", "rm", f"{server.host}/box:1")
        refused = unknown(*shell, check=125)
        assert "certificate" in refused.stderr and "--tls-verify=false" in refused.stderr
        assert unknown.out("run", "--tls-verify=false", *shell[1:]) == "hi"
        for file, told in ((bad, "refuses access"), (os.path.join(work, "none.json"), "wants a user")):
            denied = trusted.using(podium.binary, REGISTRY_AUTH_FILE=file)("image", "fetch", address, check=1)
            assert told in denied.stderr and "podman login" in denied.stderr
    finally:
        server.close()


def test_tokens(store: Store, work: str, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry.token_server(authority) as (auth, scopes):
        server = Registry(os.path.join(work, "registry"), authority, auth)
        try:
            monkeypatch.setenv("SSL_CERT_FILE", authority.ca)
            good = registry.auth_file(os.path.join(work, "good.json"), f"{server.host}/team")
            monkeypatch.setenv("REGISTRY_AUTH_FILE", good)
            image, digest = make(store, work, "web", b"1", b"2", b"3")
            address = f"docker://{server.host}/team/web:1"
            assert push_image(store, "web:1", address) == digest
            assert fetch_image(another(store, work), address).id == image.id
            assert set(scopes) == {"repository:team/web:pull,push", "repository:team/web:pull"}
            monkeypatch.setenv("REGISTRY_AUTH_FILE", os.path.join(work, "none.json"))
            with pytest.raises(AccessDenied, match="who are you"):
                fetch_image(another(store, work, "third"), address)
        finally:
            server.close()


def test_a_certificate_is_shown_to_who_wants_one(
    store: Store, work: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Registry(os.path.join(work, "registry"), authority, clients=authority)
    try:
        monkeypatch.setenv("HOME", work)
        folder = os.path.join(work, ".config/containers/certs.d", server.host)
        os.makedirs(folder)
        os.symlink(authority.ca, os.path.join(folder, "ca.crt"))
        _, digest = make(store, work, "web")
        address = f"docker://{server.host}/web:1"
        with pytest.raises(RegistryFailed, match="it wants a certificate") as refused:
            push_image(store, "web:1", address)
        assert f"{server.host}/client.cert" in str(refused.value.hint)
        os.symlink(authority.cert, os.path.join(folder, "mine.cert"))
        os.symlink(authority.key, os.path.join(folder, "mine.key"))
        assert push_image(store, "web:1", address) == digest
    finally:
        server.close()


def test_proxies_of_the_environment(
    store: Store, work: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Registry(os.path.join(work, "registry"), authority)
    try:
        monkeypatch.setenv("SSL_CERT_FILE", authority.ca)
        image, digest = make(store, work, "web")
        address = f"docker://{server.host}/web:1"
        with registry.tunnel() as (proxy, asked):
            monkeypatch.setenv("HTTPS_PROXY", proxy)
            assert push_image(store, "web:1", address) == digest
            assert set(asked) == {server.host}
            asked.clear()
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            assert fetch_image(another(store, work), address).id == image.id
            assert asked == []
    finally:
        server.close()


def test_errors_name_what_is_wrong(store: Store, work: str, proxy: Proxy) -> None:
    with pytest.raises(NotFound, match="nothing:1 is not there"):
        fetch(store, f"{proxy.host}/nothing:1")
    with pytest.raises(RegistryFailed, match=r"reached: Connection refused$"):
        fetch(store, f"127.0.0.1:{registry.free_port()}/x:1")
    with pytest.raises(RegistryFailed, match="can't be reached: it speaks no TLS"):
        fetch_image(store, f"docker://{proxy.host}/x:1")
    make(store, work, "web")
    with pytest.raises(BadUsage, match="has a tag"):
        push(store, "web:1", f"{proxy.host}/web@sha256:{'0' * 64}")
    with pytest.raises(NotFound):
        push(store, "nothing", f"{proxy.host}/web:1")


def test_rootfs_and_docker_archive_are_pushed(podium: Podium, work: str, proxy: Proxy, busybox_oci: str) -> None:
    """What came in another form goes as an OCI image, which others read."""
    saved = os.path.join(work, "saved.tar")
    subprocess.run(["skopeo", "copy", f"oci-archive:{busybox_oci}", f"docker-archive:{saved}:box:1"], check=True)
    os.makedirs(os.path.join(work, "root/etc"))
    podium("image", "import", saved, "--name", "docker:1")
    podium("image", "import", os.path.join(work, "root"), "--name", "bare:1", "--exec", "/bin/sh")
    for name, layers in (("docker", 3), ("bare", 1)):
        podium("image", "push", "--tls-verify=false", f"{name}:1", f"docker://{proxy.host}/{name}")
        copied = f"oci:{os.path.join(work, name)}:x"
        subprocess.run(
            ["skopeo", "copy", "--src-tls-verify=false", f"docker://{proxy.registry.host}/{name}:latest", copied],
            check=True,
            capture_output=True,
        )
        shown = subprocess.run(["skopeo", "inspect", copied], check=True, capture_output=True)
        assert len(json.loads(shown.stdout)["Layers"]) == layers


def test_a_bar_is_shown_on_a_terminal(podium: Podium, store: Store, work: str, proxy: Proxy) -> None:
    source = another(store, work, "source")
    make(source, work, "big", os.urandom(BIG))
    address = f"docker://{proxy.host}/big:1"
    assert f"pushing big:1 [{'#' * 24}] 100%" in on_a_terminal(podium, source, "push", "big:1", address)
    shown = on_a_terminal(podium, store, "fetch", address)
    assert f"fetching {address} [" in shown
    assert "%" in shown


def on_a_terminal(podium: Podium, store: Store, verb: str, *words: str) -> str:
    """What a command shows there."""
    argv = [podium.argv()[0], "--dir", store.data.root, "image", verb, "--tls-verify=false", *words]
    screen = Screen(argv, podium.environment())
    try:
        assert screen.end() == 0, screen.shown
    finally:
        screen.close()
    return screen.shown

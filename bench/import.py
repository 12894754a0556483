"""How long an OCI archive of 200 MB and 20,000 files takes to be imported and rendered, beside `podman load` of it.

python bench/import.py [--rounds 3]

Each command has a new ext4 of its own, on a loop device: for some minutes after files were removed ext4 looks at their
inodes again for every file that it makes there, so what ran before would be measured too. The archive is imported a
second time, and one of 2 MB, for the memory. `tar -x` of the layers, one after the other, is what the files alone
cost. podman uses overlay where it can, else vfs; it does not sync what it wrote, podium does. Processor times are told
too: they depend less on what else the machine does.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from measuring import PODIUM, arguments, data_directory, median, show, verdict

RATIO, AGAIN, MORE_MEMORY = 0.5, 0.3, 16.0  # of podman's time; seconds; MiB more for 100 times the size
_FILES, _SIZE, _LAYERS = 20_000, 10_000, 4


def make_archive(path: str, files: int) -> None:
    """An OCI archive of files in folders of a hundred, in a few gzipped layers; half of the bytes are random."""
    layers = []
    with tarfile.open(path, "w") as out:
        for number in range(_LAYERS):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
                folders: set[int] = set()
                for n in range(number, files, _LAYERS):
                    if n // 100 not in folders:
                        folders.add(n // 100)
                        folder = tarfile.TarInfo(f"data/{n // 100}")
                        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                        tar.addfile(folder)
                    info = tarfile.TarInfo(f"data/{n // 100}/{n}")
                    info.size = _SIZE
                    tar.addfile(info, io.BytesIO(os.urandom(_SIZE // 2) * 2))
            data = buffer.getvalue()
            packed = subprocess.run(["gzip", "-1", "-n"], input=data, capture_output=True, check=True).stdout
            layers.append(("sha256:" + hashlib.sha256(data).hexdigest(), packed))
        config = {
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/x"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for diff_id, _ in layers]},
        }  # fmt: skip
        kind = "application/vnd.oci.image."
        manifest = {
            "schemaVersion": 2,
            "config": _add(out, kind + "config.v1+json", json.dumps(config).encode()),
            "layers": [_add(out, kind + "layer.v1.tar+gzip", packed) for _, packed in layers],
        }
        described = _add(out, kind + "manifest.v1+json", json.dumps(manifest).encode())
        described["annotations"] = {"org.opencontainers.image.ref.name": "bench/large:1"}
        _write(out, "index.json", json.dumps({"schemaVersion": 2, "manifests": [described]}).encode())
        _write(out, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')


def apart(work: Callable[[str, int], None], path: str, files: int) -> None:
    """Call it in a process of its own: what this one holds at most counts for those that it starts (getrusage(2))."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            work(path, files)
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit(f"{path} could not be made")


def _add(out: tarfile.TarFile, media: str, data: bytes) -> dict[str, object]:
    digits = hashlib.sha256(data).hexdigest()
    _write(out, f"blobs/sha256/{digits}", data)
    return {"mediaType": media, "digest": f"sha256:{digits}", "size": len(data)}


def _write(out: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    out.addfile(info, io.BytesIO(data))


class Taken(NamedTuple):
    """Milliseconds that a command took, those of processors that it used, and MiB that it held at most."""

    elapsed: float
    processor: float
    memory: float


def timed(command: Sequence[str]) -> Taken:
    """Run a command, when what was written before is on the disk."""
    os.sync()
    start = time.perf_counter()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    told = child.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(child.pid, 0)
    taken = (time.perf_counter() - start) * 1000
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stderr.close()
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}: {told[-500:]}")
    return Taken(taken, (usage.ru_utime + usage.ru_stime) * 1000, usage.ru_maxrss / 1024)


def podman(root: str, driver: str, *words: str) -> list[str]:
    """podman on a storage below `root`."""
    places = ["--root", f"{root}/podman", "--runroot", f"{root}/podman-run"]
    return ["podman", *places, "--storage-driver", driver, "--cgroup-manager", "cgroupfs", *words]


@contextmanager
def new_disk(root: str) -> Iterator[str]:
    """An empty ext4 of 4 GiB, mounted; its folder."""
    disk, folder = os.path.join(root, "disk"), os.path.join(root, "mounted")
    with open(disk, "wb") as f:
        f.truncate(4 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", disk], check=True)
    loop = subprocess.check_output(["losetup", "--find", "--show", "--direct-io=on", disk], text=True).strip()
    try:
        os.makedirs(folder, exist_ok=True)
        subprocess.run(["mount", loop, folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", f"{folder}/podman/overlay"], capture_output=True, check=False)
            subprocess.run(["umount", folder], check=True)
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)
        os.unlink(disk)


def driver_for(root: str) -> str:
    """podman's fastest driver that works here."""
    with new_disk(root) as folder:
        done = subprocess.run(podman(folder, "overlay", "info"), capture_output=True, check=False)
    return "vfs" if done.returncode else "overlay"


def by_tar(root: str, archive: str) -> Taken:
    """GNU tar unpacks the layers."""
    with new_disk(root) as folder:
        layout, out = os.path.join(folder, "layout"), os.path.join(folder, "out")
        os.mkdir(layout)
        os.mkdir(out)
        subprocess.run(["tar", "-C", layout, "-xf", archive], check=True)
        layers = [entry.path for entry in os.scandir(f"{layout}/blobs/sha256") if entry.stat().st_size > 1 << 16]
        script = 'out=$1; shift; for layer; do tar -C "$out" -xzf "$layer" || exit; done'
        return timed(["sh", "-c", script, "sh", out, *layers])


def main() -> None:
    """Measure."""
    args = arguments(__doc__, 3)
    if shutil.which("podman") is None:
        raise SystemExit("there is no podman: apt-get install podman crun")
    with data_directory() as root:
        large, small = os.path.join(root, "large.tar"), os.path.join(root, "small.tar")
        for path, files in ((large, _FILES), (small, _FILES // 100)):
            apart(make_archive, path, files)
        driver = driver_for(root)
        rounds: list[tuple[Taken, ...]] = []
        for _ in range(args.rounds):
            with new_disk(root) as folder:
                command = [PODIUM, "--dir", f"{folder}/data", "image", "import"]
                own = [timed([*command, path]) for path in (large, large, small)]
            with new_disk(root) as folder:
                peer = timed(podman(folder, driver, "load", "--input", large))
            rounds.append((*own, peer, by_tar(root, large)))
    podiums, agains, littles, podmans, tars = zip(*rounds, strict=True)
    print(f"an OCI archive of 200 MB, 20,000 files, {_LAYERS} gzipped layers; podman's driver is {driver}")
    columns = {"podium": podiums, "podman": podmans, "tar": tars, "podium again": agains}
    elapsed = {name: sorted(t.elapsed for t in column) for name, column in columns.items()}
    processor = {f"{name}, processor": sorted(t.processor for t in column) for name, column in columns.items()}
    show({**elapsed, **processor})
    verdict("of podman's time (medians)", median(elapsed["podium"]) / median(elapsed["podman"]), RATIO, "")
    print(f"  of tar's time (medians): {median(elapsed['podium']) / median(elapsed['tar']):.2f}")
    share = median(processor["podium, processor"]) / median(processor["podman, processor"])
    print(f"  of podman's processor time (medians): {share:.2f}")
    verdict("imported again (median)", median(elapsed["podium again"]) / 1000, AGAIN, " s")
    more = max(t.memory for t in podiums) - max(t.memory for t in littles)
    verdict("more memory than for 2 MB", more, MORE_MEMORY, " MiB")


if __name__ == "__main__":
    main()

"""Plugin distributions and venvs: real wheels, really installed, upgraded and removed, in fractions of a second.

A venv of the tests has podium as a *copy* of the sources, so that a test can change its core there, and the libraries
of the venv that runs the tests as links.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Mapping
from importlib import metadata

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARIES = ("pluggy", "python-prctl", "pyroute2", "psutil", "toml", "zstandard")
# What pytest and a build of a plugin need, linked into a venv in place of a download.
TOOLS = ("pytest", "iniconfig", "packaging", "pygments", "hatchling", "pathspec", "trove-classifiers", "editables")
PODIUM = {"podium": "core/podium"} | {
    f"podium_{name}": f"plugins/{name}/podium_{name}" for name in ("fly", "nspawn", "kvm")
}


def make_plugin_dist(
    folder: str,
    name: str,
    version: str,
    code: str | Mapping[str, str],
    *,
    plugin: str | None = None,
    entry: str | None = None,
    group: str = "podium.stage1",
    requires: tuple[str, ...] = (),
) -> str:
    """Write a wheel with one package; returns its path.

    Args:
        folder: where the wheel goes.
        name: of the distribution; its package has `_` for `-`.
        version: of the distribution.
        code: the package's `__init__.py`, or file name → content.
        plugin: name of the entry point (default: `name`).
        entry: its value (default: the package).
        group: of the entry point.
        requires: other distributions.
    """
    package = name.replace("-", "_")
    sources = {"__init__.py": code} if isinstance(code, str) else dict(code)
    info = f"{package}-{version}.dist-info"
    required = "".join(f"Requires-Dist: {r}\n" for r in requires)
    files = {f"{package}/{file}": content for file, content in sources.items()} | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[{group}]\n{plugin or name} = {entry or package}\n",
    }
    files[f"{info}/RECORD"] = _record(files, info)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"{package}-{version}-py3-none-any.whl")
    with zipfile.ZipFile(path, "w") as wheel:
        for file, content in files.items():
            wheel.writestr(file, content)
    return path


def _record(files: Mapping[str, str], info: str) -> str:
    lines = []
    for file, content in files.items():
        data = content.encode()
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{file},sha256={digest},{len(data)}")
    return "\n".join([*lines, f"{info}/RECORD,,"]) + "\n"


class Venv:
    """A virtual environment with a copy of podium.

    Attributes:
        path: its folder.
        python: its interpreter.
        podium: its podium command.
        site: its site-packages.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.python = os.path.join(path, "bin", "python")
        self.podium = os.path.join(path, "bin", "podium")
        self.site = sysconfig.get_path("purelib", "venv", {"base": path, "platbase": path, "installed_base": path})

    @classmethod
    def make(cls, path: str, *wheels: str, sources: str = REPOSITORY) -> Venv:
        """Make one, with podium as it is in the sources (now, or unpacked elsewhere), its libraries, and the wheels."""
        venv.EnvBuilder(with_pip=False, symlinks=True).create(path)
        made = cls(path)
        for library in LIBRARIES:
            made._link(library)
        made._copy_podium(sources)
        for wheel in wheels:
            made.install(wheel)
        return made

    def link(self, *libraries: str) -> None:
        """Have libraries of the tests' own venv too."""
        for library in libraries:
            self._link(library)

    def install(self, wheel: str) -> None:
        """Install a wheel in place of any other version of it, as an installer does: by its RECORD."""
        with zipfile.ZipFile(wheel) as archive:
            info = next(n.split("/")[0] for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
            self.uninstall(info.partition("-")[0].replace("_", "-"), missing_ok=True)
            archive.extractall(self.site)

    def uninstall(self, name: str, *, missing_ok: bool = False) -> None:
        """Remove a distribution that `install` or pip installed.

        Raises:
            metadata.PackageNotFoundError: it is not installed.
        """
        found = next(iter(metadata.distributions(name=name, path=[self.site])), None)
        if found is None:
            if missing_ok:
                return
            raise metadata.PackageNotFoundError(name)
        for top in {str(file).split("/")[0] for file in found.files or ()}:
            path = os.path.join(self.site, top)
            if os.path.isdir(path):
                shutil.rmtree(path)
            elif os.path.lexists(path):
                os.unlink(path)

    def pip(self, *args: str) -> None:
        """Run the test venv's pip on this one, offline (slower than `install`, and the real thing)."""
        command = [sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check", "--quiet"]
        subprocess.run([*command, *args], stdin=subprocess.DEVNULL, check=True)

    def patch(self, file: str, old: str, new: str) -> None:
        """Replace text in a file of podium's (or a plugin's) installed code, `file` being relative to site-packages.

        Raises:
            AssertionError: the text is not there exactly once.
        """
        path = os.path.join(self.site, file)
        with open(path, encoding="utf-8") as f:
            content = f.read()
        assert content.count(old) == 1, f"{old!r} is {content.count(old)} times in {file}"
        with open(path, "w", encoding="utf-8") as f:
            f.write(content.replace(old, new))

    def _link(self, library: str) -> None:
        """Link a library of our own venv into this one: what a pin copies it must find as if it were installed."""
        found = metadata.distribution(library)
        for top in {str(file).split("/")[0] for file in found.files or () if not str(file).startswith("..")}:
            target = os.path.join(self.site, top)
            if top != "__pycache__" and not os.path.lexists(target):
                os.symlink(str(found.locate_file(top)), target)

    def _copy_podium(self, sources: str) -> None:
        for package, source in PODIUM.items():
            shutil.copytree(
                os.path.join(sources, source),
                os.path.join(self.site, package),
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        with open(os.path.join(sources, "pyproject.toml"), "rb") as f:
            project = tomllib.load(f)["project"]
        info = os.path.join(self.site, f"podium-{project['version']}.dist-info")
        os.mkdir(info)
        required = "".join(f"Requires-Dist: {r}\n" for r in project["dependencies"])
        points = {"console_scripts": project["scripts"], **project["entry-points"]}
        for name, content in {
            "METADATA": f"Metadata-Version: 2.1\nName: podium\nVersion: {project['version']}\n{required}",
            "entry_points.txt": "\n".join(
                f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items())
                for group, entries in points.items()
            ),
        }.items():
            with open(os.path.join(info, name), "w", encoding="utf-8") as f:
                f.write(content)
        with open(self.podium, "w", encoding="utf-8") as f:
            f.write(f"#!{self.python}\nimport sys\nfrom podium.cli.main import main\nsys.exit(main())\n")
        os.chmod(self.podium, 0o755)

"""The conformance suite: what every stage1 plugin has to do, held against what it says of itself."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import pytest

from podium.testing import cleanup, effects, networks
from podium.testing.checks import confine, volumes
from podium.testing.checks.confine import ConfineChecks
from podium.testing.checks.enter import EnterChecks
from podium.testing.checks.hooks import HookChecks
from podium.testing.checks.leaks import LeakChecks
from podium.testing.checks.life import LifeChecks
from podium.testing.checks.network import NetworkChecks
from podium.testing.checks.records import RecordChecks
from podium.testing.checks.volumes import VolumeChecks
from podium.testing.command import INSTALLED, Podium
from podium.testing.effects import Shown
from podium.testing.pods import IMAGE, Pods
from podium.testing.rootfs import make_busybox_rootfs
from podium.testing.snapshot import Scope, cgroup_mounts

_CONFIG = """\
[cgroup]
parent = "{parent}"

[stage1]
prepare-timeout = {limit}
gc-timeout = {limit}
stop-timeout = {limit}

"""


def unknown_checks(suite: type, names: Iterable[str]) -> list[str]:
    """Those names that are no check's of a suite."""
    return [name for name in names if not callable(getattr(suite, name.partition("[")[0], None))]


class Stage1Suite(
    HookChecks, LifeChecks, EnterChecks, ConfineChecks, NetworkChecks, VolumeChecks, LeakChecks, RecordChecks
):
    """Derive a class whose name begins with `Test`, and name the plugin. What the plugin's `info` claims is tested by
    its effect; what it does not claim must be refused.

    Attributes:
        plugin: name of the plugin, as its entry point has it.
        real: run the checks that start pods, too. They need root.
        xfails: name of a check (`test_volume[tmpfs]`, or `test_volume` for all of its kinds) → why it is known to
            fail. One that passes after all fails the suite; so does a name that is no check's.
        environment: what podium's environment has besides that of the tests.
        patience: seconds that what a pod held has to be gone in.
        limit: seconds that a `prepare`, `gc` or `stop` may take.

    The fixtures `command`, `rootfs` and `options` can be overridden.
    """

    plugin: ClassVar[str]
    real: ClassVar[bool] = True
    xfails: ClassVar[Mapping[str, str]] = {}
    environment: ClassVar[Mapping[str, str]] = {}
    patience: ClassVar[float] = 10.0
    limit: ClassVar[float] = 20.0

    def __init_subclass__(cls) -> None:
        """Refuse known failures of checks that are not there: a misspelt one would hide nothing."""
        unknown = unknown_checks(cls, cls.xfails)
        if unknown:
            raise TypeError(f"{cls.__name__}.xfails: no check is called {unknown[0]!r}")

    @pytest.fixture(autouse=True)
    def _known_failures(self, request: pytest.FixtureRequest) -> None:
        for name in (request.node.name, request.node.name.partition("[")[0]):
            if name in self.xfails:
                request.node.add_marker(pytest.mark.xfail(reason=self.xfails[name], strict=True))
                break

    @pytest.fixture(scope="class")
    @classmethod
    def command(cls) -> str:
        """The podium command: that of the interpreter which runs the tests."""
        return INSTALLED

    @pytest.fixture(scope="class")
    @classmethod
    def workspace(cls) -> Iterator[str]:
        """A folder of the suite's own on a real file system."""
        folder = tempfile.mkdtemp(prefix="podium-", dir=os.environ.get("PODIUM_TEST_DIR", "/var/tmp"))
        yield folder
        cleanup.remove_folder(folder)

    @pytest.fixture(scope="class")
    @classmethod
    def rootfs(cls, workspace: str) -> str:
        """Folder of the rootfs that the pods run: it has busybox, its applets and the user `app` (1000)."""
        return make_busybox_rootfs(os.path.join(workspace, "rootfs"))

    @pytest.fixture(scope="class")
    @classmethod
    def suite_scope(cls, workspace: str) -> Scope:
        """What of the host is the suite's."""
        parent = os.path.basename(workspace)
        return Scope({workspace + "/", parent}, None, {f"cgroup:{mount}/{parent}" for mount in cgroup_mounts()})

    @pytest.fixture(scope="class")
    @classmethod
    def podium(cls, command: str, workspace: str, suite_scope: Scope) -> Iterator[Podium]:
        """The podium command on a data directory of the suite's own."""
        config, parent = os.path.join(workspace, "config.toml"), os.path.basename(workspace)
        with open(config, "w", encoding="utf-8") as f:
            f.write(_CONFIG.format(parent=parent, limit=cls.limit) + networks.settings(workspace))
        yield Podium(os.path.join(workspace, "data"), config, suite_scope, command, cls.environment)
        cleanup.clean_up(suite_scope, parent)
        cleanup.remove_cgroups(parent)
        networks.remove_bridge(workspace)
        shutil.rmtree(os.path.join(workspace, "data"), ignore_errors=True)

    @pytest.fixture(scope="class")
    @classmethod
    def info(cls, podium: Podium) -> dict[str, Any]:
        """What the plugin says of itself; `problem`: why podium refuses to load it, or None."""
        done = podium("stage1", "call", cls.plugin, "info", "--format", "json", check=None)
        if done.returncode:
            problem = json.loads(done.stderr.splitlines()[-1])
            assert problem["reason"] != "not-found", problem["message"]
            return {"problem": problem}
        return {"problem": None, **json.loads(done.stdout)["calls"][0]["result"]}

    @pytest.fixture(scope="class")
    @classmethod
    def claims(cls, info: dict[str, Any]) -> frozenset[str]:
        """The capabilities that the plugin claims."""
        if info["problem"]:
            pytest.skip("the plugin can't be loaded; test_hooks_are_as_specified tells why")
        return frozenset(info["capabilities"])

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls, claims: frozenset[str]) -> tuple[str, ...]:
        """Pod options of every pod: by default the least network that the plugin claims."""
        for name in ("none", "host"):
            if f"network:{name}" in claims:
                return ("--net", name)
        return ()

    @pytest.fixture(scope="class")
    @classmethod
    def host(
        cls,
        podium: Podium,
        claims: frozenset[str],
        options: tuple[str, ...],
        rootfs: str,
        suite_scope: Scope,
        workspace: str,
    ) -> Pods:
        """The data directory with the image."""
        if not cls.real:
            pytest.skip("it starts pods: 'podium stage1 test --real' runs it")
        if os.geteuid() != 0:
            pytest.skip("it makes pods, which needs root")
        checked = podium.json("stage1", "check", cls.plugin, check=None)["plugins"]
        if not checked[0]["usable"]:
            pytest.skip(f"this host lacks something: 'podium stage1 check {cls.plugin}' tells what")
        podium("image", "import", rootfs, "--name", IMAGE, "--exec", "/bin/sh")
        return Pods(podium, cls.plugin, options, suite_scope, workspace, os.path.basename(workspace))

    @pytest.fixture(scope="class")
    @classmethod
    def shown(
        cls, request: pytest.FixtureRequest, host: Pods, claims: frozenset[str], workspace: str
    ) -> Mapping[str, Shown]:
        """What the apps of those checks showed that are to be made and that need no pod of their own."""
        asked = {item.name for item in request.session.items if getattr(item, "cls", None) is request.cls}
        offered = {**confine.effects(), **volumes.effects(workspace)}
        wanted = {name: effect for name, effect in offered.items() if name in asked and effect.claim in claims}
        found = effects.show(host, wanted, effects.AT_ONCE if "apps" in claims else 1)
        host.end_all()
        return found

    @pytest.fixture
    def pods(self, host: Pods) -> Iterator[Pods]:
        """Pods of the plugin; whatever a check leaves is removed, by force where need be."""
        yield host
        host.end_all()

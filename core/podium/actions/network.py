"""network list, inspect, gc: what networks there are, who is in them, and what they can be told to give back."""

from __future__ import annotations

import os

from podium.errors import Corrupt, NotFound, PodiumError
from podium.net import attachment, cni, configuration
from podium.net.configuration import NetConf, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from podium.actions.context import Context
    from podium.pods.lifecycle import PodRef


def _attachments(context: Context) -> Iterator[tuple[PodRef, Mapping[str, Any]]]:
    """Every `address` entry that is outstanding, of every pod.

    Raises:
        Corrupt: a ledger can't be read, so the list would not be whole.
    """
    from podium.pods import lifecycle
    from podium.pods.ledger import PodLedger

    for pod in lifecycle.scan(context.data):
        ledger = PodLedger(pod.path)
        if ledger.damaged:
            raise Corrupt(f"the ledger of pod {pod.uuid} has damaged lines", subject=pod.uuid)
        for resource in ledger.outstanding():
            if resource.kind == "address" and "plugins" in resource.attrs:
                yield pod, resource.attrs


def list_networks(context: Context) -> list[dict[str, Any]]:
    """Every network: [{"name", "file", "version", "plugins", "problem"}]."""
    settings = Settings.of(context.config)
    found, wrong = configuration.scan(settings)
    result: list[dict[str, Any]] = [_described(conf, settings) for conf in found]
    for each in wrong:
        problem = {"reason": each.error.reason, "message": each.error.message}
        result.append({"name": each.name, "file": each.file, "version": None, "plugins": [], "problem": problem})
    return sorted(result, key=lambda network: (str(network["name"]), str(network["file"])))


def _described(conf: NetConf, settings: Settings) -> dict[str, Any]:
    problem = None
    try:
        configuration.check_plugins(conf, settings)
    except PodiumError as e:
        problem = {"reason": e.reason, "message": e.message}
    plugins = [plugin["type"] for plugin in conf.plugins]
    return {"name": conf.name, "file": conf.file, "version": conf.version, "plugins": plugins, "problem": problem}


def inspect(context: Context, name: str) -> dict[str, Any]:
    """A network with its whole configuration, and its attachments, each CHECKed where its version has that.

    Raises:
        NotFound: there is no such network.
        BadInput: its file is wrong.
    """
    settings = Settings.of(context.config)
    found, wrong = configuration.scan(settings)
    conf = next((conf for conf in found if conf.name == name), None)
    if conf is None:
        for each in wrong:
            if each.name == name:
                raise each.error
        raise NotFound(f"there is no network {name!r}", hint="'podium network list' shows them", subject=name)
    attached = [_attachment(pod, attrs) for pod, attrs in _attachments(context) if attrs["network"] == name]
    return {**_described(conf, settings), "configuration": conf.plugins, "attachments": attached}


def _attachment(pod: PodRef, attrs: Mapping[str, Any]) -> dict[str, Any]:
    env, result = attrs["env"], attrs.get("result") or {}
    check, message = "unsupported", None
    if not attachment.is_namespace(env["CNI_NETNS"]):
        check, message = "gone", "the network namespace is gone"
    elif result and attrs["plugins"][0]["cniVersion"] != "0.3.1":
        try:
            for plugin in attrs["plugins"]:
                cni.call("CHECK", {**plugin, "prevResult": result}, env, attrs["plugin_dirs"])
            check = "ok"
        except PodiumError as e:
            check, message = "failed", e.message
    ips = [ip.get("address") for ip in result.get("ips") or ()]
    return {"pod": pod.uuid, "ifname": env["CNI_IFNAME"], "ips": ips, "check": check, "message": message}


def collect(context: Context) -> list[dict[str, Any]]:
    """Tell the plugins of each network which attachments are valid (GC of CNI 1.1.0), so that they free the others.

    Valid is what a ledger of this data directory lists, and whatever has a namespace pinned: pods of other data
    directories are in the same networks.

    Returns:
        For each network {"name", "result": done | unsupported | failed, "message"}.

    Raises:
        Corrupt: a ledger is damaged: what it names must not be freed, so nothing is.
    """
    settings = Settings.of(context.config)
    valid = [(a["network"], a["env"]["CNI_CONTAINERID"], a["env"]["CNI_IFNAME"]) for _, a in _attachments(context)]
    try:
        pinned = sorted(os.listdir(attachment.NETNS_FOLDER))
    except FileNotFoundError:
        pinned = []
    result = []
    for conf in configuration.scan(settings)[0]:
        ours = [(container, ifname) for network, container, ifname in valid if network == conf.name]
        others = [(container, f"eth{number}") for container in pinned for number in range(16)]
        listed = [{"containerID": c, "ifname": i} for c, i in dict.fromkeys(ours + others)]
        result.append({"name": conf.name, **_collected(conf, listed, settings)})
    return result


def _collected(conf: NetConf, valid: list[dict[str, str]], settings: Settings) -> dict[str, Any]:
    if conf.version != "1.1.0":
        return {"result": "unsupported", "message": f"it is written for CNI {conf.version}; GC came with 1.1.0"}
    messages = []
    for plugin in conf.plugins:
        given = {**plugin, "cniVersion": conf.version, "name": conf.name, "cni.dev/valid-attachments": valid}
        try:
            cni.call("GC", given, {}, settings.plugin_dirs)
        except PodiumError as e:
            messages.append(e.message)
    return {"result": "failed" if messages else "done", "message": "; ".join(messages) or None}

#!/usr/bin/env bash
# A tour of podium with real pods: ./bootstrap demo runs it. Everything it makes is in one temporary folder and is
# removed at the end; your own images and pods are not touched.
set -euo pipefail

podium=$1
work=$(mktemp -d "${TMPDIR:-/var/tmp}/podium-demo.XXXXXX")
export PODIUM_DIR=$work/data

podium() { "$podium" "$@"; }

# Show a command as it would be typed, then run it.
show() {
    printf '\n+ %s\n' "${*@Q}" | sed "s/'\([A-Za-z0-9_./:=,-]*\)'/\1/g"
    "$@"
}

# The command must end with the given status, which is what podium passes on from the app.
show_status() {
    local expected=$1 status=0
    shift
    show "$@" || status=$?
    echo "(exit status $status)"
    [[ $status == "$expected" ]] || { echo "expected status $expected" >&2; exit 1; }
}

cleanup() {
    local status=$?
    local pods
    trap - EXIT
    pods=$(ls "$PODIUM_DIR"/pods/run 2>/dev/null || true)
    if [[ -n $pods ]]; then
        # shellcheck disable=SC2086  # one argument a pod
        podium stop --force $pods >/dev/null || status=1
    fi
    if ! podium gc --grace-period 0s --expire-prepared 0s >/dev/null; then
        echo "demo: some pods could not be collected; they are kept in $PODIUM_DIR" >&2
        exit 1
    fi
    rm -rf --one-file-system "$work"
    ((status == 0)) && echo "demo: done, and nothing is left of it" || echo "demo: failed" >&2
    exit "$status"
}
trap cleanup EXIT

# An image: a rootfs with nothing but busybox.
busybox=$(command -v busybox)
rootfs=$work/rootfs
mkdir -p "$rootfs"/{bin,etc,root,tmp}
cp "$busybox" "$rootfs/bin/busybox"
while read -r applet; do ln -sf busybox "$rootfs/bin/$applet"; done < <("$busybox" --list | grep -vx busybox)
echo 'root:x:0:0:root:/root:/bin/sh' >"$rootfs/etc/passwd"
echo 'root:x:0:' >"$rootfs/etc/group"

show podium version
show podium image import "$rootfs" --name demo/busybox:1 --exec '/bin/sh'
show podium image list
show podium stage1 list

# The stage1 plugins that are installed and usable here.
usable() {
    podium stage1 list --format json | python3 -c '
import json, sys
for plugin in json.load(sys.stdin)["plugins"]:
    print(plugin["name"])' | while read -r name; do
        if podium stage1 check "$name" >"$work/check" 2>&1; then
            echo "$name"
        else
            { printf '\n--- %s is left out: it is not usable on this host ---\n' "$name" && cat "$work/check"; } >&2
        fi
    done
}
stage1s=$(usable)
[[ -n $stage1s ]] || { echo "demo: no stage1 plugin is usable on this host; see 'podium stage1 check'" >&2; exit 1; }

for stage1 in $stage1s; do
    echo
    echo "--- the same image under $stage1 ---"
    net=()
    [[ $stage1 == fly ]] && net=(--net host) # fly has the host's network, and says no to any other
    [[ $stage1 == kvm || $stage1 == nspawn ]] && net=(--net none) # a bridge would stay when the demo is over

    # In the foreground: the app's output and its exit status are podium's.
    show_status 7 podium run --stage1 "$stage1" "${net[@]}" demo/busybox:1 --exec /bin/sh -- -c 'echo hello from "$(uname -s)"; exit 7'

    # In the background.
    show podium run --stage1 "$stage1" "${net[@]}" --detach --name "web-$stage1" demo/busybox:1 --exec /bin/sh \
        -- -c 'echo serving; trap "exit 0" TERM; while :; do sleep 1; done'
    show podium status "web-$stage1" --wait-ready=30s
    show podium list
    show podium enter "web-$stage1" -- /bin/sh -c 'echo "inside, as uid $(id -u)"; ls /'
    show podium logs "web-$stage1"
    show podium stop "web-$stage1"
    show podium status "web-$stage1"
done

echo
echo "--- collected means collected ---"
show podium list
show podium gc --grace-period 0s
show podium list

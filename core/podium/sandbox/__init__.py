"""What a stage1 builds on: starting apps into a sandbox, confining them, serving them until the pod ends.

CAPABILITIES are those (of `podium.types.Stage1Info`) that any stage1 has which leaves its apps to
`Supervisor.run_apps`, its rootfs to `rootfs` and `volumes`, and `enter` to `control`.
"""

CAPABILITIES = frozenset(
    (
        *("enter", "tty", "restart", "readonly-rootfs", "event-handlers", "notify"),
        *("volume:host", "volume:empty", "volume:tmpfs"),
        *("isolator:memory", "isolator:cpu", "isolator:cpu-shares", "isolator:pids", "isolator:capabilities"),
        *("isolator:no-new-privileges", "isolator:seccomp", "isolator:oom-score-adj", "isolator:rlimits"),
        *("isolator:block-bandwidth", "isolator:block-iops", "isolator:masked-paths", "isolator:readonly-paths"),
    )
)

"""The predefined sets of system calls that appc's seccomp isolators name, as rkt had them.

Docker's are those of its default profile, systemd's those of systemd-analyze(1) syscall-filter, version 252; rkt's own
were Docker's. Kept current: what newer kernels and C libraries need is in the whitelist, what does the same as a call
in the blacklist is there too, and no call is in both.
"""

from __future__ import annotations

SETS: dict[str, frozenset[str]] = {
    name: frozenset(calls.split())
    for name, calls in {
        "docker/default-blacklist": """
            _sysctl acct add_key adjtimex bpf clock_adjtime clock_adjtime64 clock_settime clock_settime64
            create_module delete_module finit_module fsconfig fsmount fsopen fspick get_kernel_syms
            get_mempolicy init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind
            mount mount_setattr move_mount move_pages name_to_handle_at nfsservctl open_by_handle_at open_tree
            perf_event_open pivot_root process_vm_readv process_vm_writev ptrace query_module quotactl
            quotactl_fd reboot request_key set_mempolicy set_mempolicy_home_node setns settimeofday stime
            swapoff swapon sysfs umount umount2 unshare uselib userfaultfd ustat vm86 vm86old
        """,
        "docker/default-whitelist": """
            _llseek _newselect accept accept4 access alarm arch_prctl arm_fadvise64_64 arm_sync_file_range
            bind breakpoint brk cacheflush cachestat capget capset chdir chmod chown chown32 chroot
            clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
            clock_nanosleep_time64 clone close close_range connect copy_file_range creat dup dup2 dup3
            epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
            epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64
            fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
            fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64
            fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64
            futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents
            getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer
            getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid
            getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32
            getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel
            io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get
            ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown
            lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr
            lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret
            mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect
            mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
            mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall
            munmap nanosleep newfstatat open openat openat2 pause personality pidfd_open pidfd_send_signal
            pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2
            prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead
            readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages
            removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq
            rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
            rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
            sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
            sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
            sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64
            send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address
            set_tls setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer
            setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid
            setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt
            shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socket socketcall socketpair
            splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range
            sync_file_range2 syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
            timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
            timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit
            umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4
            waitid waitpid write writev
        """,
        "systemd/clock": """
            adjtimex clock_adjtime clock_adjtime64 clock_settime clock_settime64 settimeofday
        """,
        "systemd/default-whitelist": """
            arch_prctl brk cacheflush clock_getres clock_getres_time64 clock_gettime clock_gettime64
            clock_nanosleep clock_nanosleep_time64 execve exit exit_group futex futex_time64 futex_waitv
            get_robust_list get_thread_area getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups
            getgroups32 getpgid getpgrp getpid getppid getrandom getresgid getresgid32 getresuid getresuid32
            getrlimit getsid gettid gettimeofday getuid getuid32 membarrier mmap mmap2 mprotect munmap
            nanosleep pause prlimit64 restart_syscall riscv_flush_icache riscv_hwprobe rseq rt_sigreturn
            sched_getaffinity sched_yield set_robust_list set_thread_area set_tid_address set_tls sigreturn
            time ugetrlimit uretprobe
        """,
        "systemd/mount": """
            chroot fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree pivot_root umount
            umount2
        """,
        "systemd/network-io": """
            accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg
            recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socket socketcall
            socketpair
        """,
        "systemd/obsolete": """
            _sysctl afs_syscall bdflush break create_module ftime get_kernel_syms getpmsg gtty idle lock mpx
            prof profil putpmsg query_module security sgetmask ssetmask stime stty sysfs tuxcall ulimit uselib
            ustat vserver
        """,
        "systemd/privileged": """
            _sysctl acct adjtimex bpf capset chown chown32 chroot clock_adjtime clock_adjtime64 clock_settime
            clock_settime64 delete_module fanotify_init fanotify_mark fchown fchown32 fchownat finit_module
            init_module ioperm iopl kexec_file_load kexec_load lchown lchown32 nfsservctl open_by_handle_at
            pciconfig_iobase pciconfig_read pciconfig_write pivot_root quotactl quotactl_fd reboot
            s390_pci_mmio_read s390_pci_mmio_write setdomainname setfsuid setfsuid32 setgroups setgroups32
            sethostname setresuid setresuid32 setreuid setreuid32 settimeofday setuid setuid32 swapoff swapon
            vhangup
        """,
        "systemd/process": """
            capget clone clone3 execveat fork getrusage kill pidfd_open pidfd_send_signal prctl
            rt_sigqueueinfo rt_tgsigqueueinfo setns swapcontext tgkill times tkill unshare vfork wait4 waitid
            waitpid
        """,
        "systemd/raw-io": """
            ioperm iopl pciconfig_iobase pciconfig_read pciconfig_write s390_pci_mmio_read s390_pci_mmio_write
        """,
    }.items()
}
SETS["rkt/default-blacklist"] = SETS["docker/default-blacklist"]
SETS["rkt/default-whitelist"] = SETS["docker/default-whitelist"]

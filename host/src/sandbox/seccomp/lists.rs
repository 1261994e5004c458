//! The lists. A name stands once; what is conditional stands in the module above.

use libc::c_long;

/// What a node does, tests and a year's C libraries included.
#[rustfmt::skip]
pub(super) const ALLOWED: &[c_long] = &[
    // Descriptors and files. `openat2` is for a C library to come, `memfd_create` for long lines of the journal.
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64,
    libc::SYS_pwrite64, libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_preadv2, libc::SYS_pwritev2,
    libc::SYS_close, libc::SYS_close_range, libc::SYS_lseek, libc::SYS_openat, libc::SYS_openat2,
    libc::SYS_newfstatat, libc::SYS_fstat, libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs,
    libc::SYS_readlinkat, libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_getdents64,
    libc::SYS_mkdirat, libc::SYS_unlinkat, libc::SYS_renameat, libc::SYS_renameat2,
    libc::SYS_linkat, libc::SYS_ftruncate, libc::SYS_fallocate, libc::SYS_fadvise64,
    libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_sync_file_range, libc::SYS_flock,
    libc::SYS_fcntl, libc::SYS_dup, libc::SYS_dup3, libc::SYS_pipe2, libc::SYS_getcwd,
    libc::SYS_fchmod, libc::SYS_memfd_create,
    // Memory.
    libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_mincore, libc::SYS_brk,
    libc::SYS_membarrier,
    // Threads, processors, time, who we are.
    libc::SYS_futex, libc::SYS_futex_waitv, libc::SYS_get_robust_list, libc::SYS_set_robust_list,
    libc::SYS_rseq, libc::SYS_set_tid_address, libc::SYS_sched_yield, libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity, libc::SYS_getcpu, libc::SYS_nanosleep, libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_gettimeofday, libc::SYS_getrandom,
    libc::SYS_getpid, libc::SYS_gettid, libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid,
    libc::SYS_getegid, libc::SYS_uname, libc::SYS_sysinfo, libc::SYS_getrusage,
    // Signals to ourselves, and the end.
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack,
    libc::SYS_tgkill, libc::SYS_restart_syscall, libc::SYS_exit, libc::SYS_exit_group,
    // Sockets; those that one may make stand among the conditional ones.
    libc::SYS_socketpair, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4,
    libc::SYS_connect, libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_getsockopt,
    libc::SYS_setsockopt, libc::SYS_shutdown, libc::SYS_sendto, libc::SYS_recvfrom,
    libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_sendmmsg, libc::SYS_recvmmsg,
    // Waiting.
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2,
    libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_eventfd2, libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime, libc::SYS_timerfd_gettime,
    // Rings that are there; `io_uring_setup` would make more.
    libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
];

/// What this architecture has beside: the older names of some of these.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
pub(super) const OF_X86_64: &[c_long] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink,
    libc::SYS_mkdir, libc::SYS_unlink, libc::SYS_rmdir, libc::SYS_rename, libc::SYS_link,
    libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait, libc::SYS_pipe, libc::SYS_dup2,
    libc::SYS_time,
];

#[cfg(not(target_arch = "x86_64"))]
pub(super) const OF_X86_64: &[c_long] = &[];

/// What no node does.
#[rustfmt::skip]
pub(super) const DEADLY: &[c_long] = &[
    // Another program.
    libc::SYS_execve, libc::SYS_execveat,
    // Other processes.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev,
    libc::SYS_process_madvise, libc::SYS_kcmp, libc::SYS_pidfd_getfd,
    // File systems, and files past their directories.
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot,
    libc::SYS_move_mount, libc::SYS_open_tree, libc::SYS_fsopen, libc::SYS_fsconfig,
    libc::SYS_fsmount, libc::SYS_fspick, libc::SYS_mount_setattr, libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at, libc::SYS_quotactl, libc::SYS_swapon, libc::SYS_swapoff,
    libc::SYS_acct,
    // Namespaces.
    libc::SYS_setns, libc::SYS_unshare,
    // The kernel.
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_init_module,
    libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_kexec_load, libc::SYS_reboot,
    libc::SYS_syslog,
    // Keys of the kernel.
    libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl,
    // Somebody else.
    libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setreuid, libc::SYS_setregid, libc::SYS_setresuid,
    libc::SYS_setresgid, libc::SYS_setgroups, libc::SYS_capset,
    // The clock and the name of the machine.
    libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_adjtimex, libc::SYS_clock_adjtime,
    libc::SYS_sethostname, libc::SYS_setdomainname,
    // Other ways to execute.
    libc::SYS_personality,
];

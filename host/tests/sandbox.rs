//! The sandbox bites: a process takes it on and tries what it may not. Each case is a process of its own, since
//! nobody gets out again.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails in a test ends it"
)]

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, ToSocketAddrs as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use cepa_host::sandbox::landlock::{Reach, confine};
use cepa_host::sandbox::{forbid_core_dumps, seccomp};
use glommio::LocalExecutorBuilder;
use glommio::io::BufferedFile;
use tempfile::TempDir;

/// What [`child`] tries.
const CASE: &str = "CEPA_TEST_CASE";
/// Where it may write.
const DIRECTORY: &str = "CEPA_TEST_DIRECTORY";
/// What the kernel sends to who calls what is deadly.
const SIGSYS: i32 = 31;

/// This program anew, as [`child`].
fn attempt(case: &str) -> (Output, TempDir) {
    let directory = TempDir::new().unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CASE, case)
        .env(DIRECTORY, directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output, directory)
}

fn succeed(case: &str) {
    let (output, _directory) = attempt(case);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{case}: {:?} {told}",
        output.status
    );
    // A name that is none would succeed as well.
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains("1 passed"), "{case}: {report}");
}

fn die(case: &str) {
    let (output, _directory) = attempt(case);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), Some(SIGSYS), "{case}: {told}");
}

#[test]
fn files_and_ports_are_bounded() {
    succeed("files");
}

#[test]
fn a_ring_opens_no_more_than_a_call() {
    succeed("ring");
}

#[test]
fn what_a_node_does_goes_on_and_what_it_never_does_is_not_there() {
    succeed("calls");
}

#[test]
fn another_program_ends_the_process() {
    die("execve");
}

#[test]
fn another_root_ends_the_process() {
    die("chroot");
}

#[test]
fn an_abort_leaves_no_core() {
    let (output, directory) = attempt("abort");
    assert_eq!(output.status.signal(), Some(6));
    assert!(!output.status.core_dumped());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn child() {
    let Ok(case) = env::var(CASE) else {
        return;
    };
    let directory = env::var(DIRECTORY).unwrap();
    let directory = Path::new(&directory);
    match case.as_str() {
        "files" => files(directory),
        "ring" => ring(directory),
        "calls" => calls(),
        "execve" => {
            seccomp::filter_system_calls().unwrap();
            panic!("it goes on: {}", Command::new("true").exec());
        }
        "chroot" => {
            seccomp::filter_system_calls().unwrap();
            panic!("it goes on: {:?}", rustix::process::chroot("/"));
        }
        "abort" => {
            env::set_current_dir(directory).unwrap();
            forbid_core_dumps().unwrap();
            std::process::abort();
        }
        other => panic!("there is no case {other}"),
    }
}

/// Confines this thread; gives the version of Landlock's interface.
fn take(directory: &Path, listen: Vec<u16>) -> i32 {
    let reach = Reach {
        write: vec![directory.to_owned()],
        listen,
        ..Reach::default()
    };
    confine(&reach).unwrap().abi
}

fn files(directory: &Path) {
    let (free, other) = {
        let [free, other] = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        (free.local_addr().unwrap(), other.local_addr().unwrap())
    };
    let outside = TempDir::new().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "x").unwrap();
    let abi = take(directory, vec![free.port()]);

    let ours = directory.join("ours");
    fs::write(&ours, "x").unwrap();
    fs::rename(&ours, directory.join("renamed")).unwrap();
    fs::create_dir(directory.join("log-0")).unwrap();
    assert_eq!(fs::read_dir(directory).unwrap().count(), 2);
    for known in [
        "/proc/self/status",
        "/etc/hosts",
        "/sys/devices/system/cpu/online",
    ] {
        fs::read(known).unwrap_or_else(|fault| panic!("{known}: {fault}"));
    }
    let denied = |outcome: std::io::Result<()>, what: &str| {
        assert_eq!(
            outcome.unwrap_err().kind(),
            ErrorKind::PermissionDenied,
            "{what}"
        );
    };
    denied(fs::read(&secret).map(drop), "a file of others");
    denied(fs::write(&secret, "y"), "a file of others, written");
    denied(fs::read("/etc/shadow").map(drop), "passwords");
    denied(fs::read("/proc/1/environ").map(drop), "another process");
    denied(fs::write("/tmp/cepa-sandbox-test", "x"), "a new file");
    denied(fs::read_dir("/root").map(drop), "a directory");
    let link = std::os::unix::fs::symlink("/etc", directory.join("link"));
    denied(link, "a symbolic link");
    let spawned = Command::new("/bin/true").status();
    denied(spawned.map(drop), "a program");
    TcpListener::bind(free).unwrap();
    if abi >= 4 {
        denied(TcpListener::bind(other).map(drop), "a foreign port");
    }
}

/// What `io_uring` opens, seccomp does not see. Landlock does.
fn ring(directory: &Path) {
    take(directory, Vec::new());
    fs::write(directory.join("ours"), "x").unwrap();
    let ours = directory.join("ours");
    let executor = LocalExecutorBuilder::default().make().unwrap();
    // Its ring is there: no more can be made from now on.
    seccomp::filter_system_calls().unwrap();
    executor.run(async move {
        BufferedFile::open(&ours)
            .await
            .unwrap()
            .close()
            .await
            .unwrap();
        for path in ["/root/.profile", "/etc/shadow", "/proc/1/environ"] {
            let refusal = BufferedFile::open(path).await.map(drop).unwrap_err();
            let code = std::io::Error::from(refusal).kind();
            assert_eq!(code, ErrorKind::PermissionDenied, "{path}");
        }
    });
    let second = LocalExecutorBuilder::default().make();
    assert!(second.is_err(), "another ring");
}

fn calls() {
    seccomp::filter_system_calls().unwrap();
    // Threads, names, files, sockets.
    thread::spawn(|| ()).join().unwrap();
    ("localhost", 1).to_socket_addrs().unwrap();
    fs::read("/etc/hosts").unwrap();
    TcpListener::bind("127.0.0.1:0").unwrap();
    // What is not there.
    let absent = |fault: Option<i32>, what: &str| {
        assert_eq!(
            fault,
            Some(rustix::io::Errno::NOSYS.raw_os_error()),
            "{what}"
        );
    };
    let spawned = Command::new("true").spawn().map(drop);
    absent(spawned.unwrap_err().raw_os_error(), "a process");
    let packets = socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, None);
    absent(
        packets.map(drop).unwrap_err().raw_os_error(),
        "a raw socket",
    );
    let killed = rustix::process::test_kill_process(rustix::process::getpid());
    absent(
        killed.map_err(rustix::io::Errno::raw_os_error).err(),
        "a signal",
    );
}

//! Which files may be opened, and on which TCP ports one may listen: Landlock, as far as the kernel has it.
//!
//! A rule names a file or directory as it is now, not its path: what is replaced by renaming another over it must
//! be reached through its directory.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus,
    NetPort, PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

use super::SandboxError;

/// The newest that was tested. The next ones would ask for rules of UNIX sockets and UDP.
const NEWEST: ABI = ABI::V6;

/// Read wherever it runs: the machine as it is, and what the C library needs to find a name. What is not there is
/// left out.
const READ: [&str; 23] = [
    // glommio pins by the topology and aligns by the disk.
    "/sys/devices",
    "/sys/dev",
    "/sys/class/net",
    "/sys/fs/cgroup",
    "/sys/kernel/mm",
    // Ourselves alone: what other processes are is nobody's concern.
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/uptime",
    "/proc/sys",
    "/dev/random",
    "/dev/urandom",
    // Modules of the C library that find names (nsswitch), and what they ask.
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    // Root certificates: links of /etc/ssl/certs lead there.
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
];

/// Of `/etc`, when all of it would be too much. A link among them stands for the file behind it, wherever that is.
const READ_ETC: [&str; 15] = [
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/certs/ca-certificates.crt",
];

/// Variables that say where root certificates are.
const CERTIFICATES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// What the node needs beside what every node does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Written: directories with all below them. They exist.
    pub write: Vec<PathBuf>,
    /// Read: files, or directories with all below them. What is not there is left out.
    pub read: Vec<PathBuf>,
    /// TCP ports to listen on. Where one connects to is not bounded: peers have any port.
    pub listen: Vec<u16>,
    /// Sockets with an abstract name are used that other processes made.
    pub has_abstract_sockets: bool,
}

/// What is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confined {
    /// The version of Landlock's interface: 4 and above bound ports, 6 and above signals too.
    pub abi: i32,
}

/// What rules are of, held open for as long as the process lives. A rule is of an inode, and `/proc`, overlays and some
/// others make new ones when the kernel needed the memory of those that nobody held: the rule would then allow
/// nothing any more.
static HELD: OnceLock<Vec<PathFd>> = OnceLock::new();

/// Takes everything else from this thread and those that it will start, for good. Call it while there is no
/// other.
///
/// # Errors
///
/// The kernel has no Landlock, or a directory that is to be written can't be opened.
pub fn confine(reach: &Reach) -> Result<Confined, SandboxError> {
    let failed = |reason: String| SandboxError::Landlock(reason);
    let mut written = Vec::new();
    for directory in &reach.write {
        let opened = PathFd::new(directory);
        written.push(opened.map_err(|fault| failed(fault.to_string()))?);
    }
    let read = open_read(reach);
    let status = restrict(reach, &written, &read).map_err(|fault| failed(fault.to_string()))?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(failed(absence(status.landlock).to_owned()));
    }
    // Once is all that a process is confined; a second time leaves what is held to the first.
    let read = read.into_iter().map(|(_, opened)| opened);
    drop(HELD.set(read.chain(written).collect()));
    match status.landlock {
        LandlockStatus::Available {
            effective_abi,
            kernel_abi,
        } => Ok(Confined {
            abi: kernel_abi.unwrap_or(effective_abi as i32),
        }),
        other => Err(failed(absence(other).to_owned())),
    }
}

const fn absence(status: LandlockStatus) -> &'static str {
    match status {
        LandlockStatus::NotEnabled => {
            "this kernel has it, but it is off; add landlock to the boot parameter lsm="
        }
        LandlockStatus::NotImplemented => {
            "this kernel has none (Linux 5.13 and above do), or a container forbids it"
        }
        LandlockStatus::Available { .. } => "the kernel took no rule",
    }
}

/// Opens what is read, each with whether it is a directory. What is not there, or not ours to open, is not read
/// either.
fn open_read(reach: &Reach) -> Vec<(bool, PathFd)> {
    let ours = reach.read.iter().cloned();
    let paths = ours.chain(everywhere(super::is_root()));
    paths
        .filter_map(|path| Some((path.is_dir(), PathFd::new(&path).ok()?)))
        .collect()
}

fn restrict(
    reach: &Reach,
    written: &[PathFd],
    read: &[(bool, PathFd)],
) -> Result<RestrictionStatus, RulesetError> {
    let handled = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::BindTcp)?
        .scope(scopes(reach.has_abstract_sockets))?;
    let mut rules = handled.create()?;
    for opened in written {
        rules = rules.add_rule(PathBeneath::new(opened, write_rights()))?;
    }
    for (is_directory, opened) in read {
        rules = rules.add_rule(PathBeneath::new(opened, read_rights(*is_directory)))?;
    }
    if let Ok(null) = PathFd::new("/dev/null") {
        let rights = AccessFs::ReadFile | AccessFs::WriteFile;
        rules = rules.add_rule(PathBeneath::new(null, rights))?;
    }
    for port in &reach.listen {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    rules.restrict_self()
}

fn scopes(has_abstract_sockets: bool) -> BitFlags<Scope> {
    if has_abstract_sockets {
        Scope::Signal.into()
    } else {
        Scope::Signal | Scope::AbstractUnixSocket
    }
}

/// Files and directories are made, written, renamed and removed; no devices, sockets or links by name, and
/// nothing is executed.
fn write_rights() -> BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

fn read_rights(is_directory: bool) -> BitFlags<AccessFs> {
    if is_directory {
        AccessFs::ReadFile | AccessFs::ReadDir
    } else {
        AccessFs::ReadFile.into()
    }
}

/// What every node reads. Of `/etc` root sees only what it must: the rest has secrets that modes keep from
/// others. These see it all, for there `resolv.conf` may be replaced by renaming, by a DHCP client for one, and
/// names must still be found then.
fn everywhere(is_root: bool) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = READ.iter().map(PathBuf::from).collect();
    paths.extend(READ_ETC.iter().map(PathBuf::from));
    if !is_root {
        paths.push("/etc".into());
    }
    // What a panic says where it was reads the names from it.
    paths.extend(env::current_exe());
    let of_environment = CERTIFICATES.into_iter().filter_map(env::var_os);
    paths.extend(of_environment.flat_map(|list| env::split_paths(&list).collect::<Vec<_>>()));
    paths
}

/// The directories through which a file is reached that may be replaced by renaming: its own, and if it is a
/// symbolic link that of the file behind it.
pub fn around(file: &Path) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    let behind = fs::canonicalize(file).ok();
    for file in [Some(file), behind.as_deref()].into_iter().flatten() {
        let Some(directory) = file.parent() else {
            continue;
        };
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        if !directories.iter().any(|known| known == directory) {
            directories.push(directory.to_owned());
        }
    }
    directories
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    use std::os::unix::fs::symlink;
    use std::thread;

    use super::*;

    #[test]
    fn a_file_is_reached_through_its_directories() {
        let made = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(made.path()).unwrap();
        let [a, b] = ["a", "b"].map(|name| root.join(name));
        fs::create_dir(&a).unwrap();
        fs::create_dir(&b).unwrap();
        let (file, link) = (a.join("network.json"), b.join("network.json"));
        fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        assert_eq!(around(&file), vec![a.clone()]);
        assert_eq!(around(&link), [b, a]);
        assert_eq!(around(Path::new("absent.toml")), [PathBuf::from(".")]);
    }

    #[test]
    fn rules_of_proc_are_held() {
        // It binds the thread that asks.
        let confined = thread::spawn(|| {
            let binary = env::current_exe().unwrap();
            confine(&Reach::default()).map(|_| {
                fs::read_to_string("/proc/self/status").is_ok() && fs::File::open(binary).is_ok()
            })
        });
        match confined.join().unwrap() {
            Ok(is_read) => assert!(is_read),
            // Not every machine has Landlock.
            Err(_) => return,
        }
        let ours = PathBuf::from(format!("/proc/{}", std::process::id()));
        let held = HELD.get().unwrap().iter();
        let mut held = held.map(|fd| format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()));
        assert!(held.any(|fd| fs::read_link(fd).unwrap() == ours));
    }

    #[test]
    fn root_sees_little_of_etc() {
        let has = |is_root, path: &str| {
            everywhere(is_root)
                .iter()
                .any(|other| other == Path::new(path))
        };
        assert!(has(false, "/etc") && !has(true, "/etc"));
        assert!(has(true, "/etc/resolv.conf") && has(true, "/proc/self"));
        for is_root in [true, false] {
            assert!(!has(is_root, "/") && !has(is_root, "/proc") && !has(is_root, "/home"));
        }
    }

    #[test]
    fn nothing_is_executed() {
        assert!(!write_rights().contains(AccessFs::Execute));
        assert!(!read_rights(true).contains(AccessFs::Execute));
        assert!(!read_rights(false).contains(AccessFs::ReadDir));
    }
}

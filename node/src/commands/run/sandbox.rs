//! What a node takes from itself, by its config: files and ports before the first thread starts, system calls when
//! all is open.

use std::env;
use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use cepa_control::Config;
use cepa_control::config::SandboxChoice;
use cepa_host::sandbox::landlock::{self, Reach};
use cepa_host::sandbox::{SandboxError, seccomp};
use tracing::{info, warn};

use crate::failure::Failure;

/// The sandbox of a node that starts.
pub(super) struct Sandbox {
    choice: SandboxChoice,
    /// What of it is in force, for people.
    in_force: Vec<String>,
}

impl Sandbox {
    /// Takes files and ports; `files_read` are those that are read again while the node runs. Makes the data directory, which must be there for that.
    pub(super) fn confine(config: &Config, files_read: &[PathBuf]) -> Result<Self, Failure> {
        let mut sandbox = Self {
            choice: config.sandbox,
            in_force: Vec::new(),
        };
        if sandbox.choice == SandboxChoice::Off {
            warn!("sandbox is off: the node may do whatever its user may");
            return Ok(sandbox);
        }
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&config.data_dir);
        made.map_err(|fault| {
            let data_dir = config.data_dir.display();
            Failure::new(format!(
                "cannot make the data directory {data_dir}: {fault}"
            ))
        })?;
        let supervisor = env::var_os("NOTIFY_SOCKET");
        let confined = landlock::confine(&reach(config, files_read, supervisor.as_deref()));
        let told = confined.map(|confined| landlock_in_force(confined.abi));
        sandbox.note(told)?;
        Ok(sandbox)
    }

    /// Takes system calls from all threads, and says what is in force.
    pub(super) fn filter(mut self) -> Result<(), Failure> {
        if self.choice == SandboxChoice::Off {
            return Ok(());
        }
        let filtered = seccomp::filter_system_calls();
        self.note(filtered.map(|()| "seccomp".to_owned()))?;
        if !self.in_force.is_empty() {
            info!("sandbox: {}", self.in_force.join(", "));
        }
        Ok(())
    }

    /// A part that is there, or is not.
    fn note(&mut self, part: Result<String, SandboxError>) -> Result<(), Failure> {
        match part {
            Ok(told) => self.in_force.push(told),
            Err(fault) if self.choice == SandboxChoice::Require => {
                return Err(Failure::new(format!(
                    "sandbox = \"require\": {fault}; with \"auto\" the node starts without it"
                )));
            }
            Err(fault) => warn!("the sandbox is not whole: {fault}"),
        }
        Ok(())
    }
}

/// What Landlock bounds, for people: older kernels have less of it.
fn landlock_in_force(abi: i32) -> String {
    let lacks = match abi {
        ..4 => " (files alone: it knows neither ports nor signals)",
        4 | 5 => " (without signals)",
        _ => "",
    };
    format!("Landlock ABI {abi}{lacks}")
}

/// What the node needs: its data, what it reads again while it runs, its ports. The sockets of `oxend` and of
/// systemd are found by path, which Landlock does not bound.
fn reach(config: &Config, files_read: &[PathBuf], supervisor: Option<&OsStr>) -> Reach {
    let endpoints = [config.admin_listen, config.seed_listen];
    let endpoints = endpoints
        .into_iter()
        .flatten()
        .map(|address| address.port());
    let listen = [config.https_port, config.omq_port];
    Reach {
        write: vec![config.data_dir.clone()],
        read: files_read
            .iter()
            .flat_map(|file| landlock::around(file))
            .collect(),
        listen: listen.into_iter().chain(endpoints).collect(),
        has_abstract_sockets: supervisor.is_some_and(|name| name.as_bytes().starts_with(b"@")),
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;
    use core::num::NonZeroU16;

    use cepa_control::NetworkSource;

    use super::*;

    #[test]
    fn what_an_older_kernel_lacks_is_told() {
        for (abi, expected) in [
            (1, "ports"),
            (3, "ports"),
            (4, "without signals"),
            (6, "ABI 6"),
        ] {
            let told = landlock_in_force(abi);
            assert!(told.contains(expected), "{told}");
        }
        assert_eq!(landlock_in_force(7), "Landlock ABI 7");
    }

    #[test]
    fn a_node_reaches_its_own_alone() {
        let ports = [22021, 22020].map(|port| NonZeroU16::new(port).unwrap());
        let network = NetworkSource::File("/srv/net/network.json".into());
        let mut config = Config::new(Ipv4Addr::LOCALHOST, ports, "/srv/data".into(), network);
        config.admin_listen = Some("127.0.0.1:9100".parse().unwrap());
        let files = ["/srv/etc/cepa.toml", "/srv/net/network.json"].map(PathBuf::from);
        let reached = reach(&config, &files, None);
        let expected = Reach {
            write: vec!["/srv/data".into()],
            read: vec!["/srv/etc".into(), "/srv/net".into()],
            listen: vec![22021, 22020, 9100],
            has_abstract_sockets: false,
        };
        assert_eq!(reached, expected);

        let reached = reach(&config, &[], Some(OsStr::new("@systemd")));
        assert_eq!(reached.read, Vec::<PathBuf>::new());
        assert!(reached.has_abstract_sockets);
    }
}

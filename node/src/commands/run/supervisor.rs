//! What systemd is told (`sd_notify(3)`): that the node is ready, how it is, that it is alive, that it
//! stops. Each is a datagram to the socket of `NOTIFY_SOCKET`; without one nothing is told.

use core::future;
use core::time::Duration;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;

use tracing::{debug, error};

use crate::failure::Failure;

/// The process that started this one and wants to know how it is.
pub(super) struct Supervisor {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// It ends the process if it does not hear from it for so long.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names.
    pub(super) fn from_environment() -> Result<Self, Failure> {
        let text = |name| env::var(name).ok();
        let watchdog = watchdog(
            text("WATCHDOG_USEC").as_deref(),
            text("WATCHDOG_PID").as_deref(),
            process::id(),
        );
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self {
                socket: None,
                watchdog: None,
            });
        };
        let socket = connect(&name).map_err(|fault| {
            let name = name.display();
            Failure::new(format!(
                "cannot use the socket of NOTIFY_SOCKET {name}: {fault}"
            ))
        })?;
        Ok(Self {
            socket: Some(socket),
            watchdog,
        })
    }

    /// The node listens.
    pub(super) fn ready(&self) {
        self.tell("READY=1\nSTATUS=running");
    }

    /// The node reads its config again; [`Self::ready`] ends that.
    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!(
            "RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reading the config again"
        ));
    }

    /// How it is, in a line for `systemctl status`.
    pub(super) fn status(&self, text: &str) {
        self.tell(&format!("STATUS={}", text.replace('\n', " ")));
    }

    /// The node begins to stop.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping: requests in flight are finished");
    }

    /// Tells for ever that the node is alive, twice within the time that the watchdog gives, for as
    /// long as `is_alive` says so.
    pub(super) async fn watch(&self, is_alive: impl Fn() -> bool) -> ! {
        let Some(watchdog) = self.watchdog else {
            loop {
                future::pending::<()>().await;
            }
        };
        let mut tick = tokio::time::interval(watchdog / 2);
        // The first comes at once, and the node has just started.
        tick.tick().await;
        self.tell("WATCHDOG=1");
        loop {
            tick.tick().await;
            if is_alive() {
                self.tell("WATCHDOG=1");
            } else {
                error!("a shard stands still; the watchdog is not told that the node is alive");
            }
        }
    }

    fn tell(&self, text: &str) {
        let Some((socket, to)) = &self.socket else {
            return;
        };
        if let Err(fault) = socket.send_to_addr(text.as_bytes(), to) {
            debug!(%fault, "systemd does not listen");
        }
    }
}

/// A path, or an abstract name behind `@`.
fn connect(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let to = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A supervisor that does not read never holds us up.
    socket.set_nonblocking(true)?;
    Ok((socket, to))
}

/// How long the watchdog waits, if there is one and it is ours.
fn watchdog(micros: Option<&str>, of: Option<&str>, us: u32) -> Option<Duration> {
    let is_ours = of.is_none_or(|pid| pid.parse() == Ok(us));
    let micros: u64 = micros?.parse().ok()?;
    let span = Duration::from_micros(micros);
    (is_ours && micros >= 2).then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_one_with_a_time_and_for_us() {
        let second = Some(Duration::from_secs(1));
        let table = [
            (Some("1000000"), None, second),
            (Some("1000000"), Some("7"), second),
            (Some("1000000"), Some("8"), None),
            (Some("1000000"), Some("x"), None),
            (Some("0"), None, None),
            (Some("-1"), None, None),
            (Some("soon"), None, None),
            (None, None, None),
        ];
        for (micros, of, expected) in table {
            assert_eq!(watchdog(micros, of, 7), expected, "{micros:?} {of:?}");
        }
    }

    #[test]
    fn an_abstract_name_is_a_socket_too() {
        let name = format!("cepa-test-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listening = UnixDatagram::bind_addr(&address).unwrap();
        let supervisor = Supervisor {
            socket: Some(connect(OsStr::new(&format!("@{name}"))).unwrap()),
            watchdog: None,
        };
        supervisor.status("two\nlines");
        let mut buffer = [0; 64];
        let size = listening.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..size], b"STATUS=two lines");
    }

    #[test]
    fn a_reload_is_told_with_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let listening = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor {
            socket: Some(connect(path.as_os_str()).unwrap()),
            watchdog: None,
        };
        let told = || {
            let mut buffer = [0; 128];
            supervisor.reloading();
            let size = listening.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..size]).into_owned();
            let time = text
                .lines()
                .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
            assert_eq!(text.lines().next(), Some("RELOADING=1"));
            time.unwrap().parse::<u64>().unwrap()
        };
        let first = told();
        assert!(first > 0 && told() >= first);
    }

    #[test]
    fn a_supervisor_that_does_not_read_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let unread = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor {
            socket: Some(connect(path.as_os_str()).unwrap()),
            watchdog: None,
        };
        for _ in 0..10_000 {
            supervisor.ready();
        }
        drop(unread);
        supervisor.ready();
    }
}

//! Two network namespaces with a pair of interfaces between them, for tests and benches; needs root.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::Command;

pub(crate) const NEAR: &str = "cepa-near";
pub(crate) const FAR: &str = "cepa-far";
pub(crate) const NEAR_IPV4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const FAR_IPV4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
pub(crate) const NEAR_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const FAR_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);

/// Two network namespaces, joined by a pair of interfaces. They go with the last that is in them.
pub(crate) struct Pair {
    pub(crate) near: File,
    pub(crate) far: File,
}

impl Pair {
    pub(crate) fn new() -> io::Result<Self> {
        let pair = Self {
            near: namespace()?,
            far: namespace()?,
        };
        enter(&pair.near)?;
        let far = format!("/proc/{}/fd/{}", std::process::id(), pair.far.as_raw_fd());
        ip(&format!(
            "link add {NEAR} type veth peer name {FAR} netns {far}"
        ))?;
        set_up(NEAR, NEAR_IPV4, NEAR_IPV6)?;
        enter(&pair.far)?;
        set_up(FAR, FAR_IPV4, FAR_IPV6)?;
        Ok(pair)
    }
}

fn set_up(interface: &str, ipv4: Ipv4Addr, ipv6: Ipv6Addr) -> io::Result<()> {
    ip("link set lo up")?;
    // Joined datagrams are cut before they leave, as a network card does it.
    ip(&format!("link set {interface} gso_max_segs 1"))?;
    ip(&format!("addr add {ipv4}/24 dev {interface}"))?;
    ip(&format!("addr add {ipv6}/64 dev {interface} nodad"))?;
    ip(&format!("link set {interface} up"))
}

pub(crate) fn ip(arguments: &str) -> io::Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {arguments}: {text}")))
}

/// A new one.
fn namespace() -> io::Result<File> {
    let thread = std::thread::spawn(|| {
        #[expect(
            deprecated,
            reason = "it is about memory only where files are unshared"
        )]
        rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET)?;
        File::open("/proc/thread-self/ns/net")
    });
    let failed = |_| io::Error::other("the thread failed");
    thread.join().map_err(failed)?
}

/// Moves this thread.
pub(crate) fn enter(namespace: &File) -> io::Result<()> {
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?;
    Ok(())
}

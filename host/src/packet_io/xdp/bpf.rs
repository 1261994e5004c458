//! bpf(2): the map of sockets, the program, and its link to an interface.
#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use super::program::Instruction;

/// Commands.
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;

/// Kinds of maps, programs and attachments.
const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;

/// Flags of a link: by the kernel on any interface, or by the driver.
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// Makes a map of sockets by queue, for queues up to one.
pub(super) fn make_map(queue_max: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        flags: u32,
    }
    let attributes = Attributes {
        map_type: MAP_TYPE_XSKMAP,
        key_size: 4,
        value_size: 4,
        max_entries: queue_max.saturating_add(1),
        flags: 0,
    };
    // SAFETY: the attributes are those of the command and point to nothing; it gives a descriptor.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(MAP_CREATE, &attributes)?)) }
}

/// Puts a socket into a map.
pub(super) fn put(map: BorrowedFd<'_>, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        map: i32,
        padding: u32,
        key: *const u32,
        value: *const i32,
        flags: u64,
    }
    let value = socket.as_raw_fd();
    let attributes = Attributes {
        map: map.as_raw_fd(),
        padding: 0,
        key: &raw const queue,
        value: &raw const value,
        flags: 0,
    };
    // SAFETY: the attributes are those of the command, and point to four live bytes each, as the map's
    // keys and values have. It gives no descriptor.
    unsafe { bpf(MAP_UPDATE_ELEM, &attributes) }.map(drop)
}

/// Loads an XDP program.
pub(super) fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        prog_type: u32,
        count: u32,
        instructions: *const Instruction,
        license: *const u8,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        attach_type: u32,
    }
    let license = c"MIT";
    let attributes = Attributes {
        prog_type: PROG_TYPE_XDP,
        count: u32::try_from(program.len()).unwrap_or_default(),
        instructions: program.as_ptr(),
        license: license.as_ptr().cast(),
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"cepa_packets\0\0\0\0",
        interface: 0,
        attach_type: ATTACH_XDP,
    };
    // SAFETY: the attributes are those of the command, and point to as many live instructions as they
    // say and to a text that ends with a zero; it gives a descriptor.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(PROG_LOAD, &attributes)?)) }
}

/// Attaches a program to an interface for as long as the link is open.
pub(super) fn attach(
    program: BorrowedFd<'_>,
    interface: u32,
    is_generic: bool,
) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        program: i32,
        interface: u32,
        attach_type: u32,
        flags: u32,
    }
    let attributes = Attributes {
        program: program.as_raw_fd(),
        interface,
        attach_type: ATTACH_XDP,
        flags: if is_generic {
            XDP_FLAGS_SKB_MODE
        } else {
            XDP_FLAGS_DRV_MODE
        },
    };
    // SAFETY: the attributes are those of the command and point to nothing; it gives a descriptor.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(LINK_CREATE, &attributes)?)) }
}

/// The system call; gives what it gives.
///
/// # Safety
/// The attributes are those that the command reads, and what they point to is as it demands.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<i32> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of the attributes, takes what it knows beyond them
    // as zeros, and the caller vouches for the rest.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            core::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

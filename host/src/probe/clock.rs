//! What the kernel says of its clock.
#![expect(unsafe_code, reason = "a system call that rustix does not have")]

use core::mem::MaybeUninit;
use core::time::Duration;
use std::io;

/// The discipline of the system's clock (`adjtimex(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// Somebody (chrony, systemd-timesyncd, ntpd) says that he keeps it right.
    pub is_synchronised: bool,
    /// How far off it is at most, as he says; it grows while nobody does.
    pub error_max: Duration,
}

/// Asks the kernel. Changes nothing, and needs no rights.
pub fn clock_state() -> io::Result<ClockState> {
    let mut state = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: `state` is live, large enough and writable for the whole call, which keeps no pointer to
    // it; its `modes` is zero, so that the kernel only writes to it.
    let answer = unsafe { libc::adjtimex(state.as_mut_ptr()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all its fields are integers, for which zeros are a value, and the kernel wrote them.
    let state = unsafe { state.assume_init() };
    let micros = u64::try_from(state.maxerror).unwrap_or_default();
    Ok(ClockState {
        is_synchronised: answer != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0,
        error_max: Duration::from_micros(micros),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells() {
        let state = clock_state().unwrap();
        // The kernel lets the error grow to 16 s, and then says that it knows nothing.
        assert!(state.error_max <= Duration::from_secs(17), "{state:?}");
    }
}

//! The unit for systemd: it is understood, and hardened as far as is promised.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "what fails in a test ends it; what is skipped is told"
)]

use std::path::Path;
use std::process::Command;

/// What the script says when there is no systemd.
const SKIPPED: i32 = 77;

#[test]
fn systemd_understands_the_unit_and_calls_it_hardened() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/check_unit.sh");
    let output = Command::new(script).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(SKIPPED) {
        eprintln!("skipped: {told}");
        return;
    }
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("Overall exposure level for cepa.service"),
        "{told}"
    );
}

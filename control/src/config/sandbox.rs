//! What the node takes from itself.

use serde::Deserialize;

/// How much of a sandbox the node must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxChoice {
    /// What the kernel has; what it does not have is said.
    #[default]
    Auto,
    /// All of it, or the node does not start.
    Require,
    /// None.
    Off,
}

impl SandboxChoice {
    /// As it stands in the config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Require => "require",
            Self::Off => "off",
        }
    }
}

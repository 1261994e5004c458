//! Public keys and signatures as values. What one does with them is in `cepa-crypto`.

use core::fmt;

macro_rules! public_bytes {
    ($(#[$doc:meta])* $name:ident, $size:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $size]);

        impl $name {
            /// Its size in bytes.
            pub const SIZE: usize = $size;

            /// From exactly [`Self::SIZE`] bytes.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// From hex of exactly [`Self::SIZE`] bytes, in either case.
            pub fn from_hex(text: &[u8]) -> Option<Self> {
                let mut bytes = [0; $size];
                hex::decode_to_slice(text, &mut bytes).ok()?;
                Some(Self(bytes))
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $size] {
                &self.0
            }

            /// Lower-case hex.
            pub fn to_hex(self) -> String {
                hex::encode(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

public_bytes!(
    /// An Ed25519 public key (RFC 8032). Not known to be on the curve.
    Ed25519PublicKey,
    32
);
public_bytes!(
    /// An X25519 public key (RFC 7748).
    X25519PublicKey,
    32
);
public_bytes!(
    /// An Ed25519 signature (RFC 8032). Not known to be valid.
    Signature,
    64
);

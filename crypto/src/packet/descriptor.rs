//! Descriptors, signed and verified.

use cepa_wire::packet::descriptor::{Descriptor, DescriptorError, SignedDescriptor};
use thiserror::Error;

use crate::Ed25519SecretKey;
use crate::key::verify;

/// Why a descriptor is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadDescriptor {
    /// It is none.
    #[error(transparent)]
    Malformed(#[from] DescriptorError),
    /// Its node did not sign it.
    #[error("signature does not verify")]
    Signature,
}

/// Signs a descriptor with the key that it names.
pub fn sign_descriptor(descriptor: Descriptor, key: &Ed25519SecretKey) -> SignedDescriptor {
    assert!(
        descriptor.ed25519 == key.public_key(),
        "a node signs what it says about itself"
    );
    let signature = key.sign(&descriptor.signed_text());
    SignedDescriptor {
        descriptor,
        signature,
    }
}

/// Reads a descriptor and verifies that the node it names signed it. Whether that is a node of the
/// network, and whether its time is right, is for the caller to find.
pub fn verify_descriptor(bytes: &[u8]) -> Result<Descriptor, BadDescriptor> {
    let signed = SignedDescriptor::parse(bytes)?;
    let text = signed.descriptor.signed_text();
    verify(&signed.descriptor.ed25519, &text, &signed.signature)
        .map_err(|_| BadDescriptor::Signature)?;
    Ok(signed.descriptor)
}

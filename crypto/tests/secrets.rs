//! What is secret can't be printed, not even by mistake.

use cepa_crypto::curve::Connection;
use cepa_crypto::link::{
    CookieJar, Initiation, KemSecretKey, LinkIdentity, LinkKeys, ReceivedInitiation,
};
use cepa_crypto::onion_v2::LayerKey;
use cepa_crypto::x25519::SharedSecret;
use cepa_crypto::{Account, Ed25519SecretKey, NodeKeys, X25519SecretKey};

/// For a type that can be printed two implementations apply, and `check` does not compile.
trait Unprintable<Reason> {
    fn check() -> bool {
        true
    }
}

struct Debugged;
struct Displayed;

impl<T> Unprintable<()> for T {}
impl<T: core::fmt::Debug> Unprintable<Debugged> for T {}
impl<T: core::fmt::Display> Unprintable<Displayed> for T {}

#[test]
fn secrets_are_not_printed() {
    assert!(<X25519SecretKey as Unprintable<_>>::check());
    assert!(<Ed25519SecretKey as Unprintable<_>>::check());
    assert!(<NodeKeys as Unprintable<_>>::check());
    assert!(<Account as Unprintable<_>>::check());
    assert!(<LayerKey as Unprintable<_>>::check());
    assert!(<SharedSecret as Unprintable<_>>::check());
    assert!(<Connection as Unprintable<_>>::check());
    assert!(<KemSecretKey as Unprintable<_>>::check());
    assert!(<LinkIdentity as Unprintable<_>>::check());
    assert!(<CookieJar as Unprintable<_>>::check());
    assert!(<Initiation as Unprintable<_>>::check());
    assert!(<ReceivedInitiation as Unprintable<_>>::check());
    assert!(<LinkKeys as Unprintable<_>>::check());
}

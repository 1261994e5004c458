//! The tests of packets once more, as on a CPU without AVX-512 IFMA.

#[path = "packet.rs"]
mod packet;
#[path = "relay.rs"]
mod relay;

use cepa_crypto::x25519::{Backend, ChooseError, available, choose};

#[test]
fn the_choice_is_the_one_of_these_tests() {
    assert_eq!(choose(Backend::Scalar), Ok(()));
    if available() != Backend::Scalar {
        assert_eq!(choose(available()), Err(ChooseError::InUse));
    }
}

//! The test of a peer over HTTPS: it must answer, and prove by a header which node it is
//! (`../shared/protocol/session-node.md`, 5.4).

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use cepa_wire::ServiceNode;
use hyper::StatusCode;

use crate::peer_https::PeerHttps;

/// How nodes write the key: padded; the reference takes it without as well.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Tests a peer; the error says why it failed.
pub(super) async fn test(https: &PeerHttps, peer: &ServiceNode) -> Result<(), String> {
    let answer = https.post(peer, "/ping_test/v1").await?;
    if answer.status() != StatusCode::OK {
        return Err(format!("it answered with status {}", answer.status()));
    }
    let key = answer.headers().get("X-Oxen-Snode-Pubkey");
    let key = key.ok_or("its answer says not which node it is")?;
    if parse_key(key.as_bytes()) == Some(peer.pubkey_legacy) {
        Ok(())
    } else {
        Err("another node answered".to_owned())
    }
}

/// A key in base64, or in hex.
fn parse_key(text: &[u8]) -> Option<[u8; 32]> {
    let decoded = match text.len() {
        43 | 44 => BASE64.decode(text).ok()?,
        64 => hex::decode(text).ok()?,
        _ => return None,
    };
    decoded.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_each_form() {
        let key = [0xfb; 32];
        let padded = BASE64.encode(key);
        assert_eq!(padded.len(), 44);
        assert_eq!(parse_key(padded.as_bytes()), Some(key));
        assert_eq!(
            parse_key(padded.trim_end_matches('=').as_bytes()),
            Some(key)
        );
        assert_eq!(parse_key(hex::encode(key).as_bytes()), Some(key));
        assert_eq!(parse_key(b""), None);
        assert_eq!(parse_key("!".repeat(44).as_bytes()), None);
    }
}

//! The test of a peer over HTTPS: it must answer, and prove by a header which node it is
//! (`../shared/protocol/session-node.md`, 5.4).

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use cepa_wire::ServiceNode;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What a peer's answer may take of memory, and hyper asks for at least: 8 KiB of headers.
const HEAD_SIZE_MAX: usize = 8 << 10;
/// How nodes write the key: padded; the reference takes it without as well.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What all tests share.
pub(super) struct Tester {
    tls: TlsConnector,
}

impl Tester {
    pub(super) fn new() -> Self {
        Self {
            tls: TlsConnector::from(cepa_tls::node_client_config()),
        }
    }

    /// Tests a peer; the error says why it failed.
    pub(super) async fn test(&self, peer: &ServiceNode) -> Result<(), String> {
        let stream = TcpStream::connect((peer.ip, peer.port))
            .await
            .map_err(describe)?;
        stream.set_nodelay(true).map_err(describe)?;
        let name = ServerName::IpAddress(peer.ip.into());
        let stream = self.tls.connect(name, stream).await.map_err(describe)?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_SIZE_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(describe)?;
        let [major, minor, patch] = ServiceNode::VERSION_DEFAULT;
        let request = Request::post("/ping_test/v1")
            .header(HOST, peer.host_name())
            .header(
                USER_AGENT,
                format!("Oxen Storage Server/{major}.{minor}.{patch}"),
            )
            .header(CONTENT_LENGTH, 0)
            .body(Empty::<Bytes>::new())
            .map_err(describe)?;
        let answer = sender.send_request(request);
        tokio::pin!(answer);
        let answer = tokio::select! {
            biased;
            answer = &mut answer => answer,
            // It may have ended because it had answered.
            ended = connection => match ended {
                Ok(()) => answer.await,
                Err(fault) => Err(fault),
            },
        };
        let answer = answer.map_err(describe)?;
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

#[expect(clippy::needless_pass_by_value, reason = "so that it fits map_err")]
fn describe(fault: impl ToString) -> String {
    fault.to_string()
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

//! TLS towards service nodes.
//!
//! A node makes its certificate itself, and nobody vouches for it: a certificate shows nothing, and
//! Session's clients do not look at it either. TLS towards a node keeps what is said from those who only
//! listen, and no more. Which node it is follows from keys inside: the layer of an onion opens with the
//! key of one node alone, CURVE proves a key, and the test of a peer has its key in a header.
//!
//! So [`node_client_config`] is right where a service node is spoken to, and only there, and only for
//! what is sealed to its key, is checked by a key, or may be read and changed by whoever stands
//! between. Towards a server of the web, whose name is all that one knows of it, it would be wrong:
//! `edge::proxy` has the roots of the system for those, and QUIC pins the node's key.
#![forbid(unsafe_code)]

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

/// The side that connects to a service node: takes any certificate, checks that the far end has the key
/// of the one it shows, and shows none itself.
pub fn node_client_config() -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(AnyCertificate(Arc::clone(&provider)));
    #[expect(clippy::expect_used, reason = "ring has the default versions of TLS")]
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions of TLS")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Arc::new(config)
}

/// Accepts any certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls::{ClientConnection, ServerConfig, ServerConnection};

    use super::*;

    /// A certificate of its own, with its key.
    fn make_node() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let made = rcgen::generate_simple_self_signed(vec!["service-node".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        (made.cert.der().clone(), key.into())
    }

    /// Whether a handshake with a server that shows this certificate and signs with this key succeeds.
    fn shake_hands(certificate: CertificateDer<'static>, key: &PrivateKeyDer<'static>) -> bool {
        let key = ring::sign::any_supported_type(key).unwrap();
        // Without asking whether the two belong together.
        let shown = SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key));
        let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shown));
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let name = ServerName::try_from("another.name").unwrap();
        let mut client = ClientConnection::new(node_client_config(), name).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut sent = Vec::new();
            client.write_tls(&mut sent).unwrap();
            server.read_tls(&mut sent.as_slice()).unwrap();
            let is_good = server.process_new_packets().is_ok();
            let mut answered = Vec::new();
            server.write_tls(&mut answered).unwrap();
            client.read_tls(&mut answered.as_slice()).unwrap();
            if client.process_new_packets().is_err() || !is_good {
                return false;
            }
        }
        true
    }

    #[test]
    fn any_certificate_will_do_for_who_has_its_key() {
        let (certificate, key) = make_node();
        assert!(shake_hands(certificate.clone(), &key));
        let (_, strangers_key) = make_node();
        assert!(!shake_hands(certificate, &strangers_key));
    }
}

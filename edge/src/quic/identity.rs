//! TLS 1.3 with raw Ed25519 keys (RFC 7250): a node is its key, and there are no certificates.
//!
//! rustls, as a server that asks for raw keys, refuses a client that does not say that it knows them
//! for itself, even if it has none to show. Every oxen-libquic says so.

use std::sync::Arc;

use cepa_crypto::Ed25519SecretKey;
use cepa_wire::Ed25519PublicKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, ResolvesClientCert};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};
use zeroize::Zeroizing;

/// The application protocol of a storage server.
pub(super) const ALPN: &[u8] = b"oxenstorage";

/// `SubjectPublicKeyInfo` of an Ed25519 key, before the key (RFC 8410, 4).
const PUBLIC_PREFIX: [u8; 12] = *b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// PKCS#8 of an Ed25519 key, before the seed (RFC 8410, 7).
const SECRET_PREFIX: [u8; 16] =
    *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";

/// Clients that may resume, and send early data once: what one costs is below 1 KiB.
const RESUMABLE_COUNT_MAX: usize = 8192;

/// The key as rustls takes it.
pub(super) fn certified(key: &Ed25519SecretKey) -> Result<Arc<CertifiedKey>, Error> {
    let secret = Zeroizing::new([&SECRET_PREFIX[..], key.seed()].concat());
    let signer = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(secret.as_slice()))?;
    let public = [&PUBLIC_PREFIX[..], key.public_key().as_bytes()].concat();
    Ok(Arc::new(CertifiedKey::new(
        vec![CertificateDer::from(public)],
        signer,
    )))
}

/// The key of a peer, from what it showed.
pub(super) fn read_key(shown: &CertificateDer<'_>) -> Option<Ed25519PublicKey> {
    Ed25519PublicKey::from_slice(shown.strip_prefix(PUBLIC_PREFIX.as_slice())?)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A server that shows `key`, asks for a client's key and is content without.
///
/// Early data is taken: tickets are kept here and are good once, so that the same early data is not
/// taken twice; what it may ask for is for [`super::Endpoints::is_idempotent`] to say.
pub(super) fn server_config(key: &Ed25519SecretKey) -> Result<ServerConfig, Error> {
    let verifier = Arc::new(AnyRawKey(Algorithms::new()));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(
            key,
        )?)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(RESUMABLE_COUNT_MAX);
    // QUIC has no limit of its own: it is this number or none (RFC 9001, 4.6.1).
    config.max_early_data_size = u32::MAX;
    // Two by default; a client comes back once.
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// A client that takes only the server `expected`, and shows `own` if it has one.
pub(super) fn client_config(
    expected: Ed25519PublicKey,
    own: Option<&Arc<CertifiedKey>>,
) -> Result<ClientConfig, Error> {
    let verifier = Arc::new(Pinned {
        expected,
        algorithms: Algorithms::new(),
    });
    let resolver: Arc<dyn ResolvesClientCert> = match own {
        Some(key) => Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(key))),
        None => Arc::new(NoRawKey),
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(resolver);
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// What signatures of handshakes are verified with.
#[derive(Debug)]
struct Algorithms(WebPkiSupportedAlgorithms);

impl Algorithms {
    fn new() -> Self {
        Self(ring::default_provider().signature_verification_algorithms)
    }

    fn verify(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
        rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, signature, &self.0)
    }
}

fn no_tls12() -> Error {
    Error::General("QUIC is TLS 1.3".to_owned())
}

/// A client that has no key, and says that a raw one would be welcome: see the module's words.
#[derive(Debug)]
struct NoRawKey;

impl ResolvesClientCert for NoRawKey {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// Takes every Ed25519 key that proves itself: who a client is matters to nobody here, and to
/// subscriptions only that it is the same.
#[derive(Debug)]
struct AnyRawKey(Algorithms);

impl ClientCertVerifier for AnyRawKey {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match read_key(end_entity) {
            Some(_) => Ok(ClientCertVerified::assertion()),
            None => Err(CertificateError::BadEncoding.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Takes one key.
#[derive(Debug)]
struct Pinned {
    expected: Ed25519PublicKey,
    algorithms: Algorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = read_key(end_entity).ok_or(CertificateError::BadEncoding)?;
        if shown == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.algorithms.verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

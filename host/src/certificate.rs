//! The node's TLS certificate: self-signed P-256, made once and kept. Clients do not verify it; what
//! they send is sealed to the node's own keys.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ServerSessionMemoryCache;

use crate::StartError;

/// TLS 1.2 clients that may resume: their secrets are kept here. TLS 1.3 clients keep their own.
const RESUMABLE_COUNT_MAX: usize = 4096;

/// Reads the certificate of `dir`, or makes one.
pub(crate) fn server_config(dir: &Path) -> Result<Arc<ServerConfig>, StartError> {
    let certificate = dir.join("tls_certificate.pem");
    let key = dir.join("tls_key.pem");
    if !key.try_exists().map_err(|error| fault(&error))? {
        make(&certificate, &key)?;
    }
    let chain = CertificateDer::from_pem_file(&certificate).map_err(|error| fault(&error))?;
    let key = PrivateKeyDer::from_pem_file(&key).map_err(|error| fault(&error))?;
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(&error))?
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .map_err(|error| fault(&error))?;
    config.session_storage = ServerSessionMemoryCache::new(RESUMABLE_COUNT_MAX);
    config.ticketer = ring::Ticketer::new().map_err(|error| fault(&error))?;
    Ok(Arc::new(config))
}

fn make(certificate_path: &Path, key_path: &Path) -> Result<(), StartError> {
    let key = KeyPair::generate().map_err(|error| fault(&error))?;
    let mut params =
        CertificateParams::new(vec!["localhost".to_owned()]).map_err(|error| fault(&error))?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2050, 1, 1);
    let certificate = params.self_signed(&key).map_err(|error| fault(&error))?;
    fs::write(certificate_path, certificate.pem()).map_err(|error| fault(&error))?;
    // The key comes last and whole: whoever finds it finds its certificate too.
    write_secret(key_path, key.serialize_pem().as_bytes()).map_err(|error| fault(&error))
}

fn write_secret(path: &Path, contents: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

fn fault(error: &dyn core::fmt::Display) -> StartError {
    StartError::Certificate(error.to_string())
}

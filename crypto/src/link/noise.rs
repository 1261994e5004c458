//! What `snow` computes with: ring's cipher and hash, our X25519, and randomness that it is given.

use ring::digest::{Context, SHA256};
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use cepa_wire::X25519PublicKey;

use super::transport::AeadKey;
use crate::X25519SecretKey;

/// The name fixes every primitive.
const NOISE: &str = "Noise_IKpsk2_25519_AESGCM_SHA256";

const TAG_SIZE: usize = 16;

/// A handshake of the initiator, whose ephemeral key is `random`.
pub(super) fn initiator(
    (secret, peer): (&X25519SecretKey, &X25519PublicKey),
    psk: &[u8; 32],
    prologue: &[u8],
    random: [u8; 32],
) -> Result<HandshakeState, Error> {
    let secret = secret.to_bytes();
    builder(random)?
        .local_private_key(secret.as_slice())?
        .remote_public_key(&peer.0)?
        .psk(2, psk)?
        .prologue(prologue)?
        .build_initiator()
}

/// A handshake of the responder, whose ephemeral key is `random`. Its pre-shared key comes later.
pub(super) fn responder(
    secret: &X25519SecretKey,
    prologue: &[u8],
    random: [u8; 32],
) -> Result<HandshakeState, Error> {
    let secret = secret.to_bytes();
    builder(random)?
        .local_private_key(secret.as_slice())?
        .prologue(prologue)?
        .build_responder()
}

fn builder(random: [u8; 32]) -> Result<Builder<'static>, Error> {
    let params: NoiseParams = NOISE.parse()?;
    let resolver = Resolver(Zeroizing::new(random));
    Ok(Builder::with_resolver(params, Box::new(resolver)))
}

struct Resolver(Zeroizing<[u8; 32]>);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Given(Some(self.0.clone()))))
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(X25519::default()))
    }

    fn resolve_hash(&self, _: &HashChoice) -> Option<Box<dyn Hash>> {
        Some(Box::new(Sha256(Context::new(&SHA256))))
    }

    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::new(AesGcm(AeadKey::new(&[0; 32]))))
    }
}

/// Randomness for one key.
struct Given(Option<Zeroizing<[u8; 32]>>);

impl Random for Given {
    fn try_fill_bytes(&mut self, room: &mut [u8]) -> Result<(), Error> {
        let bytes = self.0.take().filter(|bytes| bytes.len() == room.len());
        room.copy_from_slice(bytes.ok_or(Error::Rng)?.as_slice());
        Ok(())
    }
}

/// A key pair. Without a secret, nothing is computed.
#[derive(Default)]
struct X25519 {
    secret: Option<(X25519SecretKey, Zeroizing<[u8; 32]>)>,
    public: [u8; 32],
}

impl X25519 {
    fn set_bytes(&mut self, bytes: [u8; 32]) {
        let secret = X25519SecretKey::from_bytes(bytes);
        self.public = secret.public_key().0;
        self.secret = Some((secret, Zeroizing::new(bytes)));
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, secret: &[u8]) {
        if let Ok(bytes) = secret.try_into() {
            self.set_bytes(bytes);
        }
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        random.try_fill_bytes(bytes.as_mut_slice())?;
        self.set_bytes(*bytes);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        match &self.secret {
            Some((_, bytes)) => bytes.as_slice(),
            None => &[],
        }
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        #[cfg(test)]
        DH_COUNT.set(DH_COUNT.get() + 1);
        let public = public.get(..32).and_then(X25519PublicKey::from_slice);
        let ((secret, _), public) = self.secret.as_ref().zip(public).ok_or(Error::Dh)?;
        let shared = secret.diffie_hellman(&public).map_err(|_| Error::Dh)?;
        let room = out.first_chunk_mut().ok_or(Error::Dh)?;
        *room = *shared;
        Ok(())
    }
}

struct Sha256(Context);

impl Hash for Sha256 {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Context::new(&SHA256);
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let context = core::mem::replace(&mut self.0, Context::new(&SHA256));
        let digest = context.finish();
        out.iter_mut()
            .zip(digest.as_ref())
            .for_each(|(to, from)| *to = *from);
    }
}

struct AesGcm(AeadKey);

impl Cipher for AesGcm {
    fn name(&self) -> &'static str {
        "AESGCM"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = AeadKey::new(key);
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let size = plaintext.len();
        // snow has looked at the room before.
        let (body, rest) = out.split_at_mut(size);
        body.copy_from_slice(plaintext);
        let tag = self.0.seal(nonce, authtext, body);
        rest.iter_mut().zip(tag).for_each(|(to, from)| *to = from);
        size + TAG_SIZE
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let mut sealed = Zeroizing::new(ciphertext.to_vec());
        let opened = self.0.open(nonce, authtext, &mut sealed);
        let opened = opened.map_err(|_| Error::Decrypt)?;
        let room = out.get_mut(..opened.len()).ok_or(Error::Decrypt)?;
        room.copy_from_slice(opened);
        Ok(opened.len())
    }
}

#[cfg(test)]
std::thread_local! {
    /// Diffie-Hellmans of this thread.
    pub(super) static DH_COUNT: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
}

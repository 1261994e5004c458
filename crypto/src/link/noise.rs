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

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    /// Counter, text and sealed frame.
    const FRAMES: [(u64, &str, &str); 3] = [
        (
            0,
            "F. A. Hayek",
            "38cbf3835c78b7802df0dd0d9640ff8575debd0cb61cfb52590da1",
        ),
        (
            0,
            "Carl Menger",
            "ffc365ff6955fc66c5d809b31ac995f812c5770bd29f0df12f0ffd",
        ),
        (
            1,
            "Jean-Baptiste Say",
            "a7f2828174c4ead2491ffeb77c41c890fd1229ee36f23ccb9066a795daff1cad6b",
        ),
    ];

    /// From the vectors of cacophony, which other implementations of Noise are tested with.
    #[test]
    fn cacophony_vector() {
        let prologue = b"John Galt";
        let psk = *b"This is my Austrian perspective!";
        let [initiator_key, responder_key] = [
            "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
            "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
        ]
        .map(|key| X25519SecretKey::from_bytes(bytes(key)));
        let [one, other] = [
            "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
            "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
        ]
        .map(bytes);
        let ends = (&initiator_key, &responder_key.public_key());
        let mut initiator = initiator(ends, &psk, prologue, one).unwrap();
        let mut responder = responder(&responder_key, prologue, other).unwrap();
        let (mut message, mut payload) = ([0; 256], [0; 256]);

        let size = initiator.write_message(b"Ludwig von Mises", &mut message);
        let first = &message[..size.unwrap()];
        assert_eq!(
            hex::encode(first),
            concat!(
                "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944",
                "5a1baf339186d7867062b0dd31f5de322d370165d217939b2b7ed9e2bae78404",
                "58ea65c2ce1554e0e8077fe7334c4bd514c658fd04d97b86d216f58f59714a7e",
                "24144155045c8f36bed85a2cb0fd9af7"
            )
        );
        let size = responder.read_message(first, &mut payload).unwrap();
        assert_eq!(&payload[..size], b"Ludwig von Mises");
        responder.set_psk(2, &psk).unwrap();
        let size = responder.write_message(b"Murray Rothbard", &mut message);
        let second = &message[..size.unwrap()];
        assert_eq!(
            hex::encode(second),
            concat!(
                "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843",
                "2fe8d675e949799d2a968211a66cc7ba2b0f4cad8eda3c2bd37eae737bbf88"
            )
        );
        initiator.read_message(second, &mut payload).unwrap();
        assert_eq!(
            hex::encode(initiator.get_handshake_hash()),
            "48c3f1eb397c797af6b139032c6074cb41282ff033ee25d5aee4a4badd3a2c3f"
        );
        let (sending, receiving) = initiator.dangerously_get_raw_split();
        assert_eq!((sending, receiving), responder.dangerously_get_raw_split());
        let keys = [sending, receiving, sending];
        for (key, (counter, text, sealed)) in keys.into_iter().zip(FRAMES) {
            let mut body = text.as_bytes().to_vec();
            let tag = AeadKey::new(&key).seal(counter, b"", &mut body);
            body.extend(tag);
            assert_eq!(hex::encode(&body), sealed);
            let opened = AeadKey::new(&key).open(counter, b"", &mut body);
            assert_eq!(opened.unwrap(), text.as_bytes());
        }
    }
}

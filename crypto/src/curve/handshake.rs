//! The four commands of the CURVE handshake (RFC 26/CURVEZMQ), a type for each side's next step: what
//! may not happen now has no method now.
//!
//! Names are the specification's: C, S long-term keys of client and server; C', S' short-term keys.

use cepa_wire::X25519PublicKey;
use cepa_wire::zmtp::{find_property, join_command, join_metadata};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::ConnectionError;
use crate::X25519SecretKey;
use crate::primitive::{box_key, secretbox_open, secretbox_seal};

type Result<T> = core::result::Result<T, ConnectionError>;

const COOKIE_SIZE: usize = 96;
const VOUCH_SIZE: usize = 80;

/// What both sides have when the handshake is done.
pub(super) struct Agreed {
    /// The key of all traffic, from C' and S'.
    pub(super) key: Zeroizing<[u8; 32]>,
    /// The peer's long-term key, proven.
    pub(super) peer: X25519PublicKey,
    /// The number of our last nonce.
    pub(super) sent: u64,
    /// The number of the peer's last nonce.
    pub(super) received: u64,
}

/// A nonce of a 16-byte prefix and a number.
pub(super) fn short_nonce(prefix: [u8; 16], number: u64) -> [u8; 24] {
    join(prefix, number.to_be_bytes())
}

/// A nonce of an 8-byte prefix and 16 random bytes.
fn long_nonce(prefix: [u8; 8], random: [u8; 16]) -> [u8; 24] {
    join(prefix, random)
}

fn join<const A: usize, const B: usize>(head: [u8; A], tail: [u8; B]) -> [u8; 24] {
    const { assert!(A + B == 24) };
    let mut bytes = head.into_iter().chain(tail);
    core::array::from_fn(|_| bytes.next().unwrap_or_default())
}

/// The next `N` bytes of what the caller drew.
fn draw<const N: usize>(random: &mut impl Iterator<Item = u8>) -> [u8; N] {
    core::array::from_fn(|_| random.next().unwrap_or_default())
}

fn precompute(ours: &X25519SecretKey, theirs: &X25519PublicKey) -> Result<Zeroizing<[u8; 32]>> {
    let shared = ours.diffie_hellman(theirs);
    Ok(box_key(&*shared.map_err(|_| {
        ConnectionError::PeerMisbehaved("weak key")
    })?))
}

fn open(key: &[u8; 32], nonce: &[u8; 24], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let opened = secretbox_open(key, nonce, sealed);
    opened
        .map(Zeroizing::new)
        .map_err(|_| ConnectionError::Decrypt)
}

/// Takes `N` bytes off the front.
fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N]> {
    let (head, rest) = input
        .split_first_chunk()
        .ok_or(ConnectionError::PeerMisbehaved(
            "handshake command is too short",
        ))?;
    *input = rest;
    Ok(*head)
}

/// Checks the metadata's form, and that the peer's socket goes with ours.
fn check_metadata(metadata: &[u8], types: &[&[u8]]) -> Result<()> {
    let socket_type = find_property(metadata, "Socket-Type")
        .map_err(|_| ConnectionError::PeerMisbehaved("metadata is malformed"))?;
    if socket_type.is_some_and(|name| types.contains(&name)) {
        Ok(())
    } else {
        Err(ConnectionError::PeerMisbehaved(
            "socket type does not match",
        ))
    }
}

/// The client before WELCOME.
pub(super) struct AwaitWelcome {
    long_term: X25519SecretKey,
    short_term: X25519SecretKey,
    server: X25519PublicKey,
    vouch_nonce: [u8; 16],
    metadata: Vec<u8>,
}

impl AwaitWelcome {
    pub(super) fn new(
        long_term: &X25519SecretKey,
        server: X25519PublicKey,
        identity: &[u8],
        mut random: [u8; 48],
    ) -> Self {
        let mut drawn = random.iter().copied();
        let state = Self {
            long_term: long_term.clone(),
            short_term: X25519SecretKey::from_bytes(draw(&mut drawn)),
            server,
            vouch_nonce: draw(&mut drawn),
            metadata: join_metadata([("Socket-Type", &b"DEALER"[..]), ("Identity", identity)]),
        };
        random.zeroize();
        state
    }

    /// HELLO: version 1.0, padding, C', nonce 1, Box[64 zeros](C'->S).
    pub(super) fn hello(&self) -> Result<Vec<u8>> {
        let key = precompute(&self.short_term, &self.server)?;
        let nonce = short_nonce(*b"CurveZMQHELLO---", 1);
        let mut body = vec![1, 0];
        body.resize(74, 0);
        body.extend_from_slice(self.short_term.public_key().as_bytes());
        body.extend_from_slice(&1_u64.to_be_bytes());
        body.extend_from_slice(&secretbox_seal(&key, &nonce, &[0; 64]));
        Ok(join_command("HELLO", &body))
    }

    /// Takes WELCOME: 16 bytes of nonce, Box[S' + cookie](S->C'). Gives INITIATE.
    pub(super) fn handle_welcome(self, mut data: &[u8]) -> Result<(AwaitReady, Vec<u8>)> {
        let nonce = long_nonce(*b"WELCOME-", take(&mut data)?);
        let welcome = open(&*precompute(&self.short_term, &self.server)?, &nonce, data)?;
        let mut fields = welcome.as_slice();
        let server_short = X25519PublicKey(take(&mut fields)?);
        let cookie: [u8; COOKIE_SIZE] = take(&mut fields)?;
        let key = precompute(&self.short_term, &server_short)?;
        let initiate = self.initiate(&server_short, &cookie, &key)?;
        Ok((
            AwaitReady {
                key,
                server: self.server,
            },
            initiate,
        ))
    }

    /// INITIATE: cookie, nonce 2, Box[C + vouch nonce + vouch + metadata](C'->S').
    fn initiate(
        &self,
        server_short: &X25519PublicKey,
        cookie: &[u8; COOKIE_SIZE],
        key: &[u8; 32],
    ) -> Result<Vec<u8>> {
        // vouch = Box[C' + S](C->S')
        let vouched = [*self.short_term.public_key().as_bytes(), self.server.0].concat();
        let vouch_key = precompute(&self.long_term, server_short)?;
        let vouch_nonce = long_nonce(*b"VOUCH---", self.vouch_nonce);
        let vouch = secretbox_seal(&vouch_key, &vouch_nonce, &vouched);
        let plaintext = Zeroizing::new(
            [
                self.long_term.public_key().as_bytes().as_slice(),
                &self.vouch_nonce,
                &vouch,
                &self.metadata,
            ]
            .concat(),
        );
        let sealed = secretbox_seal(key, &short_nonce(*b"CurveZMQINITIATE", 2), &plaintext);
        let body = [cookie.as_slice(), &2_u64.to_be_bytes(), &sealed].concat();
        Ok(join_command("INITIATE", &body))
    }
}

/// The client before READY.
pub(super) struct AwaitReady {
    key: Zeroizing<[u8; 32]>,
    server: X25519PublicKey,
}

impl AwaitReady {
    /// Takes READY: nonce, Box[metadata](S'->C').
    pub(super) fn handle_ready(self, mut data: &[u8]) -> Result<Agreed> {
        let number = u64::from_be_bytes(take(&mut data)?);
        let metadata = open(&self.key, &short_nonce(*b"CurveZMQREADY---", number), data)?;
        check_metadata(&metadata, &[b"ROUTER", b"DEALER", b"REP"])?;
        Ok(Agreed {
            key: self.key,
            peer: self.server,
            sent: 2,
            received: number,
        })
    }
}

/// The server before HELLO.
pub(super) struct AwaitHello {
    long_term: X25519SecretKey,
    short_term: X25519SecretKey,
    cookie_key: Zeroizing<[u8; 32]>,
    cookie_nonce: [u8; 16],
    welcome_nonce: [u8; 16],
}

impl AwaitHello {
    pub(super) fn new(long_term: &X25519SecretKey, mut random: [u8; 96]) -> Self {
        let mut drawn = random.iter().copied();
        let state = Self {
            long_term: long_term.clone(),
            short_term: X25519SecretKey::from_bytes(draw(&mut drawn)),
            cookie_key: Zeroizing::new(draw(&mut drawn)),
            cookie_nonce: draw(&mut drawn),
            welcome_nonce: draw(&mut drawn),
        };
        random.zeroize();
        state
    }

    /// Takes HELLO and gives WELCOME.
    pub(super) fn handle_hello(self, mut data: &[u8]) -> Result<(AwaitInitiate, Vec<u8>)> {
        let [major, minor] = take(&mut data)?;
        if (major, minor) != (1, 0) {
            return Err(ConnectionError::PeerMisbehaved("unknown version of CURVE"));
        }
        let _padding: [u8; 72] = take(&mut data)?;
        let client_short = X25519PublicKey(take(&mut data)?);
        let number = u64::from_be_bytes(take(&mut data)?);
        let key = precompute(&self.long_term, &client_short)?;
        let zeros = open(&key, &short_nonce(*b"CurveZMQHELLO---", number), data)?;
        if zeros.len() != 64 {
            return Err(ConnectionError::PeerMisbehaved("HELLO has the wrong size"));
        }
        let server_short = self.short_term.public_key();
        let cookie = self.cookie(&client_short, &server_short);
        // WELCOME: 16 bytes of nonce, Box[S' + cookie](S->C').
        let nonce = long_nonce(*b"WELCOME-", self.welcome_nonce);
        let plaintext = [server_short.as_bytes().as_slice(), &cookie].concat();
        let sealed = secretbox_seal(&key, &nonce, &plaintext);
        let welcome = join_command(
            "WELCOME",
            &[self.welcome_nonce.as_slice(), &sealed].concat(),
        );
        let next = AwaitInitiate {
            long_term: self.long_term.public_key(),
            short_term: self.short_term,
            client_short,
            cookie,
            hello_number: number,
        };
        Ok((next, welcome))
    }

    /// 16 bytes of nonce, Box[C' + a mark of S'](t). A server that forgets between HELLO and INITIATE
    /// would put its short-term secret here; this one keeps it and only compares the cookie, so the
    /// secret does not travel at all.
    fn cookie(
        &self,
        client_short: &X25519PublicKey,
        server_short: &X25519PublicKey,
    ) -> [u8; COOKIE_SIZE] {
        let nonce = long_nonce(*b"COOKIE--", self.cookie_nonce);
        let plaintext = [client_short.0, server_short.0].concat();
        let sealed = secretbox_seal(&self.cookie_key, &nonce, &plaintext);
        let mut bytes = self.cookie_nonce.into_iter().chain(sealed);
        core::array::from_fn(|_| bytes.next().unwrap_or_default())
    }
}

/// The server before INITIATE.
pub(super) struct AwaitInitiate {
    long_term: X25519PublicKey,
    short_term: X25519SecretKey,
    client_short: X25519PublicKey,
    cookie: [u8; COOKIE_SIZE],
    hello_number: u64,
}

impl AwaitInitiate {
    /// Takes INITIATE and gives READY.
    pub(super) fn handle_initiate(self, mut data: &[u8]) -> Result<(Agreed, Vec<u8>)> {
        let cookie: [u8; COOKIE_SIZE] = take(&mut data)?;
        if !bool::from(cookie.as_slice().ct_eq(self.cookie.as_slice())) {
            return Err(ConnectionError::PeerMisbehaved("cookie is not ours"));
        }
        let number = u64::from_be_bytes(take(&mut data)?);
        if number <= self.hello_number {
            return Err(ConnectionError::PeerMisbehaved("nonce does not grow"));
        }
        let key = precompute(&self.short_term, &self.client_short)?;
        let initiate = open(&key, &short_nonce(*b"CurveZMQINITIATE", number), data)?;
        let mut fields = initiate.as_slice();
        let client = X25519PublicKey(take(&mut fields)?);
        let vouch_nonce = long_nonce(*b"VOUCH---", take(&mut fields)?);
        let vouch: [u8; VOUCH_SIZE] = take(&mut fields)?;
        self.check_vouch(&client, &vouch_nonce, &vouch)?;
        check_metadata(fields, &[b"DEALER", b"ROUTER", b"REQ"])?;
        // READY: nonce 1, Box[metadata](S'->C').
        let metadata = join_metadata([("Socket-Type", &b"ROUTER"[..]), ("Identity", &[])]);
        let sealed = secretbox_seal(&key, &short_nonce(*b"CurveZMQREADY---", 1), &metadata);
        let ready = join_command("READY", &[1_u64.to_be_bytes().as_slice(), &sealed].concat());
        Ok((
            Agreed {
                key,
                peer: client,
                sent: 1,
                received: number,
            },
            ready,
        ))
    }

    /// Only the owner of C can have boxed C' and S for S': so the short-term key is C's.
    fn check_vouch(
        &self,
        client: &X25519PublicKey,
        nonce: &[u8; 24],
        vouch: &[u8; VOUCH_SIZE],
    ) -> Result<()> {
        let key = precompute(&self.short_term, client)?;
        let vouched = open(&key, nonce, vouch)?;
        let expected = [self.client_short.0, self.long_term.0].concat();
        if bool::from(vouched.as_slice().ct_eq(&expected)) {
            Ok(())
        } else {
            Err(ConnectionError::PeerMisbehaved("vouch is for other keys"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INITIATE_NAME_SIZE: usize = 9;

    fn secret(byte: u8) -> X25519SecretKey {
        X25519SecretKey::from_bytes([byte; 32])
    }

    /// A client that got its WELCOME, and the server that waits for INITIATE.
    fn welcomed() -> (AwaitWelcome, AwaitInitiate, [u8; COOKIE_SIZE]) {
        let server = secret(2);
        let client = AwaitWelcome::new(&secret(1), server.public_key(), b"", [3; 48]);
        let hello = client.hello().unwrap();
        let (server, _) = AwaitHello::new(&server, [4; 96])
            .handle_hello(&hello[6..])
            .unwrap();
        let cookie = server.cookie;
        (client, server, cookie)
    }

    /// What the server makes of the INITIATE of `client`, its plaintext changed by `change`.
    fn initiated(
        client: &AwaitWelcome,
        server: AwaitInitiate,
        cookie: &[u8; COOKIE_SIZE],
        change: impl Fn(&mut Vec<u8>),
    ) -> Result<X25519PublicKey> {
        let server_short = server.short_term.public_key();
        let key = precompute(&client.short_term, &server_short)?;
        let initiate = client.initiate(&server_short, cookie, &key)?;
        let (head, sealed) = initiate.split_at(INITIATE_NAME_SIZE + COOKIE_SIZE + 8);
        let nonce = short_nonce(*b"CurveZMQINITIATE", 2);
        let mut plaintext = open(&key, &nonce, sealed)?;
        change(&mut plaintext);
        let changed = [head, &secretbox_seal(&key, &nonce, &plaintext)].concat();
        let (agreed, _) = server.handle_initiate(&changed[INITIATE_NAME_SIZE..])?;
        Ok(agreed.peer)
    }

    #[test]
    fn nobody_passes_for_the_owner_of_another_key() {
        let (client, server, cookie) = welcomed();
        let own = initiated(&client, server, &cookie, |_| ());
        assert_eq!(own, Ok(secret(1).public_key()));

        // C of a victim, with the vouch that our own key can make.
        let (client, server, cookie) = welcomed();
        let stolen = initiated(&client, server, &cookie, |plaintext| {
            plaintext[..32].copy_from_slice(secret(9).public_key().as_bytes());
        });
        assert_eq!(stolen, Err(ConnectionError::Decrypt));
    }

    #[test]
    fn a_vouch_counts_for_one_server_and_one_connection() {
        let bad = Err(ConnectionError::PeerMisbehaved("vouch is for other keys"));
        let (mut client, server, cookie) = welcomed();
        client.server = secret(9).public_key();
        assert_eq!(initiated(&client, server, &cookie, |_| ()), bad);

        // The vouch of another connection: C' there was another.
        let (client, server, cookie) = welcomed();
        let other = secret(8).public_key();
        let vouched = [other.0, secret(2).public_key().0].concat();
        let key = precompute(&client.long_term, &server.short_term.public_key()).unwrap();
        let nonce = long_nonce(*b"VOUCH---", client.vouch_nonce);
        let vouch = secretbox_seal(&key, &nonce, &vouched);
        let reused = initiated(&client, server, &cookie, |plaintext| {
            plaintext[48..48 + VOUCH_SIZE].copy_from_slice(&vouch);
        });
        assert_eq!(reused, bad);
    }

    #[test]
    fn metadata_must_name_a_socket_that_goes_with_ours() {
        let sockets = [(&b"PUB"[..], false), (b"DEALER", true), (b"ROUTER", true)];
        for (name, fits) in sockets {
            let (client, server, cookie) = welcomed();
            let result = initiated(&client, server, &cookie, |plaintext| {
                plaintext.truncate(48 + VOUCH_SIZE);
                plaintext.extend(join_metadata([("socket-type", name)]));
            });
            assert_eq!(result.is_ok(), fits);
        }
        for metadata in [&b""[..], b"\x0bSocket-Type", b"\xff"] {
            let (client, server, cookie) = welcomed();
            let result = initiated(&client, server, &cookie, |plaintext| {
                plaintext.truncate(48 + VOUCH_SIZE);
                plaintext.extend(metadata);
            });
            assert!(result.is_err());
        }
    }
}

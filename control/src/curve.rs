//! One question over a CURVE connection of its own (`../shared/protocol/session-node.md`, 5.1).

use bytes::Bytes;
use cepa_crypto::X25519SecretKey;
use cepa_crypto::curve::Connection;
use cepa_wire::X25519PublicKey;
use cepa_wire::omq::{self, Message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, ToSocketAddrs};
use zeroize::Zeroizing;

/// One read of the socket.
const READ_SIZE: usize = 16 << 10;
const TAG: &[u8] = b"ask";

/// What is asked.
pub(crate) struct Question {
    /// Such as `sn.ping`.
    pub(crate) command: &'static str,
    /// Its parts.
    pub(crate) parts: Vec<Bytes>,
    /// More bytes than a handshake and the answer take are no answer.
    pub(crate) answer_size_max: usize,
}

/// Asks whoever listens at `address` and proves to have the key `server`; gives the parts of the
/// reply. The error says what went wrong. Waits as long as it takes: the caller bounds that.
pub(crate) async fn ask(
    us: &X25519SecretKey,
    server: X25519PublicKey,
    address: impl ToSocketAddrs,
    question: Question,
) -> Result<Vec<Bytes>, String> {
    let mut random = Zeroizing::new([0; 48]);
    getrandom::fill(random.as_mut_slice()).map_err(|fault| fault.to_string())?;
    // Without a routing id of ours: with it a peer would take this connection for the one that is
    // held, and answer others' requests here.
    let mut connection = Connection::client(us, server, b"", *random);
    let describe = |fault: std::io::Error| fault.to_string();
    let mut stream = TcpStream::connect(address).await.map_err(describe)?;
    stream.set_nodelay(true).map_err(describe)?;
    let mut buffer = vec![0; READ_SIZE];
    let mut received = 0;
    let mut parts = Some(question.parts);
    loop {
        if connection.is_ready()
            && let Some(parts) = parts.take()
        {
            let tag = Bytes::from_static(TAG);
            connection.send(&omq::request(question.command, tag, parts));
        }
        let output = connection.take_output();
        stream.write_all(&output).await.map_err(describe)?;
        let size = stream.read(&mut buffer).await.map_err(describe)?;
        received += size;
        if size == 0 || received > question.answer_size_max {
            return Err("it does not answer, but closes or goes on".to_owned());
        }
        let input = buffer.get(..size).unwrap_or_default();
        connection
            .handle_bytes(input)
            .map_err(|fault| fault.to_string())?;
        while let Some(message) = connection.poll_message() {
            match Message::parse(message) {
                Some(Message::Reply { tag, parts }) if tag == TAG => return Ok(parts),
                Some(Message::Refused { word, .. }) => {
                    let word = String::from_utf8_lossy(&word);
                    return Err(format!("it answered with {word}"));
                }
                _ => {}
            }
        }
    }
}

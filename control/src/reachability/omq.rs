//! The test of a peer over OMQ: `sn.ping` over a CURVE connection of its own
//! (`../shared/protocol/session-node.md`, 5.1).

use bytes::Bytes;
use cepa_crypto::X25519SecretKey;
use cepa_crypto::curve::Connection;
use cepa_wire::ServiceNode;
use cepa_wire::omq::{self, Message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

/// One read: a handshake and a word.
const READ_SIZE: usize = 2 << 10;
/// More bytes than a handshake and some words come from no peer that only answers.
const INPUT_SIZE_MAX: usize = 16 << 10;

/// Tests a peer; the error says why it failed. Any reply will do: that it came over this connection
/// proves whose it is.
pub(super) async fn test(us: &X25519SecretKey, peer: &ServiceNode) -> Result<(), String> {
    const TAG: &[u8] = b"ping";
    let mut random = Zeroizing::new([0; 48]);
    getrandom::fill(random.as_mut_slice()).map_err(|fault| fault.to_string())?;
    // Without a routing id of ours: with it the peer would take this connection for the one that is
    // held, and answer others' requests here.
    let mut connection = Connection::client(us, peer.pubkey_x25519, b"", *random);
    let describe = |fault: std::io::Error| fault.to_string();
    let mut stream = TcpStream::connect((peer.ip, peer.omq_port))
        .await
        .map_err(describe)?;
    stream.set_nodelay(true).map_err(describe)?;
    let mut buffer = [0; READ_SIZE];
    let mut received = 0;
    let mut is_asked = false;
    loop {
        if connection.is_ready() && !is_asked {
            is_asked = true;
            connection.send(&omq::request("sn.ping", Bytes::from_static(TAG), []));
        }
        let output = connection.take_output();
        stream.write_all(&output).await.map_err(describe)?;
        let size = stream.read(&mut buffer).await.map_err(describe)?;
        received += size;
        if size == 0 || received > INPUT_SIZE_MAX {
            return Err("it does not answer, but closes or goes on".to_owned());
        }
        let input = buffer.get(..size).unwrap_or_default();
        connection
            .handle_bytes(input)
            .map_err(|fault| fault.to_string())?;
        while let Some(parts) = connection.poll_message() {
            match Message::parse(parts) {
                Some(Message::Reply { tag, .. }) if tag == TAG => return Ok(()),
                Some(Message::Refused { word, .. }) => {
                    let word = String::from_utf8_lossy(&word);
                    return Err(format!("it answered with {word}"));
                }
                _ => {}
            }
        }
    }
}

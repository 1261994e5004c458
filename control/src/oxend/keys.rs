//! The node's keys, which oxend holds.

use bytes::Bytes;
use cepa_crypto::{NodeKeys, SecretKeys};
use cepa_wire::omq::{self, Message};
use serde::Deserialize;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use zeroize::Zeroize as _;

use super::driver::BackOff;
use super::link::Link;
use super::{ANSWER_TIMEOUT, OxendAddress};

/// Asks oxend for the keys of this node until it gives them. Says what it waits for whenever that
/// changes. May be dropped at any time, as a signal to stop does.
pub async fn fetch_keys(address: &OxendAddress) -> NodeKeys {
    let mut back_off = BackOff::new();
    let mut last_fault = String::new();
    loop {
        match fetch_once(address).await {
            Ok(keys) => {
                info!("oxend gave the keys of this node");
                return keys;
            }
            Err(fault) if fault != last_fault => {
                warn!(
                    %fault,
                    "waiting for oxend, see oxend_rpc, to give the keys of this node"
                );
                last_fault = fault;
            }
            Err(_) => {}
        }
        sleep(back_off.next()).await;
    }
}

/// Asks once.
pub(super) async fn fetch_once(address: &OxendAddress) -> Result<NodeKeys, String> {
    let body = ask_once(address, "admin.get_service_node_privkey", None).await?;
    let keys = parse(&body);
    // The connection is gone, and with it whoever else knew these bytes.
    if let Ok(mut body) = body.try_into_mut() {
        body.zeroize();
    }
    keys
}

/// One question over a connection of its own; gives the body of the answer.
pub(super) async fn ask_once(
    address: &OxendAddress,
    command: &'static str,
    params: Option<Bytes>,
) -> Result<Bytes, String> {
    let link = Link::open(address)
        .await
        .map_err(|fault| fault.to_string())?;
    timeout(ANSWER_TIMEOUT, request(link, command, params))
        .await
        .unwrap_or_else(|_| Err("it does not answer".to_owned()))
}

async fn request(
    mut link: Link,
    command: &'static str,
    params: Option<Bytes>,
) -> Result<Bytes, String> {
    const TAG: &[u8] = b"once";
    let tag = Bytes::from_static(TAG);
    link.send(&omq::request(command, tag, params));
    let describe = |fault: super::link::LinkError| fault.to_string();
    loop {
        link.flush().await.map_err(describe)?;
        link.read().await.map_err(describe)?;
        while let Some(message) = link.poll_message() {
            match message {
                Message::Reply { tag, parts } if tag == TAG => {
                    link.close().await;
                    return match parts.as_slice() {
                        [status, body] if status == "200" => Ok(body.clone()),
                        _ => Err("it refused to tell".to_owned()),
                    };
                }
                Message::Refused { .. } => return Err("it refused to tell".to_owned()),
                Message::Bye => return Err("it closed the connection".to_owned()),
                _ => {}
            }
        }
    }
}

/// The answer, in hex; borrowed, so that no copy of it is left behind.
#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "they are oxend's")]
struct KeysJson<'a> {
    #[serde(borrow)]
    service_node_privkey: &'a str,
    #[serde(borrow)]
    service_node_ed25519_privkey: &'a str,
    #[serde(borrow)]
    service_node_x25519_privkey: &'a str,
}

/// The error says nothing of the keys.
fn parse(body: &[u8]) -> Result<NodeKeys, String> {
    let json: KeysJson<'_> =
        serde_json::from_slice(body).map_err(|_| "its answer holds no keys".to_owned())?;
    if json.service_node_privkey.is_empty() {
        return Err("it has no keys: it must run with --service-node".to_owned());
    }
    let mut keys = SecretKeys {
        legacy: [0; 32],
        ed25519: [0; 64],
        x25519: [0; 32],
    };
    for (text, key, name) in [
        (json.service_node_privkey, &mut keys.legacy[..], "legacy"),
        (
            json.service_node_ed25519_privkey,
            &mut keys.ed25519,
            "Ed25519",
        ),
        (json.service_node_x25519_privkey, &mut keys.x25519, "X25519"),
    ] {
        hex::decode_to_slice(text, key)
            .map_err(|_| format!("its {name} key is not of the right size, or not hex"))?;
    }
    NodeKeys::from_secret_keys(&keys).map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(legacy: &str, ed25519: &str, x25519: &str) -> String {
        serde_json::json!({
            "service_node_privkey": legacy,
            "service_node_ed25519_privkey": ed25519,
            "service_node_x25519_privkey": x25519,
            "status": "OK",
        })
        .to_string()
    }

    #[test]
    fn keys_are_checked() {
        let keys = SecretKeys::from_seed([7; 32]);
        let [legacy, ed25519, x25519] = [
            hex::encode(keys.legacy),
            hex::encode(keys.ed25519),
            hex::encode(keys.x25519),
        ];
        let expected = NodeKeys::from_secret_keys(&keys).unwrap();
        let read = parse(body(&legacy, &ed25519, &x25519).as_bytes()).unwrap();
        assert_eq!(read.ed25519_public(), expected.ed25519_public());
        assert_eq!(read.legacy_public(), expected.legacy_public());
        let table = [
            (body("", "", ""), "--service-node"),
            (body("07", &ed25519, &x25519), "legacy key"),
            (body(&legacy, &legacy, &x25519), "Ed25519 key"),
            (body(&legacy, &ed25519, "x"), "X25519 key"),
            (body(&legacy, &ed25519, &legacy.replace('a', "b")), "X25519"),
            ("{}".to_owned(), "no keys"),
        ];
        for (text, expected) in table {
            let fault = parse(text.as_bytes()).map(|_| ()).unwrap_err();
            assert!(fault.contains(expected), "{fault}");
            assert!(!fault.contains(&ed25519), "keys are not shown");
        }
    }
}

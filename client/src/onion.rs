//! Onions from the client's side: a layer for each relay and one for the destination, and the answer
//! that comes back (`../shared/protocol/session-client.md`, section 4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cepa_crypto::X25519SecretKey;
use cepa_crypto::onion_v2::{LayerKey, wrap};
use cepa_wire::ServiceNode;
use cepa_wire::onion::{Control, EncType, Frame, LayerAddress};
use serde_json::Value;

use crate::ClientError;

/// Randomness of one layer: an ephemeral key and a nonce.
pub type LayerRandom = ([u8; 32], [u8; 24]);

/// A wrapped request.
pub struct Onion {
    body: Vec<u8>,
    answer_key: LayerKey,
}

/// What the destination answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnionAnswer {
    /// The status of the answer itself.
    pub status: u16,
    /// Its body: JSON, or text as a JSON string.
    pub body: Value,
}

impl OnionAnswer {
    /// The body as text for a person.
    pub fn text(&self) -> String {
        self.body
            .as_str()
            .map_or_else(|| self.body.to_string(), str::to_owned)
    }
}

/// Wraps `payload` for `destination`, reached through `path` (guard first). `random` gives what each
/// layer needs.
pub fn wrap_request(
    path: &[ServiceNode],
    destination: &ServiceNode,
    payload: &[u8],
    enc_type: EncType,
    mut random: impl FnMut() -> Result<LayerRandom, ClientError>,
) -> Result<Onion, ClientError> {
    let control = Control::Final {
        json: false,
        base64: true,
    }
    .encode();
    let plaintext = Frame {
        blob: payload,
        control: &control,
    }
    .encode();
    let mut layer = seal_layer(&plaintext, destination, enc_type, random()?)?;
    let answer_key = layer.key;
    let mut next = destination;
    for relay in path.iter().rev() {
        let control = Control::Relay {
            destination: next.pubkey_ed25519,
            address: layer.address,
        }
        .encode();
        let plaintext = Frame {
            blob: &layer.blob,
            control: &control,
        }
        .encode();
        layer = seal_layer(&plaintext, relay, enc_type, random()?)?;
        next = relay;
    }
    let body = Frame {
        blob: &layer.blob,
        control: &layer.address.encode(),
    }
    .encode();
    Ok(Onion { body, answer_key })
}

struct Layer {
    blob: Vec<u8>,
    address: LayerAddress,
    key: LayerKey,
}

fn seal_layer(
    plaintext: &[u8],
    node: &ServiceNode,
    enc_type: EncType,
    (ephemeral, nonce): LayerRandom,
) -> Result<Layer, ClientError> {
    let ephemeral = X25519SecretKey::from_bytes(ephemeral);
    let address = LayerAddress {
        ephemeral_key: ephemeral.public_key(),
        enc_type,
        hop_no: 0,
    };
    let (blob, key) = wrap(plaintext, enc_type, &node.pubkey_x25519, &ephemeral, nonce)
        .map_err(|_| ClientError::Malformed("a node's x25519 key is of low order"))?;
    Ok(Layer { blob, address, key })
}

impl Onion {
    /// What the guard gets at `/onion_req/v2`.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Opens what came back through the guard with status 200.
    pub fn open_answer(&self, body: &[u8]) -> Result<OnionAnswer, ClientError> {
        let sealed = STANDARD
            .decode(body)
            .map_err(|_| ClientError::Malformed("an onion's answer is not base64"))?;
        let plaintext = self
            .answer_key
            .open(&sealed)
            .map_err(|_| ClientError::Malformed("an onion's answer does not open"))?;
        let mut answer: Value = serde_json::from_slice(&plaintext)
            .map_err(|_| ClientError::Malformed("an onion's answer is not JSON"))?;
        let status = answer
            .get("status")
            .and_then(Value::as_u64)
            .and_then(|status| u16::try_from(status).ok())
            .ok_or(ClientError::Malformed("an onion's answer has no status"))?;
        let body = match answer.get_mut("body").map(Value::take) {
            // JSON travels as a string that holds JSON; what is no JSON is text.
            Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            Some(body) => body,
            None => return Err(ClientError::Malformed("an onion's answer has no body")),
        };
        Ok(OnionAnswer { status, body })
    }
}

#[cfg(test)]
mod tests {
    use cepa_crypto::NodeKeys;
    use cepa_crypto::onion_v2::peel;

    use super::*;
    use crate::testing::service_node;

    #[test]
    fn each_hop_peels_its_layer_and_learns_only_the_next() {
        let keys: Vec<NodeKeys> = (1..=4).map(|n| NodeKeys::from_seed([n; 32])).collect();
        let nodes: Vec<ServiceNode> = keys.iter().map(service_node).collect();
        for enc_type in [EncType::XChaCha20, EncType::AesGcm] {
            let mut count = 0;
            let random = || {
                count += 1;
                Ok(([count; 32], [count; 24]))
            };
            let onion = wrap_request(&nodes[..3], &nodes[3], b"payload", enc_type, random).unwrap();
            let frame = Frame::parse(onion.body()).unwrap();
            let mut address = LayerAddress::parse(frame.control).unwrap();
            let mut blob = frame.blob.to_vec();
            for (hop, keys) in keys.iter().enumerate() {
                let (enc_type, ephemeral) = (address.enc_type, address.ephemeral_key);
                let (layer, key) = peel(
                    &blob,
                    enc_type,
                    &ephemeral,
                    keys.x25519(),
                    &keys.x25519_public(),
                )
                .unwrap();
                let frame = Frame::parse(&layer).unwrap();
                match Control::parse(frame.control).unwrap() {
                    Control::Relay {
                        destination,
                        address: next,
                    } => {
                        assert_eq!(destination, nodes[hop + 1].pubkey_ed25519);
                        address = next;
                    }
                    Control::Final { .. } => {
                        assert_eq!((hop, frame.blob), (3, &b"payload"[..]));
                        let body = br#"{"status":200,"body":"{\"t\":1}"}"#;
                        let sealed = STANDARD.encode(key.seal(body, [9; 24]));
                        let answer = onion.open_answer(sealed.as_bytes()).unwrap();
                        let expected = serde_json::json!({"t": 1});
                        assert_eq!(
                            answer,
                            OnionAnswer {
                                status: 200,
                                body: expected
                            }
                        );
                    }
                    Control::Proxy(_) => panic!("no server was asked for"),
                }
                blob = frame.blob.to_vec();
            }
        }
    }

    #[test]
    fn answers_that_are_none_are_refused() {
        let keys = NodeKeys::from_seed([1; 32]);
        let onion = wrap_request(&[], &service_node(&keys), b"", EncType::AesGcm, || {
            Ok(([1; 32], [1; 24]))
        })
        .unwrap();
        for body in [&b""[..], b"Next node not found", b"AAAA", b"\xff"] {
            assert!(onion.open_answer(body).is_err());
        }
        let text = STANDARD.encode(
            onion
                .answer_key
                .seal(br#"{"status":401,"body":"no"}"#, [1; 24]),
        );
        assert_eq!(onion.open_answer(text.as_bytes()).unwrap().text(), "no");
    }
}

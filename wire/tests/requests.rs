//! Client requests: the words for each mistake, and what old and new clients may leave to us
//! (`../shared/protocol/session-client.md`, section 3).
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails in a test ends it"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use cepa_wire::bt::VALUE_COUNT_MAX;
use cepa_wire::request::{
    ClientRequest, Encoding, MESSAGE_SIZE_MAX, Network, Parser, RequestError, Retrieve,
    SUBREQUEST_COUNT_MAX, Store,
};
use cepa_wire::{Mailbox, Namespace, Signature};
use serde_json::{Value, json};

/// For each method a good request, and what makes it bad: changes to it, of which null takes a field
/// away, and the reference's words for that.
fn refused_requests() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/refused_requests.json"
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn good(method: &str) -> Value {
    refused_requests()[method]["good"].clone()
}

fn change(mut params: Value, changes: &Value) -> Value {
    let fields = params.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            fields.remove(name);
        } else {
            fields.insert(name.clone(), value.clone());
        }
    }
    params
}

fn parse(method: &str, params: &Value) -> Result<ClientRequest, RequestError> {
    let body = json!({"method": method, "params": params, "jsonrpc": "2.0"});
    ClientRequest::parse_json(body.to_string().as_bytes())
}

fn store(changes: &Value) -> Store {
    match parse("store", &change(good("store"), changes)) {
        Ok(ClientRequest::Store(store)) => store,
        other => panic!("{other:?}"),
    }
}

fn retrieve(changes: &Value) -> Retrieve {
    match parse("retrieve", &change(good("retrieve"), changes)) {
        Ok(ClientRequest::Retrieve(retrieve)) => retrieve,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_mistake_is_told_in_its_words() {
    let mut count = 0;
    for (method, table) in refused_requests().as_object().unwrap() {
        assert!(parse(method, &table["good"]).is_ok(), "{method}");
        for row in table["bad"].as_array().unwrap() {
            let params = change(table["good"].clone(), &row["changes"]);
            let error = parse(method, &params).unwrap_err();
            let text = format!("invalid request: {}", row["text"].as_str().unwrap());
            assert_eq!(
                (error.status, error.text.as_ref()),
                (400, text.as_str()),
                "{row}"
            );
            // OMQ takes the same parameters and has the same words.
            let params = params.to_string();
            assert_eq!(
                ClientRequest::parse_params(method, params.as_bytes()),
                Err(error)
            );
            count += 1;
        }
    }
    assert_eq!(count, 247);
}

#[test]
fn accounts_of_the_testnet_may_come_without_their_prefix() {
    let testnet = Parser {
        network: Network::Testnet,
    };
    for (method, table) in refused_requests().as_object().unwrap() {
        let good = &table["good"];
        let Some(key) = good["pubkey"].as_str().and_then(|id| id.strip_prefix("05")) else {
            continue;
        };
        let whole = parse(method, good).unwrap();
        let bare = change(good.clone(), &json!({"pubkey": key})).to_string();
        let read = testnet.parse_params(method, bare.as_bytes());
        assert_eq!(read, Ok((whole, Encoding::Json)), "{method}");
        let refusal = ClientRequest::parse_params(method, bare.as_bytes()).unwrap_err();
        let text = if method == "get_swarm" {
            "invalid request: Pubkey must be 66 hex digits/33 bytes long"
        } else {
            "invalid request: Pubkey must be 66 hex digits (33 bytes) long"
        };
        assert_eq!((refusal.status, refusal.text.as_ref()), (400, text));
        // Neither hex, nor an account: whatever is not whole is refused with the same words.
        for wrong in ["g".repeat(64), format!("5{key}"), "ab".repeat(31)] {
            let wrong = change(good.clone(), &json!({"pubkey": wrong})).to_string();
            let refusal = testnet.parse_params(method, wrong.as_bytes()).unwrap_err();
            assert_eq!((refusal.status, refusal.text.as_ref()), (400, text));
        }
    }
}

#[test]
fn accounts_of_the_testnet_are_bare_in_bt_and_in_subrequests_too() {
    let testnet = Parser {
        network: Network::Testnet,
    };
    let key = [7; 32];
    let get_swarm = ClientRequest::GetSwarm(Mailbox::account(key));
    let raw = [b"d6:pubkey32:".as_slice(), &key, b"e"].concat();
    let hex = format!("d6:pubkey64:{}e", hex::encode(key));
    for params in [&raw, hex.as_bytes()] {
        let read = testnet.parse_params("get_swarm", params);
        assert_eq!(read, Ok((get_swarm.clone(), Encoding::Bt)));
        assert!(ClientRequest::parse_params("get_swarm", params).is_err());
    }
    let row = json!({"method": "get_swarm", "params": {"pubkey": hex::encode(key)}});
    let batch = json!({"method": "batch", "params": {"requests": [row]}}).to_string();
    let read = testnet.parse_json(batch.as_bytes());
    assert_eq!(read, Ok(ClientRequest::Batch(vec![get_swarm.clone()])));
    assert!(ClientRequest::parse_json(batch.as_bytes()).is_err());
    let condition = json!({"height_at_least": 1});
    let ifelse = json!({"method": "ifelse", "params": {"if": condition, "then": row}}).to_string();
    match testnet.parse_json(ifelse.as_bytes()) {
        Ok(ClientRequest::IfElse(ifelse)) => assert_eq!(ifelse.then, Some(Box::new(get_swarm))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn bodies_that_are_no_request_are_refused_in_plain_words() {
    let many = "0,".repeat(VALUE_COUNT_MAX);
    let many = format!(r#"{{"method":"info","params":{{"x":[{many}0]}}}}"#);
    let (method, params) = ("no `method` field", "no `params` field");
    let cases = [
        ("{}", method),
        ("[]", method),
        (r#"{"method":1,"params":{}}"#, method),
        (r#"{"method":"info"}"#, params),
        (r#"{"method":"info","params":[]}"#, params),
    ];
    for (body, text) in cases {
        let error = ClientRequest::parse_json(body.as_bytes()).unwrap_err();
        assert_eq!(
            (error.status, error.text),
            (400, format!("invalid json: {text}").into())
        );
    }
    for body in ["", "{", "{}x", &many] {
        let error = ClientRequest::parse_json(body.as_bytes()).unwrap_err();
        assert_eq!((error.status, error.text.as_ref()), (400, "invalid json"));
    }
    let error = parse("nope", &json!({})).unwrap_err();
    assert_eq!((error.status, error.text.as_ref()), (400, "no method nope"));
}

#[test]
fn params_of_omq_are_json_or_bt_or_nothing() {
    let refused = |params: &[u8]| {
        let error = ClientRequest::parse_params("store", params).unwrap_err();
        (error.status, error.text.into_owned())
    };
    let missing = (
        400,
        "invalid request: Required field 'timestamp' missing".to_owned(),
    );
    for nothing in [&b""[..], b"{}", b"[]", b"7", b"null", b"de"] {
        assert_eq!(refused(nothing), missing);
    }
    let neither = (400, "invalid body: expected json or bt_dict".to_owned());
    for bad in [&b"{"[..], b"le", b"i1e", b"x", b"\xff"] {
        assert_eq!(refused(bad), neither);
    }
    let many = [&b"d1:al"[..], &b"le".repeat(VALUE_COUNT_MAX), b"ee"].concat();
    for bad in [
        &b"d"[..],
        b"d3:foo",
        b"dex",
        b"d1:bi1e1:ai1ee",
        b"d1:ai01ee",
        &many,
    ] {
        assert_eq!(refused(bad), (500, "request failed".to_owned()));
    }
    for (params, encoding) in [
        (&b""[..], Encoding::Json),
        (b"{}", Encoding::Json),
        (b"de", Encoding::Bt),
    ] {
        let parsed = ClientRequest::parse_params("info", params);
        assert_eq!(parsed, Ok((ClientRequest::Info, encoding)));
    }
    let error = ClientRequest::parse_params("nope", b"de").unwrap_err();
    assert_eq!((error.status, error.text.as_ref()), (400, "no method nope"));
}

#[test]
fn a_store_is_read_however_clients_write_it() {
    let good = good("store");
    let (account, sent) = (
        good["pubkey"].as_str().unwrap(),
        good["timestamp"].as_u64().unwrap(),
    );
    let plain = store(&json!({}));
    assert_eq!(
        (plain.namespace, plain.data.as_ref()),
        (Namespace::INBOX, &b"hi"[..])
    );
    assert_eq!(plain.timestamp.as_millis(), sent);
    assert_eq!(plain.expiry.as_millis(), sent + 60_000);
    assert_eq!((plain.sig_timestamp, plain.proof), (None, None));
    let same = [
        json!({"ttl": "60000", "timestamp": sent.to_string()}),
        json!({"ttl": null, "expiry": sent + 60_000}),
        json!({"pubkey": account.to_uppercase()}),
        json!({"pubkey": null, "pubKey": account}),
        json!({"data": "aGk"}),
        json!({"namespace": 0}),
        json!({"params": {"pubkey": "useless"}, "unknown": [1], "sig_timestamp": sent}),
        json!({"pubkey_ed25519": "not looked at without a signature"}),
    ];
    for changes in same {
        assert_eq!(store(&changes), plain, "{changes}");
    }
    let longest = store(&json!({"ttl": u64::MAX}));
    assert_eq!(longest.expiry.as_millis(), u64::try_from(i64::MAX).unwrap());
}

#[test]
fn a_store_from_before_the_epoch_is_one_from_the_epoch() {
    // Refused as too long ago by who knows the time.
    for (sent, read) in [(json!("-5"), 0), (json!(-5), 0), (json!(5), 5)] {
        assert_eq!(
            store(&json!({"timestamp": sent})).timestamp.as_millis(),
            read
        );
    }
}

#[test]
fn the_largest_message_fits_and_a_larger_one_does_not() {
    let text_of = |size: usize| json!({"data": "A".repeat(size / 3 * 4)});
    assert_eq!(
        store(&text_of(MESSAGE_SIZE_MAX)).data.len(),
        MESSAGE_SIZE_MAX
    );
    let error = parse(
        "store",
        &change(good("store"), &text_of(MESSAGE_SIZE_MAX + 3)),
    );
    let text = "invalid request: Message body exceeds maximum allowed length of 76800 bytes";
    assert_eq!(error.unwrap_err().text, text);
}

#[test]
fn proofs_are_read_in_every_form() {
    let key = "cd".repeat(32);
    let signature = good("retrieve")["signature"].clone();
    let signed = json!({"signature": signature, "pubkey_ed25519": key, "namespace": 2});
    let expected = store(&signed);
    let proof = expected.proof.unwrap();
    assert_eq!(proof.signature, Signature([7; 64]));
    assert_eq!(proof.ed25519.unwrap().as_bytes(), &[0xCD; 32]);
    assert_eq!(
        expected.sig_timestamp,
        Some(expected.timestamp),
        "unless it is given"
    );
    let other_forms = [
        json!({"signature": STANDARD_NO_PAD.encode([7; 64])}),
        json!({"pubkey_ed25519": key.to_uppercase()}),
    ];
    for changes in other_forms {
        assert_eq!(store(&change(signed.clone(), &changes)), expected);
    }
    let later = store(&change(
        signed,
        &json!({"sig_timestamp": 1_795_407_500_706_u64}),
    ));
    assert_eq!(later.sig_timestamp.unwrap().as_millis(), 1_795_407_500_706);
}

#[test]
fn a_retrieve_is_read_however_clients_write_it() {
    let hash = "b".repeat(42) + "A";
    assert_eq!(
        retrieve(&json!({"last_hash": hash})).last_hash.as_ref(),
        Some(&hash)
    );
    assert_eq!(
        retrieve(&json!({"lastHash": hash})).last_hash.as_ref(),
        Some(&hash)
    );
    assert_eq!(retrieve(&json!({"last_hash": ""})).last_hash, None);
    assert_eq!(retrieve(&json!({"last_hash": null})).last_hash, None);
    let limits = retrieve(&json!({"max_size": -10, "max_count": 3, "namespace": -32_768}));
    assert_eq!((limits.max_size, limits.max_count), (Some(-10), Some(3)));
    assert_eq!(limits.namespace, Namespace(i16::MIN));
    assert_eq!(retrieve(&json!({"max_count": 0})).max_count, None);
}

#[test]
fn to_name_a_namespace_is_to_sign_unless_anybody_may_read_it() {
    let pubkey = good("retrieve")["pubkey"].clone();
    assert!(parse("retrieve", &json!({"pubkey": pubkey})).is_ok());
    let cases = [
        (0, false),
        (2, false),
        (-11, false),
        (-1, true),
        (-21, true),
        (-10, true),
    ];
    for (namespace, open) in cases {
        let params = json!({"pubkey": pubkey, "namespace": namespace});
        assert_eq!(parse("retrieve", &params).is_ok(), open, "{namespace}");
    }
}

#[test]
fn the_other_methods_have_old_forms_too() {
    let one = change(good("delete"), &json!({"messages": "A".repeat(43)}));
    assert_eq!(parse("delete", &one), parse("delete", &good("delete")));

    let pubkey = good("get_swarm")["pubkey"].clone();
    let mailbox = Mailbox::from_hex(pubkey.as_str().unwrap().as_bytes()).unwrap();
    let params = json!({"pubkey": pubkey, "params": {"pubkey": 7}});
    for method in ["get_swarm", "get_snodes_for_pubkey"] {
        assert_eq!(parse(method, &params), Ok(ClientRequest::GetSwarm(mailbox)));
    }

    let info = json!({"method": "info", "params": {}});
    let most = json!({"requests": vec![info; SUBREQUEST_COUNT_MAX]});
    for method in ["batch", "sequence"] {
        assert_eq!(parse(method, &most).unwrap().method(), method);
    }
}

#[test]
fn mistakes_in_a_bt_batch_are_told_in_order() {
    let info = "d6:method4:info6:paramsdee";
    let broken = "d6:method9:get_swarm6:paramsdee";
    let refused = |params: &str| {
        let error = ClientRequest::parse_params("batch", params.as_bytes()).unwrap_err();
        error.text.replace("invalid request: ", "")
    };
    let none = "Invalid batch request: no valid \"requests\" field";
    assert_eq!(refused("de"), none);
    assert_eq!(refused("d8:requestsi1ee"), none);
    let cases = [
        (
            String::new(),
            "Invalid batch request: empty \"requests\" list",
        ),
        (
            "i1e".into(),
            "Invalid batch request: requests must be dicts",
        ),
        (
            "de".into(),
            "Invalid batch request: subrequests must have a method",
        ),
        (
            "d6:method4:infoe".into(),
            "Invalid batch request: subrequests must have a params dict",
        ),
        (
            "d6:method4:nopee".into(),
            "Invalid batch subrequest: invalid method \"nope\"",
        ),
        (
            info.repeat(21),
            "Invalid batch request: subrequest limit exceeded",
        ),
        (
            info.repeat(20) + "i1e",
            "Invalid batch request: requests must be dicts",
        ),
        (
            broken.to_owned() + &info.repeat(20),
            "Required field 'pubkey' missing",
        ),
    ];
    for (rows, text) in cases {
        assert_eq!(refused(&format!("d8:requestsl{rows}ee")), text);
    }
}

/// A bt string.
fn string(bytes: &[u8]) -> Vec<u8> {
    [format!("{}:", bytes.len()).as_bytes(), bytes].concat()
}

fn bt_store(data: &[u8], signature: &[u8], timestamp: &str) -> Result<Store, String> {
    let params = [
        b"d4:data",
        string(data).as_slice(),
        b"6:pubkey",
        &string(&[5; 33]),
        b"9:signature",
        &string(signature),
        format!("9:timestamp{timestamp}3:ttli60000ee").as_bytes(),
    ]
    .concat();
    match ClientRequest::parse_params("store", &params) {
        Ok((ClientRequest::Store(store), Encoding::Bt)) => Ok(store),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.text.replace("invalid request: ", "")),
    }
}

#[test]
fn bt_takes_raw_bytes_and_knows_no_base64() {
    let time = "i1795407500705e";
    let raw = bt_store(b"\0\xff", &[7; 64], time).unwrap();
    assert_eq!(
        (raw.data.as_ref(), raw.mailbox.to_bytes()),
        (&b"\0\xff"[..], [5; 33])
    );
    assert_eq!(raw.proof.unwrap().signature, Signature([7; 64]));

    let refused =
        |data: &[u8], signature: &[u8], time| bt_store(data, signature, time).unwrap_err();
    let text = "invalid signature: expected 64-byte Ed25519 signature";
    assert_eq!(refused(b"", &[b'7'; 86], time), text);
    let long = vec![0; MESSAGE_SIZE_MAX + 1];
    let text = "Message body exceeds maximum allowed length of 76800 bytes";
    assert_eq!(refused(&long, &[7; 64], time), text);
    assert!(bt_store(&long[1..], &[7; 64], time).is_ok());
    let text = "Invalid value given for 'timestamp': expected integer timestamp (in milliseconds)";
    assert_eq!(refused(b"", &[7; 64], "13:1795407500705"), text);
    assert_eq!(
        bt_store(b"", &[7; 64], "i-5e")
            .unwrap()
            .timestamp
            .as_millis(),
        0
    );
    let text = "oxend_request params field does not contain valid json";
    let params = b"d8:endpoint11:ons_resolve6:params1:{e";
    let error = ClientRequest::parse_params("oxend_request", params).unwrap_err();
    assert_eq!(error.text, format!("invalid request: {text}"));
}

#[test]
fn only_what_all_members_do_is_forwarded() {
    let pubkey = [b"d6:pubkey", string(&[5; 33]).as_slice(), b"e"].concat();
    let batch = b"d8:requestsld6:method4:info6:paramsdeeee";
    let cases = [
        ("info", &b"de"[..]),
        ("get_swarm", &pubkey),
        ("retrieve", &pubkey),
        ("batch", batch),
    ];
    for (method, params) in cases {
        let error = ClientRequest::parse_forwarded(method, params).unwrap_err();
        let text = "invalid request: received invalid forwarded non-forwardable request";
        assert_eq!((error.status, error.text.as_ref()), (400, text), "{method}");
    }
}

//! Arbitrary bytes as parameters of a method: the first byte chooses which.
#![no_main]

use cepa_wire::request::{ClientRequest, Network, Parser};
use libfuzzer_sys::fuzz_target;

const METHODS: [&str; 18] = [
    "store",
    "retrieve",
    "delete",
    "info",
    "get_swarm",
    "oxend_request",
    "batch",
    "sequence",
    "active_nodes_bin",
    "delete_all",
    "delete_before",
    "expire",
    "expire_all",
    "get_expiries",
    "ifelse",
    "revoke_subaccount",
    "revoked_subaccounts",
    "unrevoke_subaccount",
];

fuzz_target!(|input: &[u8]| {
    let Some((choice, params)) = input.split_first() else { return };
    let method = METHODS[usize::from(*choice) % METHODS.len()];
    let testnet = Parser {
        network: Network::Testnet,
    };
    let on_testnet = testnet.parse_params(method, params);
    if let Ok((request, _)) = ClientRequest::parse_params(method, params) {
        // The testnet takes more, and reads what both take in the same way.
        assert_eq!(on_testnet.map(|(request, _)| request).as_ref(), Ok(&request));
        assert_eq!(request.method(), method);
        match ClientRequest::parse_json(&request.encode_json()) {
            Ok(again) => assert!(again == request || has_document(&request)),
            // Only JSON refuses a time that can only be seconds.
            Err(error) => assert!(error.text.contains("must be in milliseconds")),
        }
    }
    if let Ok(request) = ClientRequest::parse_forwarded(method, params) {
        let again = ClientRequest::parse_forwarded(method, &request.encode_bt());
        assert_eq!(again.map(|again| again.encode_bt()), Ok(request.encode_bt()));
    }
});

/// Whether a request carries a JSON document of the client's own, whose long numbers are not kept to
/// the digit.
fn has_document(request: &ClientRequest) -> bool {
    match request {
        ClientRequest::Oxend(_) => true,
        ClientRequest::Batch(requests) | ClientRequest::Sequence(requests) => {
            requests.iter().any(has_document)
        }
        ClientRequest::IfElse(ifelse) => {
            let branches = [&ifelse.then, &ifelse.otherwise];
            branches.into_iter().flatten().any(|request| has_document(request))
        }
        _ => false,
    }
}

//! Arbitrary bytes as a client's request: what is accepted is the same after writing and reading it in
//! either encoding, and what is refused is refused with a client error.
#![no_main]

use cepa_wire::request::{ClientRequest, Encoding};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    match ClientRequest::parse_json(input) {
        Ok(request) if has_document(&request) => {
            assert!(ClientRequest::parse_json(&request.encode_json()).is_ok());
        }
        Ok(request) => {
            match ClientRequest::parse_json(&request.encode_json()) {
                Ok(again) => assert_eq!(again, request),
                // A signed store without `sig_timestamp` takes its `timestamp`, which may be any.
                Err(error) => assert!(error.text.contains("must be in milliseconds")),
            }
            if let ClientRequest::IfElse(_) = request {
                // JSON may nest deeper than bt.
                return;
            }
            let params = request.encode_bt();
            let (mut read, encoding) = ClientRequest::parse_params(request.method(), &params)
                .expect("what was written is read");
            assert_eq!(encoding, Encoding::Bt);
            // Members are not told that something must have been deleted.
            if let (ClientRequest::Delete(read), ClientRequest::Delete(request)) =
                (&mut read, &request)
            {
                read.required = request.required;
            }
            if !matches!(request, ClientRequest::Batch(_) | ClientRequest::Sequence(_)) {
                assert_eq!(read, request);
            }
        }
        Err(error) => assert!(matches!(error.status, 400 | 500) && !error.text.is_empty()),
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

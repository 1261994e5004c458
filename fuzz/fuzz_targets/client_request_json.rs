//! Arbitrary bytes as a client's request: what is accepted is the same after writing and reading it in
//! either encoding, and what is refused is refused with a client error.
#![no_main]

use cepa_wire::request::{ClientRequest, Encoding};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    match ClientRequest::parse_json(input) {
        Ok(request) => {
            assert_eq!(ClientRequest::parse_json(&request.encode_json()).as_ref(), Ok(&request));
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

//! What goes back for a command, in the forms that the reference gives answers over QUIC
//! (`session-node.md`, 5.5).

use bytes::Bytes;
use cepa_wire::answer::{Answer, Body, Tree};
use cepa_wire::request::Encoding;
use hyper::StatusCode;

/// What a command is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A reply with this body.
    Ok(Bytes),
    /// An error with this body.
    Error(Bytes),
    /// Nothing: the command wanted none.
    None,
}

/// The answer to a client's request. A document is wrapped into `[status, document]`, a text stands
/// alone; what is not 200 becomes an error with the status before it.
pub fn reply_of(answer: Answer, encoding: Encoding) -> Reply {
    let status = answer.status;
    let body = match answer.body {
        Body::Text(text) => Bytes::from(text.into_owned()),
        // Over QUIC bytes are bytes, however they were asked for.
        Body::Bytes(bytes) => bytes,
        Body::Tree(tree) => {
            let list = Tree::List(vec![Tree::Integer(i64::from(status)), tree]);
            Bytes::from(match encoding {
                Encoding::Json => list.to_json(),
                Encoding::Bt => list.to_bt(),
            })
        }
    };
    bare_reply(status, body)
}

/// The answer to `onion_req`, and whatever else is not wrapped: a bare body for 200, else an error
/// `<status> <reason>`, an empty line, the body.
pub fn bare_reply(status: u16, body: Bytes) -> Reply {
    if status == 200 {
        return Reply::Ok(body);
    }
    let reason = StatusCode::from_u16(status).ok();
    let reason = reason.and_then(|status| status.canonical_reason());
    let head = format!("{status} {}\n\n", reason.unwrap_or("Unknown"));
    Reply::Error([head.as_bytes(), &body].concat().into())
}

/// The answer to a command that nothing here answers, in oxen-libquic's words.
pub fn no_such_endpoint(endpoint: &str) -> Reply {
    Reply::Error(format!("Invalid endpoint '{endpoint}'").into())
}

/// The answer to `snode_ping`.
pub const PONG: Bytes = Bytes::from_static(b"pong");

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(text: &'static str) -> Reply {
        Reply::Ok(text.into())
    }

    fn error(text: &'static str) -> Reply {
        Reply::Error(text.into())
    }

    #[test]
    fn replies_have_the_forms_of_the_reference() {
        let tree = || Tree::dict([("t", Tree::Integer(1)), ("n", Tree::Null)]);
        let answer = |status| Answer {
            status,
            body: Body::Tree(tree()),
        };
        let cases = [
            (answer(200), Encoding::Json, ok(r#"[200,{"n":null,"t":1}]"#)),
            (answer(200), Encoding::Bt, ok("li200ed1:ti1eee")),
            (
                answer(421),
                Encoding::Json,
                error("421 Misdirected Request\n\n[421,{\"n\":null,\"t\":1}]"),
            ),
            (
                answer(401),
                Encoding::Bt,
                error("401 Unauthorized\n\nli401ed1:ti1eee"),
            ),
            (
                Answer::text(429, "Too many requests, try again later"),
                Encoding::Bt,
                error("429 Too Many Requests\n\nToo many requests, try again later"),
            ),
            (Answer::text(200, "pong"), Encoding::Json, ok("pong")),
        ];
        for (answer, encoding, reply) in cases {
            assert_eq!(reply_of(answer, encoding), reply);
        }
        assert_eq!(bare_reply(200, "sealed".into()), ok("sealed"));
        let busy = bare_reply(503, "Server busy, try again later".into());
        assert_eq!(
            busy,
            error("503 Service Unavailable\n\nServer busy, try again later")
        );
        assert_eq!(bare_reply(1, Bytes::new()), error("1 Unknown\n\n"));
        assert_eq!(no_such_endpoint("x"), error("Invalid endpoint 'x'"));
        assert_eq!(Encoding::of(b"de"), Encoding::Bt);
        assert_eq!(Encoding::of(b""), Encoding::Json);
        assert_eq!(Encoding::of(b"{}"), Encoding::Json);
    }
}

//! One `GET /metrics`, bounded in time and size.

use core::convert::Infallible;
use core::future::pending;
use core::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::reading::Reading;

/// From connecting to the last byte: a node that takes longer can't be watched.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A node's answer has some 100 KiB.
const ANSWER_SIZE_MAX: usize = 4 << 20;
/// Largest head of an answer.
const HEAD_SIZE_MAX: usize = 16 << 10;

/// What a node answered, and when.
#[derive(Debug)]
pub(super) struct Scraped {
    pub(super) reading: Reading,
    pub(super) at: Instant,
}

/// Why there is no answer: words for behind a colon.
pub(super) type ScrapeFault = String;

/// Asks once. Dropping the future ends it.
pub(super) async fn scrape(address: &str) -> Result<Scraped, ScrapeFault> {
    let asked = timeout(TIMEOUT, ask(address)).await;
    let text =
        asked.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())))?;
    let at = Instant::now();
    let text = str::from_utf8(&text).map_err(|_| NOT_CEPA.to_owned())?;
    let reading = Reading::parse(text).map_err(|_| NOT_CEPA.to_owned())?;
    if reading.is_of_cepa() {
        Ok(Scraped { reading, at })
    } else {
        Err(NOT_CEPA.to_owned())
    }
}

const NOT_CEPA: &str = "what answers there is not the admin endpoint of a cepa node";

async fn ask(address: &str) -> Result<Bytes, ScrapeFault> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|fault| match fault.kind() {
            std::io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
            _ => fault.to_string(),
        })?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_SIZE_MAX);
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(not_http)?;
    let request = Request::get("/metrics")
        .header(HOST, address)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|fault| fault.to_string())?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(not_http)?;
        if response.status() != StatusCode::OK {
            return Err(NOT_CEPA.to_owned());
        }
        let body = Limited::new(response.into_body(), ANSWER_SIZE_MAX).collect();
        let body = body
            .await
            .map_err(|_| "its answer is cut short, or too long".to_owned())?;
        Ok(body.to_bytes())
    };
    // The connection only carries: what ends it is told by the answer.
    let carried = async {
        drop(connection.await);
        pending::<Infallible>().await
    };
    tokio::select! {
        answer = answer => answer,
        never = carried => match never {},
    }
}

fn not_http(_: hyper::Error) -> ScrapeFault {
    NOT_CEPA.to_owned()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::runtime::Builder;

    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test)
    }

    /// Scrapes somebody who answers so.
    async fn scrape_from(answer: Vec<u8>) -> Result<Scraped, ScrapeFault> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut part = [0; 512];
                let size = stream.read(&mut part).await.unwrap();
                assert!(size > 0, "the request is whole");
                head.extend_from_slice(&part[..size]);
            }
            assert!(head.starts_with(b"GET /metrics HTTP/1.1\r\n"));
            // Who has heard enough hangs up.
            drop(stream.write_all(&answer).await);
        };
        let (scraped, ()) = futures_util::future::join(scrape(&address), serve).await;
        scraped
    }

    fn answer(status: &str, body: &str) -> Vec<u8> {
        let size = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {size}\r\n\r\n{body}").into_bytes()
    }

    #[test]
    fn an_answer_is_read() {
        run(async {
            let scraped = scrape_from(answer("200 OK", "cepa_a 7\n")).await.unwrap();
            assert_eq!(scraped.reading.sum("cepa_a"), Some(7.0));
        });
    }

    #[test]
    fn whoever_is_no_node_is_told_so() {
        run(async {
            for answer in [
                answer("404 Not Found", "cepa_a 7\n"),
                answer("200 OK", "<html>"),
                answer("200 OK", "go_goroutines 7\n"),
                b"SSH-2.0-OpenSSH\r\n".to_vec(),
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\xff".to_vec(),
            ] {
                assert_eq!(scrape_from(answer).await.unwrap_err(), NOT_CEPA);
            }
        });
    }

    #[test]
    fn an_answer_without_end_is_not_read_to_it() {
        run(async {
            let mut endless = answer("200 OK", "");
            let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
            endless.clear();
            endless.extend_from_slice(head);
            endless.resize(ANSWER_SIZE_MAX + head.len() + 1, b'\n');
            let fault = scrape_from(endless).await.unwrap_err();
            assert!(fault.contains("too long"), "{fault}");
        });
    }

    #[test]
    fn nobody_is_told_as_nobody() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            drop(listener);
            assert_eq!(scrape(&address).await.unwrap_err(), "nobody listens there");
        });
    }
}

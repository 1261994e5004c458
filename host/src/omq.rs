//! Commands that arrive over OMQ (`../shared/protocol/session-node.md`, 5.1 and 5.2).

use std::rc::Rc;

use bytes::Bytes;
use cepa_meter::count;
use cepa_relay::counters::Via;
use cepa_swarm::Origin;
use cepa_wire::answer::{Answer, Body};
use cepa_wire::omq;
use cepa_wire::request::{ClientRequest, Encoding};
use cepa_wire::transfer;
use glommio::spawn_local;

use crate::link::Link;
use crate::tile::Tile;
use crate::{onions, requests, stats, subscribers};

/// Requests of one peer that may be under way: beyond, it is told to come back.
const SERVING_COUNT_MAX: usize = 1024;

/// What a command name means.
enum Command<'a> {
    Ping,
    Data,
    OnionRequest,
    StorageCc,
    /// `sn.storage_test`
    StorageTest,
    /// `service.get_stats`
    Stats,
    /// `notify.<event>`: what the chain daemon tells, and nobody else.
    Notify,
    /// `monitor.messages`
    Monitor,
    /// `storage.<method>`
    Client(&'a str),
}

impl<'a> Command<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        match name {
            "sn.ping" => Some(Self::Ping),
            "sn.data" => Some(Self::Data),
            "sn.onion_request" => Some(Self::OnionRequest),
            "sn.storage_cc" => Some(Self::StorageCc),
            "sn.storage_test" => Some(Self::StorageTest),
            "service.get_stats" => Some(Self::Stats),
            "notify.block" => Some(Self::Notify),
            "monitor.messages" => Some(Self::Monitor),
            _ => name
                .strip_prefix("storage.")
                .filter(|method| ClientRequest::is_method(method))
                .map(Self::Client),
        }
    }

    const fn is_for_nodes(&self) -> bool {
        matches!(
            self,
            Self::Ping | Self::Data | Self::OnionRequest | Self::StorageCc | Self::StorageTest
        )
    }

    /// The word that refuses it, if whoever is at the other end of the link may not ask for it.
    fn refusal(&self, tile: &Tile, link: &Link) -> Option<&'static str> {
        let is_allowed = match self {
            Self::Notify => false,
            Self::Stats => link
                .peer_key()
                .is_some_and(|key| tile.live.stats_keys.load().contains(&key)),
            _ => true,
        };
        if !is_allowed {
            return Some("FORBIDDEN");
        }
        (self.is_for_nodes() && !tile.is_peer(link)).then_some("FORBIDDEN_SN")
    }
}

/// Takes a command: refuses it at once, or serves it in a task of its own.
pub(crate) fn handle_command(tile: &Rc<Tile>, link: &Rc<Link>, name: &str, mut parts: Vec<Bytes>) {
    let tag = if parts.is_empty() {
        None
    } else {
        Some(parts.remove(0))
    };
    // Whatever it is, and be it nothing that we know: to say so costs as much as many an answer.
    if let Some(seat) = link.seat()
        && let Err(refused) = tile.admit_client(seat)
    {
        let (code, text) = refused.reply();
        let parts = [Bytes::from(code.to_string()), word(text)];
        // Who gave no tag can't be told.
        return tag.map_or((), |tag| refuse(tile, link, omq::reply(tag, parts)));
    }
    let named = |text| vec![word(text), Bytes::copy_from_slice(name.as_bytes())];
    let Some(command) = Command::parse(name) else {
        return refuse(tile, link, named("UNKNOWNCOMMAND"));
    };
    if let Some(refusal) = command.refusal(tile, link) {
        let mut words = vec![word(refusal)];
        words.extend(tag.into_iter().flat_map(|tag| [word("REPLY"), tag]));
        return refuse(tile, link, words);
    }
    let Some(tag) = tag else {
        return refuse(tile, link, named("NO_REPLY_TAG"));
    };
    if link.serving.get() >= SERVING_COUNT_MAX {
        count(&tile.counters.refused_busy);
        let busy = [
            Bytes::from_static(b"503"),
            word("Server busy, try again later"),
        ];
        return refuse(tile, link, omq::reply(tag, busy));
    }
    dispatch(tile, link, &command, tag, parts);
}

/// Answers at once what can be, and serves the rest beside the link.
fn dispatch(
    tile: &Rc<Tile>,
    link: &Rc<Link>,
    command: &Command<'_>,
    tag: Bytes,
    parts: Vec<Bytes>,
) {
    match command {
        Command::Ping => {
            count(&tile.counters.ping_omq);
            reply(tile, link, tag, vec![word("pong")]);
        }
        Command::Data => serve(tile, link, tag, |tile| take_transfer(tile, parts)),
        Command::OnionRequest => serve(tile, link, tag, |tile| relay_onion(tile, parts)),
        Command::StorageCc => serve(tile, link, tag, |tile| serve_forwarded(tile, parts)),
        Command::StorageTest => reply(tile, link, tag, vec![word(judge_test(&parts))]),
        Command::Stats => reply(tile, link, tag, vec![stats::json(tile)]),
        // Refused before.
        Command::Notify => {}
        Command::Monitor => {
            let subscribed = Rc::clone(link);
            serve(tile, link, tag, |tile| async move {
                let body = parts.first().map_or(&[][..], |part| part);
                let reply = subscribers::subscribe_link(&tile, &subscribed, body).await;
                Some(vec![reply])
            });
        }
        Command::Client(method) => {
            let method = (*method).to_owned();
            serve(tile, link, tag, move |tile| {
                serve_client(tile, method, parts)
            });
        }
    }
}

/// `sn.storage_test [height][hash]`: nodes test each other's storage no more, so whoever asks is not the
/// tester of any height; what is malformed is told first.
fn judge_test(parts: &[Bytes]) -> &'static str {
    let [height, hash, ..] = parts else {
        return "invalid parameters";
    };
    let height = core::str::from_utf8(height).ok();
    match height.and_then(|height| height.parse::<u64>().ok()) {
        None | Some(0) => "invalid height",
        Some(_) if !matches!(hash.len(), 32 | 64) => "invalid msg hash",
        Some(_) => "wrong request",
    }
}

fn word(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn refuse(tile: &Tile, link: &Link, parts: Vec<Bytes>) {
    if !link.send(parts) {
        count(&tile.counters.omq_dropped);
    }
}

fn reply(tile: &Tile, link: &Link, tag: Bytes, parts: Vec<Bytes>) {
    refuse(tile, link, omq::reply(tag, parts));
}

/// Runs a request beside the link and sends what it gives; `None` is no reply at all.
fn serve<F>(tile: &Rc<Tile>, link: &Rc<Link>, tag: Bytes, begin: impl FnOnce(Rc<Tile>) -> F)
where
    F: Future<Output = Option<Vec<Bytes>>> + 'static,
{
    let answering = begin(Rc::clone(tile));
    let (tile, link) = (Rc::clone(tile), Rc::clone(link));
    link.begin_serving();
    spawn_local(async move {
        if let Some(parts) = answering.await {
            reply(&tile, &link, tag, parts);
        }
        link.end_serving();
    })
    .detach();
}

/// `sn.onion_request [dict]` -> `[code][body]`
async fn relay_onion(tile: Rc<Tile>, parts: Vec<Bytes>) -> Option<Vec<Bytes>> {
    let (status, body) = if let [part] = parts.as_slice() {
        let returned = onions::relay(&tile, part).await;
        (returned.status, returned.body)
    } else {
        count(&tile.counters.onion_malformed);
        let got = parts.len();
        let text = format!("Invalid internal onion request: expected 1 part, got {got}");
        (400, Bytes::from(text))
    };
    Some(vec![Bytes::from(status.to_string()), body])
}

/// `sn.storage_cc [method][params]` -> `[dict]`, or `[code][text]`; without parameters no reply.
async fn serve_forwarded(tile: Rc<Tile>, parts: Vec<Bytes>) -> Option<Vec<Bytes>> {
    let [method, params] = parts.as_slice() else {
        count(&tile.counters.request_refused);
        return None;
    };
    let method = core::str::from_utf8(method).ok()?;
    let answer = match tile.parser.parse_forwarded(method, params) {
        Ok(request) => {
            let serving = requests::serve(&tile, request, Origin::Member);
            requests::timed(&tile, Via::Member, serving).await
        }
        Err(error) => requests::refuse(&tile, error),
    };
    Some(answer_parts(answer, Encoding::Bt))
}

/// `storage.<method> [params]` -> `[body]`, or `[code][body]`
async fn serve_client(tile: Rc<Tile>, method: String, parts: Vec<Bytes>) -> Option<Vec<Bytes>> {
    let params = match parts.as_slice() {
        [] => &[][..],
        [params] => params,
        _ => {
            count(&tile.counters.request_refused);
            let got = parts.len();
            let text = format!("Invalid request: expected 1 message parts, received {got}");
            return Some(answer_parts(Answer::text(400, text), Encoding::Json));
        }
    };
    let (answer, encoding) = requests::serve_params(&tile, Via::Omq, (&method, params)).await;
    Some(answer_parts(answer, encoding))
}

fn answer_parts(answer: Answer, encoding: Encoding) -> Vec<Bytes> {
    let status = answer.status;
    let body = match (answer.body, encoding) {
        (Body::Tree(tree), Encoding::Bt) => Bytes::from(tree.to_bt()),
        (Body::Bytes(bytes), Encoding::Bt) => bytes,
        (body, _) => Answer { status, body }.into_http_body().1,
    };
    if status == 200 {
        vec![body]
    } else {
        vec![status.to_string().into(), body]
    }
}

/// `sn.data [blob]` -> `[]` once its messages are durable; what is unreadable, or must come again, gets
/// no reply.
async fn take_transfer(tile: Rc<Tile>, parts: Vec<Bytes>) -> Option<Vec<Bytes>> {
    let [blob] = parts.as_slice() else {
        return None;
    };
    let Ok(messages) = transfer::parse(blob) else {
        count(&tile.counters.request_refused);
        return None;
    };
    let is_all = requests::take_transfer(&tile, messages).await;
    is_all.then(Vec::new)
}

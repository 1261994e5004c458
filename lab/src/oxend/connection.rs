//! One connection of a node to its daemon.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use cepa_wire::contact::Contact;
use cepa_wire::omq::{self, Message};
use cepa_wire::zmtp::null::Connection;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::broadcast::error::RecvError;

use super::Node;
use crate::chain::Event;

/// What one connection asked to be told.
#[derive(Default)]
struct Subscriptions {
    blocks: bool,
    addresses: bool,
}

/// Serves until the node goes away, misbehaves or says `BYE`.
pub(super) async fn serve(node: Arc<Node>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    // Whoever was cut off sees that; there is nobody else to tell.
    drop(run(&node, stream).await);
}

async fn run(node: &Node, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut connection = Connection::router();
    let mut subscriptions = Subscriptions::default();
    let mut events = node.chain.subscribe();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let output = connection.take_output();
        if !output.is_empty() {
            stream.write_all(&output).await?;
        }
        tokio::select! {
            size = stream.read(&mut buffer) => {
                let size = size?;
                if size == 0 {
                    return Ok(());
                }
                let input = buffer.get(..size).unwrap_or_default();
                connection.handle_bytes(input).map_err(io::Error::other)?;
                while let Some(parts) = connection.poll_message() {
                    let Some(message) = Message::parse(parts) else { continue };
                    if !handle(node, message, &mut subscriptions, &mut connection) {
                        return Ok(());
                    }
                }
            }
            event = events.recv() => match event {
                Ok(event) => notify(&event, &subscriptions, &mut connection),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
        }
    }
}

/// Takes a message; false ends the connection.
fn handle(
    node: &Node,
    message: Message,
    subscriptions: &mut Subscriptions,
    connection: &mut Connection,
) -> bool {
    match message {
        Message::Hi => {
            node.greet();
            connection.send(&[word("HELLO")]);
        }
        Message::Bye => return false,
        Message::Hello | Message::Reply { .. } | Message::Refused { .. } => {}
        Message::Command { name, parts } => {
            let mut parts = parts.into_iter();
            let name_part = Bytes::copy_from_slice(name.as_bytes());
            let Some(tag) = parts.next() else {
                connection.send(&[word("NO_REPLY_TAG"), name_part]);
                return true;
            };
            let params = parts.next().unwrap_or_default();
            match answer(node, &name, &params, subscriptions) {
                Some(answer) => connection.send(&omq::reply(tag, answer)),
                None => connection.send(&[word("UNKNOWNCOMMAND"), name_part]),
            }
        }
    }
    true
}

fn answer(
    node: &Node,
    name: &str,
    params: &[u8],
    subscriptions: &mut Subscriptions,
) -> Option<Vec<Bytes>> {
    let subscribed = match name {
        "sub.block" => Some(&mut subscriptions.blocks),
        "sub.snode_addr" if node.knows_addresses() => Some(&mut subscriptions.addresses),
        _ => None,
    };
    if let Some(is_subscribed) = subscribed {
        let was_subscribed = core::mem::replace(is_subscribed, true);
        return Some(vec![word(if was_subscribed { "ALREADY" } else { "OK" })]);
    }
    let params = if params.is_empty() {
        Value::Null
    } else {
        match serde_json::from_slice(params) {
            Ok(params) => params,
            Err(_) => return Some(vec![word("400"), word("Unable to parse request")]),
        }
    };
    let (status, body) = node.answer(name, &params)?;
    // Errors are bare text.
    let body = match body {
        Value::String(text) if status != 200 => text,
        body => body.to_string(),
    };
    Some(vec![status.to_string().into(), body.into()])
}

fn notify(event: &Event, subscriptions: &Subscriptions, connection: &mut Connection) {
    match event {
        Event::Block(height, hash) if subscriptions.blocks => connection.send(&[
            word("notify.block"),
            height.to_string().into(),
            Bytes::copy_from_slice(hash),
        ]),
        Event::Contact(node) if subscriptions.addresses => {
            let contact = Contact::of(node).encode();
            connection.send(&[word("notify.snode_addr"), contact.into()]);
        }
        Event::Block(..) | Event::Contact(_) => {}
    }
}

fn word(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

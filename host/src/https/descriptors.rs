//! What the packet lane shows: our descriptor, and all that we know.

use bytes::Bytes;
use cepa_relay::packet::directory::DescriptorBoard;
use http_body_util::Full;
use hyper::{Method, Response, StatusCode};

use super::{not_found, refuse, response, text};
use crate::connections::Seat;
use crate::tile::Tile;

/// Our own descriptor: what the other nodes ask for.
pub(super) const OWN: &str = "/cepa/descriptor/v1";
/// The list of all: what clients ask for.
pub(super) const ALL: &str = "/cepa/descriptors/v1";

pub(super) fn own(tile: &Tile, seat: &Seat) -> Response<Full<Bytes>> {
    show(tile, seat, OWN, |board| board.own.clone())
}

pub(super) fn all(tile: &Tile, seat: &Seat) -> Response<Full<Bytes>> {
    show(tile, seat, ALL, |board| board.all.clone())
}

/// 404 without a packet lane, as a Session node answers; 503 while there is nothing to show yet.
fn show(
    tile: &Tile,
    seat: &Seat,
    path: &str,
    part: impl Fn(&DescriptorBoard) -> Option<Bytes>,
) -> Response<Full<Bytes>> {
    let Some(board) = &tile.descriptors else {
        return not_found(&Method::GET, path);
    };
    if let Err(refused) = tile.admit_client(seat) {
        return refuse(refused.reply());
    }
    match part(&board.load()) {
        Some(bytes) => response(200, "application/octet-stream", bytes),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "no descriptor yet"),
    }
}

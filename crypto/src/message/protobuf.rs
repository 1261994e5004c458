//! The protobuf messages around a text, with the fields that we read or write
//! (`../shared/protocol/session-client.md`, section 2). Unknown fields are skipped.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct WebSocketMessage {
    #[prost(uint32, optional, tag = "1")]
    pub(super) kind: Option<u32>,
    #[prost(message, optional, tag = "2")]
    pub(super) request: Option<WebSocketRequest>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WebSocketRequest {
    #[prost(string, optional, tag = "1")]
    pub(super) verb: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) path: Option<String>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(super) body: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "4")]
    pub(super) id: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Envelope {
    #[prost(uint32, optional, tag = "1")]
    pub(super) kind: Option<u32>,
    #[prost(string, optional, tag = "2")]
    pub(super) source: Option<String>,
    #[prost(uint64, optional, tag = "5")]
    pub(super) timestamp: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "8")]
    pub(super) content: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Content {
    #[prost(message, optional, tag = "1")]
    pub(super) data_message: Option<DataMessage>,
    #[prost(uint64, optional, tag = "15")]
    pub(super) sig_timestamp: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DataMessage {
    #[prost(string, optional, tag = "1")]
    pub(super) body: Option<String>,
    #[prost(uint64, optional, tag = "7")]
    pub(super) timestamp: Option<u64>,
}

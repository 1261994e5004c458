//! Messages by packets: real nodes with their packet tiles, and a client that holds links to its guards.

use core::net::Ipv4Addr;
use core::time::Duration;

use cepa_client::{Bootstrap, Client, ClientSettings, Cursors, Lane, lane_size};
use cepa_host::{PacketBackend, clock};
use tokio::time::{sleep, timeout};

use crate::descriptors::lane;
use crate::network::{Network, account};

/// Starts nodes with their lanes, each with another way to read and write datagrams, and waits until all know
/// of all.
async fn start(network: &mut Network) {
    let backends = [PacketBackend::IoUring, PacketBackend::Mmsg];
    for index in 0..network.nodes.len() {
        let node = &network.nodes[index];
        let (lane, mut settings) = lane(node, Some(Ipv4Addr::LOCALHOST));
        settings
            .backend
            .clone_from(&backends[index % backends.len()]);
        network.start_with(index, 1, Some(settings));
        let nodes = network.view.clone();
        tokio::spawn(async move { lane.run(clock::now, move || nodes.clone()).await });
    }
    let known = async {
        for node in &network.view {
            while lane_size(node, &network.view).await < network.view.len() {
                sleep(Duration::from_millis(50)).await;
            }
        }
    };
    timeout(Duration::from_mins(1), known)
        .await
        .expect("all know all");
}

#[test]
fn messages_go_by_packets_and_come_by_packets() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let mut network = Network::new(5);
        start(&mut network).await;
        let settings = ClientSettings {
            lane: Lane::Packet,
            ..ClientSettings::default()
        };
        let connect = || Client::connect(Bootstrap::Nodes(network.view.clone()), settings);
        let mut client = connect().await.unwrap();
        let [one, other] = [1, 2].map(account);
        for text in ["short".to_owned(), "long ".repeat(800)] {
            let sent = client.send_text(&one, &other.id(), &text).await.unwrap();
            assert_eq!((sent.signed_count, sent.member_count), (5, 5));
            assert_eq!(sent.path.len(), 3);
        }
        // More than one page of them.
        let mut reader = connect().await.unwrap();
        for _ in 0..6 {
            let text = "x".repeat(5000);
            client.send_text(&one, &other.id(), &text).await.unwrap();
        }
        let received = reader
            .receive(&other, &mut Cursors::default())
            .await
            .unwrap();
        assert_eq!((received.messages.len(), received.unreadable_count), (8, 0));
        assert_eq!(received.messages[0].text, "short");
        assert_eq!(received.messages[1].text, "long ".repeat(800));
        let hashes = [client
            .send_text(&one, &other.id(), "gone")
            .await
            .unwrap()
            .hash];
        let deleted = reader.delete(&other, &hashes).await.unwrap();
        assert_eq!(deleted.signed_count, 5);
        let info = reader.info(&network.view[3]).await.unwrap();
        assert!(!info.version.is_empty());
    });
}

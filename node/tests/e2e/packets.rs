//! Messages by packets, from a client to the mailboxes of real nodes and back.

use core::net::Ipv4Addr;
use core::time::Duration;

use cepa_client::{Bootstrap, Client, ClientSettings, Cursors, Lane, lane_size};
use cepa_host::clock;
use tokio::time::{sleep, timeout};

use crate::descriptors::lane;
use crate::network::{Network, account};

/// Starts nodes with their lanes, and waits until all know all.
async fn start(network: &mut Network) {
    for index in 0..network.nodes.len() {
        let (lane, settings) = lane(&network.nodes[index], Some(Ipv4Addr::LOCALHOST));
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
        let mut cursors = Cursors::default();
        let received = reader.receive(&other, &mut cursors).await.unwrap();
        let counts = (received.messages.len(), received.unreadable_count);
        assert_eq!(counts, (8, 0));
        assert_eq!(received.messages[0].text, "short");
        assert_eq!(received.messages[1].text, "long ".repeat(800));
        let sent = client.send_text(&one, &other.id(), "gone").await.unwrap();
        let deleted = reader.delete(&other, &[sent.hash]).await.unwrap();
        assert_eq!(deleted.signed_count, 5);
        let info = reader.info(&network.view[3]).await.unwrap();
        assert!(!info.version.is_empty());
    });
}

//! Keeps the picture of the network that oxend gives.

use core::time::Duration;
use std::sync::Arc;

use cepa_wire::ServiceNode;
use cepa_wire::contact::Contact;
use cepa_wire::oxend::Listing;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::driver::News;
use super::{OxendHandle, OxendView};

/// How often the list is asked for when no block is told: a cheap question, as oxend knows what we
/// have. It is that of pings.
const INTERVAL: Duration = Duration::from_secs(30);
/// The pause after an attempt that gave nothing.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// More nodes than this part of them, in percent, that can't be reached are worth a line: the
/// reference's measure of a daemon that has just started.
const MISSING_PERCENT_MAX: usize = 3;

/// Asks for the list after each connection and each block, and now and then; publishes each that is
/// new, until the future is dropped.
pub(super) async fn keep(
    handle: &OxendHandle,
    news: &mut mpsc::Receiver<News>,
    views: &watch::Sender<Option<Arc<OxendView>>>,
    mut publish: impl FnMut(OxendView),
) -> ! {
    let mut connections = handle.connections();
    let mut list = List::default();
    let mut publish = |view: &OxendView| {
        views.send_replace(Some(Arc::new(view.clone())));
        publish(view.clone());
    };
    loop {
        if connections.wait_for(Option::is_some).await.is_err() {
            core::future::pending::<()>().await;
        }
        connections.mark_unchanged();
        let pause = match list.refresh(handle).await {
            Ok(is_new) => {
                if let Some(view) = list.view.as_ref().filter(|_| is_new) {
                    publish(view);
                }
                INTERVAL
            }
            Err(()) => RETRY_INTERVAL,
        };
        let due = sleep(pause);
        tokio::pin!(due);
        loop {
            tokio::select! {
                () = &mut due => break,
                _ = connections.changed() => break,
                Some(first) = news.recv() => {
                    let (has_block, has_changed) = list.take_news(first, news);
                    if let Some(view) = list.view.as_ref().filter(|_| has_changed) {
                        publish(view);
                    }
                    if has_block {
                        break;
                    }
                }
            }
        }
    }
}

#[derive(Default)]
struct List {
    view: Option<OxendView>,
    last_fault: String,
}

impl List {
    /// Asks for the list; tells whether it is another than before.
    async fn refresh(&mut self, handle: &OxendHandle) -> Result<bool, ()> {
        let known = self.view.as_ref().map(|view| view.block_hash);
        let query = Listing::query(known.as_ref());
        let listing = match handle.call("rpc.get_service_nodes", &query).await {
            Ok((200, body)) => Listing::parse(&body),
            Ok((status, _)) => Err(format!("it answered with status {status}")),
            Err(fault) => Err(fault.to_string()),
        };
        match listing {
            Ok(Listing::Unchanged) => {
                self.last_fault.clear();
                Ok(false)
            }
            Ok(Listing::View(view)) => {
                self.last_fault.clear();
                self.tell(&view);
                self.view = Some(view);
                Ok(true)
            }
            Err(fault) => {
                if fault != self.last_fault {
                    warn!(%fault, "oxend gave no list of nodes; the last view stays");
                    self.last_fault = fault;
                }
                Err(())
            }
        }
    }

    fn tell(&self, view: &OxendView) {
        let (major, minor) = view.hard_fork;
        match &self.view {
            None => info!(
                nodes = view.nodes.len(),
                height = view.height,
                "list of nodes from oxend"
            ),
            Some(last) if last.hard_fork != view.hard_fork => info!(major, minor, "new hard fork"),
            Some(_) => debug!(height = view.height, "new block"),
        }
        let uncontactable = view.uncontactable_count();
        let total = view.nodes.len() + view.keyless_count;
        // Said once: a daemon that has just started learns the rest within an hour.
        if self.view.is_none() && uncontactable * 100 > total * MISSING_PERCENT_MAX {
            warn!(
                uncontactable,
                total, "oxend does not know yet how to reach many nodes"
            );
        }
    }

    /// Takes all news that have arrived; tells whether there was a block, and whether a node is reached
    /// in another way.
    fn take_news(&mut self, first: News, news: &mut mpsc::Receiver<News>) -> (bool, bool) {
        let (mut has_block, mut has_changed) = (false, false);
        let mut next = Some(first);
        while let Some(one) = next {
            match one {
                News::Block => has_block = true,
                News::Contact(contact) => has_changed |= self.apply(&contact),
            }
            next = news.try_recv().ok();
        }
        (has_block, has_changed)
    }

    fn apply(&mut self, contact: &Contact) -> bool {
        let nodes = self.view.iter_mut().flat_map(|view| &mut view.nodes);
        let is_same = |node: &&mut ServiceNode| node.pubkey_legacy == contact.pubkey_legacy;
        let node = nodes.into_iter().find(is_same);
        node.is_some_and(|node| contact.apply(node))
    }
}

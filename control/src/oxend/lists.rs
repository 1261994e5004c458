//! Keeps the picture of the network that oxend gives.

use core::time::Duration;
use std::sync::Arc;

use cepa_meter::count;
use cepa_wire::ServiceNode;
use cepa_wire::contact::Contact;
use cepa_wire::oxend::{Listing, Registration};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::bootstrap::{self, Bootstrap};
use super::driver::News;
use super::{OurNode, OxendHandle, OxendView};
use crate::standing::Standing;

/// How often the list is asked for when no block is told: a cheap question, as oxend knows what we
/// have. It is that of pings.
const INTERVAL: Duration = Duration::from_secs(30);
/// The pause after an attempt that gave nothing.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// How long a node waits at most for its oxend to be where the bootstrap nodes are: as long as the
/// reference does.
const SYNC_TIMEOUT: Duration = Duration::from_hours(1);

/// Who asks, whom else, and who hears how it goes.
pub(super) struct Listener<'a> {
    pub(super) us: &'a OurNode,
    pub(super) bootstrap: &'a Bootstrap,
    pub(super) standing: &'a Standing,
}

/// Asks for the list after each connection and each block, and now and then; publishes each that is
/// new, until the future is dropped. When the first list is sparse, the bootstrap nodes are asked once,
/// and nothing is published before oxend is where they are.
pub(super) async fn keep(
    handle: &OxendHandle,
    listener: Listener<'_>,
    news: &mut mpsc::Receiver<News>,
    views: &watch::Sender<Option<Arc<OxendView>>>,
    mut publish: impl FnMut(OxendView),
) -> ! {
    let mut connections = handle.connections();
    let Listener {
        us,
        bootstrap,
        standing,
    } = listener;
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
        let pause = match list.refresh(handle, us, standing).await {
            Ok(is_first) => {
                let view = list.view.as_ref().filter(|_| is_first);
                if view.is_some_and(|view| bootstrap.is_needed(view)) {
                    list.learn(bootstrap.ask_all(&us.x25519).await, Instant::now());
                }
                INTERVAL
            }
            Err(()) => RETRY_INTERVAL,
        };
        if let Some(view) = list.poll_view(Instant::now()) {
            publish(view);
        }
        let due = sleep(pause);
        tokio::pin!(due);
        loop {
            tokio::select! {
                () = &mut due => break,
                _ = connections.changed() => break,
                Some(first) = news.recv() => {
                    let has_block = list.take_news(first, news);
                    if let Some(view) = list.poll_view(Instant::now()) {
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
    /// Whether the view is another than the one that was published last.
    is_new: bool,
    /// What oxend has to catch up with first.
    syncing: Option<Syncing>,
    last_fault: String,
}

/// What bootstrap nodes told of a chain that oxend does not have yet.
struct Syncing {
    height: u64,
    until: Instant,
    /// The nodes that they can reach: some are not in oxend's list yet.
    nodes: Vec<ServiceNode>,
}

impl List {
    /// Asks for the list; tells whether it is the first.
    async fn refresh(
        &mut self,
        handle: &OxendHandle,
        us: &OurNode,
        standing: &Standing,
    ) -> Result<bool, ()> {
        let known = self.view.as_ref().map(|view| view.block_hash);
        let query = Listing::query(known.as_ref());
        let listing = match handle.call("rpc.get_service_nodes", &query).await {
            Ok((200, body)) => {
                let listing = Listing::parse(&body);
                if matches!(listing, Ok(Listing::View(_))) {
                    let registration = Registration::find(&body, &us.pubkey_legacy);
                    standing.handle_registration(registration);
                }
                listing
            }
            Ok((status, _)) => Err(format!("it answered with status {status}")),
            Err(fault) => Err(fault.to_string()),
        };
        match listing {
            Ok(Listing::Unchanged) => {
                standing.handle_listed();
                self.last_fault.clear();
                Ok(false)
            }
            Ok(Listing::View(view)) => {
                standing.handle_listed();
                count(&standing.counters.lists);
                self.last_fault.clear();
                self.tell(&view);
                Ok(self.take(view))
            }
            Err(fault) => {
                count(&standing.counters.lists_failed);
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
        if self.view.is_none() && bootstrap::is_incomplete(uncontactable, total) {
            warn!(
                uncontactable,
                total, "oxend does not know yet how to reach many nodes"
            );
        }
    }

    /// Takes a list; tells whether it is the first. Who can't be reached any more by what oxend says is
    /// reached as before.
    fn take(&mut self, mut view: OxendView) -> bool {
        if let Some(syncing) = &self.syncing {
            bootstrap::fill_contacts(&mut view.nodes, &syncing.nodes);
        }
        if let Some(last) = &self.view {
            bootstrap::fill_contacts(&mut view.nodes, &last.nodes);
        }
        self.is_new = true;
        self.view.replace(view).is_none()
    }

    /// Learns from the lists of bootstrap nodes.
    fn learn(&mut self, lists: Vec<OxendView>, now: Instant) {
        let mut syncing = Syncing {
            height: 0,
            until: now + SYNC_TIMEOUT,
            nodes: Vec::new(),
        };
        for list in lists {
            syncing.height = syncing.height.max(list.height);
            let nodes = list.nodes.into_iter();
            syncing
                .nodes
                .extend(nodes.filter(ServiceNode::is_contactable));
        }
        let Some(view) = &mut self.view else { return };
        let learned = bootstrap::fill_contacts(&mut view.nodes, &syncing.nodes);
        let (height, target) = (view.height, syncing.height);
        if learned > 0 {
            info!(learned, "bootstrap nodes told how to reach nodes");
        }
        if height < target {
            warn!(
                height,
                target, "oxend is behind the network: waiting for it"
            );
        }
        self.syncing = Some(syncing);
    }

    /// The view, if it is to be published: if it is new, and oxend has caught up or had time enough.
    fn poll_view(&mut self, now: Instant) -> Option<&OxendView> {
        let view = self.view.as_ref()?;
        if let Some(syncing) = &self.syncing {
            if view.height < syncing.height && now < syncing.until {
                return None;
            }
            if view.height < syncing.height {
                warn!("oxend takes too long to catch up: going on with what it has");
            }
            self.syncing = None;
        }
        core::mem::take(&mut self.is_new).then_some(view)
    }

    /// Takes all news that have arrived; tells whether there was a block.
    fn take_news(&mut self, first: News, news: &mut mpsc::Receiver<News>) -> bool {
        let mut has_block = false;
        let mut next = Some(first);
        while let Some(one) = next {
            match one {
                News::Block => has_block = true,
                News::Contact(contact) => self.is_new |= self.apply(&contact),
            }
            next = news.try_recv().ok();
        }
        has_block
    }

    fn apply(&mut self, contact: &Contact) -> bool {
        let nodes = self.view.iter_mut().flat_map(|view| &mut view.nodes);
        let is_same = |node: &&mut ServiceNode| node.pubkey_legacy == contact.pubkey_legacy;
        let node = nodes.into_iter().find(is_same);
        node.is_some_and(|node| contact.apply(node))
    }
}

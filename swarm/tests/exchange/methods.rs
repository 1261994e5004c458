//! What the methods beside store, retrieve and delete refuse, and what they do with subaccounts.

use cepa_crypto::request_signature as text;
use cepa_crypto::{Account, Ed25519SecretKey};
use cepa_storage::{Command, Outcome};
use cepa_swarm::{Action, Event, Exchange, Origin};
use cepa_wire::answer::{Answer, Tree};
use cepa_wire::request::{
    ClientRequest, Condition, DeleteAll, DeleteBefore, Expire, ExpireAll, GetExpiries, IfElse,
    Proof, Revocation, RevokedSubaccounts, Subaccount,
};
use cepa_wire::{
    Direction, Mailbox, MessageHash, Namespace, Scope, Signature, SubaccountToken, Timestamp,
};

use crate::net::{DAY, NOW, Net, account, net, retrieve, store, text_of, tree_of};

const MINUTE: u64 = 60_000;

fn at(offset: i64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis().saturating_add_signed(offset))
}

fn minutes(count: u64) -> i64 {
    i64::try_from(count * MINUTE).unwrap()
}

const UNSIGNED: Proof = Proof::owner(None, Signature([0; 64]));

/// Signs as the owner.
fn sign(owner: &Account, text: impl AsRef<[u8]>) -> Proof {
    let key = owner.ed25519();
    Proof::owner(Some(key.public_key()), key.sign(text.as_ref()))
}

fn delete_all(owner: &Account, scope: Scope, timestamp: Timestamp) -> DeleteAll {
    let mailbox = owner.id();
    let proof = UNSIGNED;
    let mut all = DeleteAll {
        mailbox,
        scope,
        timestamp,
        proof,
    };
    all.proof = sign(owner, text::delete_all_text(&all));
    all
}

fn delete_before(owner: &Account, before: Timestamp) -> DeleteBefore {
    let mut delete = DeleteBefore {
        mailbox: owner.id(),
        scope: Scope::All,
        before,
        proof: UNSIGNED,
    };
    delete.proof = sign(owner, text::delete_before_text(&delete));
    delete
}

fn expire_all(owner: &Account, expiry: Timestamp) -> ExpireAll {
    let mut all = ExpireAll {
        mailbox: owner.id(),
        scope: Scope::One(Namespace(2)),
        expiry,
        proof: UNSIGNED,
    };
    all.proof = sign(owner, text::expire_all_text(&all));
    all
}

fn hash() -> String {
    MessageHash([7; 32]).to_text()
}

fn expire(owner: &Account, expiry: Timestamp, direction: Direction) -> Expire {
    let mut expire = Expire {
        mailbox: owner.id(),
        messages: vec![hash()],
        expiries: vec![expiry],
        direction,
        proof: UNSIGNED,
    };
    expire.proof = sign(owner, text::expire_text(&expire));
    expire
}

fn get_expiries(owner: &Account, timestamp: Timestamp) -> GetExpiries {
    let mut expiries = GetExpiries {
        mailbox: owner.id(),
        messages: vec![hash()],
        timestamp,
        proof: UNSIGNED,
    };
    expiries.proof = sign(owner, text::get_expiries_text(&expiries));
    expiries
}

fn revocation(method: &str, owner: &Account, timestamp: Timestamp) -> Revocation {
    let mut revocation = Revocation {
        mailbox: owner.id(),
        tokens: vec![SubaccountToken([5; 36])],
        timestamp,
        proof: UNSIGNED,
    };
    revocation.proof = sign(owner, text::revocation_text(method, &revocation));
    revocation
}

fn revoked(owner: &Account, timestamp: Timestamp) -> RevokedSubaccounts {
    let mut revoked = RevokedSubaccounts {
        mailbox: owner.id(),
        timestamp,
        proof: UNSIGNED,
    };
    revoked.proof = sign(owner, text::revoked_subaccounts_text(&revoked));
    revoked
}

/// Each method with a time, good or wrong.
fn timed(owner: &Account, offset: i64) -> Vec<ClientRequest> {
    let time = at(offset);
    vec![
        ClientRequest::DeleteAll(delete_all(owner, Scope::All, time)),
        ClientRequest::GetExpiries(get_expiries(owner, time)),
        ClientRequest::RevokeSubaccount(revocation("revoke_subaccount", owner, time)),
        ClientRequest::UnrevokeSubaccount(revocation("unrevoke_subaccount", owner, time)),
        ClientRequest::RevokedSubaccounts(revoked(owner, time)),
    ]
}

#[test]
fn signatures_from_another_time_are_refused() {
    let net = net();
    let owner = account(&net);
    for offset in [minutes(1) + 1, -minutes(1) - 1] {
        for request in timed(&owner, offset) {
            let expected = format!("{} timestamp too far from current time", request.method());
            let (answer, actions) = net.run(request, Origin::Client);
            assert_eq!(text_of(&answer), (406, expected.as_str()));
            assert_eq!(actions, []);
        }
    }
    for offset in [minutes(1), -minutes(1)] {
        for request in timed(&owner, offset) {
            assert_eq!(net.run(request, Origin::Client).0.status, 200);
        }
    }
}

#[test]
fn times_that_mean_nothing_are_refused() {
    let net = net();
    let owner = account(&net);
    let cases = [
        (
            ClientRequest::DeleteBefore(delete_before(&owner, at(minutes(1) + 1))),
            (401, "delete_before timestamp too far in the future"),
        ),
        (
            ClientRequest::ExpireAll(expire_all(&owner, at(-minutes(1) - 1))),
            (406, "expire_all timestamp should be >= current time"),
        ),
        (
            ClientRequest::Expire(expire(&owner, at(-minutes(1) - 1), Direction::Any)),
            (401, "expire: timestamp should be >= current time"),
        ),
    ];
    for (request, expected) in cases {
        let (answer, actions) = net.run(request, Origin::Client);
        assert_eq!(text_of(&answer), expected);
        assert_eq!(actions, []);
    }
    let good = [
        ClientRequest::DeleteBefore(delete_before(&owner, at(minutes(1)))),
        ClientRequest::ExpireAll(expire_all(&owner, at(-minutes(1)))),
        ClientRequest::Expire(expire(&owner, at(-minutes(1)), Direction::Any)),
    ];
    for request in good {
        assert_eq!(net.run(request, Origin::Client).0.status, 200);
    }
}

#[test]
fn forged_signatures_are_refused_in_the_protocols_words() {
    let net = net();
    let (owner, stranger) = (account(&net), Account::from_entropy([0xee; 16]));
    let mailbox = owner.id();
    let mut requests = timed(&stranger, 0);
    requests.push(ClientRequest::DeleteBefore(delete_before(&stranger, NOW)));
    requests.push(ClientRequest::ExpireAll(expire_all(&stranger, NOW)));
    requests.push(ClientRequest::Expire(expire(
        &stranger,
        NOW,
        Direction::Any,
    )));
    for mut request in requests {
        match &mut request {
            ClientRequest::DeleteAll(request) => request.mailbox = mailbox,
            ClientRequest::DeleteBefore(request) => request.mailbox = mailbox,
            ClientRequest::ExpireAll(request) => request.mailbox = mailbox,
            ClientRequest::Expire(request) => request.mailbox = mailbox,
            ClientRequest::GetExpiries(request) => request.mailbox = mailbox,
            ClientRequest::RevokeSubaccount(request)
            | ClientRequest::UnrevokeSubaccount(request) => request.mailbox = mailbox,
            ClientRequest::RevokedSubaccounts(request) => request.mailbox = mailbox,
            other => panic!("{other:?}"),
        }
        let expected = match request.method() {
            "expire" => "expire: signature verification failed".to_owned(),
            method => format!("{method} signature verification failed"),
        };
        let (answer, actions) = net.run(request, Origin::Client);
        assert_eq!(text_of(&answer), (401, expected.as_str()));
        assert_eq!(actions, []);
    }
}

/// What is asked of the store.
fn command(actions: &[Action]) -> &Command {
    let command = actions.iter().find_map(|action| match action {
        Action::Command { command, .. } => Some(command),
        _ => None,
    });
    command.unwrap()
}

#[test]
fn what_a_member_brings_late_concerns_what_was_there_then() {
    let net = net();
    let owner = account(&net);
    let late = at(-minutes(30));
    let request = || ClientRequest::DeleteAll(delete_all(&owner, Scope::All, late));
    let (answer, actions) = net.run(request(), Origin::Member);
    assert_eq!(answer.status, 200);
    assert!(
        matches!(command(&actions), Command::DeleteAll { before: Some(before), .. } if *before == late)
    );
    let in_time = ClientRequest::DeleteAll(delete_all(&owner, Scope::All, NOW));
    let (_, actions) = net.run(in_time, Origin::Member);
    assert!(matches!(
        command(&actions),
        Command::DeleteAll { before: None, .. }
    ));
    let too_late =
        ClientRequest::DeleteAll(delete_all(&owner, Scope::All, at(-minutes(15 * 1440))));
    assert_eq!(net.run(too_late, Origin::Member).0.status, 406);
    let revoke = revocation("revoke_subaccount", &owner, late);
    let revoke = ClientRequest::RevokeSubaccount(revoke);
    assert_eq!(net.run(revoke, Origin::Member).0.status, 200);
    let expire = ClientRequest::Expire(expire(&owner, late, Direction::Any));
    assert_eq!(net.run(expire, Origin::Member).0.status, 200);
}

#[test]
fn expiries_end_where_messages_may_live_no_longer() {
    let net = net();
    let owner = account(&net);
    let far = at(i64::try_from(60 * DAY).unwrap());
    let cap = at(i64::try_from(30 * DAY).unwrap());
    let request = ClientRequest::Expire(expire(&owner, far, Direction::Extend));
    let (answer, actions) = net.run(request, Origin::Client);
    let Command::Expire { targets, .. } = command(&actions) else {
        panic!()
    };
    assert_eq!(targets, &[(MessageHash([7; 32]), cap)]);
    let entry = own_entry(&net, &answer);
    let expiry = Tree::Integer(i64::try_from(cap.as_millis()).unwrap());
    assert_eq!(entry.get("expiry"), Some(&expiry));
    assert_eq!(entry.get("unchanged").unwrap().to_json(), b"{}");
}

fn own_entry(net: &Net, answer: &Answer) -> Tree {
    let swarm = tree_of(answer).get("swarm").unwrap();
    swarm.get(&net.member(0).to_hex()).unwrap().clone()
}

/// A holder of a token of the account `owner`.
struct Holder {
    key: Ed25519SecretKey,
    subaccount: Subaccount,
    owner: Proof,
}

impl Holder {
    fn new(owner: &Account, flags: u8) -> Self {
        let key = Ed25519SecretKey::from_seed([9; 32]);
        let mut token = [0; 36];
        token[..2].copy_from_slice(&[Mailbox::ACCOUNT, flags]);
        token[4..].copy_from_slice(&key.public_key().0);
        Self {
            key,
            subaccount: Subaccount {
                token: SubaccountToken(token),
                signature: owner.ed25519().sign(&token),
            },
            owner: sign(owner, ""),
        }
    }

    fn sign(&self, text: impl AsRef<[u8]>) -> Proof {
        Proof {
            signature: self.key.sign(text.as_ref()),
            subaccount: Some(self.subaccount),
            ..self.owner
        }
    }
}

/// The requests of a holder that need `flags` and no more.
fn held_requests(owner: &Account, holder: &Holder) -> Vec<(u8, ClientRequest)> {
    const READ: u8 = SubaccountToken::READ;
    const WRITE: u8 = SubaccountToken::WRITE;
    const DELETE: u8 = SubaccountToken::DELETE;
    let mut read = retrieve(owner);
    read.namespace = Namespace(11);
    read.proof = Some(holder.sign(text::retrieve_text(&read)));
    let mut expiries = get_expiries(owner, NOW);
    expiries.proof = holder.sign(text::get_expiries_text(&expiries));
    let mut write = store(owner.id(), 11);
    write.proof = Some(holder.sign(text::store_text(&write)));
    let mut outbox = store(owner.id(), -1);
    outbox.proof = Some(holder.sign(text::store_text(&outbox)));
    let mut move_on = expire(owner, at(minutes(9)), Direction::Any);
    move_on.proof = holder.sign(text::expire_text(&move_on));
    let mut all = delete_all(owner, Scope::All, NOW);
    all.proof = holder.sign(text::delete_all_text(&all));
    let mut before = delete_before(owner, NOW);
    before.proof = holder.sign(text::delete_before_text(&before));
    let mut let_expire = expire_all(owner, NOW);
    let_expire.proof = holder.sign(text::expire_all_text(&let_expire));
    vec![
        (READ, ClientRequest::Retrieve(read)),
        (READ, ClientRequest::GetExpiries(expiries)),
        (WRITE, ClientRequest::Store(write)),
        (WRITE | DELETE, ClientRequest::Store(outbox)),
        (WRITE, ClientRequest::Expire(move_on)),
        (DELETE, ClientRequest::DeleteAll(all)),
        (DELETE, ClientRequest::DeleteBefore(before)),
        (DELETE, ClientRequest::ExpireAll(let_expire)),
    ]
}

#[test]
fn a_subaccount_does_what_its_flags_allow() {
    let net = net();
    let owner = account(&net);
    for flags in 0..8 {
        let holder = Holder::new(&owner, flags);
        for (needed, request) in held_requests(&owner, &holder) {
            let method = request.method();
            let (answer, actions) = net.run(request, Origin::Client);
            if flags & needed == needed {
                assert_eq!(answer.status, 200, "{method} with {flags}");
                assert!(
                    matches!(command(&actions), Command::Revocations { .. }),
                    "whether it is revoked is asked first"
                );
            } else {
                assert_eq!(text_of(&answer).0, 401, "{method} with {flags}");
                assert_eq!(actions, []);
            }
        }
    }
}

/// Runs a request while `token` is revoked; tells the answer and how many commands were given.
fn run_revoked(net: &Net, request: ClientRequest, token: SubaccountToken) -> (Answer, usize) {
    let mut exchange = Exchange::new(request, Origin::Client, net.local());
    let mut count = 0;
    while let Some(action) = exchange.poll_action() {
        let (ticket, event) = match action {
            Action::Command { ticket, command } => {
                count += 1;
                let outcome = match command {
                    Command::Revocations { .. } => Outcome::Revocations(vec![token]),
                    other => crate::net::success(&other),
                };
                (ticket, Event::Outcome(outcome))
            }
            Action::Forward { ticket, .. } => (ticket, Event::NoReply),
            _ => continue,
        };
        exchange.handle_event(ticket, event, net.local());
    }
    (exchange.poll_answer().unwrap(), count)
}

#[test]
fn a_revoked_subaccount_reads_where_it_learns_of_it_and_does_nothing_else() {
    let net = net();
    let owner = account(&net);
    let holder = Holder::new(&owner, 7);
    let token = holder.subaccount.token;
    for (_, request) in held_requests(&owner, &holder) {
        let method = request.method();
        let (answer, count) = run_revoked(&net, request, token);
        assert_eq!(text_of(&answer).0, 401, "{method}");
        assert_eq!(count, 1, "{method} did not run");
    }
    let mut read = retrieve(&owner);
    read.namespace = Namespace(-11);
    read.proof = Some(holder.sign(text::retrieve_text(&read)));
    let (answer, _) = run_revoked(&net, ClientRequest::Retrieve(read), token);
    assert_eq!(answer.status, 200);
}

#[test]
fn who_may_not_delete_may_not_shorten() {
    let net = net();
    let owner = account(&net);
    let expire = |flags, direction| {
        let holder = Holder::new(&owner, flags);
        let mut request = expire(&owner, at(minutes(9)), direction);
        request.proof = holder.sign(text::expire_text(&request));
        net.run(ClientRequest::Expire(request), Origin::Client)
    };
    let direction_of = |actions: &[Action]| {
        let moved = actions.iter().find_map(|action| match action {
            Action::Command {
                command: Command::Expire { direction, .. },
                ..
            } => Some(*direction),
            _ => None,
        });
        moved.unwrap()
    };
    let (answer, _) = expire(2, Direction::Shorten);
    let text = "expire: shorten parameter cannot be used with this subaccount token (missing \
                delete access)";
    assert_eq!(text_of(&answer), (400, text));
    let (answer, actions) = expire(2, Direction::Any);
    assert_eq!(direction_of(&actions), Direction::Extend);
    assert!(own_entry(&net, &answer).get("unchanged").is_none());
    assert_eq!(
        direction_of(&expire(6, Direction::Shorten).1),
        Direction::Shorten
    );
    assert_eq!(direction_of(&expire(6, Direction::Any).1), Direction::Any);
}

#[test]
fn the_condition_decides_which_request_it_is() {
    let net = net();
    let ifelse = |least: [i64; 2], then, otherwise| {
        let condition = Condition {
            hf_at_least: Some(least),
            ..Condition::default()
        };
        ClientRequest::IfElse(IfElse {
            condition,
            then: Some(Box::new(then)),
            otherwise,
        })
    };
    let info = || ClientRequest::Info;
    let unknown = GetExpiries {
        timestamp: Timestamp::ZERO,
        ..get_expiries(&account(&net), NOW)
    };
    let otherwise = || Some(Box::new(ClientRequest::GetExpiries(unknown.clone())));

    let (answer, _) = net.run(ifelse([19, 4], info(), otherwise()), Origin::Client);
    let tree = tree_of(&answer);
    assert_eq!(tree.get("condition"), Some(&Tree::Bool(true)));
    assert_eq!(tree.get("hf").unwrap().to_json(), b"[19,4]");
    let result = tree.get("result").unwrap();
    assert_eq!(result.get("code"), Some(&Tree::Integer(200)));
    assert!(result.get("body").unwrap().get("version").is_some());

    let (answer, _) = net.run(ifelse([19, 5], info(), otherwise()), Origin::Client);
    assert_eq!(answer.status, 200);
    let result = tree_of(&answer).get("result").unwrap();
    assert_eq!(result.get("code"), Some(&Tree::Integer(406)));

    let (answer, _) = net.run(ifelse([20, 0], info(), None), Origin::Client);
    assert!(tree_of(&answer).get("result").is_none());

    // One in the other, and a batch in that.
    let batch = ClientRequest::Batch(vec![info(), info()]);
    let nested = ifelse([19, 0], ifelse([19, 0], batch, None), None);
    let (answer, _) = net.run(nested, Origin::Client);
    let inner = tree_of(&answer).get("result").unwrap().get("body").unwrap();
    let rows = inner
        .get("result")
        .unwrap()
        .get("body")
        .unwrap()
        .get("results");
    assert!(matches!(rows, Some(Tree::List(rows)) if rows.len() == 2));
}

#[test]
fn active_nodes_are_told_in_51_bytes_each() {
    let net = net();
    let (answer, _) = net.run(ClientRequest::ActiveNodes, Origin::Client);
    let (content_type, body) = answer.clone().into_http_body();
    assert_eq!(content_type, "text/plain");
    assert_eq!(body.len(), 6 * 51 / 3 * 4);
    let cepa_wire::answer::Body::Bytes(bytes) = answer.body else {
        panic!()
    };
    let last = &bytes[5 * 51..];
    assert_eq!(&last[..32], &net.member(5).0);
    assert_eq!(&last[32..40], &(1_u64 << 63).to_be_bytes());
    assert_eq!(&last[40..], &[127, 0, 0, 1, 0, 1, 0, 2, 2, 11, 0]);
}

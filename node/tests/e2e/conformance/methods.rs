//! Every method on every way: what it does, what it answers, and that all five members signed it.

use core::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cepa_crypto::request_signature as text;
use cepa_crypto::{Account, Ed25519SecretKey, key};
use cepa_wire::request::{
    ClientRequest, Condition, Delete, DeleteAll, DeleteBefore, Expire, ExpireAll, GetExpiries,
    IfElse, OxendRequest, Proof, Revocation, RevokedSubaccounts, Subaccount,
};
use cepa_wire::{
    Direction, Ed25519PublicKey, Mailbox, Namespace, Scope, ServiceNode, Signature,
    SubaccountToken, Timestamp,
};
use serde_json::Value;

use super::transport::{Asker, Way};
use crate::network::{retrieve_from, sign, store, store_own};

/// One account on one way.
pub(super) struct Round<'a> {
    pub(super) asker: &'a mut Asker,
    pub(super) way: Way,
    pub(super) node: &'a ServiceNode,
    pub(super) owner: &'a Account,
    /// The nodes of its swarm.
    pub(super) member_count: usize,
}

fn now() -> Timestamp {
    cepa_host::clock::now()
}

fn in_hours(hours: u64) -> Timestamp {
    now().saturating_add(Duration::from_hours(hours))
}

impl Round<'_> {
    fn ask(&mut self, request: &ClientRequest) -> Value {
        let (status, body) = self.asker.ask(self.way, self.node, request);
        assert_eq!(
            status,
            200,
            "{} by {:?}: {body}",
            request.method(),
            self.way
        );
        body
    }

    fn refused(&mut self, request: &ClientRequest, expected: (u16, &str)) {
        let (status, body) = self.asker.ask(self.way, self.node, request);
        assert_eq!(
            (status, body.as_str()),
            (expected.0, Some(expected.1)),
            "{:?}",
            self.way
        );
    }

    /// Asks, and checks that every member signed what `text` makes of its entry.
    fn ask_all(&mut self, request: &ClientRequest, text: impl Fn(&Value) -> Vec<u8>) -> Value {
        let body = self.ask(request);
        let swarm = body["swarm"].as_object().unwrap();
        assert_eq!(swarm.len(), self.member_count);
        for (member, entry) in swarm {
            let key = Ed25519PublicKey::from_hex(member.as_bytes()).unwrap();
            let signature = STANDARD
                .decode(entry["signature"].as_str().unwrap())
                .unwrap();
            let signature = Signature::from_slice(&signature).unwrap();
            let signed = key::verify(&key, &text(entry), &signature);
            assert!(
                signed.is_ok(),
                "{} by {:?}: {entry}",
                request.method(),
                self.way
            );
        }
        swarm.values().next().unwrap().clone()
    }

    fn store(&mut self, request: &ClientRequest) -> String {
        let entry = self.ask_all(request, |entry| entry["hash"].as_str().unwrap().into());
        entry["hash"].as_str().unwrap().to_owned()
    }

    fn hashes_in(&mut self, namespace: i16) -> Vec<String> {
        let request = retrieve_from(self.owner, Namespace(namespace), None);
        let body = self.ask(&request);
        let messages = body["messages"].as_array().unwrap();
        messages
            .iter()
            .map(|message| message["hash"].as_str().unwrap().to_owned())
            .collect()
    }

    /// All methods that touch messages.
    pub(super) fn messages(&mut self) {
        let owner = self.owner;
        let data = |number: u8| format!("{number} by {:?}", self.way).into_bytes();
        let (one, two, three) = (data(1), data(2), data(3));
        let first = self.store(&store(owner.id(), &one));
        let second = self.store(&store(owner.id(), &two));
        let own = self.store(&store_own(owner, 5, &three));
        assert_eq!(self.hashes_in(0), [first.clone(), second.clone()]);
        assert_eq!(self.hashes_in(5), core::slice::from_ref(&own));
        self.expiries(&[first.clone(), second.clone()]);

        let mut delete = Delete {
            mailbox: owner.id(),
            messages: vec![first.clone()],
            required: false,
            proof: sign(owner, ""),
        };
        delete.proof = sign(owner, text::delete_text(&delete));
        let request = ClientRequest::Delete(delete.clone());
        let entry = self.ask_all(&request, |entry| {
            text::delete_answer_text(&delete, &texts(&entry["deleted"])).into()
        });
        assert_eq!(texts(&entry["deleted"]), [first]);

        let mut before = DeleteBefore {
            mailbox: owner.id(),
            scope: Scope::One(Namespace(0)),
            before: now(),
            proof: sign(owner, ""),
        };
        before.proof = sign(owner, text::delete_before_text(&before));
        let time = before.before;
        let entry = self.ask_all(&ClientRequest::DeleteBefore(before), |entry| {
            text::affected_answer_text(&owner.id(), time, &texts(&entry["deleted"])).into()
        });
        assert_eq!(texts(&entry["deleted"]), [second]);

        let mut all = DeleteAll {
            mailbox: owner.id(),
            scope: Scope::All,
            timestamp: now(),
            proof: sign(owner, ""),
        };
        all.proof = sign(owner, text::delete_all_text(&all));
        let time = all.timestamp;
        let entry = self.ask_all(&ClientRequest::DeleteAll(all), |entry| {
            let deleted = texts(&entry["deleted"]["5"]);
            text::affected_answer_text(&owner.id(), time, &deleted).into()
        });
        assert_eq!(texts(&entry["deleted"]["5"]), [own]);
        assert!(self.hashes_in(0).is_empty() && self.hashes_in(5).is_empty());
    }

    fn expire(&mut self, hashes: &[String], expiries: &[Timestamp], direction: Direction) -> Value {
        let mut expire = Expire {
            mailbox: self.owner.id(),
            messages: hashes.to_vec(),
            expiries: expiries.to_vec(),
            direction,
            proof: sign(self.owner, ""),
        };
        expire.proof = sign(self.owner, text::expire_text(&expire));
        let request = ClientRequest::Expire(expire.clone());
        self.ask_all(&request, |entry| {
            let applied: Vec<Timestamp> = match &entry["expiry"] {
                Value::Array(many) => many.iter().map(time).collect(),
                one => vec![time(one)],
            };
            let mut unchanged: Vec<(String, Timestamp)> = entry["unchanged"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(hash, expiry)| (hash.clone(), time(expiry)))
                .collect();
            unchanged.sort();
            let updated = texts(&entry["updated"]);
            text::expire_answer_text(&expire, &applied, &updated, &unchanged).into()
        })
    }

    fn expiries(&mut self, hashes: &[String]) {
        let owner = self.owner;
        let mut sorted = hashes.to_vec();
        sorted.sort();
        let [early, late] = [in_hours(2), in_hours(3)];
        let entry = self.expire(hashes, &[late], Direction::Any);
        assert_eq!(texts(&entry["updated"]), sorted);
        let entry = self.expire(hashes, &[early], Direction::Extend);
        assert_eq!(entry["unchanged"].as_object().unwrap().len(), 2);
        let entry = self.expire(hashes, &[early, in_hours(9)], Direction::Shorten);
        assert_eq!(texts(&entry["updated"]), [hashes[0].clone()]);

        let mut expiries = GetExpiries {
            mailbox: owner.id(),
            messages: hashes.to_vec(),
            timestamp: now(),
            proof: sign(owner, ""),
        };
        expiries.proof = sign(owner, text::get_expiries_text(&expiries));
        let told = self.ask(&ClientRequest::GetExpiries(expiries));
        assert_eq!(time(&told["expiries"][&hashes[0]]), early);
        assert_eq!(time(&told["expiries"][&hashes[1]]), late);
        assert!(told.get("t").is_none());

        let mut all = ExpireAll {
            mailbox: owner.id(),
            scope: Scope::One(Namespace(0)),
            expiry: early,
            proof: sign(owner, ""),
        };
        all.proof = sign(owner, text::expire_all_text(&all));
        let entry = self.ask_all(&ClientRequest::ExpireAll(all), |entry| {
            text::affected_answer_text(&owner.id(), early, &texts(&entry["updated"])).into()
        });
        assert_eq!(texts(&entry["updated"]), [hashes[1].clone()]);
    }

    /// A subaccount stores and reads until it is revoked, and again when it is not.
    pub(super) fn subaccounts(&mut self) {
        let owner = self.owner;
        let holder = Ed25519SecretKey::from_seed([9; 32]);
        let mut token = [0; 36];
        token[..2].copy_from_slice(&[Mailbox::ACCOUNT, 3]);
        token[4..].copy_from_slice(&holder.public_key().0);
        let subaccount = Subaccount {
            token: SubaccountToken(token),
            signature: owner.ed25519().sign(&token),
        };
        let held = |request: &mut ClientRequest| {
            let proof = |text: String| {
                Some(Proof {
                    signature: holder.sign(text.as_bytes()),
                    subaccount: Some(subaccount),
                    ..sign(owner, "")
                })
            };
            match request {
                ClientRequest::Store(store) => store.proof = proof(text::store_text(store)),
                ClientRequest::Retrieve(read) => read.proof = proof(text::retrieve_text(read)),
                other => panic!("{other:?}"),
            }
        };
        let mut storing = store_own(owner, 11, b"by a subaccount");
        held(&mut storing);
        let hash = self.store(&storing);
        let mut reading = retrieve_from(owner, Namespace(11), None);
        held(&mut reading);
        assert_eq!(self.ask(&reading)["messages"][0]["hash"], hash);

        self.change_revocation("revoke_subaccount", token);
        self.refused(&reading, (401, "retrieve signature verification failed"));
        self.refused(&storing, (401, "store signature verification failed"));
        let mut told = retrieve_from(owner, Namespace(-11), None);
        held(&mut told);
        assert_eq!(self.ask(&told)["messages"], serde_json::json!([]));
        let mut revoked = RevokedSubaccounts {
            mailbox: owner.id(),
            timestamp: now(),
            proof: sign(owner, ""),
        };
        revoked.proof = sign(owner, text::revoked_subaccounts_text(&revoked));
        let listed = self.ask(&ClientRequest::RevokedSubaccounts(revoked));
        if !matches!(self.way, Way::OmqBt | Way::QuicBt) {
            // bt does not tell bytes from text.
            assert_eq!(
                listed["revoked_subaccounts"],
                serde_json::json!([STANDARD.encode(token)])
            );
        }
        self.change_revocation("unrevoke_subaccount", token);
        assert_eq!(self.ask(&reading)["messages"][0]["hash"], hash);
    }

    fn change_revocation(&mut self, method: &str, token: [u8; 36]) {
        let mut revocation = Revocation {
            mailbox: self.owner.id(),
            tokens: vec![SubaccountToken(token)],
            timestamp: now(),
            proof: sign(self.owner, ""),
        };
        revocation.proof = sign(self.owner, text::revocation_text(method, &revocation));
        let request = if method == "revoke_subaccount" {
            ClientRequest::RevokeSubaccount(revocation.clone())
        } else {
            ClientRequest::UnrevokeSubaccount(revocation.clone())
        };
        let entry = self.ask_all(&request, |_| text::revocation_answer_text(&revocation));
        assert_eq!(entry["count"], 1);
    }

    /// Methods that touch no messages, and those that are made of others.
    pub(super) fn questions(&mut self, node_count: usize) {
        let owner = self.owner;
        assert_eq!(
            self.ask(&ClientRequest::Info)["version"],
            serde_json::json!([2, 11, 0])
        );
        let swarm = self.ask(&ClientRequest::GetSwarm(owner.id()));
        assert_eq!(swarm["snodes"].as_array().unwrap().len(), self.member_count);
        let oxend = |endpoint: &str, params: Value| {
            ClientRequest::Oxend(OxendRequest {
                endpoint: endpoint.to_owned(),
                params,
            })
        };
        let listed = self.ask(&oxend("get_service_nodes", serde_json::json!({})));
        let states = listed["result"]["service_node_states"].as_array().unwrap();
        assert_eq!(states.len(), node_count);
        let name = serde_json::json!({"type": 0, "name_hash": "x"});
        let resolved = self.ask(&oxend("ons_resolve", name));
        assert!(resolved["result"].is_object(), "{resolved}");
        let active = self.ask(&ClientRequest::ActiveNodes);
        let active = STANDARD.decode(active.as_str().unwrap()).unwrap();
        assert_eq!(active.len(), node_count * 51);

        self.composed();
    }

    /// Requests that are made of requests.
    fn composed(&mut self) {
        let owner = self.owner;
        let parts = || {
            vec![
                ClientRequest::Info,
                store(owner.id(), b"in a batch"),
                ClientRequest::GetSwarm(owner.id()),
            ]
        };
        for request in [
            ClientRequest::Batch(parts()),
            ClientRequest::Sequence(parts()),
        ] {
            let results = self.ask(&request)["results"].clone();
            let codes: Vec<_> = results
                .as_array()
                .unwrap()
                .iter()
                .map(|row| &row["code"])
                .collect();
            assert_eq!(codes, [200, 200, 200]);
        }
        let late = retrieve_from(owner, Namespace(3), None);
        let ClientRequest::Retrieve(mut late) = late else {
            unreachable!("a retrieve")
        };
        late.timestamp = Some(Timestamp::from_millis(1_000_000_000));
        let stops = vec![
            ClientRequest::Info,
            ClientRequest::Retrieve(late),
            ClientRequest::Info,
        ];
        let results = self.ask(&ClientRequest::Sequence(stops))["results"].clone();
        let codes: Vec<_> = results
            .as_array()
            .unwrap()
            .iter()
            .map(|row| &row["code"])
            .collect();
        assert_eq!(codes, [200, 406]);

        let condition = Condition {
            hf_before: Some([19, 0]),
            ..Condition::default()
        };
        let ifelse = self.ask(&ClientRequest::IfElse(IfElse {
            condition,
            then: None,
            otherwise: Some(Box::new(ClientRequest::Info)),
        }));
        assert!(matches!(&ifelse["condition"], Value::Bool(false)) || ifelse["condition"] == 0);
        assert_eq!(ifelse["result"]["code"], 200);
    }
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn time(value: &Value) -> Timestamp {
    Timestamp::from_millis(value.as_u64().unwrap())
}

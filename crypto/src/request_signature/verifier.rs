//! Verifies requests, and remembers what it worked out of keys: a client sends many requests, and five
//! in one batch, all with the same key.

use cepa_wire::request::{Proof, Subaccount};
use cepa_wire::{Ed25519PublicKey, Mailbox, SubaccountToken};

use crate::key::{BadSignature, VerifyingKey};

/// Keys that are remembered: those of as many clients as are busy at one shard within minutes. Each
/// takes some 400 bytes.
const KEY_COUNT: usize = 4096;
/// Subaccounts whose owner's signature is remembered, at some 170 bytes each.
const SUBACCOUNT_COUNT: usize = 1024;

/// Fixed tables: a new entry takes the place of an older one. Who makes keys that collide makes a
/// stranger's next request cost as much as its first did, and nothing else.
pub struct Verifier {
    keys: Box<[Option<VerifyingKey>]>,
    subaccounts: Box<[Option<KnownSubaccount>]>,
}

/// A subaccount whose token its owner signed.
#[derive(PartialEq, Eq)]
struct KnownSubaccount {
    owner: Ed25519PublicKey,
    subaccount: Subaccount,
}

impl Default for Verifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Verifier {
    /// Nothing known.
    pub fn new() -> Self {
        Self {
            keys: (0..KEY_COUNT).map(|_| None).collect(),
            subaccounts: (0..SUBACCOUNT_COUNT).map(|_| None).collect(),
        }
    }

    /// Verifies a request: a 05 mailbox needs the Ed25519 key whose X25519 form it is, any other
    /// mailbox is the key itself and must come without one. A subaccount must be good for the mailbox,
    /// give all of `rights` ([`SubaccountToken::READ`] and so on) and be signed by the owner; the
    /// request is then signed by the key in its token. Whether it is revoked is not known here.
    pub fn verify(
        &mut self,
        mailbox: &Mailbox,
        proof: &Proof,
        rights: u8,
        text: impl AsRef<[u8]>,
    ) -> Result<(), BadSignature> {
        let owner = match (mailbox.prefix, proof.ed25519) {
            (Mailbox::ACCOUNT, Some(key)) => {
                if self.key(&key)?.to_x25519().map(|key| key.0) != Some(mailbox.key) {
                    return Err(BadSignature);
                }
                key
            }
            (Mailbox::ACCOUNT, None) | (_, Some(_)) => return Err(BadSignature),
            (_, None) => Ed25519PublicKey(mailbox.key),
        };
        let signer = match &proof.subaccount {
            None => owner,
            Some(subaccount) => {
                self.check_subaccount(mailbox, owner, subaccount, rights)?;
                subaccount.token.key()
            }
        };
        self.key(&signer)?.verify(text.as_ref(), &proof.signature)
    }

    /// Verifies a request that only the owner may make.
    pub fn verify_owner(
        &mut self,
        mailbox: &Mailbox,
        proof: &Proof,
        text: impl AsRef<[u8]>,
    ) -> Result<(), BadSignature> {
        if proof.subaccount.is_some() {
            return Err(BadSignature);
        }
        self.verify(mailbox, proof, 0, text)
    }

    /// The account of an Ed25519 key: its X25519 form with the prefix 05. `None` when it has none.
    pub fn account_of(&mut self, key: &Ed25519PublicKey) -> Option<Mailbox> {
        let key = self.key(key).ok()?.to_x25519()?;
        Some(Mailbox {
            prefix: Mailbox::ACCOUNT,
            key: key.0,
        })
    }

    fn check_subaccount(
        &mut self,
        mailbox: &Mailbox,
        owner: Ed25519PublicKey,
        subaccount: &Subaccount,
        rights: u8,
    ) -> Result<(), BadSignature> {
        let token = &subaccount.token;
        if !token.allows_prefix(mailbox.prefix) || !token.allows(rights) {
            return Err(BadSignature);
        }
        let known = KnownSubaccount {
            owner,
            subaccount: *subaccount,
        };
        let at = place(&token.key(), SUBACCOUNT_COUNT);
        if self.subaccounts.get(at).and_then(Option::as_ref) == Some(&known) {
            return Ok(());
        }
        let SubaccountToken(bytes) = token;
        self.key(&owner)?.verify(bytes, &subaccount.signature)?;
        if let Some(slot) = self.subaccounts.get_mut(at) {
            *slot = Some(known);
        }
        Ok(())
    }

    /// What is known of a key; worked out if nothing is.
    fn key(&mut self, key: &Ed25519PublicKey) -> Result<&VerifyingKey, BadSignature> {
        let slot = self
            .keys
            .get_mut(place(key, KEY_COUNT))
            .ok_or(BadSignature)?;
        if slot.as_ref().is_none_or(|known| known.bytes() != key) {
            *slot = Some(VerifyingKey::new(key)?);
        }
        slot.as_ref().ok_or(BadSignature)
    }
}

/// The place of a key in a table. The bytes of an honest key are spread evenly.
fn place(key: &Ed25519PublicKey, count: usize) -> usize {
    let [a, b, c, d, ..] = key.0;
    usize::try_from(u32::from_le_bytes([a, b, c, d])).map_or(0, |spread| spread % count)
}

#[cfg(test)]
mod tests {
    use cepa_wire::Signature;

    use super::*;
    use crate::Ed25519SecretKey;

    fn owner() -> Ed25519SecretKey {
        Ed25519SecretKey::from_seed([1; 32])
    }

    fn proof(ed25519: Option<Ed25519PublicKey>, signature: Signature) -> Proof {
        Proof {
            ed25519,
            signature,
            subaccount: None,
        }
    }

    #[test]
    fn the_key_is_given_for_accounts_and_only_for_them() {
        let secret = owner();
        let (ed25519, x25519) = (secret.public_key(), secret.to_x25519().public_key());
        let signature = secret.sign(b"text");
        let mut verifier = Verifier::new();
        let mut is_good = |prefix, key, ed25519| {
            let mailbox = Mailbox { prefix, key };
            verifier
                .verify(&mailbox, &proof(ed25519, signature), 0, "text")
                .is_ok()
        };
        for _ in 0..2 {
            assert!(is_good(Mailbox::ACCOUNT, x25519.0, Some(ed25519)));
            assert!(is_good(3, ed25519.0, None));
            // The signature is good in each of these; the key is not where it belongs.
            assert!(!is_good(Mailbox::ACCOUNT, ed25519.0, None));
            assert!(!is_good(Mailbox::ACCOUNT, ed25519.0, Some(ed25519)));
            assert!(!is_good(3, x25519.0, Some(ed25519)));
            assert!(!is_good(3, ed25519.0, Some(ed25519)));
        }
    }

    /// A token of `prefix` and `flags` for the key of `holder`, signed by `signer`.
    fn subaccount(
        prefix: u8,
        flags: u8,
        holder: &Ed25519SecretKey,
        signer: &Ed25519SecretKey,
    ) -> Subaccount {
        let mut token = [0; 36];
        token[..2].copy_from_slice(&[prefix, flags]);
        token[4..].copy_from_slice(&holder.public_key().0);
        Subaccount {
            token: SubaccountToken(token),
            signature: signer.sign(&token),
        }
    }

    #[test]
    fn a_subaccount_needs_prefix_rights_and_both_signatures() {
        const WRITE: u8 = SubaccountToken::WRITE;
        let (owner, holder) = (owner(), Ed25519SecretKey::from_seed([2; 32]));
        let group = Mailbox {
            prefix: 3,
            key: owner.public_key().0,
        };
        let mut verifier = Verifier::new();
        let mut is_good = |mut named: Subaccount, by: &Ed25519SecretKey, forged: bool| {
            if forged {
                named.signature.0[0] ^= 1;
            }
            let proof = Proof {
                subaccount: Some(named),
                ..proof(None, by.sign(b"text"))
            };
            verifier.verify(&group, &proof, WRITE, "text").is_ok()
        };
        for _ in 0..2 {
            // Also when a good one was remembered.
            assert!(is_good(
                subaccount(3, WRITE, &holder, &owner),
                &holder,
                false
            ));
            assert!(is_good(subaccount(3, 7, &holder, &owner), &holder, false));
            let any = WRITE | SubaccountToken::ANY_PREFIX;
            assert!(is_good(subaccount(5, any, &holder, &owner), &holder, false));
            let read = SubaccountToken::READ;
            assert!(!is_good(
                subaccount(5, WRITE, &holder, &owner),
                &holder,
                false
            ));
            assert!(!is_good(
                subaccount(3, read, &holder, &owner),
                &holder,
                false
            ));
            assert!(!is_good(
                subaccount(3, WRITE, &holder, &holder),
                &holder,
                false
            ));
            assert!(!is_good(
                subaccount(3, WRITE, &holder, &owner),
                &owner,
                false
            ));
            assert!(!is_good(
                subaccount(3, WRITE, &holder, &owner),
                &holder,
                true
            ));
        }
    }

    #[test]
    fn only_the_owner_is_the_owner() {
        let (owner, holder) = (owner(), Ed25519SecretKey::from_seed([2; 32]));
        let group = Mailbox {
            prefix: 3,
            key: owner.public_key().0,
        };
        let mut verifier = Verifier::new();
        let own = proof(None, owner.sign(b"text"));
        assert!(verifier.verify_owner(&group, &own, "text").is_ok());
        let other = Proof {
            subaccount: Some(subaccount(3, 7, &holder, &owner)),
            ..proof(None, holder.sign(b"text"))
        };
        assert!(verifier.verify(&group, &other, 7, "text").is_ok());
        assert!(verifier.verify_owner(&group, &other, "text").is_err());
    }

    #[test]
    fn a_full_table_forgets_and_errs_never() {
        let mut verifier = Verifier::new();
        for round in 0..2 {
            for number in 0..40_u8 {
                let secret = Ed25519SecretKey::from_seed([number; 32]);
                // All in one place.
                let key = secret.public_key();
                verifier.keys.swap(0, place(&key, KEY_COUNT));
                let mailbox = Mailbox {
                    prefix: 3,
                    key: key.0,
                };
                let good = proof(None, secret.sign(b"text"));
                assert!(
                    verifier.verify(&mailbox, &good, 0, "text").is_ok(),
                    "{number} in round {round}"
                );
                assert!(verifier.verify(&mailbox, &good, 0, "other").is_err());
            }
        }
    }
}

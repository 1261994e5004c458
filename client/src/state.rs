//! What a client keeps between two runs: its account and its cursors, in one directory.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use cepa_crypto::Account;
use zeroize::Zeroizing;

use crate::{ClientError, Cursors};

/// A directory with an account and what was read of its mailbox. Only its owner may read it.
#[derive(Clone, Debug)]
pub struct State {
    dir: PathBuf,
}

impl State {
    /// The state in `dir`; without one, in `$XDG_DATA_HOME/cepa` or `~/.local/share/cepa`.
    pub fn open(dir: Option<PathBuf>) -> Result<Self, ClientError> {
        let dir = dir.or_else(default_dir).ok_or_else(|| ClientError::File {
            path: PathBuf::from("~/.local/share/cepa"),
            reason: "neither XDG_DATA_HOME nor HOME is set; give --dir".to_owned(),
        })?;
        Ok(Self { dir })
    }

    /// Where it stands.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The account's file: its 13 words.
    pub fn account_path(&self) -> PathBuf {
        self.dir.join("account")
    }

    /// Whether there is an account.
    pub fn has_account(&self) -> Result<bool, ClientError> {
        let path = self.account_path();
        path.try_exists().map_err(|error| fault(&path, &error))
    }

    /// Reads the account.
    pub fn read_account(&self) -> Result<Account, ClientError> {
        let path = self.account_path();
        let words = match fs::read_to_string(&path) {
            Ok(words) => Zeroizing::new(words),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let reason = "there is no account; make one with `cepa account new`".to_owned();
                return Err(ClientError::File { path, reason });
            }
            Err(error) => return Err(fault(&path, &error)),
        };
        Account::from_mnemonic(&words).map_err(|error| fault(&path, &error))
    }

    /// Writes the account, whole or not at all.
    pub fn write_account(&self, account: &Account) -> Result<(), ClientError> {
        let mut contents = account.mnemonic();
        contents.push('\n');
        self.write(&self.account_path(), contents.as_bytes())
    }

    /// Reads the cursors; without a file there are none.
    pub fn read_cursors(&self) -> Result<Cursors, ClientError> {
        let path = self.cursors_path();
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| fault(&path, &error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Cursors::default()),
            Err(error) => Err(fault(&path, &error)),
        }
    }

    /// Writes the cursors.
    pub fn write_cursors(&self, cursors: &Cursors) -> Result<(), ClientError> {
        let path = self.cursors_path();
        let text = serde_json::to_vec_pretty(cursors).map_err(|error| fault(&path, &error))?;
        self.write(&path, &text)
    }

    fn cursors_path(&self) -> PathBuf {
        self.dir.join("cursors.json")
    }

    fn write(&self, path: &Path, contents: &[u8]) -> Result<(), ClientError> {
        let writing = || -> io::Result<()> {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.dir)?;
            let unfinished = path.with_extension("new");
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&unfinished)?;
            file.write_all(contents)?;
            file.sync_all()?;
            fs::rename(unfinished, path)
        };
        writing().map_err(|error| fault(path, &error))
    }
}

fn default_dir() -> Option<PathBuf> {
    let data = std::env::var_os("XDG_DATA_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    data.or_else(home).map(|dir| dir.join("cepa"))
}

fn fault(path: &Path, error: &dyn core::fmt::Display) -> ClientError {
    ClientError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use cepa_wire::{Ed25519PublicKey, Namespace};

    use super::*;

    #[test]
    fn an_account_is_kept_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(Some(dir.path().join("new/below"))).unwrap();
        assert!(!state.has_account().unwrap());
        let missing = state.read_account().err().unwrap().to_string();
        assert!(missing.contains("cepa account new"), "{missing}");
        let account = Account::from_entropy([5; 16]);
        state.write_account(&account).unwrap();
        assert_eq!(state.read_account().unwrap().id(), account.id());
        let mode = fs::metadata(state.account_path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn cursors_go_on_where_they_stood() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(Some(dir.path().to_owned())).unwrap();
        let mut cursors = state.read_cursors().unwrap();
        let node = Ed25519PublicKey([1; 32]);
        let mailbox = Account::from_entropy([5; 16]).id();
        assert_eq!(cursors.after(&node, &mailbox, Namespace::INBOX), None);
        cursors.advance(&node, &mailbox, Namespace::INBOX, "hash".into());
        state.write_cursors(&cursors).unwrap();
        let read = state.read_cursors().unwrap();
        assert_eq!(read.after(&node, &mailbox, Namespace::INBOX), Some("hash"));
        assert_eq!(
            read.after(&Ed25519PublicKey([2; 32]), &mailbox, Namespace::INBOX),
            None
        );
    }
}

//! The node's keys in its data directory, readable by their owner alone: `key_ed25519`, the seed that names
//! it, and `key_link`, the secrets of its links in the packet lane. Each is random, in hex.
//!
//! `key_link` is no part of the identity and made from nothing else: whoever gets one of the two files has
//! not the other, and without this one the node makes a new one and tells of it in its next descriptor.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use cepa_crypto::link::{KemSecretKey, LinkIdentity};
use cepa_crypto::{NodeKeys, X25519SecretKey};
use cepa_wire::packet::descriptor::KEM_KEY_SIZE;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// The identity's file.
const FILE_NAME: &str = "key_ed25519";
/// The links' file.
const LINK_FILE_NAME: &str = "key_link";
/// An X25519 key, and a seed of ML-KEM-768.
const LINK_SIZE: usize = 32 + 64;

/// Reads the key; makes one if there is none. Makes the directory too.
pub(crate) fn load_or_create(data_dir: &Path) -> Result<NodeKeys, Failure> {
    let seed = secret::<32>(data_dir, FILE_NAME, "key")?;
    Ok(NodeKeys::from_seed(*seed))
}

/// Reads the key; none if there is none. Makes nothing.
pub(crate) fn load(data_dir: &Path) -> Result<Option<NodeKeys>, Failure> {
    match data_dir.join(FILE_NAME).try_exists() {
        Ok(false) => Ok(None),
        _ => load_or_create(data_dir).map(Some),
    }
}

/// Reads the keys of links; makes some if there are none. The ML-KEM key that the descriptor tells of comes
/// beside them.
pub(crate) fn load_or_create_link(
    data_dir: &Path,
) -> Result<(LinkIdentity, Box<[u8; KEM_KEY_SIZE]>), Failure> {
    let secrets = secret::<LINK_SIZE>(data_dir, LINK_FILE_NAME, "link key")?;
    let (Some(link), Some(kem)) = (secrets.first_chunk::<32>(), secrets.last_chunk::<64>()) else {
        unreachable!("both are parts of the whole");
    };
    let kem = KemSecretKey::from_seed(*kem);
    let kem_key = Box::new(*kem.public_key());
    let identity = LinkIdentity::relay(X25519SecretKey::from_bytes(*link), kem);
    Ok((identity, kem_key))
}

/// So many random bytes that are kept in a file.
fn secret<const SIZE: usize>(
    data_dir: &Path,
    name: &str,
    what: &str,
) -> Result<Zeroizing<[u8; SIZE]>, Failure> {
    let file = data_dir.join(name);
    let failed = |fault: io::Error| {
        let file = file.display();
        Failure::new(format!("cannot use the node's {what} {file}: {fault}"))
    };
    let text = match read(&file, SIZE) {
        Err(fault) if fault.kind() == ErrorKind::NotFound => {
            create(data_dir, &file, SIZE).map_err(failed)?;
            read(&file, SIZE)
        }
        outcome => outcome,
    }
    .map_err(failed)?;
    let mut secret = Zeroizing::new([0; SIZE]);
    hex::decode_to_slice(text.trim_ascii_end(), secret.as_mut_slice()).map_err(|_| {
        let (file, digits) = (file.display(), 2 * SIZE);
        Failure::new(format!(
            "the node's {what} {file} must be {digits} hex digits"
        ))
    })?;
    Ok(secret)
}

fn read(file: &Path, size: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let opened = File::open(file)?;
    let mode = opened.metadata()?.mode();
    if mode & 0o077 != 0 {
        return Err(io::Error::other(format!(
            "others may read it (mode {:o}); say chmod 600, and think about who has read it",
            mode & 0o777
        )));
    }
    // The digits, and what may end a line. Room for one byte more, so that nothing is copied.
    let size_max = 2 * size + 2;
    let mut text = Zeroizing::new(Vec::with_capacity(2 * size_max));
    let bound = u64::try_from(size_max + 1).unwrap_or(u64::MAX);
    opened.take(bound).read_to_end(&mut text)?;
    Ok(text)
}

/// A new secret, whole or not at all: it is written beside its place, synced, and linked there. If
/// another process was faster, its secret stays.
fn create(data_dir: &Path, file: &Path, size: usize) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)?;
    let mut secret = Zeroizing::new(vec![0; size]);
    getrandom::fill(&mut secret).map_err(io::Error::other)?;
    let mut text = Zeroizing::new(vec![b'\n'; 2 * size + 1]);
    let digits = text.get_mut(..2 * size).unwrap_or_default();
    hex::encode_to_slice(&*secret, digits).map_err(io::Error::other)?;

    let mut partial = file.as_os_str().to_owned();
    partial.push(format!(".{}", std::process::id()));
    let partial = Path::new(&partial);
    let mut opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(partial)?;
    let linked = opened
        .write_all(&text)
        .and_then(|()| opened.sync_all())
        .and_then(|()| match fs::hard_link(partial, file) {
            Err(fault) if fault.kind() == ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome,
        });
    fs::remove_file(partial)?;
    linked?;
    File::open(data_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("deep/data");
        let made = load_or_create(&data_dir).unwrap();
        let read = load_or_create(&data_dir).unwrap();
        assert_eq!(made.ed25519().seed(), read.ed25519().seed());
        assert_ne!(made.ed25519().seed(), &[0; 32]);

        let file = data_dir.join(FILE_NAME);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&data_dir).unwrap().mode() & 0o777, 0o700);
        assert_eq!(
            fs::read_dir(&data_dir).unwrap().count(),
            1,
            "no partial file stays"
        );
        let other = load_or_create(&directory.path().join("other")).unwrap();
        assert_ne!(made.ed25519().seed(), other.ed25519().seed());
    }

    #[test]
    fn a_bad_key_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE_NAME);
        let good = "07".repeat(32);
        let table = [
            (good.clone(), 0o644, "others may read it (mode 644)"),
            ("07".repeat(31), 0o600, "must be 64 hex digits"),
            (format!("{good}07"), 0o600, "must be 64 hex digits"),
            (good.replace('7', "g"), 0o600, "must be 64 hex digits"),
            (String::new(), 0o600, "must be 64 hex digits"),
        ];
        for (text, mode, expected) in table {
            fs::write(&file, &text).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let failure = load_or_create(directory.path())
                .map(|_| ())
                .unwrap_err()
                .to_string();
            assert!(failure.contains(expected), "{failure}");
            assert!(
                text.is_empty() || !failure.contains(&text),
                "the key is not shown"
            );
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        fs::write(&file, format!("{good}\n")).unwrap();
        let keys = load_or_create(directory.path()).unwrap();
        assert_eq!(keys.ed25519().seed(), &[7; 32]);
    }

    #[test]
    fn link_keys_are_kept_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let (made, made_kem) = load_or_create_link(directory.path()).unwrap();
        let (read, read_kem) = load_or_create_link(directory.path()).unwrap();
        assert_eq!(made.public_key(), read.public_key());
        assert_eq!(made_kem, read_kem);
        let file = directory.path().join(LINK_FILE_NAME);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        fs::write(&file, "07".repeat(32)).unwrap();
        let failure = load_or_create_link(directory.path())
            .map(|_| ())
            .unwrap_err();
        assert!(
            failure.to_string().contains("must be 192 hex digits"),
            "{failure}"
        );
    }
}

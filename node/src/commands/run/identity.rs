//! The node's secrets: files of its data directory, in hex, readable by their owner alone. `key_ed25519` is the
//! seed that names the node; `key_link` are the X25519 key and the ML-KEM seed of its links in the packet
//! lane, which has its own so that whoever holds the node's key for it (the chain daemon) does not read what
//! links carried.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use cepa_crypto::NodeKeys;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// The file of the node's key.
const NODE_KEY: &str = "key_ed25519";
/// The file of the keys of links.
const LINK_KEYS: &str = "key_link";

/// Reads the node's key; makes one if there is none. Makes the directory too.
pub(crate) fn load_or_create(data_dir: &Path) -> Result<NodeKeys, Failure> {
    let seed = load_or_create_secret::<32>(data_dir, NODE_KEY)?;
    Ok(NodeKeys::from_seed(*seed))
}

/// Reads the keys of links, as [`load_or_create`].
pub(super) fn load_or_create_link(data_dir: &Path) -> Result<LinkKeys, Failure> {
    let secret = load_or_create_secret::<96>(data_dir, LINK_KEYS)?;
    let (x25519, kem) = secret.split_at(32);
    let mut keys = LinkKeys {
        x25519: Zeroizing::new([0; 32]),
        kem: Zeroizing::new([0; 64]),
    };
    keys.x25519.copy_from_slice(x25519);
    keys.kem.copy_from_slice(kem);
    Ok(keys)
}

/// The keys of a node's links.
pub(super) struct LinkKeys {
    /// Static X25519 secret.
    pub(super) x25519: Zeroizing<[u8; 32]>,
    /// Seed of ML-KEM-768.
    pub(super) kem: Zeroizing<[u8; 64]>,
}

fn load_or_create_secret<const SIZE: usize>(
    data_dir: &Path,
    name: &str,
) -> Result<Zeroizing<[u8; SIZE]>, Failure> {
    let file = data_dir.join(name);
    let failed = |fault: io::Error| {
        Failure::new(format!(
            "cannot use the node's key {}: {fault}",
            file.display()
        ))
    };
    let text = match read(&file, 2 * SIZE) {
        Err(fault) if fault.kind() == ErrorKind::NotFound => {
            create::<SIZE>(data_dir, &file).map_err(failed)?;
            read(&file, 2 * SIZE)
        }
        outcome => outcome,
    }
    .map_err(failed)?;
    let mut secret = Zeroizing::new([0; SIZE]);
    hex::decode_to_slice(text.trim_ascii_end(), secret.as_mut_slice()).map_err(|_| {
        Failure::new(format!(
            "the node's key {} must be {} hex digits",
            file.display(),
            2 * SIZE
        ))
    })?;
    Ok(secret)
}

fn read(file: &Path, digit_count: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let opened = File::open(file)?;
    let mode = opened.metadata()?.mode();
    if mode & 0o077 != 0 {
        return Err(io::Error::other(format!(
            "others may read it (mode {:o}); say chmod 600, and think about who has read it",
            mode & 0o777
        )));
    }
    // What may end a line, and one more to see that it is too long.
    let size_max = digit_count + 3;
    let mut text = Zeroizing::new(Vec::with_capacity(size_max));
    let size_max = u64::try_from(size_max).unwrap_or(u64::MAX);
    opened.take(size_max).read_to_end(&mut text)?;
    Ok(text)
}

/// A new secret, whole or not at all: it is written beside its place, synced, and linked there. If
/// another process was faster, its secret stays.
fn create<const SIZE: usize>(data_dir: &Path, file: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)?;
    let mut secret = Zeroizing::new([0; SIZE]);
    getrandom::fill(secret.as_mut_slice()).map_err(io::Error::other)?;
    // Room for the end of the line, so that nothing is copied to another place.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * SIZE + 1));
    text.resize(2 * SIZE, 0);
    hex::encode_to_slice(secret.as_slice(), &mut text).map_err(io::Error::other)?;
    text.push(b'\n');

    let partial = file.with_added_extension(std::process::id().to_string());
    let mut opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)?;
    let linked = opened
        .write_all(text.as_slice())
        .and_then(|()| opened.sync_all())
        .and_then(|()| match fs::hard_link(&partial, file) {
            Err(fault) if fault.kind() == ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome,
        });
    fs::remove_file(&partial)?;
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

        let file = data_dir.join(NODE_KEY);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&data_dir).unwrap().mode() & 0o777, 0o700);
        assert_eq!(
            fs::read_dir(&data_dir).unwrap().count(),
            1,
            "no partial file stays"
        );
        let links = load_or_create_link(&data_dir).unwrap();
        let again = load_or_create_link(&data_dir).unwrap();
        assert_eq!((&links.x25519, &links.kem), (&again.x25519, &again.kem));
        assert_ne!(&*links.x25519, &links.kem[..32]);
        let file = data_dir.join(LINK_KEYS);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let other = load_or_create(&directory.path().join("other")).unwrap();
        assert_ne!(made.ed25519().seed(), other.ed25519().seed());
    }

    #[test]
    fn a_bad_key_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(NODE_KEY);
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
}

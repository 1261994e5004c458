//! The node's key: `key_ed25519` in its data directory, the seed in hex, readable by its owner alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use cepa_crypto::NodeKeys;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// The file's name.
const FILE_NAME: &str = "key_ed25519";
/// 64 hex digits and what may end a line.
const FILE_SIZE_MAX: u64 = 66;

/// Reads the key; makes one if there is none. Makes the directory too.
pub(crate) fn load_or_create(data_dir: &Path) -> Result<NodeKeys, Failure> {
    let file = data_dir.join(FILE_NAME);
    let failed = |fault: io::Error| {
        Failure::new(format!(
            "cannot use the node's key {}: {fault}",
            file.display()
        ))
    };
    let text = match read(&file) {
        Err(fault) if fault.kind() == ErrorKind::NotFound => {
            create(data_dir, &file).map_err(failed)?;
            read(&file)
        }
        outcome => outcome,
    }
    .map_err(failed)?;
    let mut seed = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_ascii_end(), seed.as_mut_slice()).map_err(|_| {
        Failure::new(format!(
            "the node's key {} must be 64 hex digits",
            file.display()
        ))
    })?;
    Ok(NodeKeys::from_seed(*seed))
}

fn read(file: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let opened = File::open(file)?;
    let mode = opened.metadata()?.mode();
    if mode & 0o077 != 0 {
        return Err(io::Error::other(format!(
            "others may read it (mode {:o}); say chmod 600, and think about who has read it",
            mode & 0o777
        )));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(128));
    opened.take(FILE_SIZE_MAX + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// A new key, whole or not at all: it is written beside its place, synced, and linked there. If
/// another process was faster, its key stays.
fn create(data_dir: &Path, file: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)?;
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(io::Error::other)?;
    let mut text = Zeroizing::new([b'\n'; 65]);
    let digits = text
        .first_chunk_mut::<64>()
        .map_or(&mut [][..], |digits| digits);
    hex::encode_to_slice(seed.as_slice(), digits).map_err(io::Error::other)?;

    let partial = data_dir.join(format!("{FILE_NAME}.{}", std::process::id()));
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
}

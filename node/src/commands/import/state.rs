//! How far an import is: a file beside the logs, for as long as it is not done.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::source::Source;
use crate::failure::Failure;

/// The file's name in the data directory.
const FILE_NAME: &str = "import_state";

/// How far an import is.
#[derive(Debug)]
pub(super) struct Progress {
    file: PathBuf,
    identity: String,
    /// Every row up to this one is in the log, or is not to be. Zero at the beginning.
    pub(super) row: i64,
}

impl Progress {
    /// Where an import of this database into this directory was left. One of another database, or of
    /// this one when it was another, begins anew: what is there already is not written again.
    pub(super) fn open(data_dir: &Path, source: &Source) -> Result<Self, Failure> {
        Self::read(data_dir.join(FILE_NAME), source.identity()?)
    }

    fn read(file: PathBuf, identity: String) -> Result<Self, Failure> {
        let row = match fs::read_to_string(&file) {
            Ok(text) => row_of(&text, &identity).unwrap_or(0),
            Err(fault) if fault.kind() == ErrorKind::NotFound => 0,
            Err(fault) => return Err(failure(&file, &fault)),
        };
        Ok(Self {
            file,
            identity,
            row,
        })
    }

    /// Every row up to this one is durably in the log.
    pub(super) fn advance(&mut self, row: i64) -> Result<(), Failure> {
        self.row = row;
        self.write().map_err(|fault| failure(&self.file, &fault))
    }

    fn write(&self) -> io::Result<()> {
        let unfinished = self.file.with_extension("new");
        let mut opened = File::create(&unfinished)?;
        writeln!(opened, "{}\n{}", self.row, self.identity)?;
        opened.sync_all()?;
        fs::rename(&unfinished, &self.file)
    }

    /// All is done: another import begins at the beginning.
    pub(super) fn finish(self) -> Result<(), Failure> {
        match fs::remove_file(&self.file) {
            Err(fault) if fault.kind() != ErrorKind::NotFound => Err(failure(&self.file, &fault)),
            _ => Ok(()),
        }
    }
}

fn row_of(text: &str, identity: &str) -> Option<i64> {
    let (row, of) = text.split_once('\n')?;
    let row = row.parse().ok().filter(|row| *row > 0)?;
    (of.trim_end() == identity).then_some(row)
}

fn failure(file: &Path, fault: &io::Error) -> Failure {
    let file = file.display();
    Failure::new(format!(
        "cannot use {file}, where the import keeps how far it is: {fault}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_goes_on_and_one_of_another_database_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let open = |identity: &str| {
            let file = directory.path().join(FILE_NAME);
            Progress::read(file, identity.to_owned()).unwrap()
        };
        let mut progress = open("a 1");
        assert_eq!(progress.row, 0);
        progress.advance(7).unwrap();
        progress.advance(9).unwrap();
        assert_eq!(open("a 1").row, 9);
        assert_eq!(open("a 2").row, 0);
        open("a 1").finish().unwrap();
        assert_eq!(open("a 1").row, 0);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        for text in ["", "7", "x\na", "-1\na", "7\nb"] {
            fs::write(directory.path().join(FILE_NAME), text).unwrap();
            assert_eq!(open("a").row, 0, "{text}");
        }
    }
}

//! The targets, as fuzz/Cargo.toml names them, with their dictionaries.

use std::fs;

use toml::Table;

use crate::fault::{Fault, Outcome};
use crate::machine;

/// A fuzz target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Of the binary, and of the directories with its seeds and what is found.
    pub(super) name: String,
    /// The name of the file in fuzz/dictionaries, without its ending.
    pub(super) dictionary: String,
}

/// All of them, by name.
pub(super) fn load() -> Outcome<Vec<Target>> {
    let fuzz = machine::root().join("fuzz");
    let manifest = machine::read(&fuzz.join("Cargo.toml"))?;
    let dictionaries = machine::read(&fuzz.join("dictionaries/targets.toml"))?;
    let targets = parse(&manifest, &dictionaries)?;
    for target in &targets {
        let seeds = fuzz.join("seeds").join(&target.name);
        let count = fs::read_dir(&seeds).map_or(0, Iterator::count);
        if count == 0 {
            return Err(Fault::of(&seeds, "every target needs a seed"));
        }
    }
    Ok(targets)
}

fn parse(manifest: &str, dictionaries: &str) -> Outcome<Vec<Target>> {
    let table = |text: &str| {
        text.parse::<Table>()
            .map_err(|error| Fault(error.to_string()))
    };
    let manifest = table(manifest)?;
    let dictionaries = table(dictionaries)?;
    let bins = manifest.get("bin").and_then(|bins| bins.as_array());
    let names = bins
        .into_iter()
        .flatten()
        .filter_map(|bin| bin.get("name")?.as_str());
    let mut targets = names
        .map(|name| {
            let dictionary = dictionaries.get(name).and_then(|value| value.as_str());
            let dictionary = dictionary.ok_or_else(|| {
                Fault(format!(
                    "fuzz/dictionaries/targets.toml has no dictionary for {name}"
                ))
            })?;
            Ok(Target {
                name: name.to_owned(),
                dictionary: dictionary.to_owned(),
            })
        })
        .collect::<Outcome<Vec<_>>>()?;
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_with_their_dictionaries() {
        let manifest = "[[bin]]\nname = \"omq\"\n[[bin]]\nname = \"bt\"\n";
        let targets = parse(manifest, "bt = \"bt\"\nomq = \"zmtp\"").unwrap();
        let pairs: Vec<_> = targets
            .iter()
            .map(|target| (target.name.as_str(), target.dictionary.as_str()))
            .collect();
        assert_eq!(pairs, [("bt", "bt"), ("omq", "zmtp")]);
        let fault = parse(manifest, "bt = \"bt\"").unwrap_err();
        assert!(fault.to_string().contains("no dictionary for omq"));
    }

    #[test]
    fn the_projects_targets_are_whole() {
        assert!(load().unwrap().len() >= 36);
    }
}

//! `cepa man`: a manual page for each command, from what `--help` says.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::failure::Failure;

const EXAMPLES: &str = "\
With --dir, writes cepa.1 and a page for each command, such as cepa-run.1, into the directory, which is
made if it is not there. Without, prints the page of cepa itself.

Examples:
  cepa man --dir /usr/local/share/man/man1   then: man cepa-run
  cepa man | man --local-file -              look at the first page";

#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ManArguments {
    /// Write all pages into this directory
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
}

/// Exit codes of every command, and of those that have more to say.
const EXIT_CODES: [(&str, &str); 3] = [
    ("0", "All went well."),
    (
        "1",
        "It failed; the last line on standard error says why and, where one can, what to do.",
    ),
    (
        "2",
        "The command line is none; standard error says what was expected.",
    ),
];

/// Files that a command reads or writes: whose page, which file, what it is.
const FILES: [(&str, &str, &str); 10] = [
    (
        "cepa-run",
        "/etc/cepa/cepa.toml",
        "The config by convention: cepa run --config.",
    ),
    (
        "cepa-run",
        "data_dir/key_ed25519",
        "The node's key, made at the first start without oxend. Back it up.",
    ),
    ("cepa-run", "data_dir/log-*", "The message log."),
    (
        "cepa-run",
        "data_dir/storage-server.conf",
        "Options of the C++ server, read without --config.",
    ),
    (
        "cepa-check-config",
        "/etc/cepa/cepa.toml",
        "The config by convention.",
    ),
    (
        "cepa-check-config",
        "data_dir/storage-server.conf",
        "Options of the C++ server, read without --config.",
    ),
    (
        "cepa-import",
        "storage.db",
        "Messages of a C++ server; only read.",
    ),
    (
        "cepa-devnet",
        "DIR/node-*",
        "A directory for each node of the network.",
    ),
    (
        "cepa",
        "/etc/cepa/cepa.toml",
        "The config of a node by convention; every key is explained in config/cepa.toml.",
    ),
    (
        "cepa",
        "/etc/systemd/system/cepa.service",
        "The service, from config/cepa.service.",
    ),
];

pub(super) fn run(arguments: &ManArguments) -> Result<(), Failure> {
    let pages = pages(crate::command());
    let Some(dir) = &arguments.dir else {
        let first = pages.first().map_or(&[][..], |page| &page.text);
        return io::stdout()
            .write_all(first)
            .map_err(|fault| Failure::new(format!("cannot print: {fault}")));
    };
    let refused = |fault: io::Error| {
        Failure::new(format!(
            "cannot write manual pages to {}: {fault}",
            dir.display()
        ))
    };
    fs::create_dir_all(dir).map_err(refused)?;
    for page in pages {
        fs::write(dir.join(format!("{}.1", page.name)), page.text).map_err(refused)?;
    }
    Ok(())
}

struct Page {
    name: String,
    text: Vec<u8>,
}

/// Every page, that of the whole first.
fn pages(mut command: Command) -> Vec<Page> {
    // Commands learn the global arguments and their full names.
    command.build();
    let mut pages = Vec::new();
    let mut waiting = vec![(command.get_name().to_owned(), command)];
    while let Some((name, command)) = waiting.pop() {
        let children = command.get_subcommands();
        let children = children.filter(|child| child.get_name() != "help" && !child.is_hide_set());
        let children: Vec<(String, Command)> = children
            .map(|child| (format!("{name}-{}", child.get_name()), child.clone()))
            .collect();
        let names: Vec<String> = children.iter().map(|(name, _)| name.clone()).collect();
        let text = page(&name, &command, &names);
        pages.push(Page { name, text });
        waiting.extend(children.into_iter().rev());
    }
    pages
}

/// One page, in the order of man-pages(7).
fn page(name: &str, command: &Command, children: &[String]) -> Vec<u8> {
    let told = command
        .get_after_long_help()
        .or_else(|| command.get_after_help());
    let told = told.map(ToString::to_string).unwrap_or_default();
    let (notes, examples) = told.split_once("Examples:\n").unwrap_or((&told, ""));
    let has_subcommands = !children.is_empty();
    // Titles of pages have dashes; so has what is bold in the synopsis, which the reader will know.
    let shown = command.clone().display_name(name.to_owned());
    let man = Man::new(shown).section("1").manual("Cepa");
    let mut text = Vec::new();
    let mut render = |part: &dyn Fn(&Man, &mut Vec<u8>) -> io::Result<()>| {
        // A vector takes all that is written.
        drop(part(&man, &mut text));
    };
    render(&|man, text| man.render_title(text));
    render(&|man, text| man.render_name_section(text));
    render(&|man, text| man.render_synopsis_section(text));
    render(&|man, text| man.render_description_section(text));
    render(&|_, text| prose(notes).to_writer(text));
    render(&|man, text| man.render_options_section(text));
    if has_subcommands {
        render(&|_, text| subcommands(command, name).to_writer(text));
    }
    render(&|_, text| table("EXIT STATUS", &EXIT_CODES).to_writer(text));
    let files = FILES.iter().filter(|(of, ..)| *of == name);
    let files: Vec<_> = files.map(|(_, file, what)| (*file, *what)).collect();
    render(&|_, text| table("FILES", &files).to_writer(text));
    render(&|_, text| example_section(examples).to_writer(text));
    render(&|_, text| see_also(name, children).to_writer(text));
    text
}

/// Paragraphs, in the section that has begun.
fn prose(text: &str) -> Roff {
    let mut roff = Roff::new();
    for paragraph in text.split("\n\n").filter(|text| !text.trim().is_empty()) {
        roff.control("PP", []);
        roff.text([roman(paragraph.trim())]);
    }
    roff
}

/// Lines that stay as they are; what follows them is prose again.
fn example_section(text: &str) -> Roff {
    let mut roff = Roff::new();
    let (lines, notes) = text.split_once("\n\n").unwrap_or((text, ""));
    if lines.trim().is_empty() {
        return roff;
    }
    roff.control("SH", ["EXAMPLES"]);
    roff.control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line.trim())]);
    }
    roff.control("fi", []);
    roff.extend([prose(notes)]);
    roff
}

fn subcommands(command: &Command, name: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for child in command
        .get_subcommands()
        .filter(|child| child.get_name() != "help")
    {
        if child.is_hide_set() {
            continue;
        }
        let about = child
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        roff.control("TP", []);
        roff.text([bold(format!("{name}-{}(1)", child.get_name()))]);
        roff.text([roman(about)]);
    }
    roff
}

fn table(title: &str, rows: &[(&str, &str)]) -> Roff {
    let mut roff = Roff::new();
    if rows.is_empty() {
        return roff;
    }
    roff.control("SH", [title]);
    for (term, what) in rows {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*what)]);
    }
    roff
}

fn see_also(name: &str, children: &[String]) -> Roff {
    let mut roff = Roff::new();
    let parent = (name != "cepa").then(|| "cepa".to_owned());
    let pages: Vec<_> = parent
        .iter()
        .chain(children)
        .map(|page| format!("{page}(1)"))
        .collect();
    if !pages.is_empty() {
        roff.control("SH", ["SEE ALSO"]);
        roff.text([roman(pages.join(", "))]);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_sections() {
        let pages = pages(crate::command());
        let names: Vec<_> = pages.iter().map(|page| page.name.as_str()).collect();
        assert_eq!(names.first(), Some(&"cepa"));
        for expected in [
            "cepa-run",
            "cepa-check-config",
            "cepa-man",
            "cepa-account-new",
        ] {
            assert!(names.contains(&expected), "{expected}: {names:?}");
        }
        for page in &pages {
            let text = str::from_utf8(&page.text).unwrap();
            let sections: Vec<_> = text
                .lines()
                .filter(|line| line.starts_with(".SH"))
                .collect();
            let has = |title: &str| {
                let wanted = [format!(".SH {title}"), format!(".SH \"{title}\"")];
                sections
                    .iter()
                    .any(|line| wanted.iter().any(|one| one == line))
            };
            for title in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS"] {
                assert!(has(title), "{}: {title} of {sections:?}", page.name);
            }
            assert!(text.contains(".TH"), "{}", page.name);
        }
        for (of, ..) in FILES {
            assert!(names.contains(&of), "{of}");
        }
    }
}

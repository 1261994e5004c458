//! fuzz/COVERAGE.md: what the seeds of each target reach, and what some fuzzing adds.

use core::fmt::Write as _;
use core::time::Duration;

use super::libfuzzer::Report;
use super::targets::Target;

const HEAD: &str = "# What the fuzz targets reach

Written by `cargo xtask fuzz --coverage`. An edge is a branch from one piece of straight code to the next.
Edges are counted in everything a target is linked with, libraries included, most of which it never calls:
compare a target with itself over time, not with another. Features count an edge anew for how often it is
taken and for what is compared on it. *seeds* is what the seeds kept in git reach by themselves; *after* is what
was reached with the local corpus";

/// The table.
pub(super) fn table(
    targets: &[Target],
    seeds: &[Report],
    reports: &[Report],
    time: Duration,
) -> String {
    let mut text = format!("{HEAD} after {} more seconds for each.\n\n", time.as_secs());
    text.push_str("| target | dictionary | seeds | edges, seeds | edges, after | of all | ");
    text.push_str("features, after | inputs/s |\n");
    text.push_str("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    for ((target, seeds), report) in targets.iter().zip(seeds).zip(reports) {
        let row = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            target.name,
            target.dictionary,
            seeds.seed_count,
            seeds.edges,
            report.edges,
            report.edges_all,
            report.features,
            report.speed
        );
        debug_assert!(row.is_ok(), "a string takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_row() {
        let target = Target {
            name: "bt".to_owned(),
            dictionary: "bt".to_owned(),
        };
        let of = |edges| Report {
            edges,
            seed_count: 3,
            ..Report::default()
        };
        let text = table(&[target], &[of(10)], &[of(12)], Duration::from_secs(5));
        assert!(text.contains("after 5 more seconds"));
        assert!(text.ends_with("| bt | bt | 3 | 10 | 12 | 0 | 0 | 0 |\n"));
    }
}

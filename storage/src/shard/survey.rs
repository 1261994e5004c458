//! Surveys: mailboxes and messages of territories are counted, a slice at a time.

use std::collections::VecDeque;

use super::Shard;
use crate::command::SurveyCount;
use crate::territory::Territory;
use crate::{Disk, Outcome, Ticket};

/// How often a mailbox is compared with a territory in a slice: some 200 us.
const SLICE_COUNT: usize = 2048;

/// A survey that waits or is under way.
pub(super) struct Survey {
    ticket: Ticket,
    territories: Vec<Territory>,
    next: u32,
    counts: Vec<SurveyCount>,
}

impl Survey {
    pub(super) fn new(ticket: Ticket, territories: Vec<Territory>) -> Self {
        Self {
            ticket,
            next: 0,
            counts: vec![SurveyCount::default(); territories.len()],
            territories,
        }
    }

    pub(super) const fn ticket(&self) -> Ticket {
        self.ticket
    }
}

pub(super) type Surveys = VecDeque<Survey>;

impl<D: Disk> Shard<D> {
    /// A slice of the first survey.
    pub(super) fn survey(&mut self) {
        let Some(mut survey) = self.surveys.pop_front() else {
            return;
        };
        let index = &self.catalog.index;
        let end = u32::try_from(index.mailbox_cell_count()).unwrap_or(u32::MAX);
        let slice_count = SLICE_COUNT / survey.territories.len().max(1) + 1;
        let slice_count = u32::try_from(slice_count).unwrap_or(u32::MAX);
        let slice_end = survey.next.saturating_add(slice_count).min(end);
        for number in survey.next..slice_end {
            let Some((mailbox, tally)) = index.mailbox_at(number) else {
                continue;
            };
            let counts = survey.territories.iter().zip(&mut survey.counts);
            for (_, count) in counts.filter(|(territory, _)| territory.contains(&mailbox)) {
                count.mailbox_count += 1;
                count.message_count += u64::from(tally.message_count);
                count.size += tally.size;
            }
        }
        survey.next = slice_end;
        if slice_end < end {
            self.surveys.push_front(survey);
        } else {
            self.answer(survey.ticket, Outcome::Surveyed(survey.counts));
        }
    }
}

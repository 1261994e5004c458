use core::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn prefix(number: u8) -> Prefix {
    Prefix::of(Ipv4Addr::new(192, 0, 2, number).into())
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Takes a connection in if there is room; tells who went.
fn open(table: &mut Table<u64>, of: u8, now: u64) -> Result<(Id, Option<u64>), ()> {
    let gone = table.make_room(prefix(of))?;
    Ok((table.insert(prefix(of), false, at(now), now), gone))
}

#[test]
fn beyond_the_bound_the_longest_idle_goes() {
    let mut table = Table::new(3, 10);
    let ids: Vec<Id> = (0..3)
        .map(|now| open(&mut table, 1, now).unwrap().0)
        .collect();
    table.enter(ids[0], Phase::Serving, at(10));
    table.enter(ids[1], Phase::Idle, at(11));
    assert_eq!(
        open(&mut table, 2, 12).unwrap().1,
        Some(2),
        "a handshake is idle"
    );
    assert_eq!(open(&mut table, 2, 13).unwrap().1, Some(1));
    assert_eq!(
        open(&mut table, 2, 14).unwrap().1,
        Some(12),
        "who is served stays"
    );
    table.enter(ids[0], Phase::Taking, at(15));
    assert_eq!(
        open(&mut table, 2, 16).unwrap().1,
        Some(13),
        "as does who takes an answer"
    );
    assert_eq!(table.remove(ids[1]), None, "it has gone");
    assert_eq!(table.remove(ids[0]), Some(0));
    assert_eq!(table.count(), 2);
}

#[test]
fn nobody_is_taken_in_while_all_are_served() {
    let mut table = Table::new(2, 1);
    for of in 1..3 {
        let (id, _) = open(&mut table, of, 0).unwrap();
        table.enter(id, Phase::Serving, at(1));
    }
    assert_eq!(open(&mut table, 3, 2), Err(()));
    assert_eq!(
        open(&mut table, 1, 2),
        Err(()),
        "nor beyond the bound of a prefix"
    );
}

#[test]
fn bodies_go_before_peers_and_after_who_is_idle() {
    let mut table = Table::new(3, 10);
    let ids: Vec<Id> = (0..3)
        .map(|now| open(&mut table, 1, now).unwrap().0)
        .collect();
    table.enter(ids[0], Phase::Idle, at(3));
    table.promote(ids[0]);
    table.enter(ids[1], Phase::Body, at(4));
    table.enter(ids[2], Phase::Head, at(5));
    let mut gone = Vec::new();
    for now in 6..9 {
        let (id, went) = open(&mut table, 1, now).unwrap();
        table.enter(id, Phase::Serving, at(now));
        gone.extend(went);
    }
    assert_eq!(gone, [2, 1, 0]);
}

#[test]
fn a_prefix_beyond_its_bound_pushes_out_its_own() {
    let mut table = Table::new(10, 2);
    let (other, _) = open(&mut table, 9, 0).unwrap();
    for now in 1..3 {
        assert_eq!(open(&mut table, 1, now).unwrap().1, None);
    }
    for now in 3..100 {
        assert_eq!(open(&mut table, 1, now).unwrap().1, Some(now - 2));
    }
    assert_eq!(table.remove(other), Some(0));
}

#[test]
fn deadlines_are_those_of_the_phase() {
    let mut timeouts: Timeouts = [None; PHASE_COUNT];
    timeouts[Phase::Handshake as usize] = Some(Duration::from_millis(10));
    timeouts[Phase::Head as usize] = Some(Duration::from_millis(5));
    let mut table = Table::new(10, 10);
    let ids: Vec<Id> = (0..4)
        .map(|now| open(&mut table, 1, now).unwrap().0)
        .collect();
    table.enter(ids[3], Phase::Head, at(4));
    table.enter(ids[2], Phase::Idle, at(5));
    assert_eq!(table.poll_expired(&timeouts, at(8)), None);
    assert_eq!(table.poll_expired(&timeouts, at(9)), Some(3));
    assert_eq!(table.poll_expired(&timeouts, at(10)), Some(0));
    assert_eq!(table.poll_expired(&timeouts, at(10)), None);
    assert_eq!(table.poll_expired(&timeouts, at(1000)), Some(1));
    assert_eq!(
        table.poll_expired(&timeouts, at(1000)),
        None,
        "one may be idle for ever"
    );
    assert_eq!(table.count(), 1);
}

/// The same without lists: every question is a search through all.
#[derive(Default)]
struct Model(Vec<(u64, u8, bool, Phase, u64)>);

impl Model {
    fn make_room(
        &mut self,
        of: u8,
        count_max: usize,
        per_prefix: usize,
    ) -> Result<Option<u64>, ()> {
        let own = self.0.iter().filter(|row| row.1 == of).count();
        if own < per_prefix && self.0.len() < count_max {
            return Ok(None);
        }
        let is_own = own >= per_prefix;
        let rank = |row: &(u64, u8, bool, Phase, u64)| match (row.2, row.3) {
            (_, Phase::Serving | Phase::Taking) | (true, Phase::Body) => None,
            (false, Phase::Body) => Some(1),
            (is_peer, _) => Some(if is_peer { 2 } else { 0 }),
        };
        let goes = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, row)| !is_own || row.1 == of)
            .filter_map(|(at, row)| Some((rank(row)?, row.4, at)))
            .min()
            .ok_or(())?;
        Ok(Some(self.0.remove(goes.2).0))
    }
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Open(u8),
    Enter(prop::sample::Index, Phase),
    Promote(prop::sample::Index),
    End(prop::sample::Index),
}

fn happening() -> impl Strategy<Value = Happening> {
    let index = any::<prop::sample::Index>;
    let phase = prop::sample::select(vec![
        Phase::Handshake,
        Phase::Idle,
        Phase::Head,
        Phase::Body,
        Phase::Serving,
        Phase::Taking,
    ]);
    prop_oneof![
        4 => (0_u8..6).prop_map(Happening::Open),
        6 => (index(), phase).prop_map(|(at, phase)| Happening::Enter(at, phase)),
        1 => index().prop_map(Happening::Promote),
        1 => index().prop_map(Happening::End),
    ]
}

proptest! {
    #[test]
    fn who_goes_is_who_a_search_through_all_finds(
        count_max in 1_usize..12,
        per_prefix in 1_usize..6,
        happenings in prop::collection::vec(happening(), 1..300),
    ) {
        let (mut table, mut model) = (Table::new(count_max, per_prefix), Model::default());
        let mut ids: Vec<Id> = Vec::new();
        for (now, happening) in (0_u64..).zip(happenings) {
            let find = |index: prop::sample::Index, model: &Model| {
                (!model.0.is_empty()).then(|| index.index(model.0.len()))
            };
            match happening {
                Happening::Open(of) => {
                    let gone = table.make_room(prefix(of));
                    prop_assert_eq!(gone, model.make_room(of, count_max, per_prefix));
                    if gone.is_ok() {
                        let number = u64::try_from(ids.len()).unwrap();
                        ids.push(table.insert(prefix(of), false, at(now), number));
                        model.0.push((number, of, false, Phase::Handshake, now));
                    }
                }
                Happening::Enter(index, phase) => if let Some(row) = find(index, &model) {
                    let row = &mut model.0[row];
                    (row.3, row.4) = (phase, now);
                    table.enter(ids[usize::try_from(row.0).unwrap()], phase, at(now));
                },
                Happening::Promote(index) => if let Some(row) = find(index, &model) {
                    // Is learnt when the handshake ends, with which it enters a phase.
                    let row = &mut model.0[row];
                    (row.2, row.3, row.4) = (true, Phase::Idle, now);
                    let id = ids[usize::try_from(row.0).unwrap()];
                    table.promote(id);
                    table.enter(id, Phase::Idle, at(now));
                },
                Happening::End(index) => if let Some(row) = find(index, &model) {
                    let (number, ..) = model.0.remove(row);
                    prop_assert_eq!(table.remove(ids[usize::try_from(number).unwrap()]), Some(number));
                },
            }
            prop_assert_eq!(table.count(), model.0.len());
            prop_assert!(table.count() <= count_max && table.slots.len() <= count_max);
            prop_assert!(table.shares.len() <= table.count());
        }
    }
}

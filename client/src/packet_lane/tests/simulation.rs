//! Worlds in which packets get lost, doubled, late and out of order.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use cepa_wire::Timestamp;
use cepa_wire::packet::{ClientId, PacketBytes, RelayId};

use super::super::{Ask, AskId, ExchangeError, ExchangeSettings, Guard, PacketExchange};
use super::relay::{Relay, Step};
use super::{NOW, Numbers, network};
use crate::packet_lane::ExchangeAnswer;

const CLIENT: ClientId = ClientId([0xc1; 16]);

/// How the network is.
#[derive(Clone, Copy, Debug)]
struct Weather {
    /// Packets in a hundred that get lost between client and node, and as many on the way back.
    lost: u64,
    /// Packets in a hundred that come twice.
    doubled: u64,
    /// A hop takes up to so many milliseconds.
    latency: u64,
}

enum Event {
    AtRelay(RelayId, Box<PacketBytes>),
    AtClient(Box<PacketBytes>),
}

struct World {
    relays: Vec<Relay>,
    exchange: PacketExchange,
    weather: Weather,
    numbers: Numbers,
    now: Timestamp,
    events: BTreeMap<(Timestamp, u64), Event>,
    step: u64,
    sent_count: u64,
    /// A relay that does not answer.
    dead: Option<RelayId>,
}

impl World {
    fn new(seed: u64, weather: Weather, settings: ExchangeSettings) -> Self {
        let (relays, _, directory) = network(&[1, 2, 3, 4, 5, 6]);
        let mut numbers = Numbers(seed);
        let directory = Arc::new(directory);
        let mut exchange = PacketExchange::new(settings, directory, NOW, &mut numbers.source());
        for relay in relays.iter().take(2) {
            exchange.add_guard(Guard {
                relay: relay.id,
                client: CLIENT,
            });
        }
        Self {
            relays,
            exchange,
            weather,
            numbers,
            now: NOW,
            events: BTreeMap::new(),
            step: 0,
            sent_count: 0,
            dead: None,
        }
    }

    fn ask(&mut self, relay: usize, method: &'static str, params: &[u8]) -> AskId {
        let ask = Ask {
            destination: self.relays[relay].id,
            method,
            params: params.to_vec(),
            block_count: 2,
        };
        self.try_ask(ask).unwrap()
    }

    fn try_ask(&mut self, ask: Ask) -> Result<AskId, ExchangeError> {
        let source = &mut self.numbers.source();
        self.exchange.ask(self.now, ask, source)
    }

    fn put(&mut self, after: Duration, event: Event) {
        let latency = Duration::from_millis(1 + self.numbers.below(self.weather.latency.max(1)));
        self.step += 1;
        let at = self.now.saturating_add(after + latency);
        self.events.insert((at, self.step), event);
    }

    /// Between client and guard: where packets get lost and doubled.
    fn cross(&mut self, after: Duration, event: impl Fn() -> Event) {
        if self.numbers.percent(self.weather.lost) {
            return;
        }
        self.put(after, event());
        if self.numbers.percent(self.weather.doubled) {
            self.put(after, event());
        }
    }

    fn send(&mut self) {
        while let Some(transmit) = {
            let source = &mut self.numbers.source();
            self.exchange.poll_transmit(self.now, source)
        } {
            self.sent_count += 1;
            let event = || Event::AtRelay(transmit.guard, transmit.packet.clone());
            self.cross(Duration::ZERO, event);
        }
    }

    /// Goes to the next thing that happens. False when nothing will.
    fn advance(&mut self, until: Timestamp) -> bool {
        self.send();
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        let timer = self.exchange.poll_timeout();
        let Some(next) = event.into_iter().chain(timer).min() else {
            return false;
        };
        if next > until {
            return false;
        }
        self.now = self.now.max(next);
        while let Some(entry) = self
            .events
            .first_entry()
            .filter(|it| it.key().0 <= self.now)
        {
            match entry.remove() {
                Event::AtClient(packet) => {
                    let source = &mut self.numbers.source();
                    self.exchange.handle_packet(self.now, &packet, source);
                }
                Event::AtRelay(id, packet) => self.at_relay(id, &packet),
            }
        }
        let source = &mut self.numbers.source();
        self.exchange.handle_timeout(self.now, source);
        true
    }

    fn at_relay(&mut self, id: RelayId, packet: &PacketBytes) {
        if self.dead == Some(id) {
            return;
        }
        let relay = self.relays.iter_mut().find(|relay| relay.id == id).unwrap();
        for step in relay.handle(self.now, packet) {
            match step {
                Step::Send(next, packet, delay) => self.put(delay, Event::AtRelay(next, packet)),
                Step::ToClient(client, packet, delay) => {
                    assert!(client == CLIENT && self.relays[..2].iter().any(|it| it.id == id));
                    self.cross(delay, || Event::AtClient(packet.clone()));
                }
            }
        }
    }

    /// Until a request has ended.
    fn finish(&mut self, id: AskId) -> Result<ExchangeAnswer, ExchangeError> {
        let far = self.now.saturating_add(Duration::from_hours(1));
        loop {
            if let Some((ended, outcome)) = self.exchange.poll_event() {
                assert_eq!(ended, id);
                return outcome;
            }
            assert!(self.advance(far), "it ends");
        }
    }
}

const FAIR: Weather = Weather {
    lost: 0,
    doubled: 0,
    latency: 20,
};

fn settings() -> ExchangeSettings {
    ExchangeSettings {
        // The keys are those of two minutes.
        timeout: Duration::from_secs(100),
        ..ExchangeSettings::default()
    }
}

#[test]
fn it_always_ends_and_arrives_when_less_than_half_is_lost() {
    for seed in 0..150 {
        let mut numbers = Numbers(seed);
        let weather = Weather {
            lost: numbers.below(48),
            doubled: numbers.below(40),
            latency: 1 + numbers.below(150),
        };
        let size = usize::try_from(numbers.below(2000)).unwrap();
        let params = vec![u8::try_from(seed % 251).unwrap(); size];
        let mut world = World::new(seed, weather, settings());
        let id = world.ask(3, "echo", &params);
        let outcome = world.finish(id);
        let answer = outcome.unwrap_or_else(|error| panic!("seed {seed} {weather:?}: {error}"));
        assert!(answer.body == params, "seed {seed} {weather:?}");
        assert_eq!(world.exchange.held_counts(), (0, 0), "seed {seed}");
        let runs = &world.relays[3].runs;
        assert!(
            runs.values().all(|count| *count == 1),
            "seed {seed}: run twice for one id"
        );
    }
}

#[test]
fn it_ends_in_any_weather() {
    for seed in 1000..1030 {
        let mut numbers = Numbers(seed);
        let weather = Weather {
            lost: 40 + numbers.below(61),
            doubled: numbers.below(100),
            latency: 1 + numbers.below(5000),
        };
        let settings = ExchangeSettings {
            timeout: Duration::from_secs(20),
            ..settings()
        };
        let mut world = World::new(seed, weather, settings);
        let id = world.ask(4, "size", b"3000");
        match world.finish(id) {
            Ok(answer) => assert_eq!(answer.body, [7; 3000], "seed {seed}"),
            Err(error) => {
                assert!(
                    matches!(error, ExchangeError::TimedOut { .. }),
                    "seed {seed}: {error}"
                );
                let took = world.now.saturating_since(NOW);
                assert!(took <= Duration::from_secs(20), "seed {seed}: {took:?}");
            }
        }
        assert_eq!(world.exchange.held_counts(), (0, 0), "seed {seed}");
    }
}

#[test]
fn a_large_answer_gets_the_blocks_that_it_needs() {
    let mut world = World::new(1, FAIR, settings());
    let id = world.ask(5, "size", b"60000");
    let answer = world.finish(id).unwrap();
    assert_eq!(answer.body.len(), 60_000);
    assert_eq!(world.relays[5].runs.len(), 2, "asked again once");
    assert_eq!(answer.path.len(), 3);
    assert_eq!(
        (answer.path[0], answer.path[2]),
        (world.relays[0].id, world.relays[5].id)
    );
    let id = world.ask(5, "size", b"200000");
    assert_eq!(world.finish(id), Err(ExchangeError::AnswerTooLarge));
}

#[test]
fn requests_run_beside_each_other_and_a_guard_is_asked_through_another() {
    let mut world = World::new(2, FAIR, settings());
    let first = world.ask(0, "echo", b"first");
    let second = world.ask(1, "echo", b"second");
    let third = world.ask(2, "echo", &vec![9; 50_000]);
    let far = NOW.saturating_add(Duration::from_hours(1));
    let mut ended = BTreeMap::new();
    while ended.len() < 3 {
        assert!(world.advance(far));
        ended.extend(world.exchange.poll_event());
    }
    let path = |id: &AskId| ended[id].as_ref().unwrap().path.clone();
    let ids: Vec<_> = world.relays.iter().map(|relay| relay.id).collect();
    assert_eq!((path(&first)[0], path(&first)[2]), (ids[1], ids[0]));
    assert_eq!((path(&second)[0], path(&second)[2]), (ids[0], ids[1]));
    assert_eq!(ended[&third].as_ref().unwrap().body.len(), 50_000);
}

#[test]
fn a_dead_guard_is_doubted_and_gone_around() {
    let mut world = World::new(6, FAIR, settings());
    let dead = world.relays[0].id;
    world.dead = Some(dead);
    let id = world.ask(3, "echo", b"x");
    let answer = world.finish(id).unwrap();
    assert_eq!(answer.path[0], world.relays[1].id);
    assert!(world.exchange.poll_doubt() == Some(dead));
    assert!(world.exchange.poll_doubt().is_none());
    world.exchange.remove_guard(dead);
    let id = world.ask(3, "echo", b"x");
    assert_eq!(world.finish(id).unwrap().path[0], world.relays[1].id);
    world.exchange.remove_guard(world.relays[1].id);
    let ask = Ask {
        destination: world.relays[3].id,
        method: "echo",
        params: Vec::new(),
        block_count: 1,
    };
    assert_eq!(world.try_ask(ask), Err(ExchangeError::NoPath));
}

#[test]
fn no_guard_is_sent_more_than_it_takes() {
    let weather = Weather { lost: 100, ..FAIR };
    let mut world = World::new(7, weather, settings());
    for relay in 2..6 {
        world.ask(relay, "echo", &[9; 12_000].repeat(10));
    }
    let end = NOW.saturating_add(Duration::from_secs(10));
    while world.advance(end) {}
    // Four requests of some 150 packets, three times over, would be 1,800.
    assert!(
        (1600..=800 + 1600).contains(&world.sent_count),
        "{}",
        world.sent_count
    );
}

#[test]
fn what_nobody_can_do_is_said_at_once() {
    let mut world = World::new(3, FAIR, settings());
    let ask = |destination, size, block_count| Ask {
        destination,
        method: "echo",
        params: vec![0; size],
        block_count,
    };
    let cases = [
        (ask(RelayId([9; 16]), 1, 1), ExchangeError::NoPath),
        (ask(world.relays[4].id, 250_000, 1), ExchangeError::TooLarge),
    ];
    for (ask, error) in cases {
        assert_eq!(world.try_ask(ask), Err(error));
    }
    for _ in 0..16 {
        world.ask(4, "echo", b"");
    }
    let one_more = ask(world.relays[4].id, 1, 1);
    assert_eq!(world.try_ask(one_more), Err(ExchangeError::Busy));
}

#[test]
fn a_node_without_a_block_runs_the_request_and_does_not_answer() {
    let mut world = World::new(4, FAIR, settings());
    let ask = Ask {
        destination: world.relays[4].id,
        method: "echo",
        params: b"x".to_vec(),
        block_count: 0,
    };
    let id = world.try_ask(ask).unwrap();
    assert!(matches!(
        world.finish(id),
        Err(ExchangeError::TimedOut { .. })
    ));
    assert!(!world.relays[4].runs.is_empty());
}

#[test]
fn delays_are_waited_for_and_not_mistaken_for_loss() {
    let settings = ExchangeSettings {
        delay_mean: Duration::from_millis(500),
        ..settings()
    };
    for seed in 0..20 {
        let mut world = World::new(seed, FAIR, settings);
        for number in 0..4 {
            let id = world.ask(3, "echo", &[number]);
            assert_eq!(world.finish(id).unwrap().body, [number]);
        }
        assert_eq!(
            world.relays[3].runs.len(),
            4,
            "seed {seed}: nothing was asked twice"
        );
    }
}

#[test]
fn cover_goes_round_and_comes_back() {
    let settings = ExchangeSettings {
        cover_per_second: 10.0,
        ..settings()
    };
    let mut world = World::new(5, FAIR, settings);
    let end = NOW.saturating_add(Duration::from_secs(40));
    while world.advance(end) {}
    let returned = world.exchange.cover_returned_count();
    assert!((300..500).contains(&returned), "{returned} of some 400");
    assert!(world.sent_count - returned < 10);
    assert!(world.relays.iter().all(|relay| relay.runs.is_empty()));
}

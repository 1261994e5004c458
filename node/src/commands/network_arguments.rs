//! Which network the client commands speak to, and whose account they use.

use core::time::Duration;
use std::env;
use std::path::PathBuf;

use cepa_client::packet_lane::COVER_PER_SECOND_MAX;
use cepa_client::state::State;
use cepa_client::{Bootstrap, Client, ClientSettings, ExchangeSettings, Lane};
use cepa_wire::onion::EncType;

use crate::failure::Failure;

/// Where `cepa devnet` puts the description of its network.
const DEVNET_FILE: &str = "devnet/network.json";
/// Names a network file when neither `--seed` nor `--network` does.
const NETWORK_VARIABLE: &str = "CEPA_NETWORK";

#[derive(Debug, clap::Args)]
pub(crate) struct NetworkArguments {
    /// Learn of the network from a seed, such as the `seed_url` of a network file
    #[arg(long, value_name = "URL", conflicts_with = "network")]
    seed: Option<String>,
    /// Learn of the network from a file [default: the one that `CEPA_NETWORK` names, or
    /// ./devnet/network.json]
    #[arg(long, value_name = "FILE")]
    network: Option<PathBuf>,
    /// The cipher of the onion's layers
    #[arg(long, value_enum, default_value_t = Cipher::Xchacha20)]
    cipher: Cipher,
    #[command(flatten)]
    lane: LaneArguments,
}

/// Which way requests go, and what is paid for being harder to follow.
#[derive(Debug, clap::Args)]
struct LaneArguments {
    /// Which way requests go. The packet lane is unaudited
    #[arg(long, value_enum, default_value_t = LaneName::Request)]
    lane: LaneName,
    /// Packet lane: each relay holds each packet for a random time of so many milliseconds on average, so
    /// that who watches all links can't tell which packet became which. With three relays there and two
    /// back, an answer comes five such times later [at most 10000]
    #[arg(long, value_name = "MEAN", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(0..=DELAY_MS_MAX))]
    delay_ms: u32,
    /// Packet lane: send so many packets a second, at random times, through the network back to ourselves,
    /// so that who watches us can't tell when we do something [at most 100; fractions too]
    #[arg(long, value_name = "PER_SECOND", default_value_t = 0.0, value_parser = read_cover)]
    cover: f32,
}

/// Longer ones would outlast the patience of anybody.
const DELAY_MS_MAX: i64 = 10_000;
/// Hops of a request and of its answer, and as much again: delays are random.
const DELAY_COUNT: u32 = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LaneName {
    /// Onion requests over HTTPS, as every node takes them
    Request,
    /// Packets of one size over UDP; fails where a node has no packet lane
    Packet,
    /// Packets where a node has a packet lane, else onion requests
    Auto,
}

impl LaneArguments {
    fn lane(&self) -> Lane {
        match self.lane {
            LaneName::Request => Lane::Request,
            LaneName::Packet => Lane::Packet,
            LaneName::Auto => Lane::Auto,
        }
    }

    fn exchange(&self) -> ExchangeSettings {
        let delay_mean = Duration::from_millis(self.delay_ms.into());
        let usual = ExchangeSettings::default();
        ExchangeSettings {
            delay_mean,
            cover_per_second: self.cover,
            timeout: usual.timeout + delay_mean * DELAY_COUNT,
            ..usual
        }
    }
}

fn read_cover(text: &str) -> Result<f32, String> {
    let rate: Option<f32> = text.parse().ok();
    let most = f32::from(COVER_PER_SECOND_MAX);
    rate.filter(|rate| (0.0..=most).contains(rate))
        .ok_or_else(|| format!("it must be a number from 0 to {most}"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Cipher {
    /// XChaCha20-Poly1305
    Xchacha20,
    /// AES-256-GCM
    AesGcm,
}

impl NetworkArguments {
    /// Learns of the network.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let enc_type = match self.cipher {
            Cipher::Xchacha20 => EncType::XChaCha20,
            Cipher::AesGcm => EncType::AesGcm,
        };
        let settings = ClientSettings {
            enc_type,
            lane: self.lane.lane(),
            exchange: self.lane.exchange(),
        };
        Client::connect(self.bootstrap()?, settings)
            .await
            .map_err(Failure::new)
    }

    fn bootstrap(&self) -> Result<Bootstrap, Failure> {
        if let Some(seed) = &self.seed {
            return Ok(Bootstrap::Seed(seed.clone()));
        }
        let file = network_file(self.network.clone()).ok_or_else(|| {
            Failure::new(
                "no network: start one with `cepa devnet`, or give --seed URL or --network FILE",
            )
        })?;
        Ok(Bootstrap::NetworkFile(file))
    }
}

/// The network file that was named, or that `CEPA_NETWORK` names, or that of a devnet here.
pub(super) fn network_file(named: Option<PathBuf>) -> Option<PathBuf> {
    let named = named.or_else(|| env::var_os(NETWORK_VARIABLE).map(PathBuf::from));
    named.or_else(|| {
        let devnet = PathBuf::from(DEVNET_FILE);
        matches!(devnet.try_exists(), Ok(true)).then_some(devnet)
    })
}

#[derive(Debug, clap::Args)]
pub(crate) struct StateArguments {
    /// The directory of the account [default: cepa in the user's data directory]
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
}

impl StateArguments {
    pub(super) fn open(&self) -> Result<State, Failure> {
        State::open(self.dir.clone()).map_err(Failure::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cover_is_a_rate_within_its_bound() {
        for (text, expected) in [("0", 0.0_f32), ("0.5", 0.5), ("100", 100.0)] {
            assert_eq!(read_cover(text).map(f32::to_bits), Ok(expected.to_bits()));
        }
        for text in ["-1", "100.1", "nan", "inf", "", "two"] {
            assert!(read_cover(text).is_err(), "{text}");
        }
    }

    #[test]
    fn delays_are_waited_for() {
        let arguments = LaneArguments {
            lane: LaneName::Auto,
            delay_ms: 200,
            cover: 0.5,
        };
        let exchange = arguments.exchange();
        assert_eq!(exchange.delay_mean, Duration::from_millis(200));
        let usual = ExchangeSettings::default().timeout;
        assert_eq!(exchange.timeout, usual + Duration::from_millis(2400));
        assert_eq!(arguments.lane(), Lane::Auto);
    }
}

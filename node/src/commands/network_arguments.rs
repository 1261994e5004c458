//! Which network the client commands speak to, and whose account they use.

use std::env;
use std::path::PathBuf;

use cepa_client::state::State;
use cepa_client::{Bootstrap, Client, ClientSettings};
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
            ..ClientSettings::default()
        };
        Client::connect(self.bootstrap()?, settings)
            .await
            .map_err(Failure::new)
    }

    fn bootstrap(&self) -> Result<Bootstrap, Failure> {
        if let Some(seed) = &self.seed {
            return Ok(Bootstrap::Seed(seed.clone()));
        }
        let named = self
            .network
            .clone()
            .or_else(|| env::var_os(NETWORK_VARIABLE).map(PathBuf::from));
        if let Some(file) = named {
            return Ok(Bootstrap::NetworkFile(file));
        }
        let devnet = PathBuf::from(DEVNET_FILE);
        match devnet.try_exists() {
            Ok(true) => Ok(Bootstrap::NetworkFile(devnet)),
            _ => Err(Failure::new(
                "no network: start one with `cepa devnet`, or give --seed URL or --network FILE",
            )),
        }
    }
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

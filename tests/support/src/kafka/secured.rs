//! A Kafka that wants to know who comes, and over which connections are encrypted.

use std::{ops::Deref, path::PathBuf, sync::OnceLock};

use anyhow::{Context, Result};

use super::{
    Kafka,
    provision::{await_answer, or_skip, repository, script_lines},
};

/// A Kafka with access control. Used as a [`Kafka`] it is asked without a name, which may do everything.
#[derive(Clone, Debug)]
pub struct SecuredKafka {
    kafka: Kafka,
    /// Where users log in, in plain text.
    pub sasl: String,
    /// Where connections are encrypted and nobody logs in.
    pub tls: String,
    /// Both.
    pub sasl_tls: String,
    /// The certificate to trust.
    pub ca: PathBuf,
}

impl SecuredKafka {
    /// The one that all tests share, from the jars: in `.kafka-secured`, beside the open one. It stays up, as that does. `None` as
    /// for [`Kafka::shared`].
    ///
    /// # Panics
    /// When it cannot be started though `TASKBROKER_TEST_REQUIRE_KAFKA` asks for one.
    pub fn shared() -> Option<Self> {
        static SHARED: OnceLock<Option<SecuredKafka>> = OnceLock::new();
        SHARED.get_or_init(|| or_skip(Self::start())).clone()
    }

    fn start() -> Result<Self> {
        let dir = repository().join(".kafka-secured");
        let dir = dir.to_str().context("the repository's name is no UTF-8")?;
        let printed = script_lines(&["up", "--secured", "--dir", dir])?;
        let value = |name: &str| {
            let line = printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.map(str::to_owned).with_context(|| format!("scripts/kafka says no {name}="))
        };
        let address = value("bootstrap")?;
        await_answer(&address)?;
        Ok(Self {
            kafka: Kafka::at(&address)?,
            sasl: value("sasl")?,
            tls: value("tls")?,
            sasl_tls: value("sasl_tls")?,
            ca: value("ca")?.into(),
        })
    }

    /// A user's password.
    pub fn password(user: &str) -> String {
        format!("{user}-secret")
    }
}

impl Deref for SecuredKafka {
    type Target = Kafka;

    fn deref(&self) -> &Kafka {
        &self.kafka
    }
}

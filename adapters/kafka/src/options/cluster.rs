//! How to reach a cluster.

use rdkafka::ClientConfig;
use secrecy::{ExposeSecret, SecretString};

use super::OptionsError;

/// How to reach a cluster and prove who one is.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// `host:port`, several separated by commas.
    pub address: String,
    /// `PLAINTEXT` (the default), `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
    pub security_protocol: Option<String>,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub sasl_mechanism: Option<String>,
    /// The SASL user.
    pub sasl_username: Option<String>,
    /// The SASL password. Never shown.
    pub sasl_password: Option<SecretString>,
    /// A file or directory of certificate authorities. With none, the system's usual places are tried.
    pub ssl_ca_location: Option<String>,
    /// The client's certificate (PEM).
    pub ssl_certificate_location: Option<String>,
    /// The client's private key (PEM).
    pub ssl_key_location: Option<String>,
}

impl ClusterOptions {
    /// A cluster without authentication.
    pub fn plaintext(address: impl Into<String>) -> Self {
        Self { address: address.into(), ..Self::default() }
    }

    /// Checks what can be checked without the cluster.
    pub fn validate(&self) -> Result<(), OptionsError> {
        if self.address.trim().is_empty() {
            return Err(OptionsError::new("address", "is empty: give host:port, several separated by commas"));
        }
        self.validate_protocol()?;
        self.validate_mechanism()
    }

    fn validate_protocol(&self) -> Result<(), OptionsError> {
        const KNOWN: [&str; 4] = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
        match &self.security_protocol {
            Some(protocol) if !KNOWN.contains(&protocol.to_ascii_uppercase().as_str()) => Err(OptionsError::new(
                "security_protocol",
                format!("{protocol:?} is unknown: use one of {}", KNOWN.join(", ")),
            )),
            _ => Ok(()),
        }
    }

    fn validate_mechanism(&self) -> Result<(), OptionsError> {
        const KNOWN: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
        let Some(mechanism) = &self.sasl_mechanism else {
            return Ok(());
        };
        let reason = match mechanism.to_ascii_uppercase().as_str() {
            known if KNOWN.contains(&known) => return Ok(()),
            "GSSAPI" => "GSSAPI (Kerberos) is not built in".to_owned(),
            "OAUTHBEARER" => "OAUTHBEARER (OIDC) is not built in".to_owned(),
            _ => format!("{mechanism:?} is unknown"),
        };
        Err(OptionsError::new("sasl_mechanism", format!("{reason}: use one of {}", KNOWN.join(", "))))
    }

    /// Whether we say who we are by SASL.
    pub(crate) fn authenticated(&self) -> bool {
        self.security_protocol.as_deref().is_some_and(|protocol| protocol.to_ascii_uppercase().starts_with("SASL"))
    }

    /// Whether these reach the same cluster as the same client.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let plain = |options: &Self| {
            let Self { address, security_protocol, sasl_mechanism, sasl_username, .. } = options.clone();
            let Self { ssl_ca_location, ssl_certificate_location, ssl_key_location, .. } = options.clone();
            let who = (security_protocol, sasl_mechanism, sasl_username);
            (address, who, ssl_ca_location, ssl_certificate_location, ssl_key_location)
        };
        let password = |options: &Self| options.sasl_password.as_ref().map(|one| one.expose_secret().to_owned());
        plain(self) == plain(other) && password(self) == password(other)
    }

    /// Whether the connection is encrypted.
    pub(crate) fn encrypted(&self) -> bool {
        self.security_protocol.as_deref().is_some_and(|protocol| protocol.to_ascii_uppercase().ends_with("SSL"))
    }

    fn apply(&self, config: &mut ClientConfig) {
        config.set("bootstrap.servers", &self.address).set("client.id", "taskbroker");
        let plain = [
            ("security.protocol", &self.security_protocol),
            ("sasl.mechanism", &self.sasl_mechanism),
            ("sasl.username", &self.sasl_username),
            ("ssl.ca.location", &self.ssl_ca_location),
            ("ssl.certificate.location", &self.ssl_certificate_location),
            ("ssl.key.location", &self.ssl_key_location),
        ];
        for (key, value) in plain {
            if let Some(value) = value {
                config.set(key, value);
            }
        }
        if self.encrypted() && self.ssl_ca_location.is_none() {
            config.set("ssl.ca.location", "probe");
        }
        if let Some(password) = &self.sasl_password {
            config.set("sasl.password", password.expose_secret());
        }
    }
}

/// What every client of ours has in common: who one is, and no waiting of 10 s between attempts to connect.
pub(crate) fn connection_config(cluster: &ClusterOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    cluster.apply(&mut config);
    config
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "2000")
        .set("socket.connection.setup.timeout.ms", "5000")
        .set("socket.keepalive.enable", "true")
        // Metrics for the cluster: nobody asked for them, and closing would wait to deliver the last.
        .set("enable.metrics.push", "false")
        // Lines about the connections of idle brokers that the cluster itself closes say nothing.
        .set("log.connection.close", "false");
    config
}

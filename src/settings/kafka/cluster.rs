//! One cluster: its address and how the connection is protected.

use std::path::PathBuf;

use secrecy::SecretString;

use crate::settings::{
    key::Key,
    model::{ClientCertificate, KafkaCluster, Sasl, SaslMechanism, SecurityProtocol},
    reader::Reader,
    report::{Origin, WarningKind},
    value::Setting,
};

/// Where a cluster's fields stand in the settings, and under which name they are shown.
pub(super) struct Place<'a> {
    /// The cluster's name.
    pub(super) name: &'a str,
    /// The key of each field.
    pub(super) key: &'a dyn Fn(&str) -> Key,
}

impl Place<'_> {
    fn shown(&self, field: &str) -> Key {
        Key::new("kafka_clusters").child(self.name).child(field)
    }

    fn read<T: Setting>(&self, reader: &mut Reader<'_>, field: &str) -> Option<T> {
        reader.read_at(&(self.key)(field), &self.shown(field))
    }

    fn refuse(&self, reader: &mut Reader<'_>, field: &str, reason: &str) {
        let key = (self.key)(field);
        let origin = reader.origin(&key);
        reader.findings.refuse(&key, None, &origin, reason);
    }

    fn warn(&self, reader: &mut Reader<'_>, field: &str, message: &str) {
        let key = (self.key)(field);
        let origin = reader.origin(&key);
        reader.findings.warn(WarningKind::Consequence, &key, &origin, message);
    }
}

/// Reads a cluster. `default_address` is where it is when nothing says so.
pub(super) fn read(reader: &mut Reader<'_>, place: &Place<'_>, default_address: Option<&str>) -> KafkaCluster {
    let address = address(reader, place, default_address);
    let security_protocol = place.read(reader, "security_protocol").unwrap_or(SecurityProtocol::Plaintext);
    KafkaCluster {
        name: place.name.to_owned(),
        address,
        security_protocol,
        sasl: sasl(reader, place, security_protocol),
        ssl_ca_location: tls_file(reader, place, "ssl_ca_location", security_protocol),
        ssl_client: client_certificate(reader, place, security_protocol),
    }
}

fn address(reader: &mut Reader<'_>, place: &Place<'_>, default: Option<&str>) -> String {
    let Some(address) = place.read::<String>(reader, "address") else {
        let Some(default) = default else {
            place.refuse(reader, "address", "is missing: a cluster needs its bootstrap servers, host:port,host:port");
            return String::new();
        };
        reader.note(&place.shown("address"), default.to_owned().write(), Origin::Default);
        return default.to_owned();
    };
    let servers: Vec<&str> = address.split(',').map(str::trim).collect();
    let wrong = |server: &&str| server.is_empty() || server.contains(char::is_whitespace) || server.contains('@');
    if servers.iter().any(wrong) {
        place.refuse(reader, "address", "expected host:port,host:port, without blanks and without a user's name");
    }
    servers.join(",")
}

fn sasl(reader: &mut Reader<'_>, place: &Place<'_>, protocol: SecurityProtocol) -> Option<Sasl> {
    const NEEDED: &str = "is missing: the security protocol authenticates by SASL";
    const UNUSED: &str =
        "has no effect: the security protocol does not authenticate by SASL; set sasl_ssl or sasl_plaintext";
    let mechanism: Option<SaslMechanism> = place.read(reader, "sasl_mechanism");
    let username: Option<String> = place.read(reader, "sasl_username");
    let password: Option<SecretString> = place.read(reader, "sasl_password");
    let given = [mechanism.is_some(), username.is_some(), password.is_some()];
    for (field, given) in ["sasl_mechanism", "sasl_username", "sasl_password"].into_iter().zip(given) {
        match (protocol.is_sasl(), given) {
            (true, false) => place.refuse(reader, field, NEEDED),
            (false, true) => place.warn(reader, field, UNUSED),
            (true, true) | (false, false) => {}
        }
    }
    protocol.is_sasl().then_some(Sasl { mechanism: mechanism?, username: username?, password: password? })
}

fn tls_file(reader: &mut Reader<'_>, place: &Place<'_>, field: &str, protocol: SecurityProtocol) -> Option<PathBuf> {
    const UNUSED: &str = "has no effect: the security protocol does not encrypt; set ssl or sasl_ssl";
    let file = place.read(reader, field)?;
    if !protocol.is_tls() {
        place.warn(reader, field, UNUSED);
        return None;
    }
    Some(file)
}

fn client_certificate(
    reader: &mut Reader<'_>,
    place: &Place<'_>,
    protocol: SecurityProtocol,
) -> Option<ClientCertificate> {
    const NEEDED: &str = "is missing: a certificate and its key go together";
    let certificate = tls_file(reader, place, "ssl_certificate_location", protocol);
    let key = tls_file(reader, place, "ssl_key_location", protocol);
    match (certificate, key) {
        (Some(certificate_location), Some(key_location)) => {
            Some(ClientCertificate { certificate_location, key_location })
        }
        (None, None) => None,
        (Some(_), None) => {
            place.refuse(reader, "ssl_key_location", NEEDED);
            None
        }
        (None, Some(_)) => {
            place.refuse(reader, "ssl_certificate_location", NEEDED);
            None
        }
    }
}

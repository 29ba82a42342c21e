//! The signature of a call: HMAC-SHA256 over path, `:` and message, in hexadecimal, as request metadata.

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The metadata that carries it.
pub(crate) const HEADER: &str = "sentry-signature";

/// How many bytes a signature has.
const BYTES: usize = 32;

/// The secrets that calls are signed with. Never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(Vec<Box<[u8]>>);

impl Secrets {
    /// The secrets in order: the first one signs, any one is accepted, so that they can be changed one after another. None:
    /// nothing is signed or asked for.
    pub fn new<S: AsRef<[u8]>>(secrets: impl IntoIterator<Item = S>) -> Self {
        Self(secrets.into_iter().map(|secret| secret.as_ref().into()).collect())
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Signs a call by the first secret; none without one.
    pub(crate) fn sign(&self, path: &str, message: &[&[u8]]) -> Option<String> {
        let signature = digest(self.0.first()?, path, message)?.finalize().into_bytes();
        Some(signature.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Whether any of the secrets signed this call. The time it takes tells nothing of the secrets.
    pub(crate) fn verify(&self, path: &str, message: &[u8], signature: &str) -> bool {
        let Some(signature) = decode(signature) else { return false };
        let by =
            |secret: &[u8]| digest(secret, path, &[message]).is_some_and(|mac| mac.verify_slice(&signature).is_ok());
        self.0.iter().any(|secret| by(secret))
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

/// `None` cannot happen: a key of any length will do.
fn digest(secret: &[u8], path: &str, message: &[&[u8]]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(path.as_bytes());
    mac.update(b":");
    message.iter().for_each(|part| mac.update(part));
    Some(mac)
}

fn decode(hexadecimal: &str) -> Option<[u8; BYTES]> {
    let (pairs, []) = hexadecimal.as_bytes().as_chunks::<2>() else { return None };
    let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes?.try_into().ok()
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/sentry_protos.taskbroker.v1.WorkerService/PushTask";
    const SIGNATURE: &str = "cfdf2c4d2efd3a2d28bd10de6471ef352d03f49d2d3bd880ee7051ea39fbe239";

    #[test]
    fn a_call_is_signed_as_existing_clients_sign_it() {
        let secrets = Secrets::new(["super secret", "another"]);
        assert_eq!(secrets.sign(PATH, &[b"hello"]).as_deref(), Some(SIGNATURE));
        assert_eq!(secrets.sign(PATH, &[b"he", b"", b"llo"]).as_deref(), Some(SIGNATURE), "in parts");
        assert_eq!(Secrets::default().sign(PATH, &[b"hello"]), None);
    }

    #[test]
    fn any_of_the_secrets_is_accepted() {
        for secrets in [&["super secret"][..], &["new", "super secret"], &["super secret", "old"]] {
            assert!(Secrets::new(secrets).verify(PATH, b"hello", SIGNATURE), "{secrets:?}");
            assert!(Secrets::new(secrets).verify(PATH, b"hello", &SIGNATURE.to_uppercase()));
        }
        assert!(!Secrets::new(["new", "old"]).verify(PATH, b"hello", SIGNATURE));
        assert!(!Secrets::default().verify(PATH, b"hello", SIGNATURE));
    }

    #[test]
    fn path_and_message_are_both_signed() {
        let secrets = Secrets::new(["super secret"]);
        assert!(!secrets.verify(PATH, b"hellp", SIGNATURE));
        assert!(!secrets.verify("/sentry_protos.taskbroker.v1.ConsumerService/GetTask", b"hello", SIGNATURE));
    }

    #[test]
    fn what_is_no_signature_is_refused() {
        let secrets = Secrets::new(["super secret"]);
        let long = format!("{SIGNATURE}00");
        let not_hexadecimal = SIGNATURE.replace('c', "g");
        for text in ["", "c", "cf", &SIGNATURE[1..], &long, &not_hexadecimal, "ß".repeat(32).as_str()] {
            assert!(!secrets.verify(PATH, b"hello", text), "{text}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(format!("{:?}", Secrets::new(["super secret"])), "Secrets(1)");
    }
}

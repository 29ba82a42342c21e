//! The names of activations.

use std::{fmt, ops::Deref};

use uuid::{Uuid, fmt::Hyphenated};

/// The longest id that is accepted, in bytes. Clients send 32 hex digits or a hyphenated UUID.
pub const ID_MAX_BYTES: usize = 255;

/// The name a producer gave an activation. Opaque; usually a UUID, and then held as its 16 bytes: a million of them may wait.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActivationId(Held);

/// A text has one form: ids are equal if their texts are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Held {
    /// 32 digits, in lower case.
    Hex([u8; 16]),
    /// 36 characters, in lower case.
    Hyphenated([u8; 16]),
    Text(Box<str>),
}

/// The text of an id; a `&str` in all but name.
pub struct IdText<'a>(Shown<'a>);

enum Shown<'a> {
    Written([u8; Hyphenated::LENGTH], usize),
    Held(&'a str),
}

impl ActivationId {
    /// An id from its text.
    pub fn new(id: impl AsRef<str> + Into<Box<str>>) -> Self {
        Self(Held::uuid(id.as_ref()).unwrap_or_else(|| Held::Text(id.into())))
    }

    /// The id's text, as it was given.
    pub fn text(&self) -> IdText<'_> {
        let mut written = [0; Hyphenated::LENGTH];
        let length = match &self.0 {
            Held::Hex(uuid) => Uuid::from_bytes_ref(uuid).simple().encode_lower(&mut written).len(),
            Held::Hyphenated(uuid) => Uuid::from_bytes_ref(uuid).hyphenated().encode_lower(&mut written).len(),
            Held::Text(text) => return IdText(Shown::Held(text)),
        };
        IdText(Shown::Written(written, length))
    }

    /// The id of the retry of this activation with the given attempt number: UUIDv5 of parent id and attempt, hyphenated,
    /// so that a retry published twice is one task.
    #[must_use]
    pub fn retry(&self, attempt: u32) -> Self {
        let name = format!("{self}:{attempt}");
        Self(Held::Hyphenated(Uuid::new_v5(&RETRY_NAMESPACE, name.as_bytes()).into_bytes()))
    }

    /// The bucket of the existing system: the last byte of the UUID, or 0 when the id is none.
    pub fn bucket(&self) -> u8 {
        match &self.0 {
            Held::Hex(uuid) | Held::Hyphenated(uuid) => uuid[15],
            Held::Text(text) => Uuid::try_parse(text).map_or(0, |uuid| uuid.as_bytes()[15]),
        }
    }
}

impl Held {
    /// What is written exactly as it would be written again.
    fn uuid(text: &str) -> Option<Self> {
        let form = match text.len() {
            32 => Self::Hex,
            36 => Self::Hyphenated,
            _ => return None,
        };
        let plain = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        let uuid = text.bytes().all(plain).then(|| Uuid::try_parse(text).ok())??;
        Some(form(uuid.into_bytes()))
    }
}

/// The UUIDv5 namespace of derived retry ids; arbitrary, fixed for ever.
const RETRY_NAMESPACE: Uuid = Uuid::from_u128(0x7a5b_1c3e_90d4_4f6b_8e21_5d0c_a97f_3b64);

impl Deref for IdText<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            // Digits and hyphens are always text.
            Shown::Written(written, length) => str::from_utf8(&written[..*length]).unwrap_or_default(),
            Shown::Held(text) => text,
        }
    }
}

impl fmt::Debug for IdText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for ActivationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for ActivationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_takes_little_room() {
        assert_eq!(size_of::<ActivationId>(), 24);
    }

    #[test]
    fn the_usual_ids_need_no_memory_of_their_own() {
        for usual in ["0af7651916cd43dd8448eb211c80319c", "0af76519-16cd-43dd-8448-eb211c80319c"] {
            assert!(!matches!(ActivationId::new(usual).0, Held::Text(_)), "{usual}");
        }
        assert!(!matches!(ActivationId::new("any").retry(1).0, Held::Text(_)));
    }

    /// Texts that are UUIDs, nearly are, or are not.
    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![
            "[0-9a-f]{32}",
            "[0-9a-fA-F]{31,33}",
            "[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}",
            "[0-9a-f-]{36}",
            ".*"
        ]
    }

    proptest! {
        #[test]
        fn an_id_has_the_text_it_was_given(text in texts()) {
            let id = ActivationId::new(text.as_str());
            prop_assert_eq!(&*id.text(), text.as_str());
            prop_assert_eq!(id.to_string(), text.as_str());
            let again = ActivationId::new(text.clone());
            prop_assert_eq!(&again, &id, "however it was given");
            prop_assert_eq!(id.bucket(), Uuid::try_parse(&text).map_or(0, |uuid| uuid.as_bytes()[15]));
        }

        #[test]
        fn ids_with_different_texts_are_different(one in texts(), other in texts()) {
            prop_assume!(one != other);
            prop_assert_ne!(ActivationId::new(one), ActivationId::new(other));
        }
    }
}

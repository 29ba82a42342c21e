//! Walks over a protobuf message without building anything: borrowed fields in the order they come.
//!
//! As strict as the strictest decoder a worker may use (prost, upb): what passes here, they read.

/// How deeply groups may nest. Decoders give up at 100; the activation itself is embedded in an answer.
const GROUP_DEPTH_MAX: u8 = 32;

/// A field as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    /// Its number, from 1.
    pub(crate) number: u32,
    /// Its value.
    pub(crate) value: Value<'a>,
    /// Key and value as they stand.
    pub(crate) raw: &'a [u8],
}

/// A field's value by wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// An integer, bool or enum.
    Varint(u64),
    /// A string, bytes or an embedded message.
    Bytes(&'a [u8]),
    /// A fixed-width number or a group: no field of the protocol is one.
    Other,
}

/// The bytes are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("it is cut off")]
    CutOff,
    #[error("a varint is too long")]
    Varint,
    #[error("a field number is out of range")]
    Number,
    #[error("a wire type is unknown")]
    WireType,
    #[error("groups do not match or nest too deeply")]
    Group,
}

/// The fields of `message`, until the end or the first that is malformed.
pub(crate) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

/// See [`fields`].
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        let start = self.rest;
        let key = self.key()?;
        let value = self.value(key, GROUP_DEPTH_MAX)?;
        let raw = &start[..start.len() - self.rest.len()];
        Ok(Field { number: key.number, value, raw })
    }

    fn key(&mut self) -> Result<Key, Malformed> {
        let before = self.rest.len();
        let key = self.varint()?;
        if before - self.rest.len() > KEY_BYTES_MAX {
            return Err(Malformed::Varint);
        }
        let number = u32::try_from(key >> 3).map_err(|_| Malformed::Number)?;
        if !(1..=NUMBER_MAX).contains(&number) {
            return Err(Malformed::Number);
        }
        Ok(Key { number, wire_type: key & 7 })
    }

    fn value(&mut self, key: Key, depth: u8) -> Result<Value<'a>, Malformed> {
        match key.wire_type {
            0 => self.varint().map(Value::Varint),
            1 => self.take(8).map(|_| Value::Other),
            2 => self.length_delimited().map(Value::Bytes),
            3 => self.group(key.number, depth).map(|()| Value::Other),
            4 => Err(Malformed::Group),
            5 => self.take(4).map(|_| Value::Other),
            _ => Err(Malformed::WireType),
        }
    }

    fn group(&mut self, number: u32, depth: u8) -> Result<(), Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed::Group)?;
        loop {
            let key = self.key()?;
            if key.wire_type == 4 {
                return if key.number == number { Ok(()) } else { Err(Malformed::Group) };
            }
            self.value(key, depth)?;
        }
    }

    fn length_delimited(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed::CutOff)?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed::CutOff)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(Malformed::CutOff)?;
            self.rest = rest;
            if shift == 63 && byte > 1 {
                return Err(Malformed::Varint);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::Varint)
    }
}

#[derive(Clone, Copy)]
struct Key {
    number: u32,
    wire_type: u64,
}

/// Decoders read a key as 32 bits.
const KEY_BYTES_MAX: usize = 5;

/// The largest number a field can have.
const NUMBER_MAX: u32 = (1 << 29) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(message: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Malformed> {
        fields(message).map(|field| field.map(|f| (f.number, f.value))).collect()
    }

    #[test]
    fn every_wire_type_is_walked_over() {
        let message =
            [0x08, 0x96, 0x01, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x1a, 1, 9, 0x23, 0x08, 1, 0x24, 0x2d, 1, 2, 3, 4];
        let expected = vec![
            (1, Value::Varint(150)),
            (2, Value::Other),
            (3, Value::Bytes(&[9])),
            (4, Value::Other),
            (5, Value::Other),
        ];
        assert_eq!(all(&message), Ok(expected));
        let raw: Vec<u8> =
            fields(&message).flat_map(|field| field.map(|f| f.raw.to_vec()).unwrap_or_default()).collect();
        assert_eq!(raw, message);
    }

    #[test]
    fn what_is_malformed_is_named() {
        assert_eq!(all(&[0x08]), Err(Malformed::CutOff));
        assert_eq!(all(&[0x0a, 5, 1]), Err(Malformed::CutOff));
        assert_eq!(all(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), Err(Malformed::CutOff));
        assert_eq!(all(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]), Err(Malformed::Varint));
        assert_eq!(all(&[0x88, 0x80, 0x80, 0x80, 0x80, 0x00, 1]), Err(Malformed::Varint));
        assert_eq!(all(&[0x00, 1]), Err(Malformed::Number));
        assert_eq!(all(&[0xff, 0xff, 0xff, 0xff, 0x7f]), Err(Malformed::Number));
        assert_eq!(all(&[0x0e]), Err(Malformed::WireType));
        assert_eq!(all(&[0x0c]), Err(Malformed::Group));
        assert_eq!(all(&[0x0b, 0x14]), Err(Malformed::Group));
        assert_eq!(all(&[0x0b; 1000]), Err(Malformed::Group));
    }
}

//! Records as they stand in a page: <https://www.sqlite.org/fileformat2.html#record_format>.

/// A column's value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Integer(i64),
    /// What it is does not matter: no column holds one.
    Real,
    Text(String),
    /// Bytes, or text that is none.
    Blob(Vec<u8>),
}

/// The columns of a record; none where it makes no sense.
pub(super) fn values(record: &[u8]) -> Option<Vec<Value>> {
    let (header_bytes, mut at) = varint(record, 0)?;
    let header_bytes = usize::try_from(header_bytes).ok().filter(|bytes| *bytes <= record.len())?;
    let mut body = record.get(header_bytes..)?;
    let mut values = Vec::new();
    while at < header_bytes {
        let (kind, next) = varint(record, at)?;
        at = next;
        let (value, rest) = value(kind, body)?;
        values.push(value);
        body = rest;
    }
    (at == header_bytes).then_some(values)
}

fn value(kind: u64, body: &[u8]) -> Option<(Value, &[u8])> {
    let bytes = match kind {
        0 | 8 | 9 => 0,
        1..=4 => usize::try_from(kind).ok()?,
        5 => 6,
        6 | 7 => 8,
        10 | 11 => return None,
        _ => usize::try_from((kind - 12) / 2).ok()?,
    };
    let (own, rest) = body.split_at_checked(bytes)?;
    let value = match kind {
        0 => Value::Null,
        8 => Value::Integer(0),
        9 => Value::Integer(1),
        7 => Value::Real,
        1..=6 => Value::Integer(integer(own)),
        _ if kind % 2 == 0 => Value::Blob(own.to_vec()),
        _ => String::from_utf8(own.to_vec()).map_or_else(|error| Value::Blob(error.into_bytes()), Value::Text),
    };
    Some((value, rest))
}

/// A signed number, the most significant byte first.
fn integer(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let start = if negative { -1_i64 } else { 0 };
    bytes.iter().fold(start, |number, byte| number << 8 | i64::from(*byte))
}

/// A number of one to nine bytes, and where it ends.
pub(super) fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut number = 0_u64;
    for index in 0..8 {
        let byte = *bytes.get(at + index)?;
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((number, at + index + 1));
        }
    }
    let last = *bytes.get(at + 8)?;
    Some((number << 8 | u64::from(last), at + 9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_are_read() {
        for (bytes, number) in
            [(&[0x7f_u8][..], 127), (&[0x81, 0x00], 128), (&[0x82, 0x80, 0x01], 32_769), (&[0xff; 9], u64::MAX)]
        {
            assert_eq!(varint(bytes, 0), Some((number, bytes.len())));
            assert_eq!(varint(&bytes[..bytes.len() - 1], 0), None, "cut off");
        }
    }

    #[test]
    fn a_record_is_read_by_its_types() {
        let record = [7, 0, 1, 9, 4, 15, 16, 0xfe, 0x80, 0, 0, 1, b'x', 1, 2];
        let expected = [
            Value::Null,
            Value::Integer(-2),
            Value::Integer(1),
            Value::Integer(-2_147_483_647),
            Value::Text("x".into()),
            Value::Blob(vec![1, 2]),
        ];
        assert_eq!(values(&record).unwrap(), expected);
        for length in 0..record.len() {
            assert_eq!(values(&record[..length]), None, "cut off at {length}");
        }
    }
}

//! How many values a msgpack text has, found without building any: a few kilobytes, compressed, can say millions.

/// The number of values in the first value of `bytes`, itself included; none if it is cut off, malformed or has more than
/// `most`.
pub(crate) fn count(bytes: &[u8], most: usize) -> Option<usize> {
    let (mut rest, mut open, mut found) = (bytes, 1_usize, 0_usize);
    while open > 0 {
        found += 1;
        if open > most || found > most {
            return None;
        }
        let (children, length) = head(&mut rest)?;
        rest = rest.get(length..)?;
        open = (open - 1).checked_add(children)?;
    }
    Some(found)
}

/// Takes a value's marker. Returns how many values follow as its parts, and how many bytes of its own.
fn head(rest: &mut &[u8]) -> Option<(usize, usize)> {
    let (marker, after) = rest.split_first()?;
    *rest = after;
    let low = |mask: u8| usize::from(marker & mask);
    Some(match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (0, 0),
        0x80..=0x8f => (2 * low(0x0f), 0),
        0x90..=0x9f => (low(0x0f), 0),
        0xa0..=0xbf => (0, low(0x1f)),
        0xc4 | 0xd9 => (0, number(rest, 1)?),
        0xc5 | 0xda => (0, number(rest, 2)?),
        0xc6 | 0xdb => (0, number(rest, 4)?),
        0xc7 => (0, number(rest, 1)?.checked_add(1)?),
        0xc8 => (0, number(rest, 2)?.checked_add(1)?),
        0xc9 => (0, number(rest, 4)?.checked_add(1)?),
        0xcc | 0xd0 => (0, 1),
        0xcd | 0xd1 | 0xd4 => (0, 2),
        0xd5 => (0, 3),
        0xca | 0xce | 0xd2 => (0, 4),
        0xd6 => (0, 5),
        0xcb | 0xcf | 0xd3 => (0, 8),
        0xd7 => (0, 9),
        0xd8 => (0, 17),
        0xdc => (number(rest, 2)?, 0),
        0xdd => (number(rest, 4)?, 0),
        0xde => (number(rest, 2)?.checked_mul(2)?, 0),
        0xdf => (number(rest, 4)?.checked_mul(2)?, 0),
        0xc1 => return None,
    })
}

/// A number in so many bytes, the highest first.
fn number(rest: &mut &[u8], bytes: usize) -> Option<usize> {
    let (number, after) = rest.split_at_checked(bytes)?;
    *rest = after;
    Some(number.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;
    use rmpv::Value;

    use super::*;

    fn packed(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).unwrap();
        bytes
    }

    fn values(value: &Value) -> usize {
        match value {
            Value::Array(all) => 1 + all.iter().map(values).sum::<usize>(),
            Value::Map(all) => 1 + all.iter().map(|(key, value)| values(key) + values(value)).sum::<usize>(),
            _ => 1,
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<f32>().prop_map(Value::from),
            prop::collection::vec(any::<u8>(), 0..70_000).prop_map(Value::from),
            ".{0,300}".prop_map(Value::from),
            (any::<i8>(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(kind, bytes)| Value::Ext(kind, bytes)),
        ];
        leaf.prop_recursive(4, 40, 20, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
                prop::collection::vec((inner.clone(), inner), 0..20).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_value_is_counted(value in any_value()) {
            let bytes = packed(&value);
            prop_assert_eq!(count(&bytes, usize::MAX), Some(values(&value)));
            prop_assert_eq!(count(&bytes, values(&value) - 1), None);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            count(&bytes, 1_000);
        }
    }

    #[test]
    fn what_says_more_than_it_has_is_refused() {
        assert_eq!(count(&[0xdd, 0xff, 0xff, 0xff, 0xff], 1_000), None);
        assert_eq!(count(&[0xc6, 0xff, 0xff, 0xff, 0xff], 1_000), None);
        assert_eq!(count(&[0xc1], 1_000), None);
        assert_eq!(count(&[], 1_000), None);
    }
}

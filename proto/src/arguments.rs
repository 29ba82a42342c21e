//! A look into a task's arguments, for the rules that depend on them. Whatever cannot be read matches nothing: a rule drops
//! only what it certainly names.

use std::io::Read;

use rmpv::{Utf8String, Value};
use taskbroker_domain::rules::{Argument, Selector};

use crate::{
    msgpack,
    scan::{self, fields},
};

/// Arguments that are larger once decompressed match nothing; as in the existing system.
const DECOMPRESSED_MAX: u64 = 64 << 20;

/// As do arguments of more values than this: each takes some 40 bytes once they are read.
const VALUES_MAX: usize = 200_000;

/// How deeply arguments may nest.
const DEPTH_MAX: usize = 64;

/// Whether any of the conditions holds for the activation's arguments.
pub(crate) fn match_any(activation: &[u8], selector: &Selector) -> bool {
    let Some(arguments) = arguments(activation) else { return false };
    let of = |name: &str| named(&arguments, name);
    let args = of("args").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let by_place =
        selector.args.iter().any(|(place, wanted)| args.get(*place).is_some_and(|found| same(found, wanted)));
    by_place
        || of("kwargs").is_some_and(|kwargs| {
            selector.kwargs.iter().any(|(name, wanted)| named(kwargs, name).is_some_and(|found| same(found, wanted)))
        })
}

fn arguments(activation: &[u8]) -> Option<Value> {
    let (mut packed, mut is_compressed) = (&[][..], false);
    for field in fields(activation) {
        match (field.as_ref().ok()?.number, field.ok()?.value) {
            (13, scan::Value::Bytes(bytes)) => packed = bytes,
            (5, scan::Value::Bytes(entry)) => is_compressed |= header(entry)? == (b"compression-type", b"zstd"),
            _ => {}
        }
    }
    match is_compressed {
        false => unpack(packed),
        true => {
            let mut plain = Vec::new();
            let decoder = zstd::stream::read::Decoder::new(packed).ok()?;
            decoder.take(DECOMPRESSED_MAX + 1).read_to_end(&mut plain).ok()?;
            (plain.len() as u64 <= DECOMPRESSED_MAX).then(|| unpack(&plain)).flatten()
        }
    }
}

/// Name and value of an entry of the headers.
fn header(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut name, mut value) = (&[][..], &[][..]);
    for field in fields(entry) {
        match (field.as_ref().ok()?.number, field.ok()?.value) {
            (1, scan::Value::Bytes(bytes)) => name = bytes,
            (2, scan::Value::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Some((name, value))
}

fn unpack(mut packed: &[u8]) -> Option<Value> {
    msgpack::count(packed, VALUES_MAX)?;
    rmpv::decode::read_value_with_max_depth(&mut packed, DEPTH_MAX).ok()
}

fn named<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    map.as_map()?.iter().rfind(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
}

fn same(found: &Value, wanted: &Argument) -> bool {
    match (found, wanted) {
        (Value::Nil, Argument::Null) => true,
        (Value::Boolean(found), Argument::Bool(wanted)) => found == wanted,
        (Value::Integer(found), Argument::Integer(wanted)) => integer(*found) == Some(*wanted),
        (Value::F64(found), Argument::Float(wanted)) => found == wanted,
        (Value::F32(found), Argument::Float(wanted)) => f64::from(*found) == *wanted,
        (Value::String(found), Argument::Text(wanted)) => Utf8String::as_str(found) == Some(wanted),
        (Value::Array(found), Argument::List(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| same(found, wanted))
        }
        (Value::Map(entries), Argument::Map(wanted)) => {
            entries.len() == wanted.len()
                && wanted.iter().all(|(name, wanted)| named(found, name).is_some_and(|found| same(found, wanted)))
        }
        _ => false,
    }
}

fn integer(found: rmpv::Integer) -> Option<i128> {
    found.as_i64().map(i128::from).or(found.as_u64().map(i128::from))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use prost::Message;

    use super::*;
    use crate::pb;

    fn packed(args: Vec<Value>, kwargs: Vec<(&str, Value)>) -> Vec<u8> {
        let kwargs = kwargs.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let all = Value::Map(vec![("args".into(), Value::Array(args)), ("kwargs".into(), Value::Map(kwargs))]);
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &all).unwrap();
        bytes
    }

    fn activation(parameters_bytes: Vec<u8>, headers: &[(&str, &str)]) -> Vec<u8> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let parameters_bytes = parameters_bytes.into();
        pb::TaskActivation { id: "a".to_owned(), parameters_bytes, headers, ..Default::default() }.encode_to_vec()
    }

    fn plain(args: Vec<Value>, kwargs: Vec<(&str, Value)>) -> Vec<u8> {
        activation(packed(args, kwargs), &[])
    }

    fn at(place: usize, wanted: Argument) -> Selector {
        Selector { args: [(place, wanted)].into(), ..Selector::default() }
    }

    fn named_as(name: &str, wanted: Argument) -> Selector {
        Selector { kwargs: [(name.into(), wanted)].into(), ..Selector::default() }
    }

    #[test]
    fn a_positional_argument_is_compared_by_value() {
        let activation = plain(vec![Value::from(7), Value::from("seven"), Value::Nil], vec![]);
        assert!(match_any(&activation, &at(0, Argument::Integer(7))));
        assert!(match_any(&activation, &at(1, Argument::Text("seven".into()))));
        assert!(match_any(&activation, &at(2, Argument::Null)));
        assert!(!match_any(&activation, &at(0, Argument::Float(7.0))), "an integer is no float");
        assert!(!match_any(&activation, &at(0, Argument::Text("7".into()))));
        assert!(!match_any(&activation, &at(3, Argument::Null)), "there is no fourth");
    }

    #[test]
    fn a_keyword_argument_is_compared_by_value() {
        let nested = Value::Map(vec![("a".into(), Value::Array(vec![Value::from(-1), Value::from(true)]))]);
        let activation = plain(vec![], vec![("project", Value::from(u64::MAX)), ("deep", nested)]);
        assert!(match_any(&activation, &named_as("project", Argument::Integer(u64::MAX.into()))));
        let list = Argument::List(vec![Argument::Integer(-1), Argument::Bool(true)]);
        assert!(match_any(&activation, &named_as("deep", Argument::Map([("a".into(), list)].into()))));
        assert!(!match_any(&activation, &named_as("absent", Argument::Null)));
    }

    #[test]
    fn one_condition_of_several_is_enough() {
        let activation = plain(vec![Value::from(1)], vec![("x", Value::from(2))]);
        let selector = |arg, kwarg| Selector {
            args: [(0, Argument::Integer(arg))].into(),
            kwargs: [("x".into(), Argument::Integer(kwarg))].into(),
        };
        assert!(match_any(&activation, &selector(1, 9)));
        assert!(match_any(&activation, &selector(9, 2)));
        assert!(!match_any(&activation, &selector(9, 9)));
        assert!(!match_any(&activation, &Selector::default()), "no condition holds where there is none");
    }

    #[test]
    fn compressed_arguments_are_read() {
        let compressed = zstd::encode_all(packed(vec![Value::from(1)], vec![]).as_slice(), 3).unwrap();
        let marked = activation(compressed.clone(), &[("compression-type", "zstd"), ("other", "x")]);
        assert!(match_any(&marked, &at(0, Argument::Integer(1))));
        assert!(!match_any(&activation(compressed, &[]), &at(0, Argument::Integer(1))), "the header says so");
    }

    #[test]
    fn what_decompresses_beyond_the_limit_matches_nothing() {
        let huge = Value::from(vec![0_u8; usize::try_from(DECOMPRESSED_MAX).unwrap()]);
        let compressed = zstd::encode_all(packed(vec![Value::from(1), huge], vec![]).as_slice(), 1).unwrap();
        let activation = activation(compressed, &[("compression-type", "zstd")]);
        assert!(!match_any(&activation, &at(0, Argument::Integer(1))));
    }

    #[test]
    fn what_has_too_many_values_matches_nothing() {
        let many = Value::Array(vec![Value::from(0); VALUES_MAX]);
        let compressed = zstd::encode_all(packed(vec![Value::from(1), many], vec![]).as_slice(), 1).unwrap();
        assert!(compressed.len() < 1_000);
        assert!(!match_any(&activation(compressed, &[("compression-type", "zstd")]), &at(0, Argument::Integer(1))));
    }

    #[test]
    fn what_cannot_be_read_matches_nothing() {
        let selector = at(0, Argument::Null);
        let deep = vec![0x91; 100_000];
        for parameters in [vec![], vec![0xc1], vec![0x92, 0x01], deep] {
            assert!(!match_any(&activation(parameters, &[]), &selector));
        }
        assert!(!match_any(b"\xff\xff\xff", &selector));
        assert!(!match_any(&activation(b"no frame".to_vec(), &[("compression-type", "zstd")]), &selector));
    }
}

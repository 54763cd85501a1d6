//! What a caller handed in, before any type is known: one form for Python objects and for JSON, so that both are judged by
//! the same rules. JSON is parsed once, straight into this form; a key that occurs twice is refused.
use std::fmt;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use smol_str::SmolStr;

/// Deepest nesting of a context or an attribute; the same as serde_json's own limit.
const MAX_DEPTH: usize = 128;
/// Largest context or entity list given as JSON, in bytes.
pub const MAX_JSON_BYTES: usize = 4 << 20;

pub enum Raw {
    Null,
    Bool(bool),
    Int(i64),
    /// An integer that does not fit a Cedar `Long`.
    BigInt,
    Float,
    Str(SmolStr),
    List(Vec<Raw>),
    Map(Vec<(SmolStr, Raw)>),
    /// A Python object of a type that has no Cedar counterpart: the type's name.
    Other(String),
}

impl Raw {
    /// The kind, for messages. Never the value: it may be personal data.
    pub fn kind(&self) -> String {
        match self {
            Raw::Null => "null".into(),
            Raw::Bool(_) => "Bool".into(),
            Raw::Int(_) => "Long".into(),
            Raw::BigInt => "an integer outside the 64-bit range".into(),
            Raw::Float => "a float (use `decimal`)".into(),
            Raw::Str(_) => "String".into(),
            Raw::List(_) => "a list".into(),
            Raw::Map(_) => "a record".into(),
            Raw::Other(name) => format!("a Python `{name}`"),
        }
    }

    pub fn get(&self, key: &str) -> Option<&Raw> {
        match self {
            Raw::Map(pairs) => pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Raw, E> {
        Ok(Raw::Int(v))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Raw, E> {
        Ok(i64::try_from(v).map_or(Raw::BigInt, Raw::Int))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Float)
    }
    fn visit_str<E>(self, v: &str) -> Result<Raw, E> {
        Ok(Raw::Str(SmolStr::new(v)))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut out = Vec::new();
        while let Some(v) = seq.next_element()? {
            out.push(v);
        }
        Ok(Raw::List(out))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut out: Vec<(SmolStr, Raw)> = Vec::new();
        while let Some(key) = map.next_key::<Key>()? {
            out.push((key.0, map.next_value()?));
        }
        if let Some(key) = twice(&out) {
            return Err(A::Error::custom(format!("the key `{key}` occurs twice")));
        }
        Ok(Raw::Map(out))
    }
}

struct Key(SmolStr);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E>(self, v: &str) -> Result<Key, E> {
                Ok(Key(SmolStr::new(v)))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

fn twice(pairs: &[(SmolStr, Raw)]) -> Option<SmolStr> {
    if pairs.len() <= 16 {
        let mut rest = pairs;
        while let Some(((key, _), tail)) = rest.split_first() {
            if tail.iter().any(|(k, _)| k == key) {
                return Some(key.clone());
            }
            rest = tail;
        }
        None
    } else {
        let mut seen = std::collections::HashSet::with_capacity(pairs.len());
        pairs.iter().find(|(k, _)| !seen.insert(k)).map(|(k, _)| k.clone())
    }
}

/// The message says what is wrong, without a path: this is the outside of the value.
pub fn from_json(bytes: &[u8]) -> Result<Raw, String> {
    if bytes.len() > MAX_JSON_BYTES {
        return Err(format!("the JSON has {} bytes; the limit is {MAX_JSON_BYTES}", bytes.len()));
    }
    serde_json::from_slice(bytes).map_err(|e| format!("not valid JSON: {e}"))
}

/// A Python value: JSON as `str` or `bytes`, or an object tree.
pub fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Result<Raw, String>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(from_json(bytes.as_bytes()));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(from_json(text.to_str()?.as_bytes()));
    }
    tree(value, 0)
}

fn tree(value: &Bound<'_, PyAny>, depth: usize) -> PyResult<Result<Raw, String>> {
    if depth > MAX_DEPTH {
        return Ok(Err(format!("nested deeper than {MAX_DEPTH} levels")));
    }
    // bool before int: a Python bool is an int.
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Ok(Raw::Str(SmolStr::new(text.to_str()?))));
    }
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(Ok(Raw::Bool(flag.is_true())));
    }
    if value.is_instance_of::<PyInt>() {
        return Ok(Ok(match value.extract::<i64>() {
            Ok(v) => Raw::Int(v),
            Err(_) => Raw::BigInt,
        }));
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        let mut out = Vec::with_capacity(dict.len());
        for (key, item) in dict.iter() {
            let Ok(key) = key.cast::<PyString>() else {
                return Ok(Err(format!(
                    "a key of a record must be a string, not a Python `{}`",
                    key.get_type().name()?
                )));
            };
            match tree(&item, depth + 1)? {
                Ok(item) => out.push((SmolStr::new(key.to_str()?), item)),
                Err(e) => return Ok(Err(e)),
            }
        }
        return Ok(Ok(Raw::Map(out)));
    }
    if let Ok(list) = value.cast::<PyList>() {
        return items(list.iter(), depth);
    }
    if let Ok(tuple) = value.cast::<PyTuple>() {
        return items(tuple.iter(), depth);
    }
    if value.is_instance_of::<PySet>() || value.is_instance_of::<PyFrozenSet>() {
        let members = value.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        return items(members.into_iter(), depth);
    }
    if value.is_none() {
        return Ok(Ok(Raw::Null));
    }
    if value.is_instance_of::<PyFloat>() {
        return Ok(Ok(Raw::Float));
    }
    Ok(Ok(Raw::Other(value.get_type().name()?.to_string())))
}

fn items<'py>(members: impl Iterator<Item = Bound<'py, PyAny>>, depth: usize) -> PyResult<Result<Raw, String>> {
    let mut out = Vec::new();
    for member in members {
        match tree(&member, depth + 1)? {
            Ok(v) => out.push(v),
            Err(e) => return Ok(Err(e)),
        }
    }
    Ok(Ok(Raw::List(out)))
}

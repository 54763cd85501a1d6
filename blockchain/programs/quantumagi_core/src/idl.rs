//! The IDL in Anchor's format (spec 0.1.0), from the declarations of this crate.
//!
//! `__anchor_private_print_idl` is the test by which the Anchor CLI asks a program for its IDL (`anchor build`);
//! `blockchain/build.sh` uses the same one.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // runs on the host, at build time
use crate::{declare::Field, error, event, instructions, state};

/// Where a local cluster has the program: SHA-256 of "acgs1/quantumagi_core/3", so nobody holds its key; 3 is the first
/// number for which both singletons have the bump 255. A deployment to another cluster has its own address.
pub const DEFAULT_ADDRESS: [u8; 32] = crate::digest::sha256(b"acgs1/quantumagi_core/3");

/// An account or event.
pub struct Struct {
    pub name: &'static str,
    pub discriminator: Option<[u8; 8]>,
    pub docs: Vec<&'static str>,
    pub fields: Vec<Field>,
}

/// An enumeration whose wire form is one byte.
pub struct Enum {
    pub name: &'static str,
    pub docs: Vec<&'static str>,
    pub variants: Vec<&'static str>,
}

/// A seed of an account's address.
pub enum Seed {
    /// Bytes.
    Const(&'static [u8]),
    /// The address of an account of the instruction (empty type), or a field of it: `account.field` and its type.
    Account(&'static str, &'static str),
    /// An argument of the instruction.
    Arg(&'static str),
    /// No seeds: the account is this program.
    Program(&'static str),
}

/// An account of an instruction.
pub struct Account {
    pub name: &'static str,
    pub flags: u8,
    pub seeds: Vec<Seed>,
    pub docs: &'static [&'static str],
}

/// An instruction.
pub struct Instruction {
    pub name: &'static str,
    pub discriminator: [u8; 8],
    pub docs: Vec<&'static str>,
    pub accounts: Vec<Account>,
    pub args: Vec<Field>,
}

fn text(s: &str) -> String {
    format!("\"{}\"", s.replace('\\', "\\\\").replace('"', "\\\""))
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(","))
}

fn object(fields: &[(&str, String)]) -> String {
    format!("{{{}}}", fields.iter().map(|(k, v)| format!("{}:{v}", text(k))).collect::<Vec<_>>().join(","))
}

fn bytes(value: &[u8]) -> String {
    list(value.iter().map(u8::to_string))
}

fn docs(lines: &[&str]) -> String {
    list(lines.iter().map(|line| text(line.trim())))
}

fn ty(rust: &str) -> String {
    match rust {
        "u8" | "u16" | "u32" | "u64" | "i64" | "bool" | "string" | "bytes" => text(rust),
        "Address" => text("pubkey"),
        _ => match rust.strip_prefix('[').and_then(|r| r.strip_suffix(']')).and_then(|r| r.split_once(';')) {
            Some((of, n)) => object(&[("array", list([ty(of.trim()), n.trim().to_string()]))]),
            None => object(&[("defined", object(&[("name", text(rust))]))]),
        },
    }
}

fn field(f: &Field) -> String {
    object(&[("name", text(f.name)), ("docs", docs(f.docs)), ("type", ty(f.ty))])
}

fn account(a: &Account) -> String {
    use instructions::flags::{OPTIONAL, SIGNER, WRITABLE};
    let mut parts = vec![("name", text(a.name)), ("docs", docs(a.docs))];
    for (flag, name) in [(WRITABLE, "writable"), (SIGNER, "signer"), (OPTIONAL, "optional")] {
        if a.flags & flag != 0 {
            parts.push((name, "true".into()));
        }
    }
    match a.seeds.as_slice() {
        [] => {}
        [Seed::Program(address)] => parts.push(("address", text(address))),
        seeds => {
            let seeds = seeds.iter().map(|seed| match seed {
                Seed::Const(value) => object(&[("kind", text("const")), ("value", bytes(value))]),
                Seed::Account(path, "") => object(&[("kind", text("account")), ("path", text(path))]),
                Seed::Account(path, of) => {
                    object(&[("kind", text("account")), ("path", text(path)), ("account", text(of))])
                }
                Seed::Arg(path) => object(&[("kind", text("arg")), ("path", text(path))]),
                Seed::Program(_) => panic!("a program has no seeds"),
            });
            parts.push(("pda", object(&[("seeds", list(seeds))])));
        }
    }
    object(&parts)
}

fn instruction(i: &Instruction) -> String {
    object(&[
        ("name", text(i.name)),
        ("docs", docs(&i.docs)),
        ("discriminator", bytes(&i.discriminator)),
        ("accounts", list(i.accounts.iter().map(account))),
        ("args", list(i.args.iter().map(field))),
    ])
}

fn named(s: &Struct) -> String {
    object(&[("name", text(s.name)), ("discriminator", bytes(&s.discriminator.unwrap_or_default()))])
}

fn structure(s: &Struct) -> String {
    let body = object(&[("kind", text("struct")), ("fields", list(s.fields.iter().map(field)))]);
    object(&[("name", text(s.name)), ("docs", docs(&s.docs)), ("type", body)])
}

fn enumeration(e: &Enum) -> String {
    let variants = list(e.variants.iter().map(|v| object(&[("name", text(v))])));
    let body = object(&[("kind", text("enum")), ("variants", variants)]);
    object(&[("name", text(e.name)), ("docs", docs(&e.docs)), ("type", body)])
}

fn accounts() -> Vec<Struct> {
    vec![
        state::Governance::idl(),
        state::Principle::idl(),
        state::Member::idl(),
        state::Proposal::idl(),
        state::Policy::idl(),
        state::Attestation::idl(),
        state::Emergency::idl(),
        state::LogAnchor::idl(),
    ]
}

fn enums() -> Vec<Enum> {
    vec![
        state::Role::idl(),
        state::PrincipleStatus::idl(),
        state::ProposalKind::idl(),
        state::ProposalStatus::idl(),
        state::Choice::idl(),
        state::EmergencyKind::idl(),
        state::EmergencyStatus::idl(),
    ]
}

fn base58(value: &[u8]) -> String {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut digits: Vec<u8> = vec![];
    for &byte in value {
        let mut carry = u32::from(byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 58) as u8;
            carry /= 58;
        }
        while carry > 0 {
            digits.push((carry % 58) as u8);
            carry /= 58;
        }
    }
    let zeros = value.iter().take_while(|b| **b == 0).map(|_| '1');
    zeros.chain(digits.iter().rev().map(|d| char::from(ALPHABET[usize::from(*d)]))).collect()
}

fn errors() -> String {
    list(
        error::idl()
            .iter()
            .map(|(code, name, msg)| object(&[("code", code.to_string()), ("name", text(name)), ("msg", text(msg))])),
    )
}

fn constants() -> String {
    use crate::rules::*;
    let constant = |name: &str, ty: &str, value: i64, doc: &str| {
        object(&[("name", text(name)), ("docs", docs(&[doc])), ("type", text(ty)), ("value", text(&value.to_string()))])
    };
    list([
        constant("MIN_THRESHOLD_BP", "u16", i64::from(MIN_THRESHOLD_BP), "The lowest threshold, in basis points."),
        constant("MAX_VOTING_PERIOD", "i64", MAX_VOTING_PERIOD, "The longest voting window, in seconds."),
        constant("ENACTMENT_PERIOD", "i64", ENACTMENT_PERIOD, "Seconds after the window in which to enact."),
        constant("MAX_EMERGENCY", "i64", MAX_EMERGENCY, "The longest unconfirmed emergency action, in seconds."),
        constant("COOL_DOWN", "i64", COOL_DOWN, "Seconds after its end in which an emergency action cannot be taken again."),
        constant(
            "RATIFICATION_PERIOD",
            "i64",
            RATIFICATION_PERIOD,
            "The shortest window of a vote on an emergency action where the governance's own is longer, in seconds.",
        ),
        constant("MAX_TITLE", "u8", MAX_TITLE as i64, "Bytes of a title."),
        constant("MAX_PRINCIPLES", "u16", i64::from(MAX_PRINCIPLES), "Principles ever, retired ones included."),
        constant("MAX_MEMBERS", "u32", i64::from(MAX_MEMBERS), "Members ever, removed ones included."),
    ])
}

/// The whole IDL as JSON, indented by two.
pub fn generate() -> String {
    let (accounts, events) = (accounts(), event::idl());
    let metadata = object(&[
        ("name", text(env!("CARGO_PKG_NAME"))),
        ("version", text(env!("CARGO_PKG_VERSION"))),
        ("spec", text("0.1.0")),
        ("description", text(env!("CARGO_PKG_DESCRIPTION"))),
    ]);
    let mut sorted = instructions::idl();
    sorted.sort_by_key(|i| i.name);
    let types = accounts.iter().chain(&events).map(structure).chain(enums().into_iter().map(|e| enumeration(&e)));
    indent(&object(&[
        ("address", text(&base58(&DEFAULT_ADDRESS))),
        ("metadata", metadata),
        ("instructions", list(sorted.iter().map(instruction))),
        ("accounts", list(accounts.iter().map(named))),
        ("events", list(events.iter().map(named))),
        ("errors", errors()),
        ("types", list(types)),
        ("constants", constants()),
    ]))
}

/// Indents compact JSON; lists of numbers stay on one line.
fn indent(json: &str) -> String {
    let (mut out, mut depth, mut quoted, mut escaped) = (String::new(), 0usize, false, false);
    let chars: Vec<char> = json.chars().collect();
    let mut flat = 0usize;
    for (i, &c) in chars.iter().enumerate() {
        if quoted {
            out.push(c);
            quoted = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
            continue;
        }
        let line = |out: &mut String, depth: usize| {
            out.push('\n');
            out.push_str(&"  ".repeat(depth));
        };
        match c {
            '"' => {
                quoted = true;
                out.push(c);
            }
            '[' | '{' if flat == 0 => {
                let next = chars.get(i + 1).copied().unwrap_or(' ');
                out.push(c);
                if c == '[' && (next.is_ascii_digit() || next == ']') {
                    flat = 1;
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            ']' if flat > 0 => {
                flat = 0;
                out.push(c);
            }
            ']' | '}' => {
                depth -= 1;
                line(&mut out, depth);
                out.push(c);
            }
            ',' if flat == 0 => {
                out.push(c);
                line(&mut out, depth);
            }
            ',' => out.push_str(", "),
            ':' => out.push_str(": "),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prints in the sections that `anchor idl build` reads.
    #[test]
    fn __anchor_private_print_idl() {
        let section = |name: &str, body: String| println!("--- IDL begin {name} ---\n{body}\n--- IDL end {name} ---");
        println!();
        section("address", base58(&DEFAULT_ADDRESS));
        let events = event::idl();
        for event in &events {
            section("event", object(&[("event", named(event)), ("types", list([structure(event)]))]));
        }
        section("errors", errors());
        section("program", generate());
    }

    #[test]
    fn base58_keeps_leading_zeros() {
        assert_eq!(base58(&[0, 0, 1]), "112");
        assert_eq!(base58(&[0; 32]), "1".repeat(32));
    }
}

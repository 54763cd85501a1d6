//! The same script for z3, for a second opinion on a verdict.
//!
//! z3 spells finite sets its own way: the sort `FiniteSet`, `set.in`, `set.intersect`, `set.difference`, and no
//! `set.insert`. Its models of them are often not decodable; use its verdict only.

use crate::sexpr::{parse, Node};

fn write(node: &Node<'_>, out: &mut String) {
    match node {
        Node::Atom("Set") => out.push_str("FiniteSet"),
        Node::Atom("set.member") => out.push_str("set.in"),
        Node::Atom("set.inter") => out.push_str("set.intersect"),
        Node::Atom("set.minus") => out.push_str("set.difference"),
        Node::Atom(a) => out.push_str(a),
        Node::List(items) => match items.split_first() {
            Some((Node::Atom("set.insert"), rest)) => insert(rest, out),
            _ => {
                out.push('(');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(' ');
                    }
                    write(item, out);
                }
                out.push(')');
            }
        },
    }
}

/// `(set.insert x y s)` is the union of `s` with the singletons of `x` and `y`.
fn insert(arguments: &[Node<'_>], out: &mut String) {
    match arguments.split_first() {
        None => {}
        Some((last, [])) => write(last, out),
        Some((first, rest)) => {
            out.push_str("(set.union (set.singleton ");
            write(first, out);
            out.push_str(") ");
            insert(rest, out);
            out.push(')');
        }
    }
}

/// The script in z3's dialect, without `(set-logic ..)`, `(get-model)` and options that only cvc5 has.
pub fn to_z3(script: &str) -> Result<String, String> {
    let mut out = String::with_capacity(script.len());
    for node in parse(script)? {
        if let Node::List(items) = &node {
            if let Some(Node::Atom("set-logic" | "get-model" | "get-info" | "set-info")) = items.first() {
                continue;
            }
        }
        write(&node, &mut out);
        out.push('\n');
    }
    Ok(out)
}

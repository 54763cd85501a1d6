//! The Boolean abstraction of a script: a weaker statement that a solver decides in a millisecond or two.
//!
//! Most obligations hold for reasons that need little theory: a permit asks for `!resource.personal` where the principle is
//! about `resource.personal`; a permit bounds an amount by 700 where the principle begins at 1000. The abstraction keeps the
//! script's Boolean structure, gives each theory atom a Boolean constant, and adds facts about the atoms that hold in every
//! interpretation. Bit-vectors, strings, sets and datatypes are gone.
//!
//! INVARIANT: whatever satisfies the script satisfies the abstraction, if each constant is read as its atom's truth. So if
//! the abstraction is unsatisfiable, the script is; if it is satisfiable, nothing is known. Every rule keeps that by itself: it
//! rewrites by an equivalence of the theories, or adds a fact that they imply, or leaves an atom without any meaning.
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write;

use crate::sexpr::{parse, Node};

/// How far `ite`, set and constructor terms are followed; beyond it an atom stays without meaning.
const MAX_DEPTH: usize = 64;
/// What an `ite` costs of that where both branches are followed without remembering what came out.
const BRANCHING: usize = 8;

/// A term by its place in `Abstraction::terms`; equal terms have equal places.
type Term = usize;
/// A formula by its place in `Abstraction::gates`; `FALSE` and `TRUE` are the first two.
type Formula = usize;

const FALSE: Formula = 0;
const TRUE: Formula = 1;

/// A signed bit-vector constant.
#[derive(Clone, Copy)]
struct Number {
    value: i128,
    width: u32,
}

impl Number {
    /// `(_ bvN W)` of at most 64 bits.
    fn of(node: &[Node<'_>]) -> Option<Number> {
        let [Node::Atom("_"), Node::Atom(literal), Node::Atom(width)] = node else { return None };
        let bits: i128 = literal.strip_prefix("bv")?.parse().ok()?;
        let width: u32 = width.parse().ok().filter(|w| (1..=64).contains(w))?;
        let modulus = 1_i128 << width;
        (0..modulus)
            .contains(&bits)
            .then(|| Number { value: if bits >= modulus / 2 { bits - modulus } else { bits }, width })
    }

    fn greatest(self) -> i128 {
        (1_i128 << (self.width - 1)) - 1
    }

    fn least(self) -> i128 {
        -(1_i128 << (self.width - 1))
    }
}

#[derive(Clone)]
struct Known {
    /// The operator, or the whole text of a leaf.
    head: String,
    arguments: Vec<Term>,
    number: Option<Number>,
    /// The name, where `head` is a constructor of a datatype.
    constructor: Option<String>,
    /// INVARIANT: two values of one sort at different places are different.
    value: bool,
    boolean: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Gate {
    Constant(bool),
    Atom(Atom),
    Not(Formula),
    And(Vec<Formula>),
    Or(Vec<Formula>),
    Iff(Formula, Formula),
    Ite(Formula, Formula, Formula),
}

/// What a Boolean constant of the abstraction stands for.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Atom {
    /// A Boolean term as such.
    Term(Term),
    /// The two are equal; the smaller place first.
    Equal(Term, Term),
    /// The term is at most the number, signed.
    AtMost(Term, i128),
    /// The first is at most the second, signed.
    Ordered(Term, Term),
    /// The first is a member of the second.
    Member(Term, Term),
}

#[derive(Default)]
struct Abstraction {
    symbols: HashMap<String, Term>,
    constructors: HashSet<String>,
    terms: Vec<Known>,
    places: HashMap<(String, Vec<Term>), Term>,
    gates: Vec<Gate>,
    gate_places: HashMap<Gate, Formula>,
    /// What a Boolean term has become.
    formulas: HashMap<Term, Formula>,
    /// What an equation has become; the smaller place first.
    equations: HashMap<(Term, Term), Formula>,
    asserted: Vec<Formula>,
}

/// The logic of every abstraction; a solver is told once.
pub const LOGIC: &str = "(set-logic QF_UF)\n";

/// A propositional script, ending in `(check-sat)`, that is satisfiable if `script` is. `LOGIC` is to stand before it.
///
/// None where nothing would be gained: a form of script that is not known here, or an abstraction without content.
pub fn abstraction(script: &str) -> Option<String> {
    let mut made = Abstraction::default();
    made.gate(Gate::Constant(false));
    made.gate(Gate::Constant(true));
    for command in parse(script).ok()? {
        let Node::List(command) = command else { return None };
        made.command(&command)?;
    }
    made.asserted.iter().any(|formula| *formula != TRUE).then(|| made.script())
}

fn makes_boolean(head: &str) -> bool {
    const HEADS: [&str; 14] = [
        "true",
        "false",
        "not",
        "and",
        "or",
        "=>",
        "=",
        "bvslt",
        "bvsle",
        "bvult",
        "bvule",
        "set.member",
        "set.subset",
        "str.in_re",
    ];
    HEADS.contains(&head) || head.starts_with("(_ is ")
}

fn text(node: &Node<'_>) -> String {
    let mut out = String::new();
    node.write(&mut out);
    out
}

// Reading.
impl Abstraction {
    /// None for a command that is not known.
    fn command(&mut self, command: &[Node<'_>]) -> Option<()> {
        match command {
            [Node::Atom("set-option" | "set-logic" | "check-sat" | "declare-fun"), ..] => {}
            [Node::Atom("declare-const"), Node::Atom(name), sort] => {
                let term = self.intern((*name).to_string(), Vec::new(), None);
                self.bind(name, sort, term)?;
            }
            [Node::Atom("declare-datatype"), Node::Atom(_), Node::List(body)] => {
                let constructors = match body.as_slice() {
                    [Node::Atom("par"), Node::List(_), Node::List(inner)] => inner,
                    _ => body,
                };
                for constructor in constructors {
                    let name = match constructor {
                        Node::Atom(name) => Some(*name),
                        Node::List(parts) => parts.first().and_then(|p| match p {
                            Node::Atom(name) => Some(*name),
                            Node::List(_) => None,
                        }),
                    };
                    self.constructors.insert(name?.to_string());
                }
            }
            [Node::Atom("define-fun"), Node::Atom(name), Node::List(parameters), sort, body]
                if parameters.is_empty() =>
            {
                let term = self.term(body)?;
                self.bind(name, sort, term)?;
                if self.is(term, |k| k.boolean) {
                    // In the order of the script, so that no formula is deep when it is made.
                    self.formula(term);
                }
            }
            [Node::Atom("assert"), body] => {
                let term = self.term(body)?;
                let formula = self.formula(term);
                self.asserted.push(formula);
            }
            _ => return None,
        }
        Some(())
    }

    /// None for a name that has a meaning already.
    fn bind(&mut self, name: &str, sort: &Node<'_>, term: Term) -> Option<()> {
        if let (Node::Atom("Bool"), Some(known)) = (sort, self.terms.get_mut(term)) {
            known.boolean = true;
        }
        self.symbols.insert(name.to_string(), term).is_none().then_some(())
    }

    fn term(&mut self, node: &Node<'_>) -> Option<Term> {
        let items = match node {
            Node::Atom(name) => {
                let known = self.symbols.get(*name).copied();
                return Some(known.unwrap_or_else(|| self.intern((*name).to_string(), Vec::new(), None)));
            }
            Node::List(items) => items,
        };
        match items.split_first()? {
            (Node::Atom("let" | "forall" | "exists" | "lambda" | "match" | "!"), _) => None,
            (Node::Atom("_" | "as"), _) => {
                let number = Number::of(items);
                // In one spelling, so that equal numbers have equal places.
                let spelled = number.map_or_else(|| text(node), |n| format!("(_ bv#{} {})", n.value, n.width));
                Some(self.intern(spelled, Vec::new(), number))
            }
            (head, arguments) => {
                let arguments = arguments.iter().map(|a| self.term(a)).collect::<Option<Vec<_>>>()?;
                Some(self.intern(text(head), arguments, None))
            }
        }
    }

    fn intern(&mut self, head: String, arguments: Vec<Term>, number: Option<Number>) -> Term {
        let key = (head, arguments);
        if let Some(place) = self.places.get(&key) {
            return *place;
        }
        let (head, arguments) = &key;
        // `(as none (Option String))` is the constructor `none` at one of its sorts.
        let name = head.strip_prefix("(as ").and_then(|rest| rest.split(' ').next()).unwrap_or(head);
        let constructor = self.constructors.contains(name).then(|| name.to_string());
        // An escape can spell one string in two ways; such a string is not taken for a value.
        let literal = head.starts_with('"') && !head.contains('\\');
        let truth = arguments.is_empty() && matches!(head.as_str(), "true" | "false");
        let known = Known {
            value: number.is_some()
                || literal
                || truth
                || (constructor.is_some() && arguments.iter().all(|a| self.is(*a, |k| k.value))),
            boolean: makes_boolean(head)
                || (head == "ite" && arguments.last().is_some_and(|a| self.is(*a, |k| k.boolean))),
            head: head.clone(),
            arguments: arguments.clone(),
            number,
            constructor,
        };
        let place = self.terms.len();
        self.terms.push(known);
        self.places.insert(key, place);
        place
    }

    fn is(&self, term: Term, what: impl Fn(&Known) -> bool) -> bool {
        self.terms.get(term).is_some_and(what)
    }

    fn number(&self, term: Term) -> Option<Number> {
        self.terms.get(term)?.number
    }

    /// Condition and branches of an `ite`.
    fn choice(&self, term: Term) -> Option<(Term, Term, Term)> {
        let known = self.terms.get(term)?;
        match (known.head.as_str(), known.arguments.as_slice()) {
            ("ite", [condition, yes, no]) => Some((*condition, *yes, *no)),
            _ => None,
        }
    }

    /// Constructor and arguments of a term that is one.
    fn construction(&self, term: Term) -> Option<(String, Vec<Term>)> {
        let known = self.terms.get(term)?;
        Some((known.constructor.clone()?, known.arguments.clone()))
    }

    /// The elements of a set that is written down.
    fn elements(&self, set: Term) -> Option<Vec<Term>> {
        let known = self.terms.get(set)?;
        if known.head.starts_with("(as set.empty ") {
            return Some(Vec::new());
        }
        let (base, listed) = known.arguments.split_last().filter(|_| known.head == "set.insert")?;
        // The encoder writes sets flat: a deeper one is not worth a loop.
        self.is(*base, |k| k.head.starts_with("(as set.empty ")).then(|| listed.to_vec())
    }
}

// Gates, simplified as they are made.
impl Abstraction {
    fn gate(&mut self, gate: Gate) -> Formula {
        if let Some(place) = self.gate_places.get(&gate) {
            return *place;
        }
        let place = self.gates.len();
        self.gates.push(gate.clone());
        self.gate_places.insert(gate, place);
        place
    }

    fn atom(&mut self, atom: Atom) -> Formula {
        self.gate(Gate::Atom(atom))
    }

    fn not(&mut self, formula: Formula) -> Formula {
        match self.gates.get(formula) {
            Some(Gate::Constant(value)) => {
                if *value {
                    FALSE
                } else {
                    TRUE
                }
            }
            Some(Gate::Not(inner)) => *inner,
            _ => self.gate(Gate::Not(formula)),
        }
    }

    fn and(&mut self, formulas: impl IntoIterator<Item = Formula>) -> Formula {
        let kept = joined(formulas, TRUE, FALSE);
        match kept.as_slice() {
            [] => TRUE,
            [only] => *only,
            _ => self.gate(Gate::And(kept)),
        }
    }

    fn or(&mut self, formulas: impl IntoIterator<Item = Formula>) -> Formula {
        let kept = joined(formulas, FALSE, TRUE);
        match kept.as_slice() {
            [] => FALSE,
            [only] => *only,
            _ => self.gate(Gate::Or(kept)),
        }
    }

    fn iff(&mut self, one: Formula, two: Formula) -> Formula {
        match (one.min(two), one.max(two)) {
            (a, b) if a == b => TRUE,
            (FALSE, b) => self.not(b),
            (TRUE, b) => b,
            (a, b) => self.gate(Gate::Iff(a, b)),
        }
    }

    fn ite(&mut self, condition: Formula, yes: Formula, no: Formula) -> Formula {
        match condition {
            TRUE => yes,
            FALSE => no,
            _ if yes == no => yes,
            _ => self.gate(Gate::Ite(condition, yes, no)),
        }
    }
}

/// `formulas` without repetition and `neutral`; `absorbing` alone if it is among them.
fn joined(formulas: impl IntoIterator<Item = Formula>, neutral: Formula, absorbing: Formula) -> Vec<Formula> {
    let mut kept = BTreeSet::new();
    for formula in formulas {
        if formula == absorbing {
            return vec![absorbing];
        }
        if formula != neutral {
            kept.insert(formula);
        }
    }
    kept.into_iter().collect()
}

// The rules.
impl Abstraction {
    fn all_of(&mut self, terms: &[Term]) -> Vec<Formula> {
        terms.iter().map(|t| self.formula(*t)).collect()
    }

    /// A Boolean term.
    fn formula(&mut self, term: Term) -> Formula {
        if let Some(found) = self.formulas.get(&term) {
            return *found;
        }
        let Some(known) = self.terms.get(term).cloned() else { return self.atom(Atom::Term(term)) };
        let made = match (known.head.as_str(), known.arguments.as_slice()) {
            ("true", []) => TRUE,
            ("false", []) => FALSE,
            ("not", [a]) => {
                let inner = self.formula(*a);
                self.not(inner)
            }
            ("and", all) => {
                let all = self.all_of(all);
                self.and(all)
            }
            ("or", all) => {
                let all = self.all_of(all);
                self.or(all)
            }
            ("=>", [a, b]) => {
                let premise = self.formula(*a);
                let otherwise = self.not(premise);
                let conclusion = self.formula(*b);
                self.or([otherwise, conclusion])
            }
            ("ite", [condition, yes, no]) => {
                let (condition, yes, no) = (self.formula(*condition), self.formula(*yes), self.formula(*no));
                self.ite(condition, yes, no)
            }
            ("=", [a, b]) => self.equal(*a, *b, MAX_DEPTH),
            ("bvsle", [a, b]) => self.at_most(*a, *b),
            ("bvslt", [a, b]) => {
                let reverse = self.at_most(*b, *a);
                self.not(reverse)
            }
            ("set.member", [element, set]) => self.member(*element, *set, MAX_DEPTH),
            ("set.subset", [part, whole]) => match self.elements(*part) {
                Some(elements) => {
                    let all: Vec<_> = elements.into_iter().map(|e| self.member(e, *whole, MAX_DEPTH)).collect();
                    self.and(all)
                }
                None => self.atom(Atom::Term(term)),
            },
            _ => self.atom(Atom::Term(term)),
        };
        self.formulas.insert(term, made);
        made
    }

    /// `one == two`, of one sort.
    fn equal(&mut self, one: Term, two: Term, depth: usize) -> Formula {
        if one == two {
            return TRUE;
        }
        if self.is(one, |k| k.value) && self.is(two, |k| k.value) {
            return FALSE;
        }
        if self.is(one, |k| k.boolean) || self.is(two, |k| k.boolean) {
            let (one, two) = (self.formula(one), self.formula(two));
            return self.iff(one, two);
        }
        let (one, two) = (one.min(two), one.max(two));
        if let Some(found) = self.equations.get(&(one, two)) {
            return *found;
        }
        let made = match depth.checked_sub(1) {
            Some(depth) => self.equation(one, two, depth),
            None => self.atom(Atom::Equal(one, two)),
        };
        self.equations.insert((one, two), made);
        made
    }

    fn equation(&mut self, one: Term, two: Term, depth: usize) -> Formula {
        // Constructors are injective, and different ones are disjoint.
        if let (Some((a, left)), Some((b, right))) = (self.construction(one), self.construction(two)) {
            if a != b {
                return FALSE;
            }
            let all: Vec<_> = left.iter().zip(&right).map(|(l, r)| self.equal(*l, *r, depth)).collect();
            return self.and(all);
        }
        for (term, other) in [(one, two), (two, one)] {
            if let Some(number) = self.number(other) {
                let at_most = self.bound(term, number.value, number, depth);
                let below = self.bound(term, number.value - 1, number, depth);
                let at_least = self.not(below);
                return self.and([at_most, at_least]);
            }
            let plain = self.is(other, |k| k.value || k.constructor.is_some());
            if let (true, Some((condition, yes, no))) = (plain, self.choice(term)) {
                let condition = self.formula(condition);
                let (yes, no) = (self.equal(yes, other, depth), self.equal(no, other, depth));
                return self.ite(condition, yes, no);
            }
            // An intersection with a written set is empty if the other set has none of its elements.
            if self.elements(other).is_some_and(|all| all.is_empty()) {
                if let Some((written, set)) = self.intersection(term) {
                    let found: Vec<_> = written.into_iter().map(|e| self.member(e, set, depth)).collect();
                    let some = self.or(found);
                    return self.not(some);
                }
            }
        }
        self.atom(Atom::Equal(one, two))
    }

    /// The elements of the written side of an intersection, and the other side.
    fn intersection(&self, term: Term) -> Option<(Vec<Term>, Term)> {
        let known = self.terms.get(term)?;
        match (known.head.as_str(), known.arguments.as_slice()) {
            ("set.inter", [a, b]) => match self.elements(*a) {
                Some(elements) => Some((elements, *b)),
                None => Some((self.elements(*b)?, *a)),
            },
            _ => None,
        }
    }

    fn member(&mut self, element: Term, set: Term, depth: usize) -> Formula {
        if let Some(elements) = self.elements(set) {
            let any: Vec<_> = elements.into_iter().map(|e| self.equal(element, e, depth)).collect();
            return self.or(any);
        }
        if let (Some((condition, yes, no)), Some(depth)) = (self.choice(set), depth.checked_sub(BRANCHING)) {
            let condition = self.formula(condition);
            let (yes, no) = (self.member(element, yes, depth), self.member(element, no, depth));
            return self.ite(condition, yes, no);
        }
        self.atom(Atom::Member(element, set))
    }

    /// `one <= two`, signed.
    fn at_most(&mut self, one: Term, two: Term) -> Formula {
        match (self.number(one), self.number(two)) {
            _ if one == two => TRUE,
            (Some(a), Some(b)) => {
                if a.value <= b.value {
                    TRUE
                } else {
                    FALSE
                }
            }
            (None, Some(b)) => self.bound(one, b.value, b, MAX_DEPTH),
            (Some(a), None) => {
                let below = self.bound(two, a.value - 1, a, MAX_DEPTH);
                self.not(below)
            }
            (None, None) => self.atom(Atom::Ordered(one, two)),
        }
    }

    /// `term <= limit`, signed; `like` has the width of both.
    fn bound(&mut self, term: Term, limit: i128, like: Number, depth: usize) -> Formula {
        if limit >= like.greatest() {
            return TRUE;
        }
        if limit < like.least() {
            return FALSE;
        }
        if let Some(number) = self.number(term) {
            return if number.value <= limit { TRUE } else { FALSE };
        }
        if let (Some((condition, yes, no)), Some(depth)) = (self.choice(term), depth.checked_sub(BRANCHING)) {
            let condition = self.formula(condition);
            let (yes, no) = (self.bound(yes, limit, like, depth), self.bound(no, limit, like, depth));
            return self.ite(condition, yes, no);
        }
        self.atom(Atom::AtMost(term, limit))
    }
}

// Writing.
impl Abstraction {
    fn script(mut self) -> String {
        let facts = self.facts();
        let mut out = String::new();
        for (place, gate) in self.gates.iter().enumerate() {
            let body = match gate {
                // Written where they are used.
                Gate::Constant(_) | Gate::Not(_) => continue,
                Gate::Atom(_) => {
                    // Writing to a string cannot fail.
                    let _ = writeln!(out, "(declare-const g{place} Bool)");
                    continue;
                }
                Gate::And(all) => format!("(and {})", self.names(all)),
                Gate::Or(all) => format!("(or {})", self.names(all)),
                Gate::Iff(a, b) => format!("(= {})", self.names(&[*a, *b])),
                Gate::Ite(c, a, b) => format!("(ite {})", self.names(&[*c, *a, *b])),
            };
            let _ = writeln!(out, "(define-fun g{place} () Bool {body})");
        }
        for formula in self.asserted.iter().chain(&facts) {
            let _ = writeln!(out, "(assert {})", self.name(*formula));
        }
        out.push_str("(check-sat)\n");
        out
    }

    fn name(&self, formula: Formula) -> String {
        match self.gates.get(formula) {
            Some(Gate::Constant(value)) => value.to_string(),
            // INVARIANT: what is negated is never a negation.
            Some(Gate::Not(inner)) => format!("(not g{inner})"),
            _ => format!("g{formula}"),
        }
    }

    fn names(&self, formulas: &[Formula]) -> String {
        formulas.iter().map(|f| self.name(*f)).collect::<Vec<_>>().join(" ")
    }

    /// What holds of the atoms in every interpretation.
    fn facts(&mut self) -> Vec<Formula> {
        let mut limits: BTreeMap<Term, BTreeSet<i128>> = BTreeMap::new();
        let mut ordered: Vec<(Term, Term)> = Vec::new();
        let mut values: BTreeMap<Term, Vec<Formula>> = BTreeMap::new();
        for (place, gate) in self.gates.iter().enumerate() {
            match gate {
                Gate::Atom(Atom::AtMost(term, limit)) => {
                    limits.entry(*term).or_default().insert(*limit);
                }
                Gate::Atom(Atom::Ordered(one, two)) => ordered.push((*one, *two)),
                Gate::Atom(Atom::Equal(one, two)) => {
                    for (term, other) in [(one, two), (two, one)] {
                        if self.is(*other, |k| k.value) {
                            values.entry(*term).or_default().push(place);
                        }
                    }
                }
                _ => {}
            }
        }
        let mut facts = Vec::new();
        for (one, two) in &ordered {
            let both: BTreeSet<i128> = [one, two].iter().filter_map(|t| limits.get(*t)).flatten().copied().collect();
            for limit in &both {
                let lower = self.atom(Atom::AtMost(*one, *limit));
                let upper = self.atom(Atom::AtMost(*two, *limit));
                let rises = self.atom(Atom::Ordered(*one, *two));
                let falls = self.not(rises);
                let (above_one, above_two) = (self.not(lower), self.not(upper));
                // one <= two <= limit, and two < one <= limit.
                facts.push(self.or([falls, above_two, lower]));
                facts.push(self.or([rises, above_one, upper]));
            }
            limits.insert(*one, both.clone());
            limits.insert(*two, both);
        }
        for (term, limits) in limits {
            let limits: Vec<i128> = limits.into_iter().collect();
            for pair in limits.windows(2) {
                if let [lower, upper] = pair {
                    let below = self.atom(Atom::AtMost(term, *lower));
                    let above_lower = self.not(below);
                    let at_most_upper = self.atom(Atom::AtMost(term, *upper));
                    facts.push(self.or([above_lower, at_most_upper]));
                }
            }
        }
        for (_, equations) in values {
            // A term has one value at most: each next one excludes all before it.
            let mut seen = FALSE;
            for equation in equations {
                let clash = self.and([seen, equation]);
                facts.push(self.not(clash));
                seen = self.or([seen, equation]);
            }
        }
        facts
    }
}

//! The properties that can be proved, and what refutes each.
use crate::errors::{Fail, Res};
use crate::model::Replay;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    AlwaysAllows,
    AlwaysDenies,
    Implies,
    Equivalent,
    Disjoint,
    NeverErrors,
    NeverMatches,
    AlwaysMatches,
    MatchesImplies,
    MatchesDisjoint,
    MatchesEquivalent,
}

pub const KINDS: [(&str, Kind); 11] = [
    ("always_allows", Kind::AlwaysAllows),
    ("always_denies", Kind::AlwaysDenies),
    ("implies", Kind::Implies),
    ("equivalent", Kind::Equivalent),
    ("disjoint", Kind::Disjoint),
    ("never_errors", Kind::NeverErrors),
    ("never_matches", Kind::NeverMatches),
    ("always_matches", Kind::AlwaysMatches),
    ("matches_implies", Kind::MatchesImplies),
    ("matches_disjoint", Kind::MatchesDisjoint),
    ("matches_equivalent", Kind::MatchesEquivalent),
];

impl Kind {
    pub fn parse(name: &str) -> Res<Self> {
        KINDS.iter().find(|(n, _)| *n == name).map(|(_, k)| *k).ok_or_else(|| {
            let all: Vec<String> = KINDS.iter().map(|(n, _)| format!("`{n}`")).collect();
            Fail::Prover(format!("unknown kind `{name}`; expected one of {}", all.join(", ")))
        })
    }

    pub fn over_sets(self) -> bool {
        matches!(self, Kind::AlwaysAllows | Kind::AlwaysDenies | Kind::Implies | Kind::Equivalent | Kind::Disjoint)
    }

    pub fn over_pairs(self) -> bool {
        matches!(self, Kind::MatchesImplies | Kind::MatchesDisjoint | Kind::MatchesEquivalent)
    }

    pub fn needs_b(self) -> bool {
        matches!(self, Kind::Implies | Kind::Equivalent | Kind::Disjoint)
    }

    /// Does the evaluator confirm that the property fails?
    pub fn refuted_by(self, a: &Replay, b: Option<&Replay>) -> bool {
        let allowed = |r: &Replay| r.allowed == Some(true);
        let matched = |r: &Replay| r.matched == Some(true);
        match (self, b) {
            (Kind::AlwaysAllows, _) => !allowed(a),
            (Kind::AlwaysDenies, _) => allowed(a),
            (Kind::Implies, Some(b)) => allowed(a) && !allowed(b),
            (Kind::Equivalent, Some(b)) => allowed(a) != allowed(b),
            (Kind::Disjoint, Some(b)) => allowed(a) && allowed(b),
            (Kind::NeverErrors, _) => !a.errors.is_empty(),
            (Kind::NeverMatches, _) => matched(a),
            (Kind::AlwaysMatches, _) => !matched(a),
            (Kind::MatchesImplies, Some(b)) => matched(a) && !matched(b),
            (Kind::MatchesDisjoint, Some(b)) => matched(a) && matched(b),
            (Kind::MatchesEquivalent, Some(b)) => matched(a) != matched(b),
            (_, None) => false,
        }
    }
}

//! The arithmetic of a vote, exact and pure. `src/acgs1/ledger/model.py` states the same rules in Python.
use crate::wide::product;

/// Basis points in a whole.
pub const BASIS_POINTS: u64 = 10_000;
/// A threshold below a majority would let a proposal and its opposite both pass.
pub const MIN_THRESHOLD_BP: u16 = 5_001;
/// The longest voting window, in seconds (30 days).
pub const MAX_VOTING_PERIOD: i64 = 30 * 24 * 3_600;
/// For how long after the end of its vote an accepted proposal may be enacted, in seconds (30 days).
pub const ENACTMENT_PERIOD: i64 = 30 * 24 * 3_600;
/// The longest emergency action without a confirming vote, in seconds (72 hours).
pub const MAX_EMERGENCY: i64 = 72 * 3_600;
/// Bytes of a title.
pub const MAX_TITLE: usize = 64;
/// Principles that can ever be registered, retired ones included.
pub const MAX_PRINCIPLES: u16 = 512;
/// Members that can ever be registered: two ballot bits of each fit an account that a single CPI can create.
pub const MAX_MEMBERS: u32 = 32_768;

/// The weights of a proposal's ballots, and of all who could vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    pub votes_for: u64,
    pub votes_against: u64,
    pub votes_abstain: u64,
    /// All weight when the proposal was made.
    pub total: u64,
}

/// How a vote stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The remaining weight decides.
    Open,
    Accepted,
    Rejected,
}

impl Tally {
    /// The weight that has voted; `None` when it exceeds `total`, which no sequence of votes can reach.
    #[inline(always)]
    pub fn cast(&self) -> Option<u64> {
        self.votes_for
            .checked_add(self.votes_against)
            .and_then(|sum| sum.checked_add(self.votes_abstain))
            .filter(|cast| *cast <= self.total)
    }

    /// Whether the weight that voted, abstentions included, is at least `quorum_bp` of the total.
    #[inline(always)]
    pub fn quorum_reached(&self, quorum_bp: u16) -> bool {
        match self.cast() {
            Some(cast) => product(cast, BASIS_POINTS) >= product(self.total, u64::from(quorum_bp)),
            None => false,
        }
    }

    /// `for * 10000 >= threshold * (for + against)`, and somebody is for it: an empty vote carries nothing.
    #[inline(always)]
    fn carries(votes_for: u64, votes_against: u64, threshold_bp: u16) -> bool {
        match votes_for.checked_add(votes_against) {
            Some(sum) => votes_for > 0 && product(votes_for, BASIS_POINTS) >= product(sum, u64::from(threshold_bp)),
            None => false,
        }
    }

    /// The outcome when voting is over.
    #[inline(always)]
    pub fn outcome(&self, threshold_bp: u16, quorum_bp: u16) -> Standing {
        if self.quorum_reached(quorum_bp) && Self::carries(self.votes_for, self.votes_against, threshold_bp) {
            Standing::Accepted
        } else {
            Standing::Rejected
        }
    }

    /// The outcome that no remaining vote can change, given that cast votes are final; `Open` where there is none.
    #[inline(always)]
    pub fn decided(&self, threshold_bp: u16, quorum_bp: u16) -> Standing {
        let Some(remaining) = self.cast().and_then(|cast| self.total.checked_sub(cast)) else {
            return Standing::Open;
        };
        // Both sums are at most `total`.
        let (Some(most_against), Some(most_for)) =
            (self.votes_against.checked_add(remaining), self.votes_for.checked_add(remaining))
        else {
            return Standing::Open;
        };
        if self.quorum_reached(quorum_bp) && Self::carries(self.votes_for, most_against, threshold_bp) {
            Standing::Accepted
        } else if !Self::carries(most_for, self.votes_against, threshold_bp) {
            Standing::Rejected
        } else {
            Standing::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(votes_for: u64, votes_against: u64, votes_abstain: u64, total: u64) -> Tally {
        Tally { votes_for, votes_against, votes_abstain, total }
    }

    #[test]
    fn exactly_the_threshold_is_accepted_and_one_less_is_not() {
        assert_eq!(tally(60, 40, 0, 100).outcome(6_000, 1), Standing::Accepted);
        assert_eq!(tally(59, 40, 0, 100).outcome(6_000, 1), Standing::Rejected);
        assert_eq!(tally(5_999, 4_001, 0, 10_000).outcome(6_000, 1), Standing::Rejected);
    }

    #[test]
    fn weights_near_the_end_of_64_bits_are_exact() {
        let half = u64::MAX / 2;
        assert_eq!(tally(half, half, 1, u64::MAX).outcome(5_001, 10_000), Standing::Rejected);
        assert_eq!(tally(u64::MAX, 0, 0, u64::MAX).outcome(10_000, 10_000), Standing::Accepted);
        assert_eq!(tally(u64::MAX - 1, 1, 0, u64::MAX).outcome(10_000, 10_000), Standing::Rejected);
        assert_eq!(tally(u64::MAX, u64::MAX, 0, u64::MAX).cast(), None);
    }

    #[test]
    fn abstentions_count_for_the_quorum_and_not_for_the_threshold() {
        assert_eq!(tally(1, 0, 49, 100).outcome(6_000, 5_000), Standing::Accepted);
        assert_eq!(tally(1, 0, 48, 100).outcome(6_000, 5_000), Standing::Rejected);
        assert_eq!(tally(0, 0, 100, 100).outcome(6_000, 5_000), Standing::Rejected);
    }

    #[test]
    fn decided_is_exactly_that_no_completion_changes_the_outcome() {
        for total in 1..=9u64 {
            for f in 0..=total {
                for a in 0..=(total - f) {
                    for n in 0..=(total - f - a) {
                        for (threshold, quorum) in [(5_001, 1), (6_000, 5_000), (6_667, 9_000), (10_000, 10_000)] {
                            let rest = total - f - a - n;
                            let mut seen = std::collections::HashSet::new();
                            for df in 0..=rest {
                                for da in 0..=(rest - df) {
                                    for dn in 0..=(rest - df - da) {
                                        let end = tally(f + df, a + da, n + dn, total).outcome(threshold, quorum);
                                        seen.insert(end == Standing::Accepted);
                                    }
                                }
                            }
                            let expected = match (seen.contains(&true), seen.contains(&false)) {
                                (true, false) => Standing::Accepted,
                                (false, true) => Standing::Rejected,
                                _ => Standing::Open,
                            };
                            assert_eq!(
                                tally(f, a, n, total).decided(threshold, quorum),
                                expected,
                                "{f} {a} {n} of {total}"
                            );
                        }
                    }
                }
            }
        }
    }
}

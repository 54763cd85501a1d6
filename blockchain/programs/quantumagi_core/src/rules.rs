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
/// For how long after its end an emergency action cannot be taken again, in seconds (72 hours). It makes the limit one
/// of the effect: an action that members ended, or did not confirm, is not there again at once under another number.
pub const COOL_DOWN: i64 = 72 * 3_600;
/// The shortest window of a vote on an emergency action where the governance's own is longer, in seconds (24 hours): it has
/// to end before the action does.
pub const RATIFICATION_PERIOD: i64 = 24 * 3_600;
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
    /// `rejection_acts`: a rejection by a quorum has an effect, and one without a quorum has none. Whether there is a
    /// quorum is then part of the outcome, and one that is not reached yet may still be.
    #[inline(always)]
    pub fn decided(&self, threshold_bp: u16, quorum_bp: u16, rejection_acts: bool) -> Standing {
        let Some(remaining) = self.cast().and_then(|cast| self.total.checked_sub(cast)) else {
            return Standing::Open;
        };
        // Both sums are at most `total`.
        let (Some(most_against), Some(most_for)) =
            (self.votes_against.checked_add(remaining), self.votes_for.checked_add(remaining))
        else {
            return Standing::Open;
        };
        // INVARIANT: a quorum that is reached stays reached.
        let quorum = self.quorum_reached(quorum_bp);
        if quorum && Self::carries(self.votes_for, most_against, threshold_bp) {
            Standing::Accepted
        } else if (quorum || !rejection_acts) && !Self::carries(most_for, self.votes_against, threshold_bp) {
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

    /// What a vote that ends so leads to.
    #[derive(Debug, PartialEq, Eq, Hash)]
    enum Effect {
        OfAcceptance,
        OfRejection,
        Nothing,
    }

    fn effect(end: Tally, threshold: u16, quorum: u16, rejection_acts: bool) -> Effect {
        match end.outcome(threshold, quorum) {
            Standing::Accepted => Effect::OfAcceptance,
            _ if rejection_acts && end.quorum_reached(quorum) => Effect::OfRejection,
            _ => Effect::Nothing,
        }
    }

    /// Every way in which the vote can end.
    fn completions(now: Tally) -> Vec<Tally> {
        let rest = now.total - now.cast().unwrap_or(now.total);
        let mut found = vec![];
        for f in 0..=rest {
            for a in 0..=(rest - f) {
                for n in 0..=(rest - f - a) {
                    found.push(tally(now.votes_for + f, now.votes_against + a, now.votes_abstain + n, now.total));
                }
            }
        }
        found
    }

    fn every_tally(total: u64) -> Vec<Tally> {
        completions(tally(0, 0, 0, total))
    }

    const RULES: [(u16, u16); 4] = [(5_001, 1), (6_000, 5_000), (6_667, 9_000), (10_000, 10_000)];

    #[test]
    fn decided_is_exactly_that_no_completion_changes_what_the_vote_leads_to() {
        for now in (1..=9).flat_map(every_tally) {
            for (threshold, quorum) in RULES {
                for rejection_acts in [false, true] {
                    let seen: std::collections::HashSet<_> =
                        completions(now).into_iter().map(|end| effect(end, threshold, quorum, rejection_acts)).collect();
                    let expected = match (seen.len(), seen.contains(&Effect::OfAcceptance)) {
                        (1, true) => Standing::Accepted,
                        (1, false) => Standing::Rejected,
                        _ => Standing::Open,
                    };
                    assert_eq!(now.decided(threshold, quorum, rejection_acts), expected, "{now:?} {rejection_acts}");
                }
            }
        }
    }

    #[test]
    fn a_rejection_that_acts_is_not_decided_before_its_quorum() {
        let now = tally(0, 41, 0, 100);
        assert_eq!(now.decided(6_000, 5_000, false), Standing::Rejected);
        assert_eq!(now.decided(6_000, 5_000, true), Standing::Open);
        assert_eq!(tally(0, 41, 9, 100).decided(6_000, 5_000, true), Standing::Rejected);
    }
}

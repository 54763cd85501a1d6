use super::{holds, Account};
use crate::{error::GovernanceError, rules::MAX_VOTING_PERIOD, sys::Pda};
use pinocchio::{error::ProgramError, Address};

account! {
    /// A voting member: a ballot slot for life, and the present weight with enough history that a change never
    /// reaches a vote that is already open.
    pub struct Member {
        /// The wallet that votes.
        wallet: Address,
        /// Weights, newest first.
        weights: [u64; 4],
        /// From which proposal index on the weight at the same place counts.
        since: [u64; 4],
        /// When the weight at the same place was set (Unix seconds).
        changed_at: [i64; 4],
        /// Proposals from this index on may change the member: one more than the last that did.
        open_to: u64,
        /// The pair of bits in every proposal's ballots.
        slot: u32,
        /// Whether the member has weight now.
        active: u8 as bool,
        /// The canonical bump.
        bump: u8,
        /// Zeros.
        reserved: [u8; 2],
    }
}

impl Member {
    /// The present weight; 0 once removed.
    #[inline(always)]
    pub fn weight(&self) -> u64 {
        let [newest, ..] = self.weights;
        newest
    }

    /// The weight for the proposal of that index: the one that held when it was made.
    #[inline(always)]
    pub fn weight_for(&self, proposal: u64) -> u64 {
        let ([w0, w1, w2, w3], [s0, s1, s2, s3]) = (self.weights, self.since);
        if proposal >= s0 {
            w0
        } else if proposal >= s1 {
            w1
        } else if proposal >= s2 {
            w2
        } else if proposal >= s3 {
            w3
        } else {
            0
        }
    }

    /// Sets the weight for proposals from `next_proposal` on; 0 removes the member.
    ///
    /// History is kept as long as a vote may need it: nothing when no vote is open, and nothing that is older than
    /// the longest voting window. Where three weights are not enough, the change is refused until a vote is finalized;
    /// the fourth place is a removal's, which is never refused.
    #[inline(always)]
    pub fn set_weight(
        &mut self,
        weight: u64,
        next_proposal: u64,
        open_proposals: u64,
        now: i64,
    ) -> Result<(), ProgramError> {
        let ([w0, w1, w2, w3], [s0, s1, s2, _], [t0, t1, t2, t3]) = (self.weights, self.since, self.changed_at);
        // A weight counts for proposals before the index from which the next one does. The last of those was made when that
        // one was set, at the latest.
        let spent = |weight: u64, replaced_at: i64| {
            weight == 0 || now.checked_sub(replaced_at).is_some_and(|age| age > MAX_VOTING_PERIOD)
        };
        if open_proposals == 0 {
            // No open vote asks for a past weight.
            (self.weights, self.since, self.changed_at) = ([weight, 0, 0, 0], [next_proposal; 4], [now; 4]);
        } else if weight == 0 {
            (self.weights, self.since, self.changed_at) = if s0 == next_proposal {
                // No proposal has seen the last weight.
                ([0, w1, w2, w3], self.since, [now, t1, t2, t3])
            } else {
                ([0, w0, w1, w2], [next_proposal, s0, s1, s2], [now, t0, t1, t2])
            };
        } else if !spent(w3, t2) {
            return Err(GovernanceError::WeightChangeLimit.into());
        } else if s0 == next_proposal {
            (self.weights, self.changed_at) = ([weight, w1, w2, 0], [now, t1, t2, t3]);
        } else if spent(w2, t1) {
            (self.weights, self.since, self.changed_at) =
                ([weight, w0, w1, 0], [next_proposal, s0, s1, s2], [now, t0, t1, t2]);
        } else {
            return Err(GovernanceError::WeightChangeLimit.into());
        }
        self.active = u8::from(weight > 0);
        Ok(())
    }
}

// SAFETY: declared by `account!`; integers, addresses and arrays only.
unsafe impl Account for Member {
    const TAG: [u8; 8] = Self::DISCRIMINATOR;

    #[inline(always)]
    fn pda(&self) -> Pda<'_> {
        Pda { tag: b"member", key: self.wallet.as_array() }
    }

    #[inline(always)]
    fn bump(&self) -> u8 {
        self.bump
    }

    #[inline(always)]
    fn invariant(&self) -> Result<(), ProgramError> {
        let ([.., w3], [s0, s1, s2, s3]) = (self.weights, self.since);
        holds(
            self.active <= 1
                && (self.active == 1) == (self.weight() > 0)
                // There is room for a removal.
                && (self.active == 0 || w3 == 0)
                && s0 >= s1
                && s1 >= s2
                && s2 >= s3,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(weight: u64, next_proposal: u64) -> Member {
        Member {
            discriminator: Member::DISCRIMINATOR,
            wallet: Address::new_from_array([1; 32]),
            weights: [weight, 0, 0, 0],
            since: [next_proposal; 4],
            changed_at: [0; 4],
            open_to: 0,
            slot: 0,
            active: 1,
            bump: 255,
            reserved: [0; 2],
        }
    }

    #[test]
    fn a_change_counts_from_the_next_proposal_on() {
        let mut m = member(5, 3);
        assert_eq!(m.weight_for(2), 0);
        assert_eq!(m.weight_for(3), 5);
        assert!(m.set_weight(9, 4, 1, 10).is_ok());
        assert_eq!((m.weight_for(2), m.weight_for(3), m.weight_for(4)), (0, 5, 9));
        assert!(m.set_weight(7, 5, 1, 20).is_ok());
        assert_eq!((m.weight_for(2), m.weight_for(3), m.weight_for(4), m.weight_for(5)), (0, 5, 9, 7));
    }

    #[test]
    fn history_that_an_open_vote_may_need_is_never_dropped() {
        let mut m = member(5, 0);
        assert!(m.set_weight(6, 1, 1, 10).is_ok());
        assert!(m.set_weight(7, 2, 1, 20).is_ok());
        assert!(m.set_weight(8, 2, 1, 30).is_ok()); // no proposal in between
        assert!(m.set_weight(9, 3, 1, 40).is_err());
        assert_eq!(m.weight_for(0), 5);
        // The last proposal before `since[1]` = 1 was made by then, at second 10 at the latest.
        assert!(m.set_weight(9, 3, 1, 10 + MAX_VOTING_PERIOD).is_err());
        assert!(m.set_weight(9, 3, 1, 11 + MAX_VOTING_PERIOD).is_ok());
        assert!(m.set_weight(3, 4, 0, 50).is_ok()); // nothing is open
        assert_eq!(m.weight_for(4), 3);
    }
    #[test]
    fn a_member_is_removed_however_many_weights_open_votes_need() {
        let mut m = member(5, 0);
        assert!(m.set_weight(6, 1, 1, 10).is_ok());
        assert!(m.set_weight(7, 2, 1, 20).is_ok());
        assert!(m.set_weight(8, 3, 1, 30).is_err());
        assert!(m.set_weight(0, 3, 1, 30).is_ok());
        assert_eq!([0, 1, 2, 3].map(|proposal| m.weight_for(proposal)), [5, 6, 7, 0]);
        // Back again only where a removal would find room again.
        assert!(m.set_weight(9, 3, 1, 31).is_err());
        assert!(m.set_weight(9, 4, 1, 31).is_err());
        assert!(m.set_weight(9, 4, 1, 11 + MAX_VOTING_PERIOD).is_err());
        assert!(m.set_weight(9, 4, 1, 21 + MAX_VOTING_PERIOD).is_ok());
        assert_eq!([2, 3, 4].map(|proposal| m.weight_for(proposal)), [7, 0, 9]);
    }

    #[test]
    fn removals_and_returns_in_turn_never_drop_what_an_open_vote_may_need() {
        // Every sequence of six changes, with or without a proposal before each; all votes stay open.
        for choices in 0..4u32.pow(6) {
            let mut m = member(5, 0);
            let mut made = vec![5u64]; // the weight that each proposal has seen
            for step in 0..6u32 {
                let choice = choices >> (2 * step) & 3;
                if choice & 1 != 0 {
                    made.push(m.weight());
                }
                // Who is removed already comes back.
                let weight = if choice & 2 != 0 && m.active != 0 { 0 } else { 10 + u64::from(step) };
                let before = (m.weights, m.since, m.changed_at, m.active);
                let done = m.set_weight(weight, made.len() as u64, 1, i64::from(step));
                if done.is_err() {
                    assert!(weight > 0, "a removal is never refused");
                    assert_eq!((m.weights, m.since, m.changed_at, m.active), before);
                }
                assert!(m.invariant().is_ok());
                for (proposal, weight) in made.iter().enumerate() {
                    assert_eq!(m.weight_for(proposal as u64), *weight, "{choices:b} {step}");
                }
            }
        }
    }
}

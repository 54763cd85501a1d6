use super::{field_bytes, holds, Account};
use crate::{
    error::GovernanceError,
    rules::{Tally, ENACTMENT_PERIOD},
    sys::Pda,
};
use pinocchio::{error::ProgramError, Address};

byte_enum! {
    /// What a proposal is about, and so what its content hash is the hash of.
    pub enum ProposalKind {
        /// A policy set; the content hash is the policy's, and a certificate hash goes with it. `enact`.
        Policy = 0,
        /// One principle; the content hash is the SHA-256 of the data of the `add_principle`, `amend_principle` or
        /// `retire_principle` instruction that will carry it out.
        Principle = 1,
        /// A member; as above, of `register_member`, `set_weight` or `remove_member`.
        Membership = 2,
        /// The parameters; as above, of `set_parameters`.
        Parameters = 3,
        /// The confirmation of an emergency action; the content hash is the address of its account. `enact`.
        EmergencyRatification = 4,
        /// A new text of the whole constitution; the content hash is its hash. `enact`.
        Constitution = 5,
    }
}

byte_enum! {
    /// Where a proposal stands.
    pub enum ProposalStatus {
        /// Open for votes.
        Active = 0,
        /// Carried; may be enacted for 30 days after the end of its window.
        Accepted = 1,
        /// Not carried.
        Rejected = 2,
        /// Carried out.
        Enacted = 3,
        /// Taken back by the proposer before anybody had voted.
        Cancelled = 4,
    }
}

byte_enum! {
    /// A member's answer.
    pub enum Choice {
        /// In favour.
        For = 0,
        /// Opposed.
        Against = 1,
        /// Counts for the quorum alone.
        Abstain = 2,
    }
}

impl ProposalKind {
    /// Whether a rejection by a quorum has an effect of its own.
    #[inline(always)]
    pub const fn rejection_acts(kind: u8) -> bool {
        kind == Self::EmergencyRatification as u8
    }
}

account! {
    /// A proposal, with everything that its outcome depends on as it was when it was made.
    pub struct Proposal {
        /// Its number, from 0.
        index: u64,
        /// The sum of all weights when it was made.
        total_weight: u64,
        /// Weight in favour.
        votes_for: u64,
        /// Weight opposed.
        votes_against: u64,
        /// Weight that abstained.
        votes_abstain: u64,
        /// When it was made (Unix seconds).
        starts_at: i64,
        /// From when on no vote is taken (Unix seconds).
        ends_at: i64,
        /// Who made it and paid its rent.
        proposer: Address,
        /// What it is about; see `ProposalKind`.
        content_hash: [u8; 32],
        /// The verification certificate of a policy; zeros for the other kinds.
        certificate_hash: [u8; 32],
        /// The threshold when it was made.
        threshold_bp: u16,
        /// The quorum when it was made.
        quorum_bp: u16,
        /// What it is about.
        kind: u8 as ProposalKind,
        /// Where it stands.
        status: u8 as ProposalStatus,
        /// Whether votes may be changed.
        vote_change_allowed: u8 as bool,
        /// The canonical bump.
        bump: u8,
        /// The constitution version when it was made.
        constitution_version: u32,
        /// Bytes of ballots that follow; empty once finalized.
        ballots_len: u32,
    }
    then
    /// Two bits for each member slot, lowest first: 0 no vote, 1 for, 2 against, 3 abstain.
    ballots
}

impl Proposal {
    /// Bytes for the ballots of `slots` members.
    #[inline(always)]
    pub fn ballot_bytes(slots: u32) -> u32 {
        // `div_ceil` by four, without overflow.
        (slots >> 2).saturating_add(u32::from(slots & 3 != 0))
    }

    /// The votes so far.
    #[inline(always)]
    pub fn tally(&self) -> Tally {
        Tally {
            votes_for: self.votes_for,
            votes_against: self.votes_against,
            votes_abstain: self.votes_abstain,
            total: self.total_weight,
        }
    }

    /// Adds `weight` to the side of `choice`.
    #[inline(always)]
    pub fn add(&mut self, choice: Choice, weight: u64) -> Result<(), ProgramError> {
        let side = self.side(choice);
        *side = side.checked_add(weight).ok_or(GovernanceError::WeightOverflow)?;
        Ok(())
    }

    /// Takes `weight` back from the side of `choice`.
    #[inline(always)]
    pub fn subtract(&mut self, choice: Choice, weight: u64) -> Result<(), ProgramError> {
        let side = self.side(choice);
        *side = side.checked_sub(weight).ok_or(GovernanceError::InvariantViolated)?;
        Ok(())
    }

    #[inline(always)]
    fn side(&mut self, choice: Choice) -> &mut u64 {
        match choice {
            Choice::For => &mut self.votes_for,
            Choice::Against => &mut self.votes_against,
            Choice::Abstain => &mut self.votes_abstain,
        }
    }

    /// Until when it may be enacted.
    #[inline(always)]
    pub fn lapses_at(&self) -> i64 {
        self.ends_at.saturating_add(ENACTMENT_PERIOD)
    }

    /// Whether it stands at `status`.
    #[inline(always)]
    pub fn is(&self, status: ProposalStatus) -> bool {
        self.status == status as u8
    }

    /// Checks that the constitution is still the one that the proposal set out to change. An amendment carries the hash
    /// of the whole text; over another one it would undo what was amended in between.
    #[inline(always)]
    pub fn check_base(&self, constitution_version: u32) -> Result<(), ProgramError> {
        if self.constitution_version == constitution_version {
            Ok(())
        } else {
            Err(GovernanceError::WrongConstitutionVersion.into())
        }
    }

    /// Whether the vote has decided something that is not carried out yet.
    #[inline(always)]
    pub fn awaits_enactment(&self) -> bool {
        self.is(ProposalStatus::Accepted)
            || self.is(ProposalStatus::Rejected)
                && ProposalKind::rejection_acts(self.kind)
                && self.tally().quorum_reached(self.quorum_bp)
    }

    /// Checks that this is a proposal of `kind` that awaits its enactment, in its time, and marks it as carried out.
    #[inline(always)]
    pub fn take_effect(&mut self, kind: ProposalKind, now: i64) -> Result<(), ProgramError> {
        if self.kind != kind as u8 {
            return Err(GovernanceError::WrongProposalKind.into());
        }
        if !self.awaits_enactment() {
            return Err(GovernanceError::ProposalNotAccepted.into());
        }
        if now >= self.lapses_at() {
            return Err(GovernanceError::ProposalLapsed.into());
        }
        self.status = ProposalStatus::Enacted as u8;
        self.invariant()
    }
}

// SAFETY: declared by `account!`; integers, addresses and arrays only.
unsafe impl Account for Proposal {
    const TAG: [u8; 8] = Self::DISCRIMINATOR;

    #[inline(always)]
    fn pda(&self) -> Pda<'_> {
        Pda { tag: b"proposal", key: field_bytes!(self.index, 8) }
    }

    #[inline(always)]
    fn bump(&self) -> u8 {
        self.bump
    }

    #[inline(always)]
    fn tail(&self) -> usize {
        self.ballots_len as usize
    }

    #[inline(always)]
    fn invariant(&self) -> Result<(), ProgramError> {
        holds(
            self.tally().cast().is_some()
                // There are ballots as long as there is a vote, and then no more.
                && self.is(ProposalStatus::Active) == (self.ballots_len > 0)
                && self.ends_at > self.starts_at
                && self.total_weight > 0
                && self.vote_change_allowed <= 1
                && ProposalKind::from_byte(self.kind).is_some()
                && ProposalStatus::from_byte(self.status).is_some(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ballots_are_there_exactly_as_long_as_the_vote_is_open() {
        let mut proposal = Proposal {
            discriminator: Proposal::DISCRIMINATOR,
            index: 0,
            total_weight: 1,
            votes_for: 0,
            votes_against: 0,
            votes_abstain: 0,
            starts_at: 0,
            ends_at: 1,
            proposer: Address::new_from_array([1; 32]),
            content_hash: [1; 32],
            certificate_hash: [0; 32],
            threshold_bp: 6_000,
            quorum_bp: 5_000,
            kind: ProposalKind::Constitution as u8,
            status: ProposalStatus::Active as u8,
            vote_change_allowed: 0,
            bump: 255,
            constitution_version: 1,
            ballots_len: 1,
        };
        assert_eq!((proposal.invariant().is_ok(), proposal.tail()), (true, 1));
        for status in 1..=4u8 {
            proposal.status = status;
            assert!(proposal.invariant().is_err());
        }
        proposal.ballots_len = 0;
        assert!(proposal.invariant().is_ok());
        proposal.status = ProposalStatus::Active as u8;
        assert!(proposal.invariant().is_err());
    }
}

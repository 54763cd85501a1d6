use super::{holds, Account};
use crate::{
    error::GovernanceError,
    rules::{BASIS_POINTS, MAX_MEMBERS, MAX_PRINCIPLES, MAX_VOTING_PERIOD, MIN_THRESHOLD_BP},
    sys::Pda,
};
use pinocchio::{error::ProgramError, Address};

byte_enum! {
    /// An authority of the governance account.
    pub enum Role {
        /// Bootstraps the registers until ratification; nothing after it.
        Council = 0,
        /// Takes emergency actions.
        Emergency = 1,
        /// Anchors the transparency log.
        Log = 2,
        /// Attests verification certificates.
        Verifier = 3,
    }
}

account! {
    /// The one governance account: authorities, parameters, the constitution in force, counters.
    pub struct Governance {
        /// Bootstraps the registers until ratification.
        council: Address,
        /// Takes emergency actions.
        emergency: Address,
        /// Anchors the transparency log.
        log: Address,
        /// Attests verification certificates.
        verifier: Address,
        /// To whom the council authority is on offer; zero if to nobody. The same for the next three.
        pending_council: Address,
        /// To whom the emergency authority is on offer.
        pending_emergency: Address,
        /// To whom the log authority is on offer.
        pending_log: Address,
        /// To whom the verifier authority is on offer.
        pending_verifier: Address,
        /// SHA-256 of the constitution in force.
        constitution_hash: [u8; 32],
        /// The sum of all members' present weights.
        total_weight: u64,
        /// The shortest voting window, in seconds.
        voting_period: i64,
        /// Until when (Unix seconds) no policy can be enacted; 0 if never frozen.
        frozen_until: i64,
        /// Proposals ever made; the index of the next.
        proposal_count: u64,
        /// Proposals that are not finalized or cancelled.
        open_proposals: u64,
        /// Emergency actions ever taken; the index of the next.
        emergency_count: u64,
        /// Proposals from this index on may change the parameters: one more than the last that did.
        parameters_open_to: u64,
        /// Counts amendments of the constitution, from 1.
        constitution_version: u32,
        /// Ballot slots ever given out.
        member_slots: u32,
        /// Members with weight.
        active_members: u32,
        /// Principles ever added; the index of the next.
        principle_count: u16,
        /// Principles not retired.
        active_principles: u16,
        /// Accepted iff `for * 10000 >= threshold_bp * (for + against)`.
        threshold_bp: u16,
        /// Share of the total weight that has to vote, in basis points.
        quorum_bp: u16,
        /// Whether the bootstrap is over.
        ratified: u8 as bool,
        /// Whether members may change a vote until the window closes; such votes cannot finish early.
        vote_change_allowed: u8 as bool,
        /// The canonical bump.
        bump: u8,
        /// Zero.
        reserved: u8,
    }
}

impl Governance {
    /// The current holder of `role`.
    #[inline(always)]
    pub fn holder(&self, role: Role) -> &Address {
        match role {
            Role::Council => &self.council,
            Role::Emergency => &self.emergency,
            Role::Log => &self.log,
            Role::Verifier => &self.verifier,
        }
    }

    /// The places of the holder of `role` and of the one it is on offer to.
    #[inline(always)]
    pub fn seat(&mut self, role: Role) -> (&mut Address, &mut Address) {
        match role {
            Role::Council => (&mut self.council, &mut self.pending_council),
            Role::Emergency => (&mut self.emergency, &mut self.pending_emergency),
            Role::Log => (&mut self.log, &mut self.pending_log),
            Role::Verifier => (&mut self.verifier, &mut self.pending_verifier),
        }
    }

    /// Records a change of the constitution: in the bootstrap its text is still being written, after ratification
    /// each change is a new version and makes older attestations stale.
    #[inline(always)]
    pub fn amend(&mut self, constitution_hash: [u8; 32]) -> Result<(), ProgramError> {
        if constitution_hash == [0; 32] {
            return Err(GovernanceError::ZeroValue.into());
        }
        self.constitution_hash = constitution_hash;
        if self.ratified != 0 {
            self.constitution_version =
                self.constitution_version.checked_add(1).ok_or(ProgramError::ArithmeticOverflow)?;
        }
        Ok(())
    }

    /// Checks the parameters that a vote can set.
    #[inline(always)]
    pub fn check_parameters(voting_period: i64, threshold_bp: u16, quorum_bp: u16) -> Result<(), ProgramError> {
        if !(1..=MAX_VOTING_PERIOD).contains(&voting_period) {
            return Err(GovernanceError::InvalidVotingPeriod.into());
        }
        if threshold_bp < MIN_THRESHOLD_BP || u64::from(threshold_bp) > BASIS_POINTS {
            return Err(GovernanceError::InvalidThreshold.into());
        }
        if quorum_bp == 0 || u64::from(quorum_bp) > BASIS_POINTS {
            return Err(GovernanceError::InvalidQuorum.into());
        }
        Ok(())
    }
}

// SAFETY: declared by `account!`; integers, addresses and arrays only.
unsafe impl Account for Governance {
    const TAG: [u8; 8] = Self::DISCRIMINATOR;

    #[inline(always)]
    fn pda(&self) -> Pda<'_> {
        Pda { tag: b"governance", key: &[] }
    }

    #[inline(always)]
    fn bump(&self) -> u8 {
        self.bump
    }

    #[inline(always)]
    fn invariant(&self) -> Result<(), ProgramError> {
        Self::check_parameters(self.voting_period, self.threshold_bp, self.quorum_bp)?;
        holds(
            self.ratified <= 1
                && self.vote_change_allowed <= 1
                && self.constitution_version >= 1
                && self.active_members <= self.member_slots
                && self.member_slots <= MAX_MEMBERS
                && self.active_principles <= self.principle_count
                && self.principle_count <= MAX_PRINCIPLES
                && self.open_proposals <= self.proposal_count
                && self.total_weight >= u64::from(self.active_members)
                && (self.total_weight == 0) == (self.active_members == 0)
                && (self.ratified == 0 || self.active_members > 0)
                && self.frozen_until >= 0,
        )
    }
}

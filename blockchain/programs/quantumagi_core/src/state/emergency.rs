use super::{field_bytes, holds, Account};
use crate::{error::GovernanceError, rules::COOL_DOWN, sys::Pda};
use pinocchio::{error::ProgramError, Address};

byte_enum! {
    /// What an emergency action does.
    pub enum EmergencyKind {
        /// Suspends the policy whose hash is the target.
        SuspendPolicy = 0,
        /// Lets no policy be enacted.
        FreezeActivation = 1,
        /// Revokes the agent whose hashed identifier is the target.
        RevokeAgent = 2,
    }
}

byte_enum! {
    /// Where an emergency action stands.
    pub enum EmergencyStatus {
        /// In effect until `expires_at`.
        Active = 0,
        /// Confirmed by a vote; in effect until another vote ends it.
        Confirmed = 1,
        /// Ended by the authority or by a vote.
        Ended = 2,
    }
}

account! {
    /// A measure that takes effect without a vote, for at most 72 hours unless a vote confirms it. Its account stays until the
    /// cool-down after its end is over; that of a revocation stands at an address named by the agent, so that there is one
    /// for each agent, and keeps the cool-down as well.
    pub struct Emergency {
        /// Its number, from 0.
        index: u64,
        /// When it was taken (Unix seconds).
        issued_at: i64,
        /// From when on it has no effect (Unix seconds); the largest number once confirmed.
        expires_at: i64,
        /// What it is aimed at; zeros for a freeze.
        target: [u8; 32],
        /// Who took it and paid its rent.
        issuer: Address,
        /// Proposals from this index on may decide about it: at first the next one, then one more than the last that did.
        open_to: u64,
        /// What it does.
        kind: u8 as EmergencyKind,
        /// Where it stands.
        status: u8 as EmergencyStatus,
        /// The canonical bump.
        bump: u8,
        /// Zeros.
        reserved: [u8; 5],
    }
}

/// Checks that a target that was held until `held_until` (0: never) can be held anew.
#[inline(always)]
pub fn check_free(held_until: i64, now: i64) -> Result<(), ProgramError> {
    if now < held_until {
        Err(GovernanceError::EmergencyAlreadyActive.into())
    } else if held_until != 0 && now < held_until.saturating_add(COOL_DOWN) {
        Err(GovernanceError::EmergencyCoolingDown.into())
    } else {
        Ok(())
    }
}

impl Emergency {
    /// Whether it has effect at `now`.
    #[inline(always)]
    pub fn in_effect(&self, now: i64) -> bool {
        self.status != EmergencyStatus::Ended as u8 && now < self.expires_at
    }

    /// Checks that the action can be forgotten: it is over, and so is its cool-down.
    #[inline(always)]
    pub fn check_over(&self, now: i64) -> Result<(), ProgramError> {
        if self.in_effect(now) {
            return Err(GovernanceError::EmergencyStillActive.into());
        }
        check_free(self.expires_at, now)
    }
}

// SAFETY: declared by `account!`; integers, addresses and arrays only.
unsafe impl Account for Emergency {
    const TAG: [u8; 8] = Self::DISCRIMINATOR;

    #[inline(always)]
    fn pda(&self) -> Pda<'_> {
        // The two kinds of keys differ in length, so no agent names an index's address.
        let key: &[u8] =
            if self.kind == EmergencyKind::RevokeAgent as u8 { &self.target } else { field_bytes!(self.index, 8) };
        Pda { tag: b"emergency", key }
    }

    #[inline(always)]
    fn bump(&self) -> u8 {
        self.bump
    }

    #[inline(always)]
    fn invariant(&self) -> Result<(), ProgramError> {
        holds(
            self.expires_at >= self.issued_at
                && EmergencyKind::from_byte(self.kind).is_some()
                && EmergencyStatus::from_byte(self.status).is_some(),
        )
    }
}

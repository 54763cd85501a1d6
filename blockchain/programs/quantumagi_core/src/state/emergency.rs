use super::{field_bytes, holds, Account};
use crate::sys::Pda;
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
    /// A measure that takes effect without a vote, for at most 72 hours unless a vote confirms it.
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

impl Emergency {
    /// Whether it has effect at `now`.
    #[inline(always)]
    pub fn in_effect(&self, now: i64) -> bool {
        self.status != EmergencyStatus::Ended as u8 && now < self.expires_at
    }
}

// SAFETY: declared by `account!`; integers, addresses and arrays only.
unsafe impl Account for Emergency {
    const TAG: [u8; 8] = Self::DISCRIMINATOR;

    #[inline(always)]
    fn pda(&self) -> Pda<'_> {
        Pda { tag: b"emergency", key: field_bytes!(self.index, 8) }
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

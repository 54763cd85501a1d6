use super::{holds, Account};
use crate::sys::Pda;
use pinocchio::error::ProgramError;

account! {
    /// A policy set that a vote put in force.
    pub struct Policy {
        /// SHA-256 of the policy set.
        content_hash: [u8; 32],
        /// The proposal that enacted it last.
        proposal: u64,
        /// Until when (Unix seconds) an emergency action suspends it; 0 if none did.
        suspended_until: i64,
        /// The constitution version that it was attested against.
        constitution_version: u32,
        /// The canonical bump.
        bump: u8,
        /// Zeros.
        reserved: [u8; 3],
    }
}

// SAFETY: declared by `account!`; integers and arrays only.
unsafe impl Account for Policy {
    const TAG: [u8; 8] = Self::DISCRIMINATOR;

    #[inline(always)]
    fn pda(&self) -> Pda<'_> {
        Pda { tag: b"policy", key: &self.content_hash }
    }

    #[inline(always)]
    fn bump(&self) -> u8 {
        self.bump
    }

    #[inline(always)]
    fn invariant(&self) -> Result<(), ProgramError> {
        holds(self.constitution_version >= 1 && self.suspended_until >= 0)
    }
}

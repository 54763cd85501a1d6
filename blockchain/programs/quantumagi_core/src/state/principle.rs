use super::{field_bytes, holds, Account};
use crate::{rules::MAX_TITLE, sys::Pda};
use pinocchio::error::ProgramError;

byte_enum! {
    /// Whether a principle counts.
    pub enum PrincipleStatus {
        /// In force.
        Active = 0,
        /// Retired for good; its index is not used again.
        Retired = 1,
    }
}

account! {
    /// One rule of the constitution. Its text stays off chain.
    pub struct Principle {
        /// SHA-256 of the principle's canonical form.
        content_hash: [u8; 32],
        /// UTF-8, `title_len` bytes, then zeros.
        title: [u8; 64],
        /// When it last changed (Unix seconds).
        updated_at: i64,
        /// Counts the changes of this principle, from 1.
        version: u32,
        /// The constitution version that the last change made.
        constitution_version: u32,
        /// Its place in the register.
        index: u16,
        /// Bytes of the title.
        title_len: u8,
        /// Whether it is in force.
        status: u8 as PrincipleStatus,
        /// The canonical bump.
        bump: u8,
        /// Zeros.
        reserved: [u8; 3],
    }
}

// SAFETY: declared by `account!`; integers and arrays only.
unsafe impl Account for Principle {
    const TAG: [u8; 8] = Self::DISCRIMINATOR;

    #[inline(always)]
    fn pda(&self) -> Pda<'_> {
        Pda { tag: b"principle", key: field_bytes!(self.index, 2) }
    }

    #[inline(always)]
    fn bump(&self) -> u8 {
        self.bump
    }

    #[inline(always)]
    fn invariant(&self) -> Result<(), ProgramError> {
        holds(
            self.version >= 1
                && self.constitution_version >= 1
                && self.title_len >= 1
                && usize::from(self.title_len) <= MAX_TITLE
                && PrincipleStatus::from_byte(self.status).is_some(),
        )
    }
}

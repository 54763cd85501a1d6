use super::{holds, Account};
use crate::sys::Pda;
use pinocchio::error::ProgramError;

account! {
    /// The newest root of the transparency log.
    pub struct LogAnchor {
        /// Leaves in the tree; 0 before the first anchor.
        tree_size: u64,
        /// Root of the Merkle tree (RFC 9162).
        root: [u8; 32],
        /// When it was anchored (Unix seconds).
        anchored_at: i64,
        /// Anchors so far.
        count: u64,
        /// The canonical bump.
        bump: u8,
        /// Zeros.
        reserved: [u8; 7],
    }
}

// SAFETY: declared by `account!`; integers and arrays only.
unsafe impl Account for LogAnchor {
    const TAG: [u8; 8] = Self::DISCRIMINATOR;

    #[inline(always)]
    fn pda(&self) -> Pda<'_> {
        Pda { tag: b"anchor", key: &[] }
    }

    #[inline(always)]
    fn bump(&self) -> u8 {
        self.bump
    }

    #[inline(always)]
    fn invariant(&self) -> Result<(), ProgramError> {
        holds(self.tree_size >= self.count && (self.count == 0) == (self.tree_size == 0))
    }
}

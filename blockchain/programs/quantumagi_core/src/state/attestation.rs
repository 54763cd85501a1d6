use super::{holds, Account};
use crate::sys::Pda;
use pinocchio::error::ProgramError;

account! {
    /// The verifier's word that a certificate proves a policy against a constitution version.
    pub struct Attestation {
        /// SHA-256 of the certificate.
        certificate_hash: [u8; 32],
        /// SHA-256 of the policy set that it is about.
        content_hash: [u8; 32],
        /// When it was given (Unix seconds).
        attested_at: i64,
        /// The constitution version that the policy was proved against.
        constitution_version: u32,
        /// The canonical bump.
        bump: u8,
        /// Zeros.
        reserved: [u8; 3],
    }
}

// SAFETY: declared by `account!`; integers and arrays only.
unsafe impl Account for Attestation {
    const TAG: [u8; 8] = Self::DISCRIMINATOR;

    #[inline(always)]
    fn pda(&self) -> Pda<'_> {
        Pda { tag: b"attestation", key: &self.certificate_hash }
    }

    #[inline(always)]
    fn bump(&self) -> u8 {
        self.bump
    }

    #[inline(always)]
    fn invariant(&self) -> Result<(), ProgramError> {
        holds(self.constitution_version >= 1 && self.certificate_hash != [0; 32] && self.content_hash != [0; 32])
    }
}

use super::{expect_holder, Ctx};
use crate::{
    error::GovernanceError,
    event::AttestationRevoked,
    state::{close, Account, Attestation, Governance},
    sys::now,
};
use pinocchio::{AccountView, ProgramResult};

accounts! {
    /// The verifier authority. Gets the rent back.
    verifier: SIGNER | WRITABLE, [];
    /// The governance account.
    governance: READ, [Const(b"governance")];
    /// The attestation.
    attestation: WRITABLE, [Const(b"attestation"), Account("attestation.certificate_hash", "Attestation")];
}

args! {
    /// Takes an attestation back, because it was wrong or is stale. Policies already enacted are not affected.
    pub struct Args {}
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { verifier, governance, attestation } = Accounts::parse(ctx, accounts)?;
    Args::parse(ctx.args)?;
    {
        let governance = Governance::load(governance, ctx.program_id)?;
        expect_holder(verifier, &governance.verifier, GovernanceError::Unauthorized)?;
        let attestation = Attestation::load(attestation, ctx.program_id)?;
        AttestationRevoked {
            certificate_hash: attestation.certificate_hash,
            content_hash: attestation.content_hash,
            constitution_version: attestation.constitution_version,
            at: now()?,
        }
        .emit();
    }
    close(attestation, verifier)
}

//! Who may change the registers: the council while it bootstraps, accepted proposals after ratification.
use super::{expect_absent, expect_holder, expect_present, Ctx};
use crate::{
    error::GovernanceError,
    event::ProposalEnacted,
    state::{Account, Governance, Proposal, ProposalKind},
    sys,
};
use pinocchio::{error::ProgramError, AccountView};

/// Authorises the instruction of `ctx`.
///
/// Before ratification `authority` is the council and there is no proposal. After it anybody may carry out an accepted
/// proposal of `kind`, once, whose content hash is the SHA-256 of this very instruction's data: what was voted on is
/// what is done, to the byte.
#[inline(always)]
pub fn authorize(
    ctx: &Ctx<'_>,
    governance: &Governance,
    authority: &AccountView,
    proposal: &mut AccountView,
    kind: ProposalKind,
    now: i64,
) -> Result<(), ProgramError> {
    if governance.ratified == 0 {
        expect_absent(proposal, ctx.program_id)?;
        return expect_holder(authority, &governance.council, GovernanceError::Unauthorized);
    }
    if expect_present(proposal, ctx.program_id).is_err() {
        return Err(GovernanceError::ProposalRequired.into());
    }
    let proposal = &mut *Proposal::load_mut(proposal, ctx.program_id)?;
    proposal.take_effect(kind, now)?;
    if sys::sha256(&[ctx.data]) != proposal.content_hash {
        return Err(GovernanceError::ContentMismatch.into());
    }
    if kind == ProposalKind::Principle {
        proposal.check_base(governance.constitution_version)?;
    }
    ProposalEnacted { index: proposal.index, kind: proposal.kind, content_hash: proposal.content_hash, at: now }.emit();
    Ok(())
}

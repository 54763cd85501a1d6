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
/// what is done, to the byte. Returns the proposal's index, for `claim`; `None` in the bootstrap.
#[inline(always)]
pub fn authorize(
    ctx: &Ctx<'_>,
    governance: &Governance,
    authority: &AccountView,
    proposal: &mut AccountView,
    kind: ProposalKind,
    now: i64,
) -> Result<Option<u64>, ProgramError> {
    if governance.ratified == 0 {
        expect_absent(proposal, ctx.program_id)?;
        expect_holder(authority, &governance.council, GovernanceError::Unauthorized)?;
        return Ok(None);
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
    Ok(Some(proposal.index))
}

/// Checks that no newer proposal has decided about the subject that keeps `open_to`, and shuts it to this one and all before.
/// A decision may be carried out weeks after its vote; over a newer one it would undo that. (Amendments of the constitution
/// are stricter: see `Proposal::check_base`.)
#[inline(always)]
pub fn claim(proposal: Option<u64>, open_to: &mut u64) -> Result<(), ProgramError> {
    let Some(index) = proposal else { return Ok(()) };
    if index < *open_to {
        return Err(GovernanceError::ProposalOutdated.into());
    }
    *open_to = index.checked_add(1).ok_or(ProgramError::ArithmeticOverflow)?;
    Ok(())
}

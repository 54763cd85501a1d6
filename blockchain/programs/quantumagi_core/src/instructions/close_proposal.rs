use super::{expect_holder, Ctx};
use crate::{
    error::GovernanceError,
    event::ProposalClosed,
    state::{close, Account, Proposal, ProposalStatus},
    sys::now,
};
use pinocchio::{AccountView, ProgramResult};

accounts! {
    /// Who made the proposal. Gets the rent back.
    proposer: SIGNER | WRITABLE, [];
    /// The proposal.
    proposal: WRITABLE, [Const(b"proposal"), Account("proposal.index", "Proposal")];
}

args! {
    /// Closes the account of a proposal from which nothing can follow any more: enacted, rejected without effect,
    /// cancelled or lapsed. The rent goes back to the proposer. Its index is never used again.
    pub struct Args {}
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { proposer, proposal } = Accounts::parse(ctx, accounts)?;
    Args::parse(ctx.args)?;
    {
        let header = Proposal::load(proposal, ctx.program_id)?;
        expect_holder(proposer, &header.proposer, GovernanceError::Unauthorized)?;
        let pending = header.is(ProposalStatus::Active)
            || header.awaits_enactment() && now()? < header.lapses_at();
        if pending {
            return Err(GovernanceError::ProposalNotClosable.into());
        }
        ProposalClosed { index: header.index, status: header.status, lamports: proposal.lamports() }.emit();
    }
    close(proposal, proposer)
}

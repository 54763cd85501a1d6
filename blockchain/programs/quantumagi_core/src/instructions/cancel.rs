use super::{expect_holder, finalize::free_ballots, Ctx};
use crate::{
    error::GovernanceError,
    event::ProposalCancelled,
    state::{Account, Governance, Proposal, ProposalStatus},
    sys::now,
};
use pinocchio::{AccountView, ProgramResult};

accounts! {
    /// Who made the proposal. Gets the ballots' rent back.
    proposer: SIGNER | WRITABLE, [];
    /// The governance account.
    governance: WRITABLE, [Const(b"governance")];
    /// The proposal.
    proposal: WRITABLE, [Const(b"proposal"), Account("proposal.index", "Proposal")];
}

args! {
    /// Takes a proposal back before anybody has voted on it. From the first vote on it is the members': only the vote's end
    /// says what becomes of it.
    pub struct Args {}
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { proposer, governance, proposal } = Accounts::parse(ctx, accounts)?;
    Args::parse(ctx.args)?;
    {
        let proposal = load_mut!(Proposal, proposal, ctx);
        expect_holder(proposer, &proposal.proposer, GovernanceError::Unauthorized)?;
        if !proposal.is(ProposalStatus::Active) {
            return Err(GovernanceError::ProposalNotActive.into());
        }
        // INVARIANT: whoever proposes cannot void what the members decide, or are about to.
        let at = now()?;
        if at >= proposal.ends_at {
            return Err(GovernanceError::VotingPeriodEnded.into());
        }
        if proposal.tally().cast() != Some(0) {
            return Err(GovernanceError::VotingHasBegun.into());
        }
        proposal.status = ProposalStatus::Cancelled as u8;
        proposal.ballots_len = 0;
        proposal.invariant()?;
        ProposalCancelled { index: proposal.index, at }.emit();
    }
    let governance = load_mut!(Governance, governance, ctx);
    governance.open_proposals =
        governance.open_proposals.checked_sub(1).ok_or(GovernanceError::InvariantViolated)?;
    governance.invariant()?;
    free_ballots(proposal, proposer)
}

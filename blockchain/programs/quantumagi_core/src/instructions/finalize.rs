use super::Ctx;
use crate::{
    error::GovernanceError,
    event::ProposalFinalized,
    rules::Standing,
    state::{Account, Governance, Proposal, ProposalKind, ProposalStatus},
    sys::{now, Rent},
};
use pinocchio::{error::ProgramError, AccountView, ProgramResult, Resize};

accounts! {
    /// The proposal.
    proposal: WRITABLE, [Const(b"proposal"), Account("proposal.index", "Proposal")];
    /// The governance account.
    governance: WRITABLE, [Const(b"governance")];
    /// Gets the ballots' rent back.
    proposer: WRITABLE, [];
}

args! {
    /// Ends a vote: when its window is over, or before if no remaining vote can change what it leads to. Anybody may.
    /// The tallies stay; the ballots go and their rent returns to the proposer.
    pub struct Args {}
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { proposal, governance, proposer } = Accounts::parse(ctx, accounts)?;
    Args::parse(ctx.args)?;
    let at = now()?;
    {
        let proposal = load_mut!(Proposal, proposal, ctx);
        if !proposal.is(ProposalStatus::Active) {
            return Err(GovernanceError::ProposalNotActive.into());
        }
        if &proposal.proposer != proposer.address() {
            return Err(GovernanceError::WrongRentRecipient.into());
        }
        let tally = proposal.tally();
        let early = at < proposal.ends_at;
        let standing = if !early {
            tally.outcome(proposal.threshold_bp, proposal.quorum_bp)
        } else if proposal.vote_change_allowed != 0 {
            Standing::Open // any cast vote may still turn
        } else {
            let rejection_acts = ProposalKind::rejection_acts(proposal.kind);
            tally.decided(proposal.threshold_bp, proposal.quorum_bp, rejection_acts)
        };
        let status = match standing {
            Standing::Open => return Err(GovernanceError::VotingPeriodNotEnded.into()),
            Standing::Accepted => ProposalStatus::Accepted,
            Standing::Rejected => ProposalStatus::Rejected,
        };
        proposal.status = status as u8;
        proposal.ballots_len = 0;
        proposal.invariant()?;
        ProposalFinalized {
            index: proposal.index,
            kind: proposal.kind,
            status: proposal.status,
            content_hash: proposal.content_hash,
            votes_for: tally.votes_for,
            votes_against: tally.votes_against,
            votes_abstain: tally.votes_abstain,
            total_weight: tally.total,
            quorum_reached: u8::from(tally.quorum_reached(proposal.quorum_bp)),
            early: u8::from(early),
            at,
        }
        .emit();
    }
    let governance = load_mut!(Governance, governance, ctx);
    governance.open_proposals =
        governance.open_proposals.checked_sub(1).ok_or(GovernanceError::InvariantViolated)?;
    governance.invariant()?;
    free_ballots(proposal, proposer)
}

/// Shrinks the proposal to its fixed part and returns what that frees.
#[inline(always)]
pub fn free_ballots(proposal: &mut AccountView, proposer: &mut AccountView) -> ProgramResult {
    proposal.resize(Proposal::LEN)?;
    let needed = Rent::load()?.exempt(Proposal::LEN)?;
    if let Some(freed @ 1..) = proposal.lamports().checked_sub(needed) {
        let sum = proposer.lamports().checked_add(freed).ok_or(ProgramError::ArithmeticOverflow)?;
        proposal.set_lamports(needed);
        proposer.set_lamports(sum);
    }
    Ok(())
}

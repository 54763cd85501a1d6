use super::{
    authorize::{authorize, claim},
    Ctx,
};
use crate::{
    error::GovernanceError,
    event::MemberChanged,
    state::{Account, Governance, Member, ProposalKind},
    sys::now,
};
use pinocchio::{AccountView, Address, ProgramResult};

accounts! {
    /// The council before ratification, anybody after it.
    authority: SIGNER, [];
    /// The governance account.
    governance: WRITABLE, [Const(b"governance")];
    /// The member.
    member: WRITABLE, [Const(b"member"), Arg("wallet")];
    /// After ratification: the accepted proposal that this carries out.
    proposal: WRITABLE | OPTIONAL, [];
}

args! {
    /// Removes a member: no weight in proposals made from now on. The account stays, because open votes still count the
    /// weight that held when they began. After ratification, only by an accepted proposal for exactly these arguments.
    pub struct Args {
        /// The member's wallet.
        wallet: Address,
    }
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { authority, governance, member, proposal } = Accounts::parse(ctx, accounts)?;
    let args = Args::parse(ctx.args)?;
    let at = now()?;
    let governance = load_mut!(Governance, governance, ctx);
    let mandate = authorize(ctx, governance, authority, proposal, ProposalKind::Membership, at)?;

    let member = load_mut!(Member, member, ctx);
    if member.wallet != args.wallet {
        return Err(GovernanceError::InvalidPda.into());
    }
    claim(mandate, &mut member.open_to)?;
    if member.active == 0 {
        return Err(GovernanceError::MemberNotActive.into());
    }
    if governance.ratified != 0 && governance.active_members == 1 {
        return Err(GovernanceError::LastMember.into());
    }
    governance.total_weight =
        governance.total_weight.checked_sub(member.weight()).ok_or(GovernanceError::InvariantViolated)?;
    governance.active_members =
        governance.active_members.checked_sub(1).ok_or(GovernanceError::InvariantViolated)?;
    member.set_weight(0, governance.proposal_count, governance.open_proposals, at)?;
    member.invariant()?;
    governance.invariant()?;
    MemberChanged {
        wallet: member.wallet.clone(),
        slot: member.slot,
        weight: 0,
        total_weight: governance.total_weight,
        from_proposal: governance.proposal_count,
        at,
    }
    .emit();
    Ok(())
}

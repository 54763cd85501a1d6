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
    /// Changes a member's weight for proposals made from now on. After ratification, only by an accepted proposal for
    /// exactly these arguments.
    pub struct Args {
        /// The member's wallet.
        wallet: Address,
        /// At least 1.
        weight: u64,
    }
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { authority, governance, member, proposal } = Accounts::parse(ctx, accounts)?;
    let args = Args::parse(ctx.args)?;
    let weight = args.weight;
    if weight == 0 {
        return Err(GovernanceError::InvalidWeight.into());
    }
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
    governance.total_weight = governance
        .total_weight
        .checked_sub(member.weight())
        .ok_or(GovernanceError::InvariantViolated)?
        .checked_add(weight)
        .ok_or(GovernanceError::WeightOverflow)?;
    member.set_weight(weight, governance.proposal_count, governance.open_proposals, at)?;
    member.invariant()?;
    governance.invariant()?;
    MemberChanged {
        wallet: member.wallet.clone(),
        slot: member.slot,
        weight,
        total_weight: governance.total_weight,
        from_proposal: governance.proposal_count,
        at,
    }
    .emit();
    Ok(())
}

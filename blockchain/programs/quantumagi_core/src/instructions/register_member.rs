use super::{
    authorize::{authorize, claim},
    expect_system_program, Ctx,
};
use crate::{
    error::GovernanceError,
    event::MemberChanged,
    rules::MAX_MEMBERS,
    state::{new_address, Account, Governance, Member, ProposalKind},
    sys::{now, Pda},
};
use pinocchio::{error::ProgramError, AccountView, Address, ProgramResult};

accounts! {
    /// The council before ratification, anybody after it. Pays the rent.
    authority: SIGNER | WRITABLE, [];
    /// The governance account.
    governance: WRITABLE, [Const(b"governance")];
    /// The member: to be made, or one that was removed.
    member: WRITABLE, [Const(b"member"), Arg("wallet")];
    /// After ratification: the accepted proposal that this carries out.
    proposal: WRITABLE | OPTIONAL, [];
    /// The system program.
    system_program: READ, [Program("11111111111111111111111111111111")];
    /// The instructions sysvar, where `exclude_bumps` stands before this instruction.
    instructions: OPTIONAL, [Program("Sysvar1nstructions1111111111111111111111111")];
}

args! {
    /// Registers a member, or takes one back who was removed. After ratification, only by an accepted proposal for
    /// exactly these arguments. Votes that are open are not affected.
    pub struct Args {
        /// The wallet that will vote.
        wallet: Address,
        /// At least 1.
        weight: u64,
    }
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { authority, governance, member, proposal, system_program, instructions } = Accounts::parse(ctx, accounts)?;
    let args = Args::parse(ctx.args)?;
    expect_system_program(system_program)?;
    let weight = args.weight;
    if weight == 0 {
        return Err(GovernanceError::InvalidWeight.into());
    }
    if args.wallet == Address::new_from_array([0; 32]) {
        return Err(GovernanceError::ZeroValue.into());
    }
    let at = now()?;
    let governance = load_mut!(Governance, governance, ctx);
    let mandate = authorize(ctx, governance, authority, proposal, ProposalKind::Membership, at)?;

    governance.total_weight =
        governance.total_weight.checked_add(weight).ok_or(GovernanceError::WeightOverflow)?;
    governance.active_members = governance.active_members.checked_add(1).ok_or(ProgramError::ArithmeticOverflow)?;
    let slot;
    if member.owned_by(ctx.program_id) {
        let member = load_mut!(Member, member, ctx);
        if member.wallet != args.wallet {
            return Err(GovernanceError::InvalidPda.into());
        }
        claim(mandate, &mut member.open_to)?;
        if member.active != 0 {
            return Err(GovernanceError::AlreadyAMember.into());
        }
        member.set_weight(weight, governance.proposal_count, governance.open_proposals, at)?;
        member.invariant()?;
        slot = member.slot;
        governance.invariant()?;
    } else {
        slot = governance.member_slots;
        if slot >= MAX_MEMBERS {
            return Err(GovernanceError::TooManyMembers.into());
        }
        let bump = new_address(member, &Pda { tag: b"member", key: args.wallet.as_array() }, instructions, ctx.program_id)?;
        governance.member_slots = slot.checked_add(1).ok_or(ProgramError::ArithmeticOverflow)?;
        governance.invariant()?;
        let mut open_to = 0;
        claim(mandate, &mut open_to)?;
        Member {
            discriminator: Member::DISCRIMINATOR,
            wallet: args.wallet.clone(),
            weights: [weight, 0, 0, 0],
            since: [governance.proposal_count; 4],
            changed_at: [at; 4],
            open_to,
            slot,
            active: 1,
            bump,
            reserved: [0; 2],
        }
        .create(member, authority, ctx.program_id)?;
    }
    MemberChanged {
        wallet: args.wallet.clone(),
        slot,
        weight,
        total_weight: governance.total_weight,
        from_proposal: governance.proposal_count,
        at,
    }
    .emit();
    Ok(())
}

use super::{expect_system_program, Ctx};
use crate::{
    error::GovernanceError,
    event::Initialized,
    state::{new_address, Account, Governance, LogAnchor},
    sys::{Pda, Rent},
};
use pinocchio::{AccountView, Address, ProgramResult};

const ZERO: Address = Address::new_from_array([0; 32]);

accounts! {
    /// Pays the rent of both accounts.
    payer: SIGNER | WRITABLE, [];
    /// The governance account, to be made.
    governance: WRITABLE, [Const(b"governance")];
    /// The log anchor, to be made.
    anchor: WRITABLE, [Const(b"anchor")];
    /// The system program.
    system_program: READ, [Program("11111111111111111111111111111111")];
    /// The instructions sysvar, where `exclude_bumps` stands before this instruction.
    instructions: OPTIONAL, [Program("Sysvar1nstructions1111111111111111111111111")];
}

args! {
    /// Makes the governance account and the log anchor. Once.
    /// Whoever sends it first decides: check the account before using a new deployment.
    pub struct Args {
        /// Holder of the council authority.
        council: Address,
        /// Holder of the emergency authority.
        emergency: Address,
        /// Holder of the log authority.
        log: Address,
        /// Holder of the verifier authority.
        verifier: Address,
        /// SHA-256 of the constitution.
        constitution_hash: [u8; 32],
        /// Shortest voting window in seconds, from 1 to 30 days.
        voting_period: i64,
        /// From 5001 to 10000.
        threshold_bp: u16,
        /// From 1 to 10000.
        quorum_bp: u16,
        /// Whether votes may be changed.
        vote_change_allowed: u8 as bool,
    }
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { payer, governance, anchor, system_program, instructions } = Accounts::parse(ctx, accounts)?;
    let args = Args::parse(ctx.args)?;
    expect_system_program(system_program)?;
    if args.council == ZERO
        || args.emergency == ZERO
        || args.log == ZERO
        || args.verifier == ZERO
        || args.constitution_hash == [0; 32]
    {
        return Err(GovernanceError::ZeroValue.into());
    }
    if args.vote_change_allowed > 1 {
        return Err(GovernanceError::InvalidArguments.into());
    }
    Governance::check_parameters(args.voting_period, args.threshold_bp, args.quorum_bp)?;

    let bump = new_address(governance, &Pda { tag: b"governance", key: &[] }, instructions, ctx.program_id)?;
    let anchor_bump = new_address(anchor, &Pda { tag: b"anchor", key: &[] }, instructions, ctx.program_id)?;
    let rent = Rent::load()?;
    Governance {
        discriminator: Governance::DISCRIMINATOR,
        council: args.council.clone(),
        emergency: args.emergency.clone(),
        log: args.log.clone(),
        verifier: args.verifier.clone(),
        pending_council: ZERO,
        pending_emergency: ZERO,
        pending_log: ZERO,
        pending_verifier: ZERO,
        constitution_hash: args.constitution_hash,
        total_weight: 0,
        voting_period: args.voting_period,
        frozen_until: 0,
        proposal_count: 0,
        open_proposals: 0,
        emergency_count: 0,
        parameters_open_to: 0,
        constitution_version: 1,
        member_slots: 0,
        active_members: 0,
        principle_count: 0,
        active_principles: 0,
        threshold_bp: args.threshold_bp,
        quorum_bp: args.quorum_bp,
        ratified: 0,
        vote_change_allowed: args.vote_change_allowed,
        bump,
        reserved: 0,
    }
    .create_at_price(&rent, governance, payer, ctx.program_id)?;
    LogAnchor {
        discriminator: LogAnchor::DISCRIMINATOR,
        tree_size: 0,
        root: [0; 32],
        anchored_at: 0,
        count: 0,
        bump: anchor_bump,
        reserved: [0; 7],
    }
    .create_at_price(&rent, anchor, payer, ctx.program_id)?;

    Initialized {
        council: args.council.clone(),
        emergency: args.emergency.clone(),
        log: args.log.clone(),
        verifier: args.verifier.clone(),
        constitution_hash: args.constitution_hash,
        voting_period: args.voting_period,
        threshold_bp: args.threshold_bp,
        quorum_bp: args.quorum_bp,
        vote_change_allowed: args.vote_change_allowed,
    }
    .emit();
    Ok(())
}

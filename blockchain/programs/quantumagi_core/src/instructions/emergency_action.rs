use super::{
    enact::{apply, Effect},
    expect_holder, expect_system_program, Ctx,
};
use crate::{
    error::GovernanceError,
    event::EmergencyTaken,
    rules::MAX_EMERGENCY,
    state::{new_address, Account, Emergency, EmergencyKind, EmergencyStatus, Governance},
    sys::{now, Pda},
};
use pinocchio::{error::ProgramError, AccountView, ProgramResult};

accounts! {
    /// The emergency authority. Pays the rent and gets it back.
    authority: SIGNER | WRITABLE, [];
    /// The governance account.
    governance: WRITABLE, [Const(b"governance")];
    /// The emergency action, to be made at the next index.
    emergency: WRITABLE, [Const(b"emergency"), Account("governance.emergency_count", "Governance")];
    /// The policy to suspend, if that is the action.
    policy: WRITABLE | OPTIONAL, [];
    /// The system program.
    system_program: READ, [Program("11111111111111111111111111111111")];
    /// The instructions sysvar, where `exclude_bumps` stands before this instruction.
    instructions: OPTIONAL, [Program("Sysvar1nstructions1111111111111111111111111")];
}

args! {
    /// Suspends a policy, freezes activation or revokes an agent, at once and for at most 72 hours.
    pub struct Args {
        /// What to do.
        kind: u8 as EmergencyKind,
        /// The policy's hash, the hashed identifier of the agent, or zeros for a freeze.
        target: [u8; 32],
        /// SHA-256 of the reasons given.
        reason_hash: [u8; 32],
        /// Seconds until it ends, from 1 to 259200.
        duration: i64,
    }
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { authority, governance, emergency, policy, system_program, instructions } = Accounts::parse(ctx, accounts)?;
    let args = Args::parse(ctx.args)?;
    expect_system_program(system_program)?;
    let at = now()?;
    let kind = EmergencyKind::from_byte(args.kind).ok_or(GovernanceError::InvalidEmergencyKind)?;
    if (kind == EmergencyKind::FreezeActivation) != (args.target == [0; 32]) {
        return Err(GovernanceError::ZeroValue.into());
    }
    let duration = args.duration;
    if !(1..=MAX_EMERGENCY).contains(&duration) {
        return Err(GovernanceError::InvalidExpiry.into());
    }
    let expires_at = at.checked_add(duration).ok_or(ProgramError::ArithmeticOverflow)?;
    let governance = load_mut!(Governance, governance, ctx);
    expect_holder(authority, &governance.emergency, GovernanceError::UnauthorizedEmergencyAction)?;
    let index = governance.emergency_count;
    governance.emergency_count = index.checked_add(1).ok_or(ProgramError::ArithmeticOverflow)?;
    let bump = new_address(emergency, &Pda { tag: b"emergency", key: &index.to_le_bytes() }, instructions, ctx.program_id)?;
    let new = Emergency {
        discriminator: Emergency::DISCRIMINATOR,
        index,
        issued_at: at,
        expires_at,
        target: args.target,
        issuer: authority.address().clone(),
        open_to: governance.proposal_count,
        kind: args.kind,
        status: EmergencyStatus::Active as u8,
        bump,
        reserved: [0; 5],
    };
    apply(ctx, &new, governance, policy, Effect { until: expires_at, from: at })?;
    EmergencyTaken {
        index,
        kind: args.kind,
        target: args.target,
        reason_hash: args.reason_hash,
        issuer: authority.address().clone(),
        expires_at,
        at,
    }
    .emit();
    new.create(emergency, authority, 0, ctx.program_id)
}

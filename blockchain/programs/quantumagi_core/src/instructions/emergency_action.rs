use super::{
    enact::{apply, Effect},
    expect_holder, expect_system_program, Ctx,
};
use crate::{
    error::GovernanceError,
    event::EmergencyTaken,
    rules::MAX_EMERGENCY,
    state::{check_free, new_address, Account, Emergency, EmergencyKind, EmergencyStatus, Governance},
    sys::{now, Pda},
};
use pinocchio::{error::ProgramError, AccountView, ProgramResult};

accounts! {
    /// The emergency authority. Pays the rent and gets it back.
    authority: SIGNER | WRITABLE, [];
    /// The governance account.
    governance: WRITABLE, [Const(b"governance")];
    /// The emergency action, to be made at `["emergency", index u64 LE]` of the next index, or for a revocation at
    /// `["emergency", target]`.
    emergency: WRITABLE, [];
    /// The policy to suspend, if that is the action.
    policy: WRITABLE | OPTIONAL, [];
    /// The system program.
    system_program: READ, [Program("11111111111111111111111111111111")];
    /// The instructions sysvar, where `exclude_bumps` stands before this instruction.
    instructions: OPTIONAL, [Program("Sysvar1nstructions1111111111111111111111111")];
}

args! {
    /// Suspends a policy, freezes activation or revokes an agent, at once and for at most 72 hours. Not again within 72 hours
    /// after the last such action on the target ended, however it did.
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
    let numbered = index.to_le_bytes();
    let key: &[u8] = if kind == EmergencyKind::RevokeAgent {
        check_last_revocation(ctx, emergency, &args.target, at)?;
        &args.target
    } else {
        &numbered
    };
    let bump = new_address(emergency, &Pda { tag: b"emergency", key }, instructions, ctx.program_id)?;
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
    new.create(emergency, authority, ctx.program_id)
}

/// The account of the agent's last revocation says whether it may be revoked again. (Once it may, the account is closed
/// before: that takes nobody's consent.)
#[inline(always)]
fn check_last_revocation(ctx: &Ctx<'_>, emergency: &AccountView, agent: &[u8; 32], at: i64) -> ProgramResult {
    if !emergency.owned_by(ctx.program_id) {
        return Ok(());
    }
    let last = Emergency::load(emergency, ctx.program_id)?;
    if last.kind != EmergencyKind::RevokeAgent as u8 || &last.target != agent {
        return Err(GovernanceError::InvalidPda.into());
    }
    check_free(last.expires_at, at)
}

use super::{
    enact::{apply, Effect},
    expect_holder, Ctx,
};
use crate::{
    error::GovernanceError,
    event::EmergencyResolved,
    state::{Account, Emergency, EmergencyStatus, Governance},
    sys::now,
};
use pinocchio::{AccountView, ProgramResult};

accounts! {
    /// The emergency authority.
    authority: SIGNER, [];
    /// The governance account.
    governance: WRITABLE, [Const(b"governance")];
    /// The emergency action.
    emergency: WRITABLE, [];
    /// The suspended policy, if that was the action.
    policy: WRITABLE | OPTIONAL, [];
}

args! {
    /// Ends an emergency action before it expires. One that a vote has confirmed is ended by a vote alone.
    pub struct Args {}
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { authority, governance, emergency, policy } = Accounts::parse(ctx, accounts)?;
    Args::parse(ctx.args)?;
    let at = now()?;
    let governance = load_mut!(Governance, governance, ctx);
    expect_holder(authority, &governance.emergency, GovernanceError::UnauthorizedEmergencyAction)?;
    let emergency = load_mut!(Emergency, emergency, ctx);
    if emergency.status != EmergencyStatus::Active as u8 || !emergency.in_effect(at) {
        return Err(GovernanceError::EmergencyNotActive.into());
    }
    apply(ctx, emergency, governance, policy, Effect { until: at, from: i64::MIN })?;
    emergency.status = EmergencyStatus::Ended as u8;
    emergency.expires_at = at;
    emergency.invariant()?;
    EmergencyResolved {
        index: emergency.index,
        kind: emergency.kind,
        status: emergency.status,
        target: emergency.target,
        expires_at: at,
        at,
    }
    .emit();
    Ok(())
}

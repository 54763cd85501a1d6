use super::{expect_holder, Ctx};
use crate::{
    error::GovernanceError,
    event::EmergencyClosed,
    state::{close, Account, Emergency},
    sys::now,
};
use pinocchio::{AccountView, ProgramResult};

accounts! {
    /// Who took the action. Gets the rent back.
    issuer: SIGNER | WRITABLE, [];
    /// The emergency action.
    emergency: WRITABLE, [Const(b"emergency"), Account("emergency.index", "Emergency")];
}

args! {
    /// Closes the account of an emergency action that is over; the rent goes back to its issuer.
    pub struct Args {}
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { issuer, emergency } = Accounts::parse(ctx, accounts)?;
    Args::parse(ctx.args)?;
    {
        let state = Emergency::load(emergency, ctx.program_id)?;
        expect_holder(issuer, &state.issuer, GovernanceError::Unauthorized)?;
        if state.in_effect(now()?) {
            return Err(GovernanceError::EmergencyStillActive.into());
        }
        EmergencyClosed { index: state.index, lamports: emergency.lamports() }.emit();
    }
    close(emergency, issuer)
}

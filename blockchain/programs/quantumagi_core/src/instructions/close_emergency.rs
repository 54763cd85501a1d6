use super::Ctx;
use crate::{
    error::GovernanceError,
    event::EmergencyClosed,
    state::{close, Account, Emergency},
    sys::now,
};
use pinocchio::{AccountView, ProgramResult};

accounts! {
    /// Who took the action. Gets the rent back.
    issuer: WRITABLE, [];
    /// The emergency action.
    emergency: WRITABLE, [];
}

args! {
    /// Closes the account of an emergency action once its cool-down is over; the rent goes back to its issuer. Anybody may:
    /// while it stands, an agent cannot be revoked again.
    pub struct Args {}
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { issuer, emergency } = Accounts::parse(ctx, accounts)?;
    Args::parse(ctx.args)?;
    {
        let state = Emergency::load(emergency, ctx.program_id)?;
        if &state.issuer != issuer.address() {
            return Err(GovernanceError::WrongRentRecipient.into());
        }
        state.check_over(now()?)?;
        EmergencyClosed { index: state.index, lamports: emergency.lamports() }.emit();
    }
    close(emergency, issuer)
}

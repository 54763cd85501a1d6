use super::{expect_holder, Ctx};
use crate::{
    error::GovernanceError,
    event::AuthorityAccepted,
    state::{Account, Governance, Role},
};
use pinocchio::{AccountView, Address, ProgramResult};

accounts! {
    /// To whom the authority is on offer.
    candidate: SIGNER, [];
    /// The governance account.
    governance: WRITABLE, [Const(b"governance")];
}

args! {
    /// Second step of handing an authority over: from now on the signer holds it.
    pub struct Args {
        /// Which authority.
        role: u8 as Role,
    }
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { candidate, governance } = Accounts::parse(ctx, accounts)?;
    let args = Args::parse(ctx.args)?;
    let role = Role::from_byte(args.role).ok_or(GovernanceError::InvalidRole)?;
    let governance = load_mut!(Governance, governance, ctx);
    let (current, pending) = governance.seat(role);
    expect_holder(candidate, pending, GovernanceError::NoOffer)?;
    let previous = core::mem::replace(current, candidate.address().clone());
    *pending = Address::new_from_array([0; 32]);
    governance.invariant()?;
    AuthorityAccepted { role: args.role, previous, holder: candidate.address().clone() }.emit();
    Ok(())
}

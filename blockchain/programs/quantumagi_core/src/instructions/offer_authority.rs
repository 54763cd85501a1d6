use super::{expect_holder, Ctx};
use crate::{
    error::GovernanceError,
    event::AuthorityOffered,
    state::{Account, Governance, Role},
};
use pinocchio::{AccountView, Address, ProgramResult};

accounts! {
    /// The present holder.
    holder: SIGNER, [];
    /// The governance account.
    governance: WRITABLE, [Const(b"governance")];
}

args! {
    /// First step of handing an authority over. A new offer replaces the last one.
    pub struct Args {
        /// Which authority.
        role: u8 as Role,
        /// To whom; zeros take the offer back.
        offered_to: Address,
    }
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { holder, governance } = Accounts::parse(ctx, accounts)?;
    let args = Args::parse(ctx.args)?;
    let role = Role::from_byte(args.role).ok_or(GovernanceError::InvalidRole)?;
    let governance = load_mut!(Governance, governance, ctx);
    let (current, pending) = governance.seat(role);
    expect_holder(holder, current, GovernanceError::Unauthorized)?;
    *pending = args.offered_to.clone();
    governance.invariant()?;
    AuthorityOffered { role: args.role, holder: holder.address().clone(), offered_to: args.offered_to.clone() }.emit();
    Ok(())
}

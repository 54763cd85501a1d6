use super::{expect_holder, Ctx};
use crate::{
    error::GovernanceError,
    event::Ratified,
    state::{Account, Governance},
    sys::now,
};
use pinocchio::{AccountView, ProgramResult};

accounts! {
    /// The council.
    council: SIGNER, [];
    /// The governance account.
    governance: WRITABLE, [Const(b"governance")];
}

args! {
    /// Ends the bootstrap for good: from now on every change of the registers needs an accepted proposal.
    pub struct Args {
        /// What is being ratified; has to be the hash in the account.
        constitution_hash: [u8; 32],
    }
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { council, governance } = Accounts::parse(ctx, accounts)?;
    let args = Args::parse(ctx.args)?;
    let governance = load_mut!(Governance, governance, ctx);
    expect_holder(council, &governance.council, GovernanceError::Unauthorized)?;
    if governance.ratified != 0 {
        return Err(GovernanceError::AlreadyRatified.into());
    }
    if governance.active_principles == 0 || governance.active_members == 0 {
        return Err(GovernanceError::BootstrapIncomplete.into());
    }
    if governance.constitution_hash != args.constitution_hash {
        return Err(GovernanceError::ContentMismatch.into());
    }
    governance.ratified = 1;
    governance.invariant()?;
    Ratified {
        constitution_hash: governance.constitution_hash,
        constitution_version: governance.constitution_version,
        total_weight: governance.total_weight,
        at: now()?,
    }
    .emit();
    Ok(())
}

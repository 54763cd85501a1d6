use super::{authorize::authorize, principles, Ctx};
use crate::{
    error::GovernanceError,
    state::{Account, Governance, Principle, PrincipleStatus, ProposalKind},
    sys::now,
};
use pinocchio::{error::ProgramError, AccountView, ProgramResult};

accounts! {
    /// The council before ratification, anybody after it.
    authority: SIGNER, [];
    /// The governance account.
    governance: WRITABLE, [Const(b"governance")];
    /// The principle.
    principle: WRITABLE, [Const(b"principle"), Arg("index")];
    /// After ratification: the accepted proposal that this carries out.
    proposal: WRITABLE | OPTIONAL, [];
}

args! {
    /// Retires a principle for good. After ratification, only by an accepted proposal for exactly these arguments.
    pub struct Args {
        /// The principle's index.
        index: u16,
        /// SHA-256 of the constitution without the principle.
        constitution_hash: [u8; 32],
    }
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { authority, governance, principle, proposal } = Accounts::parse(ctx, accounts)?;
    let args = Args::parse(ctx.args)?;
    let at = now()?;
    let governance = load_mut!(Governance, governance, ctx);
    authorize(ctx, governance, authority, proposal, ProposalKind::Principle, at)?;

    let principle = load_mut!(Principle, principle, ctx);
    if principle.index != args.index {
        return Err(GovernanceError::InvalidPda.into());
    }
    if principle.status != PrincipleStatus::Active as u8 {
        return Err(GovernanceError::PrincipleNotActive.into());
    }
    governance.amend(args.constitution_hash)?;
    governance.active_principles =
        governance.active_principles.checked_sub(1).ok_or(GovernanceError::InvariantViolated)?;
    governance.invariant()?;
    principle.status = PrincipleStatus::Retired as u8;
    principle.updated_at = at;
    principle.version = principle.version.checked_add(1).ok_or(ProgramError::ArithmeticOverflow)?;
    principle.constitution_version = governance.constitution_version;
    principle.invariant()?;
    principles::announce(principle, governance, at);
    Ok(())
}

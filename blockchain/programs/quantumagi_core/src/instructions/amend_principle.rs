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
    /// Gives a principle another content. After ratification, only by an accepted proposal for exactly these arguments.
    pub struct Args {
        /// The principle's index.
        index: u16,
        /// SHA-256 of the principle's new canonical form.
        content_hash: [u8; 32],
        /// SHA-256 of the constitution with the change in it.
        constitution_hash: [u8; 32],
    }
    then
    /// At most 64 bytes of UTF-8.
    title
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { authority, governance, principle, proposal } = Accounts::parse(ctx, accounts)?;
    let (args, title) = Args::split(ctx.args)?;
    let (title, title_len) = principles::parse_title(title)?;
    if args.content_hash == [0; 32] {
        return Err(GovernanceError::ZeroValue.into());
    }
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
    governance.invariant()?;
    principle.content_hash = args.content_hash;
    principle.title = title;
    principle.title_len = title_len;
    principle.updated_at = at;
    principle.version = principle.version.checked_add(1).ok_or(ProgramError::ArithmeticOverflow)?;
    principle.constitution_version = governance.constitution_version;
    principle.invariant()?;
    principles::announce(principle, governance, at);
    Ok(())
}

use super::{authorize::authorize, expect_system_program, principles, Ctx};
use crate::{
    error::GovernanceError,
    rules::MAX_PRINCIPLES,
    state::{new_address, Account, Governance, Principle, PrincipleStatus, ProposalKind},
    sys::{now, Pda},
};
use pinocchio::{error::ProgramError, AccountView, ProgramResult};

accounts! {
    /// The council before ratification, anybody after it. Pays the rent.
    authority: SIGNER | WRITABLE, [];
    /// The governance account.
    governance: WRITABLE, [Const(b"governance")];
    /// The principle, to be made at the next index.
    principle: WRITABLE, [Const(b"principle"), Account("governance.principle_count", "Governance")];
    /// After ratification: the accepted proposal that this carries out.
    proposal: WRITABLE | OPTIONAL, [];
    /// The system program.
    system_program: READ, [Program("11111111111111111111111111111111")];
    /// The instructions sysvar, where `exclude_bumps` stands before this instruction.
    instructions: OPTIONAL, [Program("Sysvar1nstructions1111111111111111111111111")];
}

args! {
    /// Adds a principle to the register. After ratification, only by an accepted proposal for exactly these arguments.
    pub struct Args {
        /// SHA-256 of the principle's canonical form.
        content_hash: [u8; 32],
        /// SHA-256 of the constitution with the principle in it.
        constitution_hash: [u8; 32],
    }
    then
    /// At most 64 bytes of UTF-8.
    title
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { authority, governance, principle, proposal, system_program, instructions } = Accounts::parse(ctx, accounts)?;
    let (args, title) = Args::split(ctx.args)?;
    let (title, title_len) = principles::parse_title(title)?;
    expect_system_program(system_program)?;
    if args.content_hash == [0; 32] {
        return Err(GovernanceError::ZeroValue.into());
    }
    let at = now()?;
    let governance = load_mut!(Governance, governance, ctx);
    authorize(ctx, governance, authority, proposal, ProposalKind::Principle, at)?;

    let index = governance.principle_count;
    if index >= MAX_PRINCIPLES {
        return Err(GovernanceError::TooManyPrinciples.into());
    }
    let bump = new_address(principle, &Pda { tag: b"principle", key: &index.to_le_bytes() }, instructions, ctx.program_id)?;
    governance.amend(args.constitution_hash)?;
    governance.principle_count = index.checked_add(1).ok_or(ProgramError::ArithmeticOverflow)?;
    governance.active_principles =
        governance.active_principles.checked_add(1).ok_or(ProgramError::ArithmeticOverflow)?;
    governance.invariant()?;
    let new = Principle {
        discriminator: Principle::DISCRIMINATOR,
        content_hash: args.content_hash,
        title,
        updated_at: at,
        version: 1,
        constitution_version: governance.constitution_version,
        index,
        title_len,
        status: PrincipleStatus::Active as u8,
        bump,
        reserved: [0; 3],
    };
    principles::announce(&new, governance, at);
    new.create(principle, authority, ctx.program_id)
}

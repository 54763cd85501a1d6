use super::{expect_holder, expect_system_program, Ctx};
use crate::{
    error::GovernanceError,
    event::Attested,
    state::{new_address, Account, Attestation, Governance},
    sys::{now, Pda},
};
use pinocchio::{AccountView, ProgramResult};

accounts! {
    /// The verifier authority. Pays the rent.
    verifier: SIGNER | WRITABLE, [];
    /// The governance account.
    governance: READ, [Const(b"governance")];
    /// The attestation, to be made.
    attestation: WRITABLE, [Const(b"attestation"), Arg("certificate_hash")];
    /// The system program.
    system_program: READ, [Program("11111111111111111111111111111111")];
    /// The instructions sysvar, where `exclude_bumps` stands before this instruction.
    instructions: OPTIONAL, [Program("Sysvar1nstructions1111111111111111111111111")];
}

args! {
    /// Attests that the certificate proves the policy against the constitution version in force.
    pub struct Args {
        /// SHA-256 of the certificate.
        certificate_hash: [u8; 32],
        /// SHA-256 of the policy set that it is about.
        content_hash: [u8; 32],
        /// The version that it was proved against; has to be the one in force.
        constitution_version: u32,
    }
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { verifier, governance, attestation, system_program, instructions } = Accounts::parse(ctx, accounts)?;
    let args = Args::parse(ctx.args)?;
    expect_system_program(system_program)?;
    if args.certificate_hash == [0; 32] || args.content_hash == [0; 32] {
        return Err(GovernanceError::ZeroValue.into());
    }
    let governance = Governance::load(governance, ctx.program_id)?;
    expect_holder(verifier, &governance.verifier, GovernanceError::Unauthorized)?;
    let constitution_version = args.constitution_version;
    if constitution_version != governance.constitution_version {
        return Err(GovernanceError::WrongConstitutionVersion.into());
    }
    let at = now()?;
    let pda = Pda { tag: b"attestation", key: &args.certificate_hash };
    let bump = new_address(attestation, &pda, instructions, ctx.program_id)?;
    Attestation {
        discriminator: Attestation::DISCRIMINATOR,
        certificate_hash: args.certificate_hash,
        content_hash: args.content_hash,
        attested_at: at,
        constitution_version,
        bump,
        reserved: [0; 3],
    }
    .create(attestation, verifier, ctx.program_id)?;
    Attested {
        certificate_hash: args.certificate_hash,
        content_hash: args.content_hash,
        constitution_version,
        verifier: verifier.address().clone(),
        at,
    }
    .emit();
    Ok(())
}

use super::{authorize::claim, expect_absent, expect_present, expect_system_program, Ctx};
use crate::{
    error::GovernanceError,
    event::{ConstitutionAmended, EmergencyResolved, PolicyEnacted, ProposalEnacted},
    state::{
        check_free, new_address, Account, Attestation, Emergency, EmergencyKind, EmergencyStatus, Governance, Policy, Proposal,
        ProposalKind, ProposalStatus,
    },
    sys::{now, Pda},
};
use pinocchio::{error::ProgramError, AccountView, ProgramResult};

accounts! {
    /// Anybody; pays the rent of a new policy account.
    payer: SIGNER | WRITABLE, [];
    /// The governance account.
    governance: WRITABLE, [Const(b"governance")];
    /// The proposal.
    proposal: WRITABLE, [Const(b"proposal"), Account("proposal.index", "Proposal")];
    /// For a policy: its account, to be made or renewed. For an emergency ratification: the suspended policy, if any.
    policy: WRITABLE | OPTIONAL, [];
    /// For a policy: the verifier's attestation of its certificate.
    attestation: OPTIONAL, [];
    /// For an emergency ratification: the emergency action.
    emergency: WRITABLE | OPTIONAL, [];
    /// The system program.
    system_program: READ, [Program("11111111111111111111111111111111")];
    /// The instructions sysvar, where `exclude_bumps` stands before this instruction.
    instructions: OPTIONAL, [Program("Sysvar1nstructions1111111111111111111111111")];
}

args! {
    /// Carries out a decided proposal about a policy, the constitution or an emergency action. Anybody may. A policy
    /// needs an attestation for the constitution version in force at this moment. The other kinds are carried out by
    /// the instruction that they name.
    pub struct Args {}
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { payer, governance, proposal, policy, attestation, emergency, system_program, instructions } =
        Accounts::parse(ctx, accounts)?;
    Args::parse(ctx.args)?;
    expect_system_program(system_program)?;
    let at = now()?;
    let proposal = load_mut!(Proposal, proposal, ctx);
    let governance = load_mut!(Governance, governance, ctx);
    let mut subject = Subject { payer, policy, attestation, emergency, instructions, governance, at };
    match ProposalKind::from_byte(proposal.kind).ok_or(GovernanceError::InvariantViolated)? {
        ProposalKind::Policy => enact_policy(ctx, proposal, &mut subject),
        ProposalKind::Constitution => amend_constitution(ctx, proposal, &mut subject),
        ProposalKind::EmergencyRatification => resolve_emergency(ctx, proposal, &mut subject),
        ProposalKind::Principle | ProposalKind::Membership | ProposalKind::Parameters => {
            Err(GovernanceError::WrongProposalKind.into())
        }
    }
}

/// What a proposal is carried out on.
struct Subject<'a> {
    payer: &'a AccountView,
    policy: &'a mut AccountView,
    attestation: &'a AccountView,
    emergency: &'a mut AccountView,
    instructions: &'a AccountView,
    governance: &'a mut Governance,
    at: i64,
}

#[inline(always)]
fn announce(proposal: &Proposal, at: i64) {
    ProposalEnacted { index: proposal.index, kind: proposal.kind, content_hash: proposal.content_hash, at }.emit();
}

#[inline(never)]
fn enact_policy(ctx: &Ctx<'_>, proposal: &mut Proposal, accounts: &mut Subject<'_>) -> ProgramResult {
    let (governance, at) = (&*accounts.governance, accounts.at);
    expect_absent(accounts.emergency, ctx.program_id)?;
    expect_present(accounts.policy, ctx.program_id)?;
    if at < governance.frozen_until {
        return Err(GovernanceError::ActivationFrozen.into());
    }
    proposal.take_effect(ProposalKind::Policy, at)?;
    if expect_present(accounts.attestation, ctx.program_id).is_err() {
        return Err(GovernanceError::AttestationMissing.into());
    }
    let attestation = Attestation::load(accounts.attestation, ctx.program_id)?;
    if attestation.certificate_hash != proposal.certificate_hash || attestation.content_hash != proposal.content_hash {
        return Err(GovernanceError::AttestationMissing.into());
    }
    if attestation.constitution_version != governance.constitution_version {
        return Err(GovernanceError::StaleAttestation.into());
    }

    if accounts.policy.owned_by(ctx.program_id) {
        let policy = load_mut!(Policy, accounts.policy, ctx);
        if policy.content_hash != proposal.content_hash {
            return Err(GovernanceError::InvalidPda.into());
        }
        policy.proposal = proposal.index;
        policy.constitution_version = governance.constitution_version;
        policy.invariant()?;
    } else {
        let pda = Pda { tag: b"policy", key: &proposal.content_hash };
        let bump = new_address(accounts.policy, &pda, accounts.instructions, ctx.program_id)?;
        Policy {
            discriminator: Policy::DISCRIMINATOR,
            content_hash: proposal.content_hash,
            proposal: proposal.index,
            suspended_until: 0,
            constitution_version: governance.constitution_version,
            bump,
            reserved: [0; 3],
        }
        .create(accounts.policy, accounts.payer, ctx.program_id)?;
    }
    announce(proposal, at);
    PolicyEnacted {
        content_hash: proposal.content_hash,
        certificate_hash: proposal.certificate_hash,
        constitution_version: governance.constitution_version,
        proposal: proposal.index,
        at,
    }
    .emit();
    Ok(())
}

#[inline(never)]
fn amend_constitution(ctx: &Ctx<'_>, proposal: &mut Proposal, accounts: &mut Subject<'_>) -> ProgramResult {
    let at = accounts.at;
    expect_absent(accounts.policy, ctx.program_id)?;
    expect_absent(accounts.attestation, ctx.program_id)?;
    expect_absent(accounts.emergency, ctx.program_id)?;
    proposal.take_effect(ProposalKind::Constitution, at)?;
    proposal.check_base(accounts.governance.constitution_version)?;
    let governance = &mut *accounts.governance;
    governance.amend(proposal.content_hash)?;
    governance.invariant()?;
    announce(proposal, at);
    ConstitutionAmended {
        constitution_hash: governance.constitution_hash,
        constitution_version: governance.constitution_version,
        proposal: proposal.index,
        at,
    }
    .emit();
    Ok(())
}

/// Accepted: the action stays in effect until another vote ends it. Rejected by a quorum: it ends now. A vote that too
/// few took part in changes nothing.
#[inline(never)]
fn resolve_emergency(ctx: &Ctx<'_>, proposal: &mut Proposal, accounts: &mut Subject<'_>) -> ProgramResult {
    let at = accounts.at;
    expect_absent(accounts.attestation, ctx.program_id)?;
    expect_present(accounts.emergency, ctx.program_id)?;
    if &proposal.content_hash != accounts.emergency.address().as_array() {
        return Err(GovernanceError::ContentMismatch.into());
    }
    let confirmed = proposal.is(ProposalStatus::Accepted);
    proposal.take_effect(ProposalKind::EmergencyRatification, at)?;

    let emergency = load_mut!(Emergency, accounts.emergency, ctx);
    if !emergency.in_effect(at) {
        return Err(GovernanceError::EmergencyNotActive.into());
    }
    claim(Some(proposal.index), &mut emergency.open_to)?;
    let status = if confirmed { EmergencyStatus::Confirmed } else { EmergencyStatus::Ended };
    let until = if confirmed { i64::MAX } else { at };
    apply(ctx, emergency, accounts.governance, accounts.policy, Effect { until, from: i64::MIN })?;
    emergency.status = status as u8;
    emergency.expires_at = until;
    emergency.invariant()?;
    announce(proposal, at);
    EmergencyResolved {
        index: emergency.index,
        kind: emergency.kind,
        status: emergency.status,
        target: emergency.target,
        expires_at: emergency.expires_at,
        at,
    }
    .emit();
    Ok(())
}

/// Until when an emergency action has effect, and from when it would be a new one.
pub struct Effect {
    /// Until when (Unix seconds).
    pub until: i64,
    /// Refused where another action holds the target at this moment or has held it lately; `i64::MIN` for a change to the same
    /// action.
    pub from: i64,
}

impl Effect {
    #[inline(always)]
    fn write(&self, held_until: &mut i64) -> Result<(), ProgramError> {
        if self.from != i64::MIN {
            check_free(*held_until, self.from)?;
        }
        *held_until = self.until;
        Ok(())
    }
}

/// Writes until when the emergency has effect where the other instructions look for it.
#[inline(always)]
pub fn apply(
    ctx: &Ctx<'_>,
    emergency: &Emergency,
    governance: &mut Governance,
    policy: &mut AccountView,
    effect: Effect,
) -> Result<(), ProgramError> {
    match EmergencyKind::from_byte(emergency.kind).ok_or(GovernanceError::InvariantViolated)? {
        EmergencyKind::SuspendPolicy => {
            expect_present(policy, ctx.program_id)?;
            let policy = load_mut!(Policy, policy, ctx);
            if policy.content_hash != emergency.target {
                return Err(GovernanceError::ContentMismatch.into());
            }
            effect.write(&mut policy.suspended_until)?;
            policy.invariant()
        }
        EmergencyKind::FreezeActivation => {
            expect_absent(policy, ctx.program_id)?;
            effect.write(&mut governance.frozen_until)?;
            governance.invariant()
        }
        EmergencyKind::RevokeAgent => expect_absent(policy, ctx.program_id),
    }
}

use super::{expect_absent, expect_present, expect_system_program, Ctx};
use crate::{
    error::GovernanceError,
    event::ProposalCreated,
    rules::{MAX_VOTING_PERIOD, RATIFICATION_PERIOD},
    state::{new_address, Account, Emergency, Governance, Member, Proposal, ProposalKind, ProposalStatus},
    sys::{now, Pda},
};
use pinocchio::{error::ProgramError, AccountView, ProgramResult};

accounts! {
    /// A member. Pays the rent and gets it back.
    proposer: SIGNER | WRITABLE, [];
    /// The governance account.
    governance: WRITABLE, [Const(b"governance")];
    /// The proposer's membership.
    member: READ, [Const(b"member"), Account("proposer", "")];
    /// The proposal, to be made at the next index.
    proposal: WRITABLE, [Const(b"proposal"), Account("governance.proposal_count", "Governance")];
    /// The system program.
    system_program: READ, [Program("11111111111111111111111111111111")];
    /// The instructions sysvar, where `exclude_bumps` stands before this instruction.
    instructions: OPTIONAL, [Program("Sysvar1nstructions1111111111111111111111111")];
    /// For an emergency ratification: the emergency action.
    emergency: OPTIONAL, [];
}

args! {
    /// Opens a vote, with the weights, threshold and quorum of this moment.
    pub struct Args {
        /// What it is about.
        kind: u8 as ProposalKind,
        /// What would be enacted; see `ProposalKind`.
        content_hash: [u8; 32],
        /// The verification certificate's hash for a policy; zeros for the other kinds.
        certificate_hash: [u8; 32],
        /// Seconds that the vote is open: at least the governance's voting period, at most 30 days. For an emergency
        /// ratification 24 hours are enough, and more only where the vote ends before the action does.
        voting_period: i64,
    }
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { proposer, governance, member, proposal, system_program, instructions, emergency } =
        Accounts::parse(ctx, accounts)?;
    let args = Args::parse(ctx.args)?;
    expect_system_program(system_program)?;
    let kind = ProposalKind::from_byte(args.kind).ok_or(GovernanceError::InvalidProposalKind)?;
    if args.content_hash == [0; 32] {
        return Err(GovernanceError::ZeroValue.into());
    }
    if (kind == ProposalKind::Policy) == (args.certificate_hash == [0; 32]) {
        return Err(GovernanceError::InvalidCertificate.into());
    }
    let governance = load_mut!(Governance, governance, ctx);
    if governance.ratified == 0 {
        return Err(GovernanceError::NotRatified.into());
    }
    {
        let member = Member::load(member, ctx.program_id)?;
        if &member.wallet != proposer.address() || member.active == 0 {
            return Err(GovernanceError::NotAMember.into());
        }
    }
    let voting_period = args.voting_period;
    let ratifies = kind == ProposalKind::EmergencyRatification;
    let shortest =
        if ratifies { governance.voting_period.min(RATIFICATION_PERIOD) } else { governance.voting_period };
    if voting_period < shortest || voting_period > MAX_VOTING_PERIOD {
        return Err(GovernanceError::InvalidVotingPeriod.into());
    }
    let starts_at = now()?;
    let ends_at = starts_at.checked_add(voting_period).ok_or(ProgramError::ArithmeticOverflow)?;
    if ratifies {
        expect_present(emergency, ctx.program_id)?;
        let action = Emergency::load(emergency, ctx.program_id)?;
        if &args.content_hash != emergency.address().as_array() {
            return Err(GovernanceError::ContentMismatch.into());
        }
        if !action.in_effect(starts_at) {
            return Err(GovernanceError::EmergencyNotActive.into());
        }
        // Nothing can be carried out once the action has expired. Where even the shortest window does not end before, votes
        // that are final can still decide in time.
        let in_time = ends_at < action.expires_at || voting_period == shortest && governance.vote_change_allowed == 0;
        if !in_time {
            return Err(GovernanceError::InvalidVotingPeriod.into());
        }
    } else {
        expect_absent(emergency, ctx.program_id)?;
    }

    let index = governance.proposal_count;
    let bump = new_address(proposal, &Pda { tag: b"proposal", key: &index.to_le_bytes() }, instructions, ctx.program_id)?;
    governance.proposal_count = index.checked_add(1).ok_or(ProgramError::ArithmeticOverflow)?;
    governance.open_proposals = governance.open_proposals.checked_add(1).ok_or(ProgramError::ArithmeticOverflow)?;
    governance.invariant()?;
    let ballots_len = Proposal::ballot_bytes(governance.member_slots);
    let new = Proposal {
        discriminator: Proposal::DISCRIMINATOR,
        index,
        total_weight: governance.total_weight,
        votes_for: 0,
        votes_against: 0,
        votes_abstain: 0,
        starts_at,
        ends_at,
        proposer: proposer.address().clone(),
        content_hash: args.content_hash,
        certificate_hash: args.certificate_hash,
        threshold_bp: governance.threshold_bp,
        quorum_bp: governance.quorum_bp,
        kind: args.kind,
        status: ProposalStatus::Active as u8,
        vote_change_allowed: governance.vote_change_allowed,
        bump,
        constitution_version: governance.constitution_version,
        ballots_len,
    };
    ProposalCreated {
        index,
        kind: args.kind,
        proposer: proposer.address().clone(),
        content_hash: args.content_hash,
        certificate_hash: args.certificate_hash,
        constitution_version: governance.constitution_version,
        total_weight: governance.total_weight,
        starts_at,
        ends_at,
    }
    .emit();
    new.create(proposal, proposer, ctx.program_id)
}

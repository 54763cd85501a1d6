use super::Ctx;
use crate::{
    error::GovernanceError,
    event::VoteCast,
    state::{Account, Choice, Member, Proposal, ProposalStatus},
    sys::now,
};
use pinocchio::{error::ProgramError, AccountView, ProgramResult};

accounts! {
    /// The member's wallet.
    voter: SIGNER, [];
    /// The voter's membership.
    member: READ, [Const(b"member"), Account("voter", "")];
    /// The proposal.
    proposal: WRITABLE, [Const(b"proposal"), Account("proposal.index", "Proposal")];
}

args! {
    /// Casts a vote with the weight that the register held when the proposal was made, or changes one where allowed.
    pub struct Args {
        /// For, against or abstain.
        choice: u8 as Choice,
    }
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { voter, member, proposal } = Accounts::parse(ctx, accounts)?;
    let args = Args::parse(ctx.args)?;
    let choice = Choice::from_byte(args.choice).ok_or(GovernanceError::InvalidChoice)?;
    let member = Member::load(member, ctx.program_id)?;
    if &member.wallet != voter.address() {
        return Err(GovernanceError::NotAMember.into());
    }
    let at = now()?;
    let (index, changed, weight, tally) = {
        let (header, previous) = open_ballot(ctx, proposal, &member, at, choice)?;
        let weight = member.weight_for(header.index);
        if let Some(previous) = previous {
            header.subtract(previous, weight)?;
        }
        header.add(choice, weight)?;
        header.invariant()?;
        (header.index, previous.is_some(), weight, header.tally())
    };
    VoteCast {
        proposal: index,
        voter: member.wallet.clone(),
        choice: args.choice,
        changed: u8::from(changed),
        weight,
        votes_for: tally.votes_for,
        votes_against: tally.votes_against,
        votes_abstain: tally.votes_abstain,
        at,
    }
    .emit();
    Ok(())
}

/// Checks that the member may vote now, marks the ballot, and gives back the proposal with the choice before.
#[inline(always)]
fn open_ballot<'a>(
    ctx: &Ctx<'_>,
    proposal: &'a mut AccountView,
    member: &Member,
    at: i64,
    choice: Choice,
) -> Result<(&'a mut Proposal, Option<Choice>), ProgramError> {
    drop(Proposal::load_mut(proposal, ctx.program_id)?);
    // SAFETY: the check above found a proposal of this program, alone and not borrowed; `member` is another account,
    // because it is of another type.
    let (header, ballots) = unsafe { proposal.borrow_unchecked_mut() }
        .split_at_mut_checked(Proposal::LEN)
        .ok_or(GovernanceError::WrongAccountType)?;
    // SAFETY: `Proposal::LEN` bytes, 8-byte aligned, and any bytes are a valid value.
    let header = unsafe { &mut *(header.as_mut_ptr() as *mut Proposal) };
    if !header.is(ProposalStatus::Active) {
        return Err(GovernanceError::ProposalNotActive.into());
    }
    if at >= header.ends_at {
        return Err(GovernanceError::VotingPeriodEnded.into());
    }
    if member.weight_for(header.index) == 0 {
        return Err(GovernanceError::NotAMember.into());
    }
    let byte = ballots.get_mut((member.slot >> 2) as usize).ok_or(GovernanceError::NotAMember)?;
    let shift = (member.slot & 3) << 1;
    let previous = match (*byte >> shift) & 3 {
        0 => None,
        1 => Some(Choice::For),
        2 => Some(Choice::Against),
        _ => Some(Choice::Abstain),
    };
    if previous.is_some() && (header.vote_change_allowed == 0 || previous == Some(choice)) {
        return Err(GovernanceError::AlreadyVoted.into());
    }
    let bits: u8 = match choice {
        Choice::For => 1,
        Choice::Against => 2,
        Choice::Abstain => 3,
    };
    *byte = (*byte & !(3 << shift)) | (bits << shift);
    Ok((header, previous))
}

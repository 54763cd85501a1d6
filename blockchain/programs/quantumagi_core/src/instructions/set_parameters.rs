use super::{
    authorize::{authorize, claim},
    Ctx,
};
use crate::{
    error::GovernanceError,
    event::ParametersChanged,
    state::{Account, Governance, ProposalKind},
    sys::now,
};
use pinocchio::{AccountView, ProgramResult};

accounts! {
    /// The council before ratification, anybody after it.
    authority: SIGNER, [];
    /// The governance account.
    governance: WRITABLE, [Const(b"governance")];
    /// After ratification: the accepted proposal that this carries out.
    proposal: WRITABLE | OPTIONAL, [];
}

args! {
    /// Sets the parameters of proposals made from now on. After ratification, only by an accepted proposal for exactly
    /// these arguments.
    pub struct Args {
        /// Shortest voting window in seconds, from 1 to 30 days.
        voting_period: i64,
        /// From 5001 to 10000.
        threshold_bp: u16,
        /// From 1 to 10000.
        quorum_bp: u16,
        /// Whether votes may be changed.
        vote_change_allowed: u8 as bool,
    }
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { authority, governance, proposal } = Accounts::parse(ctx, accounts)?;
    let args = Args::parse(ctx.args)?;
    if args.vote_change_allowed > 1 {
        return Err(GovernanceError::InvalidArguments.into());
    }
    Governance::check_parameters(args.voting_period, args.threshold_bp, args.quorum_bp)?;
    let at = now()?;
    let governance = load_mut!(Governance, governance, ctx);
    let mandate = authorize(ctx, governance, authority, proposal, ProposalKind::Parameters, at)?;

    claim(mandate, &mut governance.parameters_open_to)?;
    governance.voting_period = args.voting_period;
    governance.threshold_bp = args.threshold_bp;
    governance.quorum_bp = args.quorum_bp;
    governance.vote_change_allowed = args.vote_change_allowed;
    governance.invariant()?;
    ParametersChanged {
        voting_period: args.voting_period,
        threshold_bp: args.threshold_bp,
        quorum_bp: args.quorum_bp,
        vote_change_allowed: args.vote_change_allowed,
        at,
    }
    .emit();
    Ok(())
}

use super::{expect_holder, Ctx};
use crate::{
    error::GovernanceError,
    event::RootAnchored,
    state::{Account, Governance, LogAnchor},
    sys::now,
};
use pinocchio::{error::ProgramError, AccountView, ProgramResult};

accounts! {
    /// The log authority.
    authority: SIGNER, [];
    /// The governance account.
    governance: READ, [Const(b"governance")];
    /// The log anchor.
    anchor: WRITABLE, [Const(b"anchor")];
}

args! {
    /// Anchors the root of the transparency log. The tree only grows.
    pub struct Args {
        /// Leaves in the tree.
        tree_size: u64,
        /// Root of the Merkle tree (RFC 9162).
        root: [u8; 32],
    }
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    let Accounts { authority, governance, anchor } = Accounts::parse(ctx, accounts)?;
    let args = Args::parse(ctx.args)?;
    if args.root == [0; 32] {
        return Err(GovernanceError::ZeroValue.into());
    }
    {
        let governance = Governance::load(governance, ctx.program_id)?;
        expect_holder(authority, &governance.log, GovernanceError::Unauthorized)?;
    }
    let at = now()?;
    let anchor = load_mut!(LogAnchor, anchor, ctx);
    let tree_size = args.tree_size;
    if tree_size <= anchor.tree_size {
        return Err(GovernanceError::AnchorNotGrowing.into());
    }
    anchor.tree_size = tree_size;
    anchor.root = args.root;
    anchor.anchored_at = at;
    anchor.count = anchor.count.checked_add(1).ok_or(ProgramError::ArithmeticOverflow)?;
    anchor.invariant()?;
    RootAnchored { tree_size, root: args.root, count: anchor.count, at }.emit();
    Ok(())
}

//! Accounts: what they hold, and what must hold of it.
use crate::{
    error::GovernanceError,
    instructions::exclude_bumps::highest_candidate,
    sys::{Pda, Rent},
};
use pinocchio::{
    account::{Ref, RefMut},
    address::address_eq,
    cpi::{Seed, Signer},
    error::ProgramError,
    AccountView, Address,
};
use pinocchio_system::instructions::{Allocate, Assign, CreateAccount, Transfer};

mod attestation;
mod emergency;
mod governance;
mod log_anchor;
mod member;
mod policy;
mod principle;
mod proposal;

pub use attestation::Attestation;
pub use emergency::{check_free, Emergency, EmergencyKind, EmergencyStatus};
pub use governance::{Governance, Role};
pub use log_anchor::LogAnchor;
pub use member::Member;
pub use policy::Policy;
pub use principle::{Principle, PrincipleStatus};
pub use proposal::{Choice, Proposal, ProposalKind, ProposalStatus};

/// An account type of this program.
///
/// # Safety
/// The type is `#[repr(C)]`, without padding, aligned to at most 8 bytes, starts with its discriminator, and any
/// bytes after the discriminator are a valid value (`account!` checks the layout; fields are integers and arrays).
pub unsafe trait Account: Sized {
    /// The first eight bytes of each account of this type.
    const TAG: [u8; 8];
    /// The seeds of the address, from what the account holds.
    fn pda(&self) -> Pda<'_>;

    /// The stored canonical bump.
    fn bump(&self) -> u8;

    /// Bytes that follow the fixed part.
    #[inline(always)]
    fn tail(&self) -> usize {
        0
    }

    /// What must hold between mutations.
    fn invariant(&self) -> Result<(), ProgramError>;

    /// Checks owner, length, type and address, and borrows the account to read.
    #[inline(always)]
    fn load<'a>(view: &'a AccountView, program_id: &Address) -> Result<Ref<'a, Self>, ProgramError> {
        check_header::<Self>(view, program_id)?;
        let data = view.try_borrow()?;
        // SAFETY: length and type were checked, account data is 8-byte aligned, and `Self` takes any bytes.
        let this = Ref::map(data, |bytes| unsafe { &*(bytes.as_ptr() as *const Self) });
        check_length_and_address(&*this, view, program_id)?;
        Ok(this)
    }

    /// As `load`, to write.
    #[inline(always)]
    fn load_mut<'a>(view: &'a mut AccountView, program_id: &Address) -> Result<RefMut<'a, Self>, ProgramError> {
        check_header::<Self>(view, program_id)?;
        check_length_and_address_of::<Self>(view, program_id)?;
        let data = view.try_borrow_mut()?;
        // SAFETY: as in `load`; the borrow is exclusive.
        Ok(RefMut::map(data, |bytes| unsafe { &mut *(bytes.as_mut_ptr() as *mut Self) }))
    }

    /// Creates the account at its canonical address, pays its rent and writes `self`.
    ///
    /// Lamports that somebody sent there before do not get in the way: only what is missing is paid.
    #[inline(always)]
    fn create(
        self,
        view: &mut AccountView,
        payer: &AccountView,
        program_id: &Address,
    ) -> Result<(), ProgramError> {
        self.create_at_price(&Rent::load()?, view, payer, program_id)
    }

    /// As `create`, for more than one account in an instruction.
    #[inline(always)]
    fn create_at_price(
        self,
        rent: &Rent,
        view: &mut AccountView,
        payer: &AccountView,
        program_id: &Address,
    ) -> Result<(), ProgramError> {
        let pda = self.pda();
        let space = core::mem::size_of::<Self>().checked_add(self.tail()).ok_or(ProgramError::ArithmeticOverflow)?;
        let lamports = rent.exempt(space)?;
        create_at(&Creation { view, payer, pda: &pda, bump: self.bump(), space, lamports, program_id })?;
        self.invariant()?;
        let mut data = view.try_borrow_mut()?;
        if data.len() < core::mem::size_of::<Self>() {
            return Err(GovernanceError::InvariantViolated.into());
        }
        // SAFETY: the account has at least `size_of::<Self>()` bytes, 8-byte aligned.
        unsafe { core::ptr::write(data.as_mut_ptr() as *mut Self, self) };
        Ok(())
    }
}

#[inline(always)]
fn check_header<T: Account>(view: &AccountView, program_id: &Address) -> Result<(), ProgramError> {
    if !view.owned_by(program_id) {
        return Err(GovernanceError::WrongOwner.into());
    }
    if view.data_len() < core::mem::size_of::<T>() {
        return Err(GovernanceError::WrongAccountType.into());
    }
    let data = view.try_borrow()?;
    match data.first_chunk::<8>() {
        Some(tag) if u64::from_le_bytes(*tag) == u64::from_le_bytes(T::TAG) => Ok(()),
        _ => Err(GovernanceError::WrongAccountType.into()),
    }
}

#[inline(always)]
fn check_length_and_address<T: Account>(
    this: &T,
    view: &AccountView,
    program_id: &Address,
) -> Result<(), ProgramError> {
    // INVARIANT: an account is as long as it says itself.
    if view.data_len().checked_sub(core::mem::size_of::<T>()) != Some(this.tail()) {
        return Err(GovernanceError::WrongAccountType.into());
    }
    let expected = Address::new_from_array(this.pda().at(this.bump(), program_id));
    if address_eq(&expected, view.address()) {
        Ok(())
    } else {
        Err(GovernanceError::InvalidPda.into())
    }
}

#[inline(always)]
fn check_length_and_address_of<T: Account>(view: &AccountView, program_id: &Address) -> Result<(), ProgramError> {
    let data = view.try_borrow()?;
    // SAFETY: the caller has checked type and least length.
    let this = unsafe { &*(data.as_ptr() as *const T) };
    check_length_and_address(this, view, program_id)
}

/// Finds the canonical bump for `pda` and checks that the account to be created is at that address and is new.
/// `instructions`: the sysvar, where `exclude_bumps` before this instruction has done part of the search.
#[inline(always)]
pub fn new_address(
    view: &AccountView,
    pda: &Pda<'_>,
    instructions: &AccountView,
    program_id: &Address,
) -> Result<u8, ProgramError> {
    let (address, bump) = pda.find(highest_candidate(pda, instructions, program_id)?, program_id)?;
    if !address_eq(&Address::new_from_array(address), view.address()) {
        return Err(GovernanceError::InvalidPda.into());
    }
    if !view.owned_by(&pinocchio_system::ID) || !view.is_data_empty() {
        return Err(GovernanceError::AlreadyExists.into());
    }
    Ok(bump)
}

struct Creation<'a> {
    view: &'a AccountView,
    payer: &'a AccountView,
    pda: &'a Pda<'a>,
    bump: u8,
    space: usize,
    lamports: u64,
    program_id: &'a Address,
}

#[inline(never)]
fn create_at(new: &Creation<'_>) -> Result<(), ProgramError> {
    let lamports = new.lamports;
    let bump = [new.bump];
    let with_key = [Seed::from(new.pda.tag), Seed::from(new.pda.key), Seed::from(&bump)];
    let signer = [Signer::from(&with_key)];
    let space = new.space as u64;
    let held = new.view.lamports();
    if held == 0 {
        return CreateAccount { from: new.payer, to: new.view, lamports, space, owner: new.program_id }
            .invoke_signed(&signer);
    }
    if let Some(missing @ 1..) = lamports.checked_sub(held) {
        Transfer { from: new.payer, to: new.view, lamports: missing }.invoke()?;
    }
    Allocate { account: new.view, space }.invoke_signed(&signer)?;
    Assign { account: new.view, owner: new.program_id }.invoke_signed(&signer)
}

/// Closes `view`: all its lamports go to `recipient`, its data and owner go. Neither can come back within the
/// transaction, because the account then belongs to the system program and has no bytes.
#[inline(always)]
pub fn close(view: &mut AccountView, recipient: &mut AccountView) -> Result<(), ProgramError> {
    let sum = recipient.lamports().checked_add(view.lamports()).ok_or(ProgramError::ArithmeticOverflow)?;
    recipient.set_lamports(sum);
    view.close()
}

/// The little-endian bytes of an integer field, in place. SBF and every host that this runs on are little-endian.
macro_rules! field_bytes {
    ($field:expr, $n:literal) => {{
        const _: () = assert!(cfg!(target_endian = "little"));
        // SAFETY: an integer of `$n` bytes, read as bytes.
        let bytes: &[u8; $n] = unsafe { &*(core::ptr::addr_of!($field) as *const [u8; $n]) };
        bytes
    }};
}
use field_bytes;

/// Turns a condition into an invariant.
#[inline(always)]
fn holds(condition: bool) -> Result<(), ProgramError> {
    if condition {
        Ok(())
    } else {
        Err(GovernanceError::InvariantViolated.into())
    }
}

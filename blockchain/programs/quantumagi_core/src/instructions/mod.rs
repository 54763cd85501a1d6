//! One file per instruction: accounts, validation, effect, event.
use crate::{digest, error::GovernanceError};
use pinocchio::{AccountView, Address, ProgramResult};

/// What every instruction knows of its call.
pub struct Ctx<'a> {
    /// Where this program is deployed.
    pub program_id: &'a Address,
    /// The whole instruction data, discriminator included.
    pub data: &'a [u8],
    /// The data after the discriminator.
    pub args: &'a [u8],
}

/// What an instruction needs of an account.
pub mod flags {
    use super::*;

    /// Nothing but presence.
    pub const READ: u8 = 0;
    /// A signature.
    pub const SIGNER: u8 = 1;
    /// Write access.
    pub const WRITABLE: u8 = 2;
    /// May be left out, by naming the program itself in its place (Anchor's convention).
    pub const OPTIONAL: u8 = 4;

    /// Checks signature and write access.
    #[inline(always)]
    pub fn check(view: &AccountView, flags: u8, program_id: &Address) -> ProgramResult {
        if flags & OPTIONAL != 0 && is_absent(view, program_id) {
            return Ok(());
        }
        if flags & SIGNER != 0 && !view.is_signer() {
            return Err(GovernanceError::AccountNotSigner.into());
        }
        if flags & WRITABLE != 0 && !view.is_writable() {
            return Err(GovernanceError::AccountNotWritable.into());
        }
        Ok(())
    }
}

/// Whether an optional account was left out.
#[inline(always)]
pub fn is_absent(view: &AccountView, program_id: &Address) -> bool {
    pinocchio::address::address_eq(view.address(), program_id)
}

/// Fails unless the optional account was left out.
#[inline(always)]
fn expect_absent(view: &AccountView, program_id: &Address) -> ProgramResult {
    if is_absent(view, program_id) {
        Ok(())
    } else {
        Err(GovernanceError::UnexpectedAccount.into())
    }
}

/// Fails when the optional account was left out.
#[inline(always)]
fn expect_present(view: &AccountView, program_id: &Address) -> ProgramResult {
    if is_absent(view, program_id) {
        Err(GovernanceError::MissingAccount.into())
    } else {
        Ok(())
    }
}

/// Checks that `signer` is `holder`.
#[inline(always)]
fn expect_holder(signer: &AccountView, holder: &Address, otherwise: GovernanceError) -> ProgramResult {
    if pinocchio::address::address_eq(signer.address(), holder) {
        Ok(())
    } else {
        Err(otherwise.into())
    }
}

/// Checks that the account is the system program.
#[inline(always)]
fn expect_system_program(view: &AccountView) -> ProgramResult {
    if pinocchio::address::address_eq(view.address(), &pinocchio_system::ID) {
        Ok(())
    } else {
        Err(GovernanceError::WrongSystemProgram.into())
    }
}

/// Borrows an account of type `T` to write.
macro_rules! load_mut {
    ($t:ty, $view:expr, $ctx:expr) => {
        &mut *<$t as $crate::state::Account>::load_mut($view, $ctx.program_id)?
    };
}

macro_rules! instructions {
    ($($name:ident,)*) => {
        $(pub mod $name;)*

        /// Finds the instruction by its discriminator and runs it.
        pub fn dispatch(program_id: &Address, accounts: &mut [AccountView], data: &[u8]) -> ProgramResult {
            let Some((tag, args)) = data.split_first_chunk::<8>() else {
                return Err(GovernanceError::UnknownInstruction.into());
            };
            let tag = u64::from_le_bytes(*tag);
            let ctx = Ctx { program_id, data, args };
            $(
                if tag == const { u64::from_le_bytes(digest::discriminator(concat!("global:", stringify!($name)))) } {
                    return $name::process(&ctx, accounts);
                }
            )*
            Err(GovernanceError::UnknownInstruction.into())
        }

        #[cfg(feature = "idl-build")]
        pub fn idl() -> Vec<crate::idl::Instruction> {
            vec![$(crate::idl::Instruction {
                name: stringify!($name),
                discriminator: digest::discriminator(concat!("global:", stringify!($name))),
                docs: $name::idl_docs(),
                accounts: $name::idl_accounts(),
                args: $name::idl_args(),
            },)*]
        }
    };
}

instructions! {
    vote,
    propose,
    finalize,
    enact,
    cancel,
    close_proposal,
    attest,
    revoke_attestation,
    anchor_root,
    emergency_action,
    end_emergency,
    close_emergency,
    initialize,
    add_principle,
    amend_principle,
    retire_principle,
    register_member,
    set_weight,
    remove_member,
    set_parameters,
    ratify,
    offer_authority,
    accept_authority,
    exclude_bumps,
}

mod authorize;
mod principles;

//! The search for an address, shared out over two instructions, so that neither needs many compute units.
use super::{is_absent, Ctx};
use crate::{
    digest,
    error::GovernanceError,
    event::BumpsExcluded,
    sys::{all_on_curve, Pda},
};
use pinocchio::{
    address::address_eq,
    error::ProgramError,
    sysvars::instructions::{Instructions, INSTRUCTIONS_ID},
    AccountView, Address, ProgramResult,
};

/// How far before the maker of an account its `exclude_bumps` may stand.
const REACH: u16 = 4;

args! {
    /// Fails unless every bump from `lowest` to 255 gives these seeds an address on the curve, that is none that a program
    /// can have. Before an instruction that makes an account, in the same transaction, it does the longer part of the search for the
    /// address; needed for nothing but to keep every instruction cheap. At most 14 bumps cost less than 5,000 units.
    pub struct Args {
        /// The lowest of the bumps.
        lowest: u8,
    }
    then
    /// The seeds of the address, one after the other, without the bump.
    seeds: bytes
}

/// No accounts.
#[cfg(feature = "idl-build")]
pub fn idl_accounts() -> Vec<crate::idl::Account> {
    Vec::new()
}

#[inline(never)]
pub fn process(ctx: &Ctx<'_>, accounts: &mut [AccountView]) -> ProgramResult {
    if !accounts.is_empty() {
        return Err(GovernanceError::WrongAccountCount.into());
    }
    let (args, seeds) = parse(ctx.args).ok_or(GovernanceError::InvalidArguments)?;
    match all_on_curve(seeds, args.lowest, ctx.program_id) {
        Some(true) => {
            BumpsExcluded { lowest: args.lowest }.emit();
            Ok(())
        }
        Some(false) => Err(GovernanceError::InvalidPda.into()),
        None => Err(GovernanceError::InvalidArguments.into()),
    }
}

#[inline(always)]
fn parse(data: &[u8]) -> Option<(&Args, &[u8])> {
    let (args, rest) = Args::split(data).ok()?;
    let (length, seeds) = rest.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*length) as usize == seeds.len()).then_some((args, seeds))
}

/// The highest bump that can be the canonical one of `pda`: 255, or less where `exclude_bumps` has shown so.
///
/// An earlier instruction of the transaction has succeeded, or else this one would not run; so what it states of this
/// program and these very seeds holds, whoever sent it. The caller cannot name a bump, only spare us checks that were made.
#[inline(never)]
pub fn highest_candidate(
    pda: &Pda<'_>,
    instructions: &AccountView,
    program_id: &Address,
) -> Result<u8, ProgramError> {
    if is_absent(instructions, program_id) {
        return Ok(u8::MAX);
    }
    if !address_eq(instructions.address(), &INSTRUCTIONS_ID) {
        return Err(GovernanceError::WrongInstructionsSysvar.into());
    }
    let transaction = Instructions::try_from(instructions)?;
    let current = transaction.load_current_index();
    for back in 1..=REACH {
        let Some(index) = current.checked_sub(back) else { break };
        let earlier = transaction.load_instruction_at(usize::from(index))?;
        if !address_eq(earlier.get_program_id(), program_id) {
            continue;
        }
        if let Some(lowest) = excluded(earlier.get_instruction_data(), pda) {
            return Ok(lowest.checked_sub(1).ok_or(GovernanceError::InvalidPda)?);
        }
    }
    Ok(u8::MAX)
}

/// The lowest bump that the instruction of this data excludes for `pda`; `None` where it is about something else.
#[inline(always)]
fn excluded(data: &[u8], pda: &Pda<'_>) -> Option<u8> {
    let (tag, args) = data.split_first_chunk::<8>()?;
    if u64::from_le_bytes(*tag) != const { u64::from_le_bytes(digest::discriminator("global:exclude_bumps")) } {
        return None;
    }
    let (args, seeds) = parse(args)?;
    let key = seeds.strip_prefix(pda.tag)?;
    (key == pda.key).then_some(args.lowest)
}

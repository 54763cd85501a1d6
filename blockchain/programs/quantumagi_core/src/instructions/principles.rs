//! What the instructions on principles share.
use crate::{
    error::GovernanceError,
    event::PrincipleChanged,
    rules::MAX_TITLE,
    state::{Governance, Principle},
};
use pinocchio::error::ProgramError;

/// A title from its Borsh form (length, bytes), zero-filled, with its length.
#[inline(always)]
pub fn parse_title(data: &[u8]) -> Result<([u8; 64], u8), ProgramError> {
    let (length, bytes) = data.split_first_chunk::<4>().ok_or(GovernanceError::InvalidArguments)?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_TITLE {
        return Err(GovernanceError::TitleTooLong.into());
    }
    if length != bytes.len() {
        return Err(GovernanceError::InvalidArguments.into());
    }
    if length == 0 || core::str::from_utf8(bytes).is_err() {
        return Err(GovernanceError::InvalidTitle.into());
    }
    let mut title = [0u8; 64];
    title.get_mut(..length).ok_or(GovernanceError::TitleTooLong)?.copy_from_slice(bytes);
    Ok((title, length as u8))
}

/// Announces the state of `principle`.
#[inline(always)]
pub fn announce(principle: &Principle, governance: &Governance, at: i64) {
    PrincipleChanged {
        index: principle.index,
        version: principle.version,
        status: principle.status,
        content_hash: principle.content_hash,
        constitution_hash: governance.constitution_hash,
        constitution_version: governance.constitution_version,
        at,
    }
    .emit();
}
